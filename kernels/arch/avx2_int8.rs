//! 8 bits with AVX2: products of pairs of 16 bits, which no sum of theirs exceeds.

use core::arch::x86_64::*;

use super::avx2::Avx2;
use crate::int8::finish::Ends;
use crate::int8::simd::{SimdInt, SimdRows, SimdWide, few};
use crate::types::Isa;

/// The first `n` bytes at `p`, of up to sixteen, and zeros.
///
/// # Safety
/// 1. They can be read.
/// 2. The CPU has AVX2.
/// 3. `n` is at most 16.
#[inline(always)]
unsafe fn bytes(p: *const u8, n: usize) -> __m128i {
    // SAFETY: the caller's; the array has sixteen bytes.
    unsafe {
        if n == 16 {
            return _mm_loadu_si128(p.cast());
        }
        let [low, high] = few(p, n);
        _mm_set_epi64x(high as i64, low as i64)
    }
}

// SAFETY of every block below: the token proves the instruction set; addresses are the caller's word.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl SimdInt for Avx2 {
    type V = __m256i;
    type Packed = __m256i;
    type Weights = __m256i;
    type Factor = __m256i;
    type Half = Self;
    const ISA: Isa = Isa::Avx2;
    const LANES: usize = 8;
    const GROUPS: usize = 2;
    const GROUP: usize = 2;
    const WIDE: bool = true;

    fn half(self) -> Self {
        self
    }
    fn weight(lane: usize, input: usize) -> usize {
        lane * 2 + input
    }
    #[inline(always)]
    unsafe fn load(self, p: *const i32) -> __m256i {
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn weights(self, p: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn factor(self, p: *const u8, _: u32) -> __m256i {
        unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn factor_of(self, p: *const u8, _: usize, _: u32) -> __m256i {
        unsafe { _mm256_set1_epi32(i32::from(p.cast::<i16>().read_unaligned())) }
    }
    #[inline(always)]
    fn add_products(self, sums: __m256i, factor: __m256i, weights: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(factor, weights)) }
    }
    #[inline(always)]
    unsafe fn nearest_even(self, sums: __m256i, factors: *const f32) -> __m256i {
        unsafe {
            let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(factors));
            // What 32 bits do not hold becomes the least number, which is right below alone.
            _mm256_cvtps_epi32(_mm256_min_ps(scaled, _mm256_set1_ps(1024.0)))
        }
    }
    #[inline(always)]
    unsafe fn tflite(self, sums: __m256i, q: *const i32, left: *const i32, right: *const i32) -> __m256i {
        unsafe {
            let (x, q, right) = (_mm256_sllv_epi32(sums, self.load(left)), self.load(q), self.load(right));
            let half = _mm256_set1_epi64x(1 << 30);
            let even = _mm256_add_epi64(_mm256_mul_epi32(x, q), half);
            let odd = _mm256_mul_epi32(_mm256_srli_epi64::<32>(x), _mm256_srli_epi64::<32>(q));
            let odd = _mm256_slli_epi64::<1>(_mm256_add_epi64(odd, half));
            let high = _mm256_blend_epi32::<0xaa>(_mm256_srli_epi64::<31>(even), odd);
            let one = _mm256_set1_epi32(1);
            let mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, right), one);
            let threshold = _mm256_sub_epi32(_mm256_srli_epi32::<1>(mask), _mm256_srai_epi32::<31>(high));
            let above = _mm256_cmpgt_epi32(_mm256_and_si256(high, mask), threshold);
            _mm256_sub_epi32(_mm256_srav_epi32(high, right), above)
        }
    }
    #[inline(always)]
    fn pack(self, a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_packs_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn store(self, [packed, _]: [__m256i; 2], ends: &Ends, to: *mut u8, n: usize) {
        unsafe {
            let moved = _mm256_adds_epi16(packed, _mm256_set1_epi16(ends.zero_point));
            // Fours of channels 0, 8, 4 and 12.
            let moved = _mm256_permute4x64_epi64::<0xd8>(moved);
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(moved), _mm256_extracti128_si256::<1>(moved));
            let bytes = _mm_max_epu8(bytes, _mm_set1_epi8(ends.low as i8));
            let bytes = _mm_min_epu8(bytes, _mm_set1_epi8(ends.high as i8));
            let bytes = _mm_xor_si128(bytes, _mm_set1_epi8(if ends.signed { i8::MIN } else { 0 }));
            if n == 16 {
                _mm_storeu_si128(to.cast(), bytes);
            } else {
                let mut all = [0u8; 16];
                _mm_storeu_si128(all.as_mut_ptr().cast(), bytes);
                core::ptr::copy_nonoverlapping(all.as_ptr(), to, n);
            }
        }
    }
    #[inline(always)]
    unsafe fn store_sums(self, sums: &[__m256i; 4], to: *mut i32, n: usize) {
        unsafe {
            if n == 16 {
                _mm256_storeu_si256(to.cast(), sums[0]);
                _mm256_storeu_si256(to.add(8).cast(), sums[1]);
                return;
            }
            let mut all = [0i32; 16];
            _mm256_storeu_si256(all.as_mut_ptr().cast(), sums[0]);
            _mm256_storeu_si256(all.as_mut_ptr().add(8).cast(), sums[1]);
            core::ptr::copy_nonoverlapping(all.as_ptr(), to, n);
        }
    }
}

