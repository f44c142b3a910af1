//! Is the engine alive? Shared numbers that the step loop writes and any thread may read.
//!
//! A long step is not a hang: every operator advances the heartbeat. So a loop that works but whose
//! heartbeat has not advanced for a while is stuck, however long its steps are.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use maitre_scheduler::{KvUsage, Time};
use maitre_tensor::Heartbeat;

use crate::admission::front::lock;

/// Whether requests can be served, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// New requests will be served.
    pub ready: bool,
    /// Why not; empty when ready.
    pub reason: String,
}

impl Health {
    fn ready() -> Self {
        Self {
            ready: true,
            reason: String::new(),
        }
    }

    pub(crate) fn not_ready(reason: impl Into<String>) -> Self {
        Self {
            ready: false,
            reason: reason.into(),
        }
    }
}

/// How busy the engine is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Sequences that take part in steps.
    pub running: usize,
    /// Sequences submitted that have not started.
    pub waiting: usize,
    /// Requests whose receivers are still there.
    pub in_flight: usize,
    /// Sequences that have started, lost their KV blocks and wait again.
    pub preempted_waiting: usize,
    /// Prompt tokens of the waiting sequences.
    pub waiting_tokens: usize,
    /// KV blocks held by sequences.
    pub kv_used_blocks: usize,
    /// KV blocks that no sequence holds, kept because later prompts may begin with them.
    pub kv_cached_blocks: usize,
    /// KV blocks in the host tier.
    pub kv_host_blocks: usize,
    /// KV blocks there are.
    pub kv_total_blocks: usize,
    /// Tokens generated per second, over the last full second of work; 0 when idle.
    pub output_tokens_per_second: f64,
    /// How often a sequence was put back into the queue for lack of blocks, since start.
    pub preemptions: u64,
    /// Tokens looked up in the prefix cache since start.
    pub prefix_queries: u64,
    /// Of them, tokens that were there.
    pub prefix_hits: u64,
    /// How long a request submitted now would wait for its first step, at the recent pace; `None`
    /// where that is unknown, as there is no history or turns do not follow arrival.
    pub estimated_wait: Option<Duration>,
}

/// The engine's load after a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepLoad {
    pub(crate) running: usize,
    pub(crate) preempted_waiting: usize,
    pub(crate) kv: KvUsage,
    pub(crate) prefix_queries: u64,
    pub(crate) prefix_hits: u64,
    pub(crate) preempted: usize,
    pub(crate) generated: usize,
}

#[derive(Debug)]
pub(crate) struct LoopHealth {
    heartbeat: Heartbeat,
    stall_after: Duration,
    alive: AtomicBool,
    working: AtomicBool,
    /// Why the loop gave up, if it did.
    given_up: OnceLock<String>,
    /// The last count seen to be new, and when.
    last_beat: Mutex<(u64, Time)>,
    /// What the loop said last, without the numbers that only [`Admission`](crate::admission::front::Admission) knows.
    load: Mutex<Load>,
    token_rate: Mutex<TokenRate>,
}

/// Tokens counted in one-second windows of work; the last full window is the current pace.
#[derive(Debug)]
struct TokenRate {
    window_began: Time,
    tokens: usize,
    per_second: f64,
}

const WINDOW: Duration = Duration::from_secs(1);

impl TokenRate {
    /// Work begins: time in which there was none to do must not count.
    fn new(now: Time) -> Self {
        Self {
            window_began: now,
            tokens: 0,
            per_second: 0.0,
        }
    }

    fn count(&mut self, tokens: usize, now: Time) {
        self.tokens += tokens;
        let elapsed = now.saturating_sub(self.window_began);
        if elapsed >= WINDOW {
            self.per_second = self.tokens as f64 / elapsed.as_secs_f64();
            (self.window_began, self.tokens) = (now, 0);
        }
    }
}

impl LoopHealth {
    pub(crate) fn new(heartbeat: Heartbeat, stall_after: Duration, kv_total: usize) -> Self {
        Self {
            last_beat: Mutex::new((heartbeat.count(), Time::ZERO)),
            heartbeat,
            stall_after,
            alive: AtomicBool::new(true),
            working: AtomicBool::new(false),
            given_up: OnceLock::new(),
            load: Mutex::new(Load {
                kv_total_blocks: kv_total,
                ..Load::default()
            }),
            token_rate: Mutex::new(TokenRate::new(Time::ZERO)),
        }
    }

