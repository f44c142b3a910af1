//! Memory for the stop strings of requests in flight.
//!
//! The search takes many bytes for each byte of a stop string, and a request may bring 64 KiB of them. So a
//! request with many takes its share of a pool, which the memory budget counts whole, and is refused when the
//! pool is empty. A request with few, as nearly all have, takes nothing from the pool, so it is served
//! even when others have emptied it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::EngineError;
use crate::observe::info::EngineLimits;
use crate::request::limits::{ALWAYS_TAKEN_STOP_BYTES, MAX_STOP_BYTES_IN_FLIGHT};

/// What the search takes for each byte of a stop string, at most: see `StopStrings`.
const BYTES_PER_STOP_BYTE: usize = 18;

/// When to try again: about as long as an answer takes, for nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The pool.
#[derive(Debug)]
pub(crate) struct StopBudget {
    /// One permit for each byte of a stop string.
    pool: Arc<Semaphore>,
}

/// A request's share of the pool, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct StopPermit {
    _permit: OwnedSemaphorePermit,
}

impl StopBudget {
    pub(crate) fn new() -> Self {
        Self {
            pool: Arc::new(Semaphore::new(MAX_STOP_BYTES_IN_FLIGHT)),
        }
    }

    /// Bytes of memory that the stop strings of all requests in flight take at most.
    pub(crate) fn size_in_bytes(limits: &EngineLimits) -> u64 {
        let small = (limits.max_queue + limits.max_seqs) * ALWAYS_TAKEN_STOP_BYTES;
        ((small + MAX_STOP_BYTES_IN_FLIGHT) * BYTES_PER_STOP_BYTE) as u64
    }

    /// Takes the memory for a request's stop strings; `None` if they need none of the pool.
    pub(crate) fn take(&self, stops: &[String]) -> Result<Option<Arc<StopPermit>>, EngineError> {
        let bytes: usize = stops.iter().map(String::len).sum();
        if bytes <= ALWAYS_TAKEN_STOP_BYTES {
            return Ok(None);
        }
        let full = || EngineError::StopStringsFull {
            bytes,
            free: self.pool.available_permits(),
            limit: MAX_STOP_BYTES_IN_FLIGHT,
            retry_after: RETRY_AFTER,
        };
        let wanted = u32::try_from(bytes).map_err(|_| full())?;
        let permit = Arc::clone(&self.pool).try_acquire_many_owned(wanted);
        let permit = permit.map_err(|_| full())?;
        Ok(Some(Arc::new(StopPermit { _permit: permit })))
    }
}

#[cfg(test)]
mod tests {
    use maitre_text::StopStrings;

    use super::*;
    use crate::request::limits::{MAX_STOP_BYTES, MAX_STOP_STRINGS};

    fn largest() -> Vec<String> {
        let one = |first: u8| char::from(first).to_string().repeat(MAX_STOP_BYTES);
        (b'0'..).take(MAX_STOP_STRINGS).map(one).collect()
    }

    #[test]
    fn what_is_charged_covers_what_the_search_takes() {
        for stops in [largest(), largest()[..1].to_vec()] {
            let bytes: usize = stops.iter().map(String::len).sum();
            let taken = StopStrings::new(stops).shared_bytes();
            assert!(
                taken <= bytes * BYTES_PER_STOP_BYTE + 64,
                "{taken} of {bytes}"
            );
        }
    }

    #[test]
    fn the_pool_is_bounded_refills_and_leaves_the_small_alone() {
        let budget = StopBudget::new();
        let held: Vec<_> = (0..32)
            .map(|_| budget.take(&largest()).unwrap().unwrap())
            .collect();
        let refused = budget.take(&largest()).unwrap_err();
        assert!(
            matches!(
                refused,
                EngineError::StopStringsFull {
                    bytes: 65536,
                    free: 0,
                    ..
                }
            ),
            "{refused}"
        );
        let few = ["x".repeat(ALWAYS_TAKEN_STOP_BYTES)];
        assert!(budget.take(&few).unwrap().is_none());
        drop(held);
        assert!(budget.take(&largest()).is_ok());
    }
}
