//! How fast a backend copies its own memory: what its kernels are held against where they move bytes.

use std::time::{Duration, Instant};

use crate::aligned::AlignedBytes;
use crate::gpu::DeviceBytes;
use crate::{Backend, TensorError};

/// Copies between two looks at the clock: a GPU's are queued, and waiting for them takes some microseconds.
const COPIES: usize = 8;

impl Backend {
    /// Bytes a second, read and written counted both, at which `bytes` bytes are copied from one place of this
    /// backend's memory to another: the best of the rounds that fit into `budget`, of which there is at least one.
    /// The processor copies on the calling thread alone.
    ///
    /// # Errors
    ///
    /// [`TensorError::DeviceMemory`] or [`TensorError::Reserve`] if there is no space for twice `bytes`;
    /// [`TensorError::Device`].
    pub fn measure_copy(&self, bytes: usize, budget: Duration) -> Result<f64, TensorError> {
        let fastest = match self.device() {
            Some(device) => {
                // What others queue is not to be measured.
                let _step = device.step();
                let (source, mut target) = (device.zeroed(bytes)?, device.zeroed(bytes)?);
                let gpu = device.gpu();
                best_round(budget, || {
                    for _ in 0..COPIES {
                        DeviceBytes::copy_from(&mut target, 0, &source, 0, bytes)?;
                    }
                    gpu.synchronize()
                })?
            }
            None => {
                let buffer = || {
                    AlignedBytes::zeroed(bytes).ok_or(TensorError::Reserve {
                        what: "a copy",
                        bytes,
                    })
                };
                let (source, mut target) = (buffer()?, buffer()?);
                best_round(budget, || {
                    for _ in 0..COPIES {
                        let target: &mut [u8] = target.as_mut_slice();
                        std::hint::black_box(target).copy_from_slice(source.as_slice());
                    }
                    Ok(())
                })?
            }
        };
        Ok((2 * COPIES * bytes) as f64 / fastest.as_secs_f64())
    }
}

/// The time of the fastest round; the first, in which memory is touched for the first time, does not count.
fn best_round(
    budget: Duration,
    mut round: impl FnMut() -> Result<(), TensorError>,
) -> Result<Duration, TensorError> {
    round()?;
    let begun = Instant::now();
    let mut fastest = Duration::MAX;
    loop {
        let started = Instant::now();
        round()?;
        fastest = fastest.min(started.elapsed());
        if begun.elapsed() >= budget {
            return Ok(fastest.max(Duration::from_nanos(1)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_a_rate_also_without_a_budget() {
        let backend = Backend::cpu(1).unwrap();
        let rate = backend.measure_copy(1 << 16, Duration::ZERO).unwrap();
        assert!(rate.is_finite() && rate > 0.0, "{rate}");
    }
}
