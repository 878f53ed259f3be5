//! What numbers of 8 bits stand for, and the factors between them.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::table::Table;
use crate::api::weights::{WeightOrder, check_len, number_of_weights, ordered};
use depthwise_kernels::{ElementType, Elementwise, Ends, Error, Fixed, Input, Isa, Scaling};

/// The numbers of a tensor of 8 bits: q stands for `scale` · (q − `zero_point`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantized {
    element: ElementType,
    /// The step from a number to the next, finite and above 0.
    pub scale: f32,
    /// The number that stands for 0, in the range of the type.
    pub zero_point: i32,
}

impl Quantized {
    /// Of elements [`u8`].
    pub const fn u8(scale: f32, zero_point: i32) -> Self {
        Self { element: ElementType::U8, scale, zero_point }
    }

    /// Of elements [`i8`].
    pub const fn i8(scale: f32, zero_point: i32) -> Self {
        Self { element: ElementType::I8, scale, zero_point }
    }

    /// What numbers of [`u8`] are to stand for so that they hold all of `x`, and 0: ONNX's DynamicQuantizeLinear. A NaN is left out.
    /// If all are 0, or so small that there is no scale, that is 1.
    ///
    /// ```
    /// use depthwise::int8::Quantized;
    ///
    /// assert_eq!(Quantized::dynamic(&[-1.0, 0.5, 4.1])?, Quantized::u8(0.02, 50));
    /// # Ok::<(), depthwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the greatest number is infinitely far from the least.
    pub fn dynamic(x: &[f32]) -> Result<Self, Error> {
        let [low, high] = Elementwise::new(Isa::detect_int8()).range(x);
        let value = high - low;
        if !value.is_finite() {
            return Err(Error::NotFinite { what: "the range of what is to be quantised", value });
        }
        let scale = value / 255.0;
        if scale == 0.0 {
            return Ok(Self::u8(1.0, 0));
        }
        // The nearest whole number, of two equally near the even one.
        let steps = (-low / scale).min(255.0);
        Ok(Self::u8(scale, ((steps + 8_388_608.0) - 8_388_608.0) as i32))
    }

    /// The type of the elements.
    pub const fn element(&self) -> ElementType {
        self.element
    }

    /// The number that stands for what is the nearest to x, halves away from 0, and no further than the type goes: for the bounds of a
    /// clamp.
    ///
    /// ```
    /// use depthwise::int8::Quantized;
    ///
    /// // ReLU6.
    /// let output = Quantized::u8(0.05, 10);
    /// assert_eq!([output.nearest(0.0), output.nearest(6.0)], [10, 130]);
    /// ```
    pub fn nearest(&self, x: f32) -> i32 {
        let steps = x / self.scale;
        let whole = steps as i32;
        // What the conversion cut off is exact.
        let rest = steps - whole as f32;
        let away = if rest >= 0.5 {
            1
        } else if rest <= -0.5 {
            -1
        } else {
            0
        };
        let (low, high) = self.range();
        whole.saturating_add(away).saturating_add(self.zero_point).clamp(low, high)
    }

    /// The least and the greatest number.
    pub(crate) fn range(&self) -> (i32, i32) {
        if self.element == ElementType::U8 { (0, 255) } else { (-128, 127) }
    }

    pub(crate) fn is_signed(&self) -> bool {
        self.element == ElementType::I8
    }

    /// A number of the type as `u8`.
    fn as_u8(&self, number: i32) -> u8 {
        (number - self.range().0) as u8
    }

    /// As kernels take it.
    pub(crate) fn as_input(&self) -> Input {
        Input { scale: self.scale, zero_point: self.as_u8(self.zero_point) }
    }

    pub(crate) fn check(&self, what: &'static str) -> Result<(), Error> {
        let Self { element, scale, zero_point } = *self;
        if !(scale > 0.0 && scale < f32::INFINITY) {
            return Err(Error::Scale { what, channel: None, scale });
        }
        let (low, high) = self.range();
        if !(low..=high).contains(&zero_point) {
            return Err(Error::ZeroPoint { what, zero_point, element });
        }
        Ok(())
    }

    /// What of rounded sums is stored, with a clamp.
    pub(crate) fn ends(&self, clamp: Option<[i32; 2]>) -> Result<Ends, Error> {
        let (least, greatest) = self.range();
        let [low, high] = clamp.unwrap_or([least, greatest]);
        if low > high || low > greatest || high < least {
            return Err(Error::ClampOfIntegers { low, high, element: self.element });
        }
        Ok(Ends {
            zero_point: self.as_u8(self.zero_point).into(),
            low: self.as_u8(low.max(least)),
            high: self.as_u8(high.min(greatest)),
            signed: self.is_signed(),
        })
    }
}

