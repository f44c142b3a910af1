//! What the engine counts, through the `metrics` facade; an exporter is the embedder's choice.
//!
//! Our own names start with `maitre_`; beside them stand the `vllm:` names that routers and
//! dashboards already look for.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::{FinishReason, Timings};

/// Everything countable, at zero: a dashboard tells "nothing happened" from "not there".
pub(crate) fn start(kv_total: usize) {
    describe();
    house(0, 0, 0, kv_total);
    for name in [
        "maitre_steps_total",
        "maitre_step_tokens_total",
        "maitre_preemptions_total",
        "maitre_requests_failed_total",
        "maitre_requests_cancelled_total",
        "maitre_prompt_tokens_total",
        "maitre_generation_tokens_total",
        "vllm:num_preemptions_total",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
    ] {
        counter!(name).increment(0);
    }
}

/// Names and meanings, for exporters that show them.
fn describe() {
    describe_gauge!(
        "maitre_requests_running",
        "Sequences that take part in steps"
    );
    describe_gauge!(
        "maitre_requests_waiting",
        "Sequences submitted that have not started"
    );
    describe_gauge!("maitre_kv_blocks_used", "KV blocks held by sequences");
    describe_gauge!("maitre_kv_blocks_total", "KV blocks in the pool");
    describe_counter!("maitre_steps_total", "Steps run");
    describe_counter!(
        "maitre_step_tokens_total",
        "Tokens computed, prompts included"
    );
    describe_counter!(
        "maitre_preemptions_total",
        "Sequences put back into the queue for lack of blocks"
    );
    describe_counter!(
        "maitre_requests_finished_total",
        "Sequences that ended well, by reason"
    );
    describe_counter!(
        "maitre_requests_failed_total",
        "Sequences whose own step failed"
    );
    describe_counter!(
        "maitre_requests_expired_total",
        "Sequences that failed because their time was up, by which time"
    );
    describe_counter!(
        "maitre_requests_cancelled_total",
        "Sequences cancelled before their end"
    );
    describe_counter!(
        "maitre_prompt_tokens_total",
        "Prompt tokens of finished sequences"
    );
    describe_counter!(
        "maitre_generation_tokens_total",
        "Generated tokens of finished sequences"
    );
    describe_histogram!("maitre_step_seconds", "Duration of a step");
    describe_histogram!("maitre_step_batch_sequences", "Sequences in a step");
    describe_histogram!(
        "maitre_time_to_first_token_seconds",
        "From submission to the first token"
    );
    describe_histogram!(
        "maitre_time_per_output_token_seconds",
        "Mean time per token after the first"
    );
    describe_histogram!(
        "maitre_inter_token_latency_seconds",
        "Between two tokens of a sequence"
    );
    describe_histogram!(
        "maitre_queue_time_seconds",
        "From submission to the first step"
    );
    describe_histogram!("maitre_e2e_latency_seconds", "From submission to the end");
}

/// How full the house is, after a step or when it has emptied.
pub(crate) fn house(running: usize, waiting: usize, kv_used: usize, kv_total: usize) {
    gauge!("maitre_requests_running").set(running as f64);
    gauge!("maitre_requests_waiting").set(waiting as f64);
    gauge!("maitre_kv_blocks_used").set(kv_used as f64);
    gauge!("maitre_kv_blocks_total").set(kv_total as f64);
    gauge!("vllm:num_requests_running").set(running as f64);
    gauge!("vllm:num_requests_waiting").set(waiting as f64);
    gauge!("vllm:kv_cache_usage_perc").set(kv_used as f64 / kv_total.max(1) as f64);
}

pub(crate) fn step(took: Duration, sequences: usize, tokens: usize, preempted: usize) {
    counter!("maitre_steps_total").increment(1);
    counter!("maitre_step_tokens_total").increment(tokens as u64);
    counter!("maitre_preemptions_total").increment(preempted as u64);
    counter!("vllm:num_preemptions_total").increment(preempted as u64);
    histogram!("maitre_step_seconds").record(took);
    histogram!("maitre_step_batch_sequences").record(sequences as f64);
}

pub(crate) fn finished(reason: FinishReason, timings: &Timings, prompt: u32, generated: u32) {
    counter!("maitre_requests_finished_total", "reason" => reason.name()).increment(1);
    counter!("vllm:request_success_total", "finished_reason" => reason.name()).increment(1);
    counter!("maitre_prompt_tokens_total").increment(u64::from(prompt));
    counter!("vllm:prompt_tokens_total").increment(u64::from(prompt));
    counter!("maitre_generation_tokens_total").increment(u64::from(generated));
    counter!("vllm:generation_tokens_total").increment(u64::from(generated));
    histogram!("maitre_queue_time_seconds").record(timings.queue);
    histogram!("vllm:request_queue_time_seconds").record(timings.queue);
    histogram!("maitre_e2e_latency_seconds").record(timings.e2e);
    histogram!("vllm:e2e_request_latency_seconds").record(timings.e2e);
    if generated > 0 {
        histogram!("maitre_time_to_first_token_seconds").record(timings.ttft);
        histogram!("vllm:time_to_first_token_seconds").record(timings.ttft);
    }
    if generated > 1 {
        histogram!("maitre_time_per_output_token_seconds").record(timings.tpot);
        histogram!("vllm:request_time_per_output_token_seconds").record(timings.tpot);
    }
}

pub(crate) fn inter_token(gap: Duration) {
    histogram!("maitre_inter_token_latency_seconds").record(gap);
    histogram!("vllm:inter_token_latency_seconds").record(gap);
}

pub(crate) fn failed() {
    counter!("maitre_requests_failed_total").increment(1);
}

/// `why` is `deadline` or `queue_timeout`; a time limit that ends an answer well is a finish.
pub(crate) fn expired(why: &'static str) {
    counter!("maitre_requests_expired_total", "why" => why).increment(1);
}

pub(crate) fn cancelled() {
    counter!("maitre_requests_cancelled_total").increment(1);
}
