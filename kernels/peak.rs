//! Multiply-adds that depend on nothing but themselves: the rate that no kernel can exceed.

use core::hint::black_box;

use super::simd::Simd;

/// `rounds` rounds of `CHAINS` independent vector multiply-adds, as many as hide the latency and fit the
/// registers. Returns the floating-point operations in a round, two a multiply-add, and a sum of the results.
#[inline(always)]
pub(super) fn multiply_adds<S: Simd, const CHAINS: usize>(s: S, rounds: usize) -> (usize, f32) {
    let (factor, addend) = (s.splat(black_box(0.5)), s.splat(black_box(1.0)));
    let mut chains = [addend; CHAINS];
    for _ in 0..rounds {
        for chain in &mut chains {
            *chain = s.mul_add(*chain, factor, addend);
        }
    }
    let sum = chains.into_iter().fold(addend, |sum, chain| s.add(sum, chain));
    let mut lanes = [0.0f32; 64];
    const { assert!(S::LANES <= 64) };
    // SAFETY: a vector has no more lanes than the array has elements.
    unsafe { s.store(lanes.as_mut_ptr(), sum) };
    (2 * CHAINS * S::LANES, black_box(lanes[0]))
}
