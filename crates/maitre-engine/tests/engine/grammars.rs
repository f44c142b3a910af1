//! Structured output on the bundled model: whatever is drafted, and in whatever company, an answer under a grammar is the
//! same, bit for bit, and is what was asked for.

use maitre_engine::{
    Engine, EngineBuilder, EngineError, FinishReason, GenerateRequest, GrammarOptions, GrammarSpec,
    Input, JsonWhitespace, ModelSource, Speculate, StructuralTag, Tag, Violation,
};
use serde_json::Value;

use crate::bundled::builder;
use crate::toy::{Answer, answer, answers, idle};

const PERSON: &str = r#"{"type":"object","properties":{"name":{"type":"string","maxLength":12},"age":{"type":"integer","minimum":0,"maximum":130},"tags":{"type":"array","items":{"enum":["red","green","blue"]},"maxItems":3}},"required":["name","age","tags"],"additionalProperties":false}"#;

fn schema(schema: &str, whitespace: JsonWhitespace) -> GrammarSpec {
    GrammarSpec::JsonSchema {
        schema: schema.to_owned(),
        whitespace,
    }
}

fn with_draft(speculate: Speculate) -> EngineBuilder {
    let draft = &maitre_bundled::DRAFT;
    let source = ModelSource::Memory {
        name: draft.name,
        files: draft.files,
    };
    builder().speculate(speculate).draft_model(Some(source))
}

fn request(of: u64, grammar: impl Into<GrammarOptions>) -> GenerateRequest {
    let prompt = format!("Here are the data of person number {of}, as JSON:\n");
    let mut request = GenerateRequest::new(Input::Text(prompt));
    request.sampling.temperature = Some([0.0, 0.8, 1.3][of as usize % 3]);
    request.sampling.seed = Some(of);
    request.stopping.max_tokens = Some(96);
    request.output.logprobs = Some(2);
    request.grammar = Some(grammar.into());
    request
}

/// Requests of every kind, with what makes an answer end.
fn requests() -> Vec<GenerateRequest> {
    let specs = [
        schema(PERSON, JsonWhitespace::Compact),
        schema(PERSON, JsonWhitespace::Flexible),
        GrammarSpec::Regex(r"[a-z]{3,9}( [a-z]{2,8}){2,5}\.".into()),
        GrammarSpec::Choice(vec!["maybe later".into(), "certainly not".into()]),
        GrammarSpec::Grammar(
            "start: \"[\" NUMBER (\", \" NUMBER)* \"]\"\nNUMBER: /[0-9]{1,4}/\n".into(),
        ),
        GrammarSpec::JsonObject {
            whitespace: JsonWhitespace::Compact,
        },
    ];
    let mut requests = Vec::new();
    for (of, spec) in (0..).zip(specs.iter().cycle().take(18)) {
        let mut request = request(of, spec.clone());
        match of % 9 {
            4 => request.stopping.stop = vec!["e".into()],
            5 => request.stopping.min_tokens = 20,
            6 => request.stopping.max_tokens = Some(5),
            7 => request.sampling.repetition_penalty = Some(1.2),
            8 => request.n = 2,
            _ => {}
        }
        requests.push(request);
    }
    let mut thinking = request(3, specs[0].clone());
    thinking.grammar = Some(GrammarOptions {
        spec: specs[0].clone(),
        reasoning_end: Some("the".into()),
    });
    requests.push(thinking);
    requests
}

async fn all(engine: &Engine) -> Vec<Answer> {
    let mut generations = Vec::new();
    for request in requests() {
        generations.push(engine.generate(request).await.unwrap());
    }
    let mut all = Vec::new();
    for generation in generations {
        all.extend(answers(generation).await.unwrap());
    }
    idle(engine).await;
    all
}

fn said(answer: &Answer) -> (&str, &[u32], &[(u32, u32)], FinishReason) {
    (
        &answer.text,
        &answer.token_ids,
        &answer.logprobs,
        answer.reason,
    )
}

#[tokio::test]
async fn answers_are_the_same_whatever_is_drafted() {
    let plain = builder()
        .speculate(Speculate::Off)
        .max_seqs(1)
        .build()
        .unwrap();
    let expected = all(&plain).await;
    for speculate in [
        Speculate::Ngram,
        Speculate::Suffix,
        Speculate::Draft,
        Speculate::Auto,
    ] {
        let engine = with_draft(speculate).build().unwrap();
        let found = all(&engine).await;
        let mut drafted = 0;
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(said(found), said(expected), "{speculate:?}");
            drafted += found.end.usage.accepted_tokens;
        }
        println!("{speculate:?}: {drafted} drafted tokens accepted");
        assert!(drafted > 20, "{speculate:?}: {drafted}");
    }
    for answer in &expected {
        println!("{:?} {}", answer.reason, answer.text);
    }
    assert!(expected.len() > 18);
}

