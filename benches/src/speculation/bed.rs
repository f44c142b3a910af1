//! The model that does the work, and engines on it, each of which speculates in its own way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use maitre_engine::{
    DraftInfo, Engine, EngineInfo, EngineLimits, Event, Finished, GenerateRequest, Input,
    MemoryBudget, Parts, Scheduling, Speculate, Speculation, Synchronous, SystemClock,
};
use maitre_model::{
    GenerationDefaults, LoadFormat, LoadOptions, Model, ModelSource, Runner, RunnerConfig,
};
use maitre_tensor::Backend;
use maitre_text::Tokenizer;
use tokio::runtime::{self, Runtime};

use super::{Script, Scripted, Settings, Shape, Step, Synthetic, Temper};
use crate::texts;

/// The shape of Qwen3-0.6B.
const LARGE: &str = r#"{
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "bfloat16",
    "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 151936, "max_position_embeddings": 40960, "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "hidden_act": "silu",
    "attention_bias": false
}"#;

/// Next to nothing, with a vocabulary that has space for the tokenizer's.
const TINY: &str = r#"{
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "bfloat16",
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
    "vocab_size": 4096, "max_position_embeddings": 4096, "rope_theta": 1000000.0,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": true, "hidden_act": "silu",
    "attention_bias": false
}"#;

/// Models without weights: they are made up.
static LARGE_FILES: [(&str, &[u8]); 1] = [("config.json", LARGE.as_bytes())];
static TINY_FILES: [(&str, &[u8]); 1] = [("config.json", TINY.as_bytes())];

const LIMITS: EngineLimits = EngineLimits {
    max_model_len: 1024,
    max_seqs: 4,
    max_batched_tokens: 512,
    max_queue: 16,
    max_queued_tokens: 1 << 16,
    block_size: 16,
    num_blocks: 128,
    num_host_blocks: 0,
};

/// A model and a compute team that engines share, one at work at a time.
pub struct TestBed {
    name: String,
    model: Arc<Model>,
    backend: Backend,
    tokenizer: Tokenizer,
}

impl TestBed {
    /// Loads the model.
    ///
    /// # Errors
    ///
    /// If it can't be loaded.
    pub fn new(settings: &Settings) -> Result<Self> {
        let backend = Backend::cpu(settings.threads)?;
        let (source, load_format) = source(&settings.shape);
        let options = LoadOptions {
            dtype: settings.dtype,
            load_format,
            ..LoadOptions::default()
        };
        let name = match &settings.shape {
            Shape::Large => "0.6B shape, random weights".to_owned(),
            Shape::Tiny => "tiny shape, random weights".to_owned(),
            Shape::Bundled => "bundled".to_owned(),
            Shape::Directory(path) => {
                let name = path.file_name().unwrap_or_default();
                name.to_string_lossy().into_owned()
            }
        };
        Ok(Self {
            name,
            model: Arc::new(Model::load(&source, &options, &backend)?),
            backend,
            tokenizer: texts::tokenizer()?,
        })
    }

    /// What reports call the model.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The format of its weights, and its kernels.
    #[must_use]
    pub fn description(&self) -> (String, String) {
        (
            self.model.dtype().to_string(),
            self.backend.name().to_owned(),
        )
    }

    /// Text to tokens; all of them are below the model's vocabulary.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// An engine of its own that speculates like this. With `share` it has a synthetic drafter, which it takes to
    /// cost this share of a step until it has measured it.
    ///
    /// # Errors
    ///
    /// If it can't be started.
    pub fn subject(
        &self,
        speculate: Speculate,
        draft_tokens: usize,
        share: Option<f64>,
    ) -> Result<Subject> {
        let script = Arc::<Mutex<Script>>::default();
        let temper = Arc::<Mutex<Temper>>::default();
        let config = RunnerConfig::new(
            LIMITS.num_blocks as u32,
            LIMITS.block_size as u32,
            LIMITS.max_batched_tokens,
            LIMITS.max_seqs,
        );
        let runner = Runner::new(Arc::clone(&self.model), self.backend.clone(), config)?;
        let draft = share.map(|share| DraftInfo {
            model: "synthetic".into(),
            parameters: 0,
            dtype: "none".into(),
            share,
        });
        let speculation = Speculation {
            speculate,
            draft_tokens,
            draft,
            ..Speculation::default()
        };
        let synthetic = || Synthetic::new(Arc::clone(&script), Arc::clone(&temper));
        let parts = Parts {
            executor: Box::new(Synchronous::new(Scripted::new(
                Box::new(runner),
                Arc::clone(&script),
            ))),
            drafter: share.map(|_| Box::new(synthetic()) as Box<_>),
            tokenizer: self.tokenizer.clone(),
            defaults: GenerationDefaults::default(),
            info: self.info(speculation),
            stall_after: Duration::from_secs(60),
            clock: Arc::new(SystemClock::start()),
        };
        Ok(Subject {
            engine: parts.start()?,
            runtime: runtime::Builder::new_current_thread().build()?,
            script,
            temper,
            draft_tokens,
        })
    }

