//! Answers taken apart: what the model writes, by the book or because it has to, comes out as text, thoughts and calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use maitre_engine::{
    ChatMessage, ChatRequest, Engine, EngineBuilder, EngineError, Event, FinishReason, Finished,
    GenerateRequest, GrammarSpec, Input, Matched, Part, PartOptions, Role, StartError, Tool,
    ToolChoice, Tools,
};
use serde_json::{Value, json};

use crate::bundled::builder;
use crate::script::says;
use crate::toy::idle;

fn weather() -> Value {
    json!({"name": "weather", "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Bonn", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["city", "days"],
        "additionalProperties": false,
    }})
}

pub(crate) fn sum() -> Value {
    json!({"name": "sum", "parameters": {
        "type": "object",
        "properties": {"of": {"type": "array", "items": {"type": "integer", "maximum": 99}, "maxItems": 3}},
        "required": ["of"],
        "additionalProperties": false,
    }})
}

pub(crate) fn options(tools: &[Value]) -> PartOptions {
    PartOptions {
        tools: Arc::new(Tools::from_json(tools).unwrap()),
        ..PartOptions::default()
    }
}

pub(crate) fn request(parts: PartOptions) -> GenerateRequest {
    let message = ChatMessage::new(Role::User, "How warm will it be in Oslo?");
    let mut request = GenerateRequest::new(Input::Chat(ChatRequest::new(vec![message])));
    request.sampling.temperature = Some(1.0);
    request.sampling.seed = Some(7);
    request.stopping.max_tokens = Some(200);
    request.parts = Some(parts);
    request
}

pub(crate) fn engine() -> EngineBuilder {
    builder()
        .tool_format(Some("hermes".into()))
        .reasoning_format(Some("think".into()))
}

/// What came of one answer.
#[derive(Debug, Default, Clone)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) thought: String,
    pub(crate) calls: Vec<(String, String)>,
    /// How often something came.
    pub(crate) pieces: usize,
    pub(crate) token_ids: Vec<u32>,
    pub(crate) end: Option<Finished>,
}

impl Answer {
    fn said(&self) -> (&str, &str, Vec<(&str, &str)>) {
        let calls = self.calls.iter();
        let calls = calls.map(|(name, arguments)| (name.as_str(), arguments.as_str()));
        (&self.text, &self.thought, calls.collect())
    }

    fn end(&self) -> &Finished {
        self.end.as_ref().unwrap()
    }
}

pub(crate) async fn answers(
    engine: &Engine,
    request: GenerateRequest,
) -> Result<Vec<Answer>, EngineError> {
    let mut generation = engine.generate(request).await?;
    let mut answers = BTreeMap::<u32, Answer>::new();
    while let Some(event) = generation.next().await {
        match event? {
            Event::Delta(delta) => {
                let answer = answers.entry(delta.index).or_default();
                answer.pieces += usize::from(delta.part.size_in_bytes() > 0);
                answer.token_ids.extend(delta.token_ids);
                match delta.part {
                    Part::Text(text) => answer.text += &text,
                    Part::Reasoning(text) => answer.thought += &text,
                    Part::ToolCall {
                        index,
                        name,
                        arguments_delta,
                    } => {
                        if let Some(name) = name {
                            assert_eq!(index as usize, answer.calls.len());
                            answer.calls.push((name, String::new()));
                        }
                        answer.calls[index as usize].1 += &arguments_delta;
                    }
                }
            }
            Event::Finished(end) => {
                let answer = answers.get_mut(&end.index).unwrap();
                answer.end = Some(end);
            }
            Event::PromptLogprobs(_) => {}
        }
    }
    Ok(answers.into_values().collect())
}

async fn answer(engine: &Engine, request: GenerateRequest) -> Answer {
    answers(engine, request).await.unwrap().remove(0)
}

const CALL: &str =
    "<tool_call>\n{\"name\": \"sum\", \"arguments\": {\"of\": [1, 2]}}\n</tool_call>";