#[tokio::test]
async fn answers_are_what_was_asked_for() {
    let engine = builder().build().unwrap();
    let mut complete = 0;
    for of in 0..12 {
        let spec = schema(PERSON, JsonWhitespace::Compact);
        let generation = engine.generate(request(of, spec)).await.unwrap();
        let answer = answer(generation).await.unwrap();
        if answer.reason != FinishReason::Stop {
            assert_eq!(answer.reason, FinishReason::Length);
            continue;
        }
        complete += 1;
        let value: Value = serde_json::from_str(&answer.text).unwrap();
        assert!(
            (0..=130).contains(&value["age"].as_i64().unwrap()),
            "{value}"
        );
        assert!(value["name"].as_str().unwrap().chars().count() <= 12);
        assert!(value["tags"].is_array());
    }
    assert!(complete >= 10, "{complete}");
    let tag = StructuralTag {
        tags: vec![Tag {
            begin: "<f>".into(),
            schema: "{\"type\":\"integer\"}".into(),
            end: "</f>".into(),
        }],
        triggers: vec!["<f>".into()],
    };
    let mut forced = request(1, GrammarSpec::StructuralTag(tag));
    forced.input = Input::Text("Say <f>".into());
    let text = answer(engine.generate(forced).await.unwrap())
        .await
        .unwrap()
        .text;
    for part in text.split("<f>").skip(1) {
        let number: String = part
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '-')
            .collect();
        assert!(
            part.is_empty() || part == "-" || !number.is_empty(),
            "{text}"
        );
    }
}

/// The prompt says that the model does not reason: the form holds from the first token.
#[tokio::test]
async fn reasoning_that_is_over_does_not_come_first() {
    let engine = builder().build().unwrap();
    let options = |end: &str| GrammarOptions {
        spec: GrammarSpec::Choice(vec!["yes".into(), "no".into()]),
        reasoning_end: Some(end.into()),
    };
    let mut over = request(0, options("</think>"));
    over.input = Input::Text("<think>\n\n</think>\n\n".into());
    let found = answer(engine.generate(over).await.unwrap()).await.unwrap();
    assert!(
        ["yes", "no"].contains(&found.text.as_str()),
        "{}",
        found.text
    );

    let mut first = request(0, options("e"));
    first.stopping.max_tokens = Some(200);
    let found = answer(engine.generate(first).await.unwrap()).await.unwrap();
    let (thought, said) = found.text.split_once('e').unwrap();
    assert!(!thought.is_empty());
    assert!(["yes", "no"].contains(&said.trim()), "{}", found.text);
}

#[tokio::test]
async fn a_grammar_that_is_wrong_is_refused_before_the_queue() {
    let engine = builder().build().unwrap();
    let mut handle = request(0, GrammarSpec::Regex("a".into()));
    handle.constraint = Some(maitre_engine::ConstraintHandle::new(
        crate::allowed_ids::only(&[1]),
    ));
    let long = GrammarOptions {
        spec: GrammarSpec::Regex("a".into()),
        reasoning_end: Some("x".repeat(2000)),
    };
    for (request, field, part) in [
        (
            request(0, schema("{\"not\":{}}", JsonWhitespace::Flexible)),
            "grammar.json_schema",
            "not",
        ),
        (
            request(0, GrammarSpec::Regex("(".into())),
            "grammar.regex",
            "regular expression",
        ),
        (
            request(0, GrammarSpec::Choice(vec![])),
            "grammar.choice",
            "empty",
        ),
        (
            request(0, GrammarSpec::Grammar("x".into())),
            "grammar.grammar",
            "is not a grammar",
        ),
        (handle, "grammar", "one of the two"),
        (request(0, long), "grammar.reasoning_end", "2000 bytes"),
    ] {
        for refused in [
            engine.check(request.clone()).await.unwrap_err(),
            engine.generate(request.clone()).await.unwrap_err(),
        ] {
            let EngineError::Invalid { violations } = refused else {
                panic!("{refused:?}");
            };
            let [
                Violation {
                    field: found,
                    description,
                },
            ] = &violations[..]
            else {
                panic!("{violations:?}");
            };
            assert_eq!(found, field);
            assert!(description.contains(part), "{description}");
        }
    }
    idle(&engine).await;
}
