//! Tables of 256 bytes in vectors: each number becomes what the table has for it.

#[cfg(isa = "avx2")]
pub(crate) mod x86_64 {
    use core::arch::x86_64::*;

    use crate::int8::elementwise::loops;
    use crate::types::Isa;

    /// # Safety
    /// 1. The CPU has AVX2.
    #[target_feature(enable = "avx2")]
    pub(crate) unsafe fn avx2(data: &mut [u8], table: &[u8; 256]) {
        let (chunks, rest) = data.as_chunks_mut::<32>();
        // SAFETY: a table has sixteen parts of 16 bytes, a chunk has 32 bytes. The CPU has AVX2.
        unsafe {
            let parts: [__m256i; 16] = core::array::from_fn(|i| {
                _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().add(16 * i).cast()))
            });
            for chunk in chunks {
                let p = chunk.as_mut_ptr().cast();
                let x = _mm256_loadu_si256(p);
                let mut y = _mm256_setzero_si256();
                for i in 0..16 {
                    // Those of another part get their highest bit, which gives 0.
                    let place = _mm256_xor_si256(x, _mm256_set1_epi8((16 * i) as u8 as i8));
                    let place = _mm256_adds_epu8(place, _mm256_set1_epi8(0x70));
                    y = _mm256_or_si256(y, _mm256_shuffle_epi8(parts[i], place));
                }
                _mm256_storeu_si256(p, y);
            }
        }
        loops::look_up(rest, table);
    }

    /// With what this CPU has.
    ///
    /// # Safety
    /// 1. The CPU has AVX-512F and BW.
    #[cfg(isa = "avx512")]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(crate) unsafe fn avx512(data: &mut [u8], table: &[u8; 256]) {
        // SAFETY: the CPU has VBMI, or AVX2, which AVX-512F includes.
        unsafe { if Isa::has_vbmi() { vbmi(data, table) } else { avx2(data, table) } }
    }

    /// # Safety
    /// 1. The CPU has AVX-512F, BW and VBMI.
    #[cfg(isa = "avx512")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    unsafe fn vbmi(data: &mut [u8], table: &[u8; 256]) {
        // SAFETY: a table has four parts of 64 bytes; no byte beyond the data is selected. The CPU has the instructions.
        unsafe {
            let part = |i: usize| _mm512_loadu_si512(table.as_ptr().add(64 * i).cast());
            let parts = [part(0), part(1), part(2), part(3)];
            for chunk in data.chunks_mut(64) {
                let selected = !0 >> (64 - chunk.len());
                let x = _mm512_maskz_loadu_epi8(selected, chunk.as_ptr().cast());
                let low = _mm512_permutex2var_epi8(parts[0], x, parts[1]);
                let high = _mm512_permutex2var_epi8(parts[2], x, parts[3]);
                let y = _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high);
                _mm512_mask_storeu_epi8(chunk.as_mut_ptr().cast(), selected, y);
            }
        }
    }
}

#[cfg(isa = "neon")]
pub(crate) mod aarch64 {
    use core::arch::aarch64::*;

    use crate::int8::elementwise::loops;

    /// # Safety
    /// 1. The CPU has NEON.
    #[target_feature(enable = "neon")]
    pub(crate) unsafe fn neon(data: &mut [u8], table: &[u8; 256]) {
        let (chunks, rest) = data.as_chunks_mut::<16>();
        // SAFETY: a table has four parts of 64 bytes, a chunk has 16 bytes. The CPU has NEON.
        unsafe {
            let part = |i: usize| vld1q_u8_x4(table.as_ptr().add(64 * i));
            let parts = [part(0), part(1), part(2), part(3)];
            for chunk in chunks {
                let mut x = vld1q_u8(chunk.as_ptr());
                let mut y = vqtbl4q_u8(parts[0], x);
                for part in &parts[1..] {
                    // Those of another part are beyond 63, and change nothing.
                    x = vsubq_u8(x, vdupq_n_u8(64));
                    y = vqtbx4q_u8(y, *part, x);
                }
                vst1q_u8(chunk.as_mut_ptr(), y);
            }
        }
        loops::look_up(rest, table);
    }
}
