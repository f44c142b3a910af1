//! Tools over gRPC: calls in whole answers and in streams.

use maitre_proto::v1;
use v1::stream_chat_response::Event;

use crate::test_server::{TestServer, fields};

fn request(choice: v1::tool_choice::Choice) -> v1::ChatRequest {
    v1::ChatRequest {
        messages: vec![v1::ChatMessage {
            role: "user".into(),
            content: "How warm will it be in Oslo?".into(),
            ..Default::default()
        }],
        tools: vec![v1::Tool {
            name: "weather".into(),
            parameters_json:
                r#"{"type": "object", "properties": {"city": {"enum": ["Bonn", "Oslo"]}},
                "required": ["city"], "additionalProperties": false}"#
                    .into(),
            ..Default::default()
        }],
        tool_choice: Some(v1::ToolChoice {
            choice: Some(choice),
        }),
        parallel_tool_calls: Some(false),
        sampling: Some(v1::SamplingParams {
            seed: Some(3),
            ..Default::default()
        }),
        stopping: Some(v1::StoppingParams {
            max_tokens: Some(100),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn streamed(request: v1::ChatRequest) -> v1::StreamChatRequest {
    v1::StreamChatRequest {
        messages: request.messages,
        tools: request.tools,
        tool_choice: request.tool_choice,
        parallel_tool_calls: request.parallel_tool_calls,
        sampling: request.sampling,
        stopping: request.stopping,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_required_call_is_made_whole_and_streamed() {
    let served = TestServer::open().await;
    let required = v1::tool_choice::Choice::Mode(v1::ToolChoiceMode::Required.into());
    let whole = served.generation().chat(request(required.clone())).await;
    let whole = whole.unwrap().into_inner().answers.remove(0);
    assert_eq!(
        (whole.finish_reason(), &*whole.text),
        (v1::FinishReason::Stop, "")
    );
    assert_eq!(whole.tool_calls.len(), 1);
    let called = &whole.tool_calls[0];
    assert_eq!(called.name, "weather");
    let arguments: serde_json::Value = serde_json::from_str(&called.arguments_json).unwrap();
    assert!(["Bonn", "Oslo"].contains(&arguments["city"].as_str().unwrap()));
    assert!(called.id.starts_with("call_"), "{}", called.id);

    let stream = served
        .generation()
        .stream_chat(streamed(request(required)))
        .await;
    let mut stream = stream.unwrap().into_inner();
    let (mut text, mut arguments, mut begun, mut end) = (String::new(), String::new(), 0, None);
    while let Some(message) = stream.message().await.unwrap() {
        match message.event {
            Some(Event::Delta(delta)) => {
                text += &delta.text;
                let Some(call) = delta.tool_call else {
                    continue;
                };
                assert_eq!(call.index, 0);
                assert_eq!(call.name.is_empty(), call.id.is_empty());
                begun += usize::from(!call.name.is_empty());
                arguments += &call.arguments_json;
            }
            Some(Event::Finished(finished)) => end = Some(finished.finish_reason()),
            _ => {}
        }
    }
    assert_eq!((&*text, begun, end), ("", 1, Some(v1::FinishReason::Stop)));
    assert_eq!(arguments, called.arguments_json);
}

#[tokio::test]
async fn what_cannot_be_asked_of_tools_is_refused_by_name() {
    let served = TestServer::open().await;
    let unknown = v1::tool_choice::Choice::Name("now".into());
    let status = served
        .generation()
        .chat(request(unknown))
        .await
        .unwrap_err();
    assert_eq!(fields(&status), ["tool_choice"]);
    let mut both = request(v1::tool_choice::Choice::Name("weather".into()));
    both.constraint = Some(v1::ConstraintOptions {
        form: Some(v1::constraint_options::Form::Regex("a+".into())),
        ..Default::default()
    });
    let status = served.generation().chat(both).await.unwrap_err();
    assert_eq!(fields(&status), ["tool_choice"]);
}
