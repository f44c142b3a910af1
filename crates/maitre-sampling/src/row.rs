//! A row of logits with the largest logit of each block of 64.
//!
//! One pass at the speed of memory finds the block peaks; everything after it asks them first and
//! then looks into the few blocks that matter. The k-th largest of the peaks, for example, bounds
//! the k-th largest logit from below, so that finding it need not sort, nor even copy, the
//! vocabulary.

use std::cmp::Ordering;

use crate::{SamplingError, noise};

/// Tokens that share a peak. The noise of a block is computed at once, so the sizes agree.
pub const BLOCK: usize = noise::BLOCK;

/// A row of logits, `[vocabulary]`, and what is already known of it.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a> {
    /// The logits.
    pub values: &'a [f32],
    /// The largest logit of each [`BLOCK`], as far as they are known; NaN for a block with a logit
    /// that is NaN or +inf. The operator that computes the logits has them at hand, which spares the sampler
    /// reading the whole row again. Peaks of blocks that are not whole within `values` are not used.
    pub peaks: &'a [f32],
}

impl<'a> From<&'a [f32]> for Logits<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self { values, peaks: &[] }
    }
}

impl<'a> From<&'a Vec<f32>> for Logits<'a> {
    fn from(values: &'a Vec<f32>) -> Self {
        values.as_slice().into()
    }
}

impl<'a, const N: usize> From<&'a [f32; N]> for Logits<'a> {
    fn from(values: &'a [f32; N]) -> Self {
        values.as_slice().into()
    }
}

/// How many logits are treated side by side, for the compiler to use vector instructions.
pub(crate) const LANES: usize = 16;

/// Memory a [`Row`] works in, kept from row to row.
#[derive(Debug, Default)]
pub(crate) struct RowScratch {
    peaks: Vec<f32>,
    selection: Vec<f32>,
}

#[cfg(test)]
impl RowScratch {
    pub(crate) fn capacities(&self) -> [usize; 2] {
        [self.peaks.capacity(), self.selection.capacity()]
    }
}

/// Logits, checked: none is NaN or +inf, at least one is finite.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    logits: &'a [f32],
    peaks: &'a [f32],
    selection: &'a mut Vec<f32>,
    max: f32,
}

/// Where truncation ends: what is kept of a row is everything above a logit, and of the tokens that have
/// just this logit those up to some id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) logit: f32,
    pub(crate) last_equal: u32,
}

impl Cut {
    /// Keeps every logit of at least `logit`.
    pub(crate) fn at(logit: f32) -> Self {
        Self {
            logit,
            last_equal: u32::MAX,
        }
    }

    /// Keeps, of what is kept, the logits of at least `logit`.
    pub(crate) fn raised(self, logit: f32) -> Self {
        if logit > self.logit {
            Self::at(logit)
        } else {
            self
        }
    }

    /// Whether `token` with its logit is kept.
    pub(crate) fn keeps(self, token: u32, logit: f32) -> bool {
        logit > self.logit || (logit == self.logit && token <= self.last_equal)
    }
}

/// Orders `(token, logit)` by falling logit, lowest id among equals. As everywhere in this crate, 0 equals -0.
pub(crate) fn falling(a: (u32, f32), b: (u32, f32)) -> Ordering {
    b.1.partial_cmp(&a.1)
        .unwrap_or(Ordering::Equal)
        .then(a.0.cmp(&b.0))
}

impl<'a> Row<'a> {
    /// Finds the peaks of `logits`.
    pub(crate) fn scan(
        logits: &'a [f32],
        scratch: &'a mut RowScratch,
    ) -> Result<Self, SamplingError> {
        Self::with_peaks(logits, &[], scratch)
    }

