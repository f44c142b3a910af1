//! The bridge to candle: its tensors become buffers and packed weights, and back.
//!
//! Every crossing copies. A [`Buffer`] has no shape and its own alignment, and a [`PackedWeight`] its own order, so
//! neither can share memory with a tensor. What crosses keeps its bits, as long as the number format stays the same.
//!
//! | from | to | by |
//! |---|---|---|
//! | tensor of any shape | [`Buffer`], row-major | [`Buffer::from_candle`] |
//! | [`Buffer`] in host memory | tensor `[...]` | [`Buffer::to_candle`] |
//! | matrices `[out, in]` | [`PackedWeight`] | [`Backend::pack_candle`], [`Backend::pack_gated_candle`] |
//! | [`PackedWeight`] | matrix `[out, in]` of f32 | [`Backend::unpack_candle`] |
//!
//! A row of a linear layer, once by candle and once by an operator:
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use maitre_tensor::{Backend, Buffer, DType, WeightFormat};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let weight = Tensor::new(&[[1.0_f32, 0.0, 2.0], [0.0, 1.0, 0.0]], &Device::Cpu)?;
//! let row = Tensor::new(&[[1.0_f32, 2.0, 3.0]], &Device::Cpu)?;
//!
//! let backend = Backend::cpu(1)?;
//! let packed = backend.pack_candle(&[&weight], WeightFormat::F32)?;
//! let mut x = backend.linear_input(packed.input(), 3, 1)?;
//! backend.encode(&Buffer::from_candle(&row)?, &mut x, 1)?;
//! let mut out = Buffer::zeros(DType::F32, 2)?;
//! backend.linear(&x, &packed, None, &mut out, 0..1)?;
//!
//! let ours: Vec<Vec<f32>> = out.to_candle((1, 2))?.to_vec2()?;
//! assert_eq!(ours, row.matmul(&weight.t()?)?.to_vec2::<f32>()?);
//! # Ok(())
//! # }
//! ```

use candle_core::{CpuStorage, Device, Shape, Storage, Tensor, WithDType};
use half::{bf16, f16};

use crate::element::Element;
use crate::{
    Activation, Backend, Buffer, DType, PackedWeight, TensorError, WeightFormat, WeightView,
};

impl Buffer {
    /// A copy of the elements of `tensor`, row-major, in its number format and in host memory. The tensor may lie on
    /// any device of candle's, with any strides.
    ///
    /// # Errors
    ///
    /// [`TensorError::Argument`] unless the tensor is f32, bf16 or f16; [`TensorError::OutOfMemory`];
    /// [`TensorError::Candle`] if its device does not give it.
    pub fn from_candle(tensor: &Tensor) -> Result<Self, TensorError> {
        let dtype = dtype_of(tensor)?;
        let mut buffer = Self::zeros(dtype, tensor.elem_count())?;
        match dtype {
            DType::F32 => copy::<f32>(tensor, &mut buffer)?,
            DType::Bf16 => copy::<bf16>(tensor, &mut buffer)?,
            DType::F16 => copy::<f16>(tensor, &mut buffer)?,
        }
        Ok(buffer)
    }

    /// A tensor in host memory with a copy of this buffer's first elements, as many as `shape` has.
    ///
    /// # Errors
    ///
    /// [`TensorError::Argument`] if the buffer has fewer; [`TensorError::OnDevice`] if it is not in host memory.
    pub fn to_candle(&self, shape: impl Into<Shape>) -> Result<Tensor, TensorError> {
        let shape = shape.into();
        match self.dtype() {
            DType::F32 => tensor_of::<f32>(self, shape),
            DType::Bf16 => tensor_of::<bf16>(self, shape),
            DType::F16 => tensor_of::<f16>(self, shape),
        }
    }
}

impl Backend {
    /// [`Backend::pack`] for matrices `[out, in]` of candle's, such as the weight of its `Linear`.
    ///
    /// # Errors
    ///
    /// As [`Backend::pack`] and [`Buffer::from_candle`]; [`TensorError::Argument`] for a tensor that is no matrix.
    pub fn pack_candle(
        &self,
        parts: &[&Tensor],
        format: WeightFormat,
    ) -> Result<PackedWeight, TensorError> {
        let parts: Vec<Matrix> = parts
            .iter()
            .map(|part| Matrix::new(part))
            .collect::<Result<_, _>>()?;
        let views: Vec<WeightView<'_>> = parts.iter().map(Matrix::view).collect();
        self.pack(&views, format)
    }

