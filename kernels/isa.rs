//! The instruction sets, and which of them this CPU has.

use core::fmt;
use core::str::FromStr;

use crate::error::Error;

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
}

impl Isa {
    /// Those of all targets.
    pub(crate) const EVERY: [Isa; 4] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Neon];

    /// The instruction sets compiled in for this target, the preferred one last.
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

    /// The best instruction set that this CPU has.
    pub fn detect() -> Isa {
        let best = Isa::all().iter().rev().find(|isa| isa.is_available());
        best.copied().unwrap_or(Isa::Portable)
    }

    /// Whether this target has kernels for it and this CPU runs them.
    ///
    /// Without the feature `std` this is what the compiler was told of the CPU.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(isa = "avx2")]
            Isa::Avx2 => super::avx2::is_available(),
            #[cfg(isa = "avx512")]
            Isa::Avx512 => super::avx512::is_available(),
            #[cfg(isa = "neon")]
            Isa::Neon => super::neon::is_available(),
            #[allow(unreachable_patterns, reason = "every family is present on some target")]
            _ => false,
        }
    }

    /// Whether a CPU that has this one has the other, of whose kernels its plans may take some.
    pub(crate) fn includes(self, other: Isa) -> bool {
        self == other || (self, other) == (Isa::Avx512, Isa::Avx2)
    }

    /// Whether this CPU's cores need the larger of two tiles to be busy.
    pub(crate) fn prefers_large_tiles(self) -> bool {
        match self {
            #[cfg(isa = "neon")]
            Isa::Neon => super::neon::has_wide_cores(),
            _ => true,
        }
    }

    /// The instruction set, this one or one that it includes, whose vectors so many channels of a depthwise convolution fill best,
    /// channels last. Where AVX-512's are computed in halves, few that end in half of one are left to AVX2. (Zen 4, 80×80: of 8
    /// channels 3×3 takes 12.5 µs instead of 16.7 µs, at stride 2 4.4 and 9.1 µs, 5×5 25 and 49 µs; of 24 33 and 36 µs, but of a map
    /// of 20×20 2.46 and 2.34 µs, at stride 2 11.5 and 14.9 µs, 5×5 76 and 96 µs; of 40 5×5 133 and 145 µs, but at stride 2 45 and
    /// 41 µs.)
    pub(crate) fn filled_by(self, channels: usize, kernel_size: usize, stride: usize) -> Isa {
        let few = match (kernel_size, stride) {
            (..=3, 1) => 8,
            (_, 1) => 40,
            _ => 24,
        };
        match self {
            Isa::Avx512 if has_halved_vectors() && channels <= few && (1..=8).contains(&(channels % 16)) => Isa::Avx2,
            _ => self,
        }
    }

    /// Which of the depthwise kernels of one shape is the fastest, channels last: 0, the first, a tile; 1, the second, a larger tile or
    /// a strip; 2, the third, whose channels take turns. Where there are fewer, the last of them.
    ///
    /// AVX2: turns where pixels share cache sets (measured on a Zen 4, where AVX-512 is better still: 14×14×512 26 µs instead of 36 µs,
    /// 7×7×1024 14 and 35 µs, at stride 2 28×28×256 17 and 23 µs, 14×14×512 8.9 and 20 µs; but 256 channels at stride 1 no faster, and
    /// 112×112×64 at stride 2 74 and 66 µs). At stride 2 a large tile's patch of pixels 512 B apart evicts itself from the first-level
    /// cache (Zen 5), and so does a strip of rows a multiple of 2 KB apart, as those of large maps are with such numbers of channels
    /// (Zen 3: 5×5 at 56×56×128 394 µs instead of 281 µs, but at 28×28×240 119 µs instead of 135 µs).
    ///
    /// AVX-512 at stride 2: with few channels maps are large, and their rows come from afar; there a small tile's few streams of
    /// addresses are what hardware prefetches best (Zen 4: than strips whose channels do not take turns, up to 192). Where pixels
    /// share cache sets, tiles touch fewer lines at a time than strips do, which decides on Zen 5 (28×28×256 22 µs instead of 42 µs,
    /// 14×14×512 10.7 µs instead of 27 µs, at stride 2 8.6 µs instead of 14 µs and 5.3 µs instead of 7.0 µs).
    ///
    /// AVX-512 on Zen 4: at stride 2 turns (56×56×64 11.5 µs instead of the tiles' 12.7 µs, 28×28×32 1.55 and 1.83 µs, 116 channels
    /// at 20×20 3.8 and 4.2 µs), but tiles where few channels leave a vector in part (80×80×58 36.5 µs, turns 40 µs). At stride 1
    /// turns where pixels are 4 kB apart: 10×10×1024 24 µs instead of the strips' 48 µs where inputs and outputs share sets, else 28
    /// and 27 µs. With 512 channels the faster one depends on whether they share sets, which a plan cannot know: 19×19×512 41 µs
    /// instead of 53 µs, else 43 and 33 µs.
    pub(crate) fn fastest_depthwise(self, channels: usize, kernel_size: usize, stride: usize) -> usize {
        match self {
            Isa::Avx2 if kernel_size == 5 => (!channels.is_multiple_of(32) || channels >= 256).into(),
            Isa::Avx2 if channels.is_multiple_of(if stride == 1 { 512 } else { 256 }) => 2,
            Isa::Avx2 => (stride == 1 || !channels.is_multiple_of(128)).into(),
            #[cfg(isa = "avx512")]
            Isa::Avx512 if has_halved_vectors() => match stride {
                1 if channels.is_multiple_of(1024) => 2,
                1 => 1,
                _ if channels.is_multiple_of(16) || channels >= 72 => 2,
                _ => 0,
            },
            #[cfg(isa = "avx512")]
            Isa::Avx512 => {
                let shared = channels.is_multiple_of(if stride == 1 { 128 } else { 256 });
                ((stride == 1 || channels >= 160) && (has_distant_cache() || !shared)).into()
            }
            _ => self.prefers_large_tiles().into(),
        }
    }

    /// Whether so many output channels of a pointwise convolution, channels last, are best computed by a kernel that joins: the last
    /// are at most half a vector, which is multiplied no faster than a whole one. (Zen 5: from 240 to 40 channels 59 µs instead of
    /// 71 µs. Zen 4 multiplies it twice as fast; Intel's blend pixels where they multiply.)
    pub(crate) fn joins(self, out_channels: usize) -> bool {
        let half_left = out_channels > 16 && (1..=8).contains(&(out_channels % 16));
        let halves_cost_wholes = match self {
            #[cfg(isa = "avx512")]
            Isa::Avx512 => !has_distant_cache() && !has_halved_vectors(),
            _ => false,
        };
        half_left && halves_cost_wholes
    }

    /// How many turns of a multiplying unit one of its vectors takes: two where this CPU computes it in halves.
    #[doc(hidden)]
    pub fn turns(self) -> u8 {
        match self {
            #[cfg(isa = "avx512")]
            Isa::Avx512 if has_halved_vectors() => 2,
            _ => 1,
        }
    }

    /// Its name in lower case, as in `DEPTHWISE_ISA` and in the names of kernels.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        }
    }

    /// Whether multiply-add rounds once.
    pub const fn is_fused(self) -> bool {
        !matches!(self, Isa::Portable)
    }
}

