//! Settings that can't work, each refused by the flag's name with what was expected.

use std::thread;

use maitre_model::GenerationDefaults;
use maitre_sampling::SamplingParams;

use crate::{EngineBuilder, StartError};

/// Largest `--block-size`: past it a block is a whole sequence of most models.
const MAX_BLOCK_SIZE: usize = 65_536;
/// Largest of the other settings: far above any real house, far below what overflows.
const MAX_COUNT: usize = 1 << 24;

impl EngineBuilder {
    pub(crate) fn check_settings(&self) -> Result<(), StartError> {
        for (setting, value, most) in [
            ("--block-size", self.block_size, MAX_BLOCK_SIZE),
            ("--max-seqs", self.max_seqs, MAX_COUNT),
            ("--max-batched-tokens", self.max_batched_tokens, MAX_COUNT),
            ("--max-queue", self.max_queue, MAX_COUNT),
            ("--max-queued-tokens", self.max_queued_tokens, usize::MAX),
            (
                "--max-model-len",
                self.max_model_len.unwrap_or(1),
                MAX_COUNT,
            ),
        ] {
            if !(1..=most).contains(&value) {
                return Err(StartError::Setting {
                    setting,
                    found: value.to_string(),
                    expected: format!("at least 1 and at most {most}"),
                });
            }
        }
        self.check_times()?;
        if let Some((tenant, _)) = self
            .scheduling
            .tenant_weights
            .iter()
            .find(|(_, w)| **w == 0)
        {
            return Err(StartError::Setting {
                setting: "--tenant-weight",
                found: format!("{tenant}=0"),
                expected: "at least 1".into(),
            });
        }
        if self.host_kv_bytes > 0 && !self.scheduling.prefix_cache {
            return Err(StartError::Setting {
                setting: "--host-kv-bytes",
                found: self.host_kv_bytes.to_string(),
                expected: "0 with --no-prefix-cache: the host tier keeps cached prefixes".into(),
            });
        }
        // More threads than cores would wait for each other at every operator.
        if let Some(threads) = self.threads.filter(|n| !(1..=cores()).contains(n)) {
            return Err(StartError::Setting {
                setting: "--threads",
                found: threads.to_string(),
                expected: format!(
                    "at least 1 and at most {}, the cores this process may use",
                    cores()
                ),
            });
        }
        if self.max_batched_tokens < self.max_seqs {
            return Err(StartError::Setting {
                setting: "--max-batched-tokens",
                found: self.max_batched_tokens.to_string(),
                expected: format!(
                    "at least --max-seqs ({}), so that every running sequence can take its token each step",
                    self.max_seqs
                ),
            });
        }
        Ok(())
    }

    /// Times of zero would refuse everything.
    fn check_times(&self) -> Result<(), StartError> {
        for (setting, time) in [
            ("--itl-target-ms", self.scheduling.itl_target),
            ("--max-queue-wait-ms", self.scheduling.max_queue_wait),
        ] {
            if time.is_some_and(|time| time.is_zero()) {
                return Err(StartError::Setting {
                    setting,
                    found: "0".into(),
                    expected: "at least 1, or leave it out".into(),
                });
            }
        }
        Ok(())
    }
}

/// Cores that this process may use: what its affinity and its container's quota leave it.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// What a request that says nothing would be given must be something a request may say.
pub(crate) fn check_defaults(
    defaults: &GenerationDefaults,
    vocab_size: usize,
) -> Result<(), StartError> {
    let neutral = SamplingParams::default();
    let params = SamplingParams {
        temperature: defaults.temperature.unwrap_or(neutral.temperature),
        top_p: defaults.top_p.unwrap_or(neutral.top_p),
        top_k: defaults.top_k.unwrap_or(neutral.top_k),
        min_p: defaults.min_p.unwrap_or(neutral.min_p),
        repetition_penalty: defaults
            .repetition_penalty
            .unwrap_or(neutral.repetition_penalty),
        ..neutral
    };
    if let Some(violation) = params.validate(vocab_size).into_iter().next() {
        return Err(StartError::GenerationDefault {
            key: violation.field,
            problem: violation.description,
        });
    }
    match defaults
        .eos_token_ids
        .iter()
        .find(|&&id| id as usize >= vocab_size)
    {
        Some(id) => Err(StartError::GenerationDefault {
            key: "eos_token_id",
            problem: format!("is {id}; the tokenizer has ids 0 to {}", vocab_size - 1),
        }),
        None => Ok(()),
    }
}
