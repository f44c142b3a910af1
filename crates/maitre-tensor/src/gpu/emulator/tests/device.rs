//! The device around the kernels: memory, recorded sequences, products, faults to order.

use std::sync::Arc;

use half::bf16;

use super::super::Emulator;
use super::{Bench, read, read_floats};
use crate::TensorError;
use crate::gpu::{Address, Arg, DeviceBytes, Gpu, MatrixProduct};

#[test]
fn memory_is_counted_and_ends() {
    let gpu: Arc<dyn Gpu> = Emulator::with((9, 0), 1000).unwrap();
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
        let (x_there, w_there, out) = (there(&x), there(&w), bench.floats(&vec![0.0; m * n]));
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
