//! No template, however hostile, runs or grows without end: every operator, filter and method charges
//! its work, no text is built beyond the output's limit, and nesting is bounded.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use maitre_text::{
    ChatMessage, ChatRequest, ChatTemplate, Role, SpecialTokens, TemplateLimits, TextError,
};

fn request() -> ChatRequest {
    let serde_json::Value::Object(arguments) = serde_json::json!({
        "empty": "",
        "text": "x".repeat(1_000),
        "items": (0..1_000).collect::<Vec<_>>(),
    }) else {
        panic!("no object");
    };
    ChatRequest {
        messages: vec![ChatMessage::new(Role::User, "hello")],
        template_kwargs: arguments,
        ..ChatRequest::default()
    }
}

fn render(source: &str, limits: TemplateLimits) -> Result<String, TextError> {
    ChatTemplate::new(source)?
        .with_limits(limits)
        .render(&request(), &SpecialTokens::new())
}

/// Few units, so that a test that charges nothing for its work would run into other walls first.
const LIMITS: TemplateLimits = TemplateLimits {
    instructions: 20_000,
    output_bytes: 1 << 20,
};

fn failure(source: &str) -> TextError {
    match render(source, LIMITS) {
        Err(error) => error,
        Ok(text) => panic!("{source} rendered {} bytes", text.len()),
    }
}

/// Nested chains of comparisons: what one is translated to must not double with each level.
#[test]
fn a_chain_of_comparisons_is_translated_once() {
    for levels in [1, 26] {
        let source =
            "{{ ".to_owned() + &"1 < (".repeat(levels) + "2" + &") < 9".repeat(levels) + " }}";
        // `1 < True` is false, and so is all around it; the innermost is true.
        let expected = if levels == 1 { "True" } else { "False" };
        assert_eq!(render(&source, LIMITS).unwrap(), expected, "{levels}");
    }
}

#[test]
fn empty_needles_end() {
    for (source, expected) in [
        ("{{ 'abc'.count(empty) }}", "4"),
        ("{{ 'abc'.replace(empty, '-') }}", "-a-b-c-"),
        ("{{ 'abc' | replace(empty, '-') }}", "-a-b-c-"),
        ("{{ 'abc'.find(empty) }}{{ 'abc'.rfind(empty) }}", "03"),
        ("{{ empty in 'abc' }}", "True"),
        ("{{ 'abc'.startswith(empty) }}", "True"),
        ("{{ 'abc'.strip(empty) }}", "abc"),
        ("{{ empty.join('abc') }}", "abc"),
        ("{{ 'abc'.removeprefix(empty) }}", "abc"),
    ] {
        assert_eq!(render(source, LIMITS).unwrap(), expected, "{source}");
    }
    for source in [
        "{{ 'abc'.split(empty) }}",
        "{{ 'abc'.rsplit(empty, 1) }}",
        "{{ 'abc'.partition(empty) }}",
        "{{ 'abc'.rpartition(empty) }}",
    ] {
        let error = failure(source).to_string();
        assert!(error.contains("empty separator"), "{source}: {error}");
    }
}

/// One text or list that is larger than anything may be: refused before memory is taken.
#[test]
fn nothing_enormous_is_built() {
    for source in [
        "{{ 'x' * 10 ** 10 }}",
        "{{ 10 ** 10 * 'x' }}",
        "{% set x = 'x' * 10 ** 30 %}",
        "{% set x = 'x'.center(10 ** 9) %}",
        "{% set x = 'x'.ljust(10 ** 18) %}",
        "{% set x = 'x'.rjust(10 ** 30) %}",
        "{% set x = 'x'.zfill(10 ** 9) %}",
        "{% set x = '\t\t'.expandtabs(10 ** 9) %}",
        "{% set x = 'x' | center(10 ** 9) %}",
        "{% set x = 'x' | indent(10 ** 9, true) %}",
        "{% set x = 'a\nb' | indent(text * 10 ** 4) %}",
        "{% set x = [1] | tojson(indent=10 ** 9) %}",
        "{% set x = [[[[1]]]] | tojson(indent=10 ** 6 // 3) %}",
        "{% set x = '%1000000000d' % 1 %}",
        "{% set x = '%*d' % (10 ** 9, 1) %}",
        "{% set x = '%.1000000000d' % 1 %}",
        "{% set x = '%1000000000s' % 'x' %}",
        "{% set x = '%s' | format('x' * 10 ** 9) %}",
        "{% set x = '{:1000000000}'.format(1) %}",
        "{% set x = '{:>1000000000}'.format('x') %}",
        "{% set x = '{:01000000000,}'.format(1) %}",
        "{% set x = text.replace('x', text * 100) %}",
        "{% set x = text.replace('', text * 2000) %}",
        "{% set x = (text * 1000).join('ab') %}",
        "{% set x = items | join(text * 10) %}{% set y = items | join(text * 2) %}",
        "{% set x = [text * 1000, text * 1000] | join %}",
    ] {
        let error = failure(source);
        assert!(
            matches!(
                error,
                TextError::TemplateFailed { .. } | TextError::TemplateTooLong { .. }
            ),
            "{source}: {error}"
        );
        let error = error.to_string();
        let bounded = error.contains("would be longer than 1048576 bytes")
            || error.contains("20000 instructions");
        assert!(bounded, "{source}: {error}");
    }
}

