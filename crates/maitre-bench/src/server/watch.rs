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
    /// Each with the time since the one before it.
    seen: Vec<(Duration, ServerState)>,
}

/// Looks until it is dropped. Looks that a busy client has missed are not made up for: they would all see the same.
pub(crate) async fn watch(
    target: &dyn Target,
    clock: &dyn Clock,
    watched: &mut Watched,
    energy: &mut Option<EnergyMeter>,
) {
    let mut next = clock.now();
    let mut last = next;
    loop {
        next += EVERY;
        if next < clock.now() {
            next = clock.now() + EVERY;
        }
        clock.sleep_until(next).await;
        if let Some(state) = target.state().await {
            let now = clock.now();
            watched.seen.push((now.saturating_sub(last), state));
            last = now;
        }
        if let Some(energy) = energy {
            energy.look();
        }
    }
}

impl Watched {
    /// What it was, from the counts before and after the run.
    pub(crate) fn run(&self, before: &ServerState, after: &ServerState, seconds: f64) -> ServerRun {
        let states = || self.seen.iter().map(|(_, state)| state);
        let most =
            |pick: fn(&ServerState) -> Option<f64>| states().filter_map(pick).reduce(f64::max);
        let while_waiting = states().filter(|it| it.waiting > Some(0.0));
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
            running_mean: self.mean(|it| it.running),
            running_max: most(|it| it.running),
            waiting_mean: self.mean(|it| it.waiting),
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

    /// On average over time; `None` where it was not told.
    fn mean(&self, pick: fn(&ServerState) -> Option<f64>) -> Option<f64> {
        let told = self.seen.iter();
        let told = told.filter_map(|(time, state)| Some((time.as_secs_f64(), pick(state)?)));
        let (sum, seconds) = told.fold((0.0, 0.0), |(sum, seconds), (time, value)| {
            (sum + time * value, seconds + time)
        });
        (seconds > 0.0).then(|| sum / seconds)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::FutureExt;
    use futures_util::future::{BoxFuture, pending};

    use super::*;
    use crate::{BenchRequest, ModelFacts, RequestError, TokenStream};

    /// A sleep on it ends at once and on time, but for the third one, during which the client is busy for ten seconds; after the sixth it
    /// stands still.
    #[derive(Default)]
    struct Stalling(Mutex<(Duration, usize)>);

    impl Clock for Stalling {
        fn now(&self) -> Duration {
            self.0.lock().unwrap().0
        }

        fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
            let mut time = self.0.lock().unwrap();
            time.1 += 1;
            if time.1 > 6 {
                return pending().boxed();
            }
            let busy = Duration::from_secs(if time.1 == 3 { 10 } else { 0 });
            time.0 = time.0.max(at + busy);
            async {}.boxed()
        }
    }

    /// Runs one sequence, and nine while the client is busy.
    struct Server<'a>(&'a Stalling);

    impl Target for Server<'_> {
        fn name(&self) -> String {
            String::new()
        }

        fn model(&self) -> ModelFacts {
            ModelFacts {
                name: String::new(),
                vocab_size: 1,
                max_model_len: 1,
            }
        }

        fn tokenize(&self, _text: &str) -> BoxFuture<'_, Result<Vec<u32>, RequestError>> {
            pending().boxed()
        }

        fn start(&self, _: BenchRequest) -> BoxFuture<'_, Result<TokenStream, RequestError>> {
            pending().boxed()
        }

        fn state(&self) -> BoxFuture<'_, Option<ServerState>> {
            let is_stalled = self.0.0.lock().unwrap().1 == 3;
            let state = ServerState {
                running: Some(if is_stalled { 9.0 } else { 1.0 }),
                ..ServerState::default()
            };
            async move { Some(state) }.boxed()
        }
    }

    #[test]
    fn a_stall_is_looked_at_once_and_counts_for_as_long_as_it_was() {
        let (clock, mut watched) = (Stalling::default(), Watched::default());
        let server = Server(&clock);
        let watching = watch(&server, &clock, &mut watched, &mut None).now_or_never();
        assert_eq!(watching, None, "it looks until it is dropped");
        let times: Vec<Duration> = watched.seen.iter().map(|(time, _)| *time).collect();
        let mut expected = [EVERY; 6];
        expected[2] += Duration::from_secs(10);
        assert_eq!(times, expected);
        let state = ServerState::default();
        let run = watched.run(&state, &state, 11.5);
        // 10.25 s of 11.5 s with nine, and 1.25 s with one.
        let mean = run.running_mean.unwrap();
        assert!((mean - (10.25 * 9.0 + 1.25) / 11.5).abs() < 1e-9, "{mean}");
        assert_eq!((run.running_max, run.waiting_mean), (Some(9.0), None));
    }
}
