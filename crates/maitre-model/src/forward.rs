//! A model that computes one batch while its caller waits.

use std::ops::Range;

use maitre_tensor::Heartbeat;

use crate::{Batch, CacheMoves, Logits, ModelError, Runner};

/// How one output row becomes a token where nothing but the row decides: no penalties, biases, bans or
/// log-probabilities. The fields mean what `maitre_sampling::SamplingParams` says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// Divides the logits; 0 takes the most probable token.
    pub temperature: f32,
    /// Keeps so many of the most probable tokens; 0 is off.
    pub top_k: u32,
    /// Keeps the fewest tokens that together are this probable; 1 is off.
    pub top_p: f32,
    /// Keeps tokens at least this probable, as a share of the most probable one; 0 is off.
    pub min_p: f32,
    /// The key of the noise.
    pub seed: u64,
    /// How many tokens were generated before.
    pub position: u64,
}

/// A token that a device chose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// Its id.
    pub token: u32,
    /// Its natural log-probability under the row as it is.
    pub logprob: f32,
}

/// Computes ragged batches one at a time. The real one is [`Runner`]; tests bring doubles that fail, stall or panic.
/// [`Synchronous`](crate::Synchronous) makes an [`Executor`](crate::Executor) of it.
///
/// `forward` must be repeatable: a step that fails is run again in halves, so writing the same
/// keys and values to the same slots twice must leave what writing them once leaves.
pub trait Forward: Send {
    /// Length of a row of logits.
    fn vocab_size(&self) -> usize;

    /// Most rows that one call of [`logits`](Self::logits) may ask for.
    fn logits_tile(&self) -> usize;

    /// Beats once per operator, so that a long step can be told from a stuck one.
    fn heartbeat(&self) -> Heartbeat;

    /// Copies blocks of the KV cache before a step: to the host tier, back from it, within the pool.
    ///
    /// # Errors
    ///
    /// Blocks that do not exist, or an operator that failed; what the blocks hold is not known then.
    fn move_blocks(&mut self, moves: &CacheMoves<'_>) -> Result<(), ModelError>;

    /// Computes one step: hidden states of the batch's output rows, keys and values into its slots.
    ///
    /// # Errors
    ///
    /// A batch outside the limits, or an operator that failed; nothing is lost, the step can be
    /// repeated, unless the error [is fatal](ModelError::is_fatal).
    fn forward(&mut self, batch: &Batch) -> Result<(), ModelError>;

    /// Logits of these output rows of the last `forward`; peaks may be left out.
    ///
    /// # Errors
    ///
    /// Rows outside the last batch, more than [`logits_tile`](Self::logits_tile) of them, or an
    /// operator that failed.
    fn logits(&mut self, rows: Range<usize>) -> Result<Logits<'_>, ModelError>;

    /// Chooses tokens from output rows `first_row..` of the last `forward`, at most
    /// [`logits_tile`](Self::logits_tile) of them. It does so on the device, so that the logits need not be copied
    /// to the host. The answer has a token below `choosable` for each of `draws`. It has `None` where the row was
    /// not to be drawn from, and where the row is faulty, which [`logits`](Self::logits) will report.
    ///
    /// `None` in place of the whole answer: none of the rows is drawn here, as where logits are in host memory anyway.
    ///
    /// # Errors
    ///
    /// As [`logits`](Self::logits).
    fn draw(
        &mut self,
        first_row: usize,
        draws: &[Option<Draw>],
        choosable: usize,
    ) -> Result<Option<Vec<Option<Drawn>>>, ModelError> {
        let _ = (first_row, draws, choosable);
        Ok(None)
    }
}

impl Forward for Runner {
    fn vocab_size(&self) -> usize {
        self.model().config().vocab_size
    }

    fn logits_tile(&self) -> usize {
        Runner::logits_tile(self)
    }

    fn heartbeat(&self) -> Heartbeat {
        Runner::heartbeat(self).clone()
    }

    fn move_blocks(&mut self, moves: &CacheMoves<'_>) -> Result<(), ModelError> {
        Runner::move_blocks(self, moves)
    }

    fn forward(&mut self, batch: &Batch) -> Result<(), ModelError> {
        Runner::forward(self, batch)
    }

    fn logits(&mut self, rows: Range<usize>) -> Result<Logits<'_>, ModelError> {
        Runner::logits(self, rows)
    }

    fn draw(
        &mut self,
        first_row: usize,
        draws: &[Option<Draw>],
        choosable: usize,
    ) -> Result<Option<Vec<Option<Drawn>>>, ModelError> {
        Runner::draw(self, first_row, draws, choosable)
    }
}
