//! The rates that no kernel can exceed: of multiply-adds that depend on nothing but themselves, and of reading memory.

use core::hint::black_box;

use crate::simd::Simd;
#[cfg(feature = "std")]
use crate::types::{Error, Isa};

/// `rounds` rounds of `CHAINS` independent vector multiply-adds, as many as hide the latency and fit the
/// registers. Returns the floating-point operations in a round, two a multiply-add, and a sum of the results.
#[inline(always)]
pub(crate) fn multiply_adds<S: Simd, const CHAINS: usize>(s: S, rounds: usize) -> (usize, f32) {
    let (factor, addend) = (s.splat(black_box(0.5)), s.splat(black_box(1.0)));
    let mut chains = [addend; CHAINS];
    for _ in 0..rounds {
        for chain in &mut chains {
            *chain = s.mul_add(*chain, factor, addend);
        }
    }
    (2 * CHAINS * S::LANES, black_box(sum(s, chains)))
}

/// `rounds` rounds of `CHAINS` independent products of numbers of 8 bits. Returns the operations in a round, two a multiply-add, and
/// a sum.
#[cfg(feature = "int8")]
#[inline(always)]
pub(crate) fn products<S: crate::int8::simd::SimdInt, const CHAINS: usize>(s: S, rounds: usize) -> (usize, i32) {
    /// A load that crosses lines would count, too.
    #[repr(align(64))]
    struct Line([u8; 64]);
    let ones = black_box(Line([1; 64]));
    let mut p = ones.0.as_ptr();
    // SAFETY: no vector or factor is longer than the array.
    let (sums, factor) = unsafe { (s.load(p.cast()), s.factor(p, 0)) };
    let mut chains = [sums; CHAINS];
    for _ in 0..rounds {
        for chain in &mut chains {
            // Read each time, lest products are formed once for all.
            p = crate::simd::opaque_address(p);
            // SAFETY: as above.
            *chain = s.add_products(*chain, factor, unsafe { s.weights(p) });
        }
    }
    let mut sum = 0i32;
    for pair in chains.chunks_exact(2) {
        let mut lanes = [0i32; 64];
        const { assert!(S::CHANNELS <= 64) };
        // SAFETY: a panel has no more sums than the array elements.
        unsafe { s.store_sums(&[pair[0], pair[1], pair[0], pair[1]], lanes.as_mut_ptr(), S::CHANNELS) };
        sum = lanes.iter().fold(sum, |sum, lane| sum.wrapping_add(*lane));
    }
    (2 * CHAINS * S::LANES * S::GROUP, sum)
}

/// The sum of all elements, each read `times` times. Vectors are added to `CHAINS` sums in turn, as many as hide the
/// latency of additions: so what takes the time is to load them.
#[inline(always)]
pub(crate) fn read<S: Simd, const CHAINS: usize>(s: S, data: &[f32], times: usize) -> f32 {
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

/// The best rate, in billions a second, of so many rounds, of which each call returns the operations and the seconds.
#[cfg(feature = "std")]
fn best_rate(time: impl Fn(usize) -> Result<(f64, f64), Error>) -> Result<f64, Error> {
    // Slices of about 100 µs: short enough that some are not interrupted.
    let mut rounds = 1000;
    while time(rounds)?.1 < 100e-6 {
        rounds *= 2;
    }
    let mut best = 0.0f64;
    for _ in 0..300 {
        let (operations, seconds) = time(rounds)?;
        best = best.max(operations / seconds * 1e-9);
    }
    Ok(best)
}

#[cfg(feature = "std")]
impl Isa {
    /// Measures the peak rate of multiply-adds of the calling thread, in GFLOP/s at two a multiply-add: the
    /// best of many slices over some 30 ms.
    ///
    /// # Errors
    /// If this CPU does not have the instruction set.
    pub fn peak_gflops(self) -> Result<f64, Error> {
        let time = |rounds: usize| {
            let start = std::time::Instant::now();
            let operations = self.multiply_adds(rounds)?;
            Ok((operations as f64, start.elapsed().as_secs_f64()))
        };
        best_rate(time)
    }

    /// Measures the peak rate of products of numbers of 8 bits, added to sums of 32, of the calling thread, in billions of operations
    /// a second at two a multiply-add: the best of many slices over some 30 ms.
    ///
    /// # Errors
    /// If this CPU does not have the instruction set.
    #[cfg(feature = "int8")]
    pub fn peak_gops(self) -> Result<f64, Error> {
        let time = |rounds: usize| {
            let start = std::time::Instant::now();
            // Those of AVX-512 alone are AVX2's.
            let isa = if self == Isa::Avx512 { Isa::Avx2 } else { self };
            let (operations, sum) =
                crate::products(isa, rounds).ok_or(Error::UnavailableIsa { isa: self, from_environment: false })?;
            black_box(sum);
            Ok((operations as f64, start.elapsed().as_secs_f64()))
        };
        best_rate(time)
    }

    /// Does `rounds` rounds of independent multiply-adds with this instruction set's vectors, so that their peak rate
    /// can be timed, on several threads at once too. Returns the floating-point operations done, two a multiply-add.
    ///
    /// # Errors
    /// If this CPU does not have the instruction set.
    pub fn multiply_adds(self, rounds: usize) -> Result<u64, Error> {
        let (operations, result) =
            crate::multiply_adds(self, rounds).ok_or(Error::UnavailableIsa { isa: self, from_environment: false })?;
        core::hint::black_box(result);
        Ok(operations as u64)
    }

    /// Reads `data` `times` times with this instruction set's vectors and returns the sum, added up in no particular
    /// order, so that the rate at which memory is read can be timed. To see the full rate of the first-level cache, let
    /// `data` start on a cache line, and read it so often that the call itself takes no time.
    ///
    /// # Errors
    /// If this CPU does not have the instruction set.
    pub fn read(self, data: &[f32], times: usize) -> Result<f32, Error> {
        crate::read(self, data, times).ok_or(Error::UnavailableIsa { isa: self, from_environment: false })
    }
}
