//! Requests given up as soon as their first token is there.

use futures_util::future::join_all;
use maitre_proto::v1::stream_generate_request::Input;
use maitre_proto::v1::{StoppingParams, StreamGenerateRequest};
use prost::Message;
use tokio::time::sleep;

use super::super::door::{GENERATE, READS, RETRY, framed};
use super::{Arena, Attack, Attacking};

/// At the same time; by the thousand in all.
const CALLERS: usize = 32;

pub(super) const ATTACK: Attack = Attack::new(
    "cancels",
    "32 callers that cancel each answer, by turns at once and at its first token",
    |arena| call(arena, true),
)
.beside(|arena| call(arena, false));

/// All callers ask one request after another, and cancel each or read all of it.
fn call(arena: Arena, cancels: bool) -> Attacking {
    Box::pin(async move {
        let request = StreamGenerateRequest {
            input: Some(Input::Text("Once upon a time".to_owned())),
            stopping: Some(StoppingParams {
                max_tokens: Some(1000),
                ignore_eos: true,
                ..Default::default()
            }),
            ..Default::default()
        };
        let message = framed(&request.encode_to_vec());
        join_all((0..CALLERS).map(|_| async {
            loop {
                let door = arena.door(READS).await;
                for turn in 0_u64.. {
                    let Ok(call) = door.call(GENERATE, message.clone()).await else {
                        break;
                    };
                    if !cancels {
                        arena.tally.count(&call.answer().await.status);
                        continue;
                    }
                    if turn.is_multiple_of(2) {
                        call.reset();
                        arena.tally.count("cancelled at once");
                        sleep(RETRY / 10).await;
                        continue;
                    }
                    match call.begun().await {
                        Ok(_dropped) => arena.tally.count("cancelled at its first part"),
                        Err(_refused) => {
                            arena.tally.count("refused");
                            sleep(RETRY).await;
                        }
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
