//! The choice of tokens on a GPU while the host goes on.

use super::Backend;
use super::sampling::{check_choosable, check_request};
use crate::gpu::Device;
use crate::{DrawRows, Draws, SampledRow, TensorError};

impl Backend {
    /// Space on the device and on the host for the tokens that a step of at most `rows` rows chooses.
    ///
    /// # Errors
    ///
    /// [`TensorError::DeviceMemory`]; [`TensorError::Device`] on the processor.
    pub fn draws(&self, rows: usize) -> Result<Draws, TensorError> {
        Draws::new(self.gpu("draws")?, rows)
    }

    /// Queues the choice of a token from each of these rows, as [`Backend::sample_rows`] chooses. The answers stay on
    /// the device, where [`StepLists::drawn`](crate::StepLists) finds them, until `draws` is used again.
    ///
    /// # Errors
    ///
    /// As for every operator; more rows than there is space for.
    pub fn draw_rows(&self, rows: &DrawRows<'_>, draws: &mut Draws) -> Result<(), TensorError> {
        const NAME: &str = "draw_rows";
        let check = self.check(NAME);
        check_choosable(check, rows.vocab, rows.choosable)?;
        for row in rows.rows {
            check_request(check, row)?;
        }
        let end = rows.first_row.saturating_add(rows.rows.len());
        let expected = format_args!("at most {}", draws.capacity());
        check.rule(end <= draws.capacity(), "draws", expected, end)?;
        check.matrix("logits", rows.logits, rows.rows.len(), rows.vocab)?;
        self.heartbeat().beat();
        self.gpu(NAME)?.draw_rows(rows, draws)
    }

    /// Queues the copy of the first `rows` answers to the host.
    ///
    /// # Errors
    ///
    /// More rows than there is space for; a device that is lost.
    pub fn send_draws(&self, draws: &mut Draws, rows: usize) -> Result<(), TensorError> {
        self.gpu("send_draws")?.send_draws(draws, rows)
    }

    /// Waits for the answers that were sent last, not for what was queued behind them, and hands them out.
    ///
    /// # Errors
    ///
    /// Whatever failed on the device before.
    pub fn receive_draws(
        &self,
        draws: &Draws,
        out: &mut Vec<SampledRow>,
    ) -> Result<(), TensorError> {
        self.gpu("receive_draws")?.receive_draws(draws, out)
    }

    fn gpu(&self, operation: &'static str) -> Result<&Device, TensorError> {
        self.device().ok_or_else(|| TensorError::Device {
            operation,
            message: "the processor has no draws; use `sample_rows`".to_owned(),
        })
    }
}
