//! The words of `device.cuh`, and what the emulator says of kernels that use them wrongly.

use std::sync::Arc;

use half::bf16;
use proptest::prelude::*;

use super::Emulator;
use crate::TensorError;
use crate::gpu::{Address, Arg, DeviceBytes, Gpu, Grid, Launch, MatrixProduct, Queue, RawArg};

/// An emulator, and memory of it made from numbers.
struct Bench {
    emulator: Arc<Emulator>,
    gpu: Arc<dyn Gpu>,
    queue: Queue,
}

impl Bench {
    fn new() -> Self {
        let emulator = Emulator::new().unwrap();
        let gpu: Arc<dyn Gpu> = emulator.clone();
        Self {
            emulator,
            queue: Queue::new(Arc::clone(&gpu)),
            gpu,
        }
    }

    fn words(&self, words: &[u32]) -> DeviceBytes {
        let mut memory = DeviceBytes::zeroed(&self.gpu, words.len() * 4).unwrap();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        memory.upload(0, &bytes).unwrap();
        memory
    }

    fn floats(&self, floats: &[f32]) -> DeviceBytes {
        self.words(&floats.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
    }

    fn run(
        &self,
        kernel: &'static str,
        blocks: [usize; 3],
        threads: usize,
        shared_bytes: usize,
        args: &[Arg<'_>],
    ) -> Result<(), String> {
        let grid = Grid {
            blocks,
            threads,
            shared_bytes,
        };
        self.queue.launch(kernel, grid, args).map_err(said)
    }

    /// Runs a kernel whose first argument is `words` words of output, which it answers with.
    fn output(
        &self,
        kernel: &'static str,
        threads: usize,
        shared_bytes: usize,
        words: usize,
        args: &[Arg<'_>],
    ) -> Vec<u32> {
        let out = self.words(&vec![0; words]);
        let args: Vec<Arg<'_>> = [Arg::At(&out, 0)]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        self.run(kernel, [1; 3], threads, shared_bytes, &args)
            .unwrap();
        read(&out)
    }
}

fn said(error: TensorError) -> String {
    match error {
        TensorError::Device { message, .. } => message,
        other => panic!("{other}"),
    }
}

fn read(memory: &DeviceBytes) -> Vec<u32> {
    let mut bytes = vec![0; memory.len()];
    memory.download(0, &mut bytes).unwrap();
    bytes
        .chunks_exact(4)
        .map(|word| u32::from_ne_bytes(word.try_into().unwrap()))
        .collect()
}

fn read_floats(memory: &DeviceBytes) -> Vec<f32> {
    read(memory).into_iter().map(f32::from_bits).collect()
}

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
    let out = Bench::new().output("test_words", 32, 0, 10, &[Arg::F32(1.5), Arg::U32(y)]);
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

#[test]
fn a_missing_barrier_shows_under_some_seed() {
    let bench = Bench::new();
    let x: Vec<u32> = (0..128).collect();
    let (x, out) = (bench.words(&x), bench.words(&[0; 128]));
    for (step, with_barrier) in [(1, 1), (1, 0), (32, 1), (32, 0)] {
        let mut right = 0;
        for seed in 1..=8 {
            bench.emulator.set_seed(seed);
            let args = [
                Arg::At(&x, 0),
                Arg::At(&out, 0),
                Arg::U32(step),
                Arg::U32(with_barrier),
            ];
            bench.run("test_turn", [1; 3], 128, 512, &args).unwrap();
            right += usize::from(
                read(&out)
                    .into_iter()
                    .eq((0..128).map(|i| (i + step as u32) % 128)),
            );
        }
        assert_eq!(right == 8, with_barrier == 1, "step {step}: {right} of 8");
    }
}

#[test]
fn threads_that_never_come_are_named() {
    let bench = Bench::new();
    let out = bench.words(&[0; 128]);
    let expected = [
        (
            0,
            "the warp has parted: it calls __shfl_xor_sync at",
            "thread 40 has returned",
        ),
        (
            1,
            "the warp has parted: it calls __shfl_xor_sync at",
            "waits in __shfl_xor_sync at",
        ),
        (
            2,
            "not all threads reach the __syncthreads at",
            "has returned",
        ),
        (
            3,
            "the warp has parted: it calls __shfl_xor_sync at",
            "waits in __syncthreads at",
        ),
        (4, "names the lanes 0000ffff", "all 32"),
    ];
    for seed in 1..5 {
        bench.emulator.set_seed(seed);
        for (way, what, whom) in expected {
            let args = [Arg::At(&out, 0), Arg::U32(way)];
            let message = bench
                .run("test_wrong", [2, 1, 1], 64, 0, &args)
                .unwrap_err();
            let place = "kernel test_wrong, block (1, 0, 0), thread ";
            assert!(message.starts_with(place), "{message}");
            assert!(
                message.contains(what) && message.contains(whom),
                "{message}"
            );
            assert!(message.contains("tests.cu:"), "{message}");
        }
        // The emulator is as good as new.
        bench
            .run(
                "test_wrong",
                [2, 1, 1],
                64,
                0,
                &[Arg::At(&out, 0), Arg::U32(9)],
            )
            .unwrap();
        assert_eq!(read(&out), [1f32.to_bits(); 128]);
    }
}

#[test]
fn writes_beside_memory_are_noticed() {
    let bench = Bench::new();
    let out = bench.words(&[0; 10]);
    let write = |at: usize, shared_at: usize| {
        bench.run(
            "test_write",
            [1; 3],
            32,
            8,
            &[Arg::At(&out, 0), Arg::U32(at), Arg::U32(shared_at)],
        )
    };
    write(9, 1).unwrap();
    assert_eq!(
        write(10, 0).unwrap_err(),
        "a kernel wrote near byte 40 of an allocation of 40 bytes"
    );
    assert_eq!(
        write(0, 2).unwrap_err(),
        "kernel test_write, block (0, 0, 0): shared memory was written near byte 8, but the launch \
         asked for 8 bytes"
    );
    // Each is said once.
    write(9, 1).unwrap();
}

#[test]
fn launches_that_no_gpu_would_take_are_refused() {
    let bench = Bench::new();
    let out = bench.words(&[0; 64]);
    let args = [Arg::At(&out, 0)];
    let refused = |kernel, blocks, threads, shared_bytes, args: &[Arg<'_>]| {
        bench
            .run(kernel, blocks, threads, shared_bytes, args)
            .unwrap_err()
    };
    let messages = [
        (
            refused("test_nothing", [1; 3], 32, 0, &args),
            "there is no kernel test_nothing",
        ),
        (
            refused("test_indices", [1; 3], 32, 0, &[]),
            "takes \"p\", but was given \"\"",
        ),
        (
            refused("test_indices", [1; 3], 32, 0, &[Arg::U32(1)]),
            "takes \"p\", but was given \"u\"",
        ),
        (
            refused("test_indices", [1; 3], 48, 0, &args),
            "a multiple of 32, but 48 were asked for",
        ),
        (
            refused("test_indices", [1; 3], 0, 0, &args),
            "but 0 were asked for",
        ),
        (
            refused("test_indices", [1; 3], 1056, 0, &args),
            "but 1056 were asked for",
        ),
        (
            refused("test_indices", [1; 3], 32, 232_449, &args),
            "but 232449 were asked for",
        ),
        (
            refused("test_indices", [1, 65_536, 1], 32, 0, &args),
            "(1, 65536, 1) blocks",
        ),
    ];
    for (message, expected) in messages {
        assert!(message.contains(expected), "{message}");
    }
    let gone = out.address().0;
    drop(out);
    let launch = Launch {
        kernel: "test_indices",
        grid: [1; 3],
        threads: 32,
        shared_bytes: 0,
        args: &[RawArg::Address(gone)],
    };
    #[allow(unsafe_code)]
    // SAFETY: refused before it runs.
    let message = said(unsafe { bench.gpu.launch(&launch) }.unwrap_err());
    assert!(
        message.contains("points to no live allocation"),
        "{message}"
    );
}

#[test]
fn memory_is_counted_and_ends() {
    let gpu: Arc<dyn Gpu> = Emulator::with_memory(1000).unwrap();
    let first = DeviceBytes::zeroed(&gpu, 600).unwrap();
    assert_eq!(first.address().0 % 256, 0);
    assert_eq!(gpu.memory().unwrap().free_bytes, 400);
    assert!(matches!(
        DeviceBytes::zeroed(&gpu, 401),
        Err(TensorError::DeviceMemory {
            bytes: 401,
            free_bytes: 400,
            total_bytes: 1000
        })
    ));
    drop(first);
    DeviceBytes::zeroed(&gpu, 1000).unwrap();
}

#[test]
fn what_was_recorded_runs_whenever_it_is_asked_to() {
    let bench = Bench::new();
    let counts = bench.words(&[0; 2]);
    let mut copied = bench.words(&[0; 2]);
    let args = [Arg::At(&counts, 0), Arg::U32(2)];
    bench.gpu.begin_capture().unwrap();
    bench.run("test_atomics", [1; 3], 32, 0, &args).unwrap();
    copied.copy_from(0, &counts, 0, 8).unwrap();
    assert!(
        copied.download(0, &mut [0; 8]).is_err(),
        "a recording cannot wait"
    );
    assert!(DeviceBytes::zeroed(&bench.gpu, 1).is_err());
    let graph = bench.gpu.end_capture().unwrap();
    assert_eq!(read(&counts), [0, 0]);
    #[allow(unsafe_code)]
    // SAFETY: the memory lives.
    let replay = || unsafe { bench.gpu.replay(graph) };
    replay().unwrap();
    replay().unwrap();
    assert_eq!(read(&copied), [32, 32]);
    bench.gpu.drop_graph(graph);
    assert!(replay().is_err());
    assert!(bench.gpu.end_capture().is_err());
}

#[test]
fn a_fault_comes_when_it_was_ordered_and_once() {
    let bench = Bench::new();
    let counts = bench.words(&[0; 1]);
    let run = || {
        bench.run(
            "test_atomics",
            [1; 3],
            32,
            0,
            &[Arg::At(&counts, 0), Arg::U32(1)],
        )
    };
    bench.emulator.fail_launch_after(2);
    run().unwrap();
    assert_eq!(run().unwrap_err(), "this launch was chosen to fail");
    run().unwrap();
    assert_eq!(read(&counts), [64]);
}

#[test]
fn a_product_is_that_of_its_rows_and_columns() {
    let bench = Bench::new();
    for m in 1..=3usize {
        let (n, k) = (5, 24);
        let number = |at: usize| bf16::from_f32(((at * 7919 % 64) as f32 - 32.0) / 16.0);
        let matrix =
            |len: usize, from: usize| -> Vec<bf16> { (from..from + len).map(number).collect() };
        let (x, w) = (matrix(m * k, 0), matrix(n * k, 1000));
        let there = |numbers: &[bf16]| {
            let mut memory = DeviceBytes::zeroed(&bench.gpu, numbers.len() * 2).unwrap();
            let bytes: Vec<u8> = numbers
                .iter()
                .flat_map(|x| x.to_bits().to_ne_bytes())
                .collect();
            memory.upload(0, &bytes).unwrap();
            memory
        };
        let (x_there, w_there, mut out) = (there(&x), there(&w), bench.floats(&vec![0.0; m * n]));
        bench
            .queue
            .multiply((&x_there, 0), &w_there, (&out, 0), [m, n, k])
            .unwrap();
        for (at, sum) in read_floats(&out).into_iter().enumerate() {
            let (row, col) = (at / n, at % n);
            // Sixteenths and few of them: every order gives the same sum.
            let exact: f32 = (0..k)
                .map(|i| x[row * k + i].to_f32() * w[col * k + i].to_f32())
                .sum();
            assert_eq!(sum, exact);
        }
        let beside = MatrixProduct {
            x: Address(x_there.address().0 + 16),
            w: w_there.address(),
            out: out.address(),
            m,
            n,
            k,
        };
        #[allow(unsafe_code)]
        // SAFETY: refused before anything is read.
        let refused = unsafe { bench.gpu.multiply(&beside) };
        assert!(refused.is_err());
    }
}
