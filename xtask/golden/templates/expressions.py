"""Expressions and small templates, each of one or two features. All of them see `v`.

An expression stands alone; a template has a tag in it. UNSUPPORTED are those that Jinja2 renders and
the product refuses by name.
"""

import itertools

VALUE = {
    "text": "a word äöü",
    "quote": "it's \"quoted\"\n\\",
    "list": [1, 2, 3],
    "map": {"b": 2, "a": 1},
    "people": [{"name": "Ann", "age": 1}, {"name": "Bob", "age": 2}, {"name": "Cyd"}],
    "mixed": [True, None, 1.5, 100000000000000000000.0, -0.0, "😀", {}, []],
    "words": ["banana", "Apple", "cherry", "apple"],
    "html": "<a href=\"x\">T&C's</a>",
    "empty": "",
    "long": "The quick brown fox jumps over the lazy dog and runs away from it",
    "lines": "one\n  two\r\nthree\n\nfive",
    "nested": {"a": {"b": [10, {"c": "deep"}]}},
    "items": {"items": 1, "keys": 2, "x": None},
    "zero": 0,
    "big": 9007199254740993,
}

# One of each type.
SAMPLES = [
    "none", "true", "false", "0", "1", "-3", "7", "2.5", "-0.0", "1e16", "''", "'a'", "'Ab c'", "'12'",
    "[]", "[1, 2]", "['b', 'A', 1.0]", "()", "(1,)", "(1, 'x')", "{}", "{'k': 1}", "{'b': [1], 'a': none}",
    "range(3)", "u", "v.map.items()", "v.map.keys()", "v.list|map('string')",
]
FEW = ["none", "true", "3", "2.5", "'ab'", "[1, 2]", "(1, 'x')", "{'k': 1}", "range(3)", "u"]

OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", ">=", "in", "not in", "~", "and", "or"]
FILTERS = [
    "abs", "capitalize", "count", "d", "default('x')", "d('x', true)", "dictsort", "escape", "e", "first", "float",
    "forceescape", "int", "items|list", "join", "join('-')", "last", "length", "list", "lower", "max", "min",
    "reverse|list", "round", "safe", "sort", "string", "sum", "title", "tojson", "trim", "unique|list", "upper",
    "urlencode", "wordcount", "xmlattr", "map('upper')|list", "select|list", "reject|list", "batch(2)|list",
    "slice(2)|list", "indent", "center(9)", "truncate(5)", "replace('a', 'b')", "format(1)", "filesizeformat",
    "striptags", "wordwrap(5)", "groupby('k')", "attr('k')", "tojson(indent=2)", "tojson(sort_keys=true)",
    "selectattr('k')|list", "map(attribute='k')|list", "string|length", "random|string|length * 0",
]
TESTS = [
    "boolean", "callable", "defined", "divisibleby 2", "eq 1", "escaped", "even", "false", "filter", "float",
    "ge 1", "gt 1", "in [1, 'a']", "integer", "iterable", "le 1", "lower", "lt 1", "mapping", "ne 1", "none",
    "number", "odd", "sameas none", "sameas true", "sequence", "string", "test", "true", "undefined", "upper",
    "not none", "not defined",
]

TEXTS = ["''", "'a'", "'abcabc'", "'  a b  c '", "'Hello World'", "'x,y,,z'", "'äÖß ΑΣ ǆ'", "'12'", "'٣²'", "'a\\tb\\nc'"]
METHODS = [
    "capitalize()", "casefold()", "center(7)", "center(8, '*')", "count('')", "count('a')", "count('a', 1)",
    "endswith('c')", "endswith(('x', 'c'))", "endswith('')", "expandtabs()", "expandtabs(3)", "find('')",
    "find('c')", "find('a', 1)", "find('b', 1, 2)", "find('a', -3)", "find('', 20)", "format(1)", "index('a')",
    "isalnum()", "isalpha()", "isascii()", "isdecimal()", "isdigit()", "isidentifier()", "islower()", "isnumeric()",
    "isprintable()", "isspace()", "istitle()", "isupper()", "join(['1', '2'])", "join('xyz')", "join([1])",
    "ljust(7)", "ljust(7, '.')", "lower()", "lstrip()", "lstrip('a ')", "partition(' ')", "partition('b')",
    "removeprefix('a')", "removesuffix('c')", "replace('a', 'xy')", "replace('a', 'b', 1)", "replace('', '-')",
    "replace('', '-', 2)", "replace('a', '')", "rfind('a')", "rfind('')", "rindex('c')", "rjust(7)", "rpartition(' ')",
    "rpartition('b')", "rsplit()", "rsplit(',', 1)", "rsplit(none, 1)", "rsplit(maxsplit=1)", "rstrip()", "split()",
    "split(',')", "split(',', 1)", "split(',', maxsplit=1)", "split(sep=',')", "split(none, 1)", "split(' ')",
    "split('b', 0)", "split('')", "splitlines()", "splitlines(true)", "splitlines(keepends=true)", "startswith('a')",
    "startswith('a', 1)", "startswith(['a'])", "startswith(('b', 'a'))", "strip()", "strip('ac')", "strip(none)",
    "swapcase()", "title()", "upper()", "zfill(5)", "encode", "nothing()", "upper(1)", "strip(1)", "center('x')",
    "__class__", "__len__()", "rstrip(' c')", "rjust(3, 'ab')", "count()",
]

