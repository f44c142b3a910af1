//! Several threads, several backends and several GPUs: what one queues stays out of what another records, and memory
//! of another GPU is refused.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use maitre_tensor::{
    Backend, DType, GpuOptions, InputFormat, KvFormat, RecordedSteps, StepLists, StepShape,
    TensorError, WeightFormat, WeightView,
};

use crate::{backends, emulated, random, read};

const DIM: usize = 48;

/// A step that adds `delta` to `residual`, and what is needed for it.
struct Sums {
    backend: Backend,
    buffers: Mutex<[maitre_tensor::Buffer; 3]>,
    out: Mutex<maitre_tensor::LinearInput>,
}

impl Sums {
    fn new(backend: &Backend) -> Self {
        let [residual, delta, weight] = [0.0, 1.0, 1.0].map(|it| [it; DIM]);
        let buffers = [residual, delta, weight].map(|it| backend.vector(&it).unwrap());
        let out = backend.linear_input(InputFormat::F32, DIM, 1).unwrap();
        Self {
            backend: backend.clone(),
            buffers: Mutex::new(buffers),
            out: Mutex::new(out),
        }
    }

    fn add(&self) -> Result<(), TensorError> {
        let [residual, delta, weight] = &mut *self.buffers.lock().unwrap();
        let mut out = self.out.lock().unwrap();
        self.backend
            .add_rms_norm(residual, delta, weight, 1e-5, &mut out, 1)
    }

    fn step(&self, recorded: &mut RecordedSteps, rows: usize) -> Result<(), TensorError> {
        let shape = StepShape {
            rows,
            context_bound: 16,
        };
        let lists = StepLists::default();
        self.backend
            .step_recorded(shape, lists, recorded, || self.add())
    }

    fn sum(&self) -> f32 {
        read(&self.backend, &self.buffers.lock().unwrap()[0])[0]
    }
}

#[test]
fn what_other_threads_queue_is_not_recorded() {
    let Some((_, gpu)) = backends() else { return };
    // Another backend on the same GPU.
    let other = gpu
        .with_gpu_options(GpuOptions {
            deterministic: false,
        })
        .unwrap();
    let (steps, singles) = (Sums::new(&gpu), Sums::new(&other));
    let is_over = AtomicBool::new(false);
    let shapes = 60;
    let alone = thread::scope(|scope| {
        let alone = scope.spawn(|| {
            let mut count = 0;
            while count == 0 || !is_over.load(Ordering::SeqCst) {
                singles.add().unwrap();
                // Memory comes and goes too, and is read.
                let values = random(count, 7);
                assert_eq!(read(&other, &other.vector(&values).unwrap()), values);
                count += 1;
            }
            count
        });
        let mut recorded = RecordedSteps::default();
        for rows in 1..=shapes {
            for _ in 0..3 {
                steps.step(&mut recorded, rows).unwrap();
            }
        }
        is_over.store(true, Ordering::SeqCst);
        assert_eq!(recorded.len(), shapes, "{:?}", recorded.take_failure());
        alone.join().unwrap()
    });
    assert_eq!(steps.sum(), 3.0 * shapes as f32);
    assert_eq!(singles.sum(), alone as f32);
}

#[test]
fn what_was_recorded_on_another_device_is_not_played() {
    let (Some(first), Some(second)) = (emulated(true), emulated(true)) else {
        return;
    };
    let same = first.with_gpu_options(GpuOptions::default()).unwrap();
    let all = [first, second, same].map(|backend| Sums::new(&backend));
    let mut recorded = RecordedSteps::default();
    for (round, sums) in all.iter().cycle().take(9).enumerate() {
        for _ in 0..3 {
            sums.step(&mut recorded, 1).unwrap();
        }
        assert_eq!(sums.sum(), 3.0 * (round / 3 + 1) as f32);
        assert_eq!(recorded.len(), 1, "{:?}", recorded.take_failure());
    }
}

#[test]
fn memory_of_what_was_recorded_lives_as_long() {
    let Some((_, gpu)) = backends() else { return };
    let mut recorded = RecordedSteps::default();
    let before = gpu.gpu_memory().unwrap().unwrap().free_bytes;
    let sums = Sums::new(&gpu);
    (0..2).for_each(|_| sums.step(&mut recorded, 1).unwrap());
    drop(sums);
    // It is played although its buffers have no other owner any more.
    let other = Sums::new(&gpu);
    other.step(&mut recorded, 1).unwrap();
    assert_eq!(other.sum(), 0.0);
    drop((recorded, other));
    assert_eq!(gpu.gpu_memory().unwrap().unwrap().free_bytes, before);
}

#[test]
fn memory_is_asked_for_without_keeping_the_gpu_open() {
    let Some(gpu) = emulated(true) else { return };
    let probe = gpu.gpu_memory_probe().unwrap();
    assert_eq!(probe.memory().unwrap(), gpu.gpu_memory().unwrap());
    let free = || probe.memory().unwrap().unwrap().free_bytes;
    let before = free();
    let held = gpu.zeros(DType::F32, 1 << 18).unwrap();
    assert_eq!(before - free(), 1 << 20);
    drop(held);
    // Another backend on the same GPU.
    let same = gpu.with_gpu_options(GpuOptions::default()).unwrap();
    drop(gpu);
    assert!(probe.memory().unwrap().is_some());
    drop(same);
    assert_eq!(probe.memory().unwrap(), None);
    let processor = Backend::cpu(1).unwrap();
    assert!(processor.gpu_memory_probe().is_none());
}

