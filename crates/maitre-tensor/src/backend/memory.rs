//! Memory in which a backend's operators work: the host's, or its GPU's.

use std::ops::Range;

use super::Backend;
use crate::gpu::{Device, DeviceBytes, check_cells};
use crate::input::InputShape;
use crate::memory::Memory;
use crate::{Buffer, DType, InputFormat, KvFormat, LayerCache, LinearInput, TensorError};

impl Backend {
    /// `len` zeros where this backend computes.
    ///
    /// # Errors
    ///
    /// As [`Buffer::zeros`]; [`TensorError::DeviceMemory`] if a GPU has too little.
    pub fn zeros(&self, dtype: DType, len: usize) -> Result<Buffer, TensorError> {
        let Some(device) = self.device() else {
            return Buffer::zeros(dtype, len);
        };
        let bytes = len
            .checked_mul(dtype.size_in_bytes())
            .ok_or(TensorError::OutOfMemory { len, dtype })?;
        let memory = Memory::Device(device.zeroed(bytes)?);
        Ok(Buffer::from_memory(memory, dtype, len))
    }

    /// A copy of `values` where this backend computes, as [`DType::F32`].
    ///
    /// # Errors
    ///
    /// As [`Backend::zeros`].
    pub fn vector(&self, values: &[f32]) -> Result<Buffer, TensorError> {
        if self.device().is_none() {
            return Buffer::from_f32s(values);
        }
        let mut buffer = self.zeros(DType::F32, values.len())?;
        self.write(values, &mut buffer)?;
        Ok(buffer)
    }

    /// Overwrites the first elements of an f32 buffer.
    ///
    /// # Errors
    ///
    /// [`TensorError::Argument`] if there are more values than elements or the buffer is not f32.
    pub fn write(&self, values: &[f32], buffer: &mut Buffer) -> Result<(), TensorError> {
        check_elements(buffer, 0..values.len())?;
        match buffer.memory_mut() {
            Memory::Device(bytes) => {
                let words: Vec<u8> = values.iter().flat_map(|it| it.to_le_bytes()).collect();
                bytes.upload(0, &words)
            }
            Memory::Host(bytes) => {
                bytes.as_mut_slice()[..values.len()].copy_from_slice(values);
                Ok(())
            }
        }
    }

    /// Copies elements `range` of an f32 buffer to `out`, wherever they lie. On a GPU that waits for
    /// everything before it.
    ///
    /// # Errors
    ///
    /// [`TensorError::Argument`] if the buffer is not f32 or has no such elements, or `out` another length;
    /// [`TensorError::Device`] for what has gone wrong on the GPU so far.
    pub fn read(
        &self,
        buffer: &Buffer,
        range: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), TensorError> {
        check_elements(buffer, range.clone())?;
        if out.len() != range.len() {
            return Err(TensorError::Argument {
                operator: "read",
                argument: "out",
                expected: format!("{} elements", range.len()),
                actual: format!("{}", out.len()),
            });
        }
        match buffer.memory() {
            Memory::Device(bytes) => download_f32s(bytes, range.start, out),
            Memory::Host(bytes) => {
                out.copy_from_slice(&bytes.as_slice()[range]);
                Ok(())
            }
        }
    }

    /// Space for `rows` rows of `cols` features, in a form that this backend's weights read:
    /// [`PackedWeight::input`](crate::PackedWeight::input).
    ///
    /// # Errors
    ///
    /// As [`LinearInput::new`]; [`TensorError::NotOnGpu`] for int8 rows on a GPU, whose weights read bf16.
    pub fn linear_input(
        &self,
        format: InputFormat,
        cols: usize,
        rows: usize,
    ) -> Result<LinearInput, TensorError> {
        let Some(device) = self.device() else {
            return LinearInput::new(format, cols, rows);
        };
        if let InputFormat::Int8 { .. } = format {
            return Err(TensorError::NotOnGpu {
                operator: "linear_input",
                found: format!("{format} activations"),
                instead: "bf16, which weights of every integer format read there".to_owned(),
            });
        }
        let shape = InputShape::on_device(format, cols);
        let bytes = rows
            .checked_mul(shape.words)
            .and_then(|words| words.checked_mul(size_of::<u32>()))
            .ok_or(TensorError::Reserve {
                what: "activations",
                bytes: usize::MAX,
            })?;
        let words = device.zeroed(bytes)?;
        Ok(LinearInput::on_device(
            words,
            device.zeroed(0)?,
            shape,
            rows,
        ))
    }

