//! What a model's text files may leave out, contradict or get wrong, and what the engine makes of it: the
//! bundled model with other files.

use crate::toy::{answer, tokens_request};
use maitre_engine::{
    ChatMessage, ChatRequest, Engine, EngineBuilder, EngineError, FinishReason, GenerateRequest,
    Input, Matched, ModelSource, Role, Speculate, StartError, check_files,
};
use serde_json::{Value, json};

/// A file's name and content.
type File = (&'static str, String);

const END_OF_TEXT: u32 = 0;
const IM_END: u32 = 2;
/// One more than the embedding's last row.
const BEYOND: u32 = 4096;

/// The bundled model with these files in place of its own; an empty one is left out.
fn start(changes: &[File]) -> Result<Engine, StartError> {
    builder(changes).build()
}

fn builder(changes: &[File]) -> EngineBuilder {
    Engine::builder(source(changes))
}

fn source(changes: &[File]) -> ModelSource {
    let kept = maitre_bundled::TARGET.files.iter().copied();
    let mut files: Vec<(&'static str, &'static [u8])> = kept
        .filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name))
        .collect();
    for (name, content) in changes.iter().filter(|(_, content)| !content.is_empty()) {
        files.push((name, content.clone().leak().as_bytes()));
    }
    ModelSource::Memory {
        name: "changed",
        files: files.leak(),
    }
}

fn bundled(file: &str) -> Value {
    serde_json::from_slice(maitre_bundled::TARGET.file(file).unwrap()).unwrap()
}

/// A bundled JSON file with these fields.
fn with(file: &'static str, fields: Value) -> File {
    let mut json = bundled(file);
    json.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    (file, json.to_string())
}

/// The bundled tokenizer with an added token for each of these ids.
fn with_added_tokens(ids: impl IntoIterator<Item = u32>) -> File {
    let mut json = bundled("tokenizer.json");
    let added = json["added_tokens"].as_array_mut().unwrap();
    added.extend(ids.into_iter().map(|id| {
        json!({"id": id, "content": format!("<pad{id}>"), "special": true, "normalized": false,
               "single_word": false, "lstrip": false, "rstrip": false})
    }));
    ("tokenizer.json", json.to_string())
}

fn eos(generation: Value, config: Value, tokenizer: Value) -> Vec<File> {
    vec![
        with(
            "generation_config.json",
            json!({"eos_token_id": generation}),
        ),
        with("config.json", json!({"eos_token_id": config})),
        with("tokenizer_config.json", json!({"eos_token": tokenizer})),
    ]
}

#[test]
fn the_tokenizers_end_of_sequence_ends_an_answer_too() {
    let end = "<|im_end|>";
    let map = |token: Value| {
        (
            "special_tokens_map.json",
            json!({"eos_token": token}).to_string(),
        )
    };
    let mut cases: Vec<(Vec<File>, &[u32])> = vec![
        (eos(json!(0), json!(0), json!(end)), &[END_OF_TEXT, IM_END]),
        (
            eos(json!([0]), json!(0), json!({"content": end})),
            &[END_OF_TEXT, IM_END],
        ),
        (eos(Value::Null, Value::Null, json!(end)), &[IM_END]),
        (eos(json!([]), json!([]), json!(end)), &[IM_END]),
        (
            eos(Value::Null, json!(0), json!(end)),
            &[END_OF_TEXT, IM_END],
        ),
        (
            eos(json!([2, 0]), json!(0), json!(end)),
            &[IM_END, END_OF_TEXT],
        ),
        // A token that the tokenizer does not have, and none at all: a warning each.
        (eos(json!(0), json!(0), json!("<|absent|>")), &[END_OF_TEXT]),
        (eos(Value::Null, Value::Null, Value::Null), &[]),
    ];
    let mut from_map = eos(json!(0), json!(0), Value::Null);
    from_map.push(map(json!({"content": end})));
    cases.push((from_map, &[END_OF_TEXT, IM_END]));
    let without_file = vec![
        ("generation_config.json", String::new()),
        with("config.json", json!({"eos_token_id": null})),
    ];
    cases.push((without_file, &[IM_END]));
    let without_config = vec![
        with("generation_config.json", json!({"eos_token_id": 0})),
        ("tokenizer_config.json", String::new()),
        map(json!(end)),
    ];
    cases.push((without_config, &[END_OF_TEXT, IM_END]));
    for (files, expected) in cases {
        let engine = start(&files).unwrap();
        assert_eq!(engine.info().eos_token_ids, expected);
    }
}

