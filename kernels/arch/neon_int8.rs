//! 8 bits with NEON: products of 16 bits by a lane of another vector.

use core::arch::aarch64::*;

use super::neon::Neon;
use crate::int8::SIGN;
use crate::int8::finish::Ends;
use crate::int8::simd::{SimdInt, SimdWide, few};
use crate::types::Isa;

// SAFETY of every block below: the token proves the instruction set; addresses are the caller's word.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl SimdInt for Neon {
    type V = int32x4_t;
    type Packed = int16x8_t;
    /// Those of the one input, then those of the other.
    type Weights = int16x8_t;
    /// Two, and two that count for nothing.
    type Factor = int16x4_t;
    type Half = Self;
    const ISA: Isa = Isa::Neon;
    const LANES: usize = 4;
    const GROUPS: usize = 4;
    const GROUP: usize = 2;
    const WIDE: bool = true;

    fn half(self) -> Self {
        self
    }
    fn weight(lane: usize, input: usize) -> usize {
        input * 4 + lane
    }
    #[inline(always)]
    unsafe fn load(self, p: *const i32) -> int32x4_t {
        unsafe { vld1q_s32(p) }
    }
    #[inline(always)]
    unsafe fn weights(self, p: *const u8) -> int16x8_t {
        unsafe { vld1q_s16(p.cast()) }
    }
    #[inline(always)]
    unsafe fn factor(self, p: *const u8, _: u32) -> int16x4_t {
        unsafe { vreinterpret_s16_s32(vdup_n_s32(p.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn factor_of(self, p: *const u8, _: usize, _: u32) -> int16x4_t {
        unsafe { vdup_n_s16(p.cast::<i16>().read_unaligned()) }
    }
    #[inline(always)]
    fn add_products(self, sums: int32x4_t, factor: int16x4_t, weights: int16x8_t) -> int32x4_t {
        unsafe {
            let sums = vmlal_lane_s16::<0>(sums, vget_low_s16(weights), factor);
            vmlal_high_lane_s16::<1>(sums, weights, factor)
        }
    }
    #[inline(always)]
    unsafe fn nearest_even(self, sums: int32x4_t, factors: *const f32) -> int32x4_t {
        // What 32 bits do not hold saturates.
        unsafe { vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(sums), vld1q_f32(factors))) }
    }
    #[inline(always)]
    unsafe fn tflite(self, sums: int32x4_t, q: *const i32, left: *const i32, right: *const i32) -> int32x4_t {
        unsafe {
            let x = vshlq_s32(sums, self.load(left));
            let high = vqrdmulhq_s32(x, self.load(q));
            // To the right, a half goes away from 0.
            let right = self.load(right);
            let mask = vsubq_s32(vshlq_s32(vdupq_n_s32(1), right), vdupq_n_s32(1));
            let negative = vreinterpretq_s32_u32(vshrq_n_u32::<31>(vreinterpretq_u32_s32(high)));
            let threshold = vaddq_s32(vreinterpretq_s32_u32(vshrq_n_u32::<1>(vreinterpretq_u32_s32(mask))), negative);
            let above = vcgtq_s32(vandq_s32(high, mask), threshold);
            vsubq_s32(vshlq_s32(high, vnegq_s32(right)), vreinterpretq_s32_u32(above))
        }
    }
    #[inline(always)]
    fn pack(self, a: int32x4_t, b: int32x4_t) -> int16x8_t {
        unsafe { vqmovn_high_s32(vqmovn_s32(a), b) }
    }
    #[inline(always)]
    unsafe fn store(self, packed: [int16x8_t; 2], ends: &Ends, to: *mut u8, n: usize) {
        unsafe {
            let zero_point = vdupq_n_s16(ends.zero_point);
            let (a, b) = (vqaddq_s16(packed[0], zero_point), vqaddq_s16(packed[1], zero_point));
            let bytes = vqmovun_high_s16(vqmovun_s16(a), b);
            let bytes = vminq_u8(vmaxq_u8(bytes, vdupq_n_u8(ends.low)), vdupq_n_u8(ends.high));
            let bytes = veorq_u8(bytes, vdupq_n_u8(if ends.signed { SIGN } else { 0 }));
            if n == 16 {
                vst1q_u8(to, bytes);
            } else {
                let mut all = [0; 16];
                vst1q_u8(all.as_mut_ptr(), bytes);
                core::ptr::copy_nonoverlapping(all.as_ptr(), to, n);
            }
        }
    }
    #[inline(always)]
    unsafe fn store_sums(self, sums: &[int32x4_t; 4], to: *mut i32, n: usize) {
        unsafe {
            let mut all = [0; 16];
            for g in 0..4 {
                vst1q_s32(all.as_mut_ptr().add(4 * g), sums[g]);
            }
            core::ptr::copy_nonoverlapping(all.as_ptr(), to, n);
        }
    }
}

// SAFETY of every block below: as above.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl SimdWide for Neon {
    fn tap_weight(channel: usize, tap: usize) -> usize {
        tap * 16 + channel
    }
    #[inline(always)]
    unsafe fn widen(self, from: *const u8, to: *mut i16, n: usize, flip: u8) {
        unsafe {
            let flips = vdup_n_u8(flip);
            let mut i = 0;
            while i + 8 <= n {
                let bytes = veor_u8(vld1_u8(from.add(i)), flips);
                vst1q_s16(to.add(i), vreinterpretq_s16_u16(vmovl_u8(bytes)));
                i += 8;
            }
            while i < n {
                *to.add(i) = i16::from(*from.add(i) ^ flip);
                i += 1;
            }
        }
    }
    #[inline(always)]
    unsafe fn add_taps(
        self,
        mut sums: [int32x4_t; 4],
        taps: [*const u8; 2],
        n: usize,
        flip: u8,
        weights: *const u8,
    ) -> [int32x4_t; 4] {
        unsafe {
            for (tap, p) in taps.into_iter().enumerate() {
                let bytes = if n == 16 {
                    vld1q_u8(p)
                } else {
                    let [low, high] = few(p, n);
                    vcombine_u8(vcreate_u8(low), vcreate_u8(high))
                };
                let bytes = veorq_u8(bytes, vdupq_n_u8(flip));
                let low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes)));
                let high = vreinterpretq_s16_u16(vmovl_high_u8(bytes));
                let w = weights.cast::<i16>().add(16 * tap);
                let (first, second) = (vld1q_s16(w), vld1q_s16(w.add(8)));
                sums[0] = vmlal_s16(sums[0], vget_low_s16(low), vget_low_s16(first));
                sums[1] = vmlal_high_s16(sums[1], low, first);
                sums[2] = vmlal_s16(sums[2], vget_low_s16(high), vget_low_s16(second));
                sums[3] = vmlal_high_s16(sums[3], high, second);
            }
            sums
        }
    }
}
