//! The vector operations that the algorithms of this folder are written in.

mod opaque;

use crate::types::Isa;

pub(crate) use self::opaque::{opaque, opaque_address};

/// One instruction set, as a zero-sized token that proves the CPU has it.
///
/// Only the instruction set's own file can make a token, inside functions compiled with its target
/// features, or from the token of one that implies it. Every method is inlined into such a function; a method that is not
/// inlined there costs a factor of 60, so nothing in this folder stands between these and the function, of a kernel or a
/// column, that has the features.
///
/// Lanes are independent: a vector runs across outputs, never across a reduction.
pub(crate) trait Simd: Copy {
    /// A vector of [`LANES`](Self::LANES) `f32`.
    type V: Copy;
    /// A selection of lanes.
    type Mask: Copy;
    /// [`LANES`](Self::LANES) lane numbers, for [`load_repeated`](Self::load_repeated) and [`Permute::pick`].
    type Index: Copy;
    /// Vectors of half as many lanes, or the same ones where there are none.
    type Half: Simd;
    /// `f32` per vector.
    const LANES: usize;
    /// Whether an operation takes an element in memory for all lanes of an operand, which then needs no register.
    const SPLATS_MEMORY: bool = false;
    /// Whether the pipes that compute are what binds: then a register is loaded rather than copied, and a tile's bounds that change
    /// nothing are not applied (experiment 093).
    const TIGHT_PIPES: bool = false;
    /// Whether there are registers for the multiples of a step between columns, if rows are stepped to.
    const STEPS_ROWS: bool = false;
    /// Whether masked stores take as long as many whole ones: with AVX2 on AMD, and where each lane is stored by itself (experiment 094).
    const SLOW_MASKED_STORES: bool = true;
    /// The public name of this instruction set.
    const ISA: Isa;

