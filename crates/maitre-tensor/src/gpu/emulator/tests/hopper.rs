//! What only Hopper has: barriers that count bytes, boxes, multiplications that run beside their threads.

use half::bf16;

use super::super::Emulator;
use super::{Bench, read, read_floats, said};
use crate::gpu::{Arg, BoxedMatrix, DeviceBytes, Gpu, Grid, Queue};

/// Seeds that are tried: each wrong kernel is to show under one of them, and each right one under none.
const SEEDS: std::ops::Range<u64> = 1..9;

/// A matrix of rows of `cols` numbers, and its boxes of so many rows.
fn rows(cols: u64, rows: u64, in_box: u32) -> BoxedMatrix {
    BoxedMatrix {
        sizes: [cols, rows, 1, 1],
        strides: [2 * cols, 0, 0],
        boxes: [64, in_box, 1, 1],
        rank: 2,
    }
}

impl Bench {
    fn halves(&self, numbers: &[f32]) -> DeviceBytes {
        let bits: Vec<u16> = numbers
            .iter()
            .map(|it| bf16::from_f32(*it).to_bits())
            .collect();
        let words: Vec<u32> = bits
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[low, high]| u32::from(*low) | u32::from(*high) << 16)
            .collect();
        self.words(&words)
    }
}

#[track_caller]
fn assert_says(result: Result<(), String>, expected: &str) {
    let message = result.unwrap_err();
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_kernel_that_does_not_wait_for_the_one_before_is_refused() {
    let bench = Bench::new();
    let out = bench.words(&[0; 64]);
    let run = |thread| {
        let args = [Arg::At(&out, 0), Arg::U32(thread)];
        bench.run("test_no_turn", [1; 3], 64, 0, &args)
    };
    run(64).unwrap();
    for thread in [0, 63] {
        let expected = format!("thread {thread}: it ended without `wait_for_previous`");
        assert_says(run(thread), &expected);
    }
}

#[test]
fn a_barrier_ends_its_phase_when_all_have_come() {
    let bench = Bench::new();
    let out = bench.words(&[0; 64]);
    let run = |way| {
        let args = [Arg::At(&out, 0), Arg::U32(way)];
        bench.run("test_barrier", [1; 3], 64, 1024, &args)
    };
    let at_eight = "needs a barrier in shared memory at a multiple of 8";
    for seed in SEEDS {
        bench.emulator.set_seed(seed);
        run(0).unwrap();
        assert_says(run(1), "nothing ends the phase that barrier_wait at");
        assert_says(run(2), "is one arrival more than the phase has");
        assert_says(run(3), at_eight);
        assert_says(run(4), at_eight);
    }
    // The emulator is as good as new.
    run(0).unwrap();
    assert_eq!(read(&out), [1; 64]);
}

/// Where the 16-bit number in column `col` of row `row` of a box lies.
fn place(row: usize, col: usize) -> usize {
    row * 64 + ((col / 8) ^ (row % 8)) * 8 + col % 8
}

#[test]
fn boxes_land_when_they_are_waited_for() {
    let bench = Bench::new();
    let (cols, all) = (72, 20);
    let numbers: Vec<f32> = (0..cols * all).map(|it| (it % 251 + 1) as f32).collect();
    let matrix = bench.halves(&numbers);
    let out = bench.words(&[0; 16 * 32]);
    let boxed = rows(cols as u64, all as u64, 16);
    // From the middle, and over both ends: there are zeros.
    for (col, row) in [(0, 0), (8, 3), (64, 12)] {
        let mut expected = vec![0.0; 16 * 64];
        for (i, j) in (0..16).flat_map(|i| (0..64).map(move |j| (i, j))) {
            if row + i < all && col + j < cols {
                expected[place(i, j)] = numbers[(row + i) * cols + col + j];
            }
        }
        let mut right = [0, 0];
        for seed in SEEDS {
            bench.emulator.set_seed(seed);
            for with_wait in [0, 1] {
                let args = [
                    Arg::Matrix(&matrix, 0, boxed),
                    Arg::At(&out, 0),
                    Arg::U32(16),
                    Arg::U32(col),
                    Arg::U32(row),
                    Arg::U32(0),
                    Arg::U32(with_wait),
                ];
                bench.run("test_box", [1; 3], 64, 4096, &args).unwrap();
                let found = read(&out)
                    .into_iter()
                    .flat_map(|word| [word as u16, (word >> 16) as u16])
                    .map(|bits| bf16::from_bits(bits).to_f32());
                right[with_wait] += usize::from(found.eq(expected.iter().copied()));
            }
        }
        let [without, with] = right;
        assert_eq!(with, SEEDS.count(), "box at ({col}, {row})");
        assert!(without < with, "box at ({col}, {row})");
    }
}

#[test]
fn boxes_that_no_copy_engine_takes_are_refused() {
    let bench = Bench::new();
    let matrix = bench.halves(&[1.0; 64 * 16]);
    let out = bench.words(&[0; 16 * 32]);
    let run = |shift: usize, boxed: BoxedMatrix| {
        let args = [
            Arg::Matrix(&matrix, 0, boxed),
            Arg::At(&out, 0),
            Arg::U32(16),
            Arg::U32(0),
            Arg::U32(0),
            Arg::U32(shift),
            Arg::U32(1),
        ];
        bench.run("test_box", [1; 3], 32, 4096, &args)
    };
    let boxed = rows(64, 16, 16);
    run(1024, boxed).unwrap();
    // At no multiple of 1,024; with its end beyond shared memory; all of it.
    for shift in [1024 + 16, 1024 + 128, 3 * 1024, 8 * 1024] {
        assert_says(
            run(shift, boxed),
            "writes 2048 bytes of shared memory, rows of 128 bytes at a multiple of 1024, but was given byte",
        );
    }
    // Rows of other lengths, more than there are in memory, or that begin at no multiple of 16 bytes.
    let narrow = BoxedMatrix {
        boxes: [32, 16, 1, 1],
        ..boxed
    };
    assert_says(run(1024, narrow), "rows of 128 bytes");
    assert_says(
        run(1024, rows(64, 17, 16)),
        "argument 0 of kernel test_box points to no live allocation",
    );
    for wrong in [rows(60, 16, 16), rows(64, 16, 257), rows(0, 16, 16)] {
        assert_says(run(1024, wrong), "no matrix to take boxes of");
    }
    // Bytes that never come.
    assert_says(
        run(1024, rows(64, 16, 8)),
        "nothing ends the phase that barrier_wait at",
    );
}

#[test]
fn a_multiplication_reads_its_stage_until_it_is_waited_for() {
    let bench = Bench::new();
    // Small integers: sums are exact.
    let a: Vec<f32> = (0..64 * 64).map(|it| (it * 7 % 11) as f32 - 5.0).collect();
    let b: Vec<f32> = (0..16 * 64).map(|it| (it * 5 % 13) as f32 - 6.0).collect();
    let mut expected = Vec::new();
    for row in a.chunks_exact(64) {
        for col in b.chunks_exact(64).take(8) {
            expected.push(row.iter().zip(col).map(|(a, b)| a * b).sum::<f32>());
        }
    }
    let (a, b) = (bench.halves(&a), bench.halves(&b));
    let out = bench.floats(&[0.0; 64 * 8]);
    let run = |way| {
        let args = [
            Arg::Matrix(&a, 0, rows(64, 64, 64)),
            Arg::Matrix(&b, 0, rows(64, 16, 8)),
            Arg::At(&out, 0),
            Arg::U32(way),
        ];
        bench.run("test_multiply", [1; 3], 128, 2048 + 72 * 128, &args)
    };
    let right = [0, 1, 2].map(|way| {
        let runs = SEEDS.map(|seed| {
            bench.emulator.set_seed(seed);
            run(way).unwrap();
            read_floats(&out) == expected
        });
        runs.filter(|it| *it).count()
    });
    let [waited, overwritten, read_early] = right;
    assert_eq!(waited, SEEDS.count());
    assert!(overwritten < waited && read_early < waited, "{right:?}");
    assert_says(
        run(3),
        "not all threads of the warpgroup multiply what multiply_wait at",
    );
}

#[test]
fn other_generations_refuse_what_is_hoppers() {
    let gpu: std::sync::Arc<dyn Gpu> = Emulator::with((8, 0), 1 << 20).unwrap();
    assert!(!gpu.has_hopper_kernels());
    let queue = Queue::new(std::sync::Arc::clone(&gpu));
    let [matrix, out] = [0, 1].map(|_| DeviceBytes::zeroed(&gpu, 2048).unwrap());
    let mut args = vec![
        Arg::Matrix(&matrix, 0, rows(64, 16, 16)),
        Arg::At(&out, 0),
        Arg::U32(16),
    ];
    args.extend([0, 0, 1024, 1].map(Arg::U32));
    let grid = Grid {
        shared_bytes: 4096,
        ..Grid::of(1, 32)
    };
    assert_says(
        queue.launch("test_box", grid, &args).map_err(said),
        "kernel test_box is Hopper's alone; this is a GPU of capability 8.0",
    );
    let grid = Grid {
        shared_bytes: (163 << 10) + 1,
        ..grid
    };
    assert_says(
        queue
            .launch("test_indices", grid, &[Arg::At(&out, 0)])
            .map_err(said),
        "a block has at most 166912 bytes of shared memory, but 166913 were asked for",
    );
}
