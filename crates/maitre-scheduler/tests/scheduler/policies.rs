//! What each policy promises, said once more and independently of it. A new policy has its row in each function here,
//! and the oracle then checks it in every random life.

use std::path::Path;

use maitre_scheduler::{PolicyKind, QueueOrder, Time};

use crate::world::Entry;

/// How a policy ranks a request.
pub(crate) struct Ranks {
    /// Whose turn it is to be admitted: the smallest number. `None` = a rank that is not known from the request alone.
    pub(crate) turn: Option<i128>,
    /// Whose prompt gets tokens first: the smallest.
    pub(crate) prompt: i128,
    /// Who is preempted when blocks run out: the smallest.
    pub(crate) keep: i128,
}

pub(crate) fn ranks(kind: PolicyKind, entry: &Entry) -> Ranks {
    let priority = i128::from(entry.request.priority);
    match kind {
        PolicyKind::Fcfs => Ranks {
            turn: Some(0),
            prompt: 0,
            keep: priority,
        },
        PolicyKind::Priority => Ranks {
            turn: Some(-priority),
            prompt: -priority,
            keep: priority,
        },
        // Preempted requests go on first. Between tenants: see the tests of fairness.
        PolicyKind::Fair => Ranks {
            turn: (entry.preemptions > 0).then_some(-1),
            prompt: 0,
            keep: priority,
        },
        PolicyKind::Deadline => Ranks {
            turn: Some(deadline_of(entry)),
            prompt: deadline_of(entry),
            keep: -deadline_of(entry),
        },
    }
}

/// In nanoseconds; without one, a minute after its arrival.
fn deadline_of(entry: &Entry) -> i128 {
    let implied = entry.request.arrival + Time::from_secs(60);
    entry.request.deadline.unwrap_or(implied).as_nanos() as i128
}

/// Only where no later request goes before an earlier one can a wait be promised.
fn queue_order(kind: PolicyKind) -> QueueOrder {
    match kind {
        PolicyKind::Fcfs => QueueOrder::Arrival,
        PolicyKind::Fair => QueueOrder::TenantShares,
        PolicyKind::Priority | PolicyKind::Deadline => QueueOrder::Overtaking,
    }
}

#[test]
fn a_policy_says_whether_later_requests_go_before() {
    for &kind in PolicyKind::ALL {
        assert_eq!(kind.build().queue_order(), queue_order(kind), "{kind}");
    }
}

#[test]
fn the_pages_explain_every_policy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |page: &str| std::fs::read_to_string(root.join(page)).unwrap();
    for page in [
        "docs/src/architecture/scheduling.md",
        "docs/src/operations/running.md",
    ] {
        let text = read(page);
        for kind in PolicyKind::ALL {
            let row = format!("| `{kind}`");
            let has_row = text.lines().any(|line| line.starts_with(&row));
            assert!(
                has_row,
                "{page} has no table row that begins with {row:?}; add one"
            );
        }
    }
    let page = "docs/src/guide/serve.md";
    let guide = read(page);
    let row = guide.lines().find(|line| line.starts_with("| `--policy`"));
    for kind in PolicyKind::ALL {
        let name = format!("`{kind}`");
        let names = row.is_some_and(|row| row.contains(&name));
        assert!(names, "{page}: the row of --policy does not name {name}");
    }
}