    /// The token of [`Half`](Self::Half).
    fn half(self) -> Self::Half;
    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// The element at `p` in every lane, for so many multiply-adds in a loop of them.
    ///
    /// # Safety
    /// 1. It can be read.
    #[inline(always)]
    unsafe fn splat_for(self, _times: usize, p: *const f32) -> Self::V {
        // SAFETY: the caller's.
        self.splat(unsafe { *p })
    }
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`.
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`, rounded.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`: rounded once where [`Isa::is_fused`], twice elsewhere.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`: `b` where either is NaN, and `b` of two zeros.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { a } else { b }`: `b` where either is NaN, and `b` of two zeros.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The same, of an `a` that is not −0.0.
    #[inline(always)]
    fn min_of_bound(self, a: Self::V, b: Self::V) -> Self::V {
        self.min(a, b)
    }
    /// `if a < b { yes } else { no }`.
    fn select_lt(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// 2ⁿ for `x` = 1.5·2²³ + n with whole n in −126 ..= 127.
    fn exp2_of_shifted(self, x: Self::V) -> Self::V;

    /// Asks for the cache line at `p`, which may be any address, in the second-level cache.
    #[inline(always)]
    fn prefetch(self, _p: *const f32) {}
    /// The `LANES` elements at `p`.
    ///
    /// # Safety
    /// 1. They can be read.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// Selects lanes `from..to`; none unless `from < to`. `to` may not exceed [`LANES`](Self::LANES).
    fn mask(self, from: usize, to: usize) -> Self::Mask;
    /// The mask, or one that selects nothing.
    fn mask_if(self, condition: bool, mask: Self::Mask) -> Self::Mask;
    /// Lane `i` from `p + i` where the mask selects it, +0.0 in the other lanes, which are not read.
    ///
    /// # Safety
    /// 1. The selected elements can be read. `p` itself may lie outside of its slice.
    unsafe fn load_masked(self, p: *const f32, mask: Self::Mask) -> Self::V;
    /// Lane `i` from `p + i * step` where the mask selects it, +0.0 in the other lanes, which are not read.
    ///
    /// # Safety
    /// 1. The selected elements can be read. `p` itself may lie outside of its slice.
    /// 2. `step` is at most [`MAX_STRIDE`](crate::MAX_STRIDE).
    unsafe fn load_strided(self, p: *const f32, step: usize, mask: Self::Mask) -> Self::V;
    /// The lower half of the lanes of `a`, and the upper half of those of `b`.
    fn halves(self, a: Self::V, b: Self::V) -> Self::V;
    /// The even and the odd elements of two vectors one after the other.
    fn unzip(self, a: Self::V, b: Self::V) -> (Self::V, Self::V);
    /// Four vectors: lane `i` of number `j` from `p + i * step + j`.
    ///
    /// # Safety
    /// 1. These elements can be read.
    /// 2. `step` is at most [`MAX_STRIDE`](crate::MAX_STRIDE).
    #[inline(always)]
    unsafe fn deal(self, p: *const f32, step: usize) -> [Self::V; 4] {
        let all = self.mask(0, Self::LANES);
        let mut dealt = [self.splat(0.0); 4];
        for j in 0..4 {
            // SAFETY: the caller's.
            dealt[j] = unsafe { self.load_strided(p.wrapping_add(j), step, all) };
        }
        dealt
    }
    /// Lane numbers `(first + i) / times - first / times`: which of the consecutive elements each lane
    /// takes when every element serves `times` lanes, the `first` lanes left out.
    fn repeated(self, first: usize, times: usize) -> Self::Index;
    /// Lane `i` from `p + index[i]`; lanes whose index is `n` or more hold anything.
    ///
    /// # Safety
    /// 1. The first `n` elements at `p` can be read.
    /// 2. `n <= LANES`.
    unsafe fn load_repeated(self, p: *const f32, n: usize, index: Self::Index) -> Self::V;
    /// Writes `v` to the `LANES` elements at `p`.
    ///
    /// # Safety
    /// 1. They can be written.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Writes lane `i` of `v` to `p + i` where the mask selects it, and nothing else.
    ///
    /// # Safety
    /// 1. The selected elements can be written. `p` itself may lie outside of its slice.
    unsafe fn store_masked(self, p: *mut f32, mask: Self::Mask, v: Self::V);

    /// Whether a multiply-add takes its factor from any lane of a vector, so that
    /// [`splat_four`](Self::splat_four) costs one load. Elsewhere each factor is best loaded alone.
    const FACTOR_LANES: bool = false;
    /// Each of the four elements at `p`, in every lane.
    ///
    /// # Safety
    /// 1. They can be read.
    #[inline(always)]
    unsafe fn splat_four(self, p: *const f32) -> [Self::V; 4] {
        // SAFETY: the caller vouches for the four elements.
        core::array::from_fn(|i| self.splat(unsafe { *p.wrapping_add(i) }))
    }
}

/// Instruction sets that pick lanes of two vectors in one instruction.
#[cfg(isa = "avx512")]
pub(crate) trait Permute: Simd {
    /// The numbers that a function gives for each lane.
    fn index(self, lane: impl Fn(usize) -> usize) -> Self::Index;
    /// The lanes of those numbers of two vectors one after the other; anything for numbers beyond.
    fn pick(self, a: Self::V, b: Self::V, index: Self::Index) -> Self::V;
    /// Lanes `n..` of `a`, then the first `n` of `b`. `n` is to be known to the compiler.
    fn shift(self, a: Self::V, b: Self::V, n: usize) -> Self::V;
    /// Two vectors whose first two and last two lanes are the first and the last even elements, and odd ones; the other lanes hold
    /// anything.
    fn unzip_ends(self, a: Self::V) -> (Self::V, Self::V);
}

/// How an instruction set reads and writes elements of a type: what is computed is `f32`.
pub(crate) trait Storage<E>: Simd {
    /// The [`LANES`](Simd::LANES) elements at `p`, in `f32`.
    ///
    /// # Safety
    /// 1. They can be read.
    unsafe fn widen(self, p: *const E) -> Self::V;
    /// Lane `i` from `p + i` where the mask selects it, +0.0 in the other lanes, which are not read.
    ///
    /// # Safety
    /// 1. The selected elements can be read. `p` itself may lie outside of its slice.
    unsafe fn widen_masked(self, p: *const E, mask: Self::Mask) -> Self::V;
    /// Writes the lanes of `v`, rounded to the type, to the elements at `p`.
    ///
    /// # Safety
    /// 1. They can be written.
    unsafe fn narrow(self, p: *mut E, v: Self::V);
    /// Writes lane `i` of `v`, rounded, to `p + i` where the mask selects it, and nothing else.
    ///
    /// # Safety
    /// 1. The selected elements can be written. `p` itself may lie outside of its slice.
    unsafe fn narrow_masked(self, p: *mut E, mask: Self::Mask, v: Self::V);
}

impl<S: Simd> Storage<f32> for S {
    #[inline(always)]
    unsafe fn widen(self, p: *const f32) -> S::V {
        // SAFETY: the caller's.
        unsafe { self.load(p) }
    }
    #[inline(always)]
    unsafe fn widen_masked(self, p: *const f32, mask: S::Mask) -> S::V {
        // SAFETY: the caller's.
        unsafe { self.load_masked(p, mask) }
    }
    #[inline(always)]
    unsafe fn narrow(self, p: *mut f32, v: S::V) {
        // SAFETY: the caller's.
        unsafe { self.store(p, v) }
    }
    #[inline(always)]
    unsafe fn narrow_masked(self, p: *mut f32, mask: S::Mask, v: S::V) {
        // SAFETY: the caller's.
        unsafe { self.store_masked(p, mask, v) }
    }
}

/// The lanes of a vector that are loaded and stored: all of them, or those that a mask selects.
pub(crate) trait Lanes {
    /// Whether it is all of them.
    const ALL: bool;

    /// The lanes at `p`, +0.0 in the others.
    ///
    /// # Safety
    /// 1. They can be read.
    #[inline(always)]
    unsafe fn load<S: Storage<E>, E>(s: S, p: *const E, mask: S::Mask) -> S::V {
        // SAFETY: the caller's.
        unsafe { if Self::ALL { s.widen(p) } else { s.widen_masked(p, mask) } }
    }

    /// Writes the lanes of `v` at `p`.
    ///
    /// # Safety
    /// 1. They can be written.
    #[inline(always)]
    unsafe fn store<S: Storage<E>, E>(s: S, p: *mut E, mask: S::Mask, v: S::V) {
        // SAFETY: the caller's.
        unsafe { if Self::ALL { s.narrow(p, v) } else { s.narrow_masked(p, mask, v) } }
    }
}

/// All lanes.
pub(crate) struct Whole;
/// Those that the mask selects.
pub(crate) struct Masked;

impl Lanes for Whole {
    const ALL: bool = true;
}

impl Lanes for Masked {
    const ALL: bool = false;
}
