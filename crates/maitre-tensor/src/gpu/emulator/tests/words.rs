//! What the words of `device.cuh` do in kernels that use them rightly.

use half::bf16;
use proptest::prelude::*;

use super::{Bench, read, read_floats};
use crate::gpu::{Arg, Launch, RawArg};

#[test]
fn every_thread_of_every_block_runs_once() {
    let bench = Bench::new();
    let out = bench.words(&[0; 2 * 3 * 4 * 96]);
    bench
        .run("test_indices", [2, 3, 4], 96, 0, &[Arg::At(&out, 0)])
        .unwrap();
    assert!(read(&out).into_iter().eq(1..=2 * 3 * 4 * 96));

    let counts = bench.words(&[0; 7]);
    let args = [Arg::At(&counts, 0), Arg::U32(7)];
    bench.run("test_atomics", [5, 1, 1], 64, 0, &args).unwrap();
    assert_eq!(read(&counts), [50, 45, 45, 45, 45, 45, 45]);
}

#[test]
fn warps_exchange_numbers() {
    let bench = Bench::new();
    // The queue has no signed arguments.
    let out = bench.words(&[0; 160]);
    let launch = Launch {
        kernel: "test_warp",
        grid: [1; 3],
        threads: 32,
        shared_bytes: 0,
        early: false,
        args: &[RawArg::Address(out.address().0), RawArg::I32(-20)],
    };
    #[allow(unsafe_code)]
    // SAFETY: the kernel writes 160 words.
    unsafe {
        bench.gpu.launch(&launch).unwrap();
    }
    let out = read(&out);
    for lane in 0..32 {
        assert_eq!(out[lane], (lane as u32 + 5) % 32 * 3);
        assert_eq!(out[32 + lane] as i32, (lane as i32 ^ 9) - 20);
        assert_eq!(f32::from_bits(out[64 + lane]), 3.5);
        assert_eq!(f32::from_bits(out[96 + lane]), 496.0);
        assert_eq!(
            out[128 + lane],
            (0..32).step_by(3).map(|bit| 1 << bit).sum::<u32>()
        );
    }
}

#[test]
fn words_without_threads_mean_what_they_mean_on_a_gpu() {
    let y = 0x00c0_0001;
    let out = Bench::new().output("test_words", 32, 0, 12, &[Arg::F32(1.5), Arg::U32(y)]);
    let expected = [
        3,
        8,
        32,
        0x9000,
        0xbfc0_3fc0,
        1.5f32.to_bits(),
        1.5f32.exp2().to_bits(),
        0,
        // Ties go to even; a number beyond the largest bf16 becomes infinite; there is one NaN.
        0x3f82_3f80,
        0x7f80_7fff,
        0x7700_2255,
        // 1.5 · 4 - 1.5 and 2 · 1.5 + 64.
        0x4286_4090,
    ];
    assert_eq!(out, expected);
}

#[test]
fn all_types_of_arguments_arrive() {
    let bench = Bench::new();
    let out = bench.words(&[0; 2]);
    let args = [
        RawArg::Address(out.address().0),
        RawArg::U32(3_000_000_000),
        RawArg::I32(-7),
        RawArg::F32(0.25),
        RawArg::Address(0),
    ];
    let launch = Launch {
        kernel: "test_types",
        grid: [1; 3],
        threads: 32,
        shared_bytes: 0,
        early: false,
        args: &args,
    };
    #[allow(unsafe_code)]
    // SAFETY: the kernel writes 8 bytes.
    unsafe {
        bench.gpu.launch(&launch).unwrap();
    }
    let words = read(&out);
    let sum = f64::from_bits(u64::from(words[1]) << 32 | u64::from(words[0]));
    assert_eq!(sum, 3_000_000_000.0 - 7.0 + 0.25);
}

