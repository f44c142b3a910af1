//! [`Communicator`]: how the ranks that compute one model together exchange what each has.
//!
//! A *rank* holds a shard of every matrix (Shoeybi et al. 2019, arXiv 1909.08053, section 3). Where a product is cut
//! along its input features each rank has a part of every sum, and [`all_reduce`](Communicator::all_reduce) adds the
//! parts. It adds them in the order of the ranks, not in that in which they come: for one number of ranks a result has the same
//! bits every time, and an element depends on nothing but the same element of the others.

mod threads;

use std::fmt;

pub use threads::ThreadRanks;

use crate::{Buffer, TensorError};

/// One rank's side of a group.
///
/// All ranks of a group call the same operations, in the same order and with the same lengths; each call returns when
/// all have come far enough. All buffers are f32, and lengths count their first numbers.
///
/// # Errors
///
/// Of every operation: [`TensorError::Argument`] for buffers that are too short, [`TensorError::Ranks`] if a rank has
/// gone, does not come in time, or calls something else. After that every call of every rank fails alike.
pub trait Communicator: Send + fmt::Debug {
    /// Which rank this is, from 0.
    fn rank(&self) -> usize;

    /// Ranks in the group.
    fn num_ranks(&self) -> usize;

    /// `values[i] = rank 0's values[i] + rank 1's + ...`, added in this order, on every rank.
    ///
    /// # Errors
    ///
    /// As for every operation.
    fn all_reduce(&mut self, values: &mut Buffer, len: usize) -> Result<(), TensorError>;

    /// `out = [rank 0's mine][rank 1's mine]...`, each of `len` numbers, on every rank.
    ///
    /// # Errors
    ///
    /// As for every operation.
    fn all_gather(
        &mut self,
        mine: &Buffer,
        len: usize,
        out: &mut Buffer,
    ) -> Result<(), TensorError>;

    /// Adds `values`, a piece of `len` numbers for each rank, as [`all_reduce`](Self::all_reduce) does, and leaves this
    /// rank's piece of the sums in `out`.
    ///
    /// # Errors
    ///
    /// As for every operation.
    fn reduce_scatter(
        &mut self,
        values: &Buffer,
        len: usize,
        out: &mut Buffer,
    ) -> Result<(), TensorError>;

    /// Sends piece `r` of `values`, of `len` numbers, to rank `r`; piece `r` of `out` is what rank `r` sent here.
    ///
    /// # Errors
    ///
    /// As for every operation.
    fn all_to_all(
        &mut self,
        values: &Buffer,
        len: usize,
        out: &mut Buffer,
    ) -> Result<(), TensorError>;
}
