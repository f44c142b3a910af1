//! A large buffer is address space until it is written to: a KV pool of gigabytes must not take
//! memory, nor time at start, before it fills.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use maitre_tensor::{Buffer, DType};

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    // The smallest page there is; larger ones only make the test stricter.
    pages * 4096
}

#[test]
fn a_buffer_takes_memory_only_where_it_is_written() {
    const MIB: usize = 1 << 20;
    let before = resident();
    let mut pool = Buffer::zeros(DType::Bf16, 256 * MIB).unwrap();
    let reserved = resident().saturating_sub(before);
    assert!(
        reserved < 16 * MIB,
        "{} MiB taken by reserving",
        reserved / MIB
    );
    pool.bf16s_mut().unwrap()[..32 * MIB].fill(half::bf16::ONE);
    let written = resident().saturating_sub(before);
    assert!(
        written >= 64 * MIB,
        "only {} MiB taken by writing 64",
        written / MIB
    );
}