#[test]
fn a_block_sums_in_one_order_whatever_the_seed() {
    let bench = Bench::new();
    let x: Vec<f32> = (0..256u16).map(|i| f32::from(i).sin()).collect();
    let (x_there, out) = (bench.floats(&x), bench.floats(&[0.0; 256]));
    let mut sums = Vec::new();
    for seed in 1..20 {
        bench.emulator.set_seed(seed);
        let args = [Arg::At(&x_there, 0), Arg::At(&out, 0)];
        bench
            .run("test_block_sum", [1; 3], 256, 8 * 4, &args)
            .unwrap();
        sums.extend(read_floats(&out));
    }
    assert!(sums.iter().all(|sum| sum.to_bits() == sums[0].to_bits()));
    assert!((sums[0] - x.iter().sum::<f32>()).abs() < 1e-4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_matrix_product_sums_in_the_order_of_k(numbers in prop::collection::vec(-2.0f32..2.0, 16 * 16 + 8 * 16 + 16 * 8)) {
        let bench = Bench::new();
        let (operands, d) = numbers.split_at(16 * 16 + 8 * 16);
        let halves: Vec<bf16> = operands.iter().map(|x| bf16::from_f32(*x)).collect();
        let words: Vec<u32> = halves
            .chunks_exact(2)
            .map(|pair| u32::from(pair[0].to_bits()) | u32::from(pair[1].to_bits()) << 16)
            .collect();
        let (a, b) = (bench.words(&words[..128]), bench.words(&words[128..]));
        let out = bench.floats(d);
        let args = [Arg::At(&a, 0), Arg::At(&b, 0), Arg::At(&out, 0)];
        bench.run("test_mma", [1; 3], 32, 0, &args).unwrap();
        let out = read_floats(&out);
        for (at, sum) in d.iter().enumerate() {
            let (row, col) = (at / 8, at % 8);
            let expected = (0..16).fold(*sum, |sum, k| {
                sum + halves[row * 16 + k].to_f32() * halves[256 + col * 16 + k].to_f32()
            });
            prop_assert_eq!(out[at].to_bits(), expected.to_bits());
        }
    }
}

#[test]
fn matrices_are_loaded_straight_and_transposed() {
    let bench = Bench::new();
    let out = bench.output("test_load_matrix", 32, 512, 256, &[Arg::U32(0)]);
    for matrix in 0..4 {
        for lane in 0..32 {
            let (g, t, base) = (lane / 4, lane % 4, 64 * matrix);
            let pair = |low: u32, high: u32| (base + low) | ((base + high) << 16);
            let at = (matrix * 32 + lane) as usize;
            assert_eq!(out[at], pair(8 * g + 2 * t, 8 * g + 2 * t + 1));
            assert_eq!(out[128 + at], pair(8 * 2 * t + g, 8 * (2 * t + 1) + g));
        }
    }
    let out = bench.words(&[0; 256]);
    for (shift, shared_bytes) in [(8, 528), (16, 512)] {
        let args = [Arg::At(&out, 0), Arg::U32(shift)];
        let message = bench
            .run("test_load_matrix", [1; 3], 32, shared_bytes, &args)
            .unwrap_err();
        assert!(message.contains("load_matrix_x4 at "), "{message}");
    }
}

/// What the two groups of `test_copy` leave in shared memory, under some seed.
fn copied(seed: u64, pending: usize, valid: usize) -> (Vec<f32>, Vec<f32>) {
    let bench = Bench::new();
    bench.emulator.set_seed(seed);
    let from: Vec<f32> = (0..512u16).map(f32::from).collect();
    let (from, out) = (bench.floats(&from), bench.floats(&[0.0; 512]));
    let args = [
        Arg::At(&from, 0),
        Arg::At(&out, 0),
        Arg::U32(pending),
        Arg::U32(valid),
        Arg::U32(0),
    ];
    bench.run("test_copy", [1; 3], 64, 2048, &args).unwrap();
    let mut out = read_floats(&out);
    let second = out.split_off(256);
    (out, second)
}

#[test]
fn copies_land_when_they_are_waited_for() {
    for seed in 1..5 {
        let (first, second) = copied(seed, 0, 1);
        assert!(
            first
                .into_iter()
                .chain(second)
                .eq((0..512u16).map(f32::from))
        );

        let (first, second) = copied(seed, 0, 0);
        assert!(first.into_iter().chain(second).all(|x| x == 0.0));

        // The newer group may be under way; what it will overwrite is no number.
        let (first, second) = copied(seed, 1, 1);
        assert!(first.into_iter().eq((0..256u16).map(f32::from)));
        assert!(second.iter().any(|x| x.is_nan()) && second.iter().any(|x| !x.is_nan()));

        let (first, _) = copied(seed, 2, 1);
        assert!(first.iter().any(|x| x.is_nan()));
    }
    let bench = Bench::new();
    let (from, out) = (bench.floats(&[0.0; 512]), bench.floats(&[0.0; 512]));
    let refused = |shift: usize, shared_bytes: usize| {
        let args = [
            Arg::At(&from, 0),
            Arg::At(&out, 0),
            Arg::U32(0),
            Arg::U32(1),
            Arg::U32(shift),
        ];
        bench
            .run("test_copy", [1; 3], 64, shared_bytes, &args)
            .unwrap_err()
    };
    let message = refused(1, 2048);
    assert!(message.contains("no multiple of 16"), "{message}");
    let message = refused(0, 1024);
    assert!(message.contains("16 bytes of shared memory"), "{message}");
}