PERCENT = [
    ("%s", ["1", "'a'", "none", "true", "1.0", "[1, 'x']", "(1,)", "()", "(1, 2)", "{'a': 1}", "u"]),
    ("%d", ["1", "1.9", "-1.9", "true", "'1'", "none", "-5"]),
    ("%r|%a", ["('ä', 'ä')"]),
    ("%5d|%-5d|%05d|%+d|% d", ["(1, 2, 3, 4, 5)", "(-1, -2, -3, -4, -5)"]),
    ("%x %X %o %#x %#o", ["(255, 255, 8, 255, 8)", "(-255, 0, -8, -1, 0)"]),
    ("%.2f|%8.3f|%-8.1f|%08.2f|%+.0f", ["(1.005, 2.5, 3.25, -4.5, 0.5)", "(1, 2, 3, 4, 5)"]),
    ("%e|%.1e|%E|%g|%G|%.3g", ["(12345.678, 0, 1e-5, 1e-5, 1e20, 1234567)", "(1, 1, 1, 100000, 1000000, 0.0001)"]),
    ("%%", ["()", "1"]),
    ("%5%", ["()"]),
    ("%c%c", ["('a', 66)", "('ab', 1)"]),
    ("%(a)s %(b)03d", ["{'a': 1, 'b': 2}", "{'a': 1}", "1"]),
    ("%.3s|%5.1s|%-4s|", ["('abcdef', 'xyz', 'ä')"]),
    ("%*d|%-*d|%.*f", ["(4, 1, 4, 2, 2, 3.14159)"]),
    ("%", ["1"]), ("%z", ["1"]), ("%s %s", ["'a'", "('a', 'b')", "['a', 'b']"]), ("none", ["1", "[1]", "{}", "()", "'x'"]),
    ("%i %u %ld", ["(1, 2, 3)"]), ("%5.3d|%+.2d|%03d|%-03d|", ["(7, 7, -7, 7)"]), ("%5s|%05s|", ["('a', 'a')"]),
    ("%f", ["1e300", "v.big"]),
]
FORMATS = [
    ("{}", ["1", "'a'", "none", "1.0", "[1]", "u", ""]), ("{} {}", ["1, 2", "1"]), ("{0} {1} {0}", ["1, 2"]),
    ("{a} {b}", ["a=1, b=2", "a=1"]), ("{:5}|{:<5}|{:>5}|{:^5}|", ["1, 2, 3, 4", "'a', 'b', 'c', 'd'"]),
    ("{:05d} {:+d} {:,} {:_} {:x} {:#X} {:b} {:o} {:c}", ["1, 2, 1234567, 1234567, 255, 255, 5, 8, 65"]),
    ("{:.2f} {:8.3f} {:e} {:g} {:%} {:.1%}", ["1.005, 2.5, 12345.678, 1e20, 0.5, 0.123", "1, 2, 3, 4, 5, 6"]),
    ("{:*^9}|{:->6}|{:=+6}|{:08.2f}|{:<08}", ["'x', 1, 2, -3.5, 7"]), ("{!r} {!s} {!a}", ["'ä', 'ä', 'ä'"]),
    ("{{}} {{{}}}", ["1"]), ("{", ["1"]), ("}", ["1"]), ("{0[a]} {0[b][1]}", ["{'a': 1, 'b': [2, 3]}"]),
    ("{0.a}", ["{'a': 1}"]), ("{:{}}|{:{w}}|", ["1, 5, 2, w=4"]), ("{:d}", ["'a'", "1.0", "true", "none"]),
    ("{:s}", ["1", "'a'"]), ("{:.3}", ["'abcdef'", "1.23456", "12345.678", "2.0"]), ("{:,.2f}", ["1234567.891"]),
    ("{:010,}", ["1234567"]), ("{:10,.1f}|{:<10,d}|", ["1234.56, 1234"]), ("{} {0}", ["1, 2"]), ("{!x}", ["1"]),
    ("{:>{w}.{p}f}", ["3.14159, w=8, p=2"]), ("{:5}|{:^5}|", ["true, 1.5", "none, 1"]), ("{: d}|{:-d}", ["5, -5"]),
    ("{:G}|{:E}|{:F}|{:n}", ["1e-10, 12.5, 2.5, 3"]), ("{[0]}", ["[5]"]), ("{.real}", ["'x'"]),
]