#[tokio::test]
async fn what_is_written_between_marks_comes_as_parts() {
    let engine = engine().build().unwrap();
    let sums = |n: usize| vec![("sum", "{\"of\": [1, 2]}"); n];
    let both = format!("<think>\nHow much?\n</think>\n\nI will see.\n{CALL}\n{CALL}");
    for (text, expected) in [
        ("Just text.", ("Just text.", "", vec![])),
        (CALL, ("", "", sums(1))),
        (&both, ("I will see.", "How much?", sums(2))),
        ("<think>Endless", ("", "Endless", vec![])),
        (
            "Look: <tool_call>\n[]\n</tool_call>.",
            ("Look: <tool_call>\n[]\n</tool_call>.", "", vec![]),
        ),
    ] {
        for whole_calls in [false, true] {
            let mut request = request(PartOptions {
                whole_calls,
                ..options(&[sum()])
            });
            request.constraint = Some(says(text));
            request.n = 2;
            for answer in answers(&engine, request).await.unwrap() {
                assert_eq!(answer.said(), expected, "{text}");
                assert_eq!(answer.end().reason, FinishReason::Stop);
                let tokens = crate::toy::tokenizer().encode(text).unwrap();
                assert_eq!(answer.token_ids, tokens, "each token once");
            }
        }
    }
    idle(&engine).await;
}

#[tokio::test]
async fn arguments_come_as_they_are_written_or_whole_if_so_asked() {
    let engine = engine().build().unwrap();
    let pieces = async |whole_calls| {
        let mut request = request(PartOptions {
            whole_calls,
            ..options(&[sum()])
        });
        request.constraint = Some(says(CALL));
        answer(&engine, request).await.pieces
    };
    assert_eq!(pieces(true).await, 1);
    assert!(pieces(false).await > 3);
}

#[tokio::test]
async fn what_is_not_looked_for_is_text() {
    let engine = engine().build().unwrap();
    let text = format!("<think>Hm</think>{CALL}{CALL}");
    let said = async |parts: Option<PartOptions>| {
        let mut request = request(options(&[]));
        request.parts = parts;
        request.constraint = Some(says(&text));
        answer(&engine, request).await
    };
    // Without parts, marks are control tokens like all others, and left out.
    let plain = said(None).await;
    assert!(plain.text.starts_with("Hm\n{\"name\""), "{}", plain.text);
    assert_eq!(
        (plain.calls.len(), plain.end().usage.reasoning_tokens),
        (0, 0)
    );

    let none = said(Some(PartOptions {
        tool_choice: ToolChoice::None,
        ..options(&[sum()])
    }))
    .await;
    assert_eq!((none.calls.len(), &*none.thought), (0, "Hm"));
    assert!(none.text.starts_with("{\"name\""), "{}", none.text);

    let one = said(Some(PartOptions {
        parallel_tool_calls: false,
        ..options(&[sum()])
    }))
    .await;
    assert_eq!(one.calls.len(), 1);

    let unasked = said(Some(PartOptions {
        reasoning: false,
        ..options(&[sum()])
    }))
    .await;
    assert_eq!((&*unasked.text, unasked.calls.len()), ("Hm", 2));
}

#[tokio::test]
async fn tokens_of_thoughts_are_counted_where_they_are_told_apart() {
    let engine = engine().build().unwrap();
    let mut request = request(options(&[]));
    request.constraint = Some(says("<think>One two three</think>Four"));
    let answer = answer(&engine, request).await;
    let inside = crate::toy::tokenizer()
        .encode("One two three</think>")
        .unwrap();
    assert_eq!(answer.end().usage.reasoning_tokens as usize, inside.len());
}

/// Stop strings are found in what the model writes.
#[tokio::test]
async fn a_stop_string_ends_an_answer_in_text_thought_and_call() {
    let engine = engine().build().unwrap();
    let text = format!("<think>Hm stop.</think>Say. {CALL}");
    for (stop, expected) in [
        ("stop", ("", "Hm ", vec![])),
        ("ay", ("S", "Hm stop.", vec![])),
        ("of", ("Say.", "Hm stop.", vec![("sum", "{\"")])),
        ("</think>", ("", "Hm stop.", vec![])),
    ] {
        let mut request = request(options(&[sum()]));
        request.constraint = Some(says(&text));
        request.stopping.stop = vec![stop.to_owned()];
        let answer = answer(&engine, request).await;
        assert_eq!(answer.said(), expected, "{stop}");
        let end = answer.end();
        assert_eq!(end.reason, FinishReason::StopSequence);
        assert_eq!(end.matched, Some(Matched::Text(stop.to_owned())));
    }
    idle(&engine).await;
}

