//! The handle: submit, stream, cancel, look, drain. Cheap to clone, usable from any thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use maitre_model::ModelSource;
use maitre_scheduler::queue::Newcomer;
use maitre_scheduler::{NewRequest, RequestId, Time};
use maitre_tensor::{GpuMemory, GpuMemoryProbe};
use maitre_text::{Detokenizer, StopStrings, Tokenizer};
use tokio::sync::oneshot;

use crate::Clock;
use crate::admission::command::Submission;
use crate::admission::front::{Admission, RequestName};
use crate::observe::cache_events::{CacheEvents, CacheFeedSource};
use crate::observe::health::LoopHealth;
use crate::observe::info::EngineInfo;
use crate::output::byte_budget::ByteBudget;
use crate::output::parts::PartReader;
use crate::output::text::{Echo, Output, TextStart, Times};
use crate::output::unread::{self, EventSender};
use crate::request::offload::Offload;
use crate::request::resolve::{Resolved, Resolver};
use crate::request::seeds::Seeds;
use crate::request::stop_budget::StopBudget;
use crate::request::tenants::Tenants;
use crate::{EngineBuilder, EngineError, GenerateRequest, Generation, Health, Input, Load};

/// A running engine. Clones are handles to the same one; when the last is dropped, the engine
/// stops at the next step boundary and what is still in flight ends in [`EngineError::Stopped`].
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) resolver: Resolver,
    pub(crate) info: EngineInfo,
    pub(crate) admission: Arc<Admission>,
    pub(crate) health: Arc<LoopHealth>,
    /// Asks the executor's GPU for its memory, if it has one.
    pub(crate) memory_probe: Option<GpuMemoryProbe>,
    pub(crate) offload: Offload,
    pub(crate) stop_budget: StopBudget,
    pub(crate) next_key: AtomicU64,
    /// Memory for events that are not read.
    pub(crate) unread: ByteBudget,
    pub(crate) seeds: Seeds,
    pub(crate) tenants: Tenants,
    pub(crate) cache_events: CacheFeedSource,
    pub(crate) clock: Arc<dyn Clock>,
    /// When the engine was started, by its clock.
    pub(crate) started: Time,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.admission.stop();
    }
}

impl Engine {
    /// Starts to describe an engine for the model at `source`.
    #[must_use]
    pub fn builder(source: ModelSource) -> EngineBuilder {
        EngineBuilder::new(source)
    }