    /// The first `rows` rows as f32 numbers in host memory, wherever they lie.
    ///
    /// # Errors
    ///
    /// As [`LinearInput::decode`]; [`TensorError::Device`].
    pub fn decode(&self, input: &LinearInput, rows: usize) -> Result<Buffer, TensorError> {
        let Memory::Device(bytes) = input.memory() else {
            return input.decode(rows);
        };
        let (rows, shape) = (rows.min(input.rows()), input.shape());
        let mut words = vec![0; rows * shape.words * size_of::<u32>()];
        bytes.download(0, &mut words)?;
        let mut host = LinearInput::new(shape.format, shape.cols, rows)?;
        host.fill(&words, shape.words);
        host.decode(rows)
    }

    /// Bytes that keys and values of one token take in one layer of this backend's caches.
    #[must_use]
    pub fn kv_bytes_per_token(&self, kv_heads: usize, head_dim: usize, format: KvFormat) -> usize {
        let head_dim = match self.device() {
            None => head_dim,
            Some(_) => head_dim.next_multiple_of(16),
        };
        format.bytes_per_token(kv_heads, head_dim)
    }

    /// A cache where this backend computes; as [`LayerCache::new`].
    ///
    /// # Errors
    ///
    /// As [`LayerCache::new`]; [`TensorError::DeviceMemory`] if a GPU has too little, [`TensorError::Argument`] for
    /// 64 GiB or more, which its kernels can't count.
    pub fn cache(
        &self,
        slots: usize,
        kv_heads: usize,
        head_dim: usize,
        format: KvFormat,
    ) -> Result<LayerCache, TensorError> {
        let Some(device) = self.device() else {
            return LayerCache::new(slots, kv_heads, head_dim, format);
        };
        LayerCache::in_rows(slots, kv_heads, head_dim, format, |bytes| {
            check_cells("cache", bytes)?;
            Ok(Memory::Device(device.zeroed(bytes)?))
        })
    }

    /// A cache in host memory whose blocks can be copied to and from those of [`Backend::cache`].
    ///
    /// # Errors
    ///
    /// As [`LayerCache::new`].
    pub fn host_cache(
        &self,
        slots: usize,
        kv_heads: usize,
        head_dim: usize,
        format: KvFormat,
    ) -> Result<LayerCache, TensorError> {
        if self.device().is_none() {
            return LayerCache::new(slots, kv_heads, head_dim, format);
        }
        LayerCache::in_rows(slots, kv_heads, head_dim, format, |bytes| {
            let refused = || TensorError::CacheMemory {
                slots,
                kv_heads,
                head_dim,
                format,
            };
            let bytes = crate::aligned::AlignedBytes::zeroed(bytes).ok_or_else(refused)?;
            Ok(Memory::Host(bytes))
        })
    }

    /// The GPU's side of it, if it has one.
    pub(crate) fn device(&self) -> Option<&Device> {
        self.inner.device.as_ref()
    }
}

fn check_elements(buffer: &Buffer, range: Range<usize>) -> Result<(), TensorError> {
    if buffer.dtype() == DType::F32 && range.start <= range.end && range.end <= buffer.len() {
        return Ok(());
    }
    Err(TensorError::Argument {
        operator: "read or write",
        argument: "buffer",
        expected: format!("f32 elements {range:?}"),
        actual: super::check::describe(buffer).to_string(),
    })
}

/// `out.len()` numbers from the `first` on.
fn download_f32s(bytes: &DeviceBytes, first: usize, out: &mut [f32]) -> Result<(), TensorError> {
    let mut words = vec![0; size_of_val(out)];
    bytes.download(first * size_of::<f32>(), &mut words)?;
    let (words, _) = words.as_chunks();
    for (number, word) in out.iter_mut().zip(words) {
        *number = f32::from_le_bytes(*word);
    }
    Ok(())
}