fn check(call: &(String, String), tools: &[Value]) {
    let (name, arguments) = call;
    let tool = tools.iter().find(|tool| tool["name"] == *name);
    let schema = &tool.unwrap_or_else(|| panic!("{name}"))["parameters"];
    let value: Value = serde_json::from_str(arguments).unwrap();
    let validator = jsonschema::validator_for(schema).unwrap();
    assert!(validator.is_valid(&value), "{name} {arguments}");
}

#[tokio::test]
async fn a_required_call_is_made_and_fits_its_schema() {
    let tools = [weather(), sum()];
    for format in [
        None,
        Some("hermes"),
        Some("qwen3_coder"),
        Some("mistral"),
        Some("llama3_json"),
    ] {
        // Without a format, the model is made to write the most common one.
        let engine = builder().tool_format(format.map(str::to_owned));
        let engine = engine.build().unwrap();
        let mut names = std::collections::BTreeSet::new();
        for seed in 0..4 {
            let required = PartOptions {
                tool_choice: ToolChoice::Required,
                parallel_tool_calls: false,
                ..options(&tools)
            };
            let mut streamed = request(required.clone());
            streamed.sampling.seed = Some(seed);
            streamed.n = 2;
            let mut whole = streamed.clone();
            whole.parts = Some(PartOptions {
                whole_calls: true,
                ..required
            });
            let streamed = answers(&engine, streamed).await.unwrap();
            let whole = answers(&engine, whole).await.unwrap();
            assert_eq!(streamed.len(), 2);
            for (streamed, whole) in streamed.iter().zip(&whole) {
                assert_eq!(streamed.said(), whole.said(), "{format:?}");
                assert_eq!(streamed.token_ids, whole.token_ids);
                assert_eq!(streamed.end().reason, FinishReason::Stop, "{streamed:?}");
                assert_eq!(
                    (&*streamed.text, streamed.calls.len()),
                    ("", 1),
                    "{streamed:?}"
                );
                check(&streamed.calls[0], &tools);
                names.insert(streamed.calls[0].0.clone());
            }
        }
        println!("{format:?}: {names:?}");
    }
}

#[tokio::test]
async fn a_named_tool_is_called_once_and_no_other() {
    let tools = [weather(), sum()];
    let engine = builder().tool_format(Some("hermes".into()));
    let engine = engine.build().unwrap();
    for seed in 0..4 {
        let mut request = request(PartOptions {
            tool_choice: ToolChoice::Named("sum".into()),
            ..options(&tools)
        });
        request.sampling.seed = Some(seed);
        let answer = answer(&engine, request).await;
        assert_eq!(answer.calls.len(), 1, "{answer:?}");
        assert_eq!(answer.calls[0].0, "sum");
        check(&answer.calls[0], &tools);
    }
}

/// A call of a strict tool follows its schema even if the model makes it of its own accord.
#[tokio::test]
async fn a_strict_tool_is_called_by_its_schema() {
    let mut strict = sum();
    strict["strict"] = true.into();
    let engine = engine().build().unwrap();
    let open = crate::toy::tokenizer()
        .special_token_id("<tool_call>")
        .unwrap();
    for (tool, follows) in [(strict, true), (sum(), false)] {
        let mut request = request(options(std::slice::from_ref(&tool)));
        request.sampling.logit_bias = vec![(open, 12.0)];
        request.stopping.max_tokens = Some(60);
        let answer = answer(&engine, request).await;
        assert_eq!(answer.calls.is_empty(), !follows, "{answer:?}");
        for call in answer.calls.iter().filter(|(_, it)| it.ends_with('}')) {
            check(call, std::slice::from_ref(&tool));
        }
    }
}

