//! Parameters: from the caller's order to the one that kernels are packed from.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::sqrt::sqrt;
use depthwise_kernels::Error;

/// The order of a weight array's axes, for C input channels, M output channels, a channel multiplier of m and a kernel of Kh×Kw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WeightOrder {
    /// The order of PyTorch and ONNX: depthwise `[C·m, 1, Kh, Kw]`, pointwise `[M, C]`, standard `[M, C, Kh, Kw]`. The default.
    #[default]
    Pytorch,
    /// The order of TensorFlow: depthwise `[1, Kh, Kw, C·m]` (TFLite), pointwise `[C, M]`, standard `[Kh, Kw, C, M]` (HWIO).
    Tflite,
}

/// The parameters of a batch normalisation that follows a convolution, each of one value per output channel.
///
/// Building a plan folds them into weights and bias:
/// s = γ / √(σ² + ε), w′ = w · s and b′ = β + (b − μ) · s, computed in `f64` in this order and rounded once to `f32`
/// (Ioffe and Szegedy, 2015, algorithm 2).
///
/// Building fails unless ε is finite and at least 0, σ² + ε is finite and above 0 in each channel, and each weight and bias that
/// comes of finite numbers is a finite `f32`. NaN and infinities in w, b, γ, β and μ propagate.
///
/// ```
/// use depthwise::{BatchNorm, PointwiseConv2d, Run, Shape, TensorView, TensorViewMut, Workspace};
///
/// let norm = BatchNorm { gamma: &[2.0], beta: &[1.0], mean: &[3.0], variance: &[4.0], epsilon: 0.0 };
/// let plan = PointwiseConv2d::builder(1, 1).weights(&[5.0]).batch_norm(norm).build()?;
/// let (shape, layout) = (Shape::new(1, 1, 1, 1), plan.layout());
/// let mut y = [0.0];
/// let (input, output) = (TensorView::new(&[1.0], shape, layout)?, TensorViewMut::new(&mut y, shape, layout)?);
/// plan.run(Run::new(input, output, &mut Workspace::new()))?;
/// assert_eq!(y, [(5.0 * 1.0 - 3.0) / 2.0 * 2.0 + 1.0]);
/// # Ok::<(), depthwise::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct BatchNorm<'a> {
    /// γ, the scale.
    pub gamma: &'a [f32],
    /// β, the shift.
    pub beta: &'a [f32],
    /// μ, the running mean.
    pub mean: &'a [f32],
    /// σ², the running variance.
    pub variance: &'a [f32],
    /// ε.
    pub epsilon: f32,
}

/// One convolution's parameters as the caller gave them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Parameters<'a> {
    pub(crate) weights: Option<&'a [f32]>,
    pub(crate) order: WeightOrder,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) batch_norm: Option<BatchNorm<'a>>,
}

/// An array as debug output shows it: how long it is, not each of its numbers.
struct Len<'a>(&'a [f32]);

impl fmt::Debug for Len<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[f32; {}]", self.0.len())
    }
}

impl fmt::Debug for BatchNorm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchNorm")
            .field("gamma", &Len(self.gamma))
            .field("beta", &Len(self.beta))
            .field("mean", &Len(self.mean))
            .field("variance", &Len(self.variance))
            .field("epsilon", &self.epsilon)
            .finish()
    }
}

impl fmt::Debug for Parameters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters")
            .field("weights", &self.weights.map(Len))
            .field("order", &self.order)
            .field("bias", &self.bias.map(Len))
            .field("batch_norm", &self.batch_norm)
            .finish()
    }
}

/// One convolution's parameters in one order, batch norm folded.
pub(crate) struct Folded {
    /// `[outputs][taps][inputs]`.
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Vec<f32>,
}

/// Which stage an error is about.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    pub(crate) weights: &'static str,
    pub(crate) weights_hint: &'static str,
    pub(crate) bias: &'static str,
}

