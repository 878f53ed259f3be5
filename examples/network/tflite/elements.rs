//! Element by element, in TFLite's arithmetic: to 8 bits, from 8 bits, and sums of two tensors.

use super::rounding::Multiplier;
use super::values::{Quantized, Values};
use crate::arch::Result;

pub fn quantize(x: &[f32], to: Quantized) -> Values {
    let (low, high) = to.kind.range();
    to.kind.pack(x.iter().map(|&value| to.nearest(value).clamp(low, high)))
}

pub fn dequantize(q: &Values, from: Quantized) -> Vec<f32> {
    q.centred(from.zero_point).into_iter().map(|value| from.scale * f32::from(value)).collect()
}

/// An addition of tensors of the same shape, ready to run.
pub struct Addition {
    a: (Quantized, Multiplier),
    b: (Quantized, Multiplier),
    to: (Quantized, Multiplier),
    clamp: (i32, i32),
}

/// How many bits finer than twice the coarser of its operands' scales an addition computes.
const FINER: i32 = 20;

impl Addition {
    pub fn new([a, b]: [Quantized; 2], to: Quantized, clamp: (i32, i32)) -> Result<Self> {
        let twice = 2.0 * f64::from(a.scale.max(b.scale));
        let operand = |of: Quantized| Ok::<_, String>((of, Multiplier::new(f64::from(of.scale) / twice)?));
        let factor = twice / (f64::from(1 << FINER) * f64::from(to.scale));
        if factor >= 1.0 {
            return Err(format!(
                "its output's scale {} is too fine for its inputs' {} and {}",
                to.scale, a.scale, b.scale
            ));
        }
        Ok(Self { a: operand(a)?, b: operand(b)?, to: (to, Multiplier::new(factor)?), clamp })
    }

    pub fn run(&self, a: &Values, b: &Values) -> Values {
        let scaled = |values: &Values, (of, factor): (Quantized, Multiplier)| {
            let values = values.centred(of.zero_point).into_iter();
            values.map(move |value| factor.apply(i32::from(value) << FINER))
        };
        let ((to, factor), (low, high)) = (self.to, self.clamp);
        let sums = scaled(a, self.a).zip(scaled(b, self.b)).map(|(a, b)| factor.apply(a + b));
        to.kind.pack(sums.map(|sum| sum.saturating_add(to.zero_point).clamp(low, high)))
    }
}
