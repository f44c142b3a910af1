//! Random weights: a model of any size from its configuration alone, to measure without a download.
//!
//! Every weight is a function of the seed, its tensor's name and its place in it, so the same seed
//! gives the same model on any number of threads. Matrices are made one at a time in their final
//! type; the model never exists in f32.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread;

use half::{bf16, f16};
use maitre_tensor::{DType, WeightFormat};

use super::{Checkpoint, Dense, Stored};
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::names::HEAD;

/// The standard deviation that the model families are initialised with for training.
const STANDARD_DEVIATION: f32 = 0.02;

/// Elements generated per call of the generator: SplitMix64 gives two 32-bit halves.
const PER_DRAW: usize = 2;

/// A checkpoint of random weights for a configuration.
#[derive(Debug)]
pub(crate) struct RandomCheckpoint {
    weights: RandomWeights,
    /// The shape of every tensor.
    shapes: BTreeMap<String, Vec<usize>>,
    /// The type of matrices, and of vectors as far as bytes are counted.
    dtype: DType,
    /// The weight of a norm that multiplies by 1.
    neutral: f32,
}

impl RandomCheckpoint {
    /// The weights of `seed`, made by `threads` threads, with matrices of `dtype`.
    pub(crate) fn new(seed: u64, threads: usize, config: &ModelConfig, dtype: DType) -> Self {
        let tensors = config.needed_tensors().into_iter();
        Self {
            weights: RandomWeights { seed, threads },
            shapes: tensors
                .filter(|it| it.name != HEAD || !config.tie_word_embeddings)
                .map(|it| (it.name, it.shape))
                .collect(),
            dtype,
            neutral: 1.0 - config.norm_offset,
        }
    }
}

impl Checkpoint for RandomCheckpoint {
    fn tensor(&self, name: &str) -> Result<Stored<'_>, ModelError> {
        let missing = || ModelError::MissingTensor {
            name: name.to_owned(),
            expected: Vec::new(),
            hint: "the configuration has no such tensor".to_owned(),
        };
        let shape = self.shapes.get(name).ok_or_else(missing)?.clone();
        let elements = shape.iter().product();
        let (dtype, bytes) = match shape.len() {
            1 => {
                let vector = self.weights.vector(name, elements, self.neutral);
                let bytes = vector.iter().flat_map(|it| it.to_le_bytes()).collect();
                (DType::F32, bytes)
            }
            _ => (self.dtype, self.weights.bytes(name, elements, self.dtype)?),
        };
        Ok(Stored::Dense(Dense {
            dtype,
            shape,
            bytes: Cow::Owned(bytes),
        }))
    }

    fn contains(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    fn format_of(&self, name: &str) -> Option<WeightFormat> {
        self.shapes.get(name).map(|_| self.dtype.into())
    }

    fn bytes_of(&self, name: &str) -> usize {
        let elements = self.shapes.get(name).map(|shape| shape.iter().product());
        elements.unwrap_or(0) * self.dtype.size_in_bytes()
    }

    fn release(&self, _: &str) {}
}

/// A source of deterministic weights.
#[derive(Debug, Clone, Copy)]
struct RandomWeights {
    seed: u64,
    threads: usize,
}

impl RandomWeights {
    /// The bytes of a tensor of `len` elements in `dtype`: uniform around zero.
    fn bytes(&self, name: &str, len: usize, dtype: DType) -> Result<Vec<u8>, ModelError> {
        let width = dtype.size_in_bytes();
        let size = len * width;
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(size)
            .map_err(|_| ModelError::SizeOverflow {
                what: "memory for a random tensor",
            })?;
        bytes.resize(size, 0);
        let key = self.key(name);
        let per_thread = len
            .div_ceil(self.threads.max(1))
            .next_multiple_of(PER_DRAW)
            .max(PER_DRAW);
        let parts = Mutex::new(bytes.chunks_mut(per_thread * width).enumerate());
        let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || {
            while let Some((index, part)) = next() {
                let first_draw = index * per_thread / PER_DRAW;
                fill(part, dtype, key, first_draw as u64);
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.threads {
                // A thread that the system refuses leaves its part to the others.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        Ok(bytes)
    }

    /// A vector's elements: norms are `neutral`, biases are drawn like matrices.
    fn vector(&self, name: &str, len: usize, neutral: f32) -> Vec<f32> {
        if !name.ends_with(".bias") {
            return vec![neutral; len];
        }
        let key = self.key(name);
        (0..len.div_ceil(PER_DRAW) as u64)
            .flat_map(|draw| pair(key, draw))
            .take(len)
            .collect()
    }

    /// FNV-1a over the name, started from the seed.
    fn key(&self, name: &str) -> u64 {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0100_0000_01b3;
        name.bytes()
            .fold(split_mix(self.seed) ^ OFFSET, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(PRIME)
            })
    }
}

fn fill(bytes: &mut [u8], dtype: DType, key: u64, first_draw: u64) {
    let width = dtype.size_in_bytes();
    for (draw, part) in (first_draw..).zip(bytes.chunks_mut(PER_DRAW * width)) {
        for (element, value) in part.chunks_exact_mut(width).zip(pair(key, draw)) {
            match dtype {
                DType::F32 => element.copy_from_slice(&value.to_le_bytes()),
                DType::Bf16 => element.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
                DType::F16 => element.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
            }
        }
    }
}

/// The two values of one draw: uniform on ±√3 standard deviations, which has that deviation.
fn pair(key: u64, draw: u64) -> [f32; PER_DRAW] {
    const SCALE: f32 = STANDARD_DEVIATION * 1.732_050_8 / (1u32 << 31) as f32;
    let bits = split_mix(key.wrapping_add(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    [(bits >> 32) as u32, bits as u32].map(|half| half.cast_signed() as f32 * SCALE)
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
const fn split_mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u64, threads: usize) -> RandomWeights {
        RandomWeights { seed, threads }
    }

    fn floats(weights: RandomWeights, name: &str, len: usize) -> Vec<f32> {
        let bytes = weights.bytes(name, len, DType::F32).unwrap();
        bytes
            .chunks_exact(4)
            .map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap()))
            .collect()
    }

    #[test]
    fn weights_depend_on_seed_and_name_but_not_on_threads() {
        let one = floats(random(7, 1), "a.weight", 1001);
        assert_eq!(one, floats(random(7, 3), "a.weight", 1001));
        assert_ne!(one, floats(random(8, 1), "a.weight", 1001));
        assert_ne!(one, floats(random(7, 1), "b.weight", 1001));
    }

    #[test]
    fn weights_have_the_initial_deviation_and_no_mean() {
        let values = floats(random(1, 2), "a.weight", 100_000);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let square = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 3e-4, "{mean}");
        assert!(
            (square.sqrt() - STANDARD_DEVIATION).abs() < 2e-4,
            "{square}"
        );
    }

    #[test]
    fn norms_are_neutral_and_biases_are_not() {
        let weights = random(1, 1);
        assert_eq!(weights.vector("model.norm.weight", 3, 0.5), [0.5; 3]);
        let bias = weights.vector("model.layers.0.self_attn.q_proj.bias", 3, 0.5);
        assert!(bias.iter().all(|value| value.abs() < 0.04 && *value != 0.0));
    }
}