/// How a sum becomes a number of 8 bits: sum · m, rounded, where m is the product of the scales of input and weights over the output's.
/// `docs/numerics.md` has the formulas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rounding {
    /// By m in `f32`, and to the nearest even number: ONNX's QLinearConv. The default.
    #[default]
    NearestEven,
    /// By m as a fixed-point number, with two roundings: the reference kernels of TensorFlow Lite for `i8`.
    Tflite,
    /// The same, where the product of the scales of input and weights is formed in `f32`: TensorFlow Lite's older networks of `u8`, and
    /// fully connected layers with one scale.
    TfliteLegacy,
}

/// Weights of 8 bits: w stands for scale · (w − zero point). The scales are one, or one for each output channel.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    values: Values<'a>,
    scales: &'a [f32],
    zero_point: i32,
}

#[derive(Clone, Copy)]
enum Values<'a> {
    U8(&'a [u8]),
    I8(&'a [i8]),
}

impl<'a> Weights<'a> {
    /// With zero point 0.
    pub const fn i8(values: &'a [i8], scales: &'a [f32]) -> Self {
        Self { values: Values::I8(values), scales, zero_point: 0 }
    }

    /// With a zero point for all.
    pub const fn u8(values: &'a [u8], scales: &'a [f32], zero_point: i32) -> Self {
        Self { values: Values::U8(values), scales, zero_point }
    }

    /// The same with another zero point, for all. AVX-512 VNNI multiplies weights of −128 to 127 less their zero point; others take longer.
    pub const fn with_zero_point(self, zero_point: i32) -> Self {
        Self { zero_point, ..self }
    }
}

impl fmt::Debug for Weights<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (element, len) = match self.values {
            Values::U8(values) => ("u8", values.len()),
            Values::I8(values) => ("i8", values.len()),
        };
        write!(f, "Weights([{element}; {len}], {} scales, zero point {})", self.scales.len(), self.zero_point)
    }
}

/// Which stage an error is about.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    pub(crate) weights: &'static str,
    pub(crate) weights_hint: &'static str,
    pub(crate) scales: &'static str,
    pub(crate) bias: &'static str,
}

/// A stage as a builder was told of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AskedStage<'a> {
    pub(crate) weights: Option<Weights<'a>>,
    pub(crate) bias: Option<&'a [i32]>,
    pub(crate) clamp: Option<[i32; 2]>,
}

/// A stage that was checked.
pub(crate) struct Stage {
    /// `[outputs][taps][inputs]`, less their zero point.
    pub(crate) weights: Vec<i16>,
    pub(crate) bias: Vec<i32>,
    pub(crate) scaling: Scaling,
    pub(crate) ends: Ends,
    pub(crate) table: Option<Arc<Table>>,
}

/// What outputs of a stage are.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Numbers(Quantized),
    Table(Arc<Table>),
    Sums,
    Real,
}

impl Target {
    pub(crate) fn element(&self) -> ElementType {
        match self {
            Target::Numbers(output) => output.element(),
            Target::Table(table) => table.output().element(),
            Target::Sums => ElementType::I32,
            Target::Real => ElementType::F32,
        }
    }

    pub(crate) fn check(&self, what: &'static str) -> Result<(), Error> {
        match self {
            Target::Numbers(output) => output.check(what),
            // A table was checked when it was made.
            Target::Table(_) | Target::Sums | Target::Real => Ok(()),
        }
    }
}

/// How a stage makes outputs of sums.
#[derive(Clone, Copy)]
pub(crate) struct Goal<'a> {
    pub(crate) target: &'a Target,
    pub(crate) rounding: Rounding,
    /// Of outputs of `f32`.
    pub(crate) bias: Option<&'a [f32]>,
}

