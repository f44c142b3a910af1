//! Tokens that are chosen on the device while the host goes on.
//!
//! ```text
//! step n      .. logits -> sample_rows -> answers ------ copied to the host, waited for when they are wanted
//!                                            |
//! step n + 1                                 place_drawn -> tokens -> embed ..
//! ```
//!
//! The host queues step n + 1 before it knows the tokens of step n: these go from one step to the next on the device.

use std::fmt;
use std::sync::Arc;

use super::{Arg, Device, DeviceBytes, Gpu, Grid, MailboxId};
use crate::gpu::ops::sampling::{ANSWER_BYTES, outcome};
use crate::{Buffer, SampleRow, SampledRow, TensorError};

/// Threads of a block that places tokens.
const THREADS: usize = 128;

/// The answers of one step, on the device and on their way to the host.
pub struct Draws {
    gpu: Arc<dyn Gpu>,
    answers: DeviceBytes,
    mailbox: MailboxId,
    /// Rows that were sent.
    sent: usize,
}

/// Rows of logits from which tokens are chosen ([`Backend::draw_rows`](crate::Backend::draw_rows)).
#[derive(Debug, Clone, Copy)]
pub struct DrawRows<'a> {
    /// `[rows, vocab]` in f32.
    pub logits: &'a Buffer,
    /// Numbers per row.
    pub vocab: usize,
    /// Only tokens below it are chosen, at most [`MOST_CHOOSABLE`](crate::MOST_CHOOSABLE).
    pub choosable: usize,
    /// How each row is chosen from.
    pub rows: &'a [SampleRow],
    /// Which of the step's rows the first of them is.
    pub first_row: usize,
}

/// Tokens of a step that an earlier step chose.
#[derive(Debug, Clone, Copy)]
pub struct DrawnTokens<'a> {
    /// The answers of that step.
    pub draws: &'a Draws,
    /// Token rows of this step, and the rows of that one whose tokens they are.
    pub pairs: &'a [[u32; 2]],
}

impl Draws {
    /// Space for the answers of so many rows.
    pub(crate) fn new(device: &Device, rows: usize) -> Result<Self, TensorError> {
        let gpu = Arc::clone(device.gpu());
        let _hold = gpu.turns().hold();
        let answers = device.zeroed(rows * ANSWER_BYTES)?;
        let mailbox = gpu.mailbox(rows * ANSWER_BYTES)?;
        Ok(Self {
            gpu: Arc::clone(&gpu),
            answers,
            mailbox,
            sent: 0,
        })
    }

    /// Rows there is space for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.answers.len() / ANSWER_BYTES
    }
}

impl Drop for Draws {
    fn drop(&mut self) {
        let _hold = self.gpu.turns().hold();
        self.gpu.drop_mailbox(self.mailbox);
    }
}

impl fmt::Debug for Draws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draws")
            .field("capacity", &self.capacity())
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl Device {
    /// [`Backend::draw_rows`](crate::Backend::draw_rows) of checked requests.
    pub(crate) fn draw_rows(
        &self,
        args: &DrawRows<'_>,
        draws: &mut Draws,
    ) -> Result<(), TensorError> {
        let first = args.first_row * ANSWER_BYTES;
        let len = args.rows.len() * ANSWER_BYTES;
        let mut turn = self.turn();
        let rows: Vec<Option<SampleRow>> = args.rows.iter().copied().map(Some).collect();
        self.choose(&mut turn, args.logits, [args.vocab, args.choosable], &rows)?;
        draws.answers.copy_from(first, turn.scratch(), 0, len)
    }

    /// [`Backend::send_draws`](crate::Backend::send_draws).
    #[allow(unsafe_code)]
    pub(crate) fn send_draws(&self, draws: &mut Draws, rows: usize) -> Result<(), TensorError> {
        let _turn = self.turn();
        let bytes = rows * ANSWER_BYTES;
        if bytes > draws.answers.len() {
            return Err(TensorError::Device {
                operation: "send_draws",
                message: format!("{rows} rows of {}", draws.capacity()),
            });
        }
        draws.sent = rows;
        // SAFETY: the answers are at least as long, and live as long as the mailbox.
        unsafe {
            self.gpu()
                .send(draws.answers.address(), bytes, draws.mailbox)
        }
    }

    /// [`Backend::receive_draws`](crate::Backend::receive_draws).
    pub(crate) fn receive_draws(
        &self,
        draws: &Draws,
        out: &mut Vec<SampledRow>,
    ) -> Result<(), TensorError> {
        let mut answers = vec![0; draws.sent * ANSWER_BYTES];
        {
            let _turn = self.turn();
            self.gpu().receive(draws.mailbox, &mut answers)?;
        }
        out.clear();
        let (words, _) = answers.as_chunks();
        let words: Vec<u32> = words.iter().copied().map(u32::from_le_bytes).collect();
        out.extend(words.as_chunks().0.iter().map(|answer| outcome(*answer)));
        Ok(())
    }
}

impl super::device::DeviceTurn<'_> {
    /// Puts tokens of an earlier step among the staged lists, whose first is the step's tokens.
    pub(super) fn place(
        &mut self,
        drawn: DrawnTokens<'_>,
        tokens: usize,
    ) -> Result<(), TensorError> {
        if drawn.pairs.is_empty() {
            return Ok(());
        }
        let rows = drawn.draws.sent;
        let is_known =
            |&[token, row]: &[u32; 2]| (token as usize) < tokens && (row as usize) < rows;
        if !drawn.pairs.iter().all(is_known) {
            return Err(TensorError::Device {
                operation: "placing tokens",
                message: format!("a pair lies outside of {tokens} tokens and {rows} rows"),
            });
        }
        let pairs = self.list(drawn.pairs.as_flattened())?;
        let count = drawn.pairs.len();
        let args = [
            self.list_arg(0),
            Arg::At(&drawn.draws.answers, 0),
            self.list_arg(pairs),
            Arg::U32(count),
        ];
        let grid = Grid::of(count.div_ceil(THREADS), THREADS);
        self.queue().launch("place_drawn", grid, &args)
    }
}
