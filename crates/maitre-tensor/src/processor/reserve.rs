//! Memory that the members of the team work in.

use super::Processor;
use super::attention::most_needed;
use crate::operators::Reservation;
use crate::team::Need;
use crate::{LargestStep, TensorError};

impl Reservation for Processor {
    fn reserve(&self, largest: LargestStep<'_>) -> Result<(), TensorError> {
        let (cache, threads) = (largest.cache, self.team.threads());
        let (heads, block_size) = (largest.heads, largest.block_size);
        let (attention, operator) = most_needed(self.kernels, cache, heads, block_size, threads);
        let shapes = || largest.inputs.iter().map(|input| input.shape());
        let normed = shapes().map(|shape| shape.cols).max().unwrap_or(0);
        let row = shapes().map(|shape| shape.words).max().unwrap_or(0);
        let widened = 2 * row * self.kernels.widened_rows;
        let tile = Need {
            floats: attention.floats.max(normed),
            // A copy of slots within a cache holds a cell.
            words: attention.words.max(widened).max(cache.shape().words()),
            ..attention
        };
        self.team.reserve(tile, operator)
    }
}