#[test]
fn lists_and_loops_are_charged() {
    for source in [
        "{% set x = [1] * 10 ** 10 %}",
        "{% set x = (1, 2) * 10 ** 30 %}",
        "{% set x = items * 100 %}",
        "{% set x = [1] | batch(10 ** 10, 'x') | list %}",
        "{% set x = [1] | slice(10 ** 10) | list %}",
        "{% set x = [1] | slice(10 ** 30) | list %}",
        "{% for i in range(99999) %}{% endfor %}",
        "{% for i in range(900) %}{{ items | sort }}{% endfor %}",
        "{% for i in range(900) %}{{ items | unique | list | length }}{% endfor %}",
        "{% for i in range(900) %}{% set x = items | map('string') | list %}{% endfor %}",
        "{% for i in range(900) %}{% set x = items == items %}{% endfor %}",
        "{% for i in range(900) %}{% set x = items[::-1] %}{% endfor %}",
        "{% for i in range(900) %}{% set x = 'y' in items %}{% endfor %}",
        "{% for i in range(900) %}{% set x = items | tojson %}{% endfor %}",
        "{% for i in range(900) %}{% set x = items ~ '' %}{% endfor %}",
        "{% for i in range(900) %}{% set x = items.count(1) %}{% endfor %}",
        "{% for i in range(900) %}{% set x = items | sum %}{% endfor %}",
        "{% for i in range(900) %}{% set x = dict(items | batch(2)) %}{% endfor %}",
        "{% for i in range(9000) %}{% set x = text.split('y') %}{% set y = text | upper %}{% endfor %}",
        "{% for i in range(9000) %}{% set x = text.count('y') %}{% endfor %}",
        "{% for i in range(9000) %}{% set x = text | length %}{% endfor %}",
        "{% for i in range(9000) %}{% set x = text is upper %}{% endfor %}",
        "{% for i in range(9000) %}{% set x = text == text %}{% endfor %}",
        "{% set ns = namespace() %}{% for i in range(9000) %}{% set x = text ~ i %}{% endfor %}",
        "{% for i in range(9000) %}{% set x = text.strip(text) %}{% endfor %}",
        "{% for i in range(9000) %}{% set x = (text * 9) | trim(text) %}{% endfor %}",
        "{% for i in range(9000) %}{% set x = {text: i} %}{% endfor %}",
        "{% for i in range(900) %}{% set x = dict(**dict(items | map('string') | batch(2))) %}{% endfor %}",
        "{% for i in range(900) %}{% set x = ('%s' * 1000) | format(*items) %}{% endfor %}",
        "{% macro m() %}{{ varargs | length }}{% endmacro %}{% for i in range(900) %}{{ m(*items) }}{% endfor %}",
        "{% set x = (text * 900) | wordwrap(1) %}",
        "{% set x = [{}] | map(attribute='a.' * 20000 ~ 'a', default={'a': 1}) | list %}",
        "{% set d = dict(items | map('string') | batch(2)) %}{% for i in range(900) %}{% set x = d.keys() == d.keys() %}{% endfor %}",
    ] {
        let error = failure(source);
        assert!(
            matches!(error, TextError::TemplateTooLong { .. }),
            "{source}: {error}"
        );
    }
}