EXPRESSIONS = [
    # Printing.
    "1", "-1", "1.0", "1e16", "1e15", "123456789.123", "1e-5", "0.0001", "1.5e300", "-0.0", "0.1 + 0.2", "1_000", "0x1F",
    "0b101", "0o17", "1_0.5", "170141183460469231731687303715884105727", "true", "True", "False", "none", "None", "u",
    "'a' 'b'", "\"it's\"", "'a\\'b'", "'\\x41\\u00e9\\101\\t|'", "'\\d'", "'tab\\there'", "'é\\é'", "()", "(1,)",
    "(1, 2)", "1, 2", "1,", "[1, 'x', 1.0, none, true, (1,), {'a': 'b'}]", "['it\\'s', 'say \"x\"', 'both \\' \"', '\\n\\\\']",
    "['\\x00\\x1f\\x7f\\xa0\\u200b\\u2028é😀']", "{'a': 1, 'b': [1, 2], 1: 'x', none: 2.5}", "{'a': 1, 'a': 2}",
    "{1: 'a', 1.0: 'b', true: 'c'}", "[[], {}, ()]", "range(3)", "range(1, 10, 2)", "range(0)", "range(5, 0, -1)|list",
    "v.map.items()", "v.map.keys()", "v.map.values()", "dict(a=1, b='x')", "dict([('a', 1), ('b', 2)])", "dict({'a': 1}, b=2)",
    "dict()", "namespace(a=1, b='x')", "v.mixed", "v", "[u]", "{'a': u}", "v.list|list|string", "'x'|safe", "['x'|safe]",
    # Precedence and operators.
    "1 + 2 * 3", "(1 + 2) * 3", "2 ** 3 ** 2", "-2 ** 2", "2 ** -1", "2 ** 0.5", "10 - 2 - 3", "7 // 2", "-7 // 2", "7 // -2",
    "-7 % 3", "7 % -3", "7.5 // 2", "-7.5 % 2", "7.5 % -2", "-0.0 + 0", "1 / 3", "6 / 3", "1 / 0", "1 // 0", "1 % 0", "1.0 / 0",
    "1 ~ 2", "1 ~ 'a' ~ none ~ true ~ 1.5 ~ [1, 'x']", "1 + 1 ~ 2", "'a' ~ 1 + 1", "'a' + 'b' ~ 'c'", "'a' * 3", "3 * 'ab'", "'a' * 0",
    "'a' * -1", "[1] * 2", "[1] + ['x']", "(1,) + (2,)", "[1] + (2,)", "'a' + 1", "1 + none", "not 1", "not not ''", "not none == none",
    "1 < 2 < 3", "1 < 2 > 3", "3 > 2 > 1", "1 == 1.0", "1 == true", "'1' == 1", "none == false", "[1] == [1.0]", "(1,) == [1]",
    "{'a': 1} == {'a': 1.0}", "u == none", "u == u", "u != u", "u is defined", "'a' < 'b'", "'a' < 1", "[1, 2] < [1, 3]", "none < 1",
    "1 in [1]", "1 not in [1]", "'b' in 'abc'", "1 in 'abc'", "'a' in {'a': 1}", "1 in 5", "1 in u", "'' in 'a'", "2 in range(3)",
    "('a', 1) in {'a': 1}.items()", "1 and 2", "0 or 'x'", "none or u or 'y'", "0 and 1", "'' or []", "1 if true", "1 if false",
    "1 if false else 2", "1 if 0 else 2 if 0 else 3", "(1 if false) is defined", "'x' if u else 'y'", "-1|abs", "-'1'|int", "-1.5|int|abs",
    "2|float + 1", "1 + 2|float", "'a' ~ 'b'|upper", "'3'|int * 2", "not u|default(true)", "v.list[0] is odd and v.list[1] is even",
    "1 is odd is true", "3 is divisibleby 3", "3 is divisibleby(3)", "3 is not divisibleby 2", "'a' is in ['a']", "1 is in [2] or true",
    "true is number", "u is sequence", "u is iterable", "none is iterable", "none is sequence", "'a' is sequence", "{} is sequence",
    "v.map is mapping", "v.list is mapping", "1 is sameas 1", "none is sameas none", "v.map is sameas v.map", "'upper' is filter",
    "'nofilter' is filter", "'odd' is test", "'nope' is test", "range is callable", "u is callable", "'A'|upper is upper", "'' is upper",
    "1 is nosuchtest", "1|nosuchfilter", "nosuchfunction()", "v.list()", "v.text()", "+5", "+'a'", "-'a'", "- 5", "--5", "1 - -1",
    "9007199254740993", "v.big", "v.big + 1", "v.big == 9007199254740992.0", "v.big / 1", "1e400", "-1e400", "1e400 - 1e400", "10 ** 20", "10 ** 30",
    # Items, attributes, slices.
    "v.text[0]", "v.text[-1]", "v.text[99]", "v.text[2:6]", "v.text[-3:]", "v.text[::-1]", "v.text[::2]", "v.text[8:2:-2]", "v.text[:-100]",
    "v.list[5]", "v.list[-1]", "v.list[-5]", "v.list[1:]", "v.list[:1]", "v.list[::-1]", "v.list[::2]", "v.list[5:]", "v.list[-2:]", "v.list[::0]",
    "v.list[2:0:-1]", "v.list[none:none]", "(1, 2, 3)[1:]", "v.list['x']", "v.list[1.0]", "v.list[true]", "v.list.0", "v.nested.a.b.1.c",
    "v.nested.a.b[1]['c']", "v['nested']['a']", "v.nope", "v.nope.x", "v['nope']['x']", "u.x", "u['x']", "u[0]", "u()", "none.x", "none['x']",
    "none[0]", "1.5.x", "'a'.x", "'a'['x']", "'a'['upper']()", "v.items.x", "v['items'].x", "v['items']['items']", "v['items'].items()",
    "v['items']|items|list", "v.map.get('a')", "v.map.get('z')", "v.map.get('z', 5)", "v.map.get()", "v.map[1]", "v.map[[1]]", "v.map.a",
    "v.map.keys()|list", "v.map.values()|list", "v.map.items()|list", "v.map.keys()[0]", "v.map.items()|first", "v.map.copy()", "v.map.pop('a')",
    "v.map.update({})", "v.list.append(1)", "v.list.index(2)", "v.list.index(9)", "v.list.count(1)", "v.list.copy()", "(1, 2, 1).count(1)",
    "(1, 2).index(2)", "v.list.sort()", "v.map.pop is defined", "v.map.items is defined", "v.map.items is callable", "v.map.get is defined",
    "v.list.append is defined", "''.__class__", "''.__class__.__mro__", "v.map.__class__", "range(5)[1]", "range(5)[-1]", "range(5)[9]", "range(3).start",
    "range(5)|length", "3 in range(5)", "range(3)|sum", "range(99999)|length", "range(100001)|length", "range(1, 2, 0)", "v.big.bit_length is defined",
    "(1.5).is_integer()", "(2.0).is_integer()", "'x'.join(v.words)", "''.join([])", "v.text.split()[1:]|join(' ')", "v.text.split(' ')|last",
    "[1, 2, 3][1:][0]", "'abc'[1:][0]", "{'a': {'b': 1}}.a.b", "v.people[0].name.upper()", "(v.list|first).bit_length is defined",
    # Functions.
    "range()", "range('a')", "range(1.0)", "cycler('a', 'b').next()", "cycler().next()", "joiner()()", "joiner('x')() ~ 'y'", "dict(1)", "dict([1])",
    "namespace()", "namespace({'a': 1}).a", "namespace(_a=1)", "lipsum is defined", "raise_exception('no: ' ~ v.text)", "raise_exception()",
    "strftime_now('%d %b %Y')", "strftime_now('%A, %B %-d, %H:%M')", "strftime_now('%Y-%m-%d %I:%M %p %j %U %W %w %y %%')", "strftime_now()", "strftime_now(1)",
    "dict(**{'a': 1})", "range(*[1, 4])|list", "dict(a=1, **{'a': 2})", "range(stop=3)",
    # Filters with arguments.
    "v.list|abs", "v.map|attr('a')", "'a'|attr('upper')", "v.words|batch(3)|list", "v.words|batch(3, 'x')|list", "v.list|batch(2, fill_with=0)|list", "[]|batch(2)|list",
    "v.list|batch(0)|list", "v.words|slice(3)|list", "v.words|slice(3, 'x')|list", "v.list|slice(0)|list", "v.list|slice(5)|list", "'ab'|center(7)", "'ab'|center", "'ab'|center(width=6)",
    "u|default", "u|default('x')", "none|default('x')", "''|default('x', true)", "''|default('x', boolean=true)", "0|d(5, true)", "v.nope|d('y')", "u.x|d('y')",
    "v.map|dictsort", "v.map|dictsort(by='value')", "v.map|dictsort(reverse=true)", "{'b': 1, 'A': 2, 'c': 0}|dictsort", "{'b': 1, 'A': 2}|dictsort(true)", "{'a': 'b', 'c': 'A'}|dictsort(false, 'value')",
    "{'a': 1, 2: 2}|dictsort", "v.map|dictsort(by='x')", "v.html|escape", "v.html|e|e", "v.html|forceescape", "v.html|safe|e", "v.html|e|forceescape", "[v.html]|e", "none|e", "v.html|striptags",
    "'<!-- c -->a  <b>b</b>\\n c &amp; &lt;d'|striptags", "v.html|escape ~ '<'", "(v.html|escape) + '<'", "'<' + ('<'|safe)", "'%s' % ('<'|safe)", "('<'|safe) * 2", "(v.html|e)[0:5]", "v.html|e|upper", "v.html|e|length",
    "v.html|e|replace('&', '+')", "v.html|safe|trim", "v.html|safe|tojson", "v.html|e is escaped", "v.html is escaped", "('a b'|safe).split()", "('a'|safe)|string", "['a'|safe]|join", "('ab'|safe)|capitalize",
    "100|filesizeformat", "1|filesizeformat", "1000|filesizeformat", "1500|filesizeformat", "1e6|filesizeformat", "1024|filesizeformat(true)", "123456789|filesizeformat(true)", "'2000'|filesizeformat", "1e30|filesizeformat",
    "v.text|first", "v.map|first", "[]|first", "v.list|last", "v.map|last", "''|last", "v.list|map('string')|first", "v.list|map('string')|last", "'3.7'|float", "'x'|float", "'x'|float(1.5)", "'x'|float(default=2)", "' 1e3 '|float",
    "'inf'|float", "'nan'|float", "'1_0'|float", "none|float", "true|float", "[]|float(0)", "'%s has %d'|format(v.text, 3)", "'%(a)s'|format(a=1)", "'%s'|format('x', a=1)", "'%s'|format", "'%.1f'|format(2.25)", "'%s %s'|format('a')",
    "v.people|groupby('age')", "v.people[:2]|groupby('age')", "v.people|groupby('age', default=0)|map('first')|list", "v.people[:2]|groupby('age')|map(attribute='grouper')|list", "v.people[:2]|groupby('age')|map(attribute='list')|list",
    "[{'k': 'b'}, {'k': 'A'}, {'k': 'B'}]|groupby('k')", "[{'k': 'b'}, {'k': 'A'}, {'k': 'B'}]|groupby('k', case_sensitive=true)", "v.lines|indent", "v.lines|indent(2)", "v.lines|indent(2, true)", "v.lines|indent(width=1, first=true, blank=true)",
    "v.lines|indent('> ')", "'a\\n'|indent", "''|indent(2, true)", "'\\n'|indent(2, true, true)", "'a\\n\\nb'|indent(2, blank=true)", "1|indent", "'42'|int", "'4.9'|int", "'-4.9'|int", "4.9|int", "-4.9|int", "'x'|int", "'x'|int(7)", "'x'|int(default=8)", "'ff'|int(0, 16)",
    "'0xff'|int(base=16)", "'0xff'|int(0, 0)", "'0b11'|int(0, 2)", "'1_000'|int", "' 5 '|int", "'1e3'|int", "'inf'|int", "1e400|int", "none|int", "none|int(5)", "true|int", "[]|int", "'12'|int + 1", "1e20|int", "'99999999999999999999'|int",
    "v.list|join", "v.list|join(', ')", "v.list|join(1)", "v.people|join('-', attribute='name')", "v.people|join(attribute='name')", "v.people|join(', ', 'age')", "v.mixed|join('|')", "v.map|join('+')", "'abc'|join('.')", "[[1, 'x'], (2,), {'a': 'b'}]|join(' ')", "none|join", "1|join",
    "v.text|length", "v.map|length", "1|length", "none|length", "v.map|list", "'abc'|list", "none|list", "v.people|map(attribute='name')|list", "v.people|map(attribute='age', default=0)|list", "v.people|map(attribute='age')|list", "v.nested|map('upper')|list",
    "v.words|map('upper')|join(',')", "v.words|map('replace', 'a', 'o')|list", "v.words|map('length')|sum", "v.words|map('default', 'x')|list", "v.list|map('nofilter')|list", "v.list|map|list", "[[1, 2], [3]]|map('first')|list", "[{'a': {'b': 1}}]|map(attribute='a.b')|list", "[[1, 2]]|map(attribute=1)|list", "[[1, 2]]|map(attribute='1')|list",
    "none|map('upper')|list", "1|map('upper')|list", "0|map('upper')|list", "[none]|map('upper')|list", "v.list|map(attribute='x', foo=1)|list", "v.list|max", "v.list|min", "[]|max", "v.words|max", "v.words|min", "v.words|max(true)", "v.people[:2]|max(attribute='age')", "v.people|max(attribute='age')", "[1, 'a']|max", "[3, 1.5, true]|min", "{'a': 1, 'b': 2}|max",
    "v.list|pprint", "'a'|pprint", "1.0|pprint", "u|pprint", "v.list|random is in v.list", "[]|random", "v.list|reject('odd')|list", "v.list|reject|list", "v.people|rejectattr('age')|map(attribute='name')|list", "v.people|rejectattr('age', 'eq', 1)|list|length", "v.people|rejectattr('age', 'defined')|list", "v.list|select('odd')|list", "v.list|select('gt', 1)|list", "v.list|select('>', 1)|list", "v.list|select('in', [1, 3])|list", "v.mixed|select|list|length",
    "v.people|selectattr('age')|map(attribute='name')|list", "v.people|selectattr('age', 'equalto', 2)|map(attribute='name')|list", "v.people|selectattr('age', '==', 2)|list", "v.people|selectattr('age', 'none')|list", "v.people|selectattr('nope', 'defined')|list", "v.people|selectattr|list", "v.list|select('nosuch')|list", "[{'a': {'b': 1}}, {'a': {}}]|selectattr('a.b')|list", "v.people|selectattr('name', 'in', ['Ann', 'Cyd'])|map(attribute='name')|join", "v.people|selectattr('age', 'undefined')|list", "v.people|selectattr('age', 'lt', 2)|list", "none|select|list", "v.people|selectattr('name', 'string')|list|length", "v.list|select('divisibleby', 3)|list",
    "v.text|replace('a', 'b')", "v.text|replace('o', '0', 1)", "v.text|replace('', '-')", "123|replace(2, 'x')", "v.text|replace('a')", "none|replace('N', 'x')", "'aaa'|replace('a', 'b', count=2)", "v.text|reverse", "v.list|reverse|list", "v.map|reverse|list", "none|reverse|list", "v.list|map('string')|reverse|list", "v.map.items()|reverse|list", "range(3)|reverse|list", "2.5|round", "3.5|round", "2.567|round(2)", "2.5|round(method='floor')", "2.1|round(method='ceil')", "2.15|round(1, 'floor')", "1234|round(-2)", "1250.0|round(-2)", "2.5|round|int", "42|round", "42.7|round", "-0.5|round", "'1'|round", "2|round(1, 'ceil')", "1.1|round(method='x')", "5|round(2)", "1e16|round", "2.675|round(2)", "true|round", "-2.5|round(0, 'ceil')", "-0.4|round(0, 'ceil')", "0.5|round", "1.005|round(2)",
    "v.words|sort", "v.words|sort(true)", "v.words|sort(reverse=true)", "v.words|sort(case_sensitive=true)", "v.people[:2]|sort(attribute='age', reverse=true)", "v.people|sort(attribute='age')", "v.people|sort(attribute='name,age')|length", "v.map|sort", "[3, 1, 2]|sort", "[1, 'a']|sort", "[none, none]|sort", "[none, 1]|sort", "'hello'|sort", "[[2], [1, 5], [1]]|sort", "[true, 0, 2.5]|sort", "[{'a': 1}, {'a': 0}]|sort", "none|sort", "v.map.values()|sort", "[{'x': {'y': 2}}, {'x': {'y': 1}}]|sort(attribute='x.y')", "v.people[:2]|sort(attribute='age,name', reverse=true)|map(attribute='name')|list", "[3, 1e400 - 1e400, 2]|sort|length",
    "v.map|string", "1.0|string", "none|string", "v.text|string", "v.list|sum", "v.list|sum(start=10)", "v.people[:2]|sum(attribute='age')", "v.people|sum('age')", "v.words|sum", "[]|sum", "[1.5, 2]|sum", "[[1], [2]]|sum(start=[])", "['a']|sum(start='')", "[true, true]|sum", "'hello wORLD foo-bar (baz) [q] <x> {y} it\\'s'|title", "v.text|title", "'ßx'|title", "v.text|tojson", "v|tojson", "v|tojson(indent=2)", "v|tojson(indent=0)", "v|tojson(ensure_ascii=true)", "v|tojson(separators=(',', ':'))", "v|tojson(sort_keys=true)", "v|tojson(indent=2, sort_keys=true, separators=(', ', ' = '))",
    "{}|tojson(indent=4)", "[]|tojson(indent=4)", "[[], {}]|tojson(indent=4)", "'<a href=\"x\">&amp;'|tojson", "'\\x01\\t\\n\\x7f\\u2028'|tojson", "(1, 2)|tojson", "{1: 2, none: 3, true: 4, 1.5: 5}|tojson", "{(1, 2): 3}|tojson", "range(3)|tojson", "u|tojson", "v.map.items()|tojson", "v.list|map('string')|tojson", "1e400|tojson", "(1e400 - 1e400)|tojson", "1e16|tojson", "v.map|tojson('x')", "v|tojson(indent='--')", "v.list|tojson(true)", "v.list|tojson(false, 1)", "'é😀'|tojson(ensure_ascii=true)", "{2: 1, 10: 1}|tojson(sort_keys=true)", "{'a': 1, 1: 2}|tojson(sort_keys=true)", "v.list|tojson(indent=none)", "[1]|tojson(indent=true)", "[1]|tojson(indent=-1)", "[1]|tojson(indent=1.5)", "v.list|tojson(separators=1)", "v.list|tojson(foo=1)", "namespace(a=1)|tojson", "range|tojson", "v.list|tojson|length",
    "'  x '|trim", "'xxaxx'|trim('x')", "'xxaxx'|trim(chars='x')", "'\\n a\\t'|trim", "12|trim", "none|trim", "v.long|truncate(20)", "v.long|truncate(20, true)", "v.long|truncate(20, false, '~')", "v.long|truncate(length=20, end='', leeway=0)", "v.long|truncate(63)", "v.long|truncate(60)", "v.long|truncate(2)", "v.long|truncate", "'abcdefghijkl'|truncate(5)", "'äöüäöüäöüäöü ä'|truncate(6, true, '', 0)", "v.words|unique|list", "v.words|unique(true)|list", "[1, 1.0, true, 2]|unique|list", "v.people|unique(attribute='age')|list|length", "[[1], [1]]|unique|list", "[none, none]|unique|list", "v.people|map(attribute='age')|unique|list|length", "'hello'|unique|join",
    "'a b/ü?&='|urlencode", "{'a b': 'c/d', 'e': 1}|urlencode", "[('a', 1), ('b', '&')]|urlencode", "1|urlencode", "''|urlencode", "none|urlencode", "[1]|urlencode", "v.long|wordcount", "'a_b c-d  ä1'|wordcount", "v.long|wordwrap(20)", "v.long|wordwrap(20, wrapstring='|')", "'abcdefghij klm'|wordwrap(4)", "'abcdefghij klm'|wordwrap(4, false)", "v.lines|wordwrap(3)", "'a  b   c'|wordwrap(3)", "''|wordwrap", "'x'|wordwrap(0)", "{'class': 'x', 'id': none, 'a': u, 'd': '<'}|xmlattr", "{'a': 1}|xmlattr(false)", "{}|xmlattr", "{'a b': 1}|xmlattr", "[]|xmlattr", "v.text|upper|lower", "v.text|capitalize", "'ß'|upper", "'İ'|lower|length", "1|upper", "none|upper", "'a b'|upper()", "v.text|upper(1)", "v.words|length()", "v.list|first|string", "v.list | first | float", "'a'|string|upper|e",
    "v.items|items|list", "v.text|items|list", "none|items|list", "u|items|list", "u|length", "u|count", "u|first", "u|last", "u|list", "u|join", "u|sort", "u|sum", "u|upper", "u|trim", "u|int", "u|float", "u|round", "u|abs", "u|tojson", "u|dictsort", "u|replace('a', 'b')", "u|map('upper')|list", "u|select|list", "u|string", "u|e", "u|batch(2)|list", "u|reverse|list", "u|unique|list", "u|max", "u|first is defined", "u|wordcount", "u|title", "u|indent", "u|format", "u|random", "u|groupby('a')", "u|urlencode", "u|truncate", "u|center(3)", "u ~ 'a'", "u + 'a'", "'a' + u", "'%s' % u", "u * 2", "-u", "not u", "u < 1", "u in 'abc'", "'a' in u", "u is none", "u is string", "u is mapping", "u is number", "u and 1", "u or 1", "u if u else 'n'", "[u]|length", "[u, u]|join('-')", "{u: 1}", "u.a.b", "u.a is defined", "v.nope is defined", "v.nope.x is defined", "(v.nope or {}).x is defined", "v.list[99] is defined", "v.text.nope is defined", "v.text[99] is defined",
    "v.list|map('string')", "v.list|select", "v.list|batch(2)", "v.list|reverse", "v.list|map('string') is iterable", "v.list|map('string') is sequence", "(v.list|map('string'))|length", "(v.list|select('gt', 5)) is defined and (v.list|select('gt', 5))|list == []", "'yes' if v.list|select('gt', 5) else 'no'", "(v.list|map('string'))[0]", "'1' in v.list|map('string')", "v.list|map('string') == v.list|map('string')",
    "[1, 2, 3]|sum / 2", "'%d%%' % 5", "'%s' % none", "'%s' % [1, 2]", "'%s, %s' % (1, 'a')", "'%r' % 'a'", "'%s' % v.map", "'a%sb' % 'X' ~ 'c'", "'-' * 20", "'=' * 3 ~ '>'", "v.text.split(' ')|map('capitalize')|join(' ')", "' '.join(['a', 'b'])", "v.text.replace('a', 'b').upper()", "'a,b'.split(',')[1]", "'%.2f' % 3.14159", "'{:.2f}'.format(3.14159)", "'{} and {name}'.format('x', name='y')", "'abc'.format_map({'a': 1})", "'{a}'.format_map({'a': 1})", "'{a}'.format_map({})", "'{0.__class__}'.format('x')",
    "v.text.encode('utf-8')", "v.text.maketrans('a', 'b')", "v.text.translate({})", "'a'.upper", "range", "'x'.join", "v.map.items", "joiner", "lipsum()", "caller", "loop", "self", "varargs", "kwargs", "loop.index", "super()", "v.list.__len__()", "v.map.__contains__('a')",
]

