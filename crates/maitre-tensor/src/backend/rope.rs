//! Rotation of queries and keys, and the write into the paged cache.

use super::Backend;
use super::check::Check;
use crate::{Buffer, NO_SLOT, RopeStore, TensorError};

impl Backend {
    /// Splits fused projections into heads, normalises query and key heads if asked, rotates them, or
    /// the first part of each, or nothing, by their positions (half-split layout), multiplies queries by the factor of their
    /// position if there are factors, writes the queries to `q_out` and each token's keys and values to its cache slot,
    /// rounded to the cache's format.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`]; `heads` must be a multiple of `kv_heads`, positions
    /// below the rows of `cos` and `sin` and the length of `q_factors`, slots below those of the cache or [`NO_SLOT`].
    pub fn rope_and_store(&self, args: RopeStore<'_>) -> Result<(), TensorError> {
        let check = self.check("rope_and_store");
        check_heads(check, &args)?;
        let (rows, dim) = (args.positions.len(), args.head_dim);
        let all_heads = args.heads + 2 * args.kv_heads;
        check.matrix("qkv", args.qkv, rows, all_heads * dim)?;
        let norm = |argument, norm: Option<&Buffer>| {
            norm.map_or(Ok(()), |norm| check.vector(argument, norm, dim))
        };
        norm("q_norm", args.q_norm)?;
        norm("k_norm", args.k_norm)?;
        check_angles(check, &args)?;
        check_factors(check, &args)?;
        check_slots(check, &args)?;
        check.matrix("q_out", args.q_out, rows, args.heads * dim)?;
        self.operators().rope_and_store(args)
    }
}

fn check_heads(check: Check<'_>, args: &RopeStore<'_>) -> Result<(), TensorError> {
    let dim = args.head_dim;
    check.rule(
        dim > 0 && dim.is_multiple_of(2),
        "head_dim",
        "even and above 0",
        dim,
    )?;
    let rotary = args.rotary_dim;
    check.rule(
        rotary.is_multiple_of(2) && rotary <= dim,
        "rotary_dim",
        format_args!("even, up to `head_dim` ({dim})"),
        rotary,
    )?;
    check.rule(args.kv_heads > 0, "kv_heads", "above 0", args.kv_heads)?;
    let expected = format_args!("a multiple of `kv_heads` ({}) above 0", args.kv_heads);
    let grouped = args.heads > 0 && args.heads.is_multiple_of(args.kv_heads);
    check.rule(grouped, "heads", expected, args.heads)
}

/// That there are angles for all positions.
fn check_angles(check: Check<'_>, args: &RopeStore<'_>) -> Result<(), TensorError> {
    let half = args.rotary_dim / 2;
    let positions = args.cos.len().checked_div(half);
    check.matrix("cos", args.cos, positions.unwrap_or(0), half)?;
    check.matrix("sin", args.sin, positions.unwrap_or(0), half)?;
    match positions {
        // Nothing is rotated, and no angle read.
        None => Ok(()),
        Some(positions) => check.indices("positions", args.positions, positions),
    }
}

/// That there are factors for all positions, if there are any.
fn check_factors(check: Check<'_>, args: &RopeStore<'_>) -> Result<(), TensorError> {
    let Some(factors) = args.q_factors else {
        return Ok(());
    };
    check.vector("q_factors", factors, factors.len())?;
    check.indices("positions", args.positions, factors.len())
}

/// That there is a slot for each row, of a cache with such heads, or none.
fn check_slots(check: Check<'_>, args: &RopeStore<'_>) -> Result<(), TensorError> {
    check.cache(args.cache, args.kv_heads, args.head_dim)?;
    let rows = args.positions.len();
    let expected = format_args!("as many as `positions` ({rows})");
    let found = args.slots.len();
    check.rule(found == rows, "slots", expected, found)?;
    let slots = args.slots.iter().copied().enumerate();
    let written = slots.filter(|(_, slot)| *slot != NO_SLOT);
    check.each_below("slots", written, args.cache.slots())
}
