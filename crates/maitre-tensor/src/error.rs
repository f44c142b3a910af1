//! Everything that can go wrong in this crate, each variant with the data needed to fix it.

use std::io;
use std::path::PathBuf;

use crate::{BlockFormat, CpuPath, DType, KvFormat};

/// What went wrong, what was expected, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// A compute team needs at least the calling thread.
    #[error("a CPU backend was asked to run on 0 threads; it needs at least 1")]
    NoThreads,
    /// The operating system refused to start a thread of the compute team.
    #[error(
        "cannot start compute thread {index} of {threads}: {error}; ask for fewer threads, or raise the limit of \
         processes (ulimit -u, a container's pids limit)"
    )]
    Spawn {
        /// Which member of the team, counted from 1 (0 is the calling thread).
        index: usize,
        /// Size of the team that was asked for.
        threads: usize,
        /// What the operating system said.
        error: io::Error,
    },
    /// Memory for a buffer could not be reserved.
    #[error("cannot reserve a buffer of {len} {dtype} elements: out of memory")]
    OutOfMemory {
        /// Elements asked for.
        len: usize,
        /// Their format.
        dtype: DType,
    },
    /// Ranks that compute together can't go on.
    #[error("{operation} among ranks failed: {message}; start all ranks again")]
    Ranks {
        /// What this rank called.
        operation: &'static str,
        /// What went wrong first, on whatever rank.
        message: String,
    },
    /// A name of kernels that is not known.
    #[error(
        "MAITRE_CPU is {found:?}; known are amx, avx512, avx512-vnni, avx512-f, avx-vnni, avx2, neon and portable"
    )]
    UnknownPath {
        /// What was given.
        found: String,
    },
    /// The processor lacks instructions of the kernels that were asked for.
    #[error(
        "this processor or system cannot run the {path} kernels; unset MAITRE_CPU to use the fastest it can"
    )]
    UnavailablePath {
        /// What was asked for.
        path: CpuPath,
    },
    /// Memory for a large object could not be reserved.
    #[error("cannot reserve {bytes} bytes for {what}: out of memory")]
    Reserve {
        /// What the memory was for.
        what: &'static str,
        /// Bytes asked for, saturated.
        bytes: usize,
    },
    /// A weight format that is not known.
    #[error(
        "unknown weight format {found:?}; known are f32, f16, bf16, int8, int8-gN, int4 and \
         int4-gN with N 32, 64 or 128"
    )]
    UnknownFormat {
        /// What was given.
        found: String,
    },
    /// A quantized format with a group size for which there are no kernels.
    #[error("groups of {group} input features are not supported; use 32, 64 or 128")]
    GroupSize {
        /// What was asked for.
        group: usize,
    },
    /// Sums of so many int8 products may not fit 32 bits.
    #[error(
        "int8 weights with one activation scale per token take at most {most} input features, but \
         there are {cols}; use int8-g128"
    )]
    Int8Width {
        /// Input features.
        cols: usize,
        /// The most there may be.
        most: usize,
    },
    /// A weight that is to be quantized is NaN or infinite.
    #[error(
        "the weight of output feature {row} and input feature {col} is {value}, which no integer \
         can stand for; the file may be damaged: load it as f32 or bf16, or download it again"
    )]
    NonFiniteWeight {
        /// Which of the matrices that were to be packed together.
        part: usize,
        /// Output feature within the part.
        row: usize,
        /// Input feature.
        col: usize,
        /// The number.
        value: f32,
    },
    /// A block that is stored with a scale or minimum that is NaN or infinite.
    #[error(
        "the block of output feature {row} that begins at input feature {col} has a scale or minimum of {value}; the \
         file is damaged: download it again"
    )]
    NonFiniteScale {
        /// Which of the matrices that were to be packed together.
        part: usize,
        /// Output feature within the part.
        row: usize,
        /// First input feature of the block.
        col: usize,
        /// The number.
        value: f32,
    },
    /// Numbers were to be rounded to a format that only files have.
    #[error(
        "weights cannot be converted to {format}, which a file has or has not; use int8 or int4"
    )]
    NotQuantizable {
        /// The format.
        format: BlockFormat,
    },
    /// Rows of a matrix of stored blocks that are no whole number of them.
    #[error(
        "rows of {cols} numbers cannot be stored in {format}, whose blocks have {}: the file is damaged",
        format.block_len()
    )]
    BlockCols {
        /// The format.
        format: BlockFormat,
        /// Numbers of a row.
        cols: usize,
    },
    /// A matrix of stored blocks whose bytes are not its shape's.
    #[error(
        "a matrix of {rows} x {cols} in {format} takes {expected} bytes, but has {actual}: the file is damaged"
    )]
    BlockSize {
        /// Output features.
        rows: usize,
        /// Input features.
        cols: usize,
        /// The format.
        format: BlockFormat,
        /// Bytes of the shape, saturated.
        expected: usize,
        /// Bytes there are.
        actual: usize,
    },
    /// Memory for the keys and values of a layer could not be reserved.
    #[error(
        "cannot reserve keys and values of {slots} slots with {kv_heads} heads of {head_dim} \
         {format} elements: out of memory; use fewer blocks"
    )]
    CacheMemory {
        /// Slots asked for.
        slots: usize,
        /// Key heads.
        kv_heads: usize,
        /// Elements per head.
        head_dim: usize,
        /// Their format.
        format: KvFormat,
    },
    /// A buffer was read as another number format than it holds.
    #[error("the buffer holds {actual} elements, but {expected} were asked for")]
    WrongDType {
        /// The format that was asked for.
        expected: DType,
        /// The format the buffer has.
        actual: DType,
    },
    /// The bytes given for a weight matrix are not `rows * cols` elements.
    #[error(
        "a {dtype} weight of {rows} x {cols} takes {expected} bytes, but {actual} bytes were given"
    )]
    WeightSize {
        /// Output features.
        rows: usize,
        /// Input features.
        cols: usize,
        /// Format of the bytes.
        dtype: DType,
        /// `rows * cols * size_in_bytes`, saturated.
        expected: usize,
        /// Bytes that were given.
        actual: usize,
    },
    /// Matrices that are to be fused do not fit on top of each other, or there is nothing to fuse.
    #[error("cannot pack a weight from parts with input sizes {cols:?}: {reason}")]
    WeightParts {
        /// Input features of each part.
        cols: Vec<usize>,
        /// Which rule they break.
        reason: &'static str,
    },
    /// A file could not be opened or mapped.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// A file is not a complete safetensors file.
    #[error(
        "{} is not a complete safetensors file ({reason}); download or export it again",
        path.display()
    )]
    InvalidFile {
        /// The file, or a name in angle brackets for bytes that came from none.
        path: PathBuf,
        /// What the reader of the format objects to.
        reason: String,
    },
    /// The same tensor name occurs in two files.
    #[error(
        "tensor `{name}` is in both {} and {}; remove the file that does not belong to the model",
        first.display(),
        second.display()
    )]
    DuplicateTensor {
        /// The tensor.
        name: String,
        /// The file it was first found in.
        first: PathBuf,
        /// The file that repeats it.
        second: PathBuf,
    },
    /// No file holds a tensor of this name.
    #[error("no tensor `{name}` in {files}")]
    NoSuchTensor {
        /// The tensor that was asked for.
        name: String,
        /// The files that were searched.
        files: String,
    },
    /// A tensor is stored in a format that no operator reads.
    #[error("tensor `{name}` is stored as {dtype}; f32, bf16 and f16 are supported")]
    UnsupportedDType {
        /// The tensor.
        name: String,
        /// The format, as the file names it.
        dtype: String,
    },
    /// An argument of an operator has the wrong size or format.
    #[error("{operator}: `{argument}` must be {expected}, but is {actual}")]
    Argument {
        /// The operator that refused.
        operator: &'static str,
        /// The argument it refused.
        argument: &'static str,
        /// What the other arguments require of it.
        expected: String,
        /// What was given.
        actual: String,
    },
    /// An index points outside what it indexes.
    #[error("{operator}: `{argument}`[{at}] is {value}, but must be below {limit}")]
    Index {
        /// The operator that refused.
        operator: &'static str,
        /// The list of indices.
        argument: &'static str,
        /// Where in the list.
        at: usize,
        /// The offending value.
        value: u32,
        /// The first value that is too large.
        limit: usize,
    },
    /// Numbers were asked for that lie in a GPU's memory.
    #[error("these numbers lie in the GPU's memory; read them with Backend::read")]
    OnDevice,
    /// There is no such device, or nothing here that could talk to it.
    #[error("cannot use {device}: {reason}")]
    NoDevice {
        /// What was asked for.
        device: String,
        /// What is missing, and what to do.
        reason: String,
    },
    /// A name of a device that is not known.
    #[error("unknown device {found:?}; known are auto, cpu, cuda, cuda:N and emulator")]
    UnknownDevice {
        /// What was given.
        found: String,
    },
    /// A GPU has too little memory.
    #[error(
        "cannot reserve {bytes} bytes on the GPU: {free_bytes} of {total_bytes} are free; use smaller weights \
         (--dtype), a smaller KV cache (--kv-cache-bytes), or end what else runs on the GPU"
    )]
    DeviceMemory {
        /// Bytes asked for.
        bytes: usize,
        /// Bytes that no process uses.
        free_bytes: u64,
        /// Bytes there are.
        total_bytes: u64,
    },
    /// A GPU or its driver refused or failed.
    #[error("{operation} failed on the GPU: {message}")]
    Device {
        /// What was asked of it.
        operation: &'static str,
        /// What it said.
        message: String,
    },
    /// A GPU has lost all that this process keeps on it, and answers every further call with an error, until the
    /// process ends.
    #[error(
        "{operation} failed: the GPU has lost all that this process keeps on it; restart the process ({message})"
    )]
    DeviceLost {
        /// What was asked of it.
        operation: &'static str,
        /// What it said.
        message: String,
    },
    /// What a GPU can't do, though the processor can.
    #[error("{operator}: the GPU has no kernel for {found}; use {instead}")]
    NotOnGpu {
        /// The operator that refused.
        operator: &'static str,
        /// What was asked for.
        found: String,
        /// What works.
        instead: String,
    },
    /// candle does not give or take a tensor.
    #[cfg(feature = "candle")]
    #[error("candle refuses a tensor: {message}")]
    Candle {
        /// What it said.
        message: String,
    },
    /// A kernel panicked. The outputs of the operator are unspecified; the backend remains usable.
    #[error("{operator} panicked: {message}")]
    Panicked {
        /// The operator that was running.
        operator: &'static str,
        /// The panic message.
        message: String,
    },
}

impl TensorError {
    /// Whether nothing will run on the GPU any more before the process is restarted.
    #[must_use]
    pub fn is_device_lost(&self) -> bool {
        matches!(self, Self::DeviceLost { .. })
    }
}
