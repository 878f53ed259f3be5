//! 8 bits on any CPU: arrays, of which LLVM makes vectors where there are some.

use super::portable::Portable;
use crate::int8::SIGN;
use crate::int8::finish::{Ends, nearest_even, tflite};
use crate::int8::simd::{SimdInt, SimdWide};
use crate::types::Isa;

// SAFETY of every block below: addresses are the caller's word.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl SimdInt for Portable {
    type V = [i32; 8];
    type Packed = [i16; 16];
    /// Those of the one input, then those of the other.
    type Weights = [i16; 16];
    type Factor = [i16; 2];
    type Half = Self;
    const ISA: Isa = Isa::Portable;
    const LANES: usize = 8;
    const GROUPS: usize = 2;
    const GROUP: usize = 2;
    const WIDE: bool = true;

    fn half(self) -> Self {
        self
    }
    fn weight(lane: usize, input: usize) -> usize {
        input * 8 + lane
    }
    #[inline(always)]
    unsafe fn load(self, p: *const i32) -> [i32; 8] {
        unsafe { p.cast::<[i32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn weights(self, p: *const u8) -> [i16; 16] {
        unsafe { p.cast::<[i16; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn factor(self, p: *const u8, _: u32) -> [i16; 2] {
        unsafe { p.cast::<[i16; 2]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn factor_of(self, p: *const u8, _: usize, _: u32) -> [i16; 2] {
        unsafe { [p.cast::<i16>().read_unaligned(), 0] }
    }
    #[inline(always)]
    fn add_products(self, mut sums: [i32; 8], [x, y]: [i16; 2], weights: [i16; 16]) -> [i32; 8] {
        for i in 0..8 {
            let both = i32::from(x) * i32::from(weights[i]) + i32::from(y) * i32::from(weights[8 + i]);
            sums[i] = sums[i].wrapping_add(both);
        }
        sums
    }
    #[inline(always)]
    unsafe fn nearest_even(self, sums: [i32; 8], factors: *const f32) -> [i32; 8] {
        core::array::from_fn(|i| nearest_even(sums[i], unsafe { *factors.add(i) }))
    }
    #[inline(always)]
    unsafe fn tflite(self, sums: [i32; 8], q: *const i32, left: *const i32, right: *const i32) -> [i32; 8] {
        core::array::from_fn(|i| unsafe { tflite(sums[i], *q.add(i), *left.add(i) as u32, *right.add(i) as u32) })
    }
    #[inline(always)]
    fn pack(self, a: [i32; 8], b: [i32; 8]) -> [i16; 16] {
        let saturated = |x: i32| x.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        core::array::from_fn(|i| saturated(if i < 8 { a[i] } else { b[i - 8] }))
    }
    #[inline(always)]
    unsafe fn store(self, [packed, _]: [[i16; 16]; 2], ends: &Ends, to: *mut u8, n: usize) {
        let flip = if ends.signed { SIGN } else { 0 };
        let bytes = packed.map(|x| {
            let moved = x.saturating_add(ends.zero_point);
            moved.max(ends.low.into()).min(ends.high.into()) as u8 ^ flip
        });
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, n) }
    }
    #[inline(always)]
    unsafe fn store_sums(self, sums: &[[i32; 8]; 4], to: *mut i32, n: usize) {
        let all: [i32; 16] = core::array::from_fn(|i| sums[i / 8][i % 8]);
        unsafe { core::ptr::copy_nonoverlapping(all.as_ptr(), to, n) }
    }
}

// SAFETY of every block below: as above.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl SimdWide for Portable {
    fn tap_weight(channel: usize, tap: usize) -> usize {
        tap * 16 + channel
    }
    #[inline(always)]
    unsafe fn widen(self, from: *const u8, to: *mut i16, n: usize, flip: u8) {
        for i in 0..n {
            unsafe { *to.add(i) = i16::from(*from.add(i) ^ flip) }
        }
    }
    #[inline(always)]
    unsafe fn add_taps(
        self,
        mut sums: [[i32; 8]; 4],
        taps: [*const u8; 2],
        n: usize,
        flip: u8,
        weights: *const u8,
    ) -> [[i32; 8]; 4] {
        unsafe {
            for (tap, p) in taps.into_iter().enumerate() {
                let mut bytes = [0u8; 16];
                if n == 16 {
                    bytes = p.cast::<[u8; 16]>().read_unaligned();
                } else {
                    core::ptr::copy_nonoverlapping(p, bytes.as_mut_ptr(), n);
                }
                let weights = weights.cast::<[i16; 16]>().add(tap).read_unaligned();
                for i in 0..16 {
                    let product = i32::from(bytes[i] ^ flip) * i32::from(weights[i]);
                    sums[i / 8][i % 8] = sums[i / 8][i % 8].wrapping_add(product);
                }
            }
            sums
        }
    }
}
