//! The choice of tokens where their logits are.

use super::{Device, at};
use crate::gpu::{Arg, Grid};
use crate::sampling::GREEDY_BELOW;
use crate::{LargestAttention, SampleRow, SampleRows, SampledRow, TensorError};

/// What the kernel is told of a row, in words.
const REQUEST_WORDS: usize = 9;

/// What it tells of a row, in words.
const ANSWER_WORDS: usize = 3;

/// Shared memory of a block: a histogram, and the sums of its segments (`cuda/sampling.cu`).
const SHARED_BYTES: usize = 2048 * 8 + 32 * 8;

impl Device {
    /// Bytes of scratch memory that no operator of a step within `largest` needs more of.
    pub(crate) fn most_scratch(&self, largest: &LargestAttention) -> usize {
        self.most_recorded(largest).max(answer_bytes(largest.rows))
    }

    /// Words of the index list of an operator that is no part of a step.
    pub(crate) fn most_single_list(&self, rows: usize) -> usize {
        rows * REQUEST_WORDS
    }

    /// [`Backend::sample_rows`](crate::Backend::sample_rows) of checked requests.
    pub(crate) fn sample_rows(&self, args: SampleRows<'_>) -> Result<(), TensorError> {
        let count = args.rows.len();
        let logits =
            self.operands("sample_rows")
                .matrix("logits", args.logits, count, args.vocab)?;
        let requests: Vec<u32> = args.rows.iter().flat_map(request_words).collect();
        let mut answers = vec![0; answer_bytes(count)];

        let mut turn = self.turn();
        turn.reserve_scratch(answers.len())?;
        let requests = turn.list(&requests)?;
        let grid = Grid {
            shared_bytes: SHARED_BYTES,
            ..Grid::of(count, threads(args.choosable))
        };
        let kernel_args = [
            at(logits),
            turn.list_arg(requests),
            at(turn.scratch()),
            Arg::U32(args.vocab),
            Arg::U32(args.choosable),
        ];
        turn.queue().launch("sample_rows", grid, &kernel_args)?;
        turn.scratch().download(0, &mut answers)?;
        let (words, _) = answers.as_chunks();
        let words: Vec<u32> = words.iter().copied().map(u32::from_le_bytes).collect();
        for (out, answer) in args.out.iter_mut().zip(words.as_chunks().0) {
            *out = outcome(*answer);
        }
        Ok(())
    }
}

fn answer_bytes(rows: usize) -> usize {
    rows * ANSWER_WORDS * size_of::<u32>()
}

/// Threads of a block, a power of two: one per 32 tokens, as far as that goes. The result does not depend on it.
fn threads(choosable: usize) -> usize {
    (choosable / 32).next_power_of_two().clamp(64, 1024)
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

fn outcome([outcome, id, logprob]: [u32; ANSWER_WORDS]) -> SampledRow {
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