    /// Takes the peaks that are known, those of the first blocks, and finds the others.
    pub(crate) fn with_peaks(
        logits: &'a [f32],
        known: &[f32],
        scratch: &'a mut RowScratch,
    ) -> Result<Self, SamplingError> {
        let RowScratch { peaks, selection } = scratch;
        peaks.clear();
        let (blocks, rest) = logits.as_chunks::<BLOCK>();
        // The last block of the known peaks may go beyond the end of this row.
        let known = &known[..known.len().min(blocks.len())];
        peaks.extend_from_slice(known);
        let mut sound = [true; LANES];
        let found = &blocks[known.len()..];
        peaks.extend(found.iter().map(|block| peak(block, &mut sound)));
        if !rest.is_empty() {
            let mut block = [f32::NEG_INFINITY; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            peaks.push(peak(&block, &mut sound));
        }
        if sound != [true; LANES] || known.iter().any(|peak| peak.is_nan()) {
            return Err(first_unsound(logits));
        }
        let max = peaks.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if max == f32::NEG_INFINITY {
            return Err(SamplingError::NothingPossible {
                vocab_size: logits.len(),
            });
        }
        Ok(Self {
            logits,
            peaks,
            selection,
            max,
        })
    }

    /// How many tokens the row has.
    pub(crate) fn len(&self) -> usize {
        self.logits.len()
    }

    /// The logit of `token`, if the row has it.
    pub(crate) fn logit(&self, token: u32) -> Option<f32> {
        self.logits.get(token as usize).copied()
    }

    /// The largest logit of block `number`.
    pub(crate) fn peak(&self, number: usize) -> f32 {
        self.peaks[number]
    }

    /// The largest logit.
    pub(crate) fn max(&self) -> f32 {
        self.max
    }

    /// The token with the largest logit, the lowest id among equals.
    pub(crate) fn argmax(&self) -> u32 {
        let found = self.blocks_from(self.max).find_map(|(block, logits)| {
            let at = logits.iter().position(|logit| *logit == self.max)?;
            Some((block * BLOCK + at) as u32)
        });
        found.unwrap_or_default()
    }

    /// `(number, logits)` of the blocks that hold a logit of at least `cut`.
    pub(crate) fn blocks_from(&self, cut: f32) -> impl Iterator<Item = (usize, &'a [f32])> {
        let blocks = self.logits.chunks(BLOCK).zip(self.peaks).enumerate();
        blocks
            .filter(move |(_, (_, peak))| **peak >= cut)
            .map(|(number, (block, _))| (number, block))
    }

    /// `(token, logit)` of the tokens with a logit of at least `cut`, in order.
    pub(crate) fn tokens_from(&self, cut: f32) -> impl Iterator<Item = (u32, f32)> {
        self.blocks_from(cut).flat_map(move |(number, block)| {
            let tokens = (number * BLOCK) as u32..;
            tokens
                .zip(block.iter().copied())
                .filter(move |(_, logit)| *logit >= cut)
        })
    }

    /// How many logits are greater than `logit`.
    pub(crate) fn count_above(&self, logit: f32) -> u32 {
        let above = |block: &[f32]| block.iter().map(|x| u32::from(*x > logit)).sum::<u32>();
        self.blocks_from(logit).map(|(_, block)| above(block)).sum()
    }

    /// The `k`-th largest logit, counting from one; -inf if there are no more than `k`.
    pub(crate) fn kth_largest(&mut self, k: usize) -> f32 {
        if k == 0 || k >= self.logits.len() {
            return f32::NEG_INFINITY;
        }
        let mut selection = std::mem::take(self.selection);
        selection.clear();
        selection.reserve(self.logits.len());
        let mut floor = f32::NEG_INFINITY;
        if k <= self.peaks.len() {
            selection.extend_from_slice(self.peaks);
            floor = kth_largest(&mut selection, k);
        }
        selection.clear();
        for (_, block) in self.blocks_from(floor) {
            selection.extend(block.iter().copied().filter(|logit| *logit >= floor));
        }
        let kth = kth_largest(&mut selection, k);
        *self.selection = selection;
        kth
    }
}

/// The `k`-th largest of at least `k` ≥ 1 values, in linear time.
fn kth_largest(values: &mut [f32], k: usize) -> f32 {
    *values
        .select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a))
        .1
}

/// The largest logit of a block. A lane stays `sound` while all its logits are numbers or -inf: NaN and +inf
/// alone are not below +inf.
fn peak(block: &[f32; BLOCK], sound: &mut [bool; LANES]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for group in block.as_chunks::<LANES>().0 {
        for ((lane, sound), logit) in lanes.iter_mut().zip(&mut *sound).zip(group) {
            *lane = larger(*lane, *logit);
            *sound &= *logit < f32::INFINITY;
        }
    }
    reduce(lanes, larger)
}

fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Combines lanes in pairs, pairs in pairs and so on: a fixed order that stays in vector registers.
pub(crate) fn reduce(mut lanes: [f32; LANES], with: impl Fn(f32, f32) -> f32) -> f32 {
    let mut len = LANES;
    while len > 1 {
        len /= 2;
        for lane in 0..len {
            lanes[lane] = with(lanes[lane], lanes[lane + len]);
        }
    }
    lanes[0]
}

#[cold]
fn first_unsound(logits: &[f32]) -> SamplingError {
    let unsound = |logit: &f32| logit.is_nan() || *logit == f32::INFINITY;
    let at = logits.iter().position(unsound).unwrap_or_default();
    SamplingError::NonFinite {
        token: at as u32,
        logit: logits[at],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rows around the block size, with ties and impossible tokens but at least one possible one.
    fn logits() -> impl Strategy<Value = Vec<f32>> {
        let tied = (-8..8_i8).prop_map(f32::from);
        let logit = prop_oneof![4 => -30.0..30.0_f32, 2 => tied, 1 => Just(f32::NEG_INFINITY)];
        (prop::collection::vec(logit, 0..400), -9.0..9.0_f32).prop_map(|(mut row, last)| {
            row.push(last);
            row
        })
    }

    fn sorted(row: &[f32]) -> Vec<f32> {
        let mut sorted = row.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        sorted
    }

    proptest! {
        #[test]
        fn peaks_answer_as_a_sorted_row_does(logits in logits(), k in 1..450_usize, cut in -35.0..35.0_f32) {
            let mut scratch = RowScratch::default();
            let mut row = Row::scan(&logits, &mut scratch).unwrap();
            let sorted = sorted(&logits);
            prop_assert_eq!(row.max(), sorted[0]);
            prop_assert_eq!(row.argmax() as usize, logits.iter().position(|x| *x == sorted[0]).unwrap());
            let kth = if k < sorted.len() { sorted[k - 1] } else { f32::NEG_INFINITY };
            prop_assert_eq!(row.kth_largest(k), kth);
            prop_assert_eq!(row.count_above(cut) as usize, sorted.iter().filter(|x| **x > cut).count());
            let naive: Vec<(u32, f32)> =
                (0..).zip(logits.iter().copied()).filter(|(_, logit)| *logit >= cut).collect();
            prop_assert_eq!(row.tokens_from(cut).collect::<Vec<_>>(), naive);
        }

        #[test]
        fn known_peaks_change_nothing(logits in logits(), known in 0..9_usize, beyond: bool) {
            let mut scratch = RowScratch::default();
            let expected = Row::scan(&logits, &mut scratch).unwrap().peaks.to_vec();
            let mut peaks = expected[..known.min(expected.len())].to_vec();
            // A block that is cut short by the end of the row may have had a larger peak.
            if beyond && logits.len() % BLOCK != 0 && peaks.len() == expected.len() {
                peaks.pop();
                peaks.push(1e9);
            }
            let mut scratch = RowScratch::default();
            let row = Row::with_peaks(&logits, &peaks, &mut scratch).unwrap();
            prop_assert_eq!(row.peaks, expected);
        }

        #[test]
        fn a_number_that_is_no_logit_is_found(mut logits in logits(), at: prop::sample::Index, nan: bool) {
            let token = at.index(logits.len());
            logits[token] = if nan { f32::NAN } else { f32::INFINITY };
            let found = Row::scan(&logits, &mut RowScratch::default()).unwrap_err();
            let SamplingError::NonFinite { token: named, logit } = found else { panic!("{found:?}") };
            prop_assert_eq!((named as usize, logit.is_nan()), (token, nan));

            let mut peaks = vec![9.0; logits.len() / BLOCK];
            if let Some(peak) = peaks.get_mut(token / BLOCK) {
                *peak = f32::NAN;
            }
            let known = Row::with_peaks(&logits, &peaks, &mut RowScratch::default()).unwrap_err();
            let same = matches!(known, SamplingError::NonFinite { token, .. } if token == named);
            prop_assert!(same);
        }
    }

    #[test]
    fn a_row_without_a_possible_token_is_refused() {
        for vocab_size in [0, 1, 64, 100] {
            let logits = vec![f32::NEG_INFINITY; vocab_size];
            let found = Row::scan(&logits, &mut RowScratch::default()).unwrap_err();
            assert_eq!(found, SamplingError::NothingPossible { vocab_size });
        }
    }
}
