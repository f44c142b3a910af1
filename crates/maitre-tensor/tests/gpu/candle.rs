//! The bridge to candle, from and to a GPU's memory.

use candle_core::{Device, Tensor};
use maitre_tensor::{TensorError, WeightFormat};

use crate::{emulated, random};

#[test]
fn weights_cross_and_buffers_are_read_first() {
    let Some(backend) = emulated(true) else {
        return;
    };
    let weight = Tensor::from_slice(&random(1, 20 * 32), (20, 32), &Device::Cpu).unwrap();
    let packed = backend.pack_candle(&[&weight], WeightFormat::F32).unwrap();
    let numbers = backend.unpack_candle(&packed).unwrap();
    assert_eq!(
        numbers.to_vec2::<f32>().unwrap(),
        weight.to_vec2::<f32>().unwrap()
    );
    let buffer = backend.vector(&[1.0]).unwrap();
    let error = buffer.to_candle(1).unwrap_err();
    assert!(matches!(error, TensorError::OnDevice), "{error}");
}