    /// [`Backend::pack_gated`] for matrices of candle's.
    ///
    /// # Errors
    ///
    /// As [`Backend::pack_gated`] and [`Backend::pack_candle`].
    pub fn pack_gated_candle(
        &self,
        gate: &Tensor,
        up: &Tensor,
        activation: Activation,
        format: WeightFormat,
    ) -> Result<PackedWeight, TensorError> {
        let (gate, up) = (Matrix::new(gate)?, Matrix::new(up)?);
        self.pack_gated(gate.view(), up.view(), activation, format)
    }

    /// The numbers that `weight` stands for, as an f32 matrix `[out, in]` in host memory: those of all parts below each
    /// other, integers times their scales.
    ///
    /// # Errors
    ///
    /// As [`Backend::embed`] and [`Backend::zeros`].
    pub fn unpack_candle(&self, weight: &PackedWeight) -> Result<Tensor, TensorError> {
        let (rows, cols) = (weight.rows(), weight.cols());
        let count = rows.saturating_mul(cols);
        let mut numbers = self.zeros(DType::F32, count)?;
        let every_row: Vec<u32> = (0..u32::MAX).take(rows).collect();
        self.embed(weight, &every_row, &mut numbers)?;
        let mut out = vec![0.0; count];
        self.read(&numbers, 0..count, &mut out)?;
        Tensor::from_vec(out, (rows, cols), &Device::Cpu).map_err(refused)
    }
}

/// A matrix of candle's, in the order in which a file stores it.
struct Matrix {
    rows: usize,
    cols: usize,
    numbers: Buffer,
}

impl Matrix {
    fn new(tensor: &Tensor) -> Result<Self, TensorError> {
        let (rows, cols) = tensor.dims2().map_err(|_| TensorError::Argument {
            operator: "pack",
            argument: "parts",
            expected: "matrices [out features, in features]".to_owned(),
            actual: format!("of shape {:?}", tensor.dims()),
        })?;
        Ok(Self {
            rows,
            cols,
            numbers: Buffer::from_candle(tensor)?,
        })
    }

    fn view(&self) -> WeightView<'_> {
        WeightView {
            dtype: self.numbers.dtype(),
            rows: self.rows,
            cols: self.cols,
            bytes: self.numbers.memory().as_slice(),
        }
    }
}

fn dtype_of(tensor: &Tensor) -> Result<DType, TensorError> {
    match tensor.dtype() {
        candle_core::DType::F32 => Ok(DType::F32),
        candle_core::DType::BF16 => Ok(DType::Bf16),
        candle_core::DType::F16 => Ok(DType::F16),
        other => Err(TensorError::Argument {
            operator: "from_candle",
            argument: "tensor",
            expected: "of f32, bf16 or f16".to_owned(),
            actual: format!("of {}", other.as_str()),
        }),
    }
}

fn copy<T: Element + WithDType>(tensor: &Tensor, buffer: &mut Buffer) -> Result<(), TensorError> {
    let tensor = tensor.to_device(&Device::Cpu).map_err(refused)?;
    let tensor = tensor.contiguous().map_err(refused)?;
    let (storage, layout) = tensor.storage_and_layout();
    let start = layout.start_offset();
    let elements = match &*storage {
        Storage::Cpu(storage) => CpuStorage::as_slice::<T>(storage).map_err(refused)?,
        _ => return Err(TensorError::OnDevice),
    };
    let elements = &elements[start..start + buffer.len()];
    buffer.elements_mut::<T>()?.copy_from_slice(elements);
    Ok(())
}

fn tensor_of<T: Element + WithDType>(buffer: &Buffer, shape: Shape) -> Result<Tensor, TensorError> {
    let count = shape.elem_count();
    let elements = buffer.elements::<T>()?;
    let elements = elements.get(..count).ok_or_else(|| TensorError::Argument {
        operator: "to_candle",
        argument: "shape",
        expected: format!("of at most {} elements", buffer.len()),
        actual: format!("{:?}", shape.dims()),
    })?;
    Tensor::from_slice(elements, shape, &Device::Cpu).map_err(refused)
}

fn refused(error: candle_core::Error) -> TensorError {
    TensorError::Candle {
        message: error.to_string(),
    }
}
