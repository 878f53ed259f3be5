//! AVX-512F: thirty-two registers of sixteen lanes, masked loads and stores.

use core::arch::x86_64::*;
#[cfg(feature = "half")]
use core::mem::MaybeUninit;

use crate::arch::avx2::Avx2;
#[cfg(feature = "half")]
use crate::convert::{Conversions, Vectors, functions};
#[cfg(feature = "half")]
use crate::simd::Storage;
use crate::simd::{Permute, Simd};
use crate::types::Isa;

/// Proof of AVX-512F, and so of AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

crate::arch::token!(Avx512, target_feature(enable = "avx512f"));

// SAFETY of every block below: the token proves the instruction set; addresses are the caller's word.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl Simd for Avx512 {
    type V = __m512;
    type Mask = __mmask16;
    type Index = __m512i;
    type Half = Avx2;
    const LANES: usize = 16;
    const SLOW_MASKED_STORES: bool = false;
    const ISA: Isa = Isa::Avx512;
    const SPLATS_MEMORY: bool = true;

    #[inline(always)]
    fn half(self) -> Avx2 {
        self.into()
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn select_lt(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes) }
    }
    #[inline(always)]
    fn exp2_of_shifted(self, x: __m512) -> __m512 {
        unsafe {
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(x));
            _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(127 << 23)))
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    fn mask(self, from: usize, to: usize) -> __mmask16 {
        debug_assert!(to <= 16);
        (((1u32 << to) - 1) & (!0 << from.min(16))) as __mmask16
    }
    #[inline(always)]
    fn mask_if(self, condition: bool, mask: __mmask16) -> __mmask16 {
        mask & (condition as __mmask16).wrapping_neg()
    }
    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, mask: __mmask16) -> __m512 {
        unsafe { _mm512_maskz_loadu_ps(mask, p) }
    }
    #[inline(always)]
    unsafe fn load_strided(self, p: *const f32, step: usize, mask: __mmask16) -> __m512 {
        debug_assert!(step <= crate::MAX_STRIDE);
        unsafe {
            let lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
            let index = _mm512_mullo_epi32(lane, _mm512_set1_epi32(step as i32));
            _mm512_mask_i32gather_ps::<4>(_mm512_setzero_ps(), mask, index, p)
        }
    }
    #[inline(always)]
    unsafe fn splat_for(self, times: usize, p: *const f32) -> __m512 {
        // A single multiply-add takes it from memory.
        unsafe { if times > 1 { vpbroadcastd(p) } else { self.splat(*p) } }
    }
    #[inline(always)]
    fn halves(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(0xff00, a, b) }
    }
    #[inline(always)]
    fn unzip(self, a: __m512, b: __m512) -> (__m512, __m512) {
        unsafe {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            (_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
        }
    }
    #[inline(always)]
    unsafe fn deal(self, p: *const f32, step: usize) -> [__m512; 4] {
        unsafe {
            // Rows i, i + 4, i + 8 and i + 12, four elements of each. (Loops, as `map` is a call, which is not inlined.)
            let mut rows = [_mm512_setzero_ps(); 4];
            for i in 0..4 {
                let row = |j: usize| p.wrapping_add((i + j) * step);
                let v = _mm512_castps128_ps512(_mm_loadu_ps(row(0)));
                let v = _mm512_insertf32x4::<1>(v, _mm_loadu_ps(row(4)));
                let v = _mm512_insertf32x4::<2>(v, _mm_loadu_ps(row(8)));
                rows[i] = _mm512_insertf32x4::<3>(v, _mm_loadu_ps(row(12)));
            }
            let (a, b) = (_mm512_unpacklo_ps(rows[0], rows[1]), _mm512_unpacklo_ps(rows[2], rows[3]));
            let (c, d) = (_mm512_unpackhi_ps(rows[0], rows[1]), _mm512_unpackhi_ps(rows[2], rows[3]));
            [
                _mm512_shuffle_ps::<0x44>(a, b),
                _mm512_shuffle_ps::<0xee>(a, b),
                _mm512_shuffle_ps::<0x44>(c, d),
                _mm512_shuffle_ps::<0xee>(c, d),
            ]
        }
    }
    #[inline(always)]
    fn repeated(self, first: usize, times: usize) -> __m512i {
        self.index(|i| (first + i) / times - first / times)
    }
    #[inline(always)]
    unsafe fn load_repeated(self, p: *const f32, n: usize, index: __m512i) -> __m512 {
        unsafe { _mm512_permutexvar_ps(index, self.load_masked(p, self.mask(0, n))) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, mask: __mmask16, v: __m512) {
        unsafe { _mm512_mask_storeu_ps(p, mask, v) }
    }
}

// SAFETY of every block below: as above.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl Permute for Avx512 {
    #[inline(always)]
    fn index(self, lane: impl Fn(usize) -> usize) -> __m512i {
        // Numbers beyond the last lane wrap: the instruction sees five bits.
        let index: [i32; 16] = core::array::from_fn(|i| lane(i) as i32);
        unsafe { _mm512_loadu_si512(index.as_ptr().cast()) }
    }
    #[inline(always)]
    fn pick(self, a: __m512, b: __m512, index: __m512i) -> __m512 {
        unsafe { _mm512_permutex2var_ps(a, index, b) }
    }
    #[inline(always)]
    fn shift(self, a: __m512, b: __m512, n: usize) -> __m512 {
        macro_rules! shift {
            ($($lanes:literal)*) => {
                match n {
                    $($lanes => unsafe { valignd::<$lanes>(a, b) },)*
                    _ => unreachable!("a shift by {n} lanes"),
                }
            };
        }
        shift!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    }
    #[inline(always)]
    fn unzip_ends(self, a: __m512) -> (__m512, __m512) {
        unsafe { (_mm512_shuffle_ps::<0x88>(a, a), _mm512_shuffle_ps::<0xdd>(a, a)) }
    }
}

