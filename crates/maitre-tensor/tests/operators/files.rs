//! Safetensors files, whole and damaged.

use std::fs;
use std::path::{Path, PathBuf};

use maitre_tensor::{DType, RawTensor, TensorFile};
use tempfile::TempDir;

/// A safetensors file of `(name, format, shape, bytes)`.
fn safetensors(tensors: &[(&str, &str, &[usize], &[u8])]) -> Vec<u8> {
    let mut start = 0;
    let entries: Vec<String> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            let end = start + bytes.len();
            let entry = format!(
                r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#
            );
            start = end;
            entry
        })
        .collect();
    let mut header = format!("{{{}}}", entries.join(","));
    // The header is padded so that the numbers are aligned.
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let length = (header.len() as u64).to_le_bytes();
    let data: Vec<u8> = tensors
        .iter()
        .flat_map(|tensor| tensor.3.to_vec())
        .collect();
    [&length[..], header.as_bytes(), &data].concat()
}

fn write(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// That mapping the file fails, naming its path and what is wrong.
#[track_caller]
fn refused(path: &Path, reason: &str) {
    let message = TensorFile::map(&[path.to_owned()]).unwrap_err().to_string();
    assert!(message.contains(&path.display().to_string()), "{message}");
    assert!(message.contains(reason), "{message}");
    assert!(message.lines().count() == 1, "{message}");
}

#[test]
fn a_released_tensor_can_be_read_again() {
    let dir = TempDir::new().unwrap();
    let numbers: Vec<u8> = (0..40_000_u32)
        .flat_map(|i| (i as u16).to_le_bytes())
        .collect();
    let small = [1, 2, 3, 4];
    let bytes = safetensors(&[
        ("small", "BF16", &[2], &small),
        ("large", "BF16", &[40_000], &numbers),
        ("after", "BF16", &[2], &small),
    ]);
    let file = TensorFile::map(&[write(&dir, "a.safetensors", &bytes)]).unwrap();
    for name in ["small", "large", "after", "none"] {
        file.release(name);
    }
    assert_eq!(file.get("large").unwrap().bytes, numbers);
    assert_eq!(file.get("after").unwrap().bytes, small);
    let in_memory = TensorFile::from_static(bytes.leak()).unwrap();
    in_memory.release("large");
    assert_eq!(in_memory.get("large").unwrap().bytes, numbers);
}

#[test]
fn tensors_of_several_files_are_found_by_name() {
    let dir = TempDir::new().unwrap();
    let first = safetensors(&[
        ("b", "BF16", &[2, 1], &[1, 2, 3, 4]),
        ("c", "F16", &[1], &[5, 6]),
    ]);
    let second = safetensors(&[("a", "F32", &[], &[7, 8, 9, 10]), ("n", "I64", &[0], &[])]);
    let paths = [write(&dir, "1", &first), write(&dir, "2", &second)];
    let files = TensorFile::map(&paths).unwrap();
    assert_eq!(files.names(), ["a", "b", "c", "n"]);
    assert!(files.contains("a") && !files.contains("d"));
    let raw = |dtype, shape: &[usize], bytes| RawTensor {
        dtype,
        shape: shape.to_vec(),
        bytes,
    };
    assert_eq!(
        files.get("a").unwrap(),
        raw(DType::F32, &[], &[7, 8, 9, 10])
    );
    assert_eq!(
        files.get("b").unwrap(),
        raw(DType::Bf16, &[2, 1], &[1, 2, 3, 4])
    );
    assert_eq!(files.get("c").unwrap(), raw(DType::F16, &[1], &[5, 6]));
    assert_eq!(
        files.get("n").unwrap_err().to_string(),
        "tensor `n` is stored as I64; f32, bf16 and f16 are supported"
    );
    let missing = files.get("d").unwrap_err().to_string();
    let [first, second] = paths.map(|path| path.display().to_string());
    assert_eq!(missing, format!("no tensor `d` in {first}, {second}"));
}

#[test]
fn bytes_in_memory_are_read_in_place() {
    let bytes: &'static [u8] =
        Box::leak(safetensors(&[("w", "F32", &[1], &[0, 0, 128, 63])]).into_boxed_slice());
    let file = TensorFile::from_static(bytes).unwrap();
    assert_eq!(file.get("w").unwrap().bytes, 1.0_f32.to_le_bytes());
    let truncated = TensorFile::from_static(&bytes[..bytes.len() - 1])
        .unwrap_err()
        .to_string();
    assert!(truncated.starts_with("<bytes in memory> is not a complete safetensors file ("));
}

#[test]
fn damaged_files_are_refused_by_path() {
    let dir = TempDir::new().unwrap();
    let whole = safetensors(&[("w", "F32", &[2, 2], &[0; 16])]);
    TensorFile::map(&[write(&dir, "whole", &whole)]).unwrap();
    for cut in [1, 7, 8, 9, 60, whole.len() - 1] {
        refused(
            &write(&dir, "cut", &whole[..cut]),
            "is not a complete safetensors file",
        );
    }
    refused(
        &write(&dir, "longer", &[&whole[..], &[0]].concat()),
        "is not a complete",
    );
    refused(&write(&dir, "empty", &[]), "it is empty");
    refused(
        &write(&dir, "text", b"not a safetensors file at all"),
        "is not a complete",
    );
    let small = safetensors(&[("w", "F32", &[2, 3], &[0; 16])]);
    refused(
        &write(&dir, "mismatched", &small),
        "is not a complete safetensors file",
    );
    refused(&dir.path().join("absent"), "No such file or directory");
    refused(dir.path(), "is a directory");
}

#[test]
fn a_name_in_two_files_is_refused() {
    let dir = TempDir::new().unwrap();
    let bytes = safetensors(&[("w", "F32", &[1], &[0; 4])]);
    let paths = [write(&dir, "a", &bytes), write(&dir, "b", &bytes)];
    let message = TensorFile::map(&paths).unwrap_err().to_string();
    let [first, second] = paths.map(|path| path.display().to_string());
    assert_eq!(
        message,
        format!(
            "tensor `w` is in both {first} and {second}; remove the file that does not belong to \
             the model"
        )
    );
}