TEMPLATES = [
    # White space.
    "a\n  {% if true %}\n    b\n  {% endif %}\n  c {# comment #}\nd\n", "a\n", "a\n\n", "\n", "", "a\r\nb\rc\r\n", "{{ 'a\r\nb' }}", "{{ 'x' }}\n{{ 'y' }}\n", "{% if true %}\n\nx{% endif %}\n\ny",
    "  {% if true %}x{% endif %}", "  {{ 1 }}", " a {%- if true -%} b {%- endif -%} c ", "a {{- 1 -}} b", "a \n {{- 1 }} \n {{ 2 -}} \n b", "  {%+ if true %}kept{% endif %}\nx", "{% if true +%}\nx{% endif %}", "{% if true -%}\n\n x{% endif %}",
    "a\n  {# c #}  \nb", "a\n  {#- c -#}  \nb", "a {#+ c +#}\nb", "{# multi\nline #}\nx", "x{# {{ y }} {% z %} #}y", "\t{% set a = 1 %}\n\tb", "x {% set a = 1 %}\ny", "{% set a = 1 %}  \n  {% set b = 2 %}\nz", "{%- set a = 1 -%}\n\n z", "{{ 'line\\n' }}{{- ' joined' -}}   \n  {{ '.' }}", " \n\u00a0{%- if true %}x{% endif %}", "\u2028 {% if true %}x{% endif %}",
    "{% raw %}{{ x }} {% y %}{% endraw %}", "a\n {% raw %}\n b {{ }}\n {% endraw %}\nc", "{%- raw -%}  x {{ 1 }}  {%- endraw -%}  y", "{% raw %}{% endraw %}", "{% raw %}x", "{{ '{{' }}{{ '%}' }}{{ \"}}\" }}", "{ { } } % {x} #}", "{{ {'a': {'b': 1}}['a'] }}", "{{{'a': 1}}}", "{{ [1,\n2] }}\n{% if\ntrue %}x{% endif %}", "{{ 1 }}{{ 2 }}\n{{ 3 }}", "# line\n## x\n% for", "{% if true: %}x{% endif %}", "{{- '' }} x", "{%- if false %}a{%- else %} b{%- endif %} c", "a{% if true %}\nb\n{%- endif %}\nc",
    # Syntax errors.
    "{{ }}", "{{", "{{ 1", "{% if %}", "{% if true %}", "{% endif %}", "{% for %}", "{{ 1 + }}", "{{ (1 }}", "{{ 1) }}", "{{ [1, }}", "{% unknown %}", "{% do x %}", "{{ 'abc }}", "{# x", "{{ 1 2 }}", "{{ a.1b }}", "{% set 1 = 2 %}", "{% set true = 2 %}", "{% for x in [1] %}{% endif %}{% endfor %}", "{% else %}", "{{ $ }}", "{{ a ? b }}", "{% break %}", "{% if true %}{% break %}{% endif %}", "{% macro m() %}{% break %}{% endmacro %}", "{% for x in [1] %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", "{{ 'a'.'b' }}", "{{ x is }}", "{{ x| }}", "{{ f(a=1, 2) }}", "{% macro m(a=1, b) %}{% endmacro %}", "{{ 007 }}", "{{ 1.e }}", "{{ not }}", "{{ x is not }}",
    # Loops.
    "{% for x in v.list %}{{ x }}{% endfor %}", "{% for x in [] %}x{% else %}none{% endfor %}", "{% for x in u %}x{% else %}none{% endfor %}", "{% for x in none %}x{% endfor %}", "{% for x in 5 %}x{% endfor %}", "{% for x in 'aé' %}{{ x }},{% endfor %}", "{% for k in v.map %}{{ k }}{% endfor %}", "{% for k, n in v.map.items() %}{{ k }}={{ n }};{% endfor %}", "{% for k, n in v.map|items %}{{ k }}={{ n }};{% endfor %}", "{% for k, n in v.map|dictsort %}{{ k }}{{ n }};{% endfor %}",
    "{% for a, b in [[1, 2], (3, 4)] %}{{ a }}{{ b }};{% endfor %}", "{% for a, b in ['xy', 'zw'] %}{{ a }}{{ b }};{% endfor %}", "{% for a, b in [[1]] %}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for (a, b), c in [[[1, 2], 3]] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a in 1, 2 %}{{ a }}{% endfor %}", "{% for a, in [[1]] %}{{ a }}{% endfor %}", "{% for x in v.list if x > 1 %}{{ x }}{{ loop.index }}{{ loop.length }}{% endfor %}", "{% for x in v.list if x > 5 %}{{ x }}{% else %}none{% endfor %}", "{% for x in v.list if x is odd and x != 1 %}{{ x }}{% endfor %}",
    "{% for x in v.list %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}", "{% for x in v.list %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }};{% endfor %}", "{% for x in v.list %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }};{% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}", "{% for x in [1, 1, 2] %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in v.list %}{{ loop.cycle() }}{% endfor %}", "{% for x in v.list %}{{ loop.nope }}{% endfor %}", "{% for x in v.list %}{{ loop }}{% endfor %}", "{% for x in v.list %}{{ loop is defined }}{% endfor %}{{ loop is defined }}",
    "{% for x in v.list %}{% for y in 'ab' %}{{ loop.index }}{{ y }}{% endfor %}{{ loop.index }}{% endfor %}", "{% for x in v.list %}{% set outer = loop %}{% for y in 'ab' %}{{ outer.index }}{{ loop.index }};{% endfor %}{% endfor %}", "{% for x in range(10) %}{% if x == 3 %}{% continue %}{% endif %}{% if x > 5 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% for x in v.list %}{% break %}{% else %}E{% endfor %}", "{% for x in v.list %}{% continue %}{% else %}E{% endfor %}", "{% for x in v.list %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% else %}E{% endfor %}", "{% for x in v.list %}{{ x }}{% if x == 2 %}{% continue %}{% endif %}.{% else %}E{% endfor %}",
    "{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}@{{ loop.depth }}{% endif %}{% endfor %}", "{% for n in [{'n': 'a', 'c': [{'n': 'b', 'c': []}]}] recursive %}<{{ n.n }}{{ loop(n.c) }}>{% endfor %}", "{% for k, c in {'a': {'b': {}}}.items() recursive %}{{ k }}[{{ loop(c.items()) }}]{% endfor %}", "{% for x in v.list %}{{ loop(x) }}{% endfor %}", "{% for x in [] recursive %}x{% else %}e{% endfor %}", "{% for loop in [1] %}{% endfor %}", "{% for x in v.list %}{% if loop.last %}{{ x }}{% endif %}{% endfor %}", "{% for x in v.list|map('string') %}{{ x }}{{ loop.last }}{{ loop.length }}{% endfor %}", "{% for x in range(3) %}{{ x }}{{ loop.revindex }}{% endfor %}", "{% for m in v.people %}{% if (loop.first and m.age) or not loop.last %}{{ m.name }}{% endif %}{% endfor %}",
    # Scopes.
    "{% set x = 1 %}{% for i in v.list %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "{% for i in v.list %}{% if loop.first %}{% set y = 1 %}{% endif %}{{ y is defined }}{% endfor %}", "{% set ns = namespace(n=0) %}{% for i in v.list %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "{% if true %}{% set x = 1 %}{% endif %}{{ x }}", "{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b = 'x' %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}{{ ns }}", "{% set d = {} %}{% set d.a = 1 %}", "{% set ns.a = 1 %}", "{% set ns = namespace(a=[1]) %}{% set ns.a = ns.a + [2] %}{{ ns.a }}", "{% set ns = namespace(a=1) %}{{ ns.a }}{{ ns['a'] }}{{ ns.items is defined }}", "{% set ns = namespace(a=1) %}{% set ns._b = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = [1] %}", "{% set (a, b) = 'xy' %}{{ a }}{{ b }}", "{% set a = b = 1 %}", "{% set a = 1, 2 %}{{ a }}", "{% set a %}x{% endset %}{{ a }}", "{% set a %}\n  inside {{ v.text }}\n{% endset %}[{{ a }}][{{ a|trim }}]", "{% set a | upper %}x{{ 1 }}y{% endset %}{{ a }}", "{% set a | replace('x', 'z') | upper %}xy{% endset %}{{ a }}", "{% set a %}{% set b = 1 %}{{ b }}{% endset %}{{ a }}{{ b is defined }}", "{% set ns = namespace() %}{% set ns.t %}block{% endset %}{{ ns.t }}", "{% set ns = namespace(a=0, b=0) %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}", "{% set ns = namespace(a=0) %}{% set ns.a, c = 1, 2 %}{{ ns.a }}{{ c }}", "{% set a = none %}{{ a }}{{ a is none }}",
    "{% with a = 1 %}{{ a }}{% endwith %}{{ a is defined }}", "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}", "{% set v = 5 %}{{ v }}", "{% filter upper %}shout {{ v.text }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}a{{ 'a' }}{% endfilter %}", "{% filter trim %}  x {% set z = 1 %}{{ z }} {% endfilter %}{{ z is defined }}", "{% filter indent(2) %}a\nb{% endfilter %}", "{% print 1, 'a' %}", "{% for i in v.list %}{% with j = i %}{{ j }}{% endwith %}{% endfor %}",
    "{% if u %}a{% elif none %}b{% elif [] %}c{% elif '' %}d{% elif 0 %}e{% elif {} %}f{% elif () %}g{% elif range(0) %}h{% else %}i{% endif %}", "{% if v.list is defined and v.list|length == 3 %}three{% elif true %}?{% else %}!{% endif %}", "{% if not u %}a{% endif %}{% if 0.0 %}b{% endif %}{% if 'False' %}c{% endif %}{% if -1 %}d{% endif %}{% if [0] %}e{% endif %}{% if v.map.keys() %}f{% endif %}", "{% if 1 == 1 %}{% if 2 == 3 %}x{% else %}y{% endif %}{% endif %}",
    # Macros.
    "{% macro m(a, b='B') %}({{ a }}{{ b }}){% endmacro %}{{ m(1) }}{{ m(2, b=3) }}{{ m(a=4) }}{{ m() }}", "{% macro m(a, b='B') %}({{ a }}{{ b }}){% endmacro %}{{ m(1, u) }}{{ m(1, none) }}", "{% macro m(a, b=a ~ '!') %}{{ b }}{% endmacro %}{{ m('x') }}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro m(a) %}{{ a }}|{{ varargs|join(',') }}|{{ kwargs.x }}{% endmacro %}{{ m(1, 2, 3, x='y') }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}", "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}body{% endcall %}", "{% macro m() %}[{{ caller('x') }}]{% endmacro %}{% call(y) m() %}b{{ y }}{% endcall %}", "{% macro m() %}{{ caller is defined }}{% if caller %}{{ caller() }}{% endif %}{% endmacro %}{{ m() }}{% call m() %}c{% endcall %}", "{% macro m() %}x{% endmacro %}{% call m() %}c{% endcall %}", "{% macro m(l) %}{% for i in l %}{{ caller(i, loop.index) }}{% endfor %}{% endmacro %}{% call(i, n=0) m(v.list) %}{{ n }}:{{ i }} {% endcall %}",
    "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{% macro f(n) %}{{ n }}{% if n > 0 %},{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{% set x = 2 %}{{ m() }}", "{% macro m() %}{{ y }}{% endmacro %}{% set y = 5 %}{{ m() }}", "{% macro m() %}{% set z = 1 %}{{ z }}{% endmacro %}{{ m() }}{{ z is defined }}", "{% for i in v.list %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro m() %}{{ v.text }}{% endmacro %}{{ m()|upper }}{{ m() ~ 'x' }}{{ m()|length }}", "{% macro m(x) -%}\n  {{- x -}}\n{%- endmacro %}\n{{ m('a') }}\n", "{% macro m(x) %}{{ x }}{% endmacro %}{{ m([1, 'a']) }}{{ m(none) }}{{ m(u) }}{{ m is defined }}{{ m is callable }}{{ m.name }}", "{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(**{'a': 3, 'b': 4}) }}{{ m(*[5], b=6) }}{{ m(7, *[8]) }}", "{{ m }}{% macro m() %}{% endmacro %}", "{{ m() }}{% macro m() %}{% endmacro %}", "{% if true %}{% macro m() %}x{% endmacro %}{% endif %}{{ m() }}", "{% macro outer() %}{% macro inner() %}i{% endmacro %}{{ inner() }}{% endmacro %}{{ outer() }}", "{% macro m(messages) %}{{ messages|length }}{% endmacro %}{{ m(v.list) }}", "{% macro m(a={'k': [1]}) %}{{ a.k }}{% endmacro %}{{ m() }}", "{% set ns = namespace(c=0) %}{% macro m() %}{% set ns.c = ns.c + 1 %}{% endmacro %}{{ m() }}{{ m() }}{{ ns.c }}", "{% macro m(x) %}{{ return }}{% endmacro %}{{ m(1) }}", "{% macro m(loop) %}{{ loop }}{% endmacro %}{{ m(1) }}", "{% for x in v.list %}{% call m(x) %}{{ x }}{{ loop.index }}{% endcall %}{% endfor %}{% macro m(a) %}<{{ caller() }}>{% endmacro %}", "{% macro m(a) %}<{{ caller() }}{{ a }}>{% endmacro %}{% for x in v.list %}{% call m(x) %}{{ x }}{{ loop.index }}{% endcall %}{% endfor %}",
    # Extensions and the rest.
    "a{% generation %} b {{ v.text }} {% endgeneration %}c", "a\n  {%- generation -%}\n b {%- endgeneration -%}\n c", "{% generation %}{% set g = 1 %}{{ g }}{% endgeneration %}{{ g is defined }}", "{% for x in v.list %}{% generation %}{{ x }}{{ loop.index }}{% endgeneration %}{% endfor %}", "{% for x in v.list %}{% generation %}{% break %}{% endgeneration %}{% endfor %}", "{{ generation }}", "{% block b %}x{{ v.text }}{% endblock %}", "{% block b %}x{% endblock b %}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}", "{% from 'x' import y %}", "{% if false %}{% include 'x' %}{% endif %}ok", "{% autoescape false %}{{ v.html }}{% endautoescape %}", "{% trans %}x{% endtrans %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{{ c.reset() }}{{ c.current }}", "{% set j = joiner(', ') %}{% for x in v.list %}{{ j() }}{{ x }}{% endfor %}", "{% set g = v.list|map('string') %}{{ g|join }}{{ g|join }}", "{% set g = v.list|map('string') %}{{ g|first }}{{ g|list }}", "{% set it = v.map.items() %}{{ it|list }}{{ it|list }}", "{{ v.text }}{# #}{{ v['text'] }}", "{% set s = 'a' %}{% set s = s ~ 'b' %}{{ s }}", "{% set x = 'a' if v.list else 'b' %}{{ x }}", "{{ v.list\n|join(\n', ') }}", "{% set données = 1 %}{{ données }}", "{% set content = 'x' %}{{ content | trim ~ '!' }}", "{{ ('a' ~ 'b') | upper }}{{ 'a' ~ ('b' | upper) }}", "{{ v.people | selectattr('age', 'defined') | map(attribute='name') | join(' and ') }}", "{% for p in v.people %}{{ p.get('age', 'none') }}{{ p['age'] if 'age' in p else '-' }}{% endfor %}", "{%- for p in v.people -%}\n  {{ p.name }}\n  {%- if not loop.last %}, {% endif -%}\n{%- endfor %}", "{% set x = namespace(found=false) %}{% for p in v.people if p.age == 2 %}{% set x.found = true %}{% endfor %}{{ x.found }}", "{{ [1, 2, 3][::-1] | tojson }}", "{{ {'a': [1, {'b': none}]} | tojson(indent=2) }}", "{{ 'x' if v.map.a is defined and v.map.a is not none else 'y' }}", "{{ v.list[-1] == 3 and v.list[0] != 3 }}", "{{ messages is defined }}", "{{ v.text.strip().split(' ')[-1].upper() }}",
    "{% if v.text is string and v.text.startswith('a') %}{{ v.text[1:].lstrip() }}{% endif %}", "{{ '\\n'.join(['a', 'b']) }}", "{{ v.lines.split('\\n')|length }}{{ v.lines.splitlines()|length }}", "{{ (v.list | length) - 1 }}{{ v.list | length - 1 }}", "{{ not v.list or v.map }}", "{{ v.list is not mapping and v.list is iterable }}", "{{ loop.index if loop is defined else 'no loop' }}", "{{ '%05.1f|%-6s|' % (3.14159, 'ab') }}", "{{ v.nested.a.b | map('string') | map('length') | list }}", "{{ (v.big ~ '')[:3] }}", "{{ 5 | string ~ 'x' }}", "{{ 'a\tb' }}", "{{ v.quote | tojson }}{{ [v.quote] }}", "{{ true | string | lower }}{{ none | string }}", "{{ 1 if v.zero else 0 }}{{ v.zero is number }}", "{{ [] is sequence and not [] }}", "{{ ''.join(v.words[:2] + ['!']) }}", "{{ (v.words + ['z'])|join(',') }}", "{{ v.words|map('lower')|unique|sort|join(',') }}", "{{ dict(a=1).items()|list }}", "{{ v.people|map(attribute='name')|map('upper')|list|tojson }}",
]

UNSUPPORTED = {
    "v.list|map('string')", "v.list|select", "v.list|batch(2)", "v.list|reverse",
    "'a'.upper", "range", "'x'.join", "v.map.items", "joiner", "lipsum()", "self",
}


def cases():
    """Every template once, in order."""
    expressions = list(EXPRESSIONS)
    expressions += [f"{a} {op} {b}" for op in OPERATORS for a, b in itertools.product(FEW, FEW)]
    expressions += [f"{sample}|{name}" for name in FILTERS for sample in SAMPLES]
    expressions += [f"{sample} is {name}" for name in TESTS for sample in SAMPLES]
    expressions += [f"{text}.{method}" for method in METHODS for text in TEXTS]
    expressions += [f"'{spec}' % {operand}" for spec, operands in PERCENT for operand in operands]
    expressions += [f"'{spec}'.format({operands})" for spec, all_of in FORMATS for operands in all_of]
    expressions += [f"{sample}[{index}]" for sample in SAMPLES for index in ["0", "-1", "1:", "::-1", "'k'"]]
    expressions += [f"'yes' if {sample} else 'no'" for sample in SAMPLES]
    templates = ["{{ " + expression + " }}" for expression in expressions] + TEMPLATES
    return list(dict.fromkeys(templates))