#[tokio::test]
async fn a_thought_comes_before_a_required_call() {
    let engine = engine().build().unwrap();
    let id = |mark: &str| crate::toy::tokenizer().special_token_id(mark).unwrap();
    let mut required = request(PartOptions {
        tool_choice: ToolChoice::Required,
        parallel_tool_calls: false,
        ..options(&[sum()])
    });
    // The model would rather not think, and if it does not stop.
    required.sampling.logit_bias = vec![(id("<think>"), 100.0), (id("</think>"), 14.0)];
    let answer = answer(&engine, required).await;
    println!("{answer:?}");
    assert!(!answer.thought.is_empty(), "{answer:?}");
    assert_eq!((&*answer.text, answer.calls.len()), ("", 1), "{answer:?}");
    check(&answer.calls[0], &[sum()]);
    assert!(answer.end().usage.reasoning_tokens > 0);
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused_by_name() {
    let engine = engine().build().unwrap();
    let with = |change: fn(&mut GenerateRequest)| {
        let mut request = request(options(&[weather()]));
        change(&mut request);
        request
    };
    let choose = |request: &mut GenerateRequest, choice| {
        request.parts.as_mut().unwrap().tool_choice = choice;
    };
    let mut unknown = with(|_| {});
    choose(&mut unknown, ToolChoice::Named("sum".into()));
    let mut without = with(|it| it.parts.as_mut().unwrap().tools = Arc::default());
    choose(&mut without, ToolChoice::Required);
    let mut both = with(|it| it.grammar = Some(GrammarSpec::Regex("a+".into()).into()));
    choose(&mut both, ToolChoice::Required);
    let strict = with(|it| {
        let tool = Tool {
            name: "f".into(),
            description: None,
            parameters: json!({"properties": {"a": {"$ref": "https://example.com/x"}}})
                .as_object()
                .unwrap()
                .clone(),
            strict: true,
        };
        it.parts.as_mut().unwrap().tools = Arc::new(Tools::new(vec![tool]).unwrap());
    });
    for (request, field) in [
        (unknown, "parts.tool_choice"),
        (without, "parts.tool_choice"),
        (both, "parts.tool_choice"),
        (strict, "parts.tools"),
    ] {
        let error = answers(&engine, request).await.unwrap_err();
        let EngineError::Invalid { violations } = &error else {
            panic!("{error}");
        };
        let fields: Vec<&str> = violations.iter().map(|it| it.field.as_str()).collect();
        assert_eq!(fields, [field], "{error}");
        println!("{error}");
    }
    // A form of the request's own goes with a choice that leaves the model free.
    let mut free = with(|it| it.grammar = Some(GrammarSpec::Regex("a{3}".into()).into()));
    choose(&mut free, ToolChoice::Auto);
    assert_eq!(answer(&engine, free).await.text, "aaa");
}

/// What a schema says that the grammar does not know is no reason to refuse a tool that is not strict.
#[tokio::test]
async fn a_schema_that_is_too_much_is_left_to_the_model() {
    let engine = builder().build().unwrap();
    let tool = json!({"name": "f", "parameters": {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}});
    let request = request(PartOptions {
        tool_choice: ToolChoice::Required,
        parallel_tool_calls: false,
        ..options(&[tool])
    });
    let answer = answer(&engine, request).await;
    assert_eq!(answer.calls.len(), 1, "{answer:?}");
    assert_eq!(answer.calls[0].0, "f");
}

#[test]
fn formats_are_chosen_by_name_and_others_are_refused() {
    let info = |builder: EngineBuilder| {
        let engine = builder.build().unwrap();
        let info = engine.info();
        let names = (
            info.tool_format.map(|it| it.name),
            info.reasoning_format.map(|it| it.name),
        );
        (names, info.to_string())
    };
    // The bundled model's template knows neither.
    assert_eq!(info(builder()).0, (None, None));
    let (names, banner) = info(engine());
    assert_eq!(names, (Some("hermes"), Some("think")));
    assert!(
        banner.contains("formats: tool calls hermes, thoughts think"),
        "{banner}"
    );
    let none = engine().tool_format(Some("none".into()));
    assert_eq!(info(none).0, (None, Some("think")));
    for (builder, flag) in [
        (builder().tool_format(Some("toml".into())), "--tool-format"),
        (
            builder().reasoning_format(Some("".into())),
            "--reasoning-format",
        ),
    ] {
        let error = builder.build().unwrap_err();
        let StartError::Setting {
            setting, expected, ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(*setting, flag);
        assert!(expected.contains("harmony, "), "{error}");
    }
}
