//! A tensor that has been read and released takes no memory: a model is not held twice while it
//! loads.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Write;

use maitre_tensor::TensorFile;

const MIB: usize = 1 << 20;

/// Resident memory of this process in MiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<usize>()
        .unwrap()
        / 1024
}

#[test]
fn a_released_tensor_leaves_memory() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let len = 64 * MIB;
    let header = format!(
        r#"{{"a":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{len}]}}}}"#,
        len / 4
    );
    let header = format!("{header:<72}");
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    for _ in 0..64 {
        file.write_all(&[1; MIB]).unwrap();
    }
    let tensors = TensorFile::map(&[file.path().to_owned()]).unwrap();
    let before = resident();
    let sum: usize = tensors
        .get("a")
        .unwrap()
        .bytes
        .iter()
        .map(|byte| usize::from(*byte))
        .sum();
    assert_eq!(sum, len);
    let read = resident();
    assert!(
        read >= before + 48,
        "{before} MiB, {read} MiB after reading 64"
    );
    tensors.release("a");
    let released = resident();
    assert!(
        released <= read - 48,
        "{read} MiB, {released} MiB after the release"
    );
}