/// The work of one operation is in proportion to what it touches.
#[test]
fn the_charge_grows_with_the_work() {
    let units_needed = |source: &str| {
        let mut needed = 1;
        while let Err(error) = render(
            source,
            TemplateLimits {
                instructions: needed,
                ..TemplateLimits::default()
            },
        ) {
            assert!(
                matches!(error, TextError::TemplateTooLong { .. }),
                "{source}: {error}"
            );
            needed *= 2;
        }
        needed
    };
    for (small, large) in [
        ("{{ 'x' ~ 'y' }}", "{{ text ~ text ~ text ~ text }}"),
        ("{{ 'x' | upper }}", "{{ text * 50 | upper | length }}"),
        ("{{ [1] | sum }}", "{{ items | sum }}"),
        ("{{ [1] | sort | length }}", "{{ items | sort | length }}"),
        ("{{ 'x'.count('x') }}", "{{ (text * 50).count('x') }}"),
        (
            "{{ 'x'.split('x') | length }}",
            "{{ text.split('x') | length }}",
        ),
    ] {
        let (small, large) = (units_needed(small), units_needed(large));
        assert!(large >= 4 * small, "{small} and {large} units");
    }
}

/// Doubling what is there, again and again.
#[test]
fn what_doubles_ends() {
    let repeated = |set: &str| {
        format!(
            "{{% set ns = namespace(x='x', l=[1]) %}}{{% for i in range(900) %}}{{% set {set} %}}{{% endfor %}}"
        )
    };
    for set in [
        "ns.x = ns.x ~ ns.x",
        "ns.x = ns.x + ns.x",
        "ns.x = ns.x * 2",
        "ns.x = ns.x.replace('x', 'xx')",
        "ns.x = ns.x | replace('x', 'xx')",
        "ns.x = [ns.x, ns.x] | join",
        "ns.x = ns.x.join([ns.x, ns.x])",
        "ns.x = '%s%s' % (ns.x, ns.x)",
        "ns.x = '{0}{0}'.format(ns.x)",
        "ns.x = [ns.x, ns.x] | tojson",
        "ns.x = [ns.x, ns.x] | string",
        "ns.x = ns.x | e ~ ns.x | e",
        "ns.x = ns.x ~ ns.x | urlencode",
        "ns.l = ns.l + ns.l",
        "ns.l = ns.l * 2",
        "ns.l = [ns.l, ns.l] | sum(start=[])",
    ] {
        let error = failure(&repeated(set));
        assert!(
            matches!(
                error,
                TextError::TemplateFailed { .. } | TextError::TemplateTooLong { .. }
            ),
            "{set}: {error}"
        );
    }
}

/// A value whose text would be 2 ** 150 items long takes no memory, but walking it ends.
#[test]
fn walking_what_is_shared_ends() {
    for walk in [
        "ns.x.count",
        "cycler(ns.x).nope ~ cycler(ns.x)",
        "[ns.x.index] | tojson",
        "{(ns.x,): 1}",
        "[[ns.x]] | unique | list",
        "[ns.x] | map('string') | list",
        "ns.x | join",
        "ns.x ~ ''",
        "'{}'.format(ns.x)",
        "ns.x | tojson",
        "ns.x | string",
        "ns.x == ns.y",
        "ns.x < ns.y",
        "ns.x in [ns.y]",
        "[ns.x, ns.y] | sort",
        "[ns.x] | unique | list",
        "'%s' % [ns.x]",
        "{ns.x: 1}",
    ] {
        let source = format!(
            "{{% set ns = namespace(x=(1,), y=(1,)) %}}{{% for i in range(150) %}}\
             {{% set ns.x = (ns.x, ns.x) %}}{{% set ns.y = (ns.y, ns.y) %}}{{% endfor %}}{{{{ {walk} }}}}"
        );
        let error = render(
            &source,
            TemplateLimits {
                instructions: 50_000,
                ..LIMITS
            },
        )
        .unwrap_err();
        assert!(
            matches!(
                error,
                TextError::TemplateTooLong { .. } | TextError::TemplateFailed { .. }
            ),
            "{walk}: {error}"
        );
    }
    let changed = "{% set ns = namespace(x=(1,)) %}{% for i in range(150) %}{% set ns.x = (ns.x, ns.x) %}{{ loop.changed(ns.x) }}{% endfor %}";
    failure(changed);
}

