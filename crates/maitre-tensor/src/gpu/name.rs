//! What a device is called on a command line.

use std::fmt;
use std::str::FromStr;

use crate::TensorError;

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceName {
    /// The first GPU if this program can use one, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(usize),
    /// The GPU's kernels, run on the processor: thousands of times slower, for tests.
    Emulator,
}

impl fmt::Display for DeviceName {
    /// What [`FromStr`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Cpu => f.pad("cpu"),
            Self::Cuda(ordinal) => f.pad(&format!("cuda:{ordinal}")),
            Self::Emulator => f.pad("emulator"),
        }
    }
}

impl FromStr for DeviceName {
    type Err = TensorError;

    fn from_str(text: &str) -> Result<Self, TensorError> {
        let unknown = || TensorError::UnknownDevice {
            found: text.to_owned(),
        };
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            "emulator" => Ok(Self::Emulator),
            _ => {
                let ordinal = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                let is_number = !ordinal.is_empty() && ordinal.bytes().all(|b| b.is_ascii_digit());
                let number = ordinal.parse().ok().filter(|_| is_number);
                number.map(Self::Cuda).ok_or_else(unknown)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for text in ["auto", "cpu", "cuda:0", "cuda:7", "emulator"] {
            assert_eq!(text.parse::<DeviceName>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse::<DeviceName>().unwrap(), DeviceName::Cuda(0));
    }

    #[test]
    fn unknown_names_say_what_is_known() {
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "CPU"] {
            let error = text.parse::<DeviceName>().unwrap_err().to_string();
            assert!(error.contains("auto, cpu, cuda, cuda:N"), "{error}");
        }
    }
}