impl AskedStage<'_> {
    /// Checks it. `inputs`: those of each output at a tap.
    pub(crate) fn resolve(
        &self,
        names: Names,
        (order, outputs, inputs, taps): (WeightOrder, usize, usize, [usize; 2]),
        input: Quantized,
        goal: Goal<'_>,
    ) -> Result<Stage, Error> {
        let len = number_of_weights(outputs, inputs, taps)?;
        let given = self.weights.ok_or(Error::Missing { what: names.weights, hint: names.weights_hint })?;
        let (element, found) = match given.values {
            Values::U8(values) => (ElementType::U8, values.len()),
            Values::I8(values) => (ElementType::I8, values.len()),
        };
        check_len(names.weights, found, len, || {
            format!("{outputs} output channels of {inputs} x {} x {} weights", taps[0], taps[1])
        })?;
        let whole = Quantized { element, scale: 1.0, zero_point: given.zero_point };
        whole.check(names.weights)?;
        if given.scales.len() != 1 {
            check_len(names.scales, given.scales.len(), outputs, || {
                format!("one, or one for each of {outputs} output channels")
            })?;
        }
        for (channel, &scale) in given.scales.iter().enumerate() {
            if !(scale > 0.0 && scale < f32::INFINITY) {
                return Err(Error::Scale { what: names.weights, channel: Some(channel), scale });
            }
        }
        if let Some(bias) = self.bias {
            check_len(names.bias, bias.len(), outputs, || format!("one for each of {outputs} output channels"))?;
        }
        let taps = taps[0] * taps[1];
        let less = |weight: i32| (weight - given.zero_point) as i16;
        let weights = match given.values {
            Values::U8(values) => {
                ordered(values, order, outputs, inputs, taps)?.into_iter().map(|w| less(w.into())).collect::<Vec<_>>()
            }
            Values::I8(values) => {
                ordered(values, order, outputs, inputs, taps)?.into_iter().map(|w| less(w.into())).collect()
            }
        };
        let bias = self.bias.map_or_else(|| alloc::vec![0; outputs], <[i32]>::to_vec);
        let (low, high) = input.range();
        let largest = match goal.target {
            // A run may have another zero point.
            Target::Real => high - low,
            _ => (input.zero_point - low).max(high - input.zero_point),
        };
        let bounds: Vec<u128> = (0..outputs)
            .map(|channel| {
                let weights = weights[channel * inputs * taps..][..inputs * taps].iter();
                let sum: u64 = weights.map(|weight| u64::from(weight.unsigned_abs())).sum();
                u128::from(sum) * u128::from(largest.unsigned_abs()) + u128::from(bias[channel].unsigned_abs())
            })
            .collect();
        let most = i32::MAX as u128;
        if let Some((channel, &bound)) = bounds.iter().enumerate().find(|&(_, &bound)| bound > most) {
            return Err(Error::Sum { channel, bound });
        }
        let scale = |channel: usize| given.scales[if given.scales.len() == 1 { 0 } else { channel }];
        let no_ends = Ends { zero_point: 0, low: 0, high: 0, signed: false };
        let output = match goal.target {
            Target::Numbers(output) => *output,
            Target::Table(table) => table.input(),
            Target::Sums | Target::Real if self.clamp.is_some() => {
                let what = "a clamp of outputs of i32 or f32";
                return Err(Error::NotOf8Bits { what, hint: "clamp them, or what is made of them" });
            }
            Target::Sums => return Ok(Stage { weights, bias, scaling: Scaling::Sums, ends: no_ends, table: None }),
            Target::Real => {
                let scales: Vec<f32> = (0..outputs).map(scale).collect();
                let bias_of_reals = match goal.bias {
                    Some(given) => {
                        let formula = || format!("one for each of {outputs} output channels");
                        check_len("the bias of f32", given.len(), outputs, formula)?;
                        given.to_vec()
                    }
                    None => alloc::vec![0.0; outputs],
                };
                for (channel, scale) in scales.iter().enumerate() {
                    check_factor(channel, input.scale * scale)?;
                }
                let scaling = Scaling::Real { scales, bias: bias_of_reals };
                return Ok(Stage { weights, bias, scaling, ends: no_ends, table: None });
            }
        };
        let scaling = match goal.rounding {
            Rounding::NearestEven => Scaling::NearestEven(
                (0..outputs)
                    .map(|channel| check_factor(channel, input.scale * scale(channel) / output.scale))
                    .collect::<Result<_, _>>()?,
            ),
            rounding @ (Rounding::Tflite | Rounding::TfliteLegacy) => Scaling::Tflite(
                (0..outputs)
                    .map(|channel| {
                        let product = match rounding {
                            Rounding::TfliteLegacy => f64::from(input.scale * scale(channel)),
                            _ => f64::from(input.scale) * f64::from(scale(channel)),
                        };
                        let factor = product / f64::from(output.scale);
                        let fixed = fixed(factor).ok_or(Error::Factor { channel, factor })?;
                        let bound = bounds[channel] << fixed.e.max(0);
                        if bound > most { Err(Error::Sum { channel, bound }) } else { Ok(fixed) }
                    })
                    .collect::<Result<_, _>>()?,
            ),
        };
        let ends = output.ends(self.clamp)?;
        let (ends, table) = match goal.target {
            // The number's place in the table.
            Target::Table(table) => (Ends { signed: false, ..ends }, Some(Arc::clone(table))),
            _ => (ends, None),
        };
        Ok(Stage { weights, bias, scaling, ends, table })
    }
}

fn check_factor(channel: usize, factor: f32) -> Result<f32, Error> {
    if factor.is_finite() { Ok(factor) } else { Err(Error::Factor { channel, factor: factor.into() }) }
}

/// The nearest number `q` / 2³¹ · 2^`e`, 0 if it is too small, or `None` if it is too large.
pub(crate) fn fixed(factor: f64) -> Option<Fixed> {
    if !factor.is_finite() {
        return None;
    }
    if factor < f64::MIN_POSITIVE {
        return Some(Fixed::default());
    }
    let bits = factor.to_bits();
    let mut e = (bits >> 52) as i32 - 1022;
    // 53 bits of a fraction from ½ up, of which 31 are kept, a half up.
    let fraction = (bits & ((1 << 52) - 1)) | 1 << 52;
    let mut q = (fraction + (1 << 21)) >> 22;
    if q == 1 << 31 {
        q >>= 1;
        e += 1;
    }
    match e {
        ..-31 => Some(Fixed::default()),
        -31..=31 => Some(Fixed { q: q as i32, e }),
        _ => None,
    }
}
