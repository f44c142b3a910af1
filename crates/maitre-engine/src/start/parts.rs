//! From the pieces of an engine to its threads: the step loop and the publisher.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use maitre_model::GenerationDefaults;
use maitre_scheduler::queue::QueueBounds;
use maitre_scheduler::{KvConfig, Scheduler, SchedulerConfig};
use maitre_speculative::{Drafter, Speculator};
use maitre_text::Tokenizer;

use crate::admission::front::Admission;
use crate::engine::Shared;
use crate::observe::cache_events::{CacheFeed, FEED_BYTES};
use crate::observe::health::LoopHealth;
use crate::observe::info::EngineInfo;
use crate::observe::metrics::SpeculationMetrics;
use crate::output::byte_budget::ByteBudget;
use crate::output::publisher::{news, publish};
use crate::output::unread;
use crate::request::grammar::Grammars;
use crate::request::offload::Offload;
use crate::request::parts::Formats;
use crate::request::resolve::Resolver;
use crate::request::seeds::Seeds;
use crate::request::stop_budget::StopBudget;
use crate::request::tenants::Tenants;
use crate::start::build::narrow;
use crate::step::layout::KvShape;
use crate::step::runner::StepRunner;
use crate::step::step_loop::{Ended, StepLoop};
use crate::{Clock, Engine, Executor, StartError};

/// The pieces of an engine, for programs that bring their own: an [`Executor`] above all.
pub struct Parts {
    /// Runs the steps.
    pub executor: Box<dyn Executor>,
    /// Drafts tokens, beside what sequences have said themselves.
    pub drafter: Option<Box<dyn Drafter>>,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// End-of-sequence ids and sampling defaults.
    pub defaults: GenerationDefaults,
    /// Names and limits; the limits are enforced.
    pub info: EngineInfo,
    /// How long the step loop may be silent before readiness says so.
    pub stall_after: Duration,
    /// What the step loop takes the time from.
    pub clock: Arc<dyn Clock>,
}

impl Parts {
    /// Starts an engine from these pieces.
    ///
    /// # Errors
    ///
    /// Limits that contradict each other, or a thread that can't be started.
    pub fn start(self) -> Result<Engine, StartError> {
        let Self {
            executor,
            drafter,
            tokenizer,
            defaults,
            info,
            stall_after,
            clock,
        } = self;
        let limits = info.limits;
        let unread_answers = match info.memory.unread_answers {
            0 => unread::default_bytes(limits.max_model_len),
            bytes => bytes,
        };
        let scheduling = info.scheduling.clone();
        crate::observe::metrics::start(limits.num_blocks);
        crate::observe::metrics::device(&info);
        let started = clock.now();
        let vocab_size = info.vocab_size.min(executor.vocab_size());
        let steps_in_flight = executor.depth().max(1);
        let memory_probe = executor.memory_probe();
        let health = Arc::new(LoopHealth::new(
            executor.heartbeat(),
            stall_after,
            limits.num_blocks,
        ));
        let (commands, received) = channel();
        let policy = scheduling.build_policy();
        let bounds = QueueBounds {
            max_queue: limits.max_queue,
            max_queued_tokens: limits.max_queued_tokens,
            max_wait: scheduling.max_queue_wait,
            order: policy.queue_order(),
        };
        let admission = Arc::new(Admission::new(bounds, commands.clone())?);
        let hash_key = Seeds::hash_key()?;
        let cache_events = CacheFeed::new(FEED_BYTES);
        let listeners = cache_events.source();
        let speculator = Speculator::new(info.speculation.speculator(vocab_size), drafter);
        let (news, reader) = news();
        let config = SchedulerConfig {
            max_seqs: limits.max_seqs,
            max_batched_tokens: limits.max_batched_tokens,
            steps_in_flight,
            max_model_len: limits.max_model_len,
            policy: scheduling.policy,
            reorder_within: scheduling.reorder_within,
            itl_target: scheduling.itl_target,
            kv: KvConfig {
                groups: scheduling.kv_groups.clone(),
                prefix_cache: scheduling.prefix_cache,
                num_host_pages: narrow(limits.num_host_blocks),
                events: scheduling.cache_events,
                hash_key,
                ..KvConfig::new(narrow(limits.num_blocks), narrow(limits.block_size))
            },
        };
        let kv_tokens = config.capacity_tokens();
        let step_loop = StepLoop {
            scheduler: Scheduler::with_policy(config, policy)?,
            runner: StepRunner::new(
                executor,
                speculator,
                Arc::clone(&clock),
                KvShape::new(limits.block_size, &scheduling.kv_groups),
                vocab_size,
            ),
            sequences: HashMap::new(),
            constraints: Arc::default(),
            commands: received,
            news,
            admission: Arc::clone(&admission),
            health: Arc::clone(&health),
            cache_events,
            speculation: SpeculationMetrics::new(info.speculation.draft_tokens),
            clock: Arc::clone(&clock),
        };
        spawn("maitre-publisher", move || publish(&reader, &commands))?;
        spawn("maitre-step-loop", move || {
            if let Ended::Broken(why) | Ended::Fatal(why) = step_loop.run() {
                tracing::error!(%why, "the step loop ended itself");
            }
        })?;
        let eos = defaults.eos_token_ids.clone();
        let resolver = Resolver {
            grammars: Arc::new(Grammars::new(tokenizer.clone(), vocab_size, eos)),
            tokenizer,
            defaults,
            formats: Formats {
                tool: info.tool_format,
                reasoning: info.reasoning_format,
            },
            vocab_size,
            max_model_len: limits.max_model_len,
            kv_tokens,
            max_queue: limits.max_queue,
        };
        Ok(Engine::from_shared(Shared {
            resolver,
            info,
            admission,
            health,
            memory_probe,
            offload: Offload::new(),
            stop_budget: StopBudget::new(),
            next_key: AtomicU64::new(1),
            unread: ByteBudget::new(unread_answers),
            seeds: Seeds::from_entropy()?,
            tenants: Tenants::new(hash_key, scheduling.tenant_weights),
            cache_events: listeners,
            clock,
            started,
        }))
    }
}

fn spawn(name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
    thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map(drop)
        .map_err(|error| StartError::Thread { name, error })
}
