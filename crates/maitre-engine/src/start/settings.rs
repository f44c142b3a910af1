//! Settings that can't work, each refused by the flag's name with what was expected.

use maitre_scheduler::QueueOrder;
use maitre_speculative::Speculate;

use crate::start::builder::StepSize;
use crate::start::machine::usable_cores;
use crate::{EngineBuilder, StartError};

/// Largest `--block-size`: past it a block is a whole sequence of most models.
const MAX_BLOCK_SIZE: usize = 65_536;
/// Largest of the other settings: far above any real service, far below what overflows.
const MAX_COUNT: usize = 1 << 24;
/// Largest `--draft-tokens`: past it not even a verbatim repetition gains.
const MAX_DRAFT_TOKENS: usize = 64;
/// Largest number of tokens that may wait: sixteen million prompts of a million tokens.
const MAX_TOKENS: usize = 1 << 44;

impl EngineBuilder {
    pub(crate) fn check_settings(&self) -> Result<(), StartError> {
        let StepSize { seqs, tokens } = self.step_size(false);
        for (setting, value, most) in [
            ("--block-size", self.block_size, MAX_BLOCK_SIZE),
            ("--max-seqs", seqs, MAX_COUNT),
            ("--max-batched-tokens", tokens, MAX_COUNT),
            ("--max-queue", self.max_queue, MAX_COUNT),
            ("--max-queued-tokens", self.max_queued_tokens, MAX_TOKENS),
            (
                "--draft-tokens",
                self.speculation.draft_tokens,
                MAX_DRAFT_TOKENS,
            ),
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
        if self.speculation.speculate == Speculate::Draft && self.draft.is_none() {
            return Err(StartError::Setting {
                setting: "--speculate",
                found: "draft".into(),
                expected: "a --draft-model with it, or auto, suffix, ngram or off".into(),
            });
        }
        self.given_formats()?;
        self.check_times()?;
        self.check_scheduling()?;
        // More threads than cores would wait for each other at every operator.
        let usable = usable_cores();
        if let Some(threads) = self.threads.filter(|n| !(1..=usable.count).contains(n)) {
            return Err(StartError::Setting {
                setting: "--threads",
                found: threads.to_string(),
                expected: format!("at least 1 and at most {usable}"),
            });
        }
        if tokens < seqs {
            return Err(StartError::Setting {
                setting: "--max-batched-tokens",
                found: tokens.to_string(),
                expected: format!(
                    "at least --max-seqs ({seqs}), so that every running sequence can take its token each step"
                ),
            });
        }
        Ok(())
    }

    /// A setting that the others make meaningless is a mistake, not a wish.
    fn check_scheduling(&self) -> Result<(), StartError> {
        let scheduling = &self.scheduling;
        let refused = |setting, found: String, expected: &str| {
            Err(StartError::Setting {
                setting,
                found,
                expected: expected.into(),
            })
        };
        let order = scheduling.build_policy().queue_order();
        let is_custom = scheduling.custom_policy.is_some();
        let weights = &scheduling.tenant_weights;
        if let Some((tenant, weight)) = weights.iter().next()
            && !is_custom
            && order != QueueOrder::TenantShares
        {
            let found = format!("{tenant}={weight}");
            return refused("--tenant-weight", found, "none, or --policy fair");
        }
        if let Some((tenant, _)) = weights.iter().find(|(_, weight)| **weight == 0) {
            return refused("--tenant-weight", format!("{tenant}=0"), "at least 1");
        }
        if let Some(wait) = scheduling.max_queue_wait
            && order != QueueOrder::Arrival
        {
            let expected = "none, or --policy fcfs: under others the wait cannot be estimated";
            return refused(
                "--max-queue-wait-ms",
                wait.as_millis().to_string(),
                expected,
            );
        }
        if !scheduling.prefix_cache {
            if self.host_kv_bytes > 0 {
                let found = self.host_kv_bytes.to_string();
                let expected = "0 with --no-prefix-cache: the host tier keeps cached prefixes";
                return refused("--host-kv-bytes", found, expected);
            }
            if scheduling.cache_events {
                let expected = "off with --no-prefix-cache: there is nothing to tell";
                return refused("--cache-events", "on".into(), expected);
            }
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
