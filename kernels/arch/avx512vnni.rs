//! AVX-512 VNNI: products of four pairs of bytes, added to a sum of 32 bits without saturation.
//!
//! Lanes of a panel's four vectors are those that unpacking bytes and packing sums give, so that neither needs a permutation: lane l of
//! vector g holds channel ⌊l / 4⌋ · 16 + 4 · g + l mod 4.

use core::arch::x86_64::*;

use super::avx2::Avx2;
use crate::int8::finish::Ends;
use crate::int8::simd::{SimdInt, SimdRows};
use crate::types::Isa;

/// Proof of AVX-512F, BW, VL and VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Vnni(());

crate::arch::token!(Avx512Vnni, target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni"));

/// The four bytes at `p` in every lane, flipped by those of a vector. LLVM takes three instructions.
///
/// # Safety
/// 1. The CPU has AVX-512F, and they can be read.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn vpxord(flip: __m512i, p: *const u8) -> __m512i {
    let flipped: __m512i;
    // SAFETY: reads the bytes, which the caller vouches for.
    unsafe {
        core::arch::asm!(
            "vpxord {flipped}, {flip}, dword ptr [{p}]{{1to16}}",
            flipped = lateout(zmm_reg) flipped,
            flip = in(zmm_reg) flip,
            p = in(reg) p,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    flipped
}

/// Selects the first `n` of 64.
#[inline(always)]
fn first(n: usize) -> u64 {
    debug_assert!(n <= 64);
    if n >= 64 { !0 } else { (1 << n) - 1 }
}

// SAFETY of every block below: the token proves the instruction set; addresses are the caller's word.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl SimdInt for Avx512Vnni {
    type V = __m512i;
    type Packed = __m512i;
    type Weights = __m512i;
    type Factor = __m512i;
    type Half = Half;
    const ISA: Isa = Isa::Avx512Vnni;
    const LANES: usize = 16;
    const GROUPS: usize = 4;
    const GROUP: usize = 4;
    const WIDE: bool = false;

    fn half(self) -> Half {
        Half(self)
    }
    fn channel(group: usize, lane: usize) -> usize {
        lane / 4 * 16 + group * 4 + lane % 4
    }
    fn weight(lane: usize, input: usize) -> usize {
        lane * 4 + input
    }
    #[inline(always)]
    unsafe fn load(self, p: *const i32) -> __m512i {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn weights(self, p: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn factor(self, p: *const u8, flip: u32) -> __m512i {
        unsafe { vpxord(_mm512_set1_epi32(flip as i32), p) }
    }
    #[inline(always)]
    unsafe fn factor_of(self, p: *const u8, n: usize, flip: u32) -> __m512i {
        unsafe {
            let bytes = [*p, if n > 1 { *p.add(1) } else { 0 }, if n > 2 { *p.add(2) } else { 0 }, 0];
            _mm512_set1_epi32((u32::from_le_bytes(bytes) ^ flip) as i32)
        }
    }
    #[inline(always)]
    fn add_products(self, sums: __m512i, factor: __m512i, weights: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, factor, weights) }
    }
    #[inline(always)]
    unsafe fn nearest_even(self, sums: __m512i, factors: *const f32) -> __m512i {
        unsafe {
            let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_loadu_ps(factors));
            // What 32 bits do not hold becomes the least number, which is right below alone.
            _mm512_cvtps_epi32(_mm512_min_ps(scaled, _mm512_set1_ps(1024.0)))
        }
    }
    #[inline(always)]
    unsafe fn tflite(self, sums: __m512i, q: *const i32, left: *const i32, right: *const i32) -> __m512i {
        unsafe {
            let (x, q, right) = (_mm512_sllv_epi32(sums, self.load(left)), self.load(q), self.load(right));
            let half = _mm512_set1_epi64(1 << 30);
            let even = _mm512_add_epi64(_mm512_mul_epi32(x, q), half);
            let odd = _mm512_mul_epi32(_mm512_srli_epi64::<32>(x), _mm512_srli_epi64::<32>(q));
            let odd = _mm512_slli_epi64::<1>(_mm512_add_epi64(odd, half));
            let high = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64::<31>(even), odd);
            let one = _mm512_set1_epi32(1);
            let mask = _mm512_sub_epi32(_mm512_sllv_epi32(one, right), one);
            let threshold = _mm512_sub_epi32(_mm512_srli_epi32::<1>(mask), _mm512_srai_epi32::<31>(high));
            let above = _mm512_cmpgt_epi32_mask(_mm512_and_si512(high, mask), threshold);
            let down = _mm512_srav_epi32(high, right);
            _mm512_mask_add_epi32(down, above, down, one)
        }
    }
    #[inline(always)]
    fn pack(self, a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_packs_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn store(self, packed: [__m512i; 2], ends: &Ends, to: *mut u8, n: usize) {
        unsafe {
            let zero_point = _mm512_set1_epi16(ends.zero_point);
            let (a, b) = (_mm512_adds_epi16(packed[0], zero_point), _mm512_adds_epi16(packed[1], zero_point));
            let bytes = _mm512_packus_epi16(a, b);
            let bytes = _mm512_max_epu8(bytes, _mm512_set1_epi8(ends.low as i8));
            let bytes = _mm512_min_epu8(bytes, _mm512_set1_epi8(ends.high as i8));
            let bytes = _mm512_xor_si512(bytes, _mm512_set1_epi8(if ends.signed { i8::MIN } else { 0 }));
            if n == 64 {
                _mm512_storeu_si512(to.cast(), bytes);
            } else {
                _mm512_mask_storeu_epi8(to.cast(), first(n), bytes);
            }
        }
    }
    #[inline(always)]
    unsafe fn store_sums(self, sums: &[__m512i; 4], to: *mut i32, n: usize) {
        unsafe {
            for g in 0..4 {
                // Each quarter is four neighbours.
                let quarters = [
                    _mm512_extracti32x4_epi32::<0>(sums[g]),
                    _mm512_extracti32x4_epi32::<1>(sums[g]),
                    _mm512_extracti32x4_epi32::<2>(sums[g]),
                    _mm512_extracti32x4_epi32::<3>(sums[g]),
                ];
                for (i, quarter) in quarters.into_iter().enumerate() {
                    let channel = Self::channel(g, 4 * i);
                    let mask = first(n.saturating_sub(channel).min(4)) as __mmask8;
                    _mm_mask_storeu_epi32(to.wrapping_add(channel), mask, quarter);
                }
            }
        }
    }
}

