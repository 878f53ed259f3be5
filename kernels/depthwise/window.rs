//! The windows that kernels are compiled for.

use core::ops::IndexMut;

/// The taps of a kernel, and its stride, as types: what depends on them is known to the compiler.
pub(crate) trait Window {
    /// Taps down and across.
    const KH: usize;
    const KW: usize;
    /// The undilated stride down and across; channels first, the stride across.
    const SH: usize;
    const SW: usize;
    /// All of these.
    const ALL: [usize; 4] = [Self::KH, Self::KW, Self::SH, Self::SW];
    /// Something for each tap of a row.
    type Across<T: Copy>: Copy + IndexMut<usize, Output = T>;

    /// The same for each.
    fn across<T: Copy>(each: T) -> Self::Across<T>;
}

pub(crate) struct Taps<const KH: usize, const KW: usize, const SH: usize, const SW: usize>;

impl<const KH: usize, const KW: usize, const SH: usize, const SW: usize> Window for Taps<KH, KW, SH, SW> {
    const KH: usize = KH;
    const KW: usize = KW;
    const SH: usize = SH;
    const SW: usize = SW;
    type Across<T: Copy> = [T; KW];

    #[inline(always)]
    fn across<T: Copy>(each: T) -> [T; KW] {
        [each; KW]
    }
}

pub(crate) type K3S1 = Taps<3, 3, 1, 1>;
pub(crate) type K3S2 = Taps<3, 3, 2, 2>;
pub(crate) type K5S1 = Taps<5, 5, 1, 1>;
pub(crate) type K5S2 = Taps<5, 5, 2, 2>;
pub(crate) type K7S1 = Taps<7, 7, 1, 1>;
pub(crate) type K7S2 = Taps<7, 7, 2, 2>;
