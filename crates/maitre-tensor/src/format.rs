//! How weights are stored, and in which form they want their input.

use std::fmt;
use std::str::FromStr;

use crate::{BlockFormat, DType, TensorError};

use crate::weight::blocks::{BlockLayout, UNIT};
use crate::weight::layout::LANES;

/// Input features that share a scale in [`WeightFormat::Int4`] unless something else is asked for.
const INT4_GROUP: usize = 64;

/// How the numbers of a weight matrix are stored.
///
/// The floating-point formats keep what the file has (or its nearest neighbour). The integer
/// formats are made from it at load: weights are rounded to a grid of `2^bits` steps, and the
/// activations they meet to int8 with one scale per token. Stored blocks were rounded when the file
/// was made, and are not rounded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightFormat {
    /// Single precision, for references.
    F32,
    /// Half precision; products with f32 activations.
    F16,
    /// bfloat16; activations are rounded to bfloat16 too.
    Bf16,
    /// One byte per weight and a scale per output feature (symmetric, 255 steps).
    Int8 {
        /// Input features that share an activation scale; `None` is one scale per token. Groups
        /// contain the damage that a few outlying channels do to all others.
        activation_group: Option<usize>,
    },
    /// Half a byte per weight, with a scale and a zero point per output feature and group of input
    /// features (asymmetric, 16 steps). Activation scales are per group too: they cost nothing
    /// where sums end at each group anyway.
    Int4 {
        /// Input features per group: 32, 64 or 128.
        group: usize,
    },
    /// The blocks of a GGUF file, bit for bit, with an activation scale per 32 input features. Made by
    /// [`Backend::pack_blocks`](crate::Backend::pack_blocks) alone: no other weights are rounded to them.
    Blocks(BlockFormat),
}

/// The form in which a weight format reads its input; see [`LinearInput`](crate::LinearInput).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InputFormat {
    /// As computed.
    F32,
    /// Rounded to bfloat16.
    Bf16,
    /// Rounded to 255 steps.
    Int8 {
        /// Input features that share a scale; `None` is one scale per token.
        group: Option<usize>,
    },
}

impl WeightFormat {
    /// Group sizes that the kernels know.
    pub const GROUPS: [usize; 3] = [32, 64, 128];

    /// One scale per output feature and per token.
    pub const INT8: Self = Self::Int8 {
        activation_group: None,
    };

    /// Groups of 64.
    pub const INT4: Self = Self::Int4 { group: INT4_GROUP };

    /// The form in which these weights read their input.
    #[must_use]
    pub const fn input(self) -> InputFormat {
        match self {
            Self::F32 | Self::F16 => InputFormat::F32,
            Self::Bf16 => InputFormat::Bf16,
            Self::Int8 { activation_group } => InputFormat::Int8 {
                group: activation_group,
            },
            Self::Int4 { group } => InputFormat::Int8 { group: Some(group) },
            Self::Blocks(_) => InputFormat::Int8 { group: Some(UNIT) },
        }
    }

    /// Whether weights are integers with scales.
    #[must_use]
    pub const fn is_quantized(self) -> bool {
        matches!(
            self,
            Self::Int8 { .. } | Self::Int4 { .. } | Self::Blocks(_)
        )
    }

    /// Bits that a weight takes, its share of scales and zero points included, in a matrix with
    /// many input features.
    #[must_use]
    pub fn bits_per_weight(self) -> f64 {
        match self {
            Self::F32 => 32.0,
            Self::F16 | Self::Bf16 => 16.0,
            Self::Int8 { .. } => 8.0,
            // One cache line per 16 output features and group: see `weight::layout`.
            Self::Int4 { group } => 4.0 + 32.0 / group as f64,
            Self::Blocks(format) => {
                let bytes = BlockLayout::of(format).block_bytes();
                (8 * bytes) as f64 / (LANES * format.block_len()) as f64
            }
        }
    }

    /// # Errors
    ///
    /// [`TensorError::GroupSize`] for a group the kernels do not know.
    pub(crate) fn validate(self) -> Result<(), TensorError> {
        match self {
            Self::Int4 { group }
            | Self::Int8 {
                activation_group: Some(group),
            } if !Self::GROUPS.contains(&group) => Err(TensorError::GroupSize { group }),
            _ => Ok(()),
        }
    }
}

impl From<DType> for WeightFormat {
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Self::F32,
            DType::Bf16 => Self::Bf16,
            DType::F16 => Self::F16,
        }
    }
}

impl fmt::Display for WeightFormat {
    /// `f32`, `f16`, `bf16`, `int8`, `int8-g64`, `int4` (groups of 64), `int4-g32`: what
    /// [`FromStr`] reads. Stored blocks have llama.cpp's names, which it does not: nothing can be converted to them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.pad("f32"),
            Self::F16 => f.pad("f16"),
            Self::Bf16 => f.pad("bf16"),
            Self::Int8 {
                activation_group: None,
            } => f.pad("int8"),
            Self::Int8 {
                activation_group: Some(group),
            } => f.pad(&format!("int8-g{group}")),
            Self::Int4 { group: INT4_GROUP } => f.pad("int4"),
            Self::Int4 { group } => f.pad(&format!("int4-g{group}")),
            Self::Blocks(format) => format.fmt(f),
        }
    }
}

impl fmt::Display for InputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.pad("f32"),
            Self::Bf16 => f.pad("bf16"),
            Self::Int8 { group: None } => f.pad("int8"),
            Self::Int8 { group: Some(group) } => f.pad(&format!("int8-g{group}")),
        }
    }
}

impl FromStr for WeightFormat {
    type Err = TensorError;

    fn from_str(text: &str) -> Result<Self, TensorError> {
        let unknown = || TensorError::UnknownFormat {
            found: text.to_owned(),
        };
        let (name, group) = match text.split_once("-g") {
            Some((name, group)) => (name, Some(group.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        let format = match (name, group) {
            ("f32", None) => Self::F32,
            ("f16", None) => Self::F16,
            ("bf16", None) => Self::Bf16,
            ("int8", activation_group) => Self::Int8 { activation_group },
            ("int4", None) => Self::INT4,
            ("int4", Some(group)) => Self::Int4 { group },
            _ => return Err(unknown()),
        };
        format.validate().map(|()| format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for name in [
            "f32",
            "f16",
            "bf16",
            "int8",
            "int8-g32",
            "int4",
            "int4-g32",
            "int4-g128",
        ] {
            let format: WeightFormat = name.parse().unwrap();
            assert_eq!(format.to_string(), name);
        }
        assert_eq!(
            "int4-g64".parse::<WeightFormat>().unwrap(),
            WeightFormat::INT4
        );
    }

    #[test]
    fn unknown_names_and_groups_say_what_is_known() {
        for (name, expected) in [
            (
                "int2",
                "unknown weight format \"int2\"; known are f32, f16, bf16, int8, int8-gN, int4 and int4-gN with N 32, 64 or 128",
            ),
            ("bf16-g32", "unknown weight format \"bf16-g32\""),
            ("int4-gx", "unknown weight format \"int4-gx\""),
            (
                "int4-g48",
                "groups of 48 input features are not supported; use 32, 64 or 128",
            ),
        ] {
            let message = name.parse::<WeightFormat>().unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
