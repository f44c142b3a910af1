//! What one rendering may consume, and what it has consumed so far.
//!
//! A unit is an instruction of the virtual machine (its fuel), an item of a list that is touched, or
//! [`BYTES_PER_UNIT`] bytes of text that are read or built. All of them count against
//! [`TemplateLimits::instructions`]. Apart from that, no text that is built, and no sum of texts that
//! are printed or captured, may be longer than [`TemplateLimits::output_bytes`]. Sizes are charged
//! before memory is taken, so both bound time and memory.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::Object;
use minijinja::{Error, ErrorKind, State, Value};

use crate::template::TemplateLimits;

/// So many bytes are read or built for one unit.
pub(crate) const BYTES_PER_UNIT: usize = 64;

/// An item of a list that is built takes this many units: a value has some fifty bytes.
const UNITS_PER_ITEM: u64 = 2;

/// The counters of one rendering.
#[derive(Debug, Default)]
struct Spent {
    units: AtomicU64,
    written: AtomicUsize,
    /// The middle of a chained comparison, between its two uses.
    kept: Mutex<Option<Value>>,
}

impl Object for Spent {}

/// The virtual machine's state together with the counters of its rendering.
pub(crate) struct Context<'a, 'b, 'c> {
    pub(crate) state: &'a State<'b, 'c>,
    spent: Arc<Spent>,
    limits: TemplateLimits,
}

impl<'a, 'b, 'c> Context<'a, 'b, 'c> {
    pub(crate) fn new(state: &'a State<'b, 'c>, limits: TemplateLimits) -> Self {
        Self {
            state,
            spent: state.get_or_set_temp_object("spent", Spent::default),
            limits,
        }
    }

    /// Keeps a value for the instruction after the next one.
    pub(crate) fn keep(&self, value: Value) {
        *self
            .spent
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    /// Takes the value that was kept.
    pub(crate) fn take_kept(&self) -> Value {
        let mut kept = self
            .spent
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        kept.take().unwrap_or_default()
    }

    /// Charges units of work.
    pub(crate) fn charge(&self, units: u64) -> Result<(), Error> {
        let before = self.spent.units.fetch_add(units, Ordering::Relaxed);
        let fuel = self.state.fuel_levels().map_or(0, |(consumed, _)| consumed);
        let spent = before.saturating_add(units).saturating_add(fuel);
        if spent > self.limits.instructions {
            // No further charge may wrap around.
            self.spent
                .units
                .store(self.limits.instructions, Ordering::Relaxed);
            return Err(ErrorKind::OutOfFuel.into());
        }
        Ok(())
    }

    /// Charges text that is read.
    pub(crate) fn read(&self, bytes: usize) -> Result<(), Error> {
        self.charge((bytes / BYTES_PER_UNIT) as u64)
    }

    /// Charges items of a list that are read or built.
    pub(crate) fn items(&self, count: usize) -> Result<(), Error> {
        self.charge((count as u64).saturating_mul(UNITS_PER_ITEM))
    }

    /// Charges text that is about to be built.
    pub(crate) fn build(&self, bytes: usize) -> Result<(), Error> {
        self.bound(bytes)?;
        self.read(bytes)
    }

    /// Refuses text that is longer than any output may be.
    pub(crate) fn bound(&self, bytes: usize) -> Result<(), Error> {
        let limit = self.limits.output_bytes;
        if bytes > limit {
            return Err(super::fail(format!(
                "a text would be longer than {limit} bytes"
            )));
        }
        Ok(())
    }

    /// Counts text that is printed or captured.
    pub(crate) fn write(&self, bytes: usize) -> Result<(), Error> {
        let before = self.spent.written.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limits.output_bytes {
            return Err(output_limit());
        }
        Ok(())
    }
}

fn output_limit() -> Error {
    Error::new(ErrorKind::WriteFailure, "the output limit is reached")
}
