//! Messages that are too large, or not what they say they are.

use bytes::Bytes;
use futures_util::future::join_all;
use maitre_proto::v1::{ChatMessage, SamplingParams, StoppingParams, StreamChatRequest, Tool};
use prost::Message;
use tokio::time::sleep;

use crate::texts;

use super::super::door::{CHAT, READS, RETRY, framed};
use super::{Arena, Attack, Attacking};

pub(super) const ATTACKS: [Attack; 2] = [
    Attack::new(
        "oversized-messages",
        "4 senders: messages of 64 MiB, and such that only say they are",
        |arena| send(arena, 4, oversized()),
    ),
    Attack::new(
        "mutated-messages",
        "4 senders: 1,000 chats with some bytes changed",
        |arena| send(arena, 4, mutated()),
    ),
];

/// Each sender goes through all messages, again and again.
fn send(arena: Arena, senders: usize, messages: Vec<Bytes>) -> Attacking {
    Box::pin(async move {
        let messages = &messages;
        join_all((0..senders).map(|sender| {
            let arena = &arena;
            async move {
                loop {
                    let door = arena.door(READS).await;
                    for message in messages.iter().cycle().skip(sender) {
                        let Ok(call) = door.call(CHAT, message.clone()).await else {
                            break;
                        };
                        arena.tally.count(&call.answer().await.status);
                        sleep(RETRY / 20).await;
                    }
                    arena.tally.count("connection lost");
                    sleep(RETRY).await;
                }
            }
        }))
        .await;
        Ok(())
    })
}

fn oversized() -> Vec<Bytes> {
    let whole = framed(&vec![b'x'; 64 << 20]);
    // The prefix promises 4 GiB, and a little comes.
    let promised = Bytes::from_static(&[0, 255, 255, 255, 255, 1, 2, 3]);
    // Compressed in a way that was not announced.
    let compressed = Bytes::from_static(&[1, 0, 0, 0, 3, 1, 2, 3]);
    vec![whole, promised, compressed]
}

fn mutated() -> Vec<Bytes> {
    let chat = StreamChatRequest {
        messages: vec![ChatMessage {
            role: "user".to_owned(),
            content: "What is the weather like?".to_owned(),
            ..Default::default()
        }],
        tools: vec![Tool {
            name: "weather".to_owned(),
            parameters_json: r#"{"type":"object","properties":{"city":{"type":"string"}}}"#
                .to_owned(),
            ..Default::default()
        }],
        sampling: Some(SamplingParams {
            temperature: Some(0.5),
            seed: Some(7),
            n: Some(2),
            ..Default::default()
        }),
        stopping: Some(StoppingParams {
            max_tokens: Some(8),
            stop: vec!["end".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let chat = chat.encode_to_vec();
    let mut bits = texts::random(17);
    let mut next = move || bits.next().unwrap_or_default() as usize;
    let mutate = |_| {
        let mut message = chat.clone();
        for _ in 0..=next() % 4 {
            let at = next() % message.len();
            message[at] = next() as u8;
        }
        framed(&message)
    };
    (0..1000).map(mutate).collect()
}
