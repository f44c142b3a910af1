//! The two numbers of a kernel, and the time they take at the limit.

use maitre_tensor::{Limits, WeightFormat};

/// The format that products are taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peak {
    /// f32.
    F32,
    /// bf16, summed in f32.
    Bf16,
    /// 8-bit integers, summed in 32 bits.
    Int8,
}

impl Peak {
    /// That of a product with weights in `format`.
    #[must_use]
    pub fn of(format: WeightFormat) -> Self {
        match format {
            WeightFormat::Bf16 => Self::Bf16,
            WeightFormat::Int8 { .. } | WeightFormat::Int4 { .. } | WeightFormat::Blocks(_) => {
                Self::Int8
            }
            _ => Self::F32,
        }
    }

    fn ops_per_s(self, limits: &Limits) -> f64 {
        match self {
            Self::F32 => limits.f32_flops,
            Self::Bf16 => limits.bf16_flops,
            Self::Int8 => limits.int8_ops,
        }
    }
}

/// What one call of a kernel has to do at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Bytes that have to be read once.
    pub bytes: usize,
    /// Multiplications and additions.
    pub ops: usize,
    /// What limits the operations.
    pub peak: Peak,
}

/// The resource that a kernel needs longest, and how fast it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bound {
    /// Bytes or operations of a call.
    pub(crate) amount: f64,
    /// Of which the machine does so many a second.
    pub(crate) per_s: f64,
    /// What a billion of them a second is called.
    pub(crate) unit: &'static str,
}

impl Bound {
    /// Seconds of a call at the limit.
    pub(crate) fn seconds(&self) -> f64 {
        self.amount / self.per_s
    }
}

impl Work {
    /// The roofline (Williams, Waterman and Patterson 2009): the longer of the time to read the
    /// bytes and the time to do the operations.
    pub(crate) fn bound(&self, limits: &Limits) -> Bound {
        let read = Bound {
            amount: self.bytes as f64,
            per_s: limits.read_bytes_per_s,
            unit: "GB/s",
        };
        let compute = Bound {
            amount: self.ops as f64,
            per_s: self.peak.ops_per_s(limits),
            unit: match self.peak {
                Peak::F32 | Peak::Bf16 => "GFLOP/s",
                Peak::Int8 => "GOP/s",
            },
        };
        if compute.seconds() > read.seconds() {
            compute
        } else {
            read
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slower_resource_is_the_bound() {
        let limits = Limits {
            read_bytes_per_s: 10.0,
            f32_flops: 100.0,
            bf16_flops: 200.0,
            int8_ops: 400.0,
        };
        let bound = |bytes, ops, peak| {
            let bound = Work { bytes, ops, peak }.bound(&limits);
            (bound.seconds(), bound.unit)
        };
        assert_eq!(bound(50, 300, Peak::F32), (5.0, "GB/s"));
        assert_eq!(bound(50, 600, Peak::F32), (6.0, "GFLOP/s"));
        assert_eq!(bound(50, 1600, Peak::Bf16), (8.0, "GFLOP/s"));
        assert_eq!(bound(50, 3600, Peak::Int8), (9.0, "GOP/s"));
        assert_eq!(Peak::of(WeightFormat::INT4), Peak::Int8);
        assert_eq!(Peak::of(WeightFormat::F16), Peak::F32);
    }
}
