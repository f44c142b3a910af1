//! What the tests of tool calls share: the tools of a request, a call as every format writes it, and parts put
//! together.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use maitre_text::{AnswerFormat, Part, PartParser, ReasoningFormat, Thought, ToolFormat, Tools};
use serde_json::{Value, json};

/// Two tools with arguments of every type.
pub(crate) fn tools() -> Arc<Tools> {
    let tools = json!([
        {"type": "function", "function": {
            "name": "get_weather",
            "description": "The weather of a place.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "wind": {"type": "number"},
                    "metric": {"type": "boolean"},
                    "hours": {"type": "array", "items": {"type": "integer"}},
                    "place": {"type": "object", "properties": {"lat": {"type": "number"}}},
                    "note": {"type": ["string", "null"]},
                    "unit": {"enum": ["celsius", "kelvin"]}
                },
                "required": ["city"],
                "additionalProperties": false
            }
        }},
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
    ]);
    Arc::new(Tools::from_json(tools.as_array().unwrap()).unwrap())
}

/// An answer, put together.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    /// Name and arguments as they were written.
    pub(crate) calls: Vec<(String, String)>,
}

impl Answer {
    pub(crate) fn of(parts: &[Part]) -> Self {
        let mut answer = Self::default();
        for part in parts {
            match part {
                Part::Text(text) => answer.text.push_str(text),
                Part::Reasoning(text) => answer.reasoning.push_str(text),
                Part::ToolCall {
                    index,
                    name,
                    arguments_delta,
                } => {
                    let index = *index as usize;
                    if let Some(name) = name {
                        assert_eq!(index, answer.calls.len(), "calls are numbered one by one");
                        answer.calls.push((name.clone(), String::new()));
                    }
                    assert_eq!(
                        index + 1,
                        answer.calls.len(),
                        "a call goes on after the next began"
                    );
                    answer.calls[index].1.push_str(arguments_delta);
                }
            }
        }
        answer
    }

    /// The calls with their arguments read.
    pub(crate) fn read_calls(&self) -> Vec<(String, Value)> {
        let read = |(name, arguments): &(String, String)| {
            let value = serde_json::from_str(arguments)
                .unwrap_or_else(|error| panic!("{arguments:?} is not JSON: {error}"));
            (name.clone(), value)
        };
        self.calls.iter().map(read).collect()
    }
}

pub(crate) fn format(tool_format: &'static ToolFormat, whole_calls: bool) -> AnswerFormat {
    let reasoning = match tool_format.name {
        "harmony" => "harmony",
        "gemma4" => "gemma4",
        "mistral" | "mistral_v11" => "mistral",
        "seed_oss" => "seed_oss",
        _ => "think",
    };
    AnswerFormat {
        tool_format: Some(tool_format),
        tools: tools(),
        reasoning_format: ReasoningFormat::named(reasoning),
        thought: Thought::Unopened,
        whole_calls,
    }
}

/// Parses a text that arrives in pieces.
pub(crate) fn parse<'a>(format: AnswerFormat, pieces: impl IntoIterator<Item = &'a str>) -> Answer {
    let mut parser = PartParser::new(format);
    let mut all = Vec::new();
    for piece in pieces {
        let mut parts = Vec::new();
        parser.push(piece, &mut parts);
        all.extend(parts);
    }
    let mut parts = Vec::new();
    parser.finish(&mut parts);
    all.extend(parts);
    Answer::of(&all)
}

/// A text in pieces of `sizes` characters, and the rest.
pub(crate) fn cut(text: &str, sizes: &[usize]) -> Vec<String> {
    let mut chars = text.chars();
    let mut pieces: Vec<String> = sizes
        .iter()
        .map(|&size| chars.by_ref().take(size).collect())
        .collect();
    pieces.push(chars.collect());
    pieces
}

