//! What a model writes, in every format of calls and thoughts: nothing panics, the parts don't depend on how the text was cut,
//! and no text is lost or made up.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use maitre_fuzz::{Dice, Input};
use maitre_text::{AnswerFormat, Part, PartParser, ReasoningFormat, Thought, ToolFormat, Tools};
use serde_json::{Value, json};

static TOOLS: LazyLock<Arc<Tools>> = LazyLock::new(|| {
    let tools = json!([
        {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {
            "city": {"type": "string"}, "days": {"type": "integer"}, "n": {"type": "number"}, "b": {"type": "boolean"},
            "l": {"type": "array"}, "o": {"type": "object"}, "u": {"type": ["string", "null"]}}}}},
        {"type": "function", "function": {"name": "now"}}
    ]);
    Arc::new(Tools::from_json(tools.as_array().expect("a list")).expect("tools"))
});

/// The parts of an answer, neighbours of a kind put together.
#[derive(Debug, PartialEq)]
enum Joined {
    Text(String),
    Reasoning(String),
    Call(u32, String, String),
}

fn parse<'a>(format: &AnswerFormat, pieces: impl Iterator<Item = &'a str>) -> Vec<Joined> {
    let mut parser = PartParser::new(format.clone());
    let mut all = Vec::new();
    for piece in pieces {
        let mut parts = Vec::new();
        parser.push(piece, &mut parts);
        parts.into_iter().for_each(|it| join(&mut all, it));
    }
    let mut parts = Vec::new();
    parser.finish(&mut parts);
    parts.into_iter().for_each(|it| join(&mut all, it));
    all
}

fn join(all: &mut Vec<Joined>, part: Part) {
    let calls = all
        .iter()
        .filter(|it| matches!(it, Joined::Call(..)))
        .count();
    match (part, all.last_mut()) {
        (Part::Text(more), Some(Joined::Text(text))) => text.push_str(&more),
        (Part::Text(text), _) => all.push(Joined::Text(text.into())),
        (Part::Reasoning(more), Some(Joined::Reasoning(text))) => text.push_str(&more),
        (Part::Reasoning(text), _) => all.push(Joined::Reasoning(text.into())),
        (
            Part::ToolCall {
                index,
                name: Some(name),
                arguments_delta,
            },
            _,
        ) => {
            assert_eq!(index as usize, calls, "calls are numbered one by one");
            all.push(Joined::Call(index, name, arguments_delta.into()));
        }
        (
            Part::ToolCall {
                index,
                name: None,
                arguments_delta,
            },
            Some(Joined::Call(last, _, arguments)),
        ) => {
            assert_eq!(index, *last, "a call goes on after another began");
            arguments.push_str(&arguments_delta);
        }
        (part, last) => panic!("{part:?} behind {last:?}"),
    }
}

fn without_space(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|it| !it.is_whitespace())
}

/// What came out, calls aside, is of the text and in its order; and all of it, if there is neither a call nor a mark.
fn check_kept(format: &AnswerFormat, text: &str, parts: &[Joined]) {
    let mut has_call = false;
    let mut left = without_space(text);
    for part in parts {
        match part {
            Joined::Text(part) | Joined::Reasoning(part) => {
                for c in without_space(part) {
                    assert!(left.any(|it| it == c), "{c:?} is made up or out of order");
                }
            }
            Joined::Call(_, name, arguments) => {
                has_call = true;
                assert!(!name.is_empty(), "a call without a name");
                if format.whole_calls {
                    let read = serde_json::from_str::<Value>(arguments);
                    assert!(read.is_ok_and(|it| it.is_object()), "{arguments:?}");
                }
            }
        }
    }
    // What is in every mark of every format.
    let marks = ["<", "[", "◁", "{", "｜", "Here is"];
    if !has_call && !marks.iter().any(|mark| text.contains(mark)) {
        let out: usize = parts
            .iter()
            .map(|part| match part {
                Joined::Text(part) | Joined::Reasoning(part) => without_space(part).count(),
                Joined::Call(..) => 0,
            })
            .sum();
        assert_eq!(out, without_space(text).count(), "something is lost");
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let tool_formats: Vec<_> = ToolFormat::all().map(Some).chain([None]).collect();
    let reasoning_formats: Vec<_> = ReasoningFormat::all().map(Some).chain([None]).collect();
    let tool_format = input.one_of(&tool_formats);
    let reasoning_format = input.one_of(&reasoning_formats);
    let switches = input.byte();
    let thoughts = [Thought::Unopened, Thought::Open, Thought::Closed];
    let format = AnswerFormat {
        tool_format,
        tools: Arc::clone(&TOOLS),
        reasoning_format,
        thought: thoughts[usize::from(switches >> 1) % thoughts.len()],
        whole_calls: switches & 1 == 1,
    };
    let mut dice = Dice(u64::from(input.byte()));
    let text = input.text();
    let whole = parse(&format, [text.as_str()].into_iter());
    let chars = text
        .char_indices()
        .map(|(at, c)| &text[at..at + c.len_utf8()]);
    assert_eq!(parse(&format, chars), whole, "character by character");
    for _ in 0..2 {
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while let Some((at, _)) = rest.char_indices().nth(1 + dice.below(12)) {
            let (piece, more) = rest.split_at(at);
            pieces.push(piece);
            rest = more;
        }
        pieces.push(rest);
        assert_eq!(
            parse(&format, pieces.iter().copied()),
            whole,
            "in pieces {pieces:?}"
        );
    }
    check_kept(&format, &text, &whole);
});
