//! The operators that make an output row of single input rows.

use anyhow::Result;
use maitre_tensor::{Activation, AddNormed, Backend, DType, InputFormat, LayerNorm, NormColumns};

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
            format!("add_normed_{format}"),
            format!("add_normed to {format}"),
            move |site| {
                let (rows, dim) = (last(site.sizes.rows), site.sizes.inputs);
                compare(site, limit, |it| added_normed(it, format, rows, dim))
            },
        ));
        items.push(Item::check(
            format!("layer_norm_{format}"),
            format!("layer_norm to {format}"),
            move |site| {
                let (rows, dim) = (last(site.sizes.rows), site.sizes.inputs);
                compare(site, limit, |it| layer_norm(it, format, rows, dim))
            },
        ));
        items.push(Item::check(
            format!("activate_{format}"),
            format!("activate to {format}"),
            move |site| {
                let (rows, dim) = (last(site.sizes.rows), site.sizes.inputs);
                compare(site, limit, |it| activated(it, format, rows, dim))
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
        "rms_norm_columns",
        "rms_norm_columns",
        |site| {
            let (rows, dim) = (last(site.sizes.rows), site.sizes.inputs);
            compare(site, F32_LIMIT, |it| columns(it, rows, dim))
        },
    ));
    items.push(Item::check("scale", "scale", |site| {
        let (rows, dim) = (last(site.sizes.rows), site.sizes.inputs);
        compare(site, 0.0, |it| {
            let mut x = it.vector(&random(1, rows * dim))?;
            it.scale(&mut x, 33.75, rows * dim)?;
            read(it, &x)
        })
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

/// What a layer adds is normalised, and the sum again.
fn added_normed(
    backend: &Backend,
    format: InputFormat,
    rows: usize,
    dim: usize,
) -> Result<Vec<f32>> {
    let mut residual = backend.vector(&random(1, rows * dim))?;
    let delta = backend.vector(&random(3, rows * dim))?;
    let [after, before] = [random(2, dim), random(7, dim)];
    let [after, before] = [backend.vector(&after)?, backend.vector(&before)?];
    let mut out = backend.linear_input(format, dim, rows)?;
    backend.add_normed(AddNormed {
        residual: &mut residual,
        delta: &delta,
        after: &after,
        before: Some(&before),
        eps: EPS,
        out: &mut out,
        rows,
    })?;
    let mut both = backend.decode(&out, rows)?.f32s()?.to_vec();
    both.extend(read(backend, &residual)?);
    Ok(both)
}

/// The sum of the residual stream and what a layer adds is normalised by mean and variance.
fn layer_norm(backend: &Backend, format: InputFormat, rows: usize, dim: usize) -> Result<Vec<f32>> {
    let mut residual = backend.vector(&random(1, rows * dim))?;
    let delta = backend.vector(&random(3, rows * dim))?;
    let [weight, bias] = [random(2, dim), random(7, dim)];
    let [weight, bias] = [backend.vector(&weight)?, backend.vector(&bias)?];
    let mut out = backend.linear_input(format, dim, rows)?;
    backend.add(&mut residual, &delta, rows * dim)?;
    backend.layer_norm(LayerNorm {
        residual: &mut residual,
        delta: Some(&delta),
        weight: &weight,
        bias: Some(&bias),
        eps: EPS,
        out: &mut out,
        rows,
    })?;
    let mut both = backend.decode(&out, rows)?.f32s()?.to_vec();
    both.extend(read(backend, &residual)?);
    Ok(both)
}

fn activated(backend: &Backend, format: InputFormat, rows: usize, dim: usize) -> Result<Vec<f32>> {
    let x = backend.vector(&random(4, rows * dim))?;
    let mut out = backend.linear_input(format, dim, rows)?;
    backend.activate(&x, Activation::GeluTanh, &mut out, rows)?;
    Ok(backend.decode(&out, rows)?.f32s()?.to_vec())
}

/// The second half of each row and a few numbers more.
fn columns(backend: &Backend, rows: usize, dim: usize) -> Result<Vec<f32>> {
    let first = (dim / 2).saturating_sub(3);
    let mut x = backend.vector(&random(1, rows * dim))?;
    let weight = backend.vector(&random(2, dim - first))?;
    let columns = NormColumns {
        width: dim,
        first,
        weight: &weight,
        eps: EPS,
    };
    backend.rms_norm_columns(&mut x, columns, rows)?;
    read(backend, &x)
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
