//! A large buffer or cache is address space until it is written to: a KV pool of gigabytes, on the
//! device or the host, must not take memory, nor time at start, before it fills.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use maitre_tensor::{Buffer, DType, KvFormat, LayerCache};

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    // The smallest page there is.
    pages * 4096
}

#[test]
fn memory_is_taken_only_where_it_is_written() {
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

    let before = resident();
    let mut cache = LayerCache::new(1 << 18, 8, 64, KvFormat::Bf16).unwrap();
    assert_eq!(cache.size_in_bytes(), 512 * MIB);
    let number = [1.0; 64];
    for slot in 0..16 {
        cache.write(slot, 0, &number, &number).unwrap();
    }
    let taken = resident().saturating_sub(before);
    assert!(taken < 16 * MIB, "{} MiB taken by a group", taken / MIB);

    // A written row takes a large page at most, here of 512 MiB in all.
    let before = resident();
    let mut buffers: Vec<_> = (0..16)
        .map(|_| Buffer::zeros(DType::F32, 8 * MIB).unwrap())
        .collect();
    for buffer in &mut buffers {
        buffer.f32s_mut().unwrap()[..1024].fill(1.0);
    }
    let taken = resident().saturating_sub(before);
    assert!(taken <= 48 * MIB, "{} MiB taken by 16 rows", taken / MIB);
}