/// The first `n` inputs at `p`, of 64, flipped.
///
/// # Safety
/// 1. They can be read.
/// 2. The CPU has AVX-512 VNNI.
#[inline(always)]
unsafe fn row(p: *const u8, n: usize, flip: __m512i) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        let row = if n == 64 { _mm512_loadu_si512(p.cast()) } else { _mm512_maskz_loadu_epi8(first(n), p.cast()) };
        _mm512_xor_si512(row, flip)
    }
}

// SAFETY of every block below: as above.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl SimdRows for Avx512Vnni {
    #[inline(always)]
    unsafe fn interleave(self, rows: [*const u8; 4], n: usize, flip: u8, to: *mut u8) {
        unsafe {
            let flip = _mm512_set1_epi8(flip as i8);
            let (a, b) = (row(rows[0], n, flip), row(rows[1], n, flip));
            let (c, d) = (row(rows[2], n, flip), row(rows[3], n, flip));
            let (low, high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
            let (low_2, high_2) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
            _mm512_store_si512(to.cast(), _mm512_unpacklo_epi16(low, low_2));
            _mm512_store_si512(to.add(64).cast(), _mm512_unpackhi_epi16(low, low_2));
            _mm512_store_si512(to.add(128).cast(), _mm512_unpacklo_epi16(high, high_2));
            _mm512_store_si512(to.add(192).cast(), _mm512_unpackhi_epi16(high, high_2));
        }
    }
    #[inline(always)]
    unsafe fn fill(self, number: u8, to: *mut u8) {
        unsafe {
            for g in 0..4 {
                _mm512_store_si512(to.add(64 * g).cast(), _mm512_set1_epi8(number as i8));
            }
        }
    }
    #[inline(always)]
    unsafe fn inputs(self, p: *const u8) -> __m512i {
        unsafe { _mm512_load_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn nearest_even_fitting(self, sums: __m512i, factors: *const f32) -> __m512i {
        unsafe { _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_loadu_ps(factors))) }
    }
}

/// The lower half of each vector.
#[derive(Clone, Copy)]
pub(crate) struct Half(Avx512Vnni);

impl Half {
    /// For what AVX2 does in the same way.
    #[inline(always)]
    fn avx2(self) -> Avx2 {
        // SAFETY: AVX-512F includes AVX2 and FMA.
        unsafe { Avx2::assume() }
    }
}

