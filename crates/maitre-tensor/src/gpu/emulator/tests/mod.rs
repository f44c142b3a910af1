//! The emulator, tried with the kernels of `cuda/tests/`.

mod device;
mod hopper;
mod words;
mod wrong;

use std::sync::Arc;

use super::Emulator;
use crate::TensorError;
use crate::gpu::{Arg, DeviceBytes, Gpu, Grid, Queue};

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