impl Parameters<'_> {
    /// The number of biases of so many channels, given or folded.
    pub(crate) fn biases(&self, channels: usize) -> usize {
        if self.bias.is_some() || self.batch_norm.is_some() { channels } else { 0 }
    }

    /// Checks the lengths, brings the weights in order and folds the batch norm. `inputs` is the number of
    /// input channels that each output channel reads: 1 if depthwise.
    pub(crate) fn fold(&self, names: Names, outputs: usize, inputs: usize, taps: [usize; 2]) -> Result<Folded, Error> {
        let len = number_of_weights(outputs, inputs, taps)?;
        let taps_len = taps[0] * taps[1];
        let weights = self.weights.ok_or(Error::Missing { what: names.weights, hint: names.weights_hint })?;
        check_len(names.weights, weights.len(), len, || {
            format!("{outputs} output channels of {inputs} x {} x {} weights", taps[0], taps[1])
        })?;
        if let Some(bias) = self.bias {
            check_len(names.bias, bias.len(), outputs, || format!("one for each of {outputs} output channels"))?;
        }
        let mut scale = Vec::new();
        if let Some(norm) = &self.batch_norm {
            for (what, values) in [
                ("the batch norm's gamma", norm.gamma),
                ("the batch norm's beta", norm.beta),
                ("the batch norm's mean", norm.mean),
                ("the batch norm's variance", norm.variance),
            ] {
                check_len(what, values.len(), outputs, || format!("one for each of {outputs} output channels"))?;
            }
            let epsilon = norm.epsilon;
            if !(0.0..f32::INFINITY).contains(&epsilon) {
                return Err(Error::Epsilon { epsilon });
            }
            reserve(&mut scale, outputs)?;
            for (channel, (&variance, &gamma)) in norm.variance.iter().zip(norm.gamma).enumerate() {
                let sum = f64::from(variance) + f64::from(epsilon);
                if !(sum > 0.0 && sum < f64::INFINITY) {
                    return Err(Error::Variance { channel, variance, epsilon });
                }
                scale.push(f64::from(gamma) / sqrt(sum));
            }
        }
        let mut folded = Folded { weights: Vec::new(), bias: Vec::new() };
        reserve(&mut folded.bias, outputs)?;
        folded.weights = ordered(weights, self.order, outputs, inputs, taps_len)?;
        let rows = taps_len * inputs;
        for (o, (weights, &s)) in folded.weights.chunks_exact_mut(rows.max(1)).zip(&scale).enumerate() {
            for w in weights {
                *w = narrowed(f64::from(*w) * s, w.is_finite() && s.is_finite(), names.weights, o)?;
            }
        }
        for o in 0..outputs {
            let b = self.bias.map_or(0.0, |bias| bias[o]);
            folded.bias.push(match (&self.batch_norm, scale.get(o)) {
                (Some(norm), Some(s)) => {
                    let (beta, mean) = (norm.beta[o], norm.mean[o]);
                    let is_finite = [b, beta, mean].into_iter().all(f32::is_finite) && s.is_finite();
                    narrowed(f64::from(beta) + (f64::from(b) - f64::from(mean)) * s, is_finite, names.bias, o)?
                }
                _ => b,
            });
        }
        Ok(folded)
    }
}

/// Outputs that are brought in order at a time: as many weights as lie in a cache line.
const LINE: usize = 16;

/// Weights as `[outputs][taps][inputs]`.
pub(crate) fn ordered<T: Copy + Default>(
    weights: &[T],
    order: WeightOrder,
    outputs: usize,
    inputs: usize,
    taps: usize,
) -> Result<Vec<T>, Error> {
    let mut ordered = Vec::new();
    reserve(&mut ordered, weights.len())?;
    let rows = taps * inputs;
    match order {
        _ if weights.is_empty() => {}
        WeightOrder::Pytorch if inputs == 1 || taps == 1 => ordered.extend_from_slice(weights),
        WeightOrder::Pytorch => {
            for output in weights.chunks_exact(rows) {
                for t in 0..taps {
                    ordered.extend(output.iter().skip(t).step_by(taps));
                }
            }
        }
        WeightOrder::Tflite => {
            ordered.resize(weights.len(), T::default());
            for (first, block) in (0..outputs).step_by(LINE).zip(ordered.chunks_mut(LINE * rows)) {
                for (row, weights) in weights.chunks_exact(outputs).enumerate() {
                    let to = block.iter_mut().skip(row).step_by(rows);
                    to.zip(&weights[first..]).for_each(|(to, &weight)| *to = weight);
                }
            }
        }
    }
    Ok(ordered)
}

/// The number of weights. Fails if there are too many, or if what is packed of them is.
pub(crate) fn number_of_weights(outputs: usize, inputs: usize, taps: [usize; 2]) -> Result<usize, Error> {
    let overflow = Error::Overflow { what: "the number of weights" };
    let taps = taps[0].checked_mul(taps[1]).ok_or(overflow.clone())?;
    let len = outputs.checked_mul(inputs).and_then(|n| n.checked_mul(taps)).ok_or(overflow.clone())?;
    // What is packed from them, padded to whole vectors, must fit as well.
    if len.checked_add(outputs).and_then(|n| n.checked_mul(256)).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(overflow);
    }
    Ok(len)
}

/// Rounds to `f32`. Fails if that is not finite though it `is_of_finite` numbers.
fn narrowed(value: f64, is_of_finite: bool, what: &'static str, channel: usize) -> Result<f32, Error> {
    let narrow = value as f32;
    if is_of_finite && !narrow.is_finite() {
        return Err(Error::Folded { what, channel, value });
    }
    Ok(narrow)
}

pub(crate) fn check_len(
    what: &'static str,
    found: usize,
    expected: usize,
    formula: impl Fn() -> String,
) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Length { what, formula: formula(), expected, found })
}

fn reserve<T>(vec: &mut Vec<T>, len: usize) -> Result<(), Error> {
    vec.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { elements: len })
}