// SAFETY of every block below: as above.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl SimdWide for Avx2 {
    fn tap_weight(channel: usize, tap: usize) -> usize {
        channel * 2 + tap
    }
    #[inline(always)]
    unsafe fn widen(self, from: *const u8, to: *mut i16, n: usize, flip: u8) {
        unsafe {
            let flips = _mm_set1_epi8(flip as i8);
            let mut i = 0;
            while i + 16 <= n {
                let bytes = _mm_xor_si128(_mm_loadu_si128(from.add(i).cast()), flips);
                _mm256_storeu_si256(to.add(i).cast(), _mm256_cvtepu8_epi16(bytes));
                i += 16;
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
        sums: [__m256i; 4],
        [a, b]: [*const u8; 2],
        n: usize,
        flip: u8,
        weights: *const u8,
    ) -> [__m256i; 4] {
        unsafe {
            let flip = _mm_set1_epi8(flip as i8);
            let (a, b) = (_mm_xor_si128(bytes(a, n), flip), _mm_xor_si128(bytes(b, n), flip));
            let low = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
            let high = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b));
            let low = self.add_products(sums[0], low, self.weights(weights));
            let high = self.add_products(sums[1], high, self.weights(weights.add(32)));
            [low, high, low, low]
        }
    }
}

// SAFETY of every block below: as above.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl SimdRows for Avx2 {
    #[inline(always)]
    unsafe fn interleave(self, rows: [*const u8; 4], n: usize, flip: u8, to: *mut u8) {
        unsafe {
            let flip = _mm_set1_epi8(flip as i8);
            let (a, b) = (_mm_xor_si128(bytes(rows[0], n), flip), _mm_xor_si128(bytes(rows[1], n), flip));
            _mm256_store_si256(to.cast(), _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b)));
            _mm256_store_si256(to.add(32).cast(), _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b)));
        }
    }
    #[inline(always)]
    unsafe fn fill(self, number: u8, to: *mut u8) {
        unsafe {
            for i in 0..2 {
                _mm256_store_si256(to.add(32 * i).cast(), _mm256_set1_epi16(i16::from(number)));
            }
        }
    }
    #[inline(always)]
    unsafe fn inputs(self, p: *const u8) -> __m256i {
        unsafe { _mm256_load_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn nearest_even_fitting(self, sums: __m256i, factors: *const f32) -> __m256i {
        unsafe { _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(sums), _mm256_loadu_ps(factors))) }
    }
}
