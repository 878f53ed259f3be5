//! What goes element by element. Loops over slices, of which LLVM makes vectors of the instruction set that they are compiled for; without
//! fused multiply-adds, so that all give the same bits.

use super::SIGN;
use super::finish::{Ends, Fixed};
use super::stage::Integer;
use crate::rows;
use crate::table::Family;
use crate::types::Isa;

/// Numbers of 8 bits: `scale` · (q − zero point).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbers {
    /// The step from a number to the next.
    pub scale: f32,
    /// The zero point, the range that outputs are clamped to, and whether they are `i8`.
    pub ends: Ends,
}

impl Numbers {
    #[inline(always)]
    fn flip(&self) -> u8 {
        if self.ends.signed { SIGN } else { 0 }
    }

    /// A number, less the zero point.
    #[inline(always)]
    fn centred(&self, q: u8) -> i32 {
        i32::from(q ^ self.flip()) - i32::from(self.ends.zero_point)
    }

    /// The number so many steps from the zero point, rounded. A NaN counts as 0 steps.
    #[inline(always)]
    fn at<const AWAY: bool>(&self, steps: f32) -> u8 {
        let [low, high] = [self.ends.low, self.ends.high].map(|end| f32::from(i16::from(end) - self.ends.zero_point));
        let steps = if steps.is_nan() { 0.0 } else { steps };
        let steps = if steps < low { low } else { steps };
        let steps = if steps > high { high } else { steps };
        // Above, a number's last bit is worth 1.
        const SHIFT: f32 = 12_582_912.0;
        let shifted = steps + SHIFT;
        let mut whole = shifted.to_bits().wrapping_sub(SHIFT.to_bits()) as i32;
        if AWAY {
            let rest = steps - (shifted - SHIFT);
            whole += i32::from((rest == 0.5) & (steps > 0.0)) - i32::from((rest == -0.5) & (steps < 0.0));
        }
        (whole + i32::from(self.ends.zero_point)) as u8 ^ self.flip()
    }

    /// The number so many steps, a whole number, from the zero point.
    #[inline(always)]
    fn at_whole(&self, steps: i32) -> u8 {
        let moved = steps.saturating_add(self.ends.zero_point.into());
        moved.clamp(self.ends.low.into(), self.ends.high.into()) as u8 ^ self.flip()
    }
}

/// The factors of a sum of numbers of which the first has the greater scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SumFactors {
    /// Of the second, less the zero point, times 2²⁰. That of the first is 1/2.
    pub second: Fixed,
    /// Of what both come to.
    pub sum: Fixed,
}

/// A sum below 2²⁹ times a factor whose `e` is not positive, rounded twice.
#[inline(always)]
fn fixed(sum: i32, Fixed { q, e }: Fixed) -> i32 {
    let high = ((i64::from(sum) * i64::from(q) + (1 << 30)) >> 31) as i32;
    // A half goes away from 0.
    let right = e.unsigned_abs();
    let sign = if right > 0 { high >> 31 } else { 0 };
    (high + sign + ((1u32 << right) >> 1) as i32) >> right
}

/// What is added, and what both and their sums stand for.
#[derive(Clone, Copy)]
pub(crate) struct Sum<'a> {
    pub(crate) inputs: [&'a [u8]; 2],
    pub(crate) of: [Numbers; 3],
    pub(crate) factors: Option<SumFactors>,
}

/// What outputs of `f32` are made of, for each channel.
#[derive(Clone, Copy)]
pub(crate) struct Reals<'a> {
    /// Sums of weights.
    pub(crate) weights: &'a [i32],
    pub(crate) scales: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) input_scale: f32,
    pub(crate) zero_point: u8,
}

/// The loops.
pub(crate) mod loops {
    use super::{Numbers, Reals, SumFactors, fixed};

    /// The least and the greatest number, or 0 where that is less or greater. NaN is left out.
    #[inline(always)]
    pub(crate) fn range(x: &[f32]) -> [f32; 2] {
        const LANES: usize = 32;
        let (mut low, mut high) = ([0f32; LANES], [0f32; LANES]);
        let (chunks, rest) = x.as_chunks::<LANES>();
        let mut rest_of = [0f32; LANES];
        rest_of[..rest.len()].copy_from_slice(rest);
        for chunk in chunks.iter().chain([&rest_of]) {
            for i in 0..LANES {
                low[i] = if chunk[i] < low[i] { chunk[i] } else { low[i] };
                high[i] = if chunk[i] > high[i] { chunk[i] } else { high[i] };
            }
        }
        [low.into_iter().fold(0.0, f32::min), high.into_iter().fold(0.0, f32::max)]
    }

