//! Measuring what the CPU can do at most.

use crate::error::Error;
use crate::kernels::isa::Isa;

impl Isa {
    /// Measures the peak rate of multiply-adds of the calling thread, in GFLOP/s at two a multiply-add: the
    /// best of many slices over some 30 ms.
    ///
    /// # Errors
    /// If this CPU does not have the instruction set.
    pub fn peak_gflops(self) -> Result<f64, Error> {
        let time = |rounds: usize| {
            let start = std::time::Instant::now();
            let (operations, result) =
                crate::kernels::multiply_adds(self, rounds).ok_or(Error::UnavailableIsa { isa: self })?;
            let seconds = start.elapsed().as_secs_f64();
            core::hint::black_box(result);
            Ok((operations as f64, seconds))
        };
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
}
