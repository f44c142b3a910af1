//! This crate reads the index of a GGUF file, llama.cpp's format for a whole model: its settings, its vocabulary and
//! where its tensors lie. It looks at bytes that its caller has (mapped, or compiled in) and copies none of a tensor.
//!
//! ```text
//! "GGUF"  version  tensors  settings          u32 u32 u64 u64, little-endian
//! settings     key, kind, value               a list is one kind and as many values
//! tensors      name, sizes, kind, offset      sizes from the innermost
//! padding      to a multiple of general.alignment
//! data         each tensor at its offset
//! ```
//!
//! A file comes from a stranger. So every count is held against the bytes that are left before anything is reserved
//! for it, every name is UTF-8 and comes once, and every tensor lies within the file, on its alignment, and on no
//! other tensor. What can't be is an [`GgufError`] that names the place, what was found and what was expected.
//!
//! The format: the page "GGUF" of ggml (versions 2 and 3), and llama.cpp where it is silent.
//!
//! **Architecture invariant:** this crate knows neither models nor tokenizers: what a key means is for those that ask
//! for it. It does no I/O, and what it makes of a file depends on the bytes alone.

mod cursor;
mod error;
mod index;
mod kind;
mod naming;
mod tensors;
mod value;

pub use error::GgufError;
pub use index::GgufIndex;
pub use kind::TensorKind;
pub use naming::ModelFiles;
pub use tensors::TensorEntry;
pub use value::{List, Value, ValueKind};