    #[inline(always)]
    pub(crate) fn quantize<const AWAY: bool>(x: &[f32], y: &mut [u8], to: Numbers) {
        for (x, y) in x.iter().zip(y) {
            *y = to.at::<AWAY>(x / to.scale);
        }
    }

    #[inline(always)]
    pub(crate) fn dequantize(x: &[u8], y: &mut [f32], from: Numbers) {
        for (x, y) in x.iter().zip(y) {
            *y = from.scale * from.centred(*x) as f32;
        }
    }

    #[inline(always)]
    pub(crate) fn add_real(a: &[u8], b: &[u8], y: &mut [u8], [of_a, of_b, to]: [Numbers; 3]) {
        for ((a, b), y) in a.iter().zip(b).zip(y) {
            let sum = of_a.scale * of_a.centred(*a) as f32 + of_b.scale * of_b.centred(*b) as f32;
            *y = to.at::<false>(sum / to.scale);
        }
    }

    #[inline(always)]
    pub(crate) fn add_fixed(a: &[u8], b: &[u8], y: &mut [u8], [of_a, of_b, to]: [Numbers; 3], factors: SumFactors) {
        for ((a, b), y) in a.iter().zip(b).zip(y) {
            // Half of 2²⁰ is no fraction.
            let a = of_a.centred(*a) << 19;
            let b = fixed(of_b.centred(*b) << 20, factors.second);
            *y = to.at_whole(fixed(a + b, factors.sum));
        }
    }

    #[inline(always)]
    pub(crate) fn look_up(data: &mut [u8], table: &[u8; 256]) {
        for x in data {
            *x = table[usize::from(*x)];
        }
    }

    /// The sums of pixels to `f32`, as bits.
    #[inline(always)]
    pub(crate) fn reals(sums: &mut [i32], of: Reals<'_>) {
        for pixel in sums.chunks_exact_mut(of.weights.len()) {
            let tables = of.weights.iter().zip(of.scales).zip(of.bias);
            for (sum, ((weights, scale), bias)) in pixel.iter_mut().zip(tables) {
                let centred = sum.wrapping_sub(weights.wrapping_mul(of.zero_point.into()));
                *sum = (centred as f32 * (of.input_scale * scale) + bias).to_bits() as i32;
            }
        }
    }
}

