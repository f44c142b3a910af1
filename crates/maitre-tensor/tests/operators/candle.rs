//! The bridge to candle: what crosses it keeps its bits, and what cannot cross is refused by name.

use candle_core::{DType as CandleDType, Device, Tensor};
use half::{bf16, f16};
use maitre_tensor::{Activation, Backend, Buffer, DType, WeightFormat, WeightView};

use crate::numbers::{FORMATS, backends, bits, linear, noise, unpacked};

/// A matrix of candle's.
fn matrix(values: &[f32], cols: usize) -> Tensor {
    Tensor::from_slice(values, (values.len() / cols, cols), &Device::Cpu).unwrap()
}

fn view(bytes: &[u8], cols: usize) -> WeightView<'_> {
    WeightView {
        dtype: DType::F32,
        rows: bytes.len() / 4 / cols,
        cols,
        bytes,
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn buffers_keep_every_bit_of_a_tensor() {
    let odd = [0x7fc0_1234_u32, 0x8000_0000, 0xff80_0000, 1, 0x3f80_0001, 0];
    let f32s = odd.map(f32::from_bits);
    let tensor = Tensor::from_slice(&f32s, (2, 3), &Device::Cpu).unwrap();
    let buffer = Buffer::from_candle(&tensor).unwrap();
    assert_eq!(bits(buffer.f32s().unwrap()), odd);
    let back = buffer.to_candle((3, 2)).unwrap();
    assert_eq!(back.dims(), [3, 2]);
    let back: Vec<f32> = back.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(bits(&back), odd);

    let bf16s = [0x7fc1_u16, 0x8000, 0xff80, 1].map(bf16::from_bits);
    let tensor = Tensor::from_slice(&bf16s, 4, &Device::Cpu).unwrap();
    let buffer = Buffer::from_candle(&tensor).unwrap();
    assert_eq!(buffer.dtype(), DType::Bf16);
    let back: Vec<bf16> = buffer.to_candle(4).unwrap().to_vec1().unwrap();
    assert_eq!(back.map_bits(bf16::to_bits), bf16s.map_bits(bf16::to_bits));

    let f16s = [0x7e01_u16, 0x8000, 0xfc00, 1].map(f16::from_bits);
    let tensor = Tensor::from_slice(&f16s, 4, &Device::Cpu).unwrap();
    let buffer = Buffer::from_candle(&tensor).unwrap();
    assert_eq!(buffer.dtype(), DType::F16);
    let back: Vec<f16> = buffer.to_candle(4).unwrap().to_vec1().unwrap();
    assert_eq!(back.map_bits(f16::to_bits), f16s.map_bits(f16::to_bits));
}

trait Bits<T> {
    fn map_bits(&self, bits: fn(T) -> u16) -> Vec<u16>;
}

impl<T: Copy, V: AsRef<[T]>> Bits<T> for V {
    fn map_bits(&self, bits: fn(T) -> u16) -> Vec<u16> {
        self.as_ref().iter().copied().map(bits).collect()
    }
}

#[test]
fn views_cross_in_the_order_in_which_they_read() {
    let tensor = matrix(&[0., 1., 2., 3., 4., 5.], 3);
    for (view, expected) in [
        (tensor.t().unwrap(), vec![0., 3., 1., 4., 2., 5.]),
        (tensor.narrow(0, 1, 1).unwrap(), vec![3., 4., 5.]),
        (tensor.narrow(1, 1, 2).unwrap(), vec![1., 2., 4., 5.]),
        (tensor.narrow(1, 2, 0).unwrap(), vec![]),
    ] {
        let buffer = Buffer::from_candle(&view).unwrap();
        assert_eq!(buffer.f32s().unwrap(), expected);
    }
}

#[test]
fn a_tensor_takes_the_first_elements_of_a_workspace() {
    let buffer = Buffer::from_f32s(&[1.0, 2.0, 3.0]).unwrap();
    let tensor = buffer.to_candle((1, 2)).unwrap();
    assert_eq!(tensor.to_vec2::<f32>().unwrap(), [[1.0, 2.0]]);
    let error = buffer.to_candle((2, 2)).unwrap_err().to_string();
    assert!(
        error.contains("at most 3 elements") && error.contains("[2, 2]"),
        "{error}"
    );
}

#[test]
fn a_weight_of_candle_is_packed_as_one_of_a_file() {
    let cols = 128;
    let (upper, lower) = (noise(1, 3 * cols), noise(2, 18 * cols));
    let x = noise(3, 5 * cols);
    let (upper_bytes, lower_bytes) = (bytes(&upper), bytes(&lower));
    let from_file = [view(&upper_bytes, cols), view(&lower_bytes, cols)];
    let lower = matrix(&lower, cols);
    // The same numbers, columns first in memory.
    let lower = lower.t().unwrap().contiguous().unwrap().t().unwrap();
    for backend in backends(2) {
        for format in FORMATS {
            let expected = backend.pack(&from_file, format).unwrap();
            let parts = [&matrix(&upper, cols), &lower];
            let packed = backend.pack_candle(&parts, format).unwrap();
            let run = |weight| bits(&linear(&backend, &x, weight, None));
            assert_eq!(run(&packed), run(&expected), "{format:?}");
            let numbers = backend.unpack_candle(&packed).unwrap();
            assert_eq!(numbers.dims(), [21, cols]);
            let numbers: Vec<f32> = numbers.flatten_all().unwrap().to_vec1().unwrap();
            assert_eq!(bits(&numbers), bits(&unpacked(&expected)), "{format:?}");
        }
    }
}

#[test]
fn a_gated_weight_is_unpacked_as_gate_and_up() {
    let (gate, up) = (
        matrix(&noise(1, 20 * 32), 32),
        matrix(&noise(2, 20 * 32), 32),
    );
    let backend = Backend::cpu(1).unwrap();
    let packed = backend
        .pack_gated_candle(&gate, &up, Activation::Silu, WeightFormat::F32)
        .unwrap();
    assert!(packed.is_gated());
    let expected = Tensor::cat(&[&gate, &up], 0).unwrap();
    let numbers = backend.unpack_candle(&packed).unwrap();
    assert_eq!(
        numbers.to_vec2::<f32>().unwrap(),
        expected.to_vec2::<f32>().unwrap()
    );
}

#[test]
fn what_cannot_cross_is_refused_by_name() {
    let integers = Tensor::zeros((2, 2), CandleDType::U32, &Device::Cpu).unwrap();
    let error = Buffer::from_candle(&integers).unwrap_err().to_string();
    assert!(
        error.contains("f32, bf16 or f16") && error.contains("u32"),
        "{error}"
    );
    let vector = Tensor::zeros(4, CandleDType::F32, &Device::Cpu).unwrap();
    let backend = Backend::cpu(1).unwrap();
    let error = backend.pack_candle(&[&vector], WeightFormat::F32);
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("[out features, in features]") && error.contains("[4]"),
        "{error}"
    );
}
