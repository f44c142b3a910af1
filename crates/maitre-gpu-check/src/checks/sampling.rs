//! The choice of tokens.

use anyhow::Result;
use maitre_tensor::{Backend, SampleRow, SampleRows, SampledRow};

use crate::item::{Checked, Item, Outcome, figures};
use crate::numbers::{Dice, random};
use crate::site::{Site, Sizes};

pub(super) fn list(items: &mut Vec<Item>) {
    items.push(Item::check(
        "sample_rows",
        "sampling: tokens and log-probabilities",
        agreement,
    ));
    items.push(Item::check(
        "invariant_sampling",
        "a sampled row: alone = in a crowd",
        invariance,
    ));
}

/// What log-probabilities may differ by.
const LOGPROB_LIMIT: f64 = 1e-5;

/// All ways of sampling in turn.
fn requests(rows: usize) -> Vec<Option<SampleRow>> {
    let mut dice = Dice::new(41);
    let request = |row: usize, seed: usize| SampleRow {
        temperature: [0.0, 1.0, 0.7, 1.3][row % 4],
        top_k: [0, 50, 1, 1000][row / 2 % 4],
        top_p: [1.0, 0.9, 0.5][row / 3 % 3],
        min_p: [0.0, 0.05][row / 5 % 2],
        seed: seed as u64,
        position: row as u64,
    };
    (0..rows)
        .map(|row| Some(request(row, dice.below(1 << 30))))
        .collect()
}

/// Logits that are likely in a few places.
fn logits(sizes: &Sizes) -> Vec<f32> {
    let mut logits = random(42, sizes.sampled_rows * sizes.vocab);
    logits
        .iter_mut()
        .for_each(|it| *it = *it * *it * *it * 12.0);
    logits
}

fn sample(
    backend: &Backend,
    sizes: &Sizes,
    logits: &[f32],
    rows: &[Option<SampleRow>],
) -> Result<Vec<SampledRow>> {
    let logits = backend.vector(logits)?;
    let mut out = vec![SampledRow::Skipped; rows.len()];
    backend.sample_rows(SampleRows {
        logits: &logits,
        vocab: sizes.vocab,
        // Not all that there are: what is behind must not count.
        choosable: sizes.vocab - sizes.vocab / 16,
        rows,
        out: &mut out,
    })?;
    Ok(out)
}

fn agreement(site: &mut Site) -> Result<Outcome> {
    let sizes = site.sizes;
    let (logits, rows) = (logits(sizes), requests(sizes.sampled_rows));
    let expected = sample(&site.cpu, sizes, &logits, &rows)?;
    let actual = sample(&site.strict, sizes, &logits, &rows)?;
    let (mut tokens, mut error) = (0, 0.0_f64);
    for pair in expected.iter().zip(&actual) {
        if let (
            SampledRow::Token { id, logprob },
            SampledRow::Token {
                id: found,
                logprob: its,
            },
        ) = pair
        {
            tokens += usize::from(id == found);
            let difference = f64::from((logprob - its).abs());
            // `max` would drop what is no number.
            error = if difference.is_nan() {
                f64::INFINITY
            } else {
                error.max(difference)
            };
        }
    }
    let all = expected.len();
    Ok(Checked {
        passed: tokens == all && error <= LOGPROB_LIMIT,
        measured: format!("{tokens} of {all}, {error:.1e}"),
        limit: format!("all, at most {LOGPROB_LIMIT:.0e}"),
        figures: figures([
            ("equal_tokens", tokens as f64),
            ("all_tokens", all as f64),
            ("max_logprob_error_nats", error),
            ("limit_max_logprob_error_nats", LOGPROB_LIMIT),
        ]),
    }
    .into())
}

fn invariance(site: &mut Site) -> Result<Outcome> {
    let sizes = site.sizes;
    let (logits, rows) = (logits(sizes), requests(sizes.sampled_rows));
    let crowd = sample(&site.strict, sizes, &logits, &rows)?;
    let mut equal = 0;
    for (row, expected) in crowd.iter().enumerate() {
        let own = &logits[row * sizes.vocab..][..sizes.vocab];
        let alone = sample(&site.strict, sizes, own, &rows[row..=row])?;
        equal += usize::from(alone.first() == Some(expected));
    }
    Ok(Checked::all("rows", equal, crowd.len()).into())
}