#[test]
fn recording_is_tried_twice_in_a_row() {
    let Some((_, gpu)) = backends() else { return };
    let sums = Sums::new(&gpu);
    let mut recorded = RecordedSteps::default();
    // A first run that fails has shown nothing.
    gpu.fail_launch_after(0);
    sums.step(&mut recorded, 1).unwrap_err();
    sums.step(&mut recorded, 1).unwrap();
    assert_eq!(recorded.len(), 0);
    // The recording fails, and the step runs as it is; the next recording works.
    gpu.fail_launch_after(0);
    sums.step(&mut recorded, 1).unwrap();
    assert!(recorded.take_failure().unwrap().contains("made to fail"));
    sums.step(&mut recorded, 1).unwrap();
    assert_eq!((recorded.len(), recorded.take_failure()), (1, None));
    // Two failures are enough.
    sums.step(&mut recorded, 2).unwrap();
    for _ in 0..2 {
        gpu.fail_launch_after(0);
        sums.step(&mut recorded, 2).unwrap();
        assert!(recorded.take_failure().is_some());
    }
    sums.step(&mut recorded, 2).unwrap();
    assert_eq!((recorded.len(), recorded.take_failure()), (1, None));
    assert_eq!(sums.sum(), 7.0);
}

#[test]
fn memory_of_another_gpu_is_refused() {
    let (Some(mine), Some(other)) = (emulated(true), emulated(true)) else {
        return;
    };
    #[track_caller]
    fn refused(argument: &str, outcome: Result<(), TensorError>) {
        let message = outcome.unwrap_err().to_string();
        let names_it = message.contains(&format!("`{argument}`"));
        assert!(names_it && message.contains("another GPU"), "{message}");
    }
    let vector = |on: &Backend| on.vector(&[1.0; 64]).unwrap();
    let input = |on: &Backend| on.linear_input(InputFormat::Bf16, 64, 1).unwrap();
    let pack = |on: &Backend| {
        let bytes = vec![0; 64 * 64 * 4];
        let part = WeightView {
            dtype: DType::F32,
            rows: 64,
            cols: 64,
            bytes: &bytes,
        };
        on.pack(&[part], WeightFormat::Bf16).unwrap()
    };
    let cache = |on: &Backend| on.cache(32, 1, 16, KvFormat::F32).unwrap();
    let (x, foreign) = (vector(&mine), vector(&other));
    refused("x", mine.rms_norm(&foreign, &x, 0.0, &mut input(&mine), 1));
    refused(
        "weight",
        mine.rms_norm(&x, &foreign, 0.0, &mut input(&mine), 1),
    );
    refused("out", mine.rms_norm(&x, &x, 0.0, &mut input(&other), 1));
    refused("table", mine.embed(&pack(&other), &[1], &mut vector(&mine)));
    let (w, mut out) = (pack(&mine), vector(&mine));
    refused(
        "w",
        mine.linear(&input(&mine), &pack(&other), None, &mut out, 0..1),
    );
    refused("x", mine.linear(&input(&other), &w, None, &mut out, 0..1));
    refused(
        "bias",
        mine.linear(&input(&mine), &w, Some(&foreign), &mut out, 0..1),
    );
    refused("cache", mine.copy_blocks(&mut cache(&other), 16, &[]));
    let source = cache(&other);
    refused(
        "source",
        mine.copy_blocks_from(&source, &mut cache(&mine), 16, &[]),
    );
    // A backend that shares the GPU shares its memory.
    let same = mine.with_gpu_options(GpuOptions::default()).unwrap();
    same.rms_norm(&x, &vector(&mine), 0.0, &mut input(&same), 1)
        .unwrap();
}

#[test]
fn a_lost_device_says_so_to_every_call() {
    let Some((_, gpu)) = backends() else { return };
    let sums = Sums::new(&gpu);
    let mut recorded = RecordedSteps::default();
    (0..2).for_each(|_| sums.step(&mut recorded, 1).unwrap());
    gpu.lose_device();
    #[track_caller]
    fn lost(outcome: Result<(), TensorError>) {
        let error = outcome.unwrap_err();
        assert!(error.is_device_lost(), "{error}");
        assert!(error.to_string().contains("restart the process"), "{error}");
    }
    lost(sums.add());
    lost(sums.step(&mut recorded, 1));
    lost(sums.step(&mut recorded, 2));
    lost(gpu.vector(&[1.0]).map(drop));
    lost(gpu.zeros(DType::F32, 1).map(drop));
    lost(gpu.gpu_memory().map(drop));
    let buffers = sums.buffers.lock().unwrap();
    lost(gpu.read(&buffers[0], 0..1, &mut [0.0]));
}

#[test]
fn a_cache_that_kernels_cannot_count_is_refused() {
    let Some((_, gpu)) = backends() else { return };
    let error = gpu.cache(1 << 26, 8, 128, KvFormat::Bf16).unwrap_err();
    assert!(error.to_string().contains("64 GiB per layer"), "{error}");
}
