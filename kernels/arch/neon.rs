//! NEON (Advanced SIMD of AArch64): thirty-two registers of four lanes, multiply-adds by a lane of another vector.
//!
//! There are no masks: tails are loaded and stored lane by lane.

use core::arch::aarch64::*;
#[cfg(feature = "half")]
use core::mem::MaybeUninit;

#[cfg(feature = "half")]
use crate::convert::{Conversions, Vectors, functions};
use crate::simd::Simd;
use crate::types::Isa;

/// Proof of NEON.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

crate::arch::token!(Neon, target_feature(enable = "neon"));

/// Calls something for each lane number that the mask selects.
macro_rules! each_lane {
    ($mask:expr, $lane:ident => $each:expr) => {
        each_lane!($mask, $lane => $each, 0 1 2 3)
    };
    ($mask:expr, $lane:ident => $each:expr, $($i:literal)*) => {{
        let (from, to) = $mask;
        $(if from <= $i && $i < to {
            const $lane: i32 = $i;
            $each
        })*
    }};
}

// SAFETY of every block below: the token proves the instruction set; addresses are the caller's word.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl Simd for Neon {
    type V = float32x4_t;
    /// From this lane to before that one.
    type Mask = (usize, usize);
    type Index = [usize; 4];
    type Half = Self;
    const LANES: usize = 4;
    const TIGHT_PIPES: bool = true;
    const STEPS_ROWS: bool = true;
    const ISA: Isa = Isa::Neon;

    #[inline(always)]
    fn half(self) -> Self {
        self
    }
    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vdivq_f32(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
    // `fmax` and `fmin` differ in what they make of NaN and of two zeros.
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        self.select_lt(b, a, a, b)
    }
    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        self.select_lt(a, b, a, b)
    }
    // Of two zeros it takes −0.0, which is `b` if `a` is not.
    #[inline(always)]
    fn min_of_bound(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vminq_f32(a, b) }
    }
    #[inline(always)]
    fn select_lt(self, a: float32x4_t, b: float32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
        unsafe { vbslq_f32(vcltq_f32(a, b), yes, no) }
    }
    #[inline(always)]
    fn exp2_of_shifted(self, x: float32x4_t) -> float32x4_t {
        unsafe {
            let exponent = vshlq_n_s32::<23>(vreinterpretq_s32_f32(x));
            vreinterpretq_f32_s32(vaddq_s32(exponent, vdupq_n_s32(127 << 23)))
        }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> float32x4_t {
        unsafe { vld1q_f32(p) }
    }
    #[inline(always)]
    fn mask(self, from: usize, to: usize) -> (usize, usize) {
        debug_assert!(to <= 4);
        (from, to)
    }
    #[inline(always)]
    fn mask_if(self, condition: bool, mask: (usize, usize)) -> (usize, usize) {
        if condition { mask } else { (0, 0) }
    }
    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, mask: (usize, usize)) -> float32x4_t {
        unsafe { if mask == (0, 4) { self.load(p) } else { self.load_strided(p, 1, mask) } }
    }
    #[inline(always)]
    unsafe fn load_strided(self, p: *const f32, step: usize, mask: (usize, usize)) -> float32x4_t {
        let mut v = self.splat(0.0);
        each_lane!(mask, I => v = unsafe { vld1q_lane_f32::<I>(p.wrapping_add(I as usize * step), v) });
        v
    }
    #[inline(always)]
    fn halves(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vcombine_f32(vget_low_f32(a), vget_high_f32(b)) }
    }
    #[inline(always)]
    fn unzip(self, a: float32x4_t, b: float32x4_t) -> (float32x4_t, float32x4_t) {
        unsafe { (vuzp1q_f32(a, b), vuzp2q_f32(a, b)) }
    }
    #[inline(always)]
    unsafe fn deal(self, p: *const f32, step: usize) -> [float32x4_t; 4] {
        unsafe {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| vld1q_f32(p.wrapping_add(i * step)));
            let wide = |v: float32x4_t| vreinterpretq_f64_f32(v);
            let [even, odd] = [vtrn1q_f32(a, b), vtrn2q_f32(a, b)].map(wide);
            let [more_even, more_odd] = [vtrn1q_f32(c, d), vtrn2q_f32(c, d)].map(wide);
            [
                vtrn1q_f64(even, more_even),
                vtrn1q_f64(odd, more_odd),
                vtrn2q_f64(even, more_even),
                vtrn2q_f64(odd, more_odd),
            ]
            .map(|v| vreinterpretq_f32_f64(v))
        }
    }
    #[inline(always)]
    fn repeated(self, first: usize, times: usize) -> [usize; 4] {
        core::array::from_fn(|i| (first + i) / times - first / times)
    }
    #[inline(always)]
    unsafe fn load_repeated(self, p: *const f32, n: usize, index: [usize; 4]) -> float32x4_t {
        let lane = |i: usize| if index[i] < n { p.wrapping_add(index[i]) } else { &0.0 };
        let v = self.splat(0.0);
        unsafe {
            let v = vld1q_lane_f32::<0>(lane(0), v);
            let v = vld1q_lane_f32::<1>(lane(1), v);
            let v = vld1q_lane_f32::<2>(lane(2), v);
            vld1q_lane_f32::<3>(lane(3), v)
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: float32x4_t) {
        unsafe { vst1q_f32(p, v) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, mask: (usize, usize), v: float32x4_t) {
        if mask == (0, 4) {
            return unsafe { self.store(p, v) };
        }
        each_lane!(mask, I => unsafe { vst1q_lane_f32::<I>(p.wrapping_add(I as usize), v) });
    }

    const FACTOR_LANES: bool = true;
    #[inline(always)]
    unsafe fn splat_four(self, p: *const f32) -> [float32x4_t; 4] {
        unsafe {
            let v = vld1q_f32(p);
            [vdupq_laneq_f32::<0>(v), vdupq_laneq_f32::<1>(v), vdupq_laneq_f32::<2>(v), vdupq_laneq_f32::<3>(v)]
        }
    }
}

#[cfg(feature = "half")]
impl Neon {
    /// Those of `f16` by instructions whose intrinsics the oldest supported compiler lacks.
    pub(crate) fn conversions() -> Conversions {
        Conversions {
            f16: &[functions!(target_feature(enable = "neon"), vectors, Neon)],
            bf16: &[functions!(target_feature(enable = "neon"), integer, half::bf16)],
        }
    }
}

// SAFETY of every block below: the token proves the instruction set; the arrays have as many elements as the vectors.
#[cfg(feature = "half")]
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl Vectors<4> for Neon {
    #[inline(always)]
    fn widen(self, from: &[u16; 4], to: &mut [MaybeUninit<f32>; 4]) {
        unsafe { vst1q_f32(to.as_mut_ptr().cast(), fcvtl(vld1_u16(from.as_ptr()))) }
    }
    #[inline(always)]
    fn narrow(self, from: &[f32; 4], to: &mut [MaybeUninit<u16>; 4]) {
        unsafe { vst1_u16(to.as_mut_ptr().cast(), fcvtn(vld1q_f32(from.as_ptr()))) }
    }
    #[inline(always)]
    fn round(self, data: &mut [f32; 4]) {
        unsafe { vst1q_f32(data.as_mut_ptr(), fcvtl(fcvtn(vld1q_f32(data.as_ptr())))) }
    }
}

// The instructions set flags of exceptions, so nothing is said of flags.

/// Four of `f16` as `f32`.
///
/// # Safety
/// 1. The CPU has NEON.
#[cfg(feature = "half")]
#[target_feature(enable = "neon")]
#[inline]
unsafe fn fcvtl(narrow: uint16x4_t) -> float32x4_t {
    let wide: float32x4_t;
    // SAFETY: registers alone.
    unsafe {
        core::arch::asm!(
            "fcvtl {wide:v}.4s, {narrow:v}.4h",
            wide = lateout(vreg) wide,
            narrow = in(vreg) narrow,
            options(pure, nomem, nostack)
        );
    }
    wide
}

/// Four of `f32` rounded to `f16`.
///
/// # Safety
/// 1. The CPU has NEON.
#[cfg(feature = "half")]
#[target_feature(enable = "neon")]
#[inline]
unsafe fn fcvtn(wide: float32x4_t) -> uint16x4_t {
    let narrow: uint16x4_t;
    // SAFETY: registers alone.
    unsafe {
        core::arch::asm!(
            "fcvtn {narrow:v}.4h, {wide:v}.4s",
            narrow = lateout(vreg) narrow,
            wide = in(vreg) wide,
            options(pure, nomem, nostack)
        );
    }
    narrow
}