// Two instructions for which LLVM takes others, `vpermt2ps` and `vbroadcastss`, that keep the units that multiply busy on Zen 4
// (experiment 047).

/// Lanes `N..` of `a`, then the first `N` of `b`.
///
/// # Safety
/// 1. The CPU has AVX-512F.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn valignd<const N: i32>(a: __m512, b: __m512) -> __m512 {
    let shifted: __m512;
    // SAFETY: registers alone.
    unsafe {
        core::arch::asm!(
            "valignd {shifted}, {b}, {a}, {n}",
            shifted = lateout(zmm_reg) shifted,
            a = in(zmm_reg) a,
            b = in(zmm_reg) b,
            n = const N,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    shifted
}

/// The element at `p` in every lane.
///
/// # Safety
/// 1. The CPU has AVX-512F.
/// 2. The element can be read.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn vpbroadcastd(p: *const f32) -> __m512 {
    let splat: __m512;
    // SAFETY: reads the element, which the caller vouches for.
    unsafe {
        core::arch::asm!(
            "vpbroadcastd {splat}, dword ptr [{p}]",
            splat = lateout(zmm_reg) splat,
            p = in(reg) p,
            options(pure, readonly, nostack, preserves_flags)
        );
    }
    splat
}

#[cfg(feature = "half")]
impl Avx512 {
    /// Those of `f16` by instructions of AVX-512F.
    pub(crate) fn conversions() -> Conversions {
        Conversions {
            f16: &[functions!(target_feature(enable = "avx512f"), vectors, Avx512)],
            bf16: &[functions!(target_feature(enable = "avx512f"), integer, half::bf16)],
        }
    }
}

// SAFETY of every block below: the token proves the instruction set; the arrays have as many elements as the vectors.
#[cfg(feature = "half")]
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl Vectors<16> for Avx512 {
    #[inline(always)]
    fn widen(self, from: &[u16; 16], to: &mut [MaybeUninit<f32>; 16]) {
        unsafe { _mm512_storeu_ps(to.as_mut_ptr().cast(), _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn narrow(self, from: &[f32; 16], to: &mut [MaybeUninit<u16>; 16]) {
        unsafe {
            let rounded = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm512_loadu_ps(from.as_ptr()));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), rounded);
        }
    }
    #[inline(always)]
    fn round(self, data: &mut [f32; 16]) {
        unsafe {
            let rounded = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm512_loadu_ps(data.as_ptr()));
            _mm512_storeu_ps(data.as_mut_ptr(), _mm512_cvtph_ps(rounded));
        }
    }
}

