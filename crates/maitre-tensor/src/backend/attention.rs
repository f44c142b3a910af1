//! Attention over the paged cache.

use super::Backend;
use super::check::Check;
use crate::{Attention, TensorError};

impl Backend {
    /// Causal attention of each span's tokens over the span's cached keys and values:
    /// `softmax(scale * q * k^T) * v`, where a token sees all positions up to its own, or the last of
    /// them if there is a window. With a bound b of scores s it is b * tanh(s / b) in place of s, which a GPU has no kernel for.
    ///
    /// Queries and weights are rounded as the cache is: not at all for f32, to bf16 for bf16, to
    /// fixed point of 15 and 16 bits for int8. Sums are f32. What a slot holds that a token does
    /// not see never shows, be it NaN. Blocks of a multiple of 16 slots are read in place; of those
    /// wholly behind the window neither slots nor numbers are read.
    ///
    /// # Errors
    ///
    /// As for every operator of [`Backend`]; spans must be in ascending order without overlap, and
    /// each block table must cover its span's `context_len` with blocks that exist.
    pub fn paged_attention(&self, args: Attention<'_>) -> Result<(), TensorError> {
        let check = self.check("paged_attention");
        check_heads(check, args.heads, args.kv_heads, args.head_dim)?;
        check.rule(args.window != Some(0), "window", "above 0", 0)?;
        if let Some(limit) = args.score_bound {
            check_bound(check, "score_bound", limit)?;
        }
        let rows = check_spans(check, &args)?;
        check_cache(check, &args)?;
        let width = args.heads * args.head_dim;
        check.matrix("q", args.q, rows, width)?;
        check.matrix("out", args.out, rows, width)?;
        self.operators().paged_attention(args, rows)
    }
}

/// That numbers can be bounded by it.
pub(super) fn check_bound(
    check: Check<'_>,
    argument: &'static str,
    limit: f32,
) -> Result<(), TensorError> {
    let is_bound = limit.is_finite() && limit > 0.0;
    check.rule(is_bound, argument, "finite and above 0", limit)
}

pub(super) fn check_heads(
    check: Check<'_>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
) -> Result<(), TensorError> {
    check.rule(head_dim > 0, "head_dim", "above 0", head_dim)?;
    check.rule(kv_heads > 0, "kv_heads", "above 0", kv_heads)?;
    let expected = format_args!("a multiple of `kv_heads` ({kv_heads}) above 0");
    let grouped = heads > 0 && heads.is_multiple_of(kv_heads);
    check.rule(grouped, "heads", expected, heads)
}

/// Returns the number of token rows up to the end of the last span.
fn check_spans(check: Check<'_>, args: &Attention<'_>) -> Result<usize, TensorError> {
    let (spans, tables) = (args.spans, args.tables);
    let expected = format_args!("one per span ({})", spans.len());
    check.rule(
        tables.tables.len() == spans.len(),
        "tables",
        expected,
        tables.tables.len(),
    )?;
    check.rule(tables.block_size > 0, "tables.block_size", "above 0", 0)?;
    let firsts = tables.first_blocks.len();
    let expected = format_args!("one per span ({}) or none", spans.len());
    let one_each = firsts == 0 || firsts == spans.len();
    check.rule(one_each, "tables.first_blocks", expected, firsts)?;
    let mut rows = 0;
    for (index, (span, table)) in spans.iter().zip(&tables.tables).enumerate() {
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
        let first = tables.first_block(index);
        let begins =
            span.num_tokens == 0 || first <= span.first_seen(args.window) / tables.block_size;
        let expected = "a table that begins with the first block its tokens see";
        check.rule(begins, "tables.first_blocks", expected, first)?;
        let covered = span.context_len.div_ceil(tables.block_size) <= first + table.len();
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

/// That the cache is of the shape given, and the blocks that are read exist.
fn check_cache(check: Check<'_>, args: &Attention<'_>) -> Result<(), TensorError> {
    check.cache(args.cache, args.kv_heads, args.head_dim)?;
    let block_size = args.tables.block_size;
    let blocks = args.cache.slots() / block_size;
    let mut tables = args.spans.iter().zip(&args.tables.tables).enumerate();
    tables.try_for_each(|(index, (span, table))| {
        // Blocks behind the window may belong to others by now.
        let held = span.first_seen(args.window) / block_size;
        let held = held.saturating_sub(args.tables.first_block(index));
        let seen = table.iter().copied().enumerate().skip(held);
        check.each_below("tables", seen, blocks)
    })
}
