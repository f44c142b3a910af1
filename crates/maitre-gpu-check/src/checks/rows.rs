//! The operators that make an output row of single input rows.

use anyhow::Result;
use maitre_tensor::{Backend, DType, InputFormat};

use super::{BF16_LIMIT, F32_LIMIT, compare, identical, read};
use crate::item::Item;
use crate::numbers::{Dice, random};

const EPS: f32 = 1e-6;

pub(super) fn list(items: &mut Vec<Item>) {
    for (format, limit) in [
        (InputFormat::F32, F32_LIMIT),
        (InputFormat::Bf16, BF16_LIMIT),
    ] {
        items.push(Item::check(
            format!("rms_norm_{format}"),
            format!("rms_norm to {format}"),
            move |site| {
                let (rows, dim) = (last(site.sizes.rows), site.sizes.inputs);
                compare(site, limit, |it| norm(it, format, rows, dim))
            },
        ));
        items.push(Item::check(
            format!("add_rms_norm_{format}"),
            format!("add_rms_norm to {format}"),
            move |site| {
                let (rows, dim) = (last(site.sizes.rows), site.sizes.inputs);
                compare(site, limit, |it| added(it, format, rows, dim))
            },
        ));
        items.push(Item::check(
            format!("encode_{format}"),
            format!("encode to {format}"),
            move |site| {
                let (rows, dim) = (last(site.sizes.rows), site.sizes.inputs);
                // Nothing is computed: a rounding is right or wrong.
                compare(site, 0.0, |it| encoded(it, format, rows, dim))
            },
        ));
    }
    items.push(Item::check("gather_rows", "gather_rows", |site| {
        let (rows, dim) = (last(site.sizes.rows), site.sizes.inputs);
        compare(site, 0.0, |it| gathered(it, rows, dim))
    }));
    items.push(Item::check(
        "invariant_norm",
        "a normalised row: alone = in a crowd",
        |site| {
            let (rows, dim) = (last(site.sizes.rows), site.sizes.inputs);
            let format = InputFormat::Bf16;
            let crowd = norm(&site.strict, format, rows, dim)?;
            let alone = norm(&site.strict, format, 1, dim)?;
            Ok(identical(&alone, &crowd[..dim]))
        },
    ));
}

fn last(sizes: &[usize]) -> usize {
    sizes.last().copied().unwrap_or(1)
}

fn norm(backend: &Backend, format: InputFormat, rows: usize, dim: usize) -> Result<Vec<f32>> {
    let x = backend.vector(&random(1, rows * dim))?;
    let weight = backend.vector(&random(2, dim))?;
    let mut out = backend.linear_input(format, dim, rows)?;
    backend.rms_norm(&x, &weight, EPS, &mut out, rows)?;
    Ok(backend.decode(&out, rows)?.f32s()?.to_vec())
}

fn added(backend: &Backend, format: InputFormat, rows: usize, dim: usize) -> Result<Vec<f32>> {
    let mut residual = backend.vector(&random(1, rows * dim))?;
    let delta = backend.vector(&random(3, rows * dim))?;
    let weight = backend.vector(&random(2, dim))?;
    let mut out = backend.linear_input(format, dim, rows)?;
    backend.add_rms_norm(&mut residual, &delta, &weight, EPS, &mut out, rows)?;
    let mut both = backend.decode(&out, rows)?.f32s()?.to_vec();
    both.extend(read(backend, &residual)?);
    Ok(both)
}

fn encoded(backend: &Backend, format: InputFormat, rows: usize, dim: usize) -> Result<Vec<f32>> {
    let x = backend.vector(&random(4, rows * dim))?;
    let mut out = backend.linear_input(format, dim, rows)?;
    backend.encode(&x, &mut out, rows)?;
    Ok(backend.decode(&out, rows)?.f32s()?.to_vec())
}

fn gathered(backend: &Backend, rows: usize, dim: usize) -> Result<Vec<f32>> {
    let x = backend.vector(&random(5, rows * dim))?;
    let mut dice = Dice::new(6);
    let wanted: Vec<u32> = (0..rows).map(|_| dice.below(rows) as u32).collect();
    let mut out = backend.zeros(DType::F32, rows * dim)?;
    backend.gather_rows(&x, dim, &wanted, &mut out)?;
    read(backend, &out)
}
