//! This crate contains the bundled chat model and its draft model, as bytes.
//!
//! A Qwen3-architecture model of 5.8 M parameters ([`TARGET`]) and a draft a sixth its size
//! ([`DRAFT`]), compiled into whatever binary refers to them, so that `maitre serve` answers from
//! any directory without a download. [`HELDOUT`] is text neither was trained on, for perplexity.
//! What the pair can do, how it was trained and under which licences it comes: the crate's
//! `README.md` and `LICENSE-MODEL`.
//!
//! ```
//! let config = maitre_bundled::TARGET.file("config.json").unwrap();
//! assert!(config.starts_with(b"{"));
//! assert!(maitre_bundled::DRAFT.file("adapter.json").is_none());
//! ```
//!
//! **Architecture invariant:** this crate knows no other crate and no file format. It hands out
//! bytes under the names a Hugging Face directory gives them; who reads them is not its business.
//!
//! The models are statics, not constants: a constant's bytes may be emitted once in every crate
//! that mentions it, a static's exist once. A binary that never names one does not carry it.

/// One model: the files of its Hugging Face directory.
#[derive(Debug)]
pub struct BundledModel {
    /// The name the model is served under unless the operator chooses another.
    pub name: &'static str,
    /// `(file name, content)`. `model.safetensors` starts at an address divisible by
    /// [`ALIGNMENT`], so its tensors are as aligned in memory as they are in the file.
    pub files: &'static [(&'static str, &'static [u8])],
}

impl BundledModel {
    /// The content of the file called `name`, if the model has one.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&'static [u8]> {
        self.files
            .iter()
            .find(|(file, _)| *file == name)
            .map(|(_, content)| *content)
    }
}

/// What the address of every bundled `model.safetensors` is a multiple of, in bytes: a cache line.
pub const ALIGNMENT: usize = 64;

/// The chat model: 6 layers, hidden size 256, 4,096 tokens, bf16, 11.5 MB.
pub static TARGET: BundledModel = BundledModel {
    name: "bundled",
    files: &[
        ("config.json", include_bytes!("../model/target/config.json")),
        (
            "generation_config.json",
            include_bytes!("../model/target/generation_config.json"),
        ),
        ("model.safetensors", &TARGET_WEIGHTS.bytes),
        ("tokenizer.json", TOKENIZER),
        (
            "tokenizer_config.json",
            include_bytes!("../model/target/tokenizer_config.json"),
        ),
    ],
};

/// The draft for speculating on behalf of [`TARGET`]: 2 layers, hidden size 128, the same
/// tokenizer, bf16, 1.8 MB. Its greedy choice is the target's on about three tokens in four.
pub static DRAFT: BundledModel = BundledModel {
    name: "bundled-draft",
    files: &[
        ("config.json", include_bytes!("../model/draft/config.json")),
        (
            "generation_config.json",
            include_bytes!("../model/draft/generation_config.json"),
        ),
        ("model.safetensors", &DRAFT_WEIGHTS.bytes),
        ("tokenizer.json", TOKENIZER),
        (
            "tokenizer_config.json",
            include_bytes!("../model/draft/tokenizer_config.json"),
        ),
    ],
};

/// Dialogues neither model was trained on, separated by `<|endoftext|>`: the text that quality
/// tests measure perplexity on.
pub static HELDOUT: &str = include_str!("../heldout.txt");

/// The pair shares one tokenizer; it is stored once.
static TOKENIZER: &[u8] = include_bytes!("../model/target/tokenizer.json");

static TARGET_WEIGHTS: &Aligned<[u8]> = &Aligned {
    bytes: *include_bytes!("../model/target/model.safetensors"),
};

static DRAFT_WEIGHTS: &Aligned<[u8]> = &Aligned {
    bytes: *include_bytes!("../model/draft/model.safetensors"),
};

/// Gives its content the alignment that `include_bytes!` alone, a byte array, does not have.
#[repr(C, align(64))]
struct Aligned<T: ?Sized> {
    bytes: T,
}
