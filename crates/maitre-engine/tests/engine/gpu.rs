//! The whole engine on the GPU's kernels, run by the emulator: the same answer in every crowd, with drafts and
//! without, drawn where the logits are or sampled on the host; and nothing left behind.
//!
//! The model is the bundled draft: the emulator is some thousand times slower than the processor.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use maitre_engine::{
    DeviceName, Engine, EngineBuilder, EngineError, Forward, GenerateRequest, ModelSource,
    Speculate, StartError, Synchronous, WeightFormat,
};
use maitre_model::{
    Batch, CacheMoves, LoadOptions, Logits, Model, ModelError, Runner, RunnerConfig,
};

use maitre_sampling::{Sampler, SamplingParams, TokenCounts, noise};
use maitre_tensor::{
    Backend, GpuOptions, Heartbeat, SampleRow, SampleRows, SampledRow, TensorError,
};

use crate::bundled::{crowd, goldens, greedy};
use crate::toy::{Answer, Setup, answer, idle, tokens_request, until};

/// An engine on the emulator; `None` after saying that there is no emulator.
fn engine(build: impl FnOnce(EngineBuilder) -> EngineBuilder) -> Option<Engine> {
    let model = &maitre_bundled::DRAFT;
    let builder = Engine::builder(ModelSource::Memory {
        name: model.name,
        files: model.files,
    })
    .device(DeviceName::Emulator)
    .threads(Some(1))
    .max_model_len(Some(96))
    .max_seqs(4)
    .max_batched_tokens(32)
    .speculate(Speculate::Off);
    match build(builder).build() {
        Ok(engine) => Some(engine),
        Err(StartError::Setting {
            setting: "--device",
            expected,
            ..
        }) => {
            println!("skipped: {expected}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The pool takes what the emulator's memory leaves, to the last block, and everything else still fits.
#[tokio::test]
async fn an_engine_that_fills_its_gpu_starts() {
    for kv_cache_bytes in [None, Some(64 << 20)] {
        let model = &maitre_bundled::TARGET;
        let builder = Engine::builder(ModelSource::Memory {
            name: model.name,
            files: model.files,
        })
        .device(DeviceName::Emulator)
        .threads(Some(1))
        .kv_cache_bytes(kv_cache_bytes);
        let engine = match builder.clone().build() {
            Err(StartError::Setting {
                setting: "--device",
                expected,
                ..
            }) => return println!("skipped: {expected}"),
            engine => engine.unwrap(),
        };
        let (memory, limits) = (engine.info().memory, engine.info().limits);
        assert_eq!((limits.max_seqs, limits.max_batched_tokens), (256, 2048));
        let available = memory.available.unwrap();
        assert!(memory.kv_cache + memory.workspace <= available);
        match kv_cache_bytes {
            Some(bytes) => assert!(memory.kv_cache <= bytes),
            None => {
                let block = memory.kv_per_token * limits.block_size as u64;
                let unused = available - memory.kv_cache - memory.workspace;
                assert!(unused < available / 20 + block, "{memory:?}");
            }
        }
        let refused = builder.kv_cache_bytes(Some(1 << 40)).build().unwrap_err();
        assert!(refused.to_string().contains("GPU"), "{refused}");
    }
}

#[tokio::test]
async fn an_engine_tells_its_gpus_memory_and_on_the_processor_has_none_to_tell() {
    let Some(gpu) = engine(|builder| builder) else {
        return;
    };
    let (memory, taken) = (gpu.gpu_memory().unwrap(), gpu.info().memory);
    let used = memory.total_bytes - memory.free_bytes;
    assert!(used >= taken.weights + taken.kv_cache, "{memory:?}");
    let processor = engine(|builder| builder.device(DeviceName::Cpu)).unwrap();
    assert_eq!(processor.gpu_memory(), None);
}

/// Greedy, drawn on the device in three ways, and with what only the host samples.
fn requests() -> Vec<GenerateRequest> {
    let goldens = goldens();
    let requests = goldens.iter().take(6).enumerate();
    requests
        .map(|(of, golden)| {
            let mut request = greedy(golden);
            request.output.logprobs = None;
            request.stopping.max_tokens = Some(9);
            // A stop token that is banned for the first few, and may end the answer then.
            if of % 2 == 1 {
                request.stopping.min_tokens = 4;
            }
            if of > 0 {
                request.sampling.temperature = Some(0.9);
                request.sampling.seed = Some(of as u64);
            }
            match of {
                2 => request.sampling.top_p = Some(0.9),
                3 => (request.sampling.top_k, request.sampling.min_p) = (Some(20), Some(0.02)),
                4 => request.sampling.frequency_penalty = Some(0.5),
                5 => {
                    request.output.logprobs = Some(2);
                    request.output.prompt_logprobs = Some(1);
                }
                _ => (),
            }
            request
        })
        .collect()
}

async fn alone(engine: &Engine, requests: &[GenerateRequest]) -> Vec<Answer> {
    let mut answers = Vec::new();
    for request in requests {
        let generation = engine.generate(request.clone()).await.unwrap();
        answers.push(answer(generation).await.unwrap());
    }
    answers
}

#[tokio::test]
async fn answers_are_the_same_bits_in_any_company() {
    let Some(engine) = engine(|builder| builder) else {
        return;
    };
    assert_eq!(engine.info().device, "emulator");
    let requests = requests();
    let expected = alone(&engine, &requests).await;
    idle(&engine).await;
    let found = crowd(&engine, requests).await;
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.token_ids, expected.token_ids);
        assert_eq!(found.text, expected.text);
    }
    idle(&engine).await;
}

/// In f32 the GPU's kernels and the processor's round apart, but not so far that a token changes.
#[tokio::test]
async fn answers_are_those_of_the_processor() {
    let f32s = |builder: EngineBuilder| builder.dtype(Some(WeightFormat::F32));
    let Some(gpu) = engine(f32s) else { return };
    let cpu = engine(|builder| f32s(builder).device(DeviceName::Cpu)).unwrap();
    let requests = requests();
    let expected = alone(&cpu, &requests).await;
    let found = alone(&gpu, &requests).await;
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.token_ids, expected.token_ids);
        assert_eq!(found.reason, expected.reason);
    }
}

