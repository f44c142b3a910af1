//! The functions by which one half of a projection gates the other.

use std::fmt;

/// How a gate opens: the result is `activation(gate) * up`, number by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// `x / (1 + e^-x)` (SwiGLU: Shazeer 2020, arXiv 2002.05202).
    Silu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`, the usual approximation of GELU (Hendrycks and Gimpel
    /// 2016, arXiv 1606.08415, section 2).
    GeluTanh,
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Silu => "silu",
            Self::GeluTanh => "gelu-tanh",
        })
    }
}
