//! What paging wastes, on the lengths of a production trace: allocated positions that hold no token, in a pool
//! that is always busy. The PagedAttention paper claims less than 4 % (Kwon et al. 2023, section 1).

use std::collections::VecDeque;
use std::path::PathBuf;

use maitre_scheduler::{KvConfig, NewRequest, SchedulerConfig, Time};

use crate::flow::Flow;

const TRACE: &str = "traces/AzureLLMInferenceTrace_conv.csv";

/// Requests of the trace that are run; with all of them it takes minutes and says the same.
const REQUESTS: usize = 500;

const MAX_MODEL_LEN: usize = 8192;

/// Prompt and output lengths, as they were.
fn lengths() -> Option<VecDeque<(usize, usize)>> {
    let folder = std::env::var_os("MAITRE_TEST_DATA").map(PathBuf::from);
    let Some(path) = folder.map(|folder| folder.join(TRACE)) else {
        println!("skipped: set MAITRE_TEST_DATA to the folder with {TRACE} to run this test");
        return None;
    };
    let text = std::fs::read_to_string(path).unwrap();
    let lengths = text.lines().skip(1).map(|line| {
        let mut columns = line.split(',').skip(1);
        let mut next = || columns.next().unwrap().trim().parse::<usize>().unwrap();
        (next(), next())
    });
    let fits = lengths
        .filter(|&(prompt, output)| prompt > 0 && output > 0 && prompt + output <= MAX_MODEL_LEN);
    Some(fits.take(REQUESTS).collect())
}

#[test]
fn paging_wastes_less_than_a_twenty_fifth() {
    let Some(mut lengths) = lengths() else {
        return;
    };
    let kv = KvConfig::new(4096, 16);
    let num_pages = kv.num_pages as usize;
    let mut flow = Flow::new(SchedulerConfig::new(256, 2048, MAX_MODEL_LEN, kv));
    let (mut filled, mut allocated, mut reserved) = (0, 0, 0);
    let (mut used, mut blocks) = (0, 0);
    // The end, when the pool empties, is not busy.
    while !lengths.is_empty() {
        while flow.scheduler.num_waiting() < 8
            && let Some((prompt, output)) = lengths.pop_front()
        {
            let id = flow.next_id();
            let prompt = (0..prompt as u32).map(|i| i ^ (id as u32) << 14).collect();
            flow.scheduler
                .add(NewRequest::new(id, prompt, output))
                .unwrap();
        }
        flow.step(|_| Time::from_millis(20));
        let (of_step, positions) = flow.scheduler.filled_positions();
        filled += of_step;
        allocated += positions;
        reserved += flow.scheduler.num_running() * MAX_MODEL_LEN;
        used += flow.scheduler.kv_usage().used;
        blocks += num_pages;
    }
    let waste = |positions: usize| 100.0 * (1.0 - filled as f64 / positions as f64);
    let (paged, contiguous) = (waste(allocated), waste(reserved));
    let preemptions = flow.scheduler.counts().preemptions;
    println!(
        "of {REQUESTS} requests: paging wastes {paged:.2} % of what it allocates, a contiguous reservation of \
         {MAX_MODEL_LEN} tokens each would waste {contiguous:.1} %; {preemptions} preemptions"
    );
    assert!(10 * used > 8 * blocks, "the pool was not busy");
    assert!(paged < 4.0, "{paged} % wasted");
}