#[tokio::test]
async fn an_answer_ends_at_the_tokenizers_end_of_sequence() {
    let engine = start(&eos(json!(0), json!(0), json!("<|im_end|>"))).unwrap();
    let mut request = tokens_request(&[300, 301], 6);
    request.sampling.logit_bias = vec![(IM_END, 100.0)];
    let run = |request: &GenerateRequest| {
        let (engine, request) = (engine.clone(), request.clone());
        async move {
            answer(engine.generate(request).await.unwrap())
                .await
                .unwrap()
        }
    };
    let ended = run(&request).await;
    assert_eq!(
        (ended.token_ids, ended.reason),
        (vec![IM_END], FinishReason::Stop)
    );
    assert_eq!(ended.end.matched, Some(Matched::Token(IM_END)));
    request.stopping.min_tokens = 3;
    let ended = run(&request).await;
    assert_eq!(ended.token_ids.len(), 4);
    assert!(!ended.token_ids[..3].contains(&IM_END));
    request.stopping.min_tokens = 0;
    request.stopping.ignore_eos = true;
    let ended = run(&request).await;
    assert_eq!(
        (ended.token_ids, ended.reason),
        (vec![IM_END; 6], FinishReason::Length)
    );
}

fn chat(content: &str) -> ChatRequest {
    ChatRequest::new(vec![ChatMessage::new(Role::User, content)])
}

fn chat_with_tools() -> ChatRequest {
    let mut request = chat("hi");
    request.tools = vec![json!({"type": "function", "function": {"name": "f"}})];
    request
}

