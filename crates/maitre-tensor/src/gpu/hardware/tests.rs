//! Needs a GPU; where there is none, each test says that it was skipped.
#![allow(
    clippy::print_stderr,
    reason = "a skipped test must not look like one that ran"
)]

use std::sync::Arc;

use super::Hardware;
use super::kernels::FILES;
use crate::gpu::{Arg, DeviceBytes, Gpu, Grid, Queue, RawArg};
use crate::{DType, TensorError};

fn gpu() -> Option<Arc<dyn Gpu>> {
    match Hardware::open(0) {
        Ok(gpu) => {
            eprintln!("on {:?}", gpu.info());
            Some(Arc::new(gpu))
        }
        Err(error) => {
            eprintln!("skipped: no GPU ({error})");
            None
        }
    }
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_ne_bytes())
        .collect()
}

/// Small numbers, which bf16 holds exactly.
fn small(len: usize, step: usize) -> Vec<f32> {
    (0..len).map(|at| (at * step % 17) as f32 - 8.0).collect()
}

fn bf16(numbers: &[f32]) -> Vec<u8> {
    let halves = numbers.iter().map(|&number| half::bf16::from_f32(number));
    halves.flat_map(|half| half.to_ne_bytes()).collect()
}

fn upload(gpu: &Arc<dyn Gpu>, bytes: &[u8]) -> DeviceBytes {
    let mut memory = DeviceBytes::zeroed(gpu, bytes.len()).unwrap();
    memory.upload(0, bytes).unwrap();
    memory
}

fn download(memory: &DeviceBytes) -> Vec<f32> {
    let mut bytes = vec![0; memory.len()];
    memory.download(0, &mut bytes).unwrap();
    let numbers = bytes.chunks_exact(DType::F32.size_in_bytes());
    numbers
        .map(|number| f32::from_ne_bytes(number.try_into().unwrap()))
        .collect()
}

const ROWS: usize = 3;
const DIM: usize = 64;

/// Queues `x += delta; out = norm(x) * weight`.
fn norm(queue: &Queue, [x, delta, weight, out]: [&DeviceBytes; 4]) -> Result<(), TensorError> {
    let grid = Grid {
        blocks: [ROWS, 1, 1],
        threads: 64,
        shared_bytes: 2 * 4,
    };
    let [x, delta, weight, out] = [x, delta, weight, out].map(|memory| Arg::At(memory, 0));
    let (dim, stride) = (Arg::U32(DIM), Arg::U32(DIM));
    let args = [x, delta, weight, Arg::F32(1e-6), out, dim, stride];
    queue.launch("rms_norm_f32", grid, &args)
}

#[test]
fn what_is_uploaded_comes_back_even_if_it_laps_the_ring() {
    let Some(gpu) = gpu() else { return };
    // More than the pages hold, in pieces that end nowhere near their ends.
    let numbers: Vec<f32> = (0..12_000_000).map(|at| at as f32).collect();
    let mut memory = DeviceBytes::zeroed(&gpu, numbers.len() * 4).unwrap();
    assert!(download(&memory).iter().all(|&number| number == 0.0));
    let mut offset = 0;
    for piece in numbers.chunks(1_234_567) {
        let mut piece = bytes(piece);
        memory.upload(offset, &piece).unwrap();
        offset += piece.len();
        // The caller's bytes are its own again.
        piece.fill(0xff);
    }
    assert!(download(&memory) == numbers);
}

#[test]
fn a_kernel_runs_now_and_when_its_recording_is_replayed() {
    let Some(gpu) = gpu() else { return };
    let queue = Queue::new(Arc::clone(&gpu));
    let (start, step, gain) = (small(ROWS * DIM, 5), small(ROWS * DIM, 3), small(DIM, 7));
    let [x, mut delta, weight, out] =
        [&start, &step, &gain, &start].map(|numbers| upload(&gpu, &bytes(numbers)));
    norm(&queue, [&x, &delta, &weight, &out]).unwrap();

    gpu.begin_capture().unwrap();
    norm(&queue, [&x, &delta, &weight, &out]).unwrap();
    let graph = gpu.end_capture().unwrap();
    for _ in 0..2 {
        // SAFETY: what was recorded is alive.
        unsafe { gpu.replay(graph) }.unwrap();
    }
    // An upload comes behind the replays before it, and before the one behind it.
    delta.upload(0, &bytes(&start)).unwrap();
    // SAFETY: as above.
    unsafe { gpu.replay(graph) }.unwrap();
    gpu.drop_graph(graph);

    let expected: Vec<f32> = start
        .iter()
        .zip(&step)
        .map(|(x, d)| 2.0 * x + 3.0 * d)
        .collect();
    assert_eq!(
        download(&x),
        expected,
        "one launch, two replays, one with another delta"
    );
    for (row, normed) in expected.chunks(DIM).zip(download(&out).chunks(DIM)) {
        let mean = row.iter().map(|x| x * x).sum::<f32>() / DIM as f32;
        for ((x, gain), normed) in row.iter().zip(&gain).zip(normed) {
            let exact = x / (mean + 1e-6).sqrt() * gain;
            assert!(
                (exact - normed).abs() <= 1e-5 * exact.abs().max(1.0),
                "{normed} for {exact}"
            );
        }
    }
}