/// Whether the cache that cores share is far from each, as on Intel's servers: what is read and written next should then be
/// on its way early. (Emerald Rapids: 25 GB/s for one core. On Zen 4 and 5, four times as much, it costs time instead.)
pub(crate) fn has_distant_cache() -> bool {
    // Of the CPUs with AVX-512, AMD's have SSE4a and a near cache. (Without `std`: if the compiler was told of it.)
    #[cfg(all(isa = "avx512", feature = "std"))]
    return std::is_x86_feature_detected!("avx512f") && !std::is_x86_feature_detected!("sse4a");
    #[cfg(not(all(isa = "avx512", feature = "std")))]
    return cfg!(target_feature = "avx512f") && !cfg!(target_feature = "sse4a");
}

/// Whether vectors of 512 bits are computed in halves, as on Zen 4.
pub(crate) fn has_halved_vectors() -> bool {
    // Of AMD's CPUs, which have SSE4a, the next one has VP2INTERSECT. (Without `std`: if the compiler was told of it.)
    #[cfg(all(isa = "avx512", feature = "std"))]
    return std::is_x86_feature_detected!("sse4a") && !std::is_x86_feature_detected!("avx512vp2intersect");
    #[cfg(not(all(isa = "avx512", feature = "std")))]
    return cfg!(target_feature = "sse4a") && !cfg!(target_feature = "avx512vp2intersect");
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Isa::EVERY
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| Error::UnknownIsa { name: name.into(), from_environment: false })
    }
}
