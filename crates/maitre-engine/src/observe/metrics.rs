//! What the engine counts, through the `metrics` facade; an exporter is the embedder's choice.
//!
//! Our own names start with `maitre_`; beside them stand the `vllm:` names that routers and
//! dashboards already look for.

use std::time::Duration;

use metrics::{
    Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use maitre_scheduler::{KvUsage, SchedulerCounts};
use maitre_speculative::SpeculationCounts;

use crate::observe::health::StepLoad;
use crate::observe::info::EngineInfo;
use crate::{EngineError, FinishReason, Timings};

/// Why requests are refused at admission.
const REFUSALS: [&str; 6] = [
    "queue_full",
    "tenant_queue_full",
    "queue_tokens_full",
    "overloaded",
    "stop_strings_full",
    "unread_bytes_full",
];

/// Everything countable, at zero: a dashboard tells "nothing happened" from "not there".
pub(crate) fn start(kv_total: usize) {
    describe();
    let kv = KvUsage {
        total: kv_total,
        ..KvUsage::default()
    };
    let empty = StepLoad {
        running: 0,
        preempted_waiting: 0,
        kv,
        prefix_queries: 0,
        prefix_hits: 0,
        preempted: 0,
        generated: 0,
    };
    load(&empty, (0, 0), &SchedulerCounts::default());
    for name in [
        "maitre_steps_total",
        "maitre_step_tokens_total",
        "maitre_device_drawn_tokens_total",
        "maitre_deferred_samples_total",
        "maitre_requests_failed_total",
        "maitre_requests_cancelled_total",
        "maitre_prompt_tokens_total",
        "maitre_generation_tokens_total",
        "vllm:prompt_tokens_total",
        "vllm:generation_tokens_total",
    ] {
        counter!(name).increment(0);
    }
    for reason in REFUSALS {
        counter!("maitre_requests_refused_total", "reason" => reason).increment(0);
    }
    for why in ["deadline", "queue_timeout"] {
        counter!("maitre_requests_expired_total", "why" => why).increment(0);
    }
}

/// Where the engine runs, and in which formats.
pub(crate) fn device(info: &EngineInfo) {
    let labels = [
        ("device", info.device.clone()),
        ("backend", info.backend.clone()),
        ("dtype", info.dtype.clone()),
        ("kv_dtype", info.kv_dtype.clone()),
    ];
    gauge!("maitre_engine_info", &labels).set(1.0);
}

/// Rows that the device chose tokens from, so that their logits did not travel.
pub(crate) fn drawn_on_device(rows: usize) {
    counter!("maitre_device_drawn_tokens_total").increment(rows as u64);
}

/// A sequence's sample was not taken, because its constraint was late.
pub(crate) fn deferred() {
    counter!("maitre_deferred_samples_total").increment(1);
}

/// A grammar was compiled, or found among those that are kept.
#[cfg(feature = "grammar")]
pub(crate) fn grammar_compiled(took: Duration) {
    histogram!("maitre_grammar_compile_seconds").record(took);
}

/// Calls of tools have begun in an answer.
pub(crate) fn tool_calls(count: usize) {
    if count > 0 {
        counter!("maitre_tool_calls_total").increment(count as u64);
    }
}

/// What began as calls in this format was none: the model made a mistake, or its answer ended within them.
pub(crate) fn malformed_calls(format: &'static str, mistaken: u32, cut_off: u32) {
    for (why, count) in [("mistake", mistaken), ("cut_off", cut_off)] {
        if count > 0 {
            counter!("maitre_malformed_tool_calls_total", "format" => format, "why" => why)
                .increment(u64::from(count));
        }
    }
}

/// A constraint has said what may come next.
pub(crate) fn masked(took: Duration) {
    histogram!("maitre_constraint_mask_seconds").record(took);
}

/// Names and meanings, for exporters that show them.
fn describe() {
    describe_gauge!(
        "maitre_requests_running",
        "Sequences that take part in steps"
    );
    describe_gauge!(
        "maitre_requests_waiting",
        "Sequences that wait, preempted ones included"
    );
    describe_gauge!(
        "maitre_requests_waiting_by_reason",
        "Sequences that wait, by reason: for their first step, or again after a preemption"
    );
    describe_gauge!(
        "maitre_queued_prompt_tokens",
        "Prompt tokens of sequences that wait for their first step"
    );
    describe_counter!(
        "maitre_requests_refused_total",
        "Requests that were not let into the queue, by reason"
    );
    describe_gauge!("maitre_kv_blocks_used", "KV blocks held by sequences");
    describe_gauge!(
        "maitre_kv_blocks_cached",
        "KV blocks that no sequence holds, kept because later prompts may begin with them"
    );
    describe_gauge!("maitre_kv_blocks_host", "KV blocks in the host tier");
    describe_counter!(
        "maitre_prefix_cache_queries_total",
        "Known tokens of admitted sequences, looked up in the prefix cache"
    );
    describe_counter!(
        "maitre_prefix_cache_hits_total",
        "Of them, tokens that were there"
    );
    describe_counter!(
        "maitre_kv_evictions_total",
        "Cached blocks that were taken for something else"
    );
    describe_counter!(
        "maitre_kv_merged_total",
        "Blocks given back because another held the same"
    );
    describe_counter!(
        "maitre_kv_moves_total",
        "Blocks copied: out to the host tier, in from it, or within the pool"
    );
    describe_counter!(
        "maitre_preempted_tokens_total",
        "Computed tokens that preempted sequences lost hold of"
    );
    describe_counter!(
        "maitre_drafts_total",
        "Times that tokens were drafted for a sequence"
    );
    describe_counter!(
        "maitre_drafted_tokens_total",
        "Tokens that were drafted and verified"
    );
    describe_counter!(
        "maitre_accepted_tokens_total",
        "Drafted tokens that were accepted"
    );
    describe_counter!(
        "maitre_drafted_tokens_by_position_total",
        "Drafted tokens, by place in the draft"
    );
    describe_counter!(
        "maitre_accepted_tokens_by_position_total",
        "Accepted tokens, by place in the draft"
    );
    describe_counter!(
        "maitre_draft_failures_total",
        "Times that the draft model failed and its sequences went on without"
    );
    describe_histogram!(
        "maitre_step_tokens",
        "Tokens in a step, those of prompts and drafts included"
    );
    describe_gauge!("maitre_kv_blocks_total", "KV blocks in the pool");
    describe_gauge!(
        "maitre_engine_info",
        "1; its labels say on which device the model runs, and in which formats"
    );
    describe_counter!(
        "maitre_device_drawn_tokens_total",
        "Tokens that a GPU chose from logits of its own, drafted ones included"
    );
    describe_counter!(
        "maitre_deferred_samples_total",
        "Samples that were not taken because a request's constraint was late"
    );
    describe_histogram!(
        "maitre_grammar_compile_seconds",
        "Compiling the grammar of a request, or finding it among those that are kept"
    );
    describe_counter!("maitre_tool_calls_total", "Calls of tools in answers");
    describe_counter!(
        "maitre_malformed_tool_calls_total",
        "What began as a call of a tool and came back as text, by format, and by why: a mistake of the model, or cut off \
         by the answer's end"
    );
    describe_histogram!(
        "maitre_constraint_mask_seconds",
        "Computing which tokens may come next in an answer, drafts included"
    );
    describe_counter!("maitre_steps_total", "Steps run");
    describe_counter!(
        "maitre_step_tokens_total",
        "Tokens computed, those of prompts and drafts included"
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
        "maitre_token_delivery_seconds",
        "From a step's end until a token of it was taken by the call that waits for it"
    );
    describe_histogram!(
        "maitre_queue_time_seconds",
        "From submission to the first step"
    );
    describe_histogram!("maitre_e2e_latency_seconds", "From submission to the end");
}

/// The load after a step, or when the last request has left, and the counts since the start.
pub(crate) fn load(load: &StepLoad, queue: (usize, usize), counts: &SchedulerCounts) {
    let (waiting, waiting_tokens) = queue;
    let kv = load.kv;
    gauge!("maitre_requests_running").set(load.running as f64);
    gauge!("maitre_requests_waiting").set((waiting + load.preempted_waiting) as f64);
    for (reason, count) in [
        ("first_step", waiting),
        ("preempted", load.preempted_waiting),
    ] {
        gauge!("maitre_requests_waiting_by_reason", "reason" => reason).set(count as f64);
    }
    gauge!("maitre_queued_prompt_tokens").set(waiting_tokens as f64);
    gauge!("maitre_kv_blocks_used").set(kv.used as f64);
    gauge!("maitre_kv_blocks_cached").set(kv.cached as f64);
    gauge!("maitre_kv_blocks_host").set(kv.host as f64);
    gauge!("maitre_kv_blocks_total").set(kv.total as f64);
    gauge!("vllm:num_requests_running").set(load.running as f64);
    gauge!("vllm:num_requests_waiting").set((waiting + load.preempted_waiting) as f64);
    gauge!("vllm:kv_cache_usage_perc").set(kv.used as f64 / kv.total.max(1) as f64);
    // The scheduler counts from its start, as a counter does.
    for name in [
        "maitre_prefix_cache_queries_total",
        "vllm:prefix_cache_queries_total",
    ] {
        counter!(name).absolute(counts.prefix_queries);
    }
    for name in [
        "maitre_prefix_cache_hits_total",
        "vllm:prefix_cache_hits_total",
    ] {
        counter!(name).absolute(counts.prefix_hits);
    }
    counter!("maitre_kv_evictions_total").absolute(counts.kv.evicted);
    counter!("maitre_kv_merged_total").absolute(counts.kv.merged);
    for (way, blocks) in [
        ("out", counts.kv.swapped_out),
        ("in", counts.kv.swapped_in),
        ("copy", counts.kv.copied),
    ] {
        counter!("maitre_kv_moves_total", "way" => way).absolute(blocks);
    }
    // The one reason there is for a preemption.
    counter!("maitre_preemptions_total", "reason" => "out_of_blocks").absolute(counts.preemptions);
    counter!("vllm:num_preemptions_total").absolute(counts.preemptions);
    counter!("maitre_preempted_tokens_total").absolute(counts.preempted_tokens);
}

pub(crate) fn step(took: Duration, sequences: usize, rows: usize) {
    counter!("maitre_steps_total").increment(1);
    counter!("maitre_step_tokens_total").increment(rows as u64);
    histogram!("maitre_step_seconds").record(took);
    histogram!("maitre_step_batch_sequences").record(sequences as f64);
    histogram!("maitre_step_tokens").record(rows as f64);
}

/// What was drafted since the start, over all and by place in the draft. The counters are looked up once: it
/// is shown after every step.
pub(crate) struct SpeculationMetrics {
    totals: [Counter; 7],
    by_position: [Vec<Counter>; 3],
}

impl SpeculationMetrics {
    /// All at zero, for drafts of up to `draft_tokens`.
    pub(crate) fn new(draft_tokens: usize) -> Self {
        let by_position = [
            "maitre_drafted_tokens_by_position_total",
            "maitre_accepted_tokens_by_position_total",
            "vllm:spec_decode_num_accepted_tokens_per_pos_total",
        ];
        let positions = |name: &'static str| {
            let counter = |position: usize| counter!(name, "position" => position.to_string());
            (0..draft_tokens).map(counter).collect()
        };
        let metrics = Self {
            totals: [
                counter!("maitre_drafts_total"),
                counter!("maitre_drafted_tokens_total"),
                counter!("maitre_accepted_tokens_total"),
                counter!("maitre_draft_failures_total"),
                counter!("vllm:spec_decode_num_drafts_total"),
                counter!("vllm:spec_decode_num_draft_tokens_total"),
                counter!("vllm:spec_decode_num_accepted_tokens_total"),
            ],
            by_position: by_position.map(positions),
        };
        metrics.show(&SpeculationCounts::default());
        metrics
    }

    pub(crate) fn show(&self, counts: &SpeculationCounts) {
        let &SpeculationCounts {
            drafts,
            drafted,
            accepted,
            draft_failures,
            ..
        } = counts;
        let totals = [
            drafts,
            drafted,
            accepted,
            draft_failures,
            drafts,
            drafted,
            accepted,
        ];
        for (counter, total) in self.totals.iter().zip(totals) {
            counter.absolute(total);
        }
        let by_position = [&counts.drafted_at, &counts.accepted_at, &counts.accepted_at];
        for (counters, counts) in self.by_position.iter().zip(by_position) {
            for (counter, &count) in counters.iter().zip(counts) {
                counter.absolute(count);
            }
        }
    }
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

/// How long a token is on its way to the reader of its answer.
pub(crate) fn token_delivery() -> Histogram {
    histogram!("maitre_token_delivery_seconds")
}

/// Times between the tokens of answers. The metrics are looked up when it is made rather than for each token.
#[derive(Debug)]
pub(crate) struct InterToken([Histogram; 2]);

impl Default for InterToken {
    fn default() -> Self {
        Self([
            histogram!("maitre_inter_token_latency_seconds"),
            histogram!("vllm:inter_token_latency_seconds"),
        ])
    }
}

impl InterToken {
    pub(crate) fn record(&self, gap: Duration) {
        for histogram in &self.0 {
            histogram.record(gap);
        }
    }
}

pub(crate) fn failed() {
    counter!("maitre_requests_failed_total").increment(1);
}

/// `why` is `deadline` or `queue_timeout`; a time limit that ends an answer well is a finish.
pub(crate) fn expired(why: &'static str) {
    counter!("maitre_requests_expired_total", "why" => why).increment(1);
}

/// A request that was refused at admission and may be tried again later.
pub(crate) fn refused(why: &EngineError) {
    let reason = match why {
        EngineError::QueueFull { .. } => "queue_full",
        EngineError::TenantQueueFull { .. } => "tenant_queue_full",
        EngineError::QueueTokensFull { .. } => "queue_tokens_full",
        EngineError::Overloaded { .. } => "overloaded",
        EngineError::UnreadBytesFull { .. } => "unread_bytes_full",
        EngineError::StopStringsFull { .. } => "stop_strings_full",
        _ => return,
    };
    counter!("maitre_requests_refused_total", "reason" => reason).increment(1);
}

pub(crate) fn cancelled() {
    counter!("maitre_requests_cancelled_total").increment(1);
}
