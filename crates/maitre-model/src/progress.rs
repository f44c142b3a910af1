//! How far a load is. Reading and packing the weights of a large model takes minutes, and only this crate knows how
//! much of it is done; how that is shown is for its callers to decide.

use std::cell::Cell;

/// How much of a model's weights is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of the weights that are packed, as the files hold them.
    pub done_bytes: u64,
    /// Bytes of all weights; random weights count as a checkpoint of them would.
    pub total_bytes: u64,
}

/// Counts what is packed and tells an observer after each matrix and vector.
pub(crate) struct Progress<'a> {
    observer: &'a dyn Fn(LoadProgress),
    done_bytes: Cell<u64>,
    total_bytes: u64,
}

impl<'a> Progress<'a> {
    /// Tells `observer` that a load of so many bytes begins.
    pub(crate) fn begin(observer: &'a dyn Fn(LoadProgress), total_bytes: u64) -> Self {
        let progress = Self {
            observer,
            done_bytes: Cell::new(0),
            total_bytes,
        };
        progress.add(0);
        progress
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.done_bytes.set(self.done_bytes.get() + bytes);
        (self.observer)(LoadProgress {
            done_bytes: self.done_bytes.get(),
            total_bytes: self.total_bytes,
        });
    }
}
