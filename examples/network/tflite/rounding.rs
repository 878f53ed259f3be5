//! The rule `Tflite` of docs/numerics.md, for one number.

use crate::arch::Result;

/// A real factor as TFLite's reference kernels apply it: `q31` / 2³¹ · 2^`shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multiplier {
    q31: i32,
    shift: i32,
}

impl Multiplier {
    /// `factor` is finite and not negative.
    pub fn new(factor: f64) -> Result<Self> {
        if !(0.0..1e9).contains(&factor) {
            return Err(format!("scales give the factor {factor}, it must be 0 or more and below 10⁹"));
        }
        // factor = fraction · 2^shift with a fraction of ½ or more. A product by a power of two is exact.
        let mut shift = 0;
        let mut fraction = factor;
        while fraction >= 1.0 {
            fraction /= 2.0;
            shift += 1;
        }
        while fraction < 0.5 && shift >= -31 {
            fraction *= 2.0;
            shift -= 1;
        }
        let mut q31 = (fraction * f64::from(1u32 << 31)).round() as i64;
        if q31 == 1 << 31 {
            q31 /= 2;
            shift += 1;
        }
        // As small as that it takes every sum to 0.
        Ok(if shift < -31 { Self { q31: 0, shift: 0 } } else { Self { q31: q31 as i32, shift } })
    }

    /// The factor over a count, as TFLite's mean forms it: its 31 bits are cut off, not rounded.
    pub fn over(self, count: usize) -> Self {
        let shift = (count.ilog2() as i32).min(32).min(31 + self.shift);
        Self { q31: ((i64::from(self.q31) << shift) / count as i64) as i32, shift: self.shift - shift }
    }

    /// Fails unless `apply` is free of overflow for all `|x| ≤ bound`.
    pub fn check(self, bound: i64) -> Result<()> {
        let left = self.shift.max(0);
        if left < 31 && bound <= i64::from(i32::MAX) >> left {
            return Ok(());
        }
        Err(format!("sums up to {bound} overflow 32 bits, shifted left by {left}"))
    }

    /// Two roundings: the product's upper half, a half going up; then the shift to the right, a half going away from 0.
    pub fn apply(self, x: i32) -> i32 {
        let left = i64::from(x) << self.shift.max(0);
        let high = (left * i64::from(self.q31) + (1 << 30)) >> 31;
        let right = (-self.shift).max(0);
        let half = (1i64 << right) >> 1;
        // Of the negative a half must go down.
        let rounded = if high >= 0 { (high + half) >> right } else { -((half - high) >> right) };
        rounded as i32
    }
}
