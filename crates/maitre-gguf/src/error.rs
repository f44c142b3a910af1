//! What can be wrong with a file.

/// Why a file is not a GGUF file that can be read. Positions are bytes from its beginning.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// It begins with something else.
    #[error(
        "it begins with the bytes {found:?}, and a GGUF file with \"GGUF\": it is of another format"
    )]
    Magic {
        /// The first four bytes, or all there are.
        found: Vec<u8>,
    },
    /// A version that this crate does not read.
    #[error(
        "it is of GGUF version {version}, and versions 2 and 3 in little-endian are read: convert the model anew with \
         llama.cpp's converter"
    )]
    Version {
        /// The version, read as little-endian.
        version: u32,
    },
    /// The file ends before what it announces.
    #[error(
        "it ends at byte {len}, within {what}, which begins at byte {position} and takes {}", sized(*needed)
    )]
    Truncated {
        /// What is cut.
        what: String,
        /// Where that begins.
        position: usize,
        /// Bytes that it takes at least, saturated.
        needed: u64,
        /// Bytes of the file.
        len: usize,
    },
    /// Text that is not UTF-8.
    #[error("{what} at byte {position} is not UTF-8")]
    NotText {
        /// Which text.
        what: String,
        /// Where it begins.
        position: usize,
    },
    /// A kind of value that is not known.
    #[error("{key} at byte {position} is a value of kind {kind}, and kinds 0 to 12 are known")]
    UnknownKind {
        /// The setting.
        key: String,
        /// Its number.
        kind: u32,
        /// Where it stands.
        position: usize,
    },
    /// Lists within lists within lists.
    #[error("{key} at byte {position} is a list of lists, and those of plain values are read")]
    Nested {
        /// The setting.
        key: String,
        /// Where it begins.
        position: usize,
    },
    /// A setting or a tensor that comes twice.
    #[error("{name} comes twice")]
    Twice {
        /// Its name.
        name: String,
    },
    /// A setting of another kind or with an impossible value.
    #[error("{key} is {found}, and {expected} is expected")]
    Setting {
        /// The setting.
        key: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A tensor that can't be.
    #[error("the tensor {tensor} {problem}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is wrong with it, as the rest of a sentence.
        problem: String,
    },
}

/// A size, and what it tells about the file.
fn sized(needed: u64) -> String {
    match needed {
        u64::MAX => {
            "more bytes than any file has: its header is damaged, download it again".to_owned()
        }
        needed => format!("{needed} bytes: the download may have been cut short"),
    }
}
