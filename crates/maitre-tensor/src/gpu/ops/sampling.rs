//! The choice of tokens where their logits are.
//!
//! Scratch memory holds the answers of all rows, and behind them what `sample_scan` leaves of a group of rows:
//!
//! ```text
//! answers [rows][3] | peaks [group][8 strips] | tails [group][8 strips] | masses [group][strips]
//! ```

use super::{Device, bytes};
use crate::gpu::device::DeviceTurn;
use crate::gpu::{Arg, Grid};
use crate::operators::Sampling;
use crate::sampling::GREEDY_BELOW;
use crate::{
    Buffer, LargestAttention, MOST_CHOOSABLE, SampleRow, SampleRows, SampledRow, TensorError,
};

/// Threads of a warp.
const WARP: usize = 32;

/// What the kernel is told of a row, in words.
const REQUEST_WORDS: usize = 9;

/// What it tells of a row, in words.
const ANSWER_WORDS: usize = 3;

/// The same in bytes.
pub(in crate::gpu) const ANSWER_BYTES: usize = ANSWER_WORDS * size_of::<u32>();

/// Shared memory of a block: a histogram, a list of tokens, one of blocks, sums of warps, what a search finds,
/// counters, queues of warps (`cuda/sampling_blocks.cuh`).
const SHARED_BYTES: usize = 2048 * 8 + 1024 * 8 + 4096 * 2 + 32 * 8 + 4 * 8 + 32 + 16 * 64 * 4;

/// Tokens that a warp scans at once.
const STRIP: usize = 512;

/// Peaks of a strip, and tails.
const STRIP_BLOCKS: usize = 8;

/// What is known of a strip.
const STRIP_BYTES: usize = (2 * STRIP_BLOCKS + 1) * size_of::<u32>();

/// Warps of a block that scans.
const SCANNING_WARPS: usize = 8;

/// Scratch memory for what is known of strips; more rows than it has space for are chosen from one group after the
/// other. A row of 2^20 logits needs 136 KiB.
const MOST_STRIP_BYTES: usize = 8 << 20;

impl Device {
    /// Bytes of scratch memory that no operator of a step within `largest` needs more of.
    pub(crate) fn most_scratch(&self, largest: &LargestAttention) -> usize {
        let strips = largest.rows * MOST_CHOOSABLE.div_ceil(STRIP);
        let strip_bytes = (strips * STRIP_BYTES).min(MOST_STRIP_BYTES);
        let sampling = answer_bytes(largest.rows) + strip_bytes;
        self.most_recorded(largest).max(sampling)
    }

    /// Words of the index list of an operator that is no part of a step.
    pub(crate) fn most_single_list(&self, rows: usize) -> usize {
        rows * REQUEST_WORDS
    }

    /// Queues the choice of a token from each row of `[rows, vocab]`. The answers are the first bytes of scratch memory,
    /// as long as the turn lasts.
    pub(in crate::gpu) fn choose(
        &self,
        turn: &mut DeviceTurn<'_>,
        logits: &Buffer,
        [vocab_size, choosable]: [usize; 2],
        rows: &[Option<SampleRow>],
    ) -> Result<(), TensorError> {
        let count = rows.len();
        let logits = bytes(logits)?;
        let requests: Vec<u32> = rows.iter().flat_map(request_words).collect();
        let strips = choosable.div_ceil(STRIP);
        let group = (MOST_STRIP_BYTES / (strips * STRIP_BYTES).max(1)).min(count);
        turn.reserve_scratch(answer_bytes(count) + group * strips * STRIP_BYTES)?;
        let requests = turn.list(&requests)?;
        for first in (0..count).step_by(group.max(1)) {
            let rows = group.min(count - first);
            let peaks = answer_bytes(count);
            let tails = peaks + group * strips * STRIP_BLOCKS * size_of::<f32>();
            let masses = tails + group * strips * STRIP_BLOCKS * size_of::<f32>();
            let logits = Arg::At(logits, first * vocab_size * size_of::<f32>());
            let requests = turn.list_arg(requests + first * REQUEST_WORDS * size_of::<u32>());
            let [peaks, tails, masses] =
                [peaks, tails, masses].map(|offset| Arg::At(turn.scratch(), offset));
            let [vocab, choosable, strips_arg] = [vocab_size, choosable, strips].map(Arg::U32);
            let scan = Grid {
                blocks: [strips.div_ceil(SCANNING_WARPS), rows, 1],
                ..Grid::of(0, SCANNING_WARPS * WARP)
            };
            turn.queue().launch(
                "sample_scan",
                scan,
                &[
                    logits, requests, peaks, tails, masses, vocab, choosable, strips_arg,
                ],
            )?;
            let choice = Grid {
                shared_bytes: SHARED_BYTES,
                ..Grid::of(rows, threads(strips))
            };
            let answers = first * ANSWER_BYTES;
            turn.queue().launch(
                "sample_rows",
                choice,
                &[
                    logits,
                    requests,
                    peaks,
                    tails,
                    masses,
                    Arg::At(turn.scratch(), answers),
                    vocab,
                    choosable,
                    strips_arg,
                ],
            )?;
        }
        Ok(())
    }
}

impl Sampling for Device {
    fn sample_rows(&self, args: SampleRows<'_>) -> Result<(), TensorError> {
        let mut answers = vec![0; args.rows.len() * ANSWER_BYTES];
        let mut turn = self.turn();
        self.choose(
            &mut turn,
            args.logits,
            [args.vocab, args.choosable],
            args.rows,
        )?;
        turn.scratch().download(0, &mut answers)?;
        let (words, _) = answers.as_chunks();
        let words: Vec<u32> = words.iter().copied().map(u32::from_le_bytes).collect();
        for (out, answer) in args.out.iter_mut().zip(words.as_chunks().0) {
            *out = outcome(*answer);
        }
        Ok(())
    }
}

/// Bytes of the rows' answers, up to where floats may begin that are loaded four at once.
fn answer_bytes(rows: usize) -> usize {
    (rows * ANSWER_BYTES).next_multiple_of(256)
}

/// Threads of a block that chooses, a power of two: a warp per strip, as far as that goes. The result does not depend
/// on it.
fn threads(strips: usize) -> usize {
    (strips * WARP).next_power_of_two().clamp(64, 512)
}

fn request_words(request: &Option<SampleRow>) -> [u32; REQUEST_WORDS] {
    const SKIP: u32 = 0;
    const LARGEST: u32 = 1;
    const DRAW: u32 = 2;
    let Some(request) = request else {
        return [SKIP; REQUEST_WORDS];
    };
    let is_greedy = request.temperature < GREEDY_BELOW;
    let [seed, position] = [request.seed, request.position].map(|x| [x as u32, (x >> 32) as u32]);
    [
        if is_greedy { LARGEST } else { DRAW },
        request.top_k,
        request.temperature.to_bits(),
        request.top_p.to_bits(),
        request.min_p.to_bits(),
        seed[0],
        seed[1],
        position[0],
        position[1],
    ]
}

pub(in crate::gpu) fn outcome([outcome, id, logprob]: [u32; ANSWER_WORDS]) -> SampledRow {
    match outcome {
        0 => SampledRow::Token {
            id,
            logprob: f32::from_bits(logprob),
        },
        1 => SampledRow::NonFinite,
        2 => SampledRow::NothingPossible,
        _ => SampledRow::Skipped,
    }
}
