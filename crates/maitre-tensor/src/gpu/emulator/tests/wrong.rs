//! What the emulator says of kernels and launches that are wrong.

use super::{Bench, read, said};
use crate::gpu::{Arg, Launch, RawArg};

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
            assert!(message.contains("words.cu:"), "{message}");
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
        early: false,
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