    pub(crate) fn from_shared(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Submits a request; its events arrive on the returned stream.
    ///
    /// # Errors
    ///
    /// [`EngineError::Invalid`] with everything that is wrong with it; [`EngineError::QueueFull`],
    /// [`EngineError::TenantQueueFull`], [`EngineError::QueueTokensFull`],
    /// [`EngineError::StopStringsFull`] or [`EngineError::Overloaded`], which a later try can cure;
    /// [`EngineError::DuplicateRequest`], [`EngineError::Draining`], [`EngineError::DeadlineExceeded`]
    /// for a deadline of zero, [`EngineError::Stopped`]. A refused request leaves nothing behind.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future before it resolves submits nothing. Dropping the [`Generation`] cancels.
    pub async fn generate(&self, request: GenerateRequest) -> Result<Generation, EngineError> {
        let submitted = self.shared.clock.now();
        if request
            .service
            .deadline
            .is_some_and(|deadline| deadline.is_zero())
        {
            return Err(EngineError::DeadlineExceeded);
        }
        let seed = self.shared.seeds.next();
        let prepare = move |shared: &Shared, request: &GenerateRequest| {
            let resolved = shared.resolver.resolve(request, seed)?;
            let text = shared.text_start(request, &resolved);
            let text = text.inspect_err(crate::observe::metrics::refused)?;
            Ok((resolved, text))
        };
        let (request, (resolved, text)) = self.prepare(request, prepare).await?;
        self.submit(&request, &resolved, &text, submitted)
    }

    /// Says what is wrong with a request, without submitting it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Invalid`] with everything that [`generate`](Self::generate) would refuse.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is kept.
    pub async fn check(&self, request: GenerateRequest) -> Result<(), EngineError> {
        let seed = self.shared.seeds.next();
        let prepare = move |shared: &Shared, request: &GenerateRequest| {
            shared.resolver.resolve(request, seed).map(drop)
        };
        self.prepare(request, prepare).await.map(drop)
    }

    /// Does `work` on a request, away from the async workers where that may take long.
    async fn prepare<T: Send + 'static>(
        &self,
        request: GenerateRequest,
        work: impl FnOnce(&Shared, &GenerateRequest) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<(GenerateRequest, T), EngineError> {
        let offload = self.shared.offload.clone();
        let bytes = work_bytes(&request);
        // A template and a grammar are programs: a few bytes of them may be much work.
        let runs_a_program = matches!(request.input, Input::Chat(_))
            || request.grammar.is_some()
            || request.parts.is_some();
        let shared = Arc::clone(&self.shared);
        // What is refused is dropped there too: taking a large request apart is work as well.
        let work = move || {
            let prepared = work(&shared, &request)?;
            Ok((request, prepared))
        };
        if runs_a_program {
            offload.away(bytes, work).await?
        } else {
            offload.run(bytes, work).await?
        }
    }

    fn submit(
        &self,
        request: &GenerateRequest,
        resolved: &Resolved,
        text: &TextStart,
        submitted: Time,
    ) -> Result<Generation, EngineError> {
        let shared = &self.shared;
        let first = shared
            .next_key
            .fetch_add(u64::from(request.n), Ordering::Relaxed);
        let request_id = request
            .request_id
            .clone()
            .unwrap_or_else(|| shared.seeds.request_id(first));
        let (mut events, receiver) = unread::channel(&shared.unread);
        let receiver = receiver.timed(Arc::clone(&shared.clock));
        if let Some(top) = resolved.choice.prompt_logprobs {
            events
                .reserve_scores(request.n, resolved.prompt.len(), top)
                .inspect_err(crate::observe::metrics::refused)?;
        }
        let submissions: Vec<Submission> = (0..request.n)
            .map(|index| {
                let id = RequestId(first + u64::from(index));
                let output = output(request, resolved, text, index, submitted, &events);
                self.submission(request, resolved, id, index, output)
            })
            .collect();
        let newcomer = Newcomer {
            sequences: submissions.len(),
            prompt_tokens: resolved.prompt.len(),
            tenant: shared.tenants.id(&request.service.tenant),
            queue_timeout: request.service.queue_timeout,
        };
        let name = RequestName {
            tenant: request.service.tenant.clone(),
            id: request_id.clone(),
        };
        let admission = &shared.admission;
        let ticket = admission.enter(name, submissions, &newcomer, submitted)?;
        Ok(Generation::new(request_id, request.n, receiver, ticket))
    }

    /// One of a request's `n` answers.
    fn submission(
        &self,
        request: &GenerateRequest,
        resolved: &Resolved,
        id: RequestId,
        index: u32,
        output: Output,
    ) -> Submission {
        let submitted = output.times.submitted;
        let mut choice = resolved.choice.clone();
        choice.params.seed = Seeds::of_answer(choice.params.seed, index);
        let after = |wait: Option<Duration>| wait.map(|wait| submitted + wait);
        let schedule = NewRequest {
            priority: request.service.priority,
            tenant: self.shared.tenants.id(&request.service.tenant),
            weight: self.shared.tenants.weight(&request.service.tenant),
            arrival: submitted,
            deadline: after(resolved.ends_after),
            queue_deadline: after(request.service.queue_timeout),
            prompt_logits: choice.prompt_logprobs.is_some(),
            namespace: self
                .shared
                .tenants
                .namespace(&request.service.tenant, &request.cache.salt),
            read_cache: !request.cache.bypass,
            write_cache: !request.cache.bypass,
            // Answers to one prompt share its blocks.
            fork_of: (index > 0).then(|| RequestId(id.0 - u64::from(index))),
            ..NewRequest::new(id.0, resolved.prompt.clone(), choice.max_tokens as usize)
        };
        Submission {
            schedule,
            choice,
            output,
        }
    }

    /// Ends the request of this id of this tenant (empty: of no tenant). True means that its receiver's last
    /// event is [`EngineError::Cancelled`], even if the answer was complete but for being read; false that no
    /// such request is in flight, or that its receiver has the end already. Another tenant's request of the
    /// same id is neither ended nor told of.
    #[must_use]
    pub fn abort(&self, tenant: &str, request_id: &str) -> bool {
        self.shared.admission.abort(&RequestName {
            tenant: tenant.to_owned(),
            id: request_id.to_owned(),
        })
    }

    /// Refuses new requests and waits for those in flight; after `timeout` cancels what is left.
    /// Returns how many requests had to be cancelled.
    ///
    /// # Cancel safety
    ///
    /// New requests stay refused when this future is dropped; calling it again goes on waiting.
    pub async fn drain(&self, timeout: Duration) -> usize {
        let admission = &self.shared.admission;
        admission.refuse_new();
        if tokio::time::timeout(timeout, admission.empty())
            .await
            .is_ok()
        {
            return 0;
        }
        admission.abort_all()
    }

    /// Resolves once the engine refuses new requests because it drains.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is kept.
    pub async fn draining(&self) {
        self.shared.admission.draining().await;
    }

    /// Whether new requests will be served. Ask it regularly (every second, say): a stuck step
    /// loop is noticed by comparing two answers.
    #[must_use]
    pub fn health(&self) -> Health {
        if self.shared.admission.is_draining() {
            return Health::not_ready("the engine is draining");
        }
        self.shared.health.health(self.shared.clock.now())
    }

    /// Whether the step loop still runs at all; a draining engine is alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.shared.health.is_alive()
    }

