//! Lesson 5: attention without the matrix of scores.
//!
//! Computes the attention of a whole prompt twice: with all scores written to memory, and in tiles
//! with an online softmax; compares the results, then memory and time as the context grows. Run it
//! with `cargo run --release --example lesson05_flash_attention`; the page is
//! `docs/src/lessons/lesson05_flash_attention.md`.

use std::time::Duration;

use anyhow::{Result, ensure};
use maitre_examples::layer::{Heads, Layer, Sequences};
use maitre_examples::numbers::{bytes, fastest, normal};
use maitre_examples::picture::{self, Line};
use maitre_examples::{quick, table};
use maitre_tensor::{
    Backend, Buffer, DType, DeviceName, GpuOptions, KvFormat, LinearInput, PackedWeight,
    WeightFormat, WeightView,
};

const HEADS: usize = 4;
const HEAD_DIM: usize = 64;
const WIDTH: usize = HEADS * HEAD_DIM;

/// Rows below which a second thread is not worth starting for the softmax.
const SOFTMAX_ROWS: usize = 256;

/// How far the two results may be apart: both are sums of f32 numbers, in another order.
const TOLERANCE: f32 = 1e-4;

/// The same on a GPU, where queries, keys, values and weights are rounded to bf16.
const BF16_TOLERANCE: f32 = 0.05;

/// The bytes that the tiled operator needs beside queries, cache and output, on one thread: of up to
/// 48 queries (AMX: 64) the scores and the weights of a tile of 64 positions, the query, the values so far
/// twice (within a chunk of 512 positions, and of all chunks), 16 partial sums and a few numbers.
const TILED_BYTES_PER_QUERY: usize = (2 * 64 + 3 * HEAD_DIM + 16 + 6) * size_of::<f32>();

/// The same prompt both ways.
struct Point {
    tokens: usize,
    naive_bytes: usize,
    tiled_bytes: usize,
    naive: Duration,
    tiled: Duration,
    difference: f32,
    gpu: Option<Duration>,
}

/// Queries, keys and values, each `[tokens, HEADS, HEAD_DIM]`.
struct Prompt {
    tokens: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Prompt {
    fn new(tokens: usize) -> Self {
        let numbers = |seed| normal(seed, tokens * WIDTH);
        Self {
            tokens,
            q: numbers(1),
            k: numbers(2),
            v: numbers(3),
        }
    }

    /// One head of `values`, `[tokens, HEAD_DIM]`.
    fn head(&self, values: &[f32], head: usize) -> Vec<f32> {
        let rows = values.chunks_exact(WIDTH);
        rows.flat_map(|row| row[head * HEAD_DIM..][..HEAD_DIM].iter().copied())
            .collect()
    }
}

/// Attention as the formula has it: `softmax(q * k^T) * v`, one step after the other. The two
/// products are those of the linear layers, so that they are as fast as they can be.
struct Naive {
    backend: Backend,
    tokens: usize,
    heads: Vec<Head>,
    /// `[tokens, tokens]`.
    scores: Buffer,
    /// The same after the softmax, as the second product reads it.
    weights: LinearInput,
    /// Of one head, `[tokens, HEAD_DIM]`.
    out: Buffer,
}

/// What one head reads.
struct Head {
    q: LinearInput,
    /// `[tokens, HEAD_DIM]`.
    keys: PackedWeight,
    /// `[HEAD_DIM, tokens]`.
    values: PackedWeight,
}

impl Naive {
    fn new(backend: &Backend, prompt: &Prompt) -> Result<Self> {
        let tokens = prompt.tokens;
        let format = WeightFormat::F32;
        let pack = |values: &[f32], rows: usize, cols: usize| {
            let view = WeightView {
                dtype: DType::F32,
                rows,
                cols,
                bytes: &bytes(values),
            };
            backend.pack(&[view], format)
        };
        let head = |head| -> Result<Head> {
            let scale = (HEAD_DIM as f32).powf(-0.5);
            let scaled = prompt.head(&prompt.q, head);
            let scaled: Vec<f32> = scaled.iter().map(|q| q * scale).collect();
            let mut q = LinearInput::new(format.input(), HEAD_DIM, tokens)?;
            backend.encode(&Buffer::from_f32s(&scaled)?, &mut q, tokens)?;
            let values = prompt.head(&prompt.v, head);
            let turned: Vec<f32> = (0..HEAD_DIM)
                .flat_map(|i| values.iter().skip(i).step_by(HEAD_DIM).copied())
                .collect();
            Ok(Head {
                q,
                keys: pack(&prompt.head(&prompt.k, head), tokens, HEAD_DIM)?,
                values: pack(&turned, HEAD_DIM, tokens)?,
            })
        };
        Ok(Self {
            backend: backend.clone(),
            tokens,
            heads: (0..HEADS).map(head).collect::<Result<_>>()?,
            scores: Buffer::zeros(DType::F32, tokens * tokens)?,
            weights: LinearInput::new(format.input(), tokens, tokens)?,
            out: Buffer::zeros(DType::F32, tokens * HEAD_DIM)?,
        })
    }

