//! An engine of known behaviour in virtual time: steps of a known duration, a number of places, a number of KV tokens. It
//! keeps its own time, so that a client that is busy makes it no slower.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use maitre_bench::{
    Arrival, BenchRequest, Clock, ModelFacts, RequestError, ServerState, ServerTimes, Target,
    TokenStream,
};

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::virtual_time::VirtualClock;

/// How the engine behaves. Times are in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behaviour {
    /// Of every step.
    pub(crate) step_ms: f64,
    /// Of each sequence in a step.
    pub(crate) sequence_ms: f64,
    /// Of each prompt token in a step.
    pub(crate) prompt_token_ms: f64,
    /// Most sequences in a step.
    pub(crate) places: usize,
    /// Most tokens of all sequences, prompts and answers together.
    pub(crate) kv_tokens: usize,
    /// What the client's only thread does with each message, while it does nothing else.
    pub(crate) client_ms: f64,
    /// Whether it tells what it counts.
    pub(crate) is_open: bool,
}

/// A quick engine with room for everything.
pub(crate) const ROOMY: Behaviour = Behaviour {
    step_ms: 2.0,
    sequence_ms: 0.25,
    prompt_token_ms: 0.01,
    places: 1000,
    kv_tokens: 1_000_000,
    client_ms: 0.0,
    is_open: true,
};

struct Sequence {
    request: BenchRequest,
    arrived: Duration,
    started: Duration,
    first: Option<Duration>,
    made: usize,
    sender: UnboundedSender<Arrival>,
}

impl Sequence {
    fn tokens(&self) -> usize {
        self.request.prompt.len() + self.request.output_tokens
    }
}

#[derive(Default)]
struct State {
    /// When the last step ended.
    now: Duration,
    is_running: bool,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    counts: ServerState,
}

#[derive(Clone)]
pub(crate) struct SteppingEngine {
    clock: VirtualClock,
    behaviour: Behaviour,
    state: Arc<Mutex<State>>,
}

impl SteppingEngine {
    pub(crate) fn new(clock: &VirtualClock, behaviour: Behaviour) -> Self {
        Self {
            clock: clock.clone(),
            behaviour,
            state: Arc::default(),
        }
    }

    /// Admits what fits, and when the step that follows ends; `None` if there is nothing to do.
    fn begin_step(&self) -> Option<Duration> {
        let mut state = self.state.lock().unwrap();
        let it = self.behaviour;
        let mut prompt_tokens = 0;
        loop {
            let held: usize = state.running.iter().map(Sequence::tokens).sum();
            if state.running.is_empty()
                && let Some(next) = state.waiting.front()
            {
                state.now = state.now.max(next.arrived);
            }
            let fits = state.waiting.front().is_some_and(|next| {
                held + next.tokens() <= it.kv_tokens && next.arrived <= state.now
            });
            if !fits || state.running.len() >= it.places {
                break;
            }
            let mut next = state.waiting.pop_front().unwrap();
            next.started = state.now;
            prompt_tokens += next.request.prompt.len();
            state.running.push(next);
        }
        if state.running.is_empty() {
            state.is_running = false;
            return None;
        }
        let sequences = state.running.len() as f64;
        let took =
            it.step_ms + it.sequence_ms * sequences + it.prompt_token_ms * prompt_tokens as f64;
        state.now += Duration::from_secs_f64(took / 1e3);
        let counts = &mut state.counts;
        for (sum, value) in [
            (&mut counts.step_seconds, took / 1e3),
            (&mut counts.step_sequences, sequences),
        ] {
            *sum.sum.get_or_insert(0.0) += value;
            *sum.count.get_or_insert(0.0) += 1.0;
        }
        Some(state.now)
    }

    /// Every sequence has a token more.
    fn end_step(&self) {
        let mut state = self.state.lock().unwrap();
        let now = state.now;
        state.running.retain_mut(|sequence| {
            sequence.made += 1;
            let first = *sequence.first.get_or_insert(now);
            let is_last = sequence.made == sequence.request.output_tokens;
            let later = (sequence.made as u32).saturating_sub(1).max(1);
            let arrival = Arrival {
                tokens: 1,
                cached_tokens: None,
                server: is_last.then(|| ServerTimes {
                    queue: sequence.started - sequence.arrived,
                    ttft: first - sequence.arrived,
                    tpot: (now - first) / later,
                }),
            };
            let _ = sequence.sender.send(arrival);
            !is_last
        });
    }

    /// Works until there is nothing to do.
    async fn run(self) {
        while let Some(end) = self.begin_step() {
            self.clock.sleep_until(end).await;
            self.end_step();
        }
    }
}

impl Target for SteppingEngine {
    fn name(&self) -> String {
        "stepping".into()
    }

    fn model(&self) -> ModelFacts {
        ModelFacts {
            name: "fake".into(),
            vocab_size: 1000,
            max_model_len: 100_000,
        }
    }

    fn tokenize(&self, _text: &str) -> BoxFuture<'_, Result<Vec<u32>, RequestError>> {
        async { Ok(vec![1]) }.boxed()
    }

    fn start(&self, request: BenchRequest) -> BoxFuture<'_, Result<TokenStream, RequestError>> {
        let (sender, receiver) = unbounded_channel();
        let arrived = self.clock.now();
        let must_start = {
            let mut state = self.state.lock().unwrap();
            state.waiting.push_back(Sequence {
                request,
                arrived,
                started: arrived,
                first: None,
                made: 0,
                sender,
            });
            let must_start = !std::mem::replace(&mut state.is_running, true);
            if must_start {
                state.now = state.now.max(arrived);
            }
            must_start
        };
        if must_start {
            self.clock.spawn(self.clone().run().boxed());
        }
        let (clock, busy) = (self.clock.clone(), self.behaviour.client_ms);
        let arrivals = stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        });
        let tokens = arrivals.map(move |arrival| {
            clock.pass(Duration::from_secs_f64(busy / 1e3));
            Ok(arrival)
        });
        async move { Ok(tokens.boxed()) }.boxed()
    }

    fn state(&self) -> BoxFuture<'_, Option<ServerState>> {
        let state = self.state.lock().unwrap();
        let held: usize = state.running.iter().map(Sequence::tokens).sum();
        let told = ServerState {
            running: Some(state.running.len() as f64),
            waiting: Some(state.waiting.len() as f64),
            kv_used: Some(held as f64 / self.behaviour.kv_tokens as f64),
            preemptions: Some(0.0),
            ..state.counts
        };
        let told = self.behaviour.is_open.then_some(told);
        async move { told }.boxed()
    }
}