    /// How busy the engine is, as of the last step.
    #[must_use]
    pub fn load(&self) -> Load {
        let admission = &self.shared.admission;
        let (waiting, waiting_tokens) = admission.queue();
        Load {
            waiting,
            waiting_tokens,
            in_flight: admission.in_flight(),
            estimated_wait: admission.estimated_wait(self.shared.clock.now()),
            ..self.shared.health.load()
        }
    }

    /// The memory of the GPU that the engine runs on, as the driver says now; none on the processor, and if the driver
    /// does not say. Steps do not wait for this call, but it may take long: an async worker should not make it.
    #[must_use]
    pub fn gpu_memory(&self) -> Option<GpuMemory> {
        let memory = self.shared.memory_probe.as_ref()?.memory();
        memory.unwrap_or_else(|error| {
            tracing::debug!(%error, "the GPU does not say how much memory it has");
            None
        })
    }

    /// Forgets all cached prefixes; requests in flight go on with what they hold. Returns how many
    /// blocks were forgotten.
    ///
    /// # Errors
    ///
    /// [`EngineError::Stopped`] if the step loop has ended.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the prefixes are forgotten even if this future is dropped.
    pub async fn reset_prefix_cache(&self) -> Result<usize, EngineError> {
        let (answer, forgotten) = oneshot::channel();
        self.shared.admission.reset_prefix_cache(answer)?;
        forgotten.await.map_err(|_| EngineError::Stopped)
    }

    /// Changes of the prefix cache from now on, for routers. Nothing comes unless
    /// [`EngineBuilder::cache_events`] asks for it.
    #[must_use]
    pub fn cache_events(&self) -> CacheEvents {
        self.shared.cache_events.listen()
    }

    /// What was built: model, limits, memory.
    #[must_use]
    pub fn info(&self) -> &EngineInfo {
        &self.shared.info
    }

    /// The model's tokenizer and chat template.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.shared.resolver.tokenizer
    }

    /// Where work on requests is done that must not keep an async worker, with the bound that the engine's own
    /// work keeps to.
    #[must_use]
    pub fn offload(&self) -> &Offload {
        &self.shared.offload
    }

    /// How long the engine has been up.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.shared.clock.now().saturating_sub(self.shared.started)
    }
}

