//! A model that costs nothing and notices everything: the "keys and values" it keeps in each slot
//! are the tokens themselves, and its logits are a hash of the whole prefix as read back through
//! the block tables, of each KV group the positions that it reads. A wrong table, slot, position or a block reused too early changes its tokens.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use maitre_engine::{
    CustomPolicy, Delta, Drafter, Engine, EngineError, EngineInfo, EngineLimits, Event, Executor,
    FinishReason, Forward, GenerateRequest, Generation, Input, MemoryBudget, Parts, PolicyKind,
    Scheduling, Speculate, Speculation, Synchronous, SystemClock,
};
use maitre_model::{Batch, CacheMoves, GenerationDefaults, Logits, ModelError};
use maitre_scheduler::KvSpec;
use maitre_tensor::{Heartbeat, KvGroup, NO_SLOT, TensorError};
use maitre_text::Tokenizer;

use crate::pipelined::Pipelined;

/// What to do to a batch that holds a marked token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Error,
    Panic,
    NanLogits,
    PanicInLogits,
    /// Every copy of blocks panics, whatever the batch holds.
    Moves,
}

/// A token of the vocabulary that no toy answer contains by design, so that only the request whose
/// prompt has it is the culprit.
pub(crate) const MARKED: u32 = 4000;
pub(crate) const EOS: u32 = 2;

/// A gate that a step waits at until the test opens it.
#[derive(Default)]
pub(crate) struct Gate {
    heartbeat: Heartbeat,
    computed: Arc<AtomicUsize>,
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    shut: bool,
    waiting: bool,
    falls_apart: bool,
}

impl Gate {
    pub(crate) fn shut(&self) {
        self.state.lock().unwrap().shut = true;
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().shut = false;
        self.changed.notify_all();
    }

    /// Blocks until a step waits at the gate.
    pub(crate) fn wait_for_step(&self) {
        let mut state = self.state.lock().unwrap();
        while !state.waiting {
            state = self.changed.wait(state).unwrap();
        }
    }

    /// Tokens that steps have computed so far.
    pub(crate) fn computed(&self) -> usize {
        self.computed.load(Ordering::SeqCst)
    }

    /// An operator of the step at the gate finishes.
    pub(crate) fn beat(&self) {
        self.heartbeat.beat();
    }

    /// The next step takes the whole loop with it: its panic is caught, but what it panics with
    /// panics again when it is dropped.
    pub(crate) fn fall_apart(&self) {
        self.state.lock().unwrap().falls_apart = true;
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting = true;
        self.changed.notify_all();
        while state.shut {
            state = self.changed.wait(state).unwrap();
        }
        state.waiting = false;
        let falls_apart = state.falls_apart;
        drop(state);
        if falls_apart {
            std::panic::panic_any(Bomb);
        }
    }
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the step loop was meant to die");
    }
}

pub(crate) struct Toy {
    slots: Vec<u32>,
    host: Vec<u32>,
    block_size: usize,
    pub(crate) kv_groups: &'static [KvSpec],
    computed: Arc<AtomicUsize>,
    rows: Vec<(u64, bool)>,
    logits: Vec<f32>,
    vocab_size: usize,
    fault: Option<Fault>,
    gate: Arc<Gate>,
}

impl Toy {
    pub(crate) fn new(limits: &EngineLimits, vocab_size: usize) -> Self {
        let gate = Arc::<Gate>::default();
        Self {
            slots: vec![u32::MAX; limits.num_blocks * limits.block_size],
            host: vec![u32::MAX; limits.num_host_blocks * limits.block_size],
            block_size: limits.block_size,
            kv_groups: &[KvSpec::Full],
            computed: Arc::clone(&gate.computed),
            rows: Vec::new(),
            logits: Vec::new(),
            vocab_size,
            fault: None,
            gate,
        }
    }
}

impl Forward for Toy {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn logits_tile(&self) -> usize {
        4
    }

