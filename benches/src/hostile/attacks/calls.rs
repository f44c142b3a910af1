//! Calls that take a place and never give it back: messages that don't end, answers that are not read.

use bytes::Bytes;
use futures_util::future::join_all;
use maitre_proto::v1::stream_generate_request::Input;
use maitre_proto::v1::{OutputOptions, StoppingParams, StreamGenerateRequest, TokenIds};
use prost::Message;
use tokio::time::sleep;

use super::super::door::{
    Door, GENERATE, HEALTH_CHECK, NEVER_READS, READS, RETRY, SERVER_INFO, framed,
};
use super::{Arena, Attack, Attacking};

/// What the server lets in at all: 128 that run, 1,024 that wait, 256 others.
const ALL_CALLS: usize = 1408;

pub(super) const ATTACKS: [Attack; 6] = [
    Attack::new(
        "headers-only",
        "1,408 calls over 2 connections: headers, but no message",
        |arena| {
            let plan = Plan {
                connections: 2,
                calls: ALL_CALLS,
                path: GENERATE,
                window: READS,
                message: Bytes::new(),
                is_complete: false,
            };
            occupy(arena, plan)
        },
    ),
    Attack::new(
        "unread-answers",
        "1,408 calls over 2 connections: short answers, never read (window 0)",
        |arena| occupy(arena, Plan::of_answers(NEVER_READS)),
    )
    .beside(|arena| occupy(arena, Plan::of_answers(READS))),
    Attack::new(
        "trickled-bodies",
        "192 calls over 8 connections: messages of 4 MiB that lack their last byte",
        |arena| {
            let plan = Plan {
                connections: 8,
                calls: 192,
                path: GENERATE,
                window: READS,
                message: all_but_the_end(),
                is_complete: false,
            };
            occupy(arena, plan)
        },
    ),
    Attack::new(
        "unread-prompt-scores",
        "128 calls over 2 connections: scores of 2,000 prompt tokens, never read (window 0)",
        |arena| occupy(arena, Plan::of_scores(NEVER_READS)),
    )
    .beside(|arena| occupy(arena, Plan::of_scores(READS))),
    Attack::new(
        "unread-health-checks",
        "400 connections with a health check each, never read (window 0)",
        |arena| occupy(arena, Plan::of_questions(HEALTH_CHECK)),
    ),
    Attack::new(
        "unread-server-info",
        "400 connections with a GetServerInfo each, never read (window 0)",
        |arena| occupy(arena, Plan::of_questions(SERVER_INFO)),
    ),
];

struct Plan {
    connections: usize,
    calls: usize,
    path: &'static str,
    window: u32,
    message: Bytes,
    is_complete: bool,
}

impl Plan {
    fn of_answers(window: u32) -> Self {
        Self {
            connections: 2,
            calls: ALL_CALLS,
            path: GENERATE,
            window,
            message: short_answer(),
            is_complete: true,
        }
    }

    /// Calls whose answers are short and there at once.
    fn of_questions(path: &'static str) -> Self {
        Self {
            connections: 400,
            calls: 400,
            path,
            window: NEVER_READS,
            message: framed(&[]),
            is_complete: true,
        }
    }

    fn of_scores(window: u32) -> Self {
        Self {
            connections: 2,
            calls: 128,
            path: GENERATE,
            window,
            message: prompt_scores(),
            is_complete: true,
        }
    }
}

/// Keeps so many calls under way; one that the server ends begins again.
fn occupy(arena: Arena, plan: Plan) -> Attacking {
    Box::pin(async move {
        let each = plan.calls / plan.connections;
        join_all((0..plan.connections).map(|_| async {
            loop {
                let door = arena.door(plan.window).await;
                join_all((0..each).map(|_| keep_one(&arena, &plan, &door))).await;
                arena
                    .tally
                    .count(format!("connection: {}", door.closed().await));
                sleep(RETRY).await;
            }
        }))
        .await;
        Ok(())
    })
}

/// Until the connection is gone.
async fn keep_one(arena: &Arena, plan: &Plan, door: &Door) {
    loop {
        let message = plan.message.clone();
        let call = if plan.is_complete {
            door.call(plan.path, message).await
        } else {
            door.call_unfinished(plan.path, message).await
        };
        let Ok(call) = call else { return };
        arena.tally.count("begun");
        let answer = call.answer().await;
        arena.tally.count(&answer.status);
        sleep(RETRY).await;
    }
}

fn short_answer() -> Bytes {
    framed(
        &StreamGenerateRequest {
            input: Some(Input::Text("Once".to_owned())),
            stopping: Some(StoppingParams {
                max_tokens: Some(4),
                ..Default::default()
            }),
            ..Default::default()
        }
        .encode_to_vec(),
    )
}

fn prompt_scores() -> Bytes {
    framed(
        &StreamGenerateRequest {
            input: Some(Input::TokenIds(TokenIds {
                ids: (0..2000).map(|at| 300 + at % 1000).collect(),
            })),
            stopping: Some(StoppingParams {
                max_tokens: Some(1),
                ..Default::default()
            }),
            output: Some(OutputOptions {
                prompt_logprobs: Some(20),
                ..Default::default()
            }),
            ..Default::default()
        }
        .encode_to_vec(),
    )
}

/// A message of 4 MiB without its last byte.
fn all_but_the_end() -> Bytes {
    let whole = framed(&vec![0; (4 << 20) - 5]);
    whole.slice(..whole.len() - 1)
}
