//! The two numbers that everything else is held against: how fast the device copies its own memory, and how fast it
//! multiplies large matrices of bf16 by whatever is fastest. They are measured first.

use std::time::{Duration, Instant};

use anyhow::Result;
use maitre_tensor::WeightFormat;
use maitre_tensor::{DType, WeightView};

use crate::item::{Item, Outcome, Timed, Unit, figures};
use crate::numbers;
use crate::site::{Site, settle};

/// Where the supervisor finds the rates.
pub(crate) const COPY_RATE: &str = "copy_rate";
pub(crate) const MATMUL_RATE: &str = "matmul_rate";

/// How long to look for the best round.
const BUDGET: Duration = Duration::from_millis(300);

/// Rows that are made up; the others are the same again.
const ROWS: usize = 8;

pub(crate) fn list(items: &mut Vec<Item>) {
    items.push(Item::speed(
        COPY_RATE,
        "copies, read and written both counted",
        copies,
    ));
    items.push(Item::speed(
        MATMUL_RATE,
        "a large product of bf16 matrices, fast",
        products,
    ));
}

fn copies(site: &mut Site) -> Result<Outcome> {
    let bytes = site.sizes.copied_bytes;
    let rate = site.strict.measure_copy(bytes, BUDGET)?;
    site.copy_bytes_per_s = Some(rate);
    let mut timed = Timed::new(Unit::GigabytesPerS, rate / 1e9);
    timed.figures = figures([("copied_bytes", bytes as f64)]);
    Ok(timed.into())
}

fn products(site: &mut Site) -> Result<Outcome> {
    let (backend, size) = (&site.fast, site.sizes.product);
    let rows = numbers::random(1, size * ROWS);
    let halves = rows.iter().flat_map(|it| {
        // The upper half of an f32 is a bf16.
        let [_, _, low, high] = it.to_le_bytes();
        [low, high]
    });
    let bytes = halves.collect::<Vec<u8>>().repeat(size / ROWS);
    let view = WeightView {
        dtype: DType::Bf16,
        rows: size,
        cols: size,
        bytes: &bytes,
    };
    let weight = backend.pack(&[view], WeightFormat::Bf16)?;
    let mut x = backend.linear_input(weight.input(), size, size)?;
    backend.encode(&backend.vector(&rows.repeat(size / ROWS))?, &mut x, size)?;
    let mut out = backend.zeros(DType::F32, size * size)?;
    let mut best = f64::INFINITY;
    let began = Instant::now();
    for round in 0.. {
        let started = Instant::now();
        backend.linear(&x, &weight, None, &mut out, 0..size)?;
        settle(backend, &out)?;
        // In the first a library chooses how to multiply.
        if round > 0 {
            best = best.min(started.elapsed().as_secs_f64());
        }
        if round > 2 && began.elapsed() > BUDGET {
            break;
        }
    }
    let rate = 2.0 * (size as f64).powi(3) / best;
    site.matmul_flop_per_s = Some(rate);
    let mut timed = Timed::new(Unit::TeraflopsPerS, rate / 1e12);
    timed.figures = figures([("matrix_size", size as f64)]);
    Ok(timed.into())
}
