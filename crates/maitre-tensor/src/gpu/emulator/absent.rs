//! What stands for the emulator's library where no C++ compiler was found: nothing that can be made.
#![allow(unsafe_code)]

use super::OwnedLaunch;
use crate::TensorError;

/// There is no value of this type.
pub(super) enum Heap {}

impl Heap {
    pub(super) fn new() -> Result<Self, TensorError> {
        Err(TensorError::NoDevice {
            device: "emulator".into(),
            reason: "no C++ compiler for this system was found when Maitre was built; install g++ \
                     or clang++, or name one in CXX, and build again"
                .into(),
        })
    }

    pub(super) fn allocate(&mut self, _: usize) -> Option<u64> {
        match *self {}
    }

    pub(super) fn free(&mut self, _: u64) -> bool {
        match *self {}
    }

    pub(super) fn holds(&self, _: u64, _: usize) -> bool {
        match *self {}
    }

    /// # Safety
    /// Never called.
    pub(super) unsafe fn launch(&mut self, _: &OwnedLaunch, _: u64) -> Result<(), String> {
        match *self {}
    }
}
