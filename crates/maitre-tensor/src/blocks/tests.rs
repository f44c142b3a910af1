//! Decoded blocks beside gguf-py's (`xtask/golden/make_blocks.py`), and beside llama.cpp's own bytes.
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use super::*;

/// A format's name, a block, and the hash of its numbers.
const GOLDEN: &str = include_str!("golden.txt");

fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn format(name: &str) -> BlockFormat {
    let formats = BlockFormat::ALL.into_iter();
    formats.clone().find(|it| it.to_string() == name).unwrap()
}

#[test]
fn blocks_hold_the_numbers_that_others_read() {
    let mut seen = Vec::new();
    for line in GOLDEN.lines() {
        let [name, block, hash] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let format = format(name);
        let digits = block
            .as_bytes()
            .chunks(2)
            .map(|it| std::str::from_utf8(it).unwrap());
        let block: Vec<u8> = digits
            .map(|it| u8::from_str_radix(it, 16).unwrap())
            .collect();
        assert_eq!(block.len(), format.block_bytes(), "{name}");
        let mut numbers = vec![0.0; format.block_len()];
        format.decode(&block, &mut numbers).unwrap();
        // A negative zero is a zero.
        let bytes = numbers.iter().flat_map(|it| (it + 0.0).to_le_bytes());
        assert_eq!(format!("{:016x}", fnv(bytes)), hash, "{name}: {numbers:?}");
        seen.push(format);
    }
    seen.dedup();
    assert_eq!(seen, BlockFormat::ALL);
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    for format in BlockFormat::ALL {
        let (bytes, len) = (format.block_bytes(), format.block_len());
        for (bytes, numbers) in [
            (bytes - 1, len),
            (bytes + 1, len),
            (bytes, len - 1),
            (2 * bytes, len),
        ] {
            let error = format
                .decode(&vec![0; bytes], &mut vec![0.0; numbers])
                .unwrap_err();
            assert!(
                error.to_string().contains(&format!("of {format}")),
                "{error}"
            );
        }
        format.decode(&[], &mut []).unwrap();
        assert!(len.is_multiple_of(format.group_len()));
    }
}

/// What llama.cpp made of real numbers is near them: half a step of the widest code, and what its search gives up.
#[test]
fn llama_cpps_blocks_are_near_what_they_were_made_of() {
    let Some(folder) = std::env::var_os("MAITRE_TEST_DATA") else {
        eprintln!("skipped: MAITRE_TEST_DATA names no folder with ggml-quants");
        return;
    };
    let folder = std::path::Path::new(&folder).join("ggml-quants");
    for (name, format, most) in [
        ("q4_0_64", BlockFormat::Q4_0, 0.12),
        ("q4_1_64", BlockFormat::Q4_1, 0.12),
        ("q5_0_64", BlockFormat::Q5_0, 0.06),
        ("q5_1_64", BlockFormat::Q5_1, 0.06),
        ("q8_0_64", BlockFormat::Q8_0, 0.01),
        ("q2_k_512", BlockFormat::Q2K, 0.45),
        ("q3_k_512", BlockFormat::Q3K, 0.25),
        ("q4_k_512", BlockFormat::Q4K, 0.12),
        ("q5_k_512", BlockFormat::Q5K, 0.06),
        ("q6_k_512", BlockFormat::Q6K, 0.03),
        ("iq4_nl_64", BlockFormat::Iq4Nl, 0.12),
    ] {
        let file =
            |what: &str| std::fs::read(folder.join(format!("{name}_noim_{what}.bin"))).unwrap();
        let (input, blocks) = (file("input"), file("expected"));
        let input: Vec<f32> = input
            .as_chunks()
            .0
            .iter()
            .map(|it| f32::from_le_bytes(*it))
            .collect();
        let mut numbers = vec![0.0; input.len()];
        format.decode(&blocks, &mut numbers).unwrap();
        let square = |values: &mut dyn Iterator<Item = f32>| {
            values.map(|it| f64::from(it * it)).sum::<f64>()
        };
        let error = square(&mut input.iter().zip(&numbers).map(|(a, b)| a - b));
        let relative = (error / square(&mut input.iter().copied())).sqrt();
        assert!(relative < most, "{name}: {relative}");
    }
}
