//! Looks at a server, and at the machine's energy, again and again during a run: what a server holds is gone when the
//! run has ended.

use std::time::Duration;

use super::{ServerRun, ServerState, exposition::difference};
use crate::machine::EnergyMeter;
use crate::{Clock, Target};

/// How often.
const EVERY: Duration = Duration::from_millis(250);

/// What was seen in a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched {
    seen: Vec<ServerState>,
}

/// Looks until it is dropped.
pub(crate) async fn watch(
    target: &dyn Target,
    clock: &dyn Clock,
    watched: &mut Watched,
    energy: &mut Option<EnergyMeter>,
) {
    let mut next = clock.now();
    loop {
        next += EVERY;
        clock.sleep_until(next).await;
        watched.seen.extend(target.state().await);
        if let Some(energy) = energy {
            energy.look();
        }
    }
}

impl Watched {
    /// What it was, from the counts before and after the run.
    pub(crate) fn run(&self, before: &ServerState, after: &ServerState, seconds: f64) -> ServerRun {
        let each = |pick: fn(&ServerState) -> Option<f64>| self.seen.iter().filter_map(pick);
        let mean = |pick: fn(&ServerState) -> Option<f64>| {
            let (sum, count) = each(pick).fold((0.0, 0), |(sum, count), it| (sum + it, count + 1));
            (count > 0).then(|| sum / f64::from(count))
        };
        let most = |pick: fn(&ServerState) -> Option<f64>| each(pick).reduce(f64::max);
        let while_waiting = self.seen.iter().filter(|it| it.waiting > Some(0.0));
        let steps = after.step_seconds.since(before.step_seconds);
        let ms = |seconds: Option<f64>| seconds.map(|it| it * 1e3);
        let queries = difference(after.prefix_queries, before.prefix_queries);
        let hits = difference(after.prefix_hits, before.prefix_hits);
        let since = |pick: fn(&ServerState) -> super::exposition::Sum| {
            pick(after).since(pick(before)).mean()
        };
        ServerRun {
            steps: steps.count,
            step_ms: ms(steps.mean()),
            step_sequences: since(|it| it.step_sequences),
            step_tokens: since(|it| it.step_tokens),
            busy_share: steps.sum.filter(|_| seconds > 0.0).map(|it| it / seconds),
            running_mean: mean(|it| it.running),
            running_max: most(|it| it.running),
            waiting_mean: mean(|it| it.waiting),
            running_while_waiting: while_waiting.filter_map(|it| it.running).reduce(f64::min),
            kv_used_max: most(|it| it.kv_used),
            preemptions: difference(after.preemptions, before.preemptions),
            prefix_hit_share: queries
                .zip(hits)
                .filter(|it| it.0 > 0.0)
                .map(|it| it.1 / it.0),
            queue_ms: ms(since(|it| it.queue_seconds)),
            ttft_ms: ms(since(|it| it.ttft_seconds)),
            tpot_ms: ms(since(|it| it.tpot_seconds)),
        }
    }
}
