//! Lesson 2: fewer keys and values for as many queries.
//!
//! Sixteen query heads share 16, 8, 4, 2 or 1 heads of keys and values: what the cache takes, and
//! what a decode step's attention costs as the context grows. Run it with `cargo run --release
//! --example lesson02_gqa`; the page is `docs/src/lessons/lesson02_gqa.md`.

use std::time::Duration;

use anyhow::{Result, ensure};
use maitre_examples::layer::{Heads, Layer, Sequences};
use maitre_examples::numbers::{fastest, normal};
use maitre_examples::picture::{self, Line};
use maitre_examples::{quick, table};
use maitre_tensor::{Backend, Buffer, DType, KvFormat, Limits};

const QUERY_HEADS: usize = 16;
const HEAD_DIM: usize = 128;
/// Layers of a model of 0.6 billion parameters, to see what a whole sequence takes.
const LAYERS: usize = 28;
/// Sequences that decode together.
const SEQUENCES: usize = 8;
/// More than the caches of the processor hold, so that each call has to go to memory.
const COLD_BYTES: usize = 128 << 20;

/// How often each time is measured.
const PASSES: usize = 6;

/// What the attention of one decode step takes in one layer.
#[derive(Clone, Copy)]
struct Point {
    context: usize,
    /// Bytes of keys and values that all sequences have to read.
    bytes: usize,
    /// Multiplications and additions.
    ops: usize,
    time: Duration,
}

/// A way to share keys and values.
struct Sharing {
    kv_heads: usize,
    bytes_per_token: usize,
    points: Vec<Point>,
}

fn heads(kv: usize) -> Heads {
    Heads {
        query: QUERY_HEADS,
        kv,
        dim: HEAD_DIM,
    }
}

fn name(kv_heads: usize) -> String {
    match kv_heads {
        QUERY_HEADS => "MHA, 16 KV heads".into(),
        1 => "MQA, 1 KV head".into(),
        _ => format!("GQA, {kv_heads} KV heads"),
    }
}

