//! What weights and the KV cache are kept in, by the names of `--dtype` and `--kv-dtype`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ModelShape;
use crate::SimError;

/// What numbers the products with weights are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProductFormat {
    /// bf16; weights of fewer bits are widened first.
    #[default]
    Bf16,
    /// fp8, on hardware that has it.
    Fp8,
    /// int8, on hardware that has it.
    Int8,
}

impl ProductFormat {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Int8 => "int8",
        }
    }
}

/// What weights are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightDtype {
    /// 16 bits.
    Bf16,
    /// 8 bits with a scale for each output; products in fp8.
    Fp8,
    /// 8 bits with a scale for each output; products in int8.
    Int8,
    /// 4 bits with a scale and a zero point for each 128 weights; products in bf16.
    Int4,
    /// 4 bits with a scale for each 32 weights (OCP Microscaling 1.0); products in bf16.
    Mxfp4,
    /// GGUF: 32 weights in 34 bytes.
    Q8_0,
    /// GGUF: 256 weights in 210 bytes.
    Q6K,
    /// GGUF: 256 weights in 176 bytes.
    Q5K,
    /// GGUF: 256 weights in 144 bytes.
    Q4K,
    /// GGUF: 32 weights in 18 bytes.
    Q4_0,
}

impl WeightDtype {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Bf16,
        Self::Fp8,
        Self::Int8,
        Self::Int4,
        Self::Mxfp4,
        Self::Q8_0,
        Self::Q6K,
        Self::Q5K,
        Self::Q4K,
        Self::Q4_0,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Mxfp4 => "mxfp4",
            Self::Q8_0 => "q8_0",
            Self::Q6K => "q6_k",
            Self::Q5K => "q5_k",
            Self::Q4K => "q4_k",
            Self::Q4_0 => "q4_0",
        }
    }

    /// Bits of a weight, scales and zero points included.
    #[must_use]
    pub fn bits(self) -> f64 {
        match self {
            Self::Bf16 => 16.0,
            Self::Fp8 | Self::Int8 => 8.0,
            Self::Int4 => 4.0 + 32.0 / 128.0,
            Self::Mxfp4 => 4.0 + 8.0 / 32.0,
            Self::Q8_0 => 34.0 * 8.0 / 32.0,
            Self::Q6K => 210.0 * 8.0 / 256.0,
            Self::Q5K => 176.0 * 8.0 / 256.0,
            Self::Q4K => 144.0 * 8.0 / 256.0,
            Self::Q4_0 => 18.0 * 8.0 / 32.0,
        }
    }

    /// What products with such weights are computed in.
    #[must_use]
    pub fn products(self) -> ProductFormat {
        match self {
            Self::Fp8 => ProductFormat::Fp8,
            Self::Int8 => ProductFormat::Int8,
            _ => ProductFormat::Bf16,
        }
    }

    /// The model with its layers in this format. Embedding and output matrix stay in bf16, as quantized checkpoints have them; in
    /// GGUF files of fewer bits than Q6_K they are Q6_K, as llama.cpp makes them.
    #[must_use]
    pub fn applied_to(self, shape: &ModelShape) -> ModelShape {
        let mut shape = shape.clone();
        shape.bytes_per_weight = self.bits() / 8.0;
        if let Some(experts) = &mut shape.experts {
            experts.bytes_per_weight = None;
        }
        shape.bytes_per_output_weight = match self {
            Self::Q8_0 | Self::Q6K => None,
            Self::Q5K | Self::Q4K | Self::Q4_0 => Some(Self::Q6K.bits() / 8.0),
            _ => Some(2.0),
        };
        shape
    }
}

impl fmt::Display for WeightDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for WeightDtype {
    type Err = SimError;

    fn from_str(name: &str) -> Result<Self, SimError> {
        let found = Self::ALL.into_iter().find(|it| it.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            SimError::setting("the format of weights", name, names)
        })
    }
}

/// What keys and values are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KvDtype {
    /// 16 bits.
    Bf16,
    /// 8 bits.
    Fp8,
    /// 8 bits, and a scale of 4 bytes for each token and head.
    Int8,
}

impl KvDtype {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bf16, Self::Fp8, Self::Int8];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Int8 => "int8",
        }
    }

    /// Bytes of a number, with heads of this width.
    #[must_use]
    pub fn bytes(self, head_dim: u32) -> f64 {
        match self {
            Self::Bf16 => 2.0,
            Self::Fp8 => 1.0,
            Self::Int8 => 1.0 + 4.0 / f64::from(head_dim.max(1)),
        }
    }

    /// The model with its keys and values in this format.
    #[must_use]
    pub fn applied_to(self, shape: &ModelShape) -> ModelShape {
        ModelShape {
            bytes_per_kv_number: self.bytes(shape.head_dim),
            ..shape.clone()
        }
    }
}

impl FromStr for KvDtype {
    type Err = SimError;

    fn from_str(name: &str) -> Result<Self, SimError> {
        let found = Self::ALL.into_iter().find(|it| it.name() == name);
        found
            .ok_or_else(|| SimError::setting("the format of the KV cache", name, "bf16, fp8, int8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_found_by_name() {
        for dtype in WeightDtype::ALL {
            assert_eq!(dtype.name().parse::<WeightDtype>().unwrap(), dtype);
        }
        for dtype in KvDtype::ALL {
            assert_eq!(dtype.name().parse::<KvDtype>().unwrap(), dtype);
        }
        let said = "int3".parse::<WeightDtype>().unwrap_err().to_string();
        assert!(
            said.contains("int3") && said.contains("int4, mxfp4"),
            "{said}"
        );
    }

    /// By hand: 6,945,767,424 weights in layers, 622,329,856 in each of embedding and output matrix.
    #[test]
    fn bytes_of_a_quantized_model_by_hand() {
        let shape = ModelShape::known("qwen3-8b").unwrap();
        let bytes = |dtype: WeightDtype| dtype.applied_to(&shape).weight_bytes();
        assert_eq!(
            shape.weight_bytes(),
            2.0 * (6_945_767_424.0 + 2.0 * 622_329_856.0)
        );
        assert_eq!(
            bytes(WeightDtype::Fp8),
            6_945_767_424.0 + 4.0 * 622_329_856.0
        );
        assert_eq!(
            bytes(WeightDtype::Q4K),
            6_945_767_424.0 * 0.5625 + 2.0 * 622_329_856.0 * 0.820_312_5
        );
        let kv = KvDtype::Int8.applied_to(&shape).kv_bytes_per_token();
        assert_eq!(kv, 2.0 * 36.0 * 8.0 * (128.0 + 4.0));
    }
}
