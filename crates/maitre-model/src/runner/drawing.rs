//! A runner that chooses tokens where its logits are.

use maitre_tensor::{DrawRows, Draws, MOST_CHOOSABLE, SampleRow, SampleRows, SampledRow};

use crate::{Draw, Drawn, ModelError, Runner};

impl Runner {
    /// See [`Forward::draw`](crate::Forward::draw).
    ///
    /// # Errors
    /// As [`Runner::logits`].
    pub fn draw(
        &mut self,
        first_row: usize,
        draws: &[Option<Draw>],
        choosable: usize,
    ) -> Result<Option<Vec<Option<Drawn>>>, ModelError> {
        let choosable = choosable.min(self.limits.vocab_size);
        let is_possible = self.backend.gpu_info().is_some() && choosable <= MOST_CHOOSABLE;
        if !is_possible || draws.iter().all(Option::is_none) {
            return Ok(None);
        }
        self.compute_logits(first_row..first_row.saturating_add(draws.len()))?;
        let first = first_row - self.in_workspace.start;
        let mut rows = vec![None; first];
        rows.extend(draws.iter().map(|draw| draw.as_ref().map(sample_row)));
        let mut out = vec![SampledRow::Skipped; rows.len()];
        self.backend.sample_rows(SampleRows {
            logits: self.workspace.outputs().logits,
            vocab: self.limits.vocab_size,
            choosable,
            rows: &rows,
            out: &mut out,
        })?;
        let drawn = |row: &SampledRow| match *row {
            SampledRow::Token { id, logprob } => Some(Drawn { token: id, logprob }),
            _ => None,
        };
        Ok(Some(out[first..].iter().map(drawn).collect()))
    }

    /// Has the device choose a token from each output row of the last step, below `choosable`, and sends them to the
    /// host. Returns at once.
    ///
    /// # Errors
    /// As [`Runner::logits`]; more rows than `draws` has space for.
    pub(crate) fn draw_all(
        &mut self,
        rows: &[SampleRow],
        choosable: usize,
        draws: &mut Draws,
    ) -> Result<(), ModelError> {
        let choosable = choosable.min(self.limits.vocab_size);
        let tile = self.workspace.logits_tile().max(1);
        for (index, rows) in rows.chunks(tile).enumerate() {
            let first_row = index * tile;
            self.compute_logits(first_row..first_row + rows.len())?;
            self.backend.draw_rows(
                &DrawRows {
                    logits: self.workspace.outputs().logits,
                    vocab: self.limits.vocab_size,
                    choosable,
                    rows,
                    first_row,
                },
                draws,
            )?;
        }
        Ok(self.backend.send_draws(draws, rows.len())?)
    }
}

pub(crate) fn sample_row(draw: &Draw) -> SampleRow {
    let Draw {
        temperature,
        top_k,
        top_p,
        min_p,
        seed,
        position,
    } = *draw;
    SampleRow {
        temperature,
        top_k,
        top_p,
        min_p,
        seed,
        position,
    }
}
