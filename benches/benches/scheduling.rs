//! What deciding costs, beside the step it decides about: one plan and its commit, the block pool, the prefix
//! index, the hashes. `cargo bench --package maitre-benches --bench scheduling`.
//!
//! The goal is 50 us per step at 256 running and 10,000 waiting requests, whatever ran before.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Result;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use maitre_kv::{Ahead, HashChain, KvConfig, KvManager, KvSpec, SeqId, SequenceStart};
use maitre_scheduler::{NewRequest, Outcome, RequestId, Scheduler, SchedulerConfig, Time};

const RUNNING: u64 = 256;
const WAITING: u64 = 10_000;
const BLOCK_SIZE: u32 = 16;
const MILLION: u32 = 1 << 20;
/// Tokens of the prompts of which 1024 fill a million blocks.
const SHARE: u32 = (MILLION >> 10) * BLOCK_SIZE;

/// A prompt with a beginning that no other request has.
fn prompt(id: u64, len: u32) -> Vec<u32> {
    (0..len)
        .map(|i| i ^ (id as u32).wrapping_mul(0x9e37_79b9))
        .collect()
}

fn outcome(request: RequestId) -> Outcome {
    Outcome {
        request,
        tokens: vec![7],
        next_drafts: 0,
        finished: false,
        failed: false,
        deferred: false,
    }
}

/// Runs whatever is planned until `count` requests run and all of them decode.
fn run_until_decoding(scheduler: &mut Scheduler, count: usize) -> Result<()> {
    loop {
        let plan = scheduler.schedule(Time::ZERO);
        let outcomes: Vec<Outcome> = plan
            .spans
            .iter()
            .map(|span| Outcome {
                tokens: if span.samples { vec![7] } else { vec![] },
                ..outcome(span.request)
            })
            .collect();
        let all_decode = plan.spans.len() == plan.num_tokens();
        scheduler.commit(plan.step_id, &outcomes)?;
        if all_decode && scheduler.num_running() == count {
            return Ok(());
        }
    }
}

/// A scheduler with [`RUNNING`] requests that decode and [`WAITING`] behind them, after `finished` others.
fn busy(finished: u64, groups: &[KvSpec]) -> Result<Scheduler> {
    let kv = KvConfig {
        groups: groups.to_vec(),
        ..KvConfig::new(MILLION, BLOCK_SIZE)
    };
    let config = SchedulerConfig::new(RUNNING as usize, 2048, 1 << 20, kv);
    let mut scheduler = Scheduler::new(config)?;
    for id in 0..finished {
        scheduler.add(NewRequest::new((1 << 32) | id, prompt(id, 17), 1))?;
        let plan = scheduler.schedule(Time::ZERO);
        let outcomes: Vec<Outcome> = plan.spans.iter().map(|it| outcome(it.request)).collect();
        scheduler.commit(plan.step_id, &outcomes)?;
    }
    for id in 0..RUNNING + WAITING {
        scheduler.add(NewRequest::new(id, prompt(id, 100), 1 << 19))?;
    }
    run_until_decoding(&mut scheduler, RUNNING as usize)?;
    Ok(scheduler)
}

fn steps(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("schedule and commit, 256 running, 10000 waiting");
    let mixed = [KvSpec::Full, KvSpec::Window(512)];
    let cases = [(0, &mixed[..1]), (100_000, &mixed[..1]), (0, &mixed)];
    for (finished, groups) in cases {
        let mut scheduler = busy(finished, groups)?;
        let outcomes: Vec<Outcome> = (0..RUNNING).map(|id| outcome(RequestId(id))).collect();
        let mut result = Ok(());
        let num_groups = groups.len();
        let name = format!("{finished} finished before, {num_groups} KV groups");
        let name = BenchmarkId::from_parameter(name);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let plan = scheduler.schedule(Time::ZERO);
                let committed = scheduler.commit(plan.step_id, &outcomes);
                if result.is_ok() {
                    result = committed;
                }
            });
        });
        result?;
    }
    group.finish();
    Ok(())
}

fn adding(criterion: &mut Criterion) -> Result<()> {
    let mut scheduler = busy(0, &[KvSpec::Full])?;
    let request = NewRequest::new(1 << 40, prompt(1 << 40, 4096), 100);
    criterion.bench_function("add and cancel a prompt of 4096", |bencher| {
        bencher.iter_batched(
            || request.clone(),
            |request| {
                let added = scheduler.add(request);
                scheduler.cancel(RequestId(1 << 40));
                added
            },
            BatchSize::SmallInput,
        );
    });
    Ok(())
}