#[tokio::test]
async fn drafts_change_no_answer() {
    let requests = requests();
    let Some(plain) = engine(|builder| builder) else {
        return;
    };
    let expected = alone(&plain, &requests).await;
    for speculate in [Speculate::Suffix, Speculate::Draft] {
        let draft = &maitre_bundled::DRAFT;
        let drafted = engine(|builder| {
            let draft = (speculate == Speculate::Draft).then_some(ModelSource::Memory {
                name: draft.name,
                files: draft.files,
            });
            builder
                .speculate(speculate)
                .draft_model(draft)
                .draft_tokens(3)
        });
        let drafted = drafted.unwrap();
        let found = crowd(&drafted, requests.clone()).await;
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.token_ids, expected.token_ids, "{speculate:?}");
        }
        if speculate == Speculate::Draft {
            let accepted: u32 = found.iter().map(|it| it.end.usage.accepted_tokens).sum();
            assert!(accepted > 0, "the draft is the model itself");
        }
        idle(&drafted).await;
    }
}

#[tokio::test]
async fn what_is_cancelled_leaves_nothing_behind() {
    let Some(engine) = engine(|builder| builder) else {
        return;
    };
    for round in 0..3 {
        for mut request in requests() {
            request.stopping.max_tokens = Some(24);
            let generation = engine.generate(request).await.unwrap();
            drop(generation);
        }
        let finished = crowd(&engine, requests()[..2].to_vec()).await;
        for answer in finished {
            assert!(!answer.token_ids.is_empty(), "round {round}");
        }
        idle(&engine).await;
    }
}

/// A model on the emulator, which is lost at a certain step.
struct Losing {
    runner: Runner,
    backend: Backend,
    /// Steps until then, those counted that were tried afterwards.
    steps: Arc<AtomicUsize>,
}

const LOST_AT: usize = 4;

impl Forward for Losing {
    fn vocab_size(&self) -> usize {
        self.runner.vocab_size()
    }

    fn logits_tile(&self) -> usize {
        self.runner.logits_tile()
    }

    fn heartbeat(&self) -> Heartbeat {
        Forward::heartbeat(&self.runner)
    }

    fn move_blocks(&mut self, moves: &CacheMoves<'_>) -> Result<(), ModelError> {
        self.runner.move_blocks(moves)
    }

    fn forward(&mut self, batch: &Batch) -> Result<(), ModelError> {
        if self.steps.fetch_add(1, Ordering::SeqCst) == LOST_AT {
            assert!(batch.spans.len() > 1, "there are halves to be run");
            self.backend.lose_device();
        }
        self.runner.forward(batch)
    }

    fn logits(&mut self, rows: Range<usize>) -> Result<Logits<'_>, ModelError> {
        self.runner.logits(rows)
    }
}

