//! What becomes of a sum: a number of 8 bits by one of two rules, or the sum itself.

use alloc::vec::Vec;

use super::simd::{SimdInt, SimdRows};
use crate::memory::AlignedBuf;
use crate::types::Error;

/// A factor of `Tflite`: `q` / 2³¹ · 2^`e`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixed {
    /// From 2³⁰ up to 2³¹ − 1, or 0.
    pub q: i32,
    /// From −31 to 31.
    pub e: i32,
}

/// How a stage's sums are scaled: a factor for each output channel.
#[derive(Clone, Debug)]
pub enum Scaling {
    /// By a factor of `f32`, to the nearest even number.
    NearestEven(Vec<f32>),
    /// By a number of 31 bits, rounded twice.
    Tflite(Vec<Fixed>),
    /// Not at all: outputs are the sums.
    Sums,
    /// To `f32`, with biases of that type.
    Real {
        /// The scales of the weights.
        scales: Vec<f32>,
        /// Added to what sums stand for.
        bias: Vec<f32>,
    },
}

/// How scaled sums become numbers of 8 bits, as `u8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Added after rounding, from 0 to 255.
    pub zero_point: i16,
    /// The least output.
    pub low: u8,
    /// The greatest output.
    pub high: u8,
    /// Whether outputs are `i8`, and so stored with their highest bits flipped.
    pub signed: bool,
}

/// Which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    NearestEven,
    Tflite,
    Sums,
}

/// A stage's factors, in the order that a kernel has channels in, padded to whole panels.
pub(crate) struct Factors {
    rule: Rule,
    /// Whether all scaled sums fit in 32 bits.
    fits: bool,
    /// The channels, padded.
    len: usize,
    /// `f32`, or three tables of `i32`: the fractions, shifts to the left, shifts to the right.
    table: AlignedBuf,
}

impl Factors {
    /// `bounds`: what a channel's sum is at most, either way. `order`: the channel of each place, some of which lie beyond the last.
    pub(crate) fn new(
        scaling: &Scaling,
        bounds: impl Iterator<Item = i64>,
        order: impl Iterator<Item = usize> + Clone,
    ) -> Result<Self, Error> {
        let len = order.clone().count();
        let tables = |fill: &dyn Fn(usize) -> [u32; 3], number: usize| {
            let mut table = AlignedBuf::zeroed(number * len)?;
            for (place, channel) in order.clone().enumerate() {
                for (i, bits) in fill(channel).into_iter().take(number).enumerate() {
                    table.as_mut_slice()[i * len + place] = f32::from_bits(bits);
                }
            }
            Ok(table)
        };
        let fits = match scaling {
            // A little less than 2³¹, for the roundings.
            Scaling::NearestEven(factors) => {
                factors.iter().zip(bounds).all(|(&factor, bound)| f64::from(factor).abs() * (bound as f64) < 2.1e9)
            }
            _ => true,
        };
        let (rule, table) = match scaling {
            Scaling::NearestEven(factors) => {
                let fill = |channel| [factors.get(channel).map_or(0, |factor: &f32| factor.to_bits()), 0, 0];
                (Rule::NearestEven, tables(&fill, 1)?)
            }
            Scaling::Tflite(factors) => {
                let fill = |channel| {
                    let Fixed { q, e } = factors.get(channel).copied().unwrap_or_default();
                    [q as u32, e.max(0) as u32, (-e).max(0) as u32]
                };
                (Rule::Tflite, tables(&fill, 3)?)
            }
            // Reals are made of sums that were stored.
            Scaling::Sums | Scaling::Real { .. } => (Rule::Sums, AlignedBuf::default()),
        };
        Ok(Self { rule, fits, len, table })
    }

    /// Whether there are none.
    pub(crate) fn is_of_sums(&self) -> bool {
        self.rule == Rule::Sums
    }

    pub(crate) fn args(&self, ends: Ends) -> Finish {
        let factors = self.table.as_slice().as_ptr();
        Finish { rule: self.rule, fits: self.fits, factors, len: self.len, ends }
    }
}

/// What a kernel is told of its sums' further way.
#[derive(Clone, Copy)]
pub(crate) struct Finish {
    pub(crate) rule: Rule,
    /// Whether all scaled sums fit in 32 bits.
    pub(crate) fits: bool,
    factors: *const f32,
    len: usize,
    pub(crate) ends: Ends,
}

impl Finish {
    /// The rounded numbers of a vector of sums, of the rule. `place`: where it is in a stage's tables.
    ///
    /// # Safety
    /// 1. The tables have a vector there, of factors of this rule.
    #[inline(always)]
    pub(crate) unsafe fn rounded<S: SimdInt, const TFLITE: bool>(&self, s: S, sums: S::V, place: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe {
            let p = self.factors.add(place);
            if TFLITE {
                s.tflite(sums, p.cast(), p.add(self.len).cast(), p.add(2 * self.len).cast())
            } else {
                s.nearest_even(sums, p)
            }
        }
    }

    /// The same of [`Rule::NearestEven`].
    ///
    /// # Safety
    /// 1. As [`rounded`](Self::rounded).
    /// 2. All scaled sums fit in 32 bits.
    #[inline(always)]
    pub(crate) unsafe fn rounded_fitting<S: SimdRows>(&self, s: S, sums: S::V, place: usize) -> S::V {
        // SAFETY: the caller's.
        unsafe { s.nearest_even_fitting(sums, self.factors.add(place)) }
    }

    /// A panel's sums for one pixel, as numbers of 8 bits, the first `n` of which are stored.
    ///
    /// # Safety
    /// 1. As [`rounded`](Self::rounded), for a whole panel.
    /// 2. `n` bytes can be written to `to`.
    #[inline(always)]
    pub(crate) unsafe fn store<S: SimdInt, const TFLITE: bool>(
        &self,
        s: S,
        sums: &[S::V; 4],
        place: usize,
        to: *mut u8,
        n: usize,
    ) {
        // SAFETY: the caller's.
        unsafe {
            let a = self.rounded::<S, TFLITE>(s, sums[0], place);
            let b = self.rounded::<S, TFLITE>(s, sums[1], place + S::STEP);
            let mut packed = [s.pack(a, b); 2];
            if S::GROUPS == 4 {
                let a = self.rounded::<S, TFLITE>(s, sums[2], place + 2 * S::STEP);
                let b = self.rounded::<S, TFLITE>(s, sums[3], place + 3 * S::STEP);
                packed[1] = s.pack(a, b);
            }
            s.store(packed, &self.ends, to, n);
        }
    }
}

/// A sum as [`Rule::NearestEven`] rounds it, as far as it matters to 8 bits: between −1024 and 1024.
#[inline(always)]
pub(crate) fn nearest_even(sum: i32, factor: f32) -> i32 {
    // Above, a number's last bit is worth 1.
    const SHIFT: f32 = 12_582_912.0;
    let scaled = (sum as f32 * factor).clamp(-1024.0, 1024.0);
    ((scaled + SHIFT) - SHIFT) as i32
}

/// A sum as [`Rule::Tflite`] rounds it.
#[inline(always)]
pub(crate) fn tflite(sum: i32, q: i32, left: u32, right: u32) -> i32 {
    let high = ((i64::from(sum.wrapping_shl(left)) * i64::from(q) + (1 << 30)) >> 31) as i32;
    // A half goes away from 0.
    let mask = ((1i64 << right) - 1) as i32;
    let above = (high & mask) > (mask >> 1) + i32::from(high < 0);
    (high >> right) + i32::from(above)
}