// SAFETY of every block below: as above.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl SimdInt for Half {
    type V = __m256i;
    type Packed = __m256i;
    type Weights = __m256i;
    type Factor = __m256i;
    type Half = Half;
    const ISA: Isa = Isa::Avx512Vnni;
    const LANES: usize = 8;
    const GROUPS: usize = 4;
    const STEP: usize = 16;
    const GROUP: usize = 4;
    const WIDE: bool = false;

    fn half(self) -> Half {
        self
    }
    fn channel(group: usize, lane: usize) -> usize {
        Avx512Vnni::channel(group, lane)
    }
    fn weight(lane: usize, input: usize) -> usize {
        Avx512Vnni::weight(lane, input)
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
    unsafe fn factor(self, p: *const u8, flip: u32) -> __m256i {
        unsafe { _mm256_set1_epi32((p.cast::<u32>().read_unaligned() ^ flip) as i32) }
    }
    #[inline(always)]
    unsafe fn factor_of(self, p: *const u8, n: usize, flip: u32) -> __m256i {
        unsafe { _mm512_castsi512_si256(self.0.factor_of(p, n, flip)) }
    }
    #[inline(always)]
    fn add_products(self, sums: __m256i, factor: __m256i, weights: __m256i) -> __m256i {
        unsafe { _mm256_dpbusd_epi32(sums, factor, weights) }
    }
    #[inline(always)]
    unsafe fn nearest_even(self, sums: __m256i, factors: *const f32) -> __m256i {
        unsafe { self.avx2().nearest_even(sums, factors) }
    }
    #[inline(always)]
    unsafe fn tflite(self, sums: __m256i, q: *const i32, left: *const i32, right: *const i32) -> __m256i {
        unsafe { self.avx2().tflite(sums, q, left, right) }
    }
    #[inline(always)]
    fn pack(self, a: __m256i, b: __m256i) -> __m256i {
        self.avx2().pack(a, b)
    }
    #[inline(always)]
    unsafe fn store(self, packed: [__m256i; 2], ends: &Ends, to: *mut u8, n: usize) {
        unsafe {
            let zero_point = _mm256_set1_epi16(ends.zero_point);
            let (a, b) = (_mm256_adds_epi16(packed[0], zero_point), _mm256_adds_epi16(packed[1], zero_point));
            let bytes = _mm256_packus_epi16(a, b);
            let bytes = _mm256_max_epu8(bytes, _mm256_set1_epi8(ends.low as i8));
            let bytes = _mm256_min_epu8(bytes, _mm256_set1_epi8(ends.high as i8));
            let bytes = _mm256_xor_si256(bytes, _mm256_set1_epi8(if ends.signed { i8::MIN } else { 0 }));
            if n == 32 {
                _mm256_storeu_si256(to.cast(), bytes);
            } else {
                _mm256_mask_storeu_epi8(to.cast(), first(n) as u32, bytes);
            }
        }
    }
    #[inline(always)]
    unsafe fn store_sums(self, sums: &[__m256i; 4], to: *mut i32, n: usize) {
        unsafe {
            let mut all = [_mm512_setzero_si512(); 4];
            for g in 0..4 {
                all[g] = _mm512_castsi256_si512(sums[g]);
            }
            self.0.store_sums(&all, to, n);
        }
    }
}

// SAFETY of every block below: as above.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl SimdRows for Half {
    #[inline(always)]
    unsafe fn interleave(self, rows: [*const u8; 4], n: usize, flip: u8, to: *mut u8) {
        unsafe {
            let (mask, flip) = (first(n) as u32, _mm256_set1_epi8(flip as i8));
            let mut loaded = [flip; 4];
            for i in 0..4 {
                let row = if n == 32 {
                    _mm256_loadu_si256(rows[i].cast())
                } else {
                    _mm256_maskz_loadu_epi8(mask, rows[i].cast())
                };
                loaded[i] = _mm256_xor_si256(row, flip);
            }
            let [a, b, c, d] = loaded;
            let (low, high) = (_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b));
            let (low_2, high_2) = (_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d));
            _mm256_store_si256(to.cast(), _mm256_unpacklo_epi16(low, low_2));
            _mm256_store_si256(to.add(64).cast(), _mm256_unpackhi_epi16(low, low_2));
            _mm256_store_si256(to.add(128).cast(), _mm256_unpacklo_epi16(high, high_2));
            _mm256_store_si256(to.add(192).cast(), _mm256_unpackhi_epi16(high, high_2));
        }
    }
    #[inline(always)]
    unsafe fn fill(self, number: u8, to: *mut u8) {
        unsafe {
            for g in 0..4 {
                _mm256_store_si256(to.add(64 * g).cast(), _mm256_set1_epi8(number as i8));
            }
        }
    }
    #[inline(always)]
    unsafe fn inputs(self, p: *const u8) -> __m256i {
        unsafe { _mm256_load_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn nearest_even_fitting(self, sums: __m256i, factors: *const f32) -> __m256i {
        unsafe { self.avx2().nearest_even_fitting(sums, factors) }
    }
}