    fn heartbeat(&self) -> Heartbeat {
        self.gate.heartbeat.clone()
    }

    fn move_blocks(&mut self, moves: &CacheMoves<'_>) -> Result<(), ModelError> {
        assert!(self.fault != Some(Fault::Moves), "injected panic");
        let size = self.block_size;
        let span = |block: u32| block as usize * size..(block as usize + 1) * size;
        for moved in moves.swap_out {
            self.host[span(moved.to)].copy_from_slice(&self.slots[span(moved.from)]);
        }
        for moved in moves.swap_in {
            self.slots[span(moved.to)].copy_from_slice(&self.host[span(moved.from)]);
        }
        for moved in moves.copies {
            self.slots
                .copy_within(span(moved.from), moved.to as usize * size);
        }
        Ok(())
    }

    fn forward(&mut self, batch: &Batch) -> Result<(), ModelError> {
        self.gate.pass();
        self.computed
            .fetch_add(batch.tokens.len(), Ordering::SeqCst);
        self.gate.beat();
        let marked = |span: &maitre_tensor::Span, batch: &Batch| {
            batch.tokens[span.first_token..span.first_token + span.num_tokens].contains(&MARKED)
        };
        if batch.tokens.contains(&MARKED) {
            match self.fault {
                Some(Fault::Error) => {
                    return Err(ModelError::Tensor(TensorError::Panicked {
                        operator: "toy",
                        message: "injected".into(),
                    }));
                }
                Some(Fault::Panic) => panic!("injected panic"),
                _ => {}
            }
        }
        let mut seen = std::collections::HashSet::new();
        for (number, group) in (0..).zip(&batch.groups) {
            for (&slot, &token) in group.slots.iter().zip(&batch.tokens) {
                if slot != NO_SLOT {
                    assert!(seen.insert(slot), "slot {slot} written twice in one step");
                    self.slots[slot as usize] = token ^ number << 24;
                }
            }
        }
        self.rows.clear();
        for &row in &batch.output_rows {
            let row = row as usize;
            let (index, span) = batch
                .spans
                .iter()
                .enumerate()
                .find(|(_, span)| {
                    (span.first_token..span.first_token + span.num_tokens).contains(&row)
                })
                .unwrap();
            let mut hash = 0xcbf2_9ce4_8422_2325_u64;
            for (spec, KvGroup { tables, .. }) in self.kv_groups.iter().zip(&batch.groups) {
                let (table, first) = (&tables.tables[index], tables.first_block(index));
                let position = batch.positions[row] as usize;
                for position in spec.first_read(position)..=position {
                    let block = table[position / tables.block_size - first] as usize;
                    let slot = block * tables.block_size + position % tables.block_size;
                    hash = (hash ^ u64::from(self.slots[slot])).wrapping_mul(0x0100_0000_01b3);
                }
            }
            self.rows.push((hash, marked(span, batch)));
        }
        Ok(())
    }

    fn logits(&mut self, rows: Range<usize>) -> Result<Logits<'_>, ModelError> {
        self.logits.clear();
        for &(hash, marked) in &self.rows[rows] {
            assert!(
                !(marked && self.fault == Some(Fault::PanicInLogits)),
                "injected panic"
            );
            let nan = marked && self.fault == Some(Fault::NanLogits);
            self.logits.extend((0..self.vocab_size as u64).map(|id| {
                // Control tokens and the marked one never come up by themselves.
                if id < 7 || id == u64::from(MARKED) {
                    return if nan { f32::NAN } else { -30.0 };
                }
                let mut z = (hash ^ id.wrapping_mul(0x9E37_79B9_7F4A_7C15))
                    .wrapping_mul(0xBF58_476D_1CE4_E5B9);
                z ^= z >> 31;
                (z >> 40) as f32 / (1 << 24) as f32 * 8.0
            }));
        }
        Ok(Logits {
            values: &self.logits,
            peaks: &[],
        })
    }
}

