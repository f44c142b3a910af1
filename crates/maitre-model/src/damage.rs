//! Why a weight file cannot be opened: what it is instead, or how it is damaged.
//!
//! A safetensors file is `[header length: u64][header: JSON][tensors]`; the header gives each tensor's
//! dtype, shape and place behind the header. So the header tells how long the file should be.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use maitre_tensor::TensorError;
use serde_json::{Map, Value};

use crate::contents::mistaken_weights;
use crate::error::ModelError;

/// The longest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;
/// Bytes of the header's length.
const LENGTH: u64 = 8;
/// Enough to tell other files by.
const HEAD: u64 = 512;

/// The error for the file at `path` that the tensor library refused.
pub(crate) fn explain_file(path: &Path, error: TensorError) -> ModelError {
    let file = path.display().to_string();
    match error {
        TensorError::File { error, .. } => ModelError::Read { file, error },
        TensorError::InvalidFile { reason, .. } => match beginning(path) {
            Ok((head, size)) => ModelError::UnusableFile {
                file,
                problem: problem(&head, size, &reason),
            },
            Err(error) => ModelError::Read { file, error },
        },
        other => other.into(),
    }
}

/// The error for a file in memory that the tensor library refused.
pub(crate) fn explain(file: &str, content: &[u8], error: TensorError) -> ModelError {
    match error {
        TensorError::InvalidFile { reason, .. } => ModelError::UnusableFile {
            file: file.to_owned(),
            problem: problem(content, content.len() as u64, &reason),
        },
        other => other.into(),
    }
}

/// The header's length and the header, or the first bytes of something else; and the file's size.
fn beginning(path: &Path) -> io::Result<(Vec<u8>, u64)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut head = Vec::new();
    (&file).take(HEAD).read_to_end(&mut head)?;
    let header = header_length(&head).map_or(0, |length| length.min(MAX_HEADER));
    let rest = (LENGTH + header).saturating_sub(HEAD);
    (&file).take(rest).read_to_end(&mut head)?;
    Ok((head, size))
}

fn header_length(head: &[u8]) -> Option<u64> {
    head.first_chunk().map(|length| u64::from_le_bytes(*length))
}

/// What is wrong with a file of `size` bytes that begins with `head`, as the end of a sentence.
fn problem(head: &[u8], size: u64, reason: &str) -> String {
    if size == 0 {
        return "is empty; download it again".to_owned();
    }
    if let Some(problem) = mistaken_weights(head) {
        return problem;
    }
    let other =
        || format!("is not a complete safetensors file ({reason}); download or export it again");
    let truncated = |needed: u64, what: &str| {
        format!("is truncated: it has {size} bytes, {what} {needed}; download it again")
    };
    let Some(length) = header_length(head).filter(|length| *length <= MAX_HEADER) else {
        return other();
    };
    let end = LENGTH + length;
    if size < end && head.get(8).is_none_or(|first| *first == b'{') {
        return truncated(end, "its header alone needs");
    }
    let Some(header) = head.get(LENGTH as usize..end as usize) else {
        return other();
    };
    let Ok(tensors) = serde_json::from_slice::<Map<String, Value>>(header) else {
        return other();
    };
    let ends = tensors
        .values()
        .filter_map(|tensor| tensor["data_offsets"][1].as_u64());
    let expected = end + ends.max().unwrap_or(0);
    if size < expected {
        return truncated(expected, "its header describes");
    }
    if size > expected {
        return format!(
            "has {size} bytes, but its header describes {expected}; download or export it again"
        );
    }
    other()
}
