//! Thoughts out of a model's text: where they begin, where they end, and what may end them.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod formats;

use formats::{format, parse, sample, sample_calls};
use maitre_text::{AnswerFormat, ReasoningFormat, Thought, ToolFormat};
use serde_json::json;

fn named(name: &str) -> &'static ToolFormat {
    ToolFormat::named(name).unwrap_or_else(|| panic!("no format {name}"))
}

#[test]
fn thoughts_begin_where_the_prompt_leaves_off() {
    let think = ReasoningFormat::named("think").unwrap();
    for (prompt, thought, answer, reasoning, text) in [
        (
            "<|im_start|>assistant\n",
            Thought::Unopened,
            "<think>\na\n</think>\n\nb",
            "a",
            "b",
        ),
        (
            "<|im_start|>assistant\n<think>\n",
            Thought::Open,
            "a\n</think>\n\nb",
            "a",
            "b",
        ),
        (
            "assistant\n<think>\n\n</think>\n\n",
            Thought::Closed,
            "b",
            "",
            "b",
        ),
        (
            "assistant\n",
            Thought::Unopened,
            "b <think>c</think>",
            "",
            "b <think>c</think>",
        ),
        ("assistant\n", Thought::Unopened, " b\n", "", " b\n"),
        ("assistant\n<think>", Thought::Open, "a", "a", ""),
        (
            "assistant\n<think>",
            Thought::Open,
            "a </thin",
            "a </thin",
            "",
        ),
    ] {
        assert_eq!(think.after(prompt), thought, "{prompt}");
        let format = AnswerFormat {
            reasoning_format: Some(think),
            thought,
            ..AnswerFormat::default()
        };
        let answer = parse(format, [answer]);
        assert_eq!(
            (answer.reasoning.as_str(), answer.text.as_str()),
            (reasoning, text),
            "{prompt}"
        );
    }
}

#[test]
fn calls_end_a_thought_of_families_that_forget_to() {
    for name in ["kimi_k2", "deepseek_v31", "deepseek_v3"] {
        let format = AnswerFormat {
            thought: Thought::Open,
            ..format(named(name), false)
        };
        let answer = parse(format, [&*format!("Hm. {}", sample(name))]);
        assert_eq!(answer.reasoning, "Hm.", "{name}");
        assert_eq!(answer.read_calls(), sample_calls(), "{name}");
    }
    let text = "Hm. <tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call></think>b";
    let format = AnswerFormat {
        thought: Thought::Open,
        ..format(named("hermes"), false)
    };
    let answer = parse(format, [text]);
    assert_eq!((answer.calls.len(), answer.text.as_str()), (0, "b"));
}

#[test]
fn harmony_channels() {
    let format = || format(named("harmony"), false);
    let answer = parse(
        format(),
        [
            "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>Yes<|return|>",
        ],
    );
    assert_eq!(
        (answer.reasoning.as_str(), answer.text.as_str()),
        ("Hm", "Yes")
    );
    let recipient_first =
        " to=functions.now<|channel|>commentary <|constrain|>json<|message|>{}<|call|>";
    assert_eq!(
        parse(format(), [recipient_first]).read_calls(),
        [("now".to_owned(), json!({}))]
    );
    let forced = AnswerFormat {
        thought: Thought::Open,
        ..format()
    };
    let answer = parse(
        forced,
        ["Hm<|end|><|start|>assistant<|channel|>final<|message|>Yes"],
    );
    assert_eq!(
        (answer.reasoning.as_str(), answer.text.as_str()),
        ("Hm", "Yes")
    );
    let no_call = "<|channel|>commentary to=functions.now <|message|>soon<|call|>";
    assert_eq!(
        parse(format(), [no_call]).text,
        "<|channel|>commentary to=functions.now <|message|>soon"
    );
    assert_eq!(parse(format(), ["{\"a\": 1}"]).text, "{\"a\": 1}");
}

#[test]
fn every_format_reads_thought_text_and_calls() {
    for tool_format in ToolFormat::all() {
        let thought = format(tool_format, false).reasoning_format.unwrap();
        let close = match tool_format.name {
            "harmony" => "<|end|><|start|>assistant",
            _ => thought.close,
        };
        let text = match tool_format.name {
            "harmony" => "<|channel|>commentary<|message|>Let me see.<|end|><|start|>assistant",
            // Their calls stand where an answer begins, or behind a mark.
            "pythonic" | "llama3_json" => "",
            _ => "Let me see.\n",
        };
        let answer = format!(
            "{}Hm, well.{close}{text}{}",
            thought.open,
            sample(tool_format.name)
        );
        let answer = parse(format(tool_format, false), [answer.as_str()]);
        assert_eq!(answer.reasoning, "Hm, well.", "{}", tool_format.name);
        let expected = if text.is_empty() { "" } else { "Let me see." };
        assert_eq!(answer.text, expected, "{}", tool_format.name);
        assert_eq!(answer.read_calls(), sample_calls(), "{}", tool_format.name);
    }
}
