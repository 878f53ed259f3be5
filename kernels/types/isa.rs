//! The instruction sets, and which of them this CPU has.

use core::fmt;
use core::str::FromStr;

use super::Error;

#[cfg(all(feature = "std", isa = "neon"))]
use std::arch::is_aarch64_feature_detected as has;
#[cfg(all(feature = "std", isa = "avx512"))]
use std::arch::is_x86_feature_detected as has;

/// Without `std`, what the compiler was told of the CPU.
#[cfg(all(not(feature = "std"), any(isa = "avx512", isa = "neon")))]
macro_rules! has {
    ($feature:tt) => {
        cfg!(target_feature = $feature)
    };
}

/// An instruction set that kernels are written for.
///
/// All but [`Portable`](Self::Portable) fuse multiply and add into one rounding and give the same
/// bits as each other; `Portable` rounds twice on every target and gives its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Any CPU: the `wide` crate at the target's baseline.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512F.
    Avx512,
    /// AArch64 with Advanced SIMD.
    Neon,
    /// x86-64 with AVX-512F, BW, VL and VNNI: for tensors of 8 bits, with the feature `int8`. Other plans are then for AVX-512.
    Avx512Vnni,
}

impl Isa {
    /// Those of all targets.
    pub const EVERY: [Isa; 5] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Avx512Vnni, Isa::Neon];

    /// The instruction sets compiled in for this target, the preferred one last, less those that are for tensors of 8 bits alone.
    pub const fn all() -> &'static [Isa] {
        &[
            Isa::Portable,
            #[cfg(isa = "avx2")]
            Isa::Avx2,
            #[cfg(isa = "avx512")]
            Isa::Avx512,
            #[cfg(isa = "neon")]
            Isa::Neon,
        ]
    }

    /// The best instruction set that this CPU has for tensors of 8 bits.
    #[cfg(feature = "int8")]
    pub fn detect_int8() -> Isa {
        if Isa::Avx512Vnni.is_available() { Isa::Avx512Vnni } else { Isa::detect() }
    }

    /// The best instruction set that this CPU has, but for tensors of 8 bits.
    pub fn detect() -> Isa {
        let best = Isa::all().iter().rev().find(|isa| isa.is_available());
        best.copied().unwrap_or(Isa::Portable)
    }

    /// Whether this target has kernels for it and this CPU runs them.
    ///
    /// Without the feature `std` this is what the compiler was told of the CPU.
    #[allow(clippy::nonminimal_bool, reason = "without std these are constants")]
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(isa = "avx2")]
            Isa::Avx2 => !cfg!(miri) && has!("avx2") && has!("fma"),
            #[cfg(isa = "avx512")]
            Isa::Avx512 => Isa::Avx2.is_available() && has!("avx512f"),
            #[cfg(all(feature = "int8", isa = "avx512"))]
            Isa::Avx512Vnni => Isa::Avx512.is_available() && has!("avx512bw") && has!("avx512vl") && has!("avx512vnni"),
            #[cfg(isa = "neon")]
            Isa::Neon => !cfg!(miri) && has!("neon"),
            #[allow(unreachable_patterns, reason = "every family is present on some target")]
            _ => false,
        }
    }

    /// Whether this CPU has F16C, the instructions that convert `f16`.
    #[cfg(all(feature = "half", isa = "avx2"))]
    pub(crate) fn has_f16c() -> bool {
        has!("f16c")
    }

    /// Whether this CPU has AVX-512 VBMI, which permutes bytes.
    #[cfg(all(feature = "int8", isa = "avx512"))]
    pub(crate) fn has_vbmi() -> bool {
        has!("avx512vbmi")
    }

    /// Whether a CPU that has this one has the other, of whose kernels its plans may take some.
    pub fn includes(self, other: Isa) -> bool {
        let narrower: &[Isa] = match self {
            Isa::Avx512Vnni => &[Isa::Avx512, Isa::Avx2],
            Isa::Avx512 => &[Isa::Avx2],
            Isa::Portable | Isa::Avx2 | Isa::Neon => &[],
        };
        self == other || narrower.contains(&other)
    }

    /// Its name in lower case, as in `DEPTHWISE_ISA` and in the names of kernels.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
            Isa::Avx512Vnni => "avx512vnni",
        }
    }

    /// The one that plans take whose elements are not of 8 bits.
    #[doc(hidden)]
    pub const fn of_floats(self) -> Isa {
        match self {
            Isa::Avx512Vnni => Isa::Avx512,
            Isa::Portable | Isa::Avx2 | Isa::Avx512 | Isa::Neon => self,
        }
    }

    /// Whether multiply-add rounds once.
    pub const fn is_fused(self) -> bool {
        !matches!(self, Isa::Portable)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Isa {
    type Err = Error;

    /// Takes a name in upper or lower case.
    fn from_str(name: &str) -> Result<Self, Error> {
        Isa::EVERY
            .into_iter()
            .find(|isa| isa.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| Error::UnknownIsa { name: name.into(), from_environment: false })
    }
}
