#!/usr/bin/env python3
"""Make what chat templates are compared with: what Jinja2 renders in transformers' environment.

needs: jinja2 3.1.6 (Python 3.11), and MAITRE_TEST_DATA for the chat templates of public models

`expressions.json`: small templates of our own (`templates/expressions.py`), each with the text that
Jinja2 renders or null where it fails, and those that the product refuses by name.

`conversations.json`: conversations (`templates/conversations.py`), and for each public template what
it renders of each: a hash and a length (`fnv` below), the words of a refusal, or null for a failure.
The templates themselves are not copied.
"""

import datetime
import functools
import json
import os
import pathlib
import re
import sys
import warnings

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.utils
from jinja2.sandbox import ImmutableSandboxedEnvironment

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "templates"))
import conversations  # noqa: E402
import expressions  # noqa: E402

OUT = pathlib.Path(__file__).resolve().parents[2] / "crates/maitre-text/tests/fixtures"
NOW_UNIX_S = 1_721_995_199
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}

warnings.filterwarnings("ignore")


class Generation(jinja2.ext.Extension):
    """transformers' AssistantTracker, while it tracks nothing."""

    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_support"), [], [], body).set_lineno(lineno)

    def _support(self, caller):
        return caller()


class Refused(jinja2.exceptions.TemplateError):
    pass


class TemplateDict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)


class TemplateNamespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            TemplateNamespace.check(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name, value):
        TemplateNamespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


@functools.cache
def environment():
    def raise_exception(message):
        raise Refused(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(format):
        # Without a zone, as transformers' `datetime.now()`.
        return datetime.datetime.utcfromtimestamp(NOW_UNIX_S).strftime(format)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    env.globals["dict"] = TemplateDict()
    env.globals["namespace"] = TemplateNamespace
    return env


def render(source, variables):
    """The text, or the error."""
    try:
        text = environment().from_string(source).render(**variables)
        text.encode("utf-8")
        return text
    except Exception as error:
        return error


def fnv(text):
    """FNV-1a of 64 bits, and the length, of the text in UTF-8."""
    data = text.encode("utf-8")
    hash = 0xCBF29CE484222325
    for byte in data:
        hash = (hash ^ byte) * 0x100000001B3 % 2**64
    return f"{hash:016x}:{len(data)}"


def write(name, value, rows):
    """One row of the list `rows` a line."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in value[rows])
    head = json.dumps({key: part for key, part in value.items() if key != rows}, ensure_ascii=False)[:-1]
    (OUT / name).write_text(f'{head},\n"{rows}": [\n{lines}\n]}}\n', encoding="utf-8")


def make_expressions():
    unsupported = {"{{ " + expression + " }}" for expression in expressions.UNSUPPORTED}
    unsupported.update(expressions.UNSUPPORTED_TEMPLATES)
    rows, refused = [], []
    for source in expressions.cases():
        outcome = render(source, {"v": expressions.VALUE})
        if not isinstance(outcome, str):
            rows.append([source, None])
        elif source in unsupported or re.search(r"(at|bt) 0x", outcome, re.IGNORECASE):
            refused.append(source)
        else:
            rows.append([source, outcome])
    write("expressions.json", {"v": expressions.VALUE, "unsupported": refused, "cases": rows}, "cases")


def make_conversations(folder):
    def outcome(source, conversation):
        rendered = render(
            source,
            {
                "documents": None,
                **SPECIAL_TOKENS,
                **conversation.get("template_kwargs", {}),
                "messages": conversation["messages"],
                "tools": conversation.get("tools"),
                "add_generation_prompt": conversation.get("add_generation_prompt", True),
            },
        )
        if isinstance(rendered, Refused):
            return {"refused": str(rendered)}
        return fnv(rendered) if isinstance(rendered, str) else None

    rows = []
    for path in sorted(folder.glob("*.jinja")):
        # Universal newlines are Jinja2's own business.
        source = path.read_bytes().decode("utf-8")
        results = {name: outcome(source, given) for name, given in conversations.CONVERSATIONS.items()}
        rows.append({"template": path.name, "results": results})
    write(
        "conversations.json",
        {"special_tokens": SPECIAL_TOKENS, "conversations": conversations.CONVERSATIONS, "templates": rows},
        "templates",
    )


def main():
    make_expressions()
    if "MAITRE_TEST_DATA" not in os.environ:
        print("MAITRE_TEST_DATA is not set: conversations.json stays as it is")
        return
    make_conversations(pathlib.Path(os.environ["MAITRE_TEST_DATA"]) / "chat-templates")


if __name__ == "__main__":
    main()
