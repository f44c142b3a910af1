//! The operators of a GPU, run by the emulator, against those of the processor, which are their specification.
//!
//! Where there is no C++ compiler there is no emulator: the tests then say so and pass.
#![cfg(feature = "cuda-emulator")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

mod attention;
mod candle;
mod copies;
mod devices;
mod hopper;
mod integers;
mod layer_norms;
mod linear;
mod norms;
mod rope;
mod rows;
mod sampling;

use maitre_tensor::{Backend, Buffer, DeviceName, GpuOptions, TensorError};

/// The processor and the emulated GPU, in deterministic mode.
fn backends() -> Option<(Backend, Backend)> {
    Some((Backend::cpu(1).unwrap(), emulated(true)?))
}

fn emulated(deterministic: bool) -> Option<Backend> {
    opened(Backend::open(
        DeviceName::Emulator,
        1,
        GpuOptions { deterministic },
    ))
}

/// GPUs that run different kernels for some products and for some attention: Hopper's, and those of all others.
fn generations(deterministic: bool) -> Vec<Backend> {
    [(9, 0), (8, 0)]
        .into_iter()
        .filter_map(|it| opened(Backend::emulated(it, 1, GpuOptions { deterministic })))
        .collect()
}

fn opened(backend: Result<Backend, TensorError>) -> Option<Backend> {
    match backend {
        Ok(backend) => Some(backend),
        Err(error @ TensorError::NoDevice { .. }) => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// All elements of an f32 buffer.
fn read(backend: &Backend, buffer: &Buffer) -> Vec<f32> {
    let mut out = vec![0.0; buffer.len()];
    backend.read(buffer, 0..out.len(), &mut out).unwrap();
    out
}

/// Numbers between -1 and 1, the same for the same seed.
fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// That numbers agree to within `tolerance` of the largest of them all.
#[track_caller]
fn assert_close(expected: &[f32], actual: &[f32], tolerance: f32) {
    assert_eq!(expected.len(), actual.len());
    let largest = expected
        .iter()
        .fold(1e-30_f32, |most, it| most.max(it.abs()));
    for (at, (expected, actual)) in expected.iter().zip(actual).enumerate() {
        let difference = (expected - actual).abs();
        assert!(
            difference <= tolerance * largest,
            "number {at} is {actual}, not {expected}"
        );
    }
}
