//! Ending other tenants' answers: by ids predicted from one's own, by ids that callers are likely to use, and by
//! taking such an id before its owner does.

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use maitre_proto::v1::stream_generate_request::Input;
use maitre_proto::v1::{
    ServiceOptions, StoppingParams, StreamGenerateRequest, StreamGenerateResponse,
};
use prost::Message;
use tokio::time::sleep;

use super::super::door::{ABORT, Door, GENERATE, READS, RETRY, framed};
use super::super::honest::request_names;
use super::predicted::Sequence;
use super::{Arena, Attack, Attacking};

pub(super) const ATTACK: Attack = Attack::new(
    "id-guessing",
    "aborts of guessed and predicted ids, and requests under another tenant's id",
    |arena| attack(arena, true),
)
.beside(|arena| attack(arena, false));

/// Without `guesses`, the same number of requests under names of its own.
fn attack(arena: Arena, guesses: bool) -> Attacking {
    Box::pin(async move {
        loop {
            let door = arena.door(READS).await;
            if let Err(error) = guess(&arena, &door, guesses).await {
                arena.tally.count(format!("broken off: {error:#}"));
            }
            sleep(RETRY).await;
        }
    })
}

const TENANT: &str = "attacker";
/// Requests before and after the newest own one whose ids are tried.
const AROUND: u64 = 32;

/// Guesses until the connection fails.
async fn guess(arena: &Arena, door: &Door, guesses: bool) -> Result<()> {
    let mut likely: Vec<String> = request_names(arena.target.neighbours).collect();
    if !guesses {
        likely.iter_mut().for_each(|name| name.insert_str(0, "my-"));
    }
    let mut last: Option<u64> = None;
    loop {
        let newest = own_id(door).await?;
        let predicted = match (last, newest) {
            (Some(before), Some(after)) if guesses => Sequence::from_two(before, after),
            _ => None,
        };
        if predicted.is_some() {
            arena.tally.count("ids predicted");
        }
        let around = predicted
            .iter()
            .flat_map(|sequence| sequence.around(AROUND));
        let ids: Vec<String> = around.map(name).chain(likely.iter().cloned()).collect();
        for ended in join_all(ids.iter().map(|id| abort(door, id))).await {
            if ended? {
                arena.tally.count("aborted");
            }
        }
        for taken in join_all(likely.iter().map(|id| request(door, id))).await {
            arena.tally.count(taken?.0);
        }
        last = newest;
        sleep(RETRY / 2).await;
    }
}

/// An id in the form of those that a server made up, `req-` and 16 hexadecimal digits.
fn name(id: u64) -> String {
    format!("req-{id:016x}")
}

/// The id that the server made up for a request, as a number.
async fn own_id(door: &Door) -> Result<Option<u64>> {
    let (status, id) = request(door, "").await?;
    ensure!(status == "OK", "an own request ended with {status}");
    let digits = id.strip_prefix("req-").unwrap_or_default();
    Ok(u64::from_str_radix(digits, 16).ok())
}

/// A short request under an id: its status and the id it got.
async fn request(door: &Door, id: &str) -> Result<(String, String)> {
    let request = StreamGenerateRequest {
        request_id: id.to_owned(),
        input: Some(Input::Text("Once".to_owned())),
        stopping: Some(StoppingParams {
            max_tokens: Some(1),
            ..Default::default()
        }),
        service: Some(ServiceOptions {
            tenant: TENANT.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let call = door
        .call(GENERATE, framed(&request.encode_to_vec()))
        .await?;
    let answer = call.answer().await;
    let id = first_message(&answer.body).map_or_else(String::new, |first| first.request_id);
    Ok((answer.status, id))
}

fn first_message(body: &[u8]) -> Option<StreamGenerateResponse> {
    let (prefix, messages) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?) as usize;
    StreamGenerateResponse::decode(messages.get(..length)?).ok()
}

/// Whether a request of this id was ended.
async fn abort(door: &Door, id: &str) -> Result<bool> {
    // AbortRequest { request_id } of the first version of the contract.
    let length = u8::try_from(id.len()).context("a short id")?;
    let message = [&[0x0a, length], id.as_bytes()].concat();
    let answer = door.call(ABORT, framed(&message)).await?.answer().await;
    // AbortResponse { aborted: true }.
    Ok(answer.status == "OK" && answer.body.ends_with(&[8, 1]))
}
