//! The rates that no kernel can exceed: of multiply-adds that depend on nothing but themselves, and of reading memory.

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
    (2 * CHAINS * S::LANES, black_box(sum(s, chains)))
}

/// The sum of all elements, each read `times` times. Vectors are added to `CHAINS` sums in turn, as many as hide the
/// latency of additions: so what takes the time is to load them.
#[inline(always)]
pub(super) fn read<S: Simd, const CHAINS: usize>(s: S, data: &[f32], times: usize) -> f32 {
    let mut chains = [s.splat(0.0); CHAINS];
    for _ in 0..times {
        let mut rounds = data.chunks_exact(CHAINS * S::LANES);
        for round in &mut rounds {
            for (i, chain) in chains.iter_mut().enumerate() {
                // SAFETY: the slice has that many vectors.
                *chain = s.add(*chain, unsafe { s.load(round.as_ptr().wrapping_add(i * S::LANES)) });
            }
        }
        for rest in rounds.remainder().chunks(S::LANES) {
            // SAFETY: the mask selects the elements of the slice.
            chains[0] = s.add(chains[0], unsafe { s.load_masked(rest.as_ptr(), s.mask(0, rest.len())) });
        }
    }
    sum(s, chains)
}

/// Of all lanes.
#[inline(always)]
fn sum<S: Simd, const CHAINS: usize>(s: S, chains: [S::V; CHAINS]) -> f32 {
    let mut sum = s.splat(0.0);
    for chain in chains {
        sum = s.add(sum, chain);
    }
    let mut lanes = [0.0f32; 64];
    const { assert!(S::LANES <= 64) };
    // SAFETY: a vector has no more lanes than the array has elements.
    unsafe { s.store(lanes.as_mut_ptr(), sum) };
    lanes.iter().sum()
}
