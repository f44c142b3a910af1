//! Attention over the paged cache.

use super::Backend;
use super::check::{Check, describe};
use crate::kernels::Attend;
use crate::tiles::Grid;
use crate::{Attention, TensorError};

/// Most token rows of a tile: enough to use a loaded key often, few enough that their running sums
/// stay in the first-level cache.
const TILE_ROWS: usize = 16;

/// Tiles per thread below which tiles are made smaller.
const TILES_PER_THREAD: usize = 8;

impl Backend {
    /// Causal attention of each span's tokens over the span's cached keys and values:
    /// `softmax(scale * q * k^T) * v`, where a token sees all positions up to its own.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`]; spans must be in ascending order without overlap, and
    /// each block table must cover its span's `context_len` with blocks that exist.
    pub fn paged_attention(&self, args: Attention<'_>) -> Result<(), TensorError> {
        let check = Check("paged_attention");
        check_heads(check, &args)?;
        let rows = check_spans(check, &args)?;
        check_cache(check, &args)?;
        let width = args.heads * args.head_dim;
        let attend = Attend {
            q: check.matrix("q", args.q, rows, width)?,
            k: args.cache.k.view(),
            v: args.cache.v.view(),
            spans: args.spans,
            tables: args.tables,
            heads: args.heads,
            kv_heads: args.kv_heads,
            head_dim: args.head_dim,
            scale: args.scale,
        };
        let out = check.matrix_mut("out", args.out, rows, width)?;
        let wanted = self.threads() * TILES_PER_THREAD;
        let block = (rows * args.kv_heads / wanted).clamp(1, TILE_ROWS);
        let grid = Grid::new(out, width, block, width / args.kv_heads);
        let kernels = self.kernels();
        self.turn("paged_attention")
            .for_each(grid, |rect, scratch| {
                (kernels.attend)(&attend, rect, scratch)
            })
    }
}

fn check_heads(check: Check, args: &Attention<'_>) -> Result<(), TensorError> {
    check.rule(args.head_dim > 0, "head_dim", "above 0", args.head_dim)?;
    check.rule(args.kv_heads > 0, "kv_heads", "above 0", args.kv_heads)?;
    let expected = format_args!("a multiple of `kv_heads` ({}) above 0", args.kv_heads);
    let grouped = args.heads > 0 && args.heads.is_multiple_of(args.kv_heads);
    check.rule(grouped, "heads", expected, args.heads)
}

/// Returns the number of token rows up to the end of the last span.
fn check_spans(check: Check, args: &Attention<'_>) -> Result<usize, TensorError> {
    let (spans, tables) = (args.spans, args.tables);
    let expected = format_args!("one per span ({})", spans.len());
    check.rule(
        tables.tables.len() == spans.len(),
        "tables",
        expected,
        tables.tables.len(),
    )?;
    check.rule(tables.block_size > 0, "tables.block_size", "above 0", 0)?;
    let mut rows = 0;
    for (span, table) in spans.iter().zip(&tables.tables) {
        let known = span.context_len >= span.num_tokens;
        check.rule(
            known,
            "spans",
            "at most `context_len` tokens each",
            format_args!("{span:?}"),
        )?;
        let end = span.first_token.checked_add(span.num_tokens);
        let end = end.filter(|_| span.first_token >= rows);
        check.rule(
            end.is_some(),
            "spans",
            "ascending and apart",
            format_args!("{span:?}"),
        )?;
        rows = end.unwrap_or(rows);
        let covered = span.context_len.div_ceil(tables.block_size) <= table.len();
        let expected = format_args!(
            "blocks of {} for {} positions",
            tables.block_size, span.context_len
        );
        check.rule(
            covered,
            "tables",
            expected,
            format_args!("{} blocks", table.len()),
        )?;
    }
    Ok(rows)
}

fn check_cache(check: Check, args: &Attention<'_>) -> Result<(), TensorError> {
    let (k, v) = (&args.cache.k, &args.cache.v);
    let alike = k.dtype() == v.dtype() && k.len() == v.len();
    check.rule(
        alike,
        "cache.v",
        "as large as `cache.k` and of its format",
        describe(v),
    )?;
    let block_len = args.tables.block_size * args.kv_heads * args.head_dim;
    let whole = k.len().is_multiple_of(block_len);
    check.rule(
        whole,
        "cache.k",
        format_args!("whole blocks of {block_len} elements"),
        describe(k),
    )?;
    args.tables
        .tables
        .iter()
        .try_for_each(|table| check.indices("tables", table, k.len() / block_len))
}