// SAFETY of every block below: as above.
#[cfg(feature = "half")]
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl Storage<half::f16> for Avx512 {
    #[inline(always)]
    unsafe fn widen(self, p: *const half::f16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn widen_masked(self, p: *const half::f16, mask: __mmask16) -> __m512 {
        unsafe { _mm512_cvtph_ps(load_selected(p.cast(), mask)) }
    }
    #[inline(always)]
    unsafe fn narrow(self, p: *mut half::f16, v: __m512) {
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)) }
    }
    #[inline(always)]
    unsafe fn narrow_masked(self, p: *mut half::f16, mask: __mmask16, v: __m512) {
        unsafe { store_selected(p.cast(), mask, _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)) }
    }
}

// SAFETY of every block below: as above.
#[cfg(feature = "half")]
#[allow(clippy::undocumented_unsafe_blocks, reason = "one comment above says it for all")]
impl Storage<half::bf16> for Avx512 {
    #[inline(always)]
    unsafe fn widen(self, p: *const half::bf16) -> __m512 {
        unsafe { upper_halves(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn widen_masked(self, p: *const half::bf16, mask: __mmask16) -> __m512 {
        unsafe { upper_halves(load_selected(p.cast(), mask)) }
    }
    #[inline(always)]
    unsafe fn narrow(self, p: *mut half::bf16, v: __m512) {
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(rounded_upper_halves(v))) }
    }
    #[inline(always)]
    unsafe fn narrow_masked(self, p: *mut half::bf16, mask: __mmask16, v: __m512) {
        unsafe { store_selected(p.cast(), mask, _mm512_cvtepi32_epi16(rounded_upper_halves(v))) }
    }
}

/// The pairs of lanes that the mask selects, if it selects no half of one: AVX-512F has no masked loads and stores of 16 bits.
#[cfg(feature = "half")]
#[inline(always)]
fn pairs(mask: __mmask16) -> Option<__mmask16> {
    // Every other bit, moved together.
    let m = mask & 0x5555;
    let m = (m | m >> 1) & 0x3333;
    let m = (m | m >> 2) & 0x0f0f;
    ((mask ^ mask >> 1) & 0x5555 == 0).then_some((m | m >> 4) & 0xff)
}

/// The selected elements at `p`, and zeros.
///
/// # Safety
/// 1. The CPU has AVX-512F.
/// 2. The selected elements can be read.
#[cfg(feature = "half")]
#[inline(always)]
unsafe fn load_selected(p: *const u16, mask: __mmask16) -> __m256i {
    // SAFETY: the caller's.
    unsafe {
        if let Some(pairs) = pairs(mask) {
            return _mm512_castsi512_si256(_mm512_maskz_loadu_epi32(pairs, p.cast()));
        }
        let mut few = [0; 16];
        for i in 0..16 {
            if mask >> i & 1 == 1 {
                few[i] = *p.wrapping_add(i);
            }
        }
        _mm256_loadu_si256(few.as_ptr().cast())
    }
}

/// Writes the selected elements to `p`.
///
/// # Safety
/// 1. The CPU has AVX-512F.
/// 2. The selected elements can be written.
#[cfg(feature = "half")]
#[inline(always)]
unsafe fn store_selected(p: *mut u16, mask: __mmask16, v: __m256i) {
    // SAFETY: the caller's.
    unsafe {
        if let Some(pairs) = pairs(mask) {
            return _mm512_mask_storeu_epi32(p.cast(), pairs, _mm512_castsi256_si512(v));
        }
        let mut all = [0; 16];
        _mm256_storeu_si256(all.as_mut_ptr().cast(), v);
        for i in 0..16 {
            if mask >> i & 1 == 1 {
                *p.wrapping_add(i) = all[i];
            }
        }
    }
}

/// Elements of 16 bits as the upper halves of 32, with zeros below.
///
/// # Safety
/// 1. The CPU has AVX-512F.
#[cfg(feature = "half")]
#[inline(always)]
unsafe fn upper_halves(halves: __m256i) -> __m512 {
    // SAFETY: the caller's.
    unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves))) }
}

/// Numbers rounded to their upper halves, of two equally near the even one, in the lower halves. A NaN becomes quiet.
///
/// # Safety
/// 1. The CPU has AVX-512F.
#[cfg(feature = "half")]
#[inline(always)]
unsafe fn rounded_upper_halves(v: __m512) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        let bits = _mm512_castps_si512(v);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
        _mm512_srli_epi32::<16>(_mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x0040_0000)))
    }
}