/// The field and description that `input` is refused with, if it is.
async fn refusal(engine: &Engine, input: Input) -> Option<(String, String)> {
    match engine.check(GenerateRequest::new(input)).await {
        Ok(()) => None,
        Err(EngineError::Invalid { violations }) => {
            assert_eq!(violations.len(), 1, "{violations:?}");
            Some((
                violations[0].field.clone(),
                violations[0].description.clone(),
            ))
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_bad_template_of_several_never_stops_the_start() {
    let list =
        |templates: Value| with("tokenizer_config.json", json!({"chat_template": templates}));
    let no_template = || with("tokenizer_config.json", json!({"chat_template": null}));
    let good = "{{ messages[0].content }}";
    let bad = "{% for x in %}";
    let tool_use = "additional_chat_templates/tool_use.jinja";
    // Files, then whether a plain chat and one with tools are served.
    let cases: Vec<(Vec<File>, bool, bool)> = vec![
        (
            vec![list(json!([{"name": "tool_use", "template": good}]))],
            false,
            true,
        ),
        (
            vec![list(json!([{"name": "rag", "template": good}]))],
            false,
            false,
        ),
        (
            vec![list(
                json!([{"name": "default", "template": good}, {"name": "tool_use", "template": bad}]),
            )],
            true,
            false,
        ),
        (
            vec![
                no_template(),
                ("chat_template.jinja", good.into()),
                (tool_use, bad.into()),
            ],
            true,
            false,
        ),
        (
            vec![
                no_template(),
                ("chat_template.jinja", bad.into()),
                (tool_use, good.into()),
            ],
            false,
            true,
        ),
        (vec![no_template(), (tool_use, good.into())], false, true),
        (
            vec![
                no_template(),
                (
                    "chat_template.json",
                    json!({"chat_template": good}).to_string(),
                ),
            ],
            true,
            true,
        ),
    ];
    for (files, plain, tools) in cases {
        let engine = start(&files).unwrap();
        assert!(engine.info().has_chat_template);
        for (chat, served) in [(chat("hi"), plain), (chat_with_tools(), tools)] {
            match refusal(&engine, Input::Chat(chat)).await {
                None => assert!(served, "{files:?}"),
                Some((field, description)) => {
                    assert!(!served, "{files:?}: {description}");
                    assert_eq!(field, "messages");
                    assert!(description.contains("chat template"), "{description}");
                }
            }
        }
        assert_eq!(refusal(&engine, Input::Text("hi".into())).await, None);
    }
}

#[tokio::test]
async fn an_added_token_beyond_the_embedding_is_refused_by_field_and_never_generated() {
    let template = "{{ messages[0].content }}<pad4096>";
    let files = [
        with_added_tokens([BEYOND]),
        with("tokenizer_config.json", json!({"chat_template": template})),
    ];
    let engine = start(&files).unwrap();
    assert_eq!(engine.info().vocab_size, 4096);
    assert_eq!(engine.tokenizer().num_tokens(), 4097);
    for (input, field) in [
        (Input::Tokens(vec![5, BEYOND]), "input.token_ids[1]"),
        (Input::Text("a <pad4096>".into()), "input.text"),
        (Input::Chat(chat("hi")), "messages"),
    ] {
        let (found, description) = refusal(&engine, input).await.unwrap();
        assert_eq!(found, field);
        assert!(
            description.contains("4096") && description.contains("4095"),
            "{description}"
        );
    }
    let biased = |bias| {
        let mut request = tokens_request(&[300, 301], 8);
        request.sampling.logit_bias = bias;
        request
    };
    for (request, field) in [
        (biased(vec![(BEYOND, 1.0)]), "sampling.logit_bias"),
        (
            {
                let mut request = biased(Vec::new());
                request.stopping.stop_token_ids = vec![BEYOND];
                request
            },
            "stopping.stop_token_ids[0]",
        ),
    ] {
        let Err(EngineError::Invalid { violations }) = engine.check(request).await else {
            panic!("{field} is not refused")
        };
        assert!(violations[0].field.starts_with(field), "{violations:?}");
    }
    let mut request = tokens_request(&[300, 301], 64);
    request.sampling.temperature = Some(2.0);
    request.sampling.seed = Some(1);
    request.output.logprobs = Some(20);
    let found = answer(engine.generate(request).await.unwrap())
        .await
        .unwrap();
    assert!(found.token_ids.iter().all(|&id| id < BEYOND));
}

#[test]
fn a_tokenizer_with_anything_else_beyond_the_embedding_is_another_models() {
    // More added tokens in a row are served, whether the vocabulary lists them too or not.
    let listed = |id: u32| {
        let mut json: Value = serde_json::from_str(&with_added_tokens([id]).1).unwrap();
        json["model"]["vocab"][format!("<pad{id}>")] = json!(id);
        ("tokenizer.json", json.to_string())
    };
    for tokenizer in [with_added_tokens(BEYOND..BEYOND + 5), listed(BEYOND)] {
        assert!(check_files(&source(std::slice::from_ref(&tokenizer))).is_ok());
        assert!(start(&[tokenizer]).is_ok());
    }
    // A gap is not, nor is a word of the vocabulary.
    let mut word = bundled("tokenizer.json");
    word["model"]["vocab"]["Ġunheard"] = json!(BEYOND);
    for tokenizer in [listed(BEYOND + 7), ("tokenizer.json", word.to_string())] {
        let checked = check_files(&source(std::slice::from_ref(&tokenizer))).map(drop);
        for refused in [checked, start(&[tokenizer]).map(drop)] {
            assert!(matches!(
                refused,
                Err(StartError::TokenizerBeyondVocabulary {
                    vocab_size: 4096,
                    ..
                })
            ));
        }
    }
}

/// A draft model needs the ids that its target can use, and no more.
#[tokio::test]
async fn a_draft_model_goes_with_a_tokenizer_that_has_ids_beyond_the_embedding() {
    let draft = ModelSource::Memory {
        name: maitre_bundled::DRAFT.name,
        files: maitre_bundled::DRAFT.files,
    };
    let engine = builder(&[with_added_tokens([BEYOND])])
        .draft_model(Some(draft))
        .speculate(Speculate::Draft)
        .build()
        .unwrap();
    let request = || tokens_request(&[300, 301], 24);
    let drafted = answer(engine.generate(request()).await.unwrap())
        .await
        .unwrap();
    let plain = start(&[]).unwrap();
    let plain = answer(plain.generate(request()).await.unwrap())
        .await
        .unwrap();
    assert_eq!(drafted.token_ids, plain.token_ids);
    assert!(drafted.end.usage.drafted_tokens > 0);
}

/// Models pad their embeddings to round sizes. Ids without a token are neither generated nor taken.
#[tokio::test]
async fn rows_beyond_the_tokenizer_are_never_generated() {
    let mut json = bundled("tokenizer.json");
    let merges = json["model"]["merges"].as_array_mut().unwrap();
    let last = merges.pop().unwrap();
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    let merged = match &last {
        Value::String(pair) => pair.replace(' ', ""),
        pair => format!("{}{}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
    };
    assert_eq!(vocab.remove(&merged), Some(json!(4095)));
    let engine = start(&[("tokenizer.json", json.to_string())]).unwrap();
    assert_eq!(engine.info().vocab_size, 4095);
    let (field, _) = refusal(&engine, Input::Tokens(vec![4095])).await.unwrap();
    assert_eq!(field, "input.token_ids[0]");
    let mut request = tokens_request(&[300, 301], 64);
    request.sampling.temperature = Some(2.0);
    request.sampling.seed = Some(3);
    let found = answer(engine.generate(request).await.unwrap())
        .await
        .unwrap();
    assert!(found.token_ids.iter().all(|&id| id < 4095));
}
