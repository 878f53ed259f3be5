//! The types that a tensor's elements have in memory.

use core::fmt;

/// A type that a tensor's elements have in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ElementType {
    /// [`f32`].
    F32,
    /// IEEE 754's format of 16 bits, five of them an exponent. Needs the feature `half`.
    F16,
    /// The upper half of an `f32`. Needs the feature `half`.
    Bf16,
    /// [`u8`], a number with scale and zero point. Needs the feature `int8`.
    U8,
    /// [`i8`], likewise. Kernels of this type compute [`u8`], too.
    I8,
    /// [`i32`]: sums of products of such numbers. Needs the feature `int8`.
    I32,
}

impl ElementType {
    /// Its name in lower case, as in the names of kernels.
    pub const fn name(self) -> &'static str {
        match self {
            ElementType::F32 => "f32",
            ElementType::F16 => "f16",
            ElementType::Bf16 => "bf16",
            ElementType::U8 => "u8",
            ElementType::I8 => "i8",
            ElementType::I32 => "i32",
        }
    }

    /// The bytes of an element.
    pub const fn size(self) -> usize {
        match self {
            ElementType::F32 | ElementType::I32 => 4,
            ElementType::F16 | ElementType::Bf16 => 2,
            ElementType::U8 | ElementType::I8 => 1,
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An element of a tensor: `f32`, and with the feature `half` also `f16` and `bf16`, which are widened when they are read
/// and rounded once when they are written.
///
/// Sealed: kernels rely on how these types lie in memory.
#[cfg_attr(
    feature = "half",
    doc = "
```
use depthwise_kernels::{Element, bf16, f16};

fn rounded<E: Element>(x: f32) -> f32 {
    E::from_f32(x).to_f32()
}
// Halfway cases go to the even neighbour.
assert_eq!(rounded::<f16>(2049.0), 2048.0);
assert_eq!(rounded::<bf16>(259.0), 260.0);
// From here on, the nearest is infinity.
assert_eq!(rounded::<f16>(65520.0), f32::INFINITY);
```
"
)]
pub trait Element:
    sealed::Sealed + Copy + Default + PartialEq + PartialOrd + fmt::Debug + Send + Sync + 'static
{
    /// Which of the types it is.
    const TYPE: ElementType;
    /// +0.
    const ZERO: Self;

    /// The same number. A NaN keeps its sign and the bits of its payload; a signalling one of `f16` becomes quiet, as
    /// instructions have it, and one of `bf16` does not, which is copied.
    fn to_f32(self) -> f32;

    /// The nearest number, of two equally near the one whose last bit is 0. What is too large becomes infinite. A NaN stays
    /// one: it keeps its sign and the upper bits of its payload, and becomes quiet.
    fn from_f32(x: f32) -> Self;
}

mod sealed {
    /// Implemented in this file alone.
    pub trait Sealed {}
}

impl sealed::Sealed for f32 {}

impl Element for f32 {
    const TYPE: ElementType = ElementType::F32;
    const ZERO: f32 = 0.0;

    #[inline]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline]
    fn from_f32(x: f32) -> f32 {
        x
    }
}

/// The types of the crate `half`. Conversions are written here, without branches, so that LLVM makes vectors of a loop of
/// them: those of `half` ask at each element what the CPU has.
#[cfg(feature = "half")]
mod narrow {
    use half::{bf16, f16};

    use super::{Element, ElementType, sealed};

    /// Bits of a positive `f32` infinity.
    const INFINITY: u32 = 0x7f80_0000;

    impl sealed::Sealed for f16 {}

    impl Element for f16 {
        const TYPE: ElementType = ElementType::F16;
        const ZERO: f16 = f16::ZERO;

        #[inline]
        fn to_f32(self) -> f32 {
            let bits = u32::from(self.to_bits());
            // Exponent and mantissa where an f32 has them; the exponent still counts from f16's bias.
            let shifted = (bits & 0x7fff) << 13;
            let exponent = shifted & (0x1f << 23);
            let normal = shifted + ((127 - 15) << 23);
            // A denormal has the exponent of the least normal number, of which it lacks the leading 1: an exact difference.
            let least = f32::from_bits((127 - 14) << 23);
            let denormal = (f32::from_bits(shifted + ((127 - 14) << 23)) - least).to_bits();
            // A NaN is quiet.
            let quiet = if shifted > (0x1f << 23) { 1 << 22 } else { 0 };
            let special = shifted | INFINITY | quiet;
            let finite = if exponent == 0 { denormal } else { normal };
            let magnitude = if exponent == 0x1f << 23 { special } else { finite };
            f32::from_bits((bits & 0x8000) << 16 | magnitude)
        }

        #[inline]
        fn from_f32(x: f32) -> f16 {
            let bits = x.to_bits();
            let magnitude = bits & 0x7fff_ffff;
            // The carry of rounding goes on into the exponent, as far as infinity. What is out of range is not taken.
            let odd = (magnitude >> 13) & 1;
            let normal = magnitude.wrapping_sub((127 - 15) << 23).wrapping_add(0xfff + odd) >> 13;
            // The last bit of ½ is that of a denormal: the sum has it in its lowest bits, rounded.
            let denormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
            let special = if magnitude > INFINITY { (magnitude >> 13) & 0x3ff | 0x7e00 } else { 0x7c00 };
            let finite = if magnitude < (127 - 14) << 23 { denormal } else { normal };
            let rounded = if magnitude >= (127 + 16) << 23 { special } else { finite };
            f16::from_bits(((bits >> 16) & 0x8000 | rounded) as u16)
        }
    }

    impl sealed::Sealed for bf16 {}

    impl Element for bf16 {
        const TYPE: ElementType = ElementType::Bf16;
        const ZERO: bf16 = bf16::ZERO;

        #[inline]
        fn to_f32(self) -> f32 {
            f32::from_bits(u32::from(self.to_bits()) << 16)
        }

        #[inline]
        fn from_f32(x: f32) -> bf16 {
            let bits = x.to_bits();
            // The carry of rounding goes on into the exponent, as far as infinity.
            let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
            let quiet = (bits >> 16) | 0x40;
            let is_nan = bits & 0x7fff_ffff > INFINITY;
            bf16::from_bits(if is_nan { quiet } else { rounded } as u16)
        }
    }
}