/// Names as many blocks as `tokens` fill, and leaves them idle.
fn remember(kv: &mut KvManager, sequence: SeqId, tokens: &[u32]) -> Result<HashChain> {
    let mut chain = HashChain::new(kv.namespace(&[]));
    kv.extend_chain(&mut chain, tokens);
    kv.grow(sequence, tokens.len())?;
    kv.commit(sequence, &chain, tokens, tokens.len());
    kv.release(sequence);
    Ok(chain)
}

/// A pool of a million idle blocks: each new block evicts one.
fn full_of_idle_blocks() -> Result<KvManager> {
    let mut kv = KvManager::new(KvConfig::new(MILLION, BLOCK_SIZE))?;
    for id in 0..1 << 10 {
        remember(&mut kv, SeqId(id), &prompt(id, SHARE))?;
    }
    Ok(kv)
}

fn pool(criterion: &mut Criterion) -> Result<()> {
    const BLOCKS: u32 = 1024;
    let tokens = (BLOCKS * BLOCK_SIZE) as usize;
    let mut group = criterion.benchmark_group("a million blocks, per block");
    group.throughput(Throughput::Elements(u64::from(BLOCKS)));

    let mut kv = KvManager::new(KvConfig::new(MILLION, BLOCK_SIZE))?;
    group.bench_function("allocate and free", |bencher| {
        bencher.iter(|| {
            let grown = kv.grow(SeqId(0), tokens);
            kv.release(SeqId(0));
            grown
        });
    });

    let mut kv = full_of_idle_blocks()?;
    let shared = prompt(1 << 9, SHARE);
    let chain = remember(&mut kv, SeqId(0), &shared)?;
    group.bench_function("find, hold and release", |bencher| {
        bencher.iter(|| {
            let hit = kv.find_prefix(&chain, &shared, false);
            let start = SequenceStart {
                tokens: &shared,
                chain: &chain,
                hit,
                reserve: tokens,
                ahead: Ahead::ONE_STEP,
                headroom: 0,
            };
            let admitted = kv.admit(SeqId(0), &start);
            kv.release(SeqId(0));
            admitted
        });
    });

    let (mut id, mut result) = (1 << 20, Ok(()));
    group.bench_function("evict, name and release", |bencher| {
        // Without the hashes, which are measured below.
        bencher.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                id += 1;
                let tokens = prompt(id, BLOCKS * BLOCK_SIZE);
                let mut chain = HashChain::new(kv.namespace(&[]));
                kv.extend_chain(&mut chain, &tokens);
                let started = Instant::now();
                result = result.clone().and(kv.grow(SeqId(id), tokens.len()));
                kv.commit(SeqId(id), &chain, &tokens, tokens.len());
                kv.release(SeqId(id));
                took += started.elapsed();
            }
            took
        });
    });
    group.finish();
    Ok(result?)
}

fn prefixes(criterion: &mut Criterion) -> Result<()> {
    let mut kv = full_of_idle_blocks()?;
    let known = prompt(1 << 22, 32 * 1024);
    let chain = remember(&mut kv, SeqId(1 << 22), &known)?;
    let other = prompt(1 << 23, 32 * 1024);
    let mut other_chain = HashChain::new(kv.namespace(&[]));
    kv.extend_chain(&mut other_chain, &other);
    let mut group = criterion.benchmark_group("find the prefix of a prompt of 32768");
    group.bench_function("all of it", |bencher| {
        bencher.iter(|| kv.find_prefix(black_box(&chain), black_box(&known), true));
    });
    group.bench_function("nothing", |bencher| {
        bencher.iter(|| kv.find_prefix(black_box(&other_chain), black_box(&other), true));
    });
    group.finish();

    let mut group = criterion.benchmark_group("hash, per block of 16 tokens");
    let blocks = known.len() as u64 / u64::from(BLOCK_SIZE);
    group.throughput(Throughput::Elements(blocks));
    group.bench_function("32768 tokens", |bencher| {
        bencher.iter(|| {
            let mut chain = HashChain::new(kv.namespace(&[]));
            kv.extend_chain(&mut chain, black_box(&known));
            chain
        });
    });
    group.finish();
    Ok(())
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .configure_from_args();
    for measure in [steps, adding, pool, prefixes] {
        measure(&mut criterion)?;
    }
    criterion.final_summary();
    Ok(())
}
