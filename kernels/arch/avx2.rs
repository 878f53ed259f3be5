//! AVX2 with FMA: sixteen registers of eight lanes.

use core::arch::x86_64::*;
#[cfg(feature = "half")]
use core::mem::MaybeUninit;

use crate::arch::avx512::Avx512;
#[cfg(feature = "half")]
use crate::convert::{Conversions, Functions, Vectors, functions};
use crate::simd::Simd;
use crate::types::Isa;

/// Proof of AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl From<Avx512> for Avx2 {
    /// AVX-512F implies both, and is detected only with both.
    fn from(_: Avx512) -> Self {
        Self(())
    }
}

crate::arch::token!(Avx2, target_feature(enable = "avx2,fma"));

// SAFETY of every block below: the token proves the instruction set; addresses are the caller's word.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl Simd for Avx2 {
    type V = __m256;
    /// All bits of the selected lanes.
    type Mask = __m256i;
    type Index = __m256i;
    type Half = Self;
    const LANES: usize = 8;
    const ISA: Isa = Isa::Avx2;

    #[inline(always)]
    fn half(self) -> Self {
        self
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn select_lt(self, a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) }
    }
    #[inline(always)]
    fn exp2_of_shifted(self, x: __m256) -> __m256 {
        unsafe {
            let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(x));
            _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(127 << 23)))
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    fn mask(self, from: usize, to: usize) -> __m256i {
        let lane = unsafe { _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7) };
        debug_assert!(to <= 8);
        unsafe {
            let below_from = _mm256_cmpgt_epi32(_mm256_set1_epi32(from.min(8) as i32), lane);
            let below_to = _mm256_cmpgt_epi32(_mm256_set1_epi32(to as i32), lane);
            _mm256_andnot_si256(below_from, below_to)
        }
    }
    #[inline(always)]
    fn mask_if(self, condition: bool, mask: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(mask, _mm256_set1_epi32(-i32::from(condition))) }
    }
    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, mask: __m256i) -> __m256 {
        unsafe { _mm256_maskload_ps(p, mask) }
    }
    #[inline(always)]
    unsafe fn load_strided(self, p: *const f32, step: usize, mask: __m256i) -> __m256 {
        debug_assert!(step <= crate::MAX_STRIDE);
        unsafe {
            let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            let index = _mm256_mullo_epi32(lane, _mm256_set1_epi32(step as i32));
            _mm256_mask_i32gather_ps::<4>(_mm256_setzero_ps(), p, index, _mm256_castsi256_ps(mask))
        }
    }
    #[inline(always)]
    fn halves(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_blend_ps::<0xf0>(a, b) }
    }
    #[inline(always)]
    fn unzip(self, a: __m256, b: __m256) -> (__m256, __m256) {
        unsafe {
            let even = _mm256_castps_pd(_mm256_shuffle_ps::<0x88>(a, b));
            let odd = _mm256_castps_pd(_mm256_shuffle_ps::<0xDD>(a, b));
            (
                _mm256_castpd_ps(_mm256_permute4x64_pd::<0xD8>(even)),
                _mm256_castpd_ps(_mm256_permute4x64_pd::<0xD8>(odd)),
            )
        }
    }
    #[inline(always)]
    unsafe fn deal(self, p: *const f32, step: usize) -> [__m256; 4] {
        unsafe {
            // Rows i and i + 4, four elements of each. (Loops, as `map` is a call, which is not inlined.)
            let mut rows = [_mm256_setzero_ps(); 4];
            for i in 0..4 {
                let low = _mm256_castps128_ps256(_mm_loadu_ps(p.wrapping_add(i * step)));
                rows[i] = _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(p.wrapping_add((i + 4) * step)));
            }
            let (a, b) = (_mm256_unpacklo_ps(rows[0], rows[1]), _mm256_unpacklo_ps(rows[2], rows[3]));
            let (c, d) = (_mm256_unpackhi_ps(rows[0], rows[1]), _mm256_unpackhi_ps(rows[2], rows[3]));
            [
                _mm256_shuffle_ps::<0x44>(a, b),
                _mm256_shuffle_ps::<0xee>(a, b),
                _mm256_shuffle_ps::<0x44>(c, d),
                _mm256_shuffle_ps::<0xee>(c, d),
            ]
        }
    }
    #[inline(always)]
    fn repeated(self, first: usize, times: usize) -> __m256i {
        let index: [i32; 8] = core::array::from_fn(|i| ((first + i) / times - first / times) as i32);
        unsafe { _mm256_loadu_si256(index.as_ptr().cast()) }
    }
    #[inline(always)]
    unsafe fn load_repeated(self, p: *const f32, n: usize, index: __m256i) -> __m256 {
        // Masked loads are slow on some CPUs.
        let v = unsafe { if n == 8 { self.load(p) } else { self.load_masked(p, self.mask(0, n)) } };
        unsafe { _mm256_permutevar8x32_ps(v, index) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, mask: __m256i, v: __m256) {
        unsafe { _mm256_maskstore_ps(p, mask, v) }
    }
}

#[cfg(feature = "half")]
impl Avx2 {
    /// Those of `f16` by F16C, which AVX2 does not imply, or of integers.
    pub(crate) fn conversions() -> Conversions {
        const F16: [&Functions; 2] = [
            functions!(target_feature(enable = "avx2,fma,f16c"), vectors, F16c),
            functions!(target_feature(enable = "avx2,fma"), integer, half::f16),
        ];
        let missing = if Isa::has_f16c() { 0 } else { 1 };
        Conversions {
            f16: &F16[missing..],
            bf16: &[functions!(target_feature(enable = "avx2,fma"), integer, half::bf16)],
        }
    }
}

/// Proof of F16C.
#[cfg(feature = "half")]
#[derive(Clone, Copy)]
struct F16c(());

#[cfg(feature = "half")]
impl F16c {
    /// Only code that is compiled with the feature can call this without `unsafe`.
    #[target_feature(enable = "f16c")]
    fn assume() -> Self {
        F16c(())
    }
}

// SAFETY of every block below: the token proves the instruction set; the arrays have as many elements as the vectors.
#[cfg(feature = "half")]
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl Vectors<8> for F16c {
    #[inline(always)]
    fn widen(self, from: &[u16; 8], to: &mut [MaybeUninit<f32>; 8]) {
        unsafe { _mm256_storeu_ps(to.as_mut_ptr().cast(), _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn narrow(self, from: &[f32; 8], to: &mut [MaybeUninit<u16>; 8]) {
        unsafe {
            let rounded = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(from.as_ptr()));
            _mm_storeu_si128(to.as_mut_ptr().cast(), rounded);
        }
    }
    #[inline(always)]
    fn round(self, data: &mut [f32; 8]) {
        unsafe {
            let rounded = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(data.as_ptr()));
            _mm256_storeu_ps(data.as_mut_ptr(), _mm256_cvtph_ps(rounded));
        }
    }
}
