//! Messages that are small to send and large to look at.

use bytes::Bytes;
use futures_util::future::join_all;
use maitre_proto::v1::stream_generate_request::Input;
use maitre_proto::v1::{
    ChatMessage, SamplingParams, StoppingParams, StreamChatRequest, StreamGenerateRequest,
    TokenizeRequest, Tool, ToolCall,
};
use prost::Message;
use tokio::time::sleep;

use crate::texts;

use super::super::door::{CHAT, GENERATE, READS, RETRY, TOKENIZE, framed};
use super::{Arena, Attack, Attacking};

pub(super) const ATTACKS: [Attack; 8] = [
    Attack::new(
        "empty-messages",
        "3 senders: chats of 500,000 empty messages, 4 MB each",
        |arena| send(arena, CHAT, 3, empty_messages()),
    ),
    Attack::new(
        "tool-calls",
        "8 senders: a message with 2,000,000 empty tool calls, 4 MB each",
        |arena| send(arena, CHAT, 8, tool_calls()),
    ),
    Attack::new(
        "tool-schema",
        "3 senders: a tool whose schema holds 1,300,000 empty lists",
        |arena| send(arena, CHAT, 3, tool_schema()),
    ),
    Attack::new(
        "template-kwargs",
        "3 senders: template variables of 1,300,000 empty lists",
        |arena| send(arena, CHAT, 3, template_kwargs()),
    ),
    Attack::new(
        "long-prompts",
        "8 senders: 4 MB of text to tokenize, far above the context",
        |arena| send(arena, GENERATE, 8, long_prompt()),
    ),
    Attack::new(
        "small-texts",
        "one connection: 400 texts of 4 KB to tokenize at a time",
        |arena| send_at_once(arena, TOKENIZE, 400, text(4050)),
    ),
    Attack::new(
        "large-texts",
        "one connection: 400 texts of 250 KB to tokenize at a time",
        |arena| send_at_once(arena, TOKENIZE, 400, text(250_000)),
    ),
    Attack::new(
        "stop-strings",
        "32 calls: 64 stop strings of 1,024 bytes, 16 answers each",
        |arena| send(arena, GENERATE, 32, stop_strings(64)),
    )
    .beside(|arena| send(arena, GENERATE, 32, stop_strings(0))),
];

/// `senders` connections that send the same message again and again, one call at a time each.
fn send(arena: Arena, path: &'static str, senders: usize, message: Bytes) -> Attacking {
    Box::pin(async move {
        join_all((0..senders).map(|_| async {
            loop {
                let door = arena.door(READS).await;
                while let Ok(call) = door.call(path, message.clone()).await {
                    let answer = call.answer().await;
                    arena.tally.count(&answer.status);
                    if answer.status == "RESOURCE_EXHAUSTED" {
                        sleep(RETRY).await;
                    }
                }
                arena.tally.count("connection lost");
                sleep(RETRY).await;
            }
        }))
        .await;
        Ok(())
    })
}

/// One connection that keeps so many calls with the same message under way.
fn send_at_once(arena: Arena, path: &'static str, calls: usize, message: Bytes) -> Attacking {
    Box::pin(async move {
        loop {
            let door = arena.door(READS).await;
            join_all((0..calls).map(|_| async {
                while let Ok(call) = door.call(path, message.clone()).await {
                    let answer = call.answer().await;
                    arena.tally.count(&answer.status);
                    if answer.status == "RESOURCE_EXHAUSTED" {
                        sleep(RETRY).await;
                    }
                }
            }))
            .await;
            arena.tally.count("connection lost");
            sleep(RETRY).await;
        }
    })
}

fn user(content: &str) -> ChatMessage {
    ChatMessage {
        role: "user".to_owned(),
        content: content.to_owned(),
        ..Default::default()
    }
}

fn empty_messages() -> Bytes {
    framed(
        &StreamChatRequest {
            messages: vec![user(""); 500_000],
            ..Default::default()
        }
        .encode_to_vec(),
    )
}

fn tool_calls() -> Bytes {
    let message = ChatMessage {
        tool_calls: vec![ToolCall::default(); 2_000_000],
        ..user("hello")
    };
    let request = StreamChatRequest {
        messages: vec![message],
        ..Default::default()
    };
    framed(&request.encode_to_vec())
}

fn text(bytes: usize) -> Bytes {
    let request = TokenizeRequest {
        text: "once upon a time ".repeat(bytes / 17),
        ..Default::default()
    };
    framed(&request.encode_to_vec())
}

/// `{"a":[[],[],…]}`.
fn empty_lists() -> String {
    let mut json = "[],".repeat(1_300_000);
    json.truncate(json.len() - 1);
    format!("{{\"a\":[{json}]}}")
}

fn tool_schema() -> Bytes {
    framed(
        &StreamChatRequest {
            messages: vec![user("hello")],
            tools: vec![Tool {
                name: "tool".to_owned(),
                parameters_json: empty_lists(),
                ..Default::default()
            }],
            ..Default::default()
        }
        .encode_to_vec(),
    )
}

fn template_kwargs() -> Bytes {
    framed(
        &StreamChatRequest {
            messages: vec![user("hello")],
            template_kwargs_json: empty_lists(),
            ..Default::default()
        }
        .encode_to_vec(),
    )
}

fn long_prompt() -> Bytes {
    framed(
        &StreamGenerateRequest {
            input: Some(Input::Text("a long way to go ".repeat(240_000))),
            ..Default::default()
        }
        .encode_to_vec(),
    )
}

/// A request of 16 answers with `count` stop strings of the greatest length.
fn stop_strings(count: usize) -> Bytes {
    let mut bits = texts::random(13);
    let mut letters = move || (b'a' + bits.next().unwrap_or_default() as u8 % 26) as char;
    let stop = (0..count).map(|_| (0..1024).map(|_| letters()).collect());
    framed(
        &StreamGenerateRequest {
            input: Some(Input::Text("Once".to_owned())),
            sampling: Some(SamplingParams {
                n: Some(16),
                ..Default::default()
            }),
            stopping: Some(StoppingParams {
                stop: stop.collect(),
                max_tokens: Some(64),
                ignore_eos: true,
                ..Default::default()
            }),
            ..Default::default()
        }
        .encode_to_vec(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One byte more and the message would be refused for its size, which is another attack.
    #[test]
    fn the_messages_fit_the_servers_limit() {
        for message in [
            empty_messages(),
            tool_schema(),
            template_kwargs(),
            long_prompt(),
        ] {
            assert!((3_800_000..4 << 20).contains(&message.len()));
        }
        assert_eq!(empty_messages().len(), 5 + 8 * 500_000);
        assert!(stop_strings(64).len() > 64 << 10);
    }
}