    pub(crate) fn work(&self, now: Time) {
        if !self.working.swap(true, Ordering::SeqCst) {
            *lock(&self.token_rate) = TokenRate::new(now);
        }
        self.heartbeat.beat();
    }

    pub(crate) fn rest(&self) {
        self.working.store(false, Ordering::SeqCst);
    }

    pub(crate) fn died(&self) {
        self.alive.store(false, Ordering::SeqCst);
    }

    /// The loop is about to end, as nothing it could run would succeed.
    pub(crate) fn give_up(&self, why: &str) {
        // It gives up once.
        let _ = self.given_up.set(why.to_owned());
        self.died();
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    pub(crate) fn set_load(&self, step: &StepLoad, now: Time) {
        let mut load = lock(&self.load);
        load.running = step.running;
        load.preempted_waiting = step.preempted_waiting;
        load.kv_used_blocks = step.kv.used;
        load.kv_cached_blocks = step.kv.cached;
        load.kv_host_blocks = step.kv.host;
        load.preemptions += step.preempted as u64;
        load.prefix_queries = step.prefix_queries;
        load.prefix_hits = step.prefix_hits;
        drop(load);
        lock(&self.token_rate).count(step.generated, now);
    }

    /// What the loop said last; the handle adds the numbers that `Admission` knows.
    pub(crate) fn load(&self) -> Load {
        let output_tokens_per_second = if self.working.load(Ordering::SeqCst) {
            lock(&self.token_rate).per_second
        } else {
            0.0
        };
        Load {
            output_tokens_per_second,
            ..*lock(&self.load)
        }
    }

    /// What the loop's state at `now` says. Stuck means: at work, and no beat in `stall_after` of
    /// being watched; so it must be asked now and then to notice.
    pub(crate) fn health(&self, now: Time) -> Health {
        if !self.is_alive() {
            return Health::not_ready(match self.given_up.get() {
                Some(why) => format!("the step loop has ended: {why}"),
                None => "the step loop has ended".to_owned(),
            });
        }
        let mut last = lock(&self.last_beat);
        let count = self.heartbeat.count();
        if count != last.0 || !self.working.load(Ordering::SeqCst) {
            *last = (count, now);
            return Health::ready();
        }
        let silent = now.saturating_sub(last.1);
        if silent <= self.stall_after {
            return Health::ready();
        }
        Health::not_ready(format!(
            "the step loop has been stuck for {:.1} s: no operator finished",
            silent.as_secs_f64()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> (LoopHealth, Heartbeat, Time) {
        let heartbeat = Heartbeat::default();
        (
            LoopHealth::new(heartbeat.clone(), Duration::from_secs(5), 1),
            heartbeat,
            Time::ZERO,
        )
    }

    #[test]
    fn a_silent_loop_at_work_is_stuck_and_recovers() {
        let (health, heartbeat, now) = health();
        health.work(now);
        assert!(health.health(now).ready);
        assert!(health.health(now + Duration::from_secs(5)).ready);
        let stuck = health.health(now + Duration::from_secs(6));
        assert!(!stuck.ready && stuck.reason.contains("6.0 s"), "{stuck:?}");
        heartbeat.beat();
        assert!(health.health(now + Duration::from_secs(7)).ready);
    }

    #[test]
    fn a_long_step_that_beats_is_not_a_hang() {
        let (health, heartbeat, now) = health();
        health.work(now);
        for second in 0..600 {
            heartbeat.beat();
            assert!(health.health(now + Duration::from_secs(second)).ready);
        }
    }

    #[test]
    fn an_idle_loop_is_ready_for_ever_and_a_dead_one_never() {
        let (health, _heartbeat, now) = health();
        health.rest();
        assert!(health.health(now).ready);
        assert!(health.health(now + Duration::from_secs(3600)).ready);
        health.died();
        assert!(!health.health(now).ready);
    }
}