pub(crate) fn tokenizer() -> Tokenizer {
    let file = |name| {
        maitre_bundled::TARGET
            .files
            .iter()
            .find(|(n, _)| *n == name)
            .unwrap()
            .1
    };
    Tokenizer::from_bytes(
        file("tokenizer.json"),
        Some(file("tokenizer_config.json")),
        None,
    )
    .unwrap()
}

/// Settings of a toy engine.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) max_model_len: usize,
    pub(crate) max_seqs: usize,
    pub(crate) max_batched_tokens: usize,
    pub(crate) max_queue: usize,
    pub(crate) block_size: usize,
    pub(crate) num_blocks: usize,
    pub(crate) num_host_blocks: usize,
    pub(crate) kv_groups: &'static [KvSpec],
    pub(crate) prefix_cache: bool,
    pub(crate) policy: PolicyKind,
    pub(crate) custom_policy: Option<fn() -> CustomPolicy>,
    pub(crate) fault: Option<Fault>,
    pub(crate) do_sample: Option<bool>,
    /// Where drafts come from; nowhere, unless there is a drafter.
    pub(crate) speculate: Option<Speculate>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            max_model_len: 256,
            max_seqs: 16,
            max_batched_tokens: 64,
            max_queue: 256,
            block_size: 4,
            num_blocks: 1024,
            num_host_blocks: 0,
            kv_groups: &[KvSpec::Full],
            prefix_cache: true,
            policy: PolicyKind::Fcfs,
            custom_policy: None,
            fault: None,
            do_sample: None,
            speculate: None,
        }
    }
}

impl Setup {
    pub(crate) fn start(self) -> (Engine, Arc<Gate>) {
        self.start_with_stall_limit(Duration::from_secs(5))
    }

    pub(crate) fn start_with_stall_limit(self, stall_after: Duration) -> (Engine, Arc<Gate>) {
        self.start_with(stall_after, None)
    }

    /// With a drafter that drafts three tokens in every step.
    pub(crate) fn start_with_drafter(self, drafter: Box<dyn Drafter>) -> (Engine, Arc<Gate>) {
        self.start_with(Duration::from_secs(5), Some(drafter))
    }

    pub(crate) fn limits(&self) -> EngineLimits {
        EngineLimits {
            max_model_len: self.max_model_len,
            max_seqs: self.max_seqs,
            max_batched_tokens: self.max_batched_tokens,
            max_queue: self.max_queue,
            block_size: self.block_size,
            num_blocks: self.num_blocks,
            max_queued_tokens: 1 << 20,
            num_host_blocks: self.num_host_blocks,
        }
    }

    fn start_with(
        self,
        stall_after: Duration,
        drafter: Option<Box<dyn Drafter>>,
    ) -> (Engine, Arc<Gate>) {
        let limits = self.limits();
        let mut toy = Toy::new(&limits, tokenizer().num_tokens());
        toy.fault = self.fault;
        toy.kv_groups = self.kv_groups;
        let gate = Arc::clone(&toy.gate);
        let executor: Box<dyn Executor> = match crate::DEPTH {
            1 => Box::new(Synchronous::new(toy)),
            depth => Box::new(Pipelined::new(toy, depth)),
        };
        let engine = self.start_executor(executor, limits, stall_after, drafter);
        (engine, gate)
    }