#[tokio::test]
async fn a_lost_device_ends_the_engine_and_says_what_to_do() {
    let opened = Backend::open(DeviceName::Emulator, 1, GpuOptions::default());
    let backend = match opened {
        Err(error @ TensorError::NoDevice { .. }) => return println!("skipped: {error}"),
        opened => opened.unwrap(),
    };
    let source = ModelSource::Memory {
        name: maitre_bundled::DRAFT.name,
        files: maitre_bundled::DRAFT.files,
    };
    let model = Model::load(&source, &LoadOptions::default(), &backend).unwrap();
    let setup = Setup {
        block_size: 16,
        num_blocks: 16,
        max_seqs: 2,
        ..Setup::default()
    };
    let limits = setup.limits();
    let config = RunnerConfig::new(16, 16, limits.max_batched_tokens, limits.max_seqs);
    let steps = Arc::<AtomicUsize>::default();
    let losing = Losing {
        runner: Runner::new(Arc::new(model), backend.clone(), config).unwrap(),
        backend,
        steps: Arc::clone(&steps),
    };
    let stall_after = std::time::Duration::from_secs(3600);
    let engine = setup.start_executor(
        Box::new(Synchronous::new(losing)),
        limits,
        stall_after,
        None,
    );
    // Two that run and one that waits for a place.
    let mut generations = Vec::new();
    for first in 10..13 {
        let mut request = tokens_request(&[first, 20, 30], 40);
        request.stopping.ignore_eos = true;
        generations.push(engine.generate(request).await.unwrap());
    }
    for generation in generations {
        let message = answer(generation).await.unwrap_err().to_string();
        assert!(message.contains("restart the process"), "{message}");
    }
    assert_eq!(
        steps.load(Ordering::SeqCst),
        LOST_AT + 1,
        "nothing is tried again"
    );
    until("the loop has ended", || !engine.is_alive()).await;
    let health = engine.health();
    assert!(
        !health.ready && health.reason.contains("restart the process"),
        "{health:?}"
    );
    let late = match engine.generate(tokens_request(&[9], 1)).await {
        Ok(generation) => answer(generation).await.unwrap_err(),
        Err(refused) => refused,
    };
    assert_eq!(late, EngineError::Stopped);
}

/// The device chooses what the sampler would: where both see the same row, to the token.
#[test]
fn rows_are_drawn_as_the_sampler_does() {
    let opened = Backend::open(DeviceName::Emulator, 1, GpuOptions::default());
    let backend = match opened {
        Err(error @ TensorError::NoDevice { .. }) => return println!("skipped: {error}"),
        opened => opened.unwrap(),
    };
    let (count, vocab) = (96, 1000);
    let hash = |at: usize| noise::philox4x32_10([at as u32, 0, 0, 9], [1, 2])[0];
    let logits: Vec<f32> = (0..count * vocab)
        .map(|at| (f64::from(hash(at)) / f64::from(u32::MAX) * 16.0 - 8.0) as f32)
        .collect();
    let rows: Vec<SampleRow> = (0..count)
        .map(|row| SampleRow {
            temperature: [0.0, 0.3, 1.0, 1.7][row % 4],
            top_k: [0, 1, 40, 2000][row / 4 % 4],
            top_p: [1.0, 0.9, 0.4][row / 16 % 3],
            min_p: [0.0, 0.05][row / 48],
            seed: row as u64 * 7919,
            position: row as u64 % 5,
        })
        .collect();
    let mut found = vec![SampledRow::Skipped; count];
    backend
        .sample_rows(SampleRows {
            logits: &backend.vector(&logits).unwrap(),
            vocab,
            choosable: vocab - 3,
            rows: &rows.iter().copied().map(Some).collect::<Vec<_>>(),
            out: &mut found,
        })
        .unwrap();
    let mut sampler = Sampler::new();
    for ((row, found), logits) in rows.iter().zip(&found).zip(logits.chunks_exact(vocab)) {
        let params = SamplingParams {
            temperature: row.temperature,
            top_k: row.top_k,
            top_p: row.top_p,
            min_p: row.min_p,
            seed: row.seed,
            logprobs: Some(0),
            ..SamplingParams::default()
        };
        let logits = &logits[..vocab - 3];
        let counts = TokenCounts::default();
        let sampled = sampler.sample(logits, &params, &counts, row.position, &[]);
        let sampled = sampled.unwrap();
        let SampledRow::Token { id, logprob } = *found else {
            panic!("{row:?}: {found:?}")
        };
        assert_eq!(id, sampled.token, "{row:?}");
        assert!((logprob - sampled.logprobs.unwrap().logprob).abs() < 1e-4);
    }
}
