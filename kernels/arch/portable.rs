//! Any CPU, through `wide`: eight lanes at the target's baseline (two SSE registers on x86-64, two NEON
//! registers on AArch64, plain scalars where there is nothing).
//!
//! Multiply-add rounds twice on every target, fused hardware or not: one kernel, one result.

use wide::f32x8;

#[cfg(feature = "half")]
use crate::convert::{Conversions, functions};
use crate::simd::Simd;
use crate::types::Isa;

/// No proof needed.
#[derive(Clone, Copy)]
pub(crate) struct Portable(());

crate::arch::token!(Portable, inline);

impl Simd for Portable {
    type V = f32x8;
    /// From this lane to before that one.
    type Mask = (usize, usize);
    type Index = [usize; 8];
    type Half = Self;
    const LANES: usize = 8;
    const STEPS_ROWS: bool = cfg!(target_arch = "aarch64");
    const ISA: Isa = Isa::Portable;

    #[inline(always)]
    fn half(self) -> Self {
        self
    }
    #[inline(always)]
    fn splat(self, x: f32) -> f32x8 {
        f32x8::splat(x)
    }
    #[inline(always)]
    fn add(self, a: f32x8, b: f32x8) -> f32x8 {
        a + b
    }
    #[inline(always)]
    fn sub(self, a: f32x8, b: f32x8) -> f32x8 {
        a - b
    }
    #[inline(always)]
    fn mul(self, a: f32x8, b: f32x8) -> f32x8 {
        a * b
    }
    #[inline(always)]
    fn div(self, a: f32x8, b: f32x8) -> f32x8 {
        a / b
    }
    #[inline(always)]
    fn mul_add(self, a: f32x8, b: f32x8, c: f32x8) -> f32x8 {
        a * b + c
    }
    #[inline(always)]
    fn max(self, a: f32x8, b: f32x8) -> f32x8 {
        a.simd_gt(b).bitselect(a, b)
    }
    #[inline(always)]
    fn min(self, a: f32x8, b: f32x8) -> f32x8 {
        a.simd_lt(b).bitselect(a, b)
    }
    #[inline(always)]
    fn select_lt(self, a: f32x8, b: f32x8, yes: f32x8, no: f32x8) -> f32x8 {
        a.simd_lt(b).bitselect(yes, no)
    }
    #[inline(always)]
    fn exp2_of_shifted(self, x: f32x8) -> f32x8 {
        f32x8::new(x.to_array().map(|lane| f32::from_bits((lane.to_bits() << 23).wrapping_add(127 << 23))))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> f32x8 {
        // SAFETY: the caller vouches for the eight elements; arrays of them have no padding.
        f32x8::new(unsafe { p.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    fn mask(self, from: usize, to: usize) -> (usize, usize) {
        debug_assert!(to <= 8);
        (from, to)
    }
    #[inline(always)]
    fn mask_if(self, condition: bool, mask: (usize, usize)) -> (usize, usize) {
        if condition { mask } else { (0, 0) }
    }
    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, mask: (usize, usize)) -> f32x8 {
        // SAFETY: the caller vouches for the selected lanes.
        unsafe { if mask == (0, 8) { self.load(p) } else { self.load_strided(p, 1, mask) } }
    }
    #[inline(always)]
    unsafe fn load_strided(self, p: *const f32, step: usize, (from, to): (usize, usize)) -> f32x8 {
        // Written lane by lane, this compiles to no call; iterators that skip became a memset and a memcpy.
        let lane = |i: usize| from <= i && i < to;
        // SAFETY: the caller vouches for the selected lanes.
        let lanes = core::array::from_fn(|i| if lane(i) { unsafe { *p.wrapping_add(i * step) } } else { 0.0 });
        f32x8::new(lanes)
    }
    #[inline(always)]
    fn halves(self, a: f32x8, b: f32x8) -> f32x8 {
        let (a, b) = (a.to_array(), b.to_array());
        f32x8::new(core::array::from_fn(|i| if i < 4 { a[i] } else { b[i] }))
    }
    #[inline(always)]
    fn unzip(self, a: f32x8, b: f32x8) -> (f32x8, f32x8) {
        let (a, b) = (a.to_array(), b.to_array());
        let pick = |odd: usize| core::array::from_fn(|i| if i < 4 { a[2 * i + odd] } else { b[2 * i - 8 + odd] });
        (f32x8::new(pick(0)), f32x8::new(pick(1)))
    }
    #[inline(always)]
    fn repeated(self, first: usize, times: usize) -> [usize; 8] {
        core::array::from_fn(|i| (first + i) / times - first / times)
    }
    #[inline(always)]
    unsafe fn load_repeated(self, p: *const f32, n: usize, index: [usize; 8]) -> f32x8 {
        // SAFETY: lanes of an index below `n` are read, which the caller vouches for.
        f32x8::new(index.map(|i| if i < n { unsafe { *p.wrapping_add(i) } } else { 0.0 }))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: f32x8) {
        // SAFETY: the caller vouches for the eight elements.
        unsafe { p.cast::<[f32; 8]>().write_unaligned(v.to_array()) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, (from, to): (usize, usize), v: f32x8) {
        if (from, to) == (0, 8) {
            // SAFETY: the caller vouches for all lanes.
            return unsafe { self.store(p, v) };
        }
        let lanes = v.to_array();
        for i in 0..8 {
            if from <= i && i < to {
                // SAFETY: the caller vouches for the selected lanes.
                unsafe { *p.wrapping_add(i) = lanes[i] }
            }
        }
    }
}

#[cfg(feature = "half")]
impl Portable {
    /// Of integers.
    pub(crate) fn conversions() -> Conversions {
        Conversions { f16: &[functions!(inline, integer, half::f16)], bf16: &[functions!(inline, integer, half::bf16)] }
    }
}