    /// With another executor to run the batches.
    pub(crate) fn start_executor(
        self,
        executor: Box<dyn Executor>,
        limits: EngineLimits,
        stall_after: Duration,
        drafter: Option<Box<dyn Drafter>>,
    ) -> Engine {
        let tokenizer = tokenizer();
        let info = EngineInfo {
            model: "toy".into(),
            architecture: "Toy".into(),
            parameters: 0,
            dtype: "f32".into(),
            kv_dtype: "f32".into(),
            device: "none".into(),
            backend: "toy".into(),
            deterministic: true,
            threads: 1,
            vocab_size: tokenizer.num_tokens(),
            eos_token_ids: vec![EOS],
            has_chat_template: tokenizer.has_chat_template(),
            tool_format: None,
            reasoning_format: None,
            limits,
            scheduling: Scheduling {
                policy: self.policy,
                custom_policy: self.custom_policy.map(|make| make()),
                prefix_cache: self.prefix_cache,
                kv_groups: self.kv_groups.to_vec(),
                cache_events: true,
                ..Scheduling::default()
            },
            speculation: match self
                .speculate
                .or(drafter.as_ref().map(|_| Speculate::Draft))
            {
                None => Speculation::default(),
                Some(speculate) => Speculation {
                    speculate,
                    draft_tokens: 3,
                    ..Speculation::default()
                },
            },
            memory: MemoryBudget::default(),
        };
        let mut defaults = GenerationDefaults::default();
        defaults.eos_token_ids = vec![EOS];
        defaults.do_sample = self.do_sample;
        let parts = Parts {
            executor,
            drafter,
            tokenizer,
            defaults,
            info,
            stall_after,
            clock: Arc::new(SystemClock::start()),
        };
        parts.start().unwrap()
    }
}

/// A greedy request for `max_tokens` tokens after these.
pub(crate) fn tokens_request(prompt: &[u32], max_tokens: u32) -> GenerateRequest {
    let mut request = GenerateRequest::new(Input::Tokens(prompt.to_vec()));
    request.sampling.temperature = Some(0.0);
    request.stopping.max_tokens = Some(max_tokens);
    request
}

/// One finished answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) token_ids: Vec<u32>,
    pub(crate) logprobs: Vec<(u32, u32)>,
    pub(crate) reason: FinishReason,
    pub(crate) end: maitre_engine::Finished,
}

/// Reads a generation of one answer to its end.
pub(crate) async fn answer(generation: Generation) -> Result<Answer, EngineError> {
    let mut answers = answers(generation).await?;
    assert_eq!(answers.len(), 1);
    Ok(answers.remove(0))
}

/// Reads a generation to the end of all its answers, and returns them by index.
pub(crate) async fn answers(mut generation: Generation) -> Result<Vec<Answer>, EngineError> {
    let mut open: BTreeMap<u32, (String, Delta)> = BTreeMap::new();
    let mut answers = BTreeMap::new();
    while let Some(event) = generation.next().await {
        match event? {
            Event::Delta(delta) => {
                let (text, so_far) = open.entry(delta.index).or_default();
                text.push_str(delta.text());
                so_far.token_ids.extend(delta.token_ids);
                so_far.logprobs.extend(delta.logprobs);
            }
            Event::Finished(end) => {
                let (text, said) = open.remove(&end.index).unwrap_or_default();
                // Bits, so that equality means equality.
                let logprobs = said
                    .logprobs
                    .iter()
                    .map(|l| (l.token.token_id, l.token.logprob.to_bits()));
                let answer = Answer {
                    text,
                    token_ids: said.token_ids.into_vec(),
                    logprobs: logprobs.collect(),
                    reason: end.reason,
                    end,
                };
                answers.insert(answer.end.index, answer);
            }
            Event::PromptLogprobs(_) => {}
        }
    }
    assert!(open.is_empty(), "the stream ended without a Finished event");
    Ok(answers.into_values().collect())
}

/// Waits until `holds`, giving other tasks and threads their turn.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = std::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(
            std::time::Instant::now() < give_up,
            "never happened: {what}"
        );
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
}

/// Nothing runs, nothing waits, every block is free.
pub(crate) async fn idle(engine: &Engine) {
    until("the engine is idle and every block is free", || {
        let load = engine.load();
        load.running == 0 && load.waiting == 0 && load.in_flight == 0 && load.kv_used_blocks == 0
    })
    .await;
}
