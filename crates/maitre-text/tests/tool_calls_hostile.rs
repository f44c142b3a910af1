//! Texts that no model should write, and any way to cut a text into pieces: the parts stay the same, nothing is lost,
//! and the work is linear.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod formats;

use std::time::{Duration, Instant};

use formats::{cut, format, parse, sample};
use maitre_text::{AnswerFormat, PartParser, Thought, ToolFormat};
use proptest::prelude::*;
use serde_json::Value;

fn named(name: &str) -> &'static ToolFormat {
    ToolFormat::named(name).unwrap_or_else(|| panic!("no format {name}"))
}

#[test]
fn hostile_text_takes_linear_time() {
    const BYTES: usize = 1 << 15;
    let patterns = [
        "<tool_call>",
        "<tool_call>\n",
        "<tool_call>\n{\"name\": \"now\", \"arguments\": {\"a\": \"",
        "<tool_call>now<arg_key>a</arg_key><arg_value>",
        "<tool_call>\n<function=now>\n<parameter=a>\n",
        "<",
        " ",
        "[",
        "{\"a\":",
        "[now(a=",
        "<think>",
        "</think>",
        "<｜tool▁calls▁begin｜>",
        "<|channel|>",
        "<|message|>",
        "<|tool_call>call:now{a:<|\"|>",
        "[TOOL_CALLS][{\"name\": \"now\"",
        "é",
        "<minimax:tool_call>\n<invoke name=\"",
        "</parameter",
        "<tool_call>\n                                ",
        "[TOOL_CALLS]now[CALL_ID]a",
        "\\\"",
        "{\"name\": \"now\", \"parameters\": {\"a\": [",
    ];
    let start = Instant::now();
    for pattern in patterns {
        let text = pattern.repeat(BYTES / 8 / pattern.len());
        for tool_format in ToolFormat::all() {
            for whole in [false, true] {
                let mut parser = PartParser::new(format(tool_format, whole));
                let mut parts = Vec::new();
                for c in text.chars() {
                    parser.push(c.encode_utf8(&mut [0; 4]), &mut parts);
                }
                parser.finish(&mut parts);
            }
        }
    }
    // 24 patterns, 25 formats, two ways: 5 MB.
    assert!(
        start.elapsed() < Duration::from_secs(300),
        "{:?}",
        start.elapsed()
    );
}

/// A megabyte, a character at a time, in the formats and texts that keep the most to look at again.
#[test]
fn a_megabyte_takes_linear_time() {
    let start = Instant::now();
    for (name, pattern) in [
        ("hermes", "<tool_call>"),
        (
            "hermes",
            "<tool_call>\n{\"name\": \"now\", \"arguments\": {\"a\": \"",
        ),
        ("glm", "<tool_call>now<arg_key>a</arg_key><arg_value>"),
        (
            "qwen3_coder",
            "<tool_call>\n<function=now>\n<parameter=a>\n",
        ),
        ("gemma4", "<|tool_call>call:now{a:<|\"|>"),
        ("pythonic", "[now(a=["),
        ("harmony", "<|channel|>"),
        ("llama3_json", "{\"name\": "),
    ] {
        let text = pattern.repeat((1 << 20) / pattern.len());
        for whole in [false, true] {
            let mut parser = PartParser::new(format(named(name), whole));
            let mut bytes = 0;
            for c in text.chars() {
                let mut parts = Vec::new();
                parser.push(c.encode_utf8(&mut [0; 4]), &mut parts);
                bytes += parts
                    .iter()
                    .map(maitre_text::Part::size_in_bytes)
                    .sum::<usize>();
            }
            let mut parts = Vec::new();
            parser.finish(&mut parts);
            bytes += parts
                .iter()
                .map(maitre_text::Part::size_in_bytes)
                .sum::<usize>();
            assert!(
                bytes > text.len() / 2,
                "{name} {pattern}: {bytes} of {}",
                text.len()
            );
        }
    }
    assert!(
        start.elapsed() < Duration::from_secs(120),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn deep_nesting_is_no_call() {
    for (name, text) in [
        (
            "hermes",
            format!(
                "<tool_call>\n{{\"name\": \"now\", \"arguments\": {{\"a\": {}",
                "[".repeat(100_000)
            ),
        ),
        (
            "pythonic",
            format!("[now(a={}1{})]", "[".repeat(100_000), "]".repeat(100_000)),
        ),
        (
            "gemma4",
            format!(
                "<|tool_call>call:now{{a:{}1{}}}<tool_call|>",
                "{b:".repeat(50_000),
                "}".repeat(50_000)
            ),
        ),
    ] {
        assert_eq!(parse(format(named(name), true), [text.as_str()]).text, text);
    }
}

/// Pieces of which hostile answers are made.
const SCRAPS: &[&str] = &[
    "<tool_call>",
    "</tool_call>",
    "\n",
    " ",
    "{\"name\": \"now\", \"arguments\": {",
    "}",
    "}}",
    "\"",
    "{",
    "[",
    "]",
    "<function=",
    "now",
    ">",
    "</function>",
    "<parameter=",
    "city",
    "</parameter>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<think>",
    "</think>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    ",",
    "; ",
    "(",
    ")",
    "=",
    "'x'",
    "é",
    "｜",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "```json",
    "```",
    "function",
    "<|tool_call>call:",
    "<tool_call|>",
    "<|\"|>",
    ":",
    "<|channel|>",
    "<|message|>",
    "<|start|>",
    "assistant",
    "<|call|>",
    "<|end|>",
    "commentary to=functions.now ",
    "analysis",
    "final",
    "{}",
    "1",
    "get_weather",
    "true",
    "<|python_tag|>",
    "functions.",
    ":0",
    "\\",
    "<",
    "<invoke name=\"",
    "\">",
    "</invoke>",
    "<minimax:tool_call>",
    "</minimax:tool_call>",
];

fn any_format() -> impl Strategy<Value = &'static ToolFormat> {
    prop::sample::select(ToolFormat::all().collect::<Vec<_>>())
}

fn scraps() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(SCRAPS), 0..24).prop_map(|scraps| scraps.concat())
}

