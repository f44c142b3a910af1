//! What the users ask: prompts of random tokens, the same for the same seed, unless there are
//! [`Prompts`] from a file.
//!
//! Random ids cost a model what text costs, need no tokenizer, and no two prompts share a prefix,
//! so that a prefix cache neither helps nor hides.

use maitre_workload::{Random, mix};

use crate::{BenchError, BenchRequest, ModelFacts, Prompts};

/// Requests per user when their number is not given; with fewer, starting and ending weigh too much.
const REQUESTS_PER_USER: usize = 4;
/// Requests of a run when their number is not given, at least.
const FEWEST_REQUESTS: usize = 8;

/// The requests of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Workload {
    /// Tokens of each prompt, where they are random.
    pub input_tokens: usize,
    /// Tokens of each answer, exactly.
    pub output_tokens: usize,
    /// Requests of each run; `None` = four for each user and eight at least.
    pub requests: Option<usize>,
    /// Chooses the prompts.
    pub seed: u64,
}

impl Workload {
    /// Requests of a run with this many users.
    #[must_use]
    pub fn requests_of(&self, concurrency: usize) -> usize {
        self.requests.unwrap_or_else(|| {
            concurrency
                .saturating_mul(REQUESTS_PER_USER)
                .max(FEWEST_REQUESTS)
        })
    }

    pub(crate) fn check(
        &self,
        prompts: Option<&Prompts>,
        model: &ModelFacts,
        concurrency: usize,
    ) -> Result<(), BenchError> {
        let input_tokens = prompts.map_or(self.input_tokens, Prompts::longest);
        let output_tokens = self.output_tokens;
        for (setting, given) in [
            ("input-tokens", input_tokens),
            ("output-tokens", output_tokens),
        ] {
            if given == 0 {
                let expected = "at least 1".to_string();
                return Err(BenchError::Setting {
                    setting,
                    given,
                    expected,
                });
            }
        }
        if input_tokens.saturating_add(output_tokens) > model.max_model_len {
            let max_model_len = model.max_model_len;
            return Err(BenchError::TooLong {
                input_tokens,
                output_tokens,
                max_model_len,
            });
        }
        let given = self.requests_of(concurrency);
        if given < concurrency {
            let expected = format!("at least the concurrency, {concurrency}: no fewer reach it");
            return Err(BenchError::Setting {
                setting: "requests",
                given,
                expected,
            });
        }
        Ok(())
    }

    /// Request `index` of `phase` with random tokens. Phases (warm-up, each run) never share a prompt.
    pub(crate) fn request(&self, vocab_size: usize, phase: u64, index: usize) -> BenchRequest {
        let mut random = Random::new(mix(self.seed) ^ phase, index as u64);
        let prompt = (0..self.input_tokens)
            .map(|_| random.below(vocab_size as u64) as u32)
            .collect();
        BenchRequest {
            prompt,
            output_tokens: self.output_tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKLOAD: Workload = Workload {
        input_tokens: 1000,
        output_tokens: 2,
        requests: None,
        seed: 7,
    };

    #[test]
    fn prompts_repeat_with_the_seed_and_differ_otherwise() {
        let prompt = |seed, phase, index| {
            Workload { seed, ..WORKLOAD }
                .request(50, phase, index)
                .prompt
        };
        assert_eq!(prompt(7, 1, 2), prompt(7, 1, 2));
        for other in [
            prompt(8, 1, 2),
            prompt(7, 2, 2),
            prompt(7, 1, 3),
            prompt(7, 2, 1),
        ] {
            assert_ne!(prompt(7, 1, 2)[..4], other[..4]);
        }
    }

    #[test]
    fn token_ids_cover_the_vocabulary_and_stay_inside() {
        let prompt = WORKLOAD.request(10, 0, 0).prompt;
        assert_eq!(prompt.len(), 1000);
        for id in 0..10 {
            let times = prompt.iter().filter(|&&found| found == id).count();
            assert!((60..140).contains(&times), "{id}: {times} of 1000");
        }
        assert!(prompt.iter().all(|&id| id < 10));
    }

    #[test]
    fn impossible_workloads_are_refused_by_name() {
        let model = ModelFacts {
            name: "m".into(),
            vocab_size: 10,
            max_model_len: 100,
        };
        let good = Workload {
            input_tokens: 98,
            ..WORKLOAD
        };
        assert!(good.check(None, &model, 4).is_ok());
        let cases = [
            (
                Workload {
                    input_tokens: 0,
                    ..good
                },
                "input-tokens is 0",
            ),
            (
                Workload {
                    output_tokens: 0,
                    ..good
                },
                "output-tokens is 0",
            ),
            (
                Workload {
                    output_tokens: 3,
                    ..good
                },
                "context holds 100",
            ),
            (
                Workload {
                    input_tokens: usize::MAX,
                    ..good
                },
                "context holds 100",
            ),
            (
                Workload {
                    requests: Some(3),
                    ..good
                },
                "requests is 3; expected at least the concurrency, 4",
            ),
            (
                Workload {
                    requests: Some(0),
                    ..good
                },
                "requests is 0",
            ),
        ];
        for (workload, expected) in cases {
            let message = workload.check(None, &model, 4).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
