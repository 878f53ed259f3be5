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
            let operations = self.multiply_adds(rounds)?;
            Ok((operations as f64, start.elapsed().as_secs_f64()))
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

    /// Does `rounds` rounds of independent multiply-adds with this instruction set's vectors, so that their peak rate
    /// can be timed, on several threads at once too. Returns the floating-point operations done, two a multiply-add.
    ///
    /// # Errors
    /// If this CPU does not have the instruction set.
    pub fn multiply_adds(self, rounds: usize) -> Result<u64, Error> {
        let (operations, result) = crate::kernels::multiply_adds(self, rounds)
            .ok_or(Error::UnavailableIsa { isa: self, from_environment: false })?;
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
        crate::kernels::read(self, data, times).ok_or(Error::UnavailableIsa { isa: self, from_environment: false })
    }
}
