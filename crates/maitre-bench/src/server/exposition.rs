//! The Prometheus text format (version 0.0.4), and the numbers in it that explain latencies.

use std::collections::HashMap;

/// What a server has counted since its start, and what it holds now. `None`: it does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ServerState {
    /// Sequences that take part in steps.
    pub running: Option<f64>,
    /// Sequences that wait.
    pub waiting: Option<f64>,
    /// Share of the KV cache that sequences hold.
    pub kv_used: Option<f64>,
    /// How often a sequence lost its KV blocks.
    pub preemptions: Option<f64>,
    /// Tokens looked up in the prefix cache.
    pub prefix_queries: Option<f64>,
    /// Of them, tokens that were there.
    pub prefix_hits: Option<f64>,
    /// Seconds of steps.
    pub step_seconds: Sum,
    /// Sequences of steps.
    pub step_sequences: Sum,
    /// Tokens of steps.
    pub step_tokens: Sum,
    /// Seconds from arrivals to first steps.
    pub queue_seconds: Sum,
    /// Seconds to first tokens.
    pub ttft_seconds: Sum,
    /// Seconds per output token.
    pub tpot_seconds: Sum,
}

/// The sum and the number of what a histogram has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sum {
    /// All added up.
    pub sum: Option<f64>,
    /// How many.
    pub count: Option<f64>,
}

impl Sum {
    /// What has come since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            sum: difference(self.sum, before.sum),
            count: difference(self.count, before.count),
        }
    }

    /// `None` of nothing.
    pub(crate) fn mean(self) -> Option<f64> {
        let count = self.count.filter(|count| *count > 0.0)?;
        Some(self.sum? / count)
    }
}

pub(crate) fn difference(after: Option<f64>, before: Option<f64>) -> Option<f64> {
    Some((after? - before.unwrap_or(0.0)).max(0.0))
}

impl ServerState {
    /// What Maitre's `/metrics` says, or vLLM's as far as its names are known.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let values = values(text);
        let first = |names: &[&str]| names.iter().find_map(|name| values.get(*name).copied());
        let sum = |names: &[&str]| {
            let of = |suffix: &str| {
                names
                    .iter()
                    .find_map(|name| values.get(format!("{name}{suffix}").as_str()).copied())
            };
            Sum {
                sum: of("_sum"),
                count: of("_count"),
            }
        };
        let used = first(&["maitre_kv_blocks_used"]).zip(first(&["maitre_kv_blocks_total"]));
        let used = used.map(|(used, total)| used / total.max(1.0));
        Self {
            running: first(&["maitre_requests_running", "vllm:num_requests_running"]),
            waiting: first(&["maitre_requests_waiting", "vllm:num_requests_waiting"]),
            kv_used: used.or(first(&[
                "vllm:kv_cache_usage_perc",
                "vllm:gpu_cache_usage_perc",
            ])),
            preemptions: first(&["maitre_preemptions_total", "vllm:num_preemptions_total"]),
            prefix_queries: first(&[
                "maitre_prefix_cache_queries_total",
                "vllm:prefix_cache_queries_total",
            ]),
            prefix_hits: first(&[
                "maitre_prefix_cache_hits_total",
                "vllm:prefix_cache_hits_total",
            ]),
            step_seconds: sum(&["maitre_step_seconds"]),
            step_sequences: sum(&["maitre_step_batch_sequences"]),
            step_tokens: sum(&["maitre_step_tokens", "vllm:iteration_tokens_total"]),
            queue_seconds: sum(&[
                "maitre_queue_time_seconds",
                "vllm:request_queue_time_seconds",
            ]),
            ttft_seconds: sum(&[
                "maitre_time_to_first_token_seconds",
                "vllm:time_to_first_token_seconds",
            ]),
            tpot_seconds: sum(&[
                "maitre_time_per_output_token_seconds",
                "vllm:request_time_per_output_token_seconds",
                "vllm:time_per_output_token_seconds",
            ]),
        }
    }
}

/// The sum of each name's values over its labels.
fn values(text: &str) -> HashMap<&str, f64> {
    let mut values = HashMap::new();
    for line in text.lines() {
        let line = line.trim();
        let Some(end) = line.find(['{', ' ']).filter(|_| !line.starts_with('#')) else {
            continue;
        };
        // A label's value may hold anything, a closing brace too: what follows the last one is the number.
        let (name, rest) = line.split_at(end);
        let rest = rest.rsplit_once('}').map_or(rest, |(_, rest)| rest);
        let value = rest.split_ascii_whitespace().next();
        if let Some(value) = value.and_then(|value| value.parse::<f64>().ok()) {
            *values.entry(name).or_insert(0.0) += value;
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAITRE: &str = "# HELP maitre_steps_total Steps run\n# TYPE maitre_steps_total counter\n\
        maitre_requests_running 3\nmaitre_requests_waiting 2\nmaitre_kv_blocks_used 10\nmaitre_kv_blocks_total 40\n\
        maitre_preemptions_total{reason=\"out_of_blocks\"} 4\nmaitre_preemptions_total{reason=\"a } b\"} 1\n\
        maitre_step_seconds_bucket{le=\"0.001\"} 7\nmaitre_step_seconds_sum 1.5\nmaitre_step_seconds_count 300 1700000000\n\
        vllm:num_requests_running 99\nbroken{ x\n";

    #[test]
    fn values_are_summed_over_labels_and_ours_come_first() {
        let state = ServerState::parse(MAITRE);
        assert_eq!((state.running, state.waiting), (Some(3.0), Some(2.0)));
        assert_eq!((state.kv_used, state.preemptions), (Some(0.25), Some(5.0)));
        assert_eq!(state.step_seconds.mean(), Some(0.005));
        assert_eq!(
            (state.queue_seconds.mean(), state.prefix_hits),
            (None, None)
        );
    }

    #[test]
    fn a_vllm_server_is_understood() {
        let text = "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 5.0\n\
                    vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\n\
                    vllm:time_to_first_token_seconds_sum{model_name=\"m\"} 2.0\n\
                    vllm:time_to_first_token_seconds_count{model_name=\"m\"} 4.0\n";
        let state = ServerState::parse(text);
        assert_eq!((state.running, state.kv_used), (Some(5.0), Some(0.5)));
        assert_eq!(state.ttft_seconds.mean(), Some(0.5));
    }

    #[test]
    fn sums_tell_what_has_come_since() {
        let sum = |sum, count| Sum {
            sum: Some(sum),
            count: Some(count),
        };
        assert_eq!(sum(5.0, 4.0).since(sum(2.0, 1.0)), sum(3.0, 3.0));
        assert_eq!(sum(5.0, 4.0).since(Sum::default()), sum(5.0, 4.0));
        assert_eq!(sum(5.0, 4.0).since(sum(5.0, 4.0)).mean(), None);
    }
}
