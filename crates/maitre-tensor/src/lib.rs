//! This crate computes: it holds buffers, packed weights, mapped files, and the operators that a transformer
//! needs on a *ragged paged batch*, which is the tokens of any number of sequences, decoding or prefilling, in
//! one call. Its kernels run on CPUs and on NVIDIA GPUs.
//!
//! This crate must never know about models, requests or text. It is the only crate with `unsafe`
//! code and the only one with code for particular instruction sets.
//!
//! # Invariants
//!
//! * **Batch invariance.** The bits an operator computes for a token row depend on that row (and,
//!   for attention, on its own cached positions), never on the other rows, the number of threads,
//!   the block size of the cache, or how a prompt was cut into chunks.
//! * **A panic is an error.** A kernel that panics makes its operator return
//!   [`TensorError::Panicked`]; no thread hangs, and the [`Backend`] remains usable.
//! * **Nothing is allocated per call**, on any thread, after [`Backend::reserve`]; without it, once
//!   the memory that members reuse has grown to the largest call.
//! * **Idle costs nothing.** Outside [`Backend::step`] the compute threads sleep.
//!
//! # Example
//!
//! ```
//! use maitre_tensor::{Backend, Buffer, DType, LinearInput, WeightFormat, WeightView};
//!
//! # fn main() -> Result<(), maitre_tensor::TensorError> {
//! let backend = Backend::cpu(2)?;
//! // A weight of two output and three input features, as a file stores it.
//! let bytes: Vec<u8> = [1.0, 0.0, 2.0, 0.0, 1.0, 0.0].map(f32::to_le_bytes).concat();
//! let view = WeightView { dtype: DType::F32, rows: 2, cols: 3, bytes: &bytes };
//! let weight = backend.pack(&[view], WeightFormat::Bf16)?;
//!
//! // One token row, rounded as bf16 weights want it.
//! let row = Buffer::from_f32s(&[1.0, 2.0, 3.0])?;
//! let mut x = LinearInput::new(weight.format().input(), 3, 1)?;
//! let mut out = Buffer::zeros(DType::F32, 2)?;
//! backend.step(|| {
//!     backend.encode(&row, &mut x, 1)?;
//!     backend.linear(&x, &weight, None, &mut out, 0..1)
//! })?;
//! assert_eq!(out.f32s()?, [7.0, 2.0]);
//! # Ok(())
//! # }
//! ```

mod activation;
mod aligned;
#[cfg(target_arch = "aarch64")]
mod arm;
mod attend;
mod backend;
mod batch;
mod blocks;
mod buffer;
mod cache;
#[cfg(feature = "candle")]
pub mod candle;
mod communicator;
mod cpu;
mod dtype;
mod element;
mod error;
mod files;
mod format;
mod gpu;
mod heartbeat;
mod input;
mod kernels;
mod limits;
mod memory;
mod operators;
mod portable;
mod processor;
mod results;
mod sampling;
mod team;
mod tiles;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vector;
mod weight;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activation::Activation;
pub use backend::{
    AddNormed, Backend, BlockCopy, LargestAttention, LargestStep, LayerNorm, NormColumns,
    PEAK_BLOCK, RecordedSteps, StepShape,
};
pub use batch::{Attention, BlockTables, KvGroup, NO_SLOT, RopeStore, Span};
pub use blocks::BlockFormat;
pub use buffer::Buffer;
pub use cache::{KvFormat, LayerCache};
pub use communicator::{Communicator, ThreadRanks};
pub use cpu::CpuPath;
pub use dtype::DType;
pub use error::TensorError;
pub use files::{MappedFile, RawTensor, TensorFile};
pub use format::{InputFormat, WeightFormat};
pub use gpu::{
    DeviceName, DrawRows, DrawnTokens, Draws, GpuInfo, GpuMemory, GpuMemoryProbe, GpuOptions,
    StepLists,
};
pub use heartbeat::Heartbeat;
pub use input::LinearInput;
pub use limits::Limits;
pub use sampling::{MOST_CHOOSABLE, SampleRow, SampleRows, SampledRow};
pub use weight::{BlocksView, PackedWeight, WeightView};