impl Shared {
    /// What the answers to a request share of the way from tokens to text.
    fn text_start(
        &self,
        request: &GenerateRequest,
        resolved: &Resolved,
    ) -> Result<TextStart, EngineError> {
        let prompt = resolved.prompt.as_slice();
        let stopping = &request.stopping;
        let stop_permit = self.stop_budget.take(&stopping.stop)?;
        let stops = (!stopping.stop.is_empty())
            .then(|| StopStrings::new(stopping.stop.clone()).include_stop(stopping.include_stop));
        let skip_special = request.output.skip_special_tokens;
        let tokenizer = self.resolver.tokenizer.clone();
        let (mut detokenizer, text) =
            Detokenizer::with_prompt(tokenizer.clone(), skip_special, prompt);
        let parts = resolved.parts.as_ref();
        if let Some(parts) = parts {
            detokenizer = detokenizer.keep(parts.format.kept_tokens(&tokenizer));
        }
        let echo = request.output.echo.then(|| {
            Arc::new(Echo {
                text,
                token_ids: prompt.to_vec(),
            })
        });
        Ok(TextStart {
            detokenizer,
            stops,
            parts: parts.map(PartReader::new),
            stop_permit,
            echo,
        })
    }
}

/// The way out of one of a request's answers.
fn output(
    request: &GenerateRequest,
    resolved: &Resolved,
    text: &TextStart,
    index: u32,
    submitted: Time,
    events: &EventSender,
) -> Output {
    Output {
        index,
        text: text.clone(),
        min_tokens: request.stopping.min_tokens,
        exempt_bytes: 0,
        include_stop: request.stopping.include_stop,
        prompt_tokens: u32::try_from(resolved.prompt.len()).unwrap_or(u32::MAX),
        cached_prompt_tokens: 0,
        events: events.clone(),
        times: Times {
            submitted,
            ..Times::default()
        },
        generated: 0,
        drafted: 0,
        accepted: 0,
    }
}

/// A byte of a grammar is as much work as so many of a prompt.
const GRAMMAR_WORK: usize = 32;

/// What preparing a request has to go through, in bytes: the prompt, which is tokenized or read for the text
/// that it ends in, the stop strings, of which a search is built, the grammar, which is compiled, and the lists, which are checked.
fn work_bytes(request: &GenerateRequest) -> usize {
    let prompt = match &request.input {
        Input::Tokens(ids) => size_of_val(ids.as_slice()),
        Input::Text(text) => text.len(),
        Input::Chat(chat) => chat.size_in_bytes(),
    };
    let stops = request.stopping.stop.iter();
    let stops = stops.map(|stop| size_of::<String>() + stop.len());
    let lists = size_of_val(request.sampling.logit_bias.as_slice())
        + size_of_val(request.stopping.stop_token_ids.as_slice());
    let grammar = request.grammar.as_ref();
    let grammar = grammar.map_or(0, |it| {
        (it.spec.size_in_bytes() + 1).saturating_mul(GRAMMAR_WORK)
    });
    stops.fold(
        (prompt + lists).saturating_add(grammar),
        usize::saturating_add,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two bytes of a message may be a stop string or an id: none of them is free.
    #[test]
    fn every_part_of_a_request_counts_as_work() {
        let empty = GenerateRequest::new(Input::Text(String::new()));
        assert_eq!(work_bytes(&empty), 0);
        let with = |change: fn(&mut GenerateRequest)| {
            let mut request = empty.clone();
            change(&mut request);
            work_bytes(&request)
        };
        for bytes in [
            with(|it| it.input = Input::Text("a".repeat(4000))),
            with(|it| it.input = Input::Tokens(vec![0; 1000])),
            with(|it| it.stopping.stop = vec![String::new(); 1000]),
            with(|it| it.stopping.stop_token_ids = vec![0; 1000]),
            with(|it| it.sampling.logit_bias = vec![(0, 0.0); 1000]),
        ] {
            assert!(bytes >= 4000, "{bytes}");
        }
    }
}
