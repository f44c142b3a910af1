//! Many users, each a tenant of its own with one request: a usual deployment that a fair policy must not starve.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use maitre_proto::v1::stream_generate_request::Input;
use maitre_proto::v1::{ServiceOptions, StoppingParams, StreamGenerateRequest};
use prost::Message;
use tokio::time::sleep;

use super::super::door::{GENERATE, READS, RETRY, framed};
use super::super::tally::Tally;
use super::{Arena, Attack, Attacking};

const USERS: usize = 30;
/// Times the median that the slowest of a hundred requests may take; requests that come first are served first.
const MOST_TIMES_THE_MEDIAN: u32 = 5;
/// Below this, a request is fast whatever the median.
const FAST: Duration = Duration::from_secs(1);

pub(super) const ATTACK: Attack = Attack::new(
    "one-request-tenants",
    "30 users under --policy fair, each request from a new tenant",
    |arena| ask(arena, |user, turn| format!("user-{user}-{turn}")),
)
.beside(|arena| ask(arena, |_, _| String::new()))
.with_flags(&["--policy", "fair", "--max-seqs", "8"]);

/// All users ask one request after another, each on the account of the tenant that `tenant_of` user and turn gives.
fn ask(arena: Arena, tenant_of: fn(usize, usize) -> String) -> Attacking {
    Box::pin(async move {
        join_all((0..USERS).map(|user| {
            let arena = &arena;
            async move {
                let door = arena.door(READS).await;
                for turn in 0.. {
                    let request = request(user, turn, tenant_of(user, turn));
                    let message = framed(&request.encode_to_vec());
                    let waits = Waits(Instant::now(), &arena.tally);
                    let Ok(call) = door.call(GENERATE, message).await else {
                        return arena.tally.count("connection lost");
                    };
                    arena.tally.count(&call.answer().await.status);
                    drop(waits);
                    sleep(RETRY / 10).await;
                }
            }
        }))
        .await;
        Ok(())
    })
}

/// Writes down how long a user waited, also one who still does when the attack is cut.
struct Waits<'a>(Instant, &'a Tally);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.1.took(self.0.elapsed());
    }
}

fn request(user: usize, turn: usize, tenant: String) -> StreamGenerateRequest {
    StreamGenerateRequest {
        input: Some(Input::Text(format!("User {user}, question {turn}"))),
        stopping: Some(StoppingParams {
            max_tokens: Some(16),
            ignore_eos: true,
            ..Default::default()
        }),
        service: Some(ServiceOptions {
            tenant,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Says how long the users waited, where an attack measured it, and whether some starved.
pub(super) fn judge(tally: &Tally) {
    let latencies = tally.latencies();
    let at = |share: f64| {
        let rank = (share * latencies.len() as f64).ceil() as usize;
        latencies.get(rank.max(1) - 1).copied()
    };
    let (Some(median), Some(p99)) = (at(0.5), at(0.99)) else {
        return;
    };
    tally.note(format!("E2E median {median:.0?}, p99 {p99:.0?}"));
    if p99 > (median * MOST_TIMES_THE_MEDIAN).max(FAST) {
        tally.fault(format!(
            "some users starve: p99 {p99:.0?} beside a median of {median:.0?}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_that_wait_for_long_are_a_fault() {
        let faults = |slowest: Duration| {
            let tally = Tally::default();
            (0..95).for_each(|_| tally.took(Duration::from_millis(26)));
            (0..5).for_each(|_| tally.took(slowest));
            judge(&tally);
            tally.gains().faults.len()
        };
        assert_eq!(faults(Duration::from_millis(11_600)), 1);
        assert_eq!(faults(Duration::from_millis(562)), 0);
    }

    #[test]
    fn without_users_there_is_nothing_to_say() {
        let tally = Tally::default();
        judge(&tally);
        assert_eq!(tally.gains(), Default::default());
    }
}