/// Two calls as each format writes them, after its section marks if it has some: what the families' templates
/// render, and what must be parsed from it.
pub(crate) fn sample(format: &str) -> &'static str {
    match format {
        "harmony" => {
            r#"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Zürich", "days": 2}<|call|><|start|>assistant<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}<|call|>"#
        }
        "deepseek_v4" => {
            "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Zürich</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"now\">\n\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>"
        }
        "deepseek_v32" => {
            "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Zürich</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"now\">\n</｜DSML｜invoke>\n</｜DSML｜function_calls>"
        }
        "deepseek_v3" => {
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Zürich\", \"days\": 2}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        }
        "deepseek_v31" => {
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Zürich\", \"days\": 2}<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        }
        "kimi_k2" => {
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{\"city\": \"Zürich\", \"days\": 2}<|tool_call_end|><|tool_call_begin|>functions.now:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>"
        }
        "minimax_m2" => {
            "<minimax:tool_call>\n<invoke name=\"get_weather\">\n<parameter name=\"city\">Zürich</parameter>\n<parameter name=\"days\">2</parameter>\n</invoke>\n<invoke name=\"now\">\n</invoke>\n</minimax:tool_call>"
        }
        "minimax_m1" => {
            "<tool_calls>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Zürich\", \"days\": 2}}\n{\"name\": \"now\", \"arguments\": {}}\n</tool_calls>"
        }
        "seed_oss" => {
            "<seed:tool_call>\n<function=get_weather>\n<parameter=city>Zürich</parameter>\n<parameter=days>2</parameter>\n</function>\n</seed:tool_call>\n<seed:tool_call>\n<function=now>\n</function>\n</seed:tool_call>"
        }
        "glm" => {
            "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Zürich</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>"
        }
        "qwen3_coder" => {
            "<tool_call>\n<function=get_weather>\n<parameter=city>\nZürich\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>"
        }
        "function_tag" => {
            "<function=get_weather>{\"city\": \"Zürich\", \"days\": 2}</function>\n<function=now>{}</function>"
        }
        "nemotron" => {
            "<TOOLCALL>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Zürich\", \"days\": 2}}, {\"name\": \"now\", \"arguments\": {}}]</TOOLCALL>"
        }
        "apriel" => {
            "<tool_calls>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Zürich\", \"days\": 2}, \"id\": \"a1\"}, {\"name\": \"now\", \"arguments\": {}, \"id\": \"a2\"}]</tool_calls>"
        }
        "phi4" => {
            "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Zürich\", \"days\": 2}}, {\"name\": \"now\", \"arguments\": {}}]<|/tool_call|>"
        }
        "phi4_functools" => {
            "functools[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Zürich\", \"days\": 2}}, {\"name\": \"now\", \"arguments\": {}}]"
        }
        "gemma4" => {
            "<|tool_call>call:get_weather{city:<|\"|>Zürich<|\"|>,days:2}<tool_call|><|tool_call>call:now{}<tool_call|>"
        }
        "functiongemma" => {
            "<start_function_call>call:get_weather{city:<escape>Zürich<escape>,days:2}<end_function_call><start_function_call>call:now{}<end_function_call>"
        }
        "lfm2" => {
            "<|tool_call_start|>[get_weather(city=\"Zürich\", days=2), now()]<|tool_call_end|>"
        }
        "mistral_v11" => {
            "[TOOL_CALLS]get_weather[CALL_ID]aB3dE6gH9[ARGS]{\"city\": \"Zürich\", \"days\": 2}[TOOL_CALLS]now[ARGS]{}"
        }
        "mistral" => {
            "[TOOL_CALLS][{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Zürich\", \"days\": 2}, \"id\": \"aB3dE6gH9\"}, {\"name\": \"now\", \"arguments\": {}}]"
        }
        "hermes" => {
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Zürich\", \"days\": 2}}\n</tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>"
        }
        "granite" => {
            "<|tool_call|>[{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Zürich\", \"days\": 2}}, {\"name\": \"now\", \"arguments\": {}}]"
        }
        "pythonic" => "[get_weather(city=\"Zürich\", days=2), now()]",
        "llama3_json" => {
            "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Zürich\", \"days\": 2}}; {\"name\": \"now\", \"parameters\": {}}"
        }
        other => panic!("no sample of {other}"),
    }
}

/// The calls of [`sample`].
pub(crate) fn sample_calls() -> Vec<(String, Value)> {
    vec![
        ("get_weather".into(), json!({"city": "Zürich", "days": 2})),
        ("now".into(), json!({})),
    ]
}
