//! Structured output over the wire: what comes is what was asked for, and what cannot be had is refused by its field.

use maitre_proto::v1;
use v1::constraint_options::Form;

use crate::surroundings::get;
use crate::test_server::{TestServer, fields, reason, short_request, stream_of};

const SCHEMA: &str = r#"{"type":"object","properties":{"sky":{"enum":["blue","grey"]},"degrees":{"type":"integer","minimum":-9,"maximum":40}},"required":["sky","degrees"],"additionalProperties":false}"#;

fn constrained(form: Form, whitespace: v1::JsonWhitespace) -> v1::GenerateRequest {
    v1::GenerateRequest {
        constraint: Some(v1::ConstraintOptions {
            form: Some(form),
            json_whitespace: whitespace.into(),
            reasoning_end: String::new(),
        }),
        stopping: Some(v1::StoppingParams {
            max_tokens: Some(100),
            ..Default::default()
        }),
        ..short_request("The weather, as JSON: ")
    }
}

async fn text(served: &TestServer, request: v1::GenerateRequest) -> String {
    let response = served.generation().generate(request).await.unwrap();
    response.into_inner().answers.remove(0).text
}

#[tokio::test]
async fn answers_keep_to_their_form() {
    let served = TestServer::open().await;
    let compact = v1::JsonWhitespace::Compact;
    let answer = text(
        &served,
        constrained(Form::JsonSchema(SCHEMA.into()), compact),
    )
    .await;
    let value: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert!(
        (-9..=40).contains(&value["degrees"].as_i64().unwrap()),
        "{answer}"
    );
    assert!(["blue", "grey"].contains(&value["sky"].as_str().unwrap()));

    let texts = ["yes", "no"].map(String::from).to_vec();
    let choice = Form::Choice(v1::Choice {
        texts: texts.clone(),
    });
    let mut chosen = constrained(choice, compact);
    assert!(texts.contains(&text(&served, chosen.clone()).await));
    // In a conversation, too, and after reasoning, where the prompt ends behind it.
    let constraint = chosen.constraint.as_mut().unwrap();
    constraint.reasoning_end = "assistant".into();
    let chat = v1::ChatRequest {
        messages: vec![v1::ChatMessage {
            role: "user".into(),
            content: "Is it raining?".into(),
            ..Default::default()
        }],
        constraint: chosen.constraint,
        ..Default::default()
    };
    let response = served.generation().chat(chat).await.unwrap();
    let answer = response.into_inner().answers.remove(0).text;
    assert!(texts.contains(&answer), "{answer}");

    let page = get(served.http, "/metrics").await;
    for metric in [
        "maitre_grammar_compile_seconds_count",
        "maitre_constraint_mask_seconds_count",
    ] {
        assert!(page.contains(metric), "{metric}");
    }
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_by_its_field() {
    let served = TestServer::open().await;
    let flexible = v1::JsonWhitespace::Flexible;
    let none = v1::GenerateRequest {
        constraint: Some(v1::ConstraintOptions::default()),
        ..short_request("x")
    };
    let many = Form::Choice(v1::Choice {
        texts: vec![String::new(); 200_000],
    });
    for (request, field) in [
        (
            constrained(Form::JsonSchema("{\"not\": {}}".into()), flexible),
            "constraint.json_schema",
        ),
        (
            constrained(Form::Regex("(".into()), flexible),
            "constraint.regex",
        ),
        (
            constrained(Form::Grammar("?".into()), flexible),
            "constraint.grammar",
        ),
        (
            constrained(Form::JsonObject(false), flexible),
            "constraint.json_object",
        ),
        (
            constrained(Form::StructuralTag(v1::StructuralTag::default()), flexible),
            "constraint.structural_tag",
        ),
        (constrained(many, flexible), "constraint.choice"),
        (none, "constraint"),
    ] {
        let refused = served
            .generation()
            .generate(request.clone())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
        assert_eq!(fields(&refused), [field], "{}", reason(&refused));
        let streamed = served
            .generation()
            .stream_generate(stream_of(request))
            .await;
        assert_eq!(fields(&streamed.unwrap_err()), [field]);
    }
}
