//! The kernels of a step that lie between its products, and what a launch costs.
//!
//! Launches are recorded and played together, so that the host that queues them is not what is timed.

use std::time::Instant;

use anyhow::Result;
use maitre_tensor::KvFormat;
use maitre_tensor::{
    Backend, DType, InputFormat, RecordedSteps, RopeStore, StepLists, StepShape, TensorError,
};

use crate::item::{Item, Outcome, Timed, Unit, figures};
use crate::numbers::random;
use crate::site::{Site, settle};
use crate::{Options, ShapeChoice};

/// Launches that are timed together.
pub(super) const TIMES: usize = 30;

/// Tiny launches that are timed together.
const LAUNCHES: usize = 100;

/// Times that all of them are played; the fastest counts.
const ROUNDS: usize = 3;

/// Most seconds for any of these: the largest matrix is packed within them.
pub(super) const MOST_S: f64 = 40.0;

pub(super) fn list(options: &Options, items: &mut Vec<Item>) {
    let is_tiny = options.shape == ShapeChoice::Tiny;
    let (hidden, mlp, many) = if is_tiny {
        (32, 64, 18)
    } else {
        (4096, 12_288, 256)
    };
    for rows in [1, many] {
        small(format!("add_rms_norm {hidden}"), rows, items, move |it| {
            norm(it, rows, hidden)
        });
        small(format!("encode {mlp}"), rows, items, move |it| {
            encode(it, rows, mlp)
        });
        small("rope_and_store".to_owned(), rows, items, move |it| {
            rope(it, rows)
        });
    }
    items.push(Item::speed("launch", "a launch, recorded", launch).within(MOST_S));
}

pub(super) fn of_rows(rows: usize) -> String {
    match rows {
        1 => "1 row".to_owned(),
        _ => format!("{rows} rows"),
    }
}

fn small(
    name: String,
    rows: usize,
    items: &mut Vec<Item>,
    work: impl Fn(&mut Site) -> Result<Outcome> + 'static,
) {
    let id = format!("{}_{rows}r", name.replace(' ', "_"));
    let title = format!("{name}, {}", of_rows(rows));
    items.push(Item::speed(id, title, work).within(MOST_S));
}

/// What a kernel between products takes, of which only the bytes matter.
fn timed_small(site: &Site, seconds: f64, bytes: usize) -> Outcome {
    let seconds = seconds / TIMES as f64;
    let mut timed = Timed::new(Unit::Microseconds, seconds * 1e6);
    timed.predicted = site
        .rates()
        .map(|rates| rates.of_kernel(bytes as f64, 0.0) * 1e6);
    timed.figures = figures([
        ("bytes", bytes as f64),
        ("launches", TIMES as f64),
        ("gigabytes_per_s", bytes as f64 / seconds / 1e9),
    ]);
    timed.into()
}

fn norm(site: &mut Site, rows: usize, dim: usize) -> Result<Outcome> {
    let backend = &site.strict;
    let mut residual = backend.vector(&random(95, rows * dim))?;
    let delta = backend.vector(&random(96, rows * dim))?;
    let weight = backend.vector(&random(97, dim))?;
    let mut out = backend.linear_input(InputFormat::Bf16, dim, rows)?;
    let seconds = time_together(backend, StepLists::default(), || {
        (0..TIMES).try_for_each(|_| {
            backend.add_rms_norm(&mut residual, &delta, &weight, 1e-6, &mut out, rows)
        })
    })?;
    // Two sums are read, one is written, and what is normalised.
    Ok(timed_small(site, seconds, rows * dim * 14))
}

fn encode(site: &mut Site, rows: usize, dim: usize) -> Result<Outcome> {
    let backend = &site.strict;
    let x = backend.vector(&random(98, rows * dim))?;
    let mut out = backend.linear_input(InputFormat::Bf16, dim, rows)?;
    let seconds = time_together(backend, StepLists::default(), || {
        (0..TIMES).try_for_each(|_| backend.encode(&x, &mut out, rows))
    })?;
    Ok(timed_small(site, seconds, rows * dim * 6))
}

fn rope(site: &mut Site, rows: usize) -> Result<Outcome> {
    let (backend, sizes) = (&site.strict, site.sizes);
    let (heads, kv_heads, dim) = (sizes.heads, sizes.kv_heads, sizes.head_dim);
    let slots = rows.next_multiple_of(16);
    let mut cache = backend.cache(slots, kv_heads, dim, KvFormat::Bf16)?;
    let all_heads = heads + 2 * kv_heads;
    let qkv = backend.vector(&random(99, rows * all_heads * dim))?;
    let angles = backend.vector(&random(100, rows * dim / 2))?;
    let norm = backend.vector(&random(101, dim))?;
    let mut q_out = backend.zeros(DType::F32, rows * heads * dim)?;
    let positions: Vec<u32> = (0..rows as u32).collect();
    let lists = StepLists {
        indices: [&positions, &[], &[]],
        ..StepLists::default()
    };
    let seconds = time_together(backend, lists, || {
        (0..TIMES).try_for_each(|_| {
            backend.rope_and_store(RopeStore {
                qkv: &qkv,
                q_norm: Some(&norm),
                k_norm: Some(&norm),
                eps: 1e-6,
                cos: &angles,
                sin: &angles,
                q_factors: None,
                positions: &positions,
                slots: &positions,
                heads,
                kv_heads,
                head_dim: dim,
                rotary_dim: dim,
                q_out: &mut q_out,
                cache: &mut cache,
            })
        })
    })?;
    // Read in f32 with the angles; queries are written in f32, keys and values in bf16.
    let per_row = dim * (4 * all_heads + 4 + 4 * heads + 4 * kv_heads);
    Ok(timed_small(site, seconds, rows * per_row))
}

/// What each of many launches costs that do next to nothing.
fn launch(site: &mut Site) -> Result<Outcome> {
    const DIM: usize = 16;
    let backend = &site.strict;
    let x = backend.vector(&random(102, DIM))?;
    let mut out = backend.linear_input(InputFormat::Bf16, DIM, 1)?;
    let seconds = time_together(backend, StepLists::default(), || {
        (0..LAUNCHES).try_for_each(|_| backend.encode(&x, &mut out, 1))
    })? / LAUNCHES as f64;
    let mut timed = Timed::new(Unit::Microseconds, seconds * 1e6);
    let bytes = (DIM * 6) as f64;
    timed.predicted = site.rates().map(|rates| rates.of_kernel(bytes, 0.0) * 1e6);
    timed.figures = figures([("launches", LAUNCHES as f64)]);
    Ok(timed.into())
}

/// The time of all that `work` queues, recorded and played; on the processor, done.
pub(super) fn time_together(
    backend: &Backend,
    lists: StepLists<'_>,
    mut work: impl FnMut() -> Result<(), TensorError>,
) -> Result<f64> {
    let probe = backend.vector(&[1.0])?;
    let shape = StepShape {
        rows: 1,
        context_bound: 1,
    };
    let mut recorded = RecordedSteps::default();
    // The first runs as it is, the second is recorded.
    for _ in 0..2 {
        backend.step_recorded(shape, lists, &mut recorded, &mut work)?;
    }
    settle(backend, &probe)?;
    if let Some(reason) = recorded.take_failure() {
        tracing::warn!(%reason, "launches could not be recorded; they are timed as the host queues them");
    }
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        backend.step_recorded(shape, lists, &mut recorded, &mut work)?;
        settle(backend, &probe)?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok(best)
}
