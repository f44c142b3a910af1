//! Everything that can go wrong between a model's files and its logits.
//!
//! Each variant carries the values a reader needs to act: the key or tensor by name, what was
//! found, what was expected. Messages end with what to do where that is not obvious.

use std::path::PathBuf;

use maitre_tensor::{TensorError, WeightFormat};

use crate::{StepOrderError, TableError};

/// Why a model could not be loaded or a step could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The path given as a model is not a directory.
    #[error(
        "model directory {} {problem}; expected a directory with config.json and model.safetensors",
        path.display()
    )]
    Directory {
        /// The path that was given.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// A file the model cannot do without is absent.
    #[error("{model} has no {file}; {expected}")]
    MissingFile {
        /// The model that was asked for.
        model: String,
        /// The file looked for.
        file: String,
        /// What should have been there, and what is there instead.
        expected: String,
    },

    /// A file exists but could not be read.
    #[error("cannot read {file}: {error}")]
    Read {
        /// The file.
        file: String,
        /// What the operating system said.
        error: std::io::Error,
    },

    /// A file is a symbolic link to one that is not there, as in a Hub cache that was copied in part.
    #[error(
        "{} is a symbolic link to {}, which does not exist; copy the model with its links followed \
         (`cp -rL`), or download it again",
        path.display(),
        target.display()
    )]
    BrokenLink {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },

    /// A file is not what its name says, or is damaged.
    #[error("{file} {problem}")]
    UnusableFile {
        /// The file.
        file: String,
        /// What it is and what to do.
        problem: String,
    },

    /// A JSON file is malformed.
    #[error("{file} is not valid JSON: {problem}; correct it or download it again")]
    Json {
        /// The file.
        file: String,
        /// What is malformed and where.
        problem: String,
    },

    /// A JSON file holds something else than settings.
    #[error("{file} holds {found}; expected a JSON object")]
    NotAnObject {
        /// The file.
        file: String,
        /// What it holds.
        found: String,
    },

    /// A setting without which the model is not defined is absent.
    #[error("{file} lacks `{key}`; expected {expected}")]
    MissingSetting {
        /// The file.
        file: String,
        /// The key, dotted where nested.
        key: String,
        /// What it should hold.
        expected: &'static str,
    },

    /// A setting has a value that describes no model.
    #[error("{file} says `{key}` = {found}; expected {expected}")]
    InvalidSetting {
        /// The file.
        file: String,
        /// The key, dotted where nested.
        key: String,
        /// The value found.
        found: String,
        /// What it should hold.
        expected: String,
    },

    /// A setting changes the mathematics in a way this crate does not implement.
    #[error("{file} says `{key}` = {found}, which is not supported; supported: {supported}")]
    UnsupportedSetting {
        /// The file.
        file: String,
        /// The key, dotted where nested.
        key: String,
        /// The value found.
        found: String,
        /// What is implemented.
        supported: String,
    },

    /// No architecture of this name is implemented.
    #[error(
        "config.json names the unknown model architecture {found} in `{key}`; supported: {supported}"
    )]
    UnknownArchitecture {
        /// The key that names it.
        key: &'static str,
        /// What the configuration names.
        found: String,
        /// The architectures there are.
        supported: String,
    },

    /// A size computed from the configuration does not fit this machine's integers.
    #[error("config.json describes an absurdly large model: {what} overflows")]
    SizeOverflow {
        /// The size that overflowed.
        what: &'static str,
    },

    /// Two weight files hold a tensor of the same name.
    #[error(
        "tensor `{name}` is both in {first} and in {second}; keep the files of one version of the model, \
         or download it again"
    )]
    DuplicateTensor {
        /// The tensor's name.
        name: String,
        /// A file that holds it.
        first: String,
        /// Another one.
        second: String,
    },

    /// The index of a sharded checkpoint is malformed.
    #[error("{file}: {problem}")]
    ShardIndex {
        /// The index file.
        file: &'static str,
        /// What is wrong with it.
        problem: String,
    },

    /// A tensor the model needs is in none of its weight files.
    #[error("the weight files hold no tensor `{name}` (expected with shape {expected:?}); {hint}")]
    MissingTensor {
        /// The tensor's name.
        name: String,
        /// The shape it would need.
        expected: Vec<usize>,
        /// What that may come from and what to do.
        hint: String,
    },

    /// A tensor's shape is not the one the configuration implies.
    #[error(
        "tensor `{name}` in {file} has shape {found:?}; config.json implies {expected:?} ({settings})"
    )]
    TensorShape {
        /// The tensor's name.
        name: String,
        /// The file that holds it.
        file: String,
        /// The shape config.json implies.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
        /// The settings that imply it.
        settings: Box<str>,
    },

    /// A model cannot be divided among so many ranks.
    #[error(
        "{ranks} ranks cannot divide this model: {what} is {found}, which each must have a whole share of"
    )]
    Shard {
        /// The size that is divided.
        what: &'static str,
        /// Its value.
        found: usize,
        /// Ranks.
        ranks: usize,
    },

    /// A tensor is stored as numbers that this crate does not read.
    #[error(
        "tensor `{name}` in {file} is stored as {found}; supported are F32, F16 and BF16: {advice}"
    )]
    TensorDType {
        /// The tensor's name.
        name: String,
        /// The file that holds it.
        file: String,
        /// The format, as the file names it.
        found: String,
        /// What to do.
        advice: &'static str,
    },

    /// The checkpoint has more layers than its configuration.
    #[error(
        "the weight files hold layers 0 to {last}, but config.json says `num_hidden_layers` = \
         {num_layers}; its config.json is not this checkpoint's (`{name}` is in {file})"
    )]
    MoreLayers {
        /// The last layer there is.
        last: usize,
        /// The layers of the configuration.
        num_layers: usize,
        /// A tensor of the last layer.
        name: String,
        /// The file that holds it.
        file: String,
    },

    /// The checkpoint is of a kind that this crate does not read.
    #[error("the weight files hold {what}: `{name}` in {file}; {advice}")]
    ForeignWeights {
        /// What they are.
        what: &'static str,
        /// A tensor that tells.
        name: String,
        /// The file that holds it.
        file: String,
        /// What to do.
        advice: &'static str,
    },

    /// The checkpoint has tensors that the architecture has no use for: it was made for different
    /// mathematics.
    #[error(
        "the weight files hold {count} tensor{} that config.json's architecture has no place for, \
         the first is `{first}` in {file}; its config.json is not this checkpoint's",
        if *count == 1 { "" } else { "s" }
    )]
    UnexpectedTensors {
        /// How many there are.
        count: usize,
        /// The first by name.
        first: String,
        /// The file that holds it.
        file: String,
    },

    /// `tie_word_embeddings` is set but the checkpoint has two different matrices.
    #[error(
        "config.json says `tie_word_embeddings` = true, but `model.embed_tokens.weight` and \
         `lm_head.weight` differ; set it to false to use both"
    )]
    UntiedWeights,

    /// A tensor cannot be quantized.
    #[error("cannot quantize `{tensor}` to {format}")]
    Quantize {
        /// Its name.
        tensor: String,
        /// The format asked for.
        format: WeightFormat,
        /// What is wrong with it.
        source: TensorError,
    },

    /// A tensor of stored blocks cannot be used.
    #[error("cannot load `{tensor}`")]
    Blocks {
        /// Its name.
        tensor: String,
        /// What is wrong with it.
        source: TensorError,
    },

    /// A norm or a bias of a model that is to be quantized holds NaN or an infinity: what passes
    /// it could not be rounded to integers either.
    #[error(
        "cannot quantize to {format}: `{tensor}` is {value} at element {at}, and activations that \
         meet it fit no integer; the file may be damaged: load it as f32 or bf16, or download it \
         again"
    )]
    NonFiniteVector {
        /// The tensor's name.
        tensor: String,
        /// The format asked for.
        format: WeightFormat,
        /// The element.
        at: usize,
        /// The number.
        value: f32,
    },

    /// A limit of the runner makes no sense.
    #[error("runner setting {name} = {found}; expected {expected}")]
    RunnerLimit {
        /// The field of `RunnerConfig`.
        name: &'static str,
        /// Its value.
        found: usize,
        /// What it must satisfy.
        expected: String,
    },

    /// A batch is larger than the step the runner was sized for.
    #[error("the batch has {found} {what}, the runner was sized for {limit}")]
    BatchTooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much of it the batch has.
        found: usize,
        /// How much the runner takes.
        limit: usize,
    },

    /// A part of a batch has the wrong length.
    #[error("the batch has {found} {what}; expected {expected}")]
    BatchLength {
        /// The part.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length that fits the rest of the batch.
        expected: usize,
    },

    /// A token id is not a row of the embedding.
    #[error("token {token} at row {row} is not below the vocabulary size {vocab_size}")]
    TokenOutOfRange {
        /// The row of the batch.
        row: usize,
        /// The token id.
        token: u32,
        /// The number of rows of the embedding.
        vocab_size: usize,
    },

    /// The spans do not cover the batch's tokens exactly once, in order.
    #[error("span {span} begins at row {found}; the spans before it end at row {expected}")]
    SpanNotContiguous {
        /// The span.
        span: usize,
        /// Where it begins.
        found: usize,
        /// Where it should begin.
        expected: usize,
    },

    /// A span has no tokens.
    #[error("span {span} has no tokens")]
    EmptySpan {
        /// The span.
        span: usize,
    },

    /// A span's context is impossible: shorter than its tokens or longer than the model or the KV
    /// cache can hold.
    #[error(
        "span {span} with {num_tokens} tokens has context length {context_len}; \
         expected {num_tokens}..={limit}"
    )]
    ContextLength {
        /// The span.
        span: usize,
        /// How many tokens it has in this batch.
        num_tokens: usize,
        /// The context length found.
        context_len: usize,
        /// The longest context the runner was sized for.
        limit: usize,
    },

    /// A token's position is not the one its span implies.
    #[error("row {row} has position {found}; its span implies {expected}")]
    PositionMismatch {
        /// The row of the batch.
        row: usize,
        /// The position found.
        found: u32,
        /// The position implied.
        expected: usize,
    },

    /// The block tables or slots of a span are not what its tokens need.
    #[error(transparent)]
    Table(#[from] TableError),

    /// A move names a block that its pool does not have.
    #[error("`{end}` of {list}[{index}] is block {block}, but the {pool} pool has {num_blocks}")]
    MoveOutOfRange {
        /// The list of moves.
        list: &'static str,
        /// Where in the list.
        index: usize,
        /// Which end of the move.
        end: &'static str,
        /// The block named.
        block: u32,
        /// The pool it should be in.
        pool: &'static str,
        /// How many blocks that has.
        num_blocks: usize,
    },

    /// Blocks cannot move to or from a host pool that there is not.
    #[error(
        "{count} blocks are to move to or from the host, but the runner has no host pool; set \
         num_host_blocks"
    )]
    NoHostPool {
        /// How many were to move.
        count: usize,
    },

    /// An output row is not a row of the batch.
    #[error("output {index} asks for row {row} of {rows}")]
    OutputRowOutOfRange {
        /// Which output.
        index: usize,
        /// The row asked for.
        row: u32,
        /// How many rows the batch has.
        rows: usize,
    },

    /// Logits were asked for that the last step did not prepare, or too many at once.
    #[error(
        "logits {start}..{end} asked for; the last step has {available} output rows, at most {tile} at a time"
    )]
    LogitsRange {
        /// The first row asked for.
        start: usize,
        /// One past the last row asked for.
        end: usize,
        /// How many output rows the last successful step had.
        available: usize,
        /// How many rows a call may ask for.
        tile: usize,
    },

    /// A call that does not fit the steps in flight.
    #[error(transparent)]
    StepOrder(#[from] StepOrderError),

    /// An operator or allocation failed.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl ModelError {
    /// Whether no further step can succeed before the process is restarted, as the GPU has lost what it held.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Tensor(error) if error.is_device_lost())
    }
}