    fn info(&self, speculation: Speculation) -> EngineInfo {
        let config = self.model.config();
        EngineInfo {
            model: self.name.clone(),
            architecture: config.architecture.to_string(),
            parameters: config.num_parameters(),
            dtype: self.model.dtype().to_string(),
            kv_dtype: self.model.kv_dtype().to_string(),
            device: "cpu".into(),
            backend: self.backend.name().into(),
            deterministic: true,
            threads: self.backend.threads(),
            vocab_size: self.tokenizer.num_tokens(),
            eos_token_ids: Vec::new(),
            has_chat_template: false,
            tool_format: None,
            reasoning_format: None,
            limits: LIMITS,
            scheduling: Scheduling {
                prefix_cache: false,
                ..Scheduling::default()
            },
            speculation,
            memory: MemoryBudget::default(),
        }
    }
}

fn source(shape: &Shape) -> (ModelSource, LoadFormat) {
    let random = LoadFormat::Random { seed: 0 };
    match shape {
        Shape::Large => (memory("0.6b", &LARGE_FILES), random),
        Shape::Tiny => (memory("tiny", &TINY_FILES), random),
        Shape::Bundled => {
            let bundled = &maitre_bundled::TARGET;
            let source = memory(bundled.name, bundled.files);
            (source, LoadFormat::default())
        }
        Shape::Directory(path) => {
            let source = ModelSource::Directory(path.clone());
            (source, LoadFormat::default())
        }
    }
}

fn memory(name: &'static str, files: &'static [(&'static str, &'static [u8])]) -> ModelSource {
    ModelSource::Memory { name, files }
}

/// An engine with one user.
pub struct Subject {
    engine: Engine,
    runtime: Runtime,
    script: Arc<Mutex<Script>>,
    temper: Arc<Mutex<Temper>>,
    draft_tokens: usize,
}

/// An answer and how it came about.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// The engine's own account.
    pub(super) end: Finished,
    /// The steps of the target, that of the prompt first.
    pub(super) steps: Vec<Step>,
}

impl Subject {
    /// How the drafter behaves from now on; its accounts begin anew. Its chances go on: what an answer's
    /// few dozen of them leave uneven, the next answers make up for.
    pub fn set_temper(&self, acceptance: f64, round: Duration) {
        let mut temper = lock(&self.temper);
        *temper = Temper {
            acceptance,
            round,
            drafts: temper.drafts,
            ..Temper::default()
        };
    }

    /// How the drafter behaves, and what it spent since.
    #[must_use]
    pub fn temper(&self) -> Temper {
        *lock(&self.temper)
    }

    /// Asks for `answer` after `prompt`, and checks that it came.
    pub(super) fn tell(&self, prompt: &[u32], answer: &[u32]) -> Result<Told> {
        *lock(&self.script) = Script {
            prompt_len: prompt.len(),
            answer: answer.to_vec(),
            steps: Vec::new(),
        };
        let mut request = GenerateRequest::new(Input::Tokens(prompt.to_vec()));
        request.sampling.temperature = Some(0.0);
        request.stopping.max_tokens = Some(u32::try_from(answer.len())?);
        request.stopping.ignore_eos = true;
        let (said, end) = self.runtime.block_on(self.listen(request))?;
        ensure!(
            said == answer,
            "the engine's answer is not that of the script: {said:?}, expected {answer:?}"
        );
        let steps = std::mem::take(&mut lock(&self.script).steps);
        Ok(Told { end, steps })
    }

    async fn listen(&self, request: GenerateRequest) -> Result<(Vec<u32>, Finished)> {
        let mut generation = self.engine.generate(request).await?;
        let mut said = Vec::new();
        while let Some(event) = generation.next().await {
            match event? {
                Event::Delta(delta) => said.extend(delta.token_ids),
                Event::Finished(end) => return Ok((said, end)),
                Event::PromptLogprobs(_) => {}
            }
        }
        bail!("the answer has no end")
    }

    /// Seconds per token over the first `tokens` tokens after the first, from the start of one step to the start of
    /// another. The answer goes on a little longer, so that no step among them drafts less because the
    /// end is near.
    pub(super) fn pace(&self, prompt: &[u32], answer: &[u32], tokens: usize) -> Result<TokenTime> {
        let longer = tokens + self.draft_tokens + 2;
        let answer = answer
            .get(..longer)
            .with_context(|| format!("a script of {longer} tokens is needed"))?;
        let told = self.tell(prompt, answer)?;
        let decodes = || {
            let steps = told.steps.iter();
            steps.skip_while(|step| step.position < prompt.len())
        };
        let first = decodes().next().context("no step but the prompt's")?;
        let last = decodes().find(|step| step.position >= first.position + tokens);
        let last = last.context("the answer ended too soon")?;
        let between = decodes().take_while(|step| step.position < last.position);
        let gained = last.position - first.position;
        Ok(TokenTime {
            seconds: (last.began - first.began).as_secs_f64() / gained as f64,
            tokens_per_step: gained as f64 / between.count() as f64,
            steps: decodes().count(),
        })
    }
}

/// How fast an answer came.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenTime {
    /// Seconds per token.
    pub(super) seconds: f64,
    /// Tokens that a step yielded.
    pub(super) tokens_per_step: f64,
    /// Steps after the prompt's, to the very end of the answer.
    pub(super) steps: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