fn main() -> Result<()> {
    let (contexts, cold_bytes, budget): (&[usize], _, _) = if quick() {
        (&[64, 128], 0, Duration::ZERO)
    } else {
        let contexts = &[256, 512, 1024, 2048, 3072, 4096];
        (contexts, COLD_BYTES, Duration::from_millis(60))
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let backend = Backend::cpu(threads)?;
    let before = Limits::measure(threads, budget * 8)?;
    println!("\n{threads} threads, {} kernels\n", backend.name());
    sharing_is_repeating(&backend)?;
    let mut layers = Vec::new();
    let mut ways = Vec::new();
    for kv_heads in [16, 8, 4, 2, 1] {
        let (layer, bytes_per_token) = fill(&backend, kv_heads, contexts, cold_bytes)?;
        ways.push(Sharing {
            kv_heads,
            bytes_per_token,
            points: Vec::new(),
        });
        layers.push(layer);
    }
    // All of them in turn, several times: what else the machine does meets them all alike.
    for _ in 0..PASSES {
        for (layer, way) in layers.iter().zip(&mut ways) {
            let found = measure(&backend, layer, way.bytes_per_token, contexts, budget)?;
            way.keep_fastest(found);
        }
    }
    // On a machine with other work one measurement may be an unlucky one: the better of two.
    let limits = before.max(Limits::measure(threads, budget * 8)?);
    print_cache(&ways);
    print_speed(&ways, &limits);
    draw(&ways)
}

/// Grouped queries are no other mathematics: with the keys and values of a group repeated for each
/// of its query heads, the result is the same. Here even its bits are.
fn sharing_is_repeating(backend: &Backend) -> Result<()> {
    let (slots, kv_heads) = (64, 4);
    let numbers = normal(1, slots * kv_heads * 2 * HEAD_DIM);
    let stored = |slot: usize, head: usize| {
        let both = &numbers[(slot * kv_heads + head) * 2 * HEAD_DIM..][..2 * HEAD_DIM];
        both.split_at(HEAD_DIM)
    };
    let grouped = Layer::new(backend, heads(kv_heads), KvFormat::Bf16, slots, stored)?;
    let repeated = Layer::new(
        backend,
        heads(QUERY_HEADS),
        KvFormat::Bf16,
        slots,
        |slot, head| stored(slot, head / (QUERY_HEADS / kv_heads)),
    )?;
    let width = QUERY_HEADS * HEAD_DIM;
    let q = Buffer::from_f32s(&normal(2, width))?;
    let sequence = Sequences::new(0, 1, slots, 1);
    let [mut a, mut b] = [
        Buffer::zeros(DType::F32, width)?,
        Buffer::zeros(DType::F32, width)?,
    ];
    grouped.attend(backend, &sequence, &q, &mut a)?;
    repeated.attend(backend, &sequence, &q, &mut b)?;
    ensure!(
        a.f32s()? == b.f32s()?,
        "sharing a key must be the same as repeating it"
    );
    println!(
        "  4 KV heads for 16 query heads, and each of them stored four times: the same bits.\n"
    );
    Ok(())
}

impl Sharing {
    fn keep_fastest(&mut self, found: Vec<Point>) {
        if self.points.is_empty() {
            self.points = found;
            return;
        }
        for (known, found) in self.points.iter_mut().zip(found) {
            known.time = known.time.min(found.time);
        }
    }
}

/// A layer with space for all sequences of the longest context, and for more bytes than a cache has.
fn fill(
    backend: &Backend,
    kv_heads: usize,
    contexts: &[usize],
    cold_bytes: usize,
) -> Result<(Layer, usize)> {
    let bytes_per_token = KvFormat::Bf16.bytes_per_token(kv_heads, HEAD_DIM);
    let longest = contexts.iter().max().copied().unwrap_or(0);
    let slots = (SEQUENCES * longest).max(cold_bytes / bytes_per_token);
    let numbers = normal(3, 1 << 16);
    let layer = Layer::new(
        backend,
        heads(kv_heads),
        KvFormat::Bf16,
        slots,
        |slot, head| {
            let at = (slot * QUERY_HEADS + head) * 31 % (numbers.len() - 2 * HEAD_DIM);
            numbers[at..at + 2 * HEAD_DIM].split_at(HEAD_DIM)
        },
    )?;
    ensure!(layer.size_in_bytes() == layer.slots() * bytes_per_token);
    Ok((layer, bytes_per_token))
}

fn measure(
    backend: &Backend,
    layer: &Layer,
    bytes_per_token: usize,
    contexts: &[usize],
    budget: Duration,
) -> Result<Vec<Point>> {
    let width = SEQUENCES * QUERY_HEADS * HEAD_DIM;
    let q = Buffer::from_f32s(&normal(4, width))?;
    let mut out = Buffer::zeros(DType::F32, width)?;
    let mut points = Vec::new();
    for &context in contexts {
        // Other sequences in each call: when the first ones' turn comes again, no cache knows them.
        let positions = SEQUENCES * context;
        let batches: Vec<_> = (0..layer.slots() / positions)
            .map(|i| Sequences::new(i * positions, SEQUENCES, context, 1))
            .collect();
        let mut calls = 0;
        let time = fastest(budget, || {
            calls += 1;
            let batch = &batches[calls % batches.len()];
            backend.step(|| layer.attend(backend, batch, &q, &mut out))
        })?;
        points.push(Point {
            context,
            bytes: positions * bytes_per_token,
            // A product of query and key, and one of weight and value, for each query head.
            ops: positions * QUERY_HEADS * HEAD_DIM * 4,
            time,
        });
    }
    Ok(points)
}

/// What the cache takes.
fn print_cache(ways: &[Sharing]) {
    let mib = |bytes: usize| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let rows: Vec<Vec<String>> = ways
        .iter()
        .map(|way| {
            let per_token = way.bytes_per_token * LAYERS;
            vec![
                name(way.kv_heads),
                way.bytes_per_token.to_string(),
                per_token.to_string(),
                mib(per_token * 4096),
                ((4_usize << 30) / (per_token * 4096)).to_string(),
            ]
        })
        .collect();
    table::print(
        &[
            "bf16 cache",
            "bytes/token, one layer",
            "28 layers",
            "4,096 tokens",
            "such sequences in 4 GiB",
        ],
        &rows,
    );
}

/// What reading it takes, at the longest context.
fn print_speed(ways: &[Sharing], limits: &Limits) {
    let last = |way: &Sharing| way.points.last().copied();
    let rows: Vec<Vec<String>> = ways
        .iter()
        .filter_map(|way| last(way).map(|point| (way, point)))
        .map(|(way, point)| {
            let seconds = point.time.as_secs_f64();
            let read = point.bytes as f64 / limits.read_bytes_per_s;
            let compute = point.ops as f64 / limits.bf16_flops;
            vec![
                name(way.kv_heads),
                format!("{:.2}", point.ops as f64 / point.bytes as f64),
                format!("{:.2}", read * 1e3),
                format!("{:.2}", compute * 1e3),
                format!("{:.2}", seconds * 1e3),
                format!("{:.0} %", 100.0 * read.max(compute) / seconds),
                format!("{:.0}", SEQUENCES as f64 / seconds / LAYERS as f64),
            ]
        })
        .collect();
    let context = ways.first().and_then(last).map_or(0, |point| point.context);
    println!(
        "  A decode step's attention in one layer, {SEQUENCES} sequences of {context} tokens;\n  \
         the machine: {limits}\n"
    );
    table::print(
        &[
            "",
            "ops/byte",
            "reading (ms)",
            "arithmetic (ms)",
            "measured (ms)",
            "of the limit",
            "tokens/s, 28 layers",
        ],
        &rows,
    );
}

fn draw(ways: &[Sharing]) -> Result<()> {
    let lines = |value: &dyn Fn(&Sharing, &Point) -> f64| -> Vec<Line> {
        let line = |way: &Sharing| Line {
            name: name(way.kv_heads),
            points: way
                .points
                .iter()
                .map(|point| (point.context as f64, value(way, point)))
                .collect(),
        };
        ways.iter().map(line).collect()
    };
    let cache = picture::lines(
        "lesson02_cache",
        "The KV cache of one sequence, 28 layers in bf16",
        "context, tokens",
        "MiB",
        &lines(&|way, point| {
            (point.context * way.bytes_per_token * LAYERS) as f64 / f64::from(1 << 20)
        }),
    )?;
    let time = picture::lines(
        "lesson02_time",
        "Attention of one decode step, one layer, 8 sequences",
        "context, tokens",
        "milliseconds",
        &lines(&|_, point| point.time.as_secs_f64() * 1e3),
    )?;
    println!("pictures: {}, {}", cache.display(), time.display());
    Ok(())
}
