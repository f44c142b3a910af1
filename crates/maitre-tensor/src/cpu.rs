//! [`CpuPath`]: which instruction set the kernels use.

use std::fmt;
use std::str::FromStr;

use crate::TensorError;
use crate::kernels::Kernels;
use crate::portable;

/// The variable that forces a path, for tests and for comparing them.
const VARIABLE: &str = "MAITRE_CPU";

/// A set of kernels. Results are bit-identical within one path, not between two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CpuPath {
    /// Plain Rust: the specification of the others, and what runs where nothing else does.
    Portable,
    /// x86-64 with AMX for bf16 and bytes, and what [`CpuPath::Avx512`] needs, where the system lets programs use tiles.
    Amx,
    /// x86-64 with AVX-512 F, BW, VL, DQ, VNNI and BF16.
    Avx512,
    /// x86-64 with AVX-512 F, BW, VL, DQ and VNNI.
    Avx512Vnni,
    /// x86-64 with AVX-512 F, BW, VL and DQ.
    Avx512F,
    /// x86-64 with AVX2, FMA, F16C and AVX-VNNI.
    AvxVnni,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// 64-bit ARM with dot products of bytes.
    Neon,
}

impl CpuPath {
    /// Every path, the fastest first.
    pub const ALL: [Self; 8] = [
        Self::Amx,
        Self::Avx512,
        Self::Avx512Vnni,
        Self::Avx512F,
        Self::AvxVnni,
        Self::Avx2,
        Self::Neon,
        Self::Portable,
    ];

    /// The fastest path of this processor.
    #[must_use]
    pub fn detect() -> Self {
        Self::available().next().unwrap_or(Self::Portable)
    }

    /// The paths of this processor, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(|path| path.kernels().is_some())
    }

    /// The path that the environment variable `MAITRE_CPU` forces, else the fastest.
    ///
    /// # Errors
    ///
    /// [`TensorError::UnknownPath`], [`TensorError::UnavailablePath`].
    pub fn from_env() -> Result<Self, TensorError> {
        match std::env::var_os(VARIABLE) {
            None => Ok(Self::detect()),
            Some(name) if name.is_empty() => Ok(Self::detect()),
            Some(name) => {
                let path: Self = name.to_string_lossy().parse()?;
                path.require().map(|_| path)
            }
        }
    }

    /// What a user should know where this path is far from what a processor can do.
    #[must_use]
    pub fn caveat(self) -> Option<&'static str> {
        // Looking for the fastest asks the system for the use of tiles, which is for those who use them.
        match self {
            Self::Portable => self.caveat_beside(Self::detect()),
            _ => None,
        }
    }

    /// As [`CpuPath::caveat`], where `fastest` is the fastest path of the processor.
    fn caveat_beside(self, fastest: Self) -> Option<&'static str> {
        match (self, fastest) {
            (Self::Portable, Self::Portable) if cfg!(target_arch = "x86_64") => Some(
                "this processor lacks AVX2, FMA or F16C: the portable kernels run, several times \
                 slower than those for newer processors",
            ),
            (Self::Portable, Self::Portable) if cfg!(target_arch = "aarch64") => Some(
                "this processor lacks dot products of bytes (ARMv8.2): the portable kernels run, \
                 several times slower than those for newer processors",
            ),
            // For other processors there are no other kernels.
            (Self::Portable, Self::Portable) => None,
            (Self::Portable, _) => Some(
                "MAITRE_CPU asks for the portable kernels, several times slower than those that \
                 this processor can run; unset it",
            ),
            _ => None,
        }
    }

    pub(crate) fn require(self) -> Result<&'static Kernels, TensorError> {
        self.kernels()
            .ok_or(TensorError::UnavailablePath { path: self })
    }

    fn kernels(self) -> Option<&'static Kernels> {
        match self {
            Self::Portable => Some(&portable::KERNELS),
            #[cfg(target_arch = "x86_64")]
            Self::Amx => crate::x86::amx::kernels(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => crate::x86::avx512::kernels(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => crate::x86::avx512::kernels_vnni(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512F => crate::x86::avx512::kernels_f(),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => crate::x86::avx2::kernels_vnni(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => crate::x86::avx2::kernels(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Amx
            | Self::Avx512
            | Self::Avx512Vnni
            | Self::Avx512F
            | Self::AvxVnni
            | Self::Avx2 => None,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => crate::arm::kernels(),
            #[cfg(not(target_arch = "aarch64"))]
            Self::Neon => None,
        }
    }
}

impl fmt::Display for CpuPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Portable => "portable",
            Self::Amx => "amx",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx512F => "avx512-f",
            Self::AvxVnni => "avx-vnni",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
        })
    }
}

impl FromStr for CpuPath {
    type Err = TensorError;

    fn from_str(name: &str) -> Result<Self, TensorError> {
        Self::ALL
            .into_iter()
            .find(|path| path.to_string() == name)
            .ok_or_else(|| TensorError::UnknownPath {
                found: name.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_a_name_and_one_always_works() {
        for path in CpuPath::ALL {
            assert_eq!(path.to_string().parse::<CpuPath>().unwrap(), path);
        }
        assert!(CpuPath::available().any(|path| path == CpuPath::Portable));
        assert!(CpuPath::detect().require().is_ok());
    }

    #[test]
    fn slower_paths_have_a_caveat_that_names_the_cause() {
        for fastest in CpuPath::ALL {
            for path in CpuPath::ALL {
                let is_slow = path == CpuPath::Portable;
                assert!(is_slow || path.caveat_beside(fastest).is_none());
            }
        }
        let forced = CpuPath::Portable.caveat_beside(CpuPath::Avx2).unwrap();
        assert!(forced.contains("MAITRE_CPU"), "{forced}");
        let old = CpuPath::Portable.caveat_beside(CpuPath::Portable);
        let lacks = |what: &str| old.is_some_and(|caveat| caveat.contains(what));
        assert_eq!(lacks("lacks AVX2"), cfg!(target_arch = "x86_64"));
        assert_eq!(lacks("lacks dot products"), cfg!(target_arch = "aarch64"));
    }

    #[test]
    fn an_unknown_path_is_refused_by_name() {
        assert_eq!(
            "sse9".parse::<CpuPath>().unwrap_err().to_string(),
            "MAITRE_CPU is \"sse9\"; known are amx, avx512, avx512-vnni, avx512-f, avx-vnni, avx2, neon and portable"
        );
    }
}