/// A sample with a piece of it replaced: near to a call, and mostly none.
fn damaged() -> impl Strategy<Value = (&'static ToolFormat, String)> {
    let scrap = prop::sample::select(SCRAPS);
    (
        any_format(),
        any::<prop::sample::Index>(),
        0..8_usize,
        scrap,
    )
        .prop_map(|(format, at, length, scrap)| {
            let chars: Vec<char> = sample(format.name).chars().collect();
            let at = at.index(chars.len());
            let rest = chars.iter().skip(at + length);
            let text = chars[..at]
                .iter()
                .copied()
                .chain(scrap.chars())
                .chain(rest.copied());
            (format, text.collect())
        })
}

fn without_blank(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

/// The same for any way to cut; in `whole` mode, calls have arguments that are JSON.
fn check(tool_format: &'static ToolFormat, text: &str, sizes: &[usize], thought: Thought) {
    for whole in [false, true] {
        let format = || AnswerFormat {
            thought,
            ..format(tool_format, whole)
        };
        let expected = parse(format(), [text]);
        let pieces = cut(text, sizes);
        let answer = parse(format(), pieces.iter().map(String::as_str));
        assert_eq!(answer, expected, "{} {text:?}", tool_format.name);
        let single = cut(text, &vec![1; text.chars().count()]);
        let answer = parse(format(), single.iter().map(String::as_str));
        assert_eq!(answer, expected, "{} {text:?}", tool_format.name);
        if !whole {
            continue;
        }
        for (_, arguments) in expected.read_calls() {
            assert!(matches!(arguments, Value::Object(_)));
        }
        if expected.calls.is_empty()
            && expected.reasoning.is_empty()
            && tool_format.name != "harmony"
        {
            let close = format().reasoning_format.unwrap().close;
            let open = format().reasoning_format.unwrap().open;
            let text = without_blank(text);
            // Only the marks of an empty thought may be missing.
            let shown = without_blank(&expected.text);
            assert_eq!(
                shown.replace(close, "").replace(open, ""),
                text.replace(close, "").replace(open, "")
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_way_to_cut_gives_the_same(
        tool_format in any_format(),
        before in prop::sample::select(&["", " \n", "Well: ", "<think>\nHm</think>"]),
        after in prop::sample::select(&["", "\n", " Done. "]),
        sizes in prop::collection::vec(0..9_usize, 0..60),
    ) {
        let text = format!("{before}{}{after}", sample(tool_format.name));
        check(tool_format, &text, &sizes, Thought::Unopened);
    }

    #[test]
    fn any_way_to_cut_gives_the_same_of_damaged_calls(
        (tool_format, text) in damaged(),
        sizes in prop::collection::vec(0..9_usize, 0..60),
        thought in prop::sample::select(&[Thought::Unopened, Thought::Open, Thought::Closed]),
    ) {
        check(tool_format, &text, &sizes, thought);
    }

    #[test]
    fn any_way_to_cut_gives_the_same_of_anything(
        tool_format in any_format(),
        text in scraps(),
        sizes in prop::collection::vec(0..9_usize, 0..40),
        thought in prop::sample::select(&[Thought::Unopened, Thought::Open, Thought::Closed]),
    ) {
        check(tool_format, &text, &sizes, thought);
    }
}