#[test]
fn bf16_matrices_are_multiplied() {
    let Some(gpu) = gpu() else { return };
    let queue = Queue::new(Arc::clone(&gpu));
    // Several rows of one power of two share a plan.
    for [m, n, k] in [
        [1, 48, 64],
        [5, 48, 64],
        [7, 48, 64],
        [8, 48, 64],
        [129, 272, 1024],
    ] {
        let (x, w) = (small(m * k, 5), small(n * k, 3));
        let (on_x, on_w) = (upload(&gpu, &bf16(&x)), upload(&gpu, &bf16(&w)));
        let out = DeviceBytes::zeroed(&gpu, m * n * 4).unwrap();
        queue
            .multiply((&on_x, 0), &on_w, (&out, 0), [m, n, k])
            .unwrap();
        // Sums of small whole numbers are exact in any order.
        let dot = |row: &[f32], col: &[f32]| row.iter().zip(col).map(|(a, b)| a * b).sum::<f32>();
        let rows = x
            .chunks(k)
            .flat_map(|row| w.chunks(k).map(move |col| dot(row, col)));
        assert!(
            download(&out) == rows.collect::<Vec<_>>(),
            "[{m}, {n}, {k}]"
        );
    }
}

#[test]
fn what_is_wrong_is_refused_and_the_gpu_stays_usable() {
    let Some(gpu) = gpu() else { return };
    let queue = Queue::new(Arc::clone(&gpu));
    let mut memory = upload(&gpu, &bytes(&small(ROWS * DIM, 5)));
    let refused = |outcome: Result<(), TensorError>, word: &str| {
        let message = outcome.unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    };
    refused(
        queue.launch("no_such_kernel", Grid::of(1, 32), &[]),
        "compiled in",
    );
    refused(
        queue.launch("rms_norm_f32", Grid::of(1, 32), &[Arg::U32(1)]),
        "parameters",
    );
    let too_large = DeviceBytes::zeroed(&gpu, 1 << 50);
    assert!(
        matches!(too_large, Err(TensorError::DeviceMemory { bytes, free_bytes, total_bytes })
            if bytes == 1 << 50 && 0 < free_bytes && free_bytes <= total_bytes),
        "{too_large:?}"
    );
    refused(gpu.end_capture().map(|_| ()), "nothing is being recorded");

    gpu.begin_capture().unwrap();
    refused(memory.upload(0, &[0; 4]), "recorded");
    refused(memory.download(0, &mut [0; 4]), "recorded");
    refused(gpu.begin_capture(), "recorded");
    refused(gpu.synchronize(), "recorded");
    refused(DeviceBytes::zeroed(&gpu, 4).map(|_| ()), "recorded");
    let _ = queue.launch("no_such_kernel", Grid::of(1, 32), &[]);
    let graph = gpu.end_capture().unwrap();
    gpu.drop_graph(graph);
    // SAFETY: nothing was recorded.
    refused(unsafe { gpu.replay(graph) }, "nothing was recorded");

    gpu.synchronize().unwrap();
    assert_eq!(download(&memory), small(ROWS * DIM, 5));
}

#[test]
fn memory_that_is_given_back_is_free_again() {
    let Some(gpu) = gpu() else { return };
    let before = gpu.memory().unwrap();
    let memory = DeviceBytes::zeroed(&gpu, 256 << 20).unwrap();
    assert!(gpu.memory().unwrap().free_bytes < before.free_bytes);
    gpu.begin_capture().unwrap();
    drop(memory);
    let graph = gpu.end_capture().unwrap();
    gpu.drop_graph(graph);
    gpu.synchronize().unwrap();
    assert!(gpu.memory().unwrap().free_bytes + (1 << 20) >= before.free_bytes);
}

/// The driver is told where each argument lies, and reads as many bytes as the parameter has.
#[test]
fn an_argument_is_read_where_it_lies() {
    let args = [
        RawArg::Address(0x0123_4567_89ab_cdef),
        RawArg::U32(7),
        RawArg::I32(-7),
        RawArg::F32(0.5),
    ];
    let [address, word, signed, number] = args.each_ref().map(super::kernels::address);
    // SAFETY: each points to a value of that type in `args`.
    unsafe {
        assert_eq!(*address.cast::<u64>(), 0x0123_4567_89ab_cdef);
        assert_eq!(*word.cast::<u32>(), 7);
        assert_eq!(*signed.cast::<i32>(), -7);
        assert_eq!(*number.cast::<f32>(), 0.5);
    }
}

#[test]
fn every_kernel_is_known_to_be_in_one_file() {
    let mut names: Vec<_> = FILES.iter().flat_map(|(_, _, kernels)| *kernels).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "{names:?}");
    // One that stands by itself, and one of each macro.
    for kernel in [
        "linear_f32",
        "linear_int4_128x128",
        "linear_bf16_few1",
        "attention_int8_256_wide",
        "rope_store_bf16",
    ] {
        assert!(names.contains(&&kernel), "{kernel} is not in {names:?}");
    }
}

#[test]
fn the_library_is_not_opened_while_a_step_is_recorded() {
    let Some(gpu) = gpu() else { return };
    let queue = Queue::new(Arc::clone(&gpu));
    let [x, w, out] = [32, 32, 16].map(|len| DeviceBytes::zeroed(&gpu, len * 4).unwrap());
    let multiply = || queue.multiply((&x, 0), &w, (&out, 0), [4, 4, 16]);
    gpu.begin_capture().unwrap();
    let message = multiply().unwrap_err().to_string();
    assert!(message.contains("cuBLASLt"), "{message}");
    gpu.drop_graph(gpu.end_capture().unwrap());
    multiply().unwrap();
    gpu.begin_capture().unwrap();
    multiply().unwrap();
    gpu.drop_graph(gpu.end_capture().unwrap());
}