/// These loops, compiled for an instruction set.
///
/// # Safety
/// Of each of them: 1. The CPU has the instruction set.
pub(crate) struct Functions {
    pub(crate) range: unsafe fn(&[f32]) -> [f32; 2],
    pub(crate) quantize: unsafe fn(&[f32], &mut [u8], Numbers, bool),
    pub(crate) dequantize: unsafe fn(&[u8], &mut [f32], Numbers),
    pub(crate) add: unsafe fn(Sum<'_>, &mut [u8]),
    pub(crate) look_up: unsafe fn(&mut [u8], &[u8; 256]),
    pub(crate) reals: unsafe fn(&mut [i32], Reals<'_>),
}

/// The loops, compiled with an instruction set's target features, and its way to look up numbers.
macro_rules! elementwise {
    ($features:meta) => {
        $crate::int8::elementwise::elementwise!($features, |data, table| {
            $crate::int8::elementwise::loops::look_up(data, table)
        })
    };
    ($features:meta, $look_up:expr) => {{
        #[$features]
        unsafe fn range(x: &[f32]) -> [f32; 2] {
            $crate::int8::elementwise::loops::range(x)
        }
        #[$features]
        unsafe fn quantize(x: &[f32], y: &mut [u8], to: $crate::int8::elementwise::Numbers, away: bool) {
            if away {
                $crate::int8::elementwise::loops::quantize::<true>(x, y, to)
            } else {
                $crate::int8::elementwise::loops::quantize::<false>(x, y, to)
            }
        }
        #[$features]
        unsafe fn dequantize(x: &[u8], y: &mut [f32], from: $crate::int8::elementwise::Numbers) {
            $crate::int8::elementwise::loops::dequantize(x, y, from)
        }
        #[$features]
        unsafe fn add(sum: $crate::int8::elementwise::Sum<'_>, y: &mut [u8]) {
            let ([a, b], of) = (sum.inputs, sum.of);
            match sum.factors {
                Some(factors) => $crate::int8::elementwise::loops::add_fixed(a, b, y, of, factors),
                None => $crate::int8::elementwise::loops::add_real(a, b, y, of),
            }
        }
        #[$features]
        unsafe fn reals(sums: &mut [i32], of: $crate::int8::elementwise::Reals<'_>) {
            $crate::int8::elementwise::loops::reals(sums, of)
        }
        const { &$crate::int8::elementwise::Functions { range, quantize, dequantize, add, look_up: $look_up, reals } }
    }};
}
pub(crate) use elementwise;

/// What goes element by element, with an instruction set's vectors. All of them give the same bits.
///
/// Slices have the same length, or the methods panic.
#[derive(Clone, Copy)]
pub struct Elementwise {
    functions: &'static Functions,
}

impl Elementwise {
    /// That of an instruction set, or where this CPU lacks it, of any CPU.
    pub fn new(isa: Isa) -> Self {
        let family = Family::available(isa).unwrap_or(&rows::portable::FAMILY);
        Self { functions: family.elementwise }
    }

    /// The least and the greatest number, or 0 where that is less or greater. NaN is left out.
    pub fn range(self, x: &[f32]) -> [f32; 2] {
        // SAFETY: 1. `new` found that the CPU has the instruction set.
        unsafe { (self.functions.range)(x) }
    }

    /// Numbers of 8 bits for real ones; `away`: a half goes away from 0, else to the even neighbour.
    pub fn quantize<T: Integer<Stored = u8>>(self, x: &[f32], y: &mut [T], to: Numbers, away: bool) {
        assert_same_length([x.len(), y.len()]);
        // SAFETY: as in `range`.
        unsafe { (self.functions.quantize)(x, bytes_mut(y), to, away) }
    }

    /// What numbers of 8 bits stand for.
    pub fn dequantize<T: Integer<Stored = u8>>(self, x: &[T], y: &mut [f32], from: Numbers) {
        assert_same_length([x.len(), y.len()]);
        // SAFETY: as in `range`.
        unsafe { (self.functions.dequantize)(bytes(x), y, from) }
    }

    /// The sums of two tensors, computed in `f32`, or with factors, whose `e` is not positive.
    ///
    /// # Panics
    /// If a factor is out of range, too.
    pub fn add<T: Integer<Stored = u8>>(
        self,
        a: &[T],
        b: &[T],
        y: &mut [T],
        of: [Numbers; 3],
        factors: Option<SumFactors>,
    ) {
        assert_same_length([a.len(), y.len()]);
        assert_same_length([b.len(), y.len()]);
        if let Some(SumFactors { second, sum }) = factors {
            assert!([second, sum].iter().all(|factor| factor.q >= 0 && (-31..=0).contains(&factor.e)));
        }
        // SAFETY: as in `range`.
        unsafe { (self.functions.add)(Sum { inputs: [bytes(a), bytes(b)], of, factors }, bytes_mut(y)) }
    }

    /// Writes what a table has for each number's bits.
    pub fn look_up<A: Integer<Stored = u8>, B: Integer<Stored = u8>>(self, x: &[A], y: &mut [B], table: &[u8; 256]) {
        assert_same_length([x.len(), y.len()]);
        let y = bytes_mut(y);
        y.copy_from_slice(bytes(x));
        // SAFETY: as in `range`.
        unsafe { (self.functions.look_up)(y, table) }
    }
}

fn assert_same_length([a, b]: [usize; 2]) {
    assert!(a == b, "slices of {a} and {b} elements must have the same length");
}

fn bytes<T: Integer<Stored = u8>>(data: &[T]) -> &[u8] {
    // SAFETY: what is stored as `u8` is one, or an `i8`; any bits are either.
    unsafe { core::slice::from_raw_parts(data.as_ptr().cast(), data.len()) }
}

fn bytes_mut<T: Integer<Stored = u8>>(data: &mut [T]) -> &mut [u8] {
    // SAFETY: as above, borrowed alone.
    unsafe { core::slice::from_raw_parts_mut(data.as_mut_ptr().cast(), data.len()) }
}