/// Depth: of values, of calls, of scopes, of what a template is written as.
#[test]
fn what_is_nested_too_deep_is_refused() {
    for source in [
        "{% set ns = namespace(x=[]) %}{% for i in range(9000) %}{% set ns.x = [ns.x] %}{% endfor %}".to_owned(),
        "{% set ns = namespace(x={}) %}{% for i in range(9000) %}{% set ns.x = {'a': ns.x} %}{% endfor %}".to_owned(),
        "{% set ns = namespace(x=()) %}{% for i in range(900) %}{% set ns.x = [ns.x] | map('string') %}{% set ns.x = (ns.x,) %}{% endfor %}".to_owned(),
        "{% set ns = namespace(x=1) %}{% for i in range(900) %}{% set ns.x = namespace(x=ns.x) %}{% endfor %}".to_owned(),
        "{% set ns = namespace() %}{% set ns.x = [ns] %}".to_owned(),
        "{% set ns = namespace(x='a') %}{% for i in range(900) %}{% set ns.x = cycler(ns.x) %}{% endfor %}".to_owned(),
        "{% set ns = namespace(x=[1]) %}{% for i in range(900) %}{% set ns.x = [ns.x.index] %}{% endfor %}".to_owned(),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        "{% macro m(f) %}{{ f(f) }}{% endmacro %}{{ m(m) }}".to_owned(),
        "{% macro m() %}{{ caller() }}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{% call m() %}x{% endcall %}".to_owned(),
        "{% for x in [[1]] recursive %}{{ loop([x]) }}{% endfor %}".to_owned(),
        format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("{{{{ {}1{} }}}}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("{{{{ {}1{} }}}}", "{1: ".repeat(100_000), "}".repeat(100_000)),
        format!("{{{{ {} 1 }}}}", "not ".repeat(100_000)),
        format!("{{{{ {} 1 }}}}", "-".repeat(100_000)),
        format!("{{{{ 1{} }}}}", " + 1".repeat(100_000)),
        format!("{{{{ 1{} }}}}", " and 1".repeat(100_000)),
        format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(100_000)),
        format!("{{{{ 1{} }}}}", "|abs".repeat(100_000)),
        format!("{{{{ x{} }}}}", ".x".repeat(100_000)),
        format!("{{{{ x{} }}}}", "[0]".repeat(100_000)),
        format!("{{{{ x{} }}}}", "()".repeat(100_000)),
        format!("{{{{ x{} }}}}", " is x".repeat(100_000)),
        format!("{{{{ 1{} }}}}", " < 1".repeat(100_000)),
        format!("{{% for {}x{} in y %}}{{% endfor %}}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("{}{}", "{% if 1 %}".repeat(100_000), "{% endif %}".repeat(100_000)),
        format!("{}{}", "{% for x in [1] %}".repeat(1_000), "{% endfor %}".repeat(1_000)),
        format!("{}{}", "{% with %}".repeat(1_000), "{% endwith %}".repeat(1_000)),
        format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(100_000)),
        format!("{{% filter upper{} %}}{{% endfilter %}}", "|upper".repeat(100_000)),
    ] {
        let error = failure(&source);
        assert!(
            matches!(
                error,
                TextError::TemplateFailed { .. }
                    | TextError::InvalidTemplate { .. }
                    | TextError::TemplateTooLong { .. }
            ),
            "{}: {error}",
            source.get(..100).unwrap_or(&source)
        );
    }
}

/// What real templates need is far below the bounds.
#[test]
fn what_is_reasonable_renders() {
    for (source, length) in [
        (format!("{{{{ {}1{} }}}}", "(".repeat(40), ")".repeat(40)), 1),
        (format!("{{{{ 1{} }}}}", " + 1".repeat(90)), 2),
        (format!("{{{{ 'a'{} }}}}", " ~ 'a'".repeat(500)), 501),
        (format!("{{% if 0 %}}{}{{% else %}}x{{% endif %}}", "{% elif 0 %}".repeat(100)), 1),
        (format!("{}x{}", "{% if 1 %}".repeat(40), "{% endif %}".repeat(40)), 1),
        ("{% macro m(n) %}{% if n %}{{ m(n - 1) }}{% else %}x{% endif %}{% endmacro %}{{ m(30) }}".to_owned(), 1),
    ] {
        let text = render(&source, TemplateLimits::default()).unwrap();
        assert_eq!(text.len(), length, "{source}");
    }
}