    /// Bytes that grow with the square of the prompt.
    fn matrix_bytes(&self) -> usize {
        self.scores.size_in_bytes() + self.weights.size_in_bytes()
    }

    /// Attention of all heads, one after the other, into `out`, `[tokens, HEADS, HEAD_DIM]`.
    fn run(&mut self, out: &mut [f32]) -> Result<()> {
        let (backend, tokens) = (&self.backend, self.tokens);
        for (index, head) in self.heads.iter().enumerate() {
            backend.linear(&head.q, &head.keys, None, &mut self.scores, 0..tokens)?;
            causal_softmax(self.scores.f32s_mut()?, tokens, backend.threads());
            backend.encode(&self.scores, &mut self.weights, tokens)?;
            backend.linear(&self.weights, &head.values, None, &mut self.out, 0..tokens)?;
            let rows = self.out.f32s()?.chunks_exact(HEAD_DIM);
            for (row, out) in rows.zip(out.chunks_exact_mut(WIDTH)) {
                out[index * HEAD_DIM..][..HEAD_DIM].copy_from_slice(row);
            }
        }
        Ok(())
    }
}

/// Turns scores into weights: token `i` sees the positions up to `i`, and weighs the others with 0.
fn causal_softmax(scores: &mut [f32], tokens: usize, threads: usize) {
    let softmax = |first: usize, rows: &mut [f32]| {
        for (i, row) in rows.chunks_exact_mut(tokens).enumerate() {
            let (seen, hidden) = row.split_at_mut(first + i + 1);
            let max = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for score in &mut *seen {
                *score = (*score - max).exp();
                sum += *score;
            }
            let inverse = 1.0 / sum;
            seen.iter_mut().for_each(|weight| *weight *= inverse);
            hidden.fill(0.0);
        }
    };
    let share = tokens.div_ceil(threads).max(SOFTMAX_ROWS);
    std::thread::scope(|scope| {
        let mut shares = scores.chunks_mut(share * tokens).enumerate();
        let mine = shares.next();
        for (i, rows) in shares {
            scope.spawn(move || softmax(i * share, rows));
        }
        if let Some((_, rows)) = mine {
            softmax(0, rows);
        }
    });
}

fn measure(
    backend: &Backend,
    gpu: Option<&Backend>,
    tokens: usize,
    budget: Duration,
) -> Result<Point> {
    let prompt = Prompt::new(tokens);

    let mut naive = Naive::new(backend, &prompt)?;
    let mut expected = vec![0.0; tokens * WIDTH];
    let naive_time = fastest(budget, || backend.step(|| naive.run(&mut expected)))?;

    let layer = layer(backend, KvFormat::F32, &prompt)?;
    let sequence = Sequences::new(0, 1, tokens, tokens);
    let q = Buffer::from_f32s(&prompt.q)?;
    let mut out = Buffer::zeros(DType::F32, tokens * WIDTH)?;
    let tiled_time = fastest(budget, || {
        backend.step(|| layer.attend(backend, &sequence, &q, &mut out))
    })?;

    let queries = if backend.name() == "amx" { 64 } else { 48 };
    let pairs = out.f32s()?.iter().zip(&expected);
    let differences: Vec<f32> = pairs.map(|(a, b)| (a - b).abs()).collect();
    let difference = differences.iter().copied().fold(0.0, f32::max);
    ensure!(
        // NaN is not within any tolerance.
        differences.iter().all(|apart| *apart <= TOLERANCE),
        "{tokens} tokens: the two ways are {difference} apart, expected at most {TOLERANCE}"
    );
    Ok(Point {
        tokens,
        naive_bytes: naive.matrix_bytes(),
        tiled_bytes: backend.threads() * queries * TILED_BYTES_PER_QUERY,
        naive: naive_time,
        tiled: tiled_time,
        difference,
        gpu: gpu
            .map(|gpu| on_gpu(gpu, &prompt, &expected, budget))
            .transpose()?,
    })
}

/// The tiled way on a GPU, whose tensor cores take bf16: the time, if the result is what it should be.
fn on_gpu(
    backend: &Backend,
    prompt: &Prompt,
    expected: &[f32],
    budget: Duration,
) -> Result<Duration> {
    let tokens = prompt.tokens;
    let layer = layer(backend, KvFormat::Bf16, prompt)?;
    let sequence = Sequences::new(0, 1, tokens, tokens);
    let q = backend.vector(&prompt.q)?;
    let mut out = backend.zeros(DType::F32, tokens * WIDTH)?;
    let mut last = [0.0];
    let time = fastest(budget, || {
        layer.attend(backend, &sequence, &q, &mut out)?;
        // Waits for the kernel.
        Ok(backend.read(&out, tokens * WIDTH - 1..tokens * WIDTH, &mut last)?)
    })?;
    let mut found = vec![0.0; tokens * WIDTH];
    backend.read(&out, 0..found.len(), &mut found)?;
    let pairs = found.iter().zip(expected);
    let apart = pairs.map(|(a, b)| (a - b).abs());
    ensure!(
        apart.clone().all(|apart| apart <= BF16_TOLERANCE),
        "{tokens} tokens: the GPU's result is {} apart, expected at most {BF16_TOLERANCE}",
        apart.fold(0.0, f32::max)
    );
    Ok(time)
}

/// The prompt's keys and values in a cache.
fn layer(backend: &Backend, format: KvFormat, prompt: &Prompt) -> Result<Layer> {
    let heads = Heads {
        query: HEADS,
        kv: HEADS,
        dim: HEAD_DIM,
    };
    Layer::new(backend, heads, format, prompt.tokens, |slot, head| {
        let at = slot * WIDTH + head * HEAD_DIM;
        (&prompt.k[at..at + HEAD_DIM], &prompt.v[at..at + HEAD_DIM])
    })
}

fn main() -> Result<()> {
    let (lengths, budget): (&[usize], _) = if quick() {
        (&[64, 128], Duration::ZERO)
    } else {
        let lengths = &[128, 256, 512, 1024, 2048, 3072, 4096];
        (lengths, Duration::from_millis(800))
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let backend = Backend::cpu(threads)?;
    println!(
        "\nOne prompt, {HEADS} heads of {HEAD_DIM}, f32; {threads} threads, {} kernels\n",
        backend.name()
    );
    let gpu = match Backend::open(DeviceName::Cuda(0), 1, GpuOptions::default()) {
        Ok(gpu) => {
            println!("GPU: {}, bf16 cache\n", gpu.name());
            Some(gpu)
        }
        Err(error) => {
            println!("no GPU column: {error}\n");
            None
        }
    };
    let mut points = Vec::new();
    for &tokens in lengths {
        points.push(measure(&backend, gpu.as_ref(), tokens, budget)?);
    }
    print(&points);
    draw(&points)
}

fn kib(bytes: usize) -> f64 {
    bytes as f64 / 1024.0
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn print(points: &[Point]) {
    let rows: Vec<Vec<String>> = points
        .iter()
        .map(|p| {
            vec![
                p.tokens.to_string(),
                format!("{:.0}", kib(p.naive_bytes)),
                format!("{:.0}", kib(p.tiled_bytes)),
                format!("{:.2}", millis(p.naive)),
                format!("{:.2}", millis(p.tiled)),
                format!("{:.1}", millis(p.naive) / millis(p.tiled)),
                format!("{:.1e}", p.difference),
                p.gpu
                    .map_or_else(|| "-".into(), |time| format!("{:.3}", millis(time))),
            ]
        })
        .collect();
    table::print(
        &[
            "tokens",
            "naive (KiB)",
            "tiled (KiB)",
            "naive (ms)",
            "tiled (ms)",
            "times faster",
            "largest difference",
            "GPU, tiled (ms)",
        ],
        &rows,
    );
}

fn draw(points: &[Point]) -> Result<()> {
    let line = |name: &str, value: &dyn Fn(&Point) -> f64| Line {
        name: name.into(),
        points: points.iter().map(|p| (p.tokens as f64, value(p))).collect(),
    };
    let memory = picture::lines(
        "lesson05_memory",
        "Memory beside queries, keys, values and output",
        "tokens of the prompt",
        "MiB",
        &[
            line("all scores at once, a head at a time", &|p| {
                kib(p.naive_bytes) / 1024.0
            }),
            line("tiles, online softmax", &|p| kib(p.tiled_bytes) / 1024.0),
        ],
    )?;
    let time = picture::lines(
        "lesson05_time",
        "Attention of a whole prompt, 4 heads of 64",
        "tokens of the prompt",
        "milliseconds",
        &[
            line("all scores at once", &|p| millis(p.naive)),
            line("tiles, online softmax", &|p| millis(p.tiled)),
        ],
    )?;
    println!("pictures: {}, {}", memory.display(), time.display());
    Ok(())
}
