//! What convolutions cost in parameters, multiply-adds and bytes.

use crate::Padding;
use crate::geometry::Window;
use depthwise_kernels::{ElementType, Error, Shape, Taps};

/// What a convolution costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Weights and biases.
    pub parameters: u64,
    /// Multiply-adds, padding's included; two floating-point operations each.
    pub multiply_adds: u64,
    /// Bytes that must move at least once: input and output in the type of their elements, parameters in `f32`. A separable
    /// convolution in two passes also writes and reads what lies between.
    pub bytes: u64,
}

/// The same mapping of channels by a standard and by a separable convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// K×K over all channels.
    pub standard: Cost,
    /// The first stage of the separable convolution: K×K over each channel.
    pub depthwise: Cost,
    /// Its second stage: 1×1 over all channels.
    pub pointwise: Cost,
    /// Both stages, fused: what lies between does not move.
    pub separable: Cost,
    /// Multiply-adds of separable over standard by the formula: 1/M + 1/(Kh·Kw) for M output channels
    /// (Howard et al., "MobileNets", 2017, section 3.1), exact for any input size.
    pub ratio: f64,
}

impl Cost {
    /// A convolution from `inputs` to `outputs` channels, each output reading `depth` of the inputs.
    pub(crate) fn of(
        window: &Window,
        element: ElementType,
        [input, output]: [Shape; 2],
        depth: usize,
        biases: usize,
    ) -> Result<Cost, Error> {
        let [kh, kw] = window.taps.kernel_size;
        let cost = || {
            let weights = product(&[output.c, depth, kh, kw])?;
            let parameters = weights.checked_add(biases as u64)?;
            let multiply_adds = weights.checked_mul(product(&[output.n, output.h, output.w])?)?;
            let tensors = count(input)?.checked_add(count(output)?)?.checked_mul(element.size() as u64)?;
            Some(Cost { parameters, multiply_adds, bytes: tensors.checked_add(parameters.checked_mul(4)?)? })
        };
        cost().ok_or(Error::CostOverflow)
    }

    /// Of this convolution and the next, fused: what lies between them, of that shape, does not move.
    pub(crate) fn then(self, next: Cost, element: ElementType, between: Shape) -> Result<Cost, Error> {
        let cost = || {
            let between = count(between)?.checked_mul(element.size() as u64)?;
            Some(Cost {
                parameters: self.parameters.checked_add(next.parameters)?,
                multiply_adds: self.multiply_adds.checked_add(next.multiply_adds)?,
                bytes: self.bytes.checked_sub(between)?.checked_add(next.bytes.checked_sub(between)?)?,
            })
        };
        cost().ok_or(Error::CostOverflow)
    }
}

/// The product, in 64 bits on every target: what is counted here may be more than memory has addresses.
fn product(factors: &[usize]) -> Option<u64> {
    factors.iter().try_fold(1u64, |product, &factor| product.checked_mul(factor as u64))
}

/// The values of a tensor.
fn count(shape: Shape) -> Option<u64> {
    product(&[shape.n, shape.c, shape.h, shape.w])
}

/// Compares a standard with a separable convolution (multiplier 1, no biases) from the channels of `input` to
/// `out_channels`.
///
/// # Errors
/// If the parameters describe no convolution, or a count overflows.
///
/// ```
/// use depthwise::{Padding, Shape, compare};
///
/// let c = compare(Shape::new(8, 32, 56, 56), 64, [3, 3], [1, 1], [1, 1], Padding::symmetric(1, 1))?;
/// assert_eq!(c.standard.parameters, 32 * 64 * 9);
/// assert_eq!(c.separable.parameters, 32 * 9 + 32 * 64);
/// let measured = c.separable.multiply_adds as f64 / c.standard.multiply_adds as f64;
/// approx::assert_relative_eq!(measured, 1.0 / 64.0 + 1.0 / 9.0);
/// approx::assert_relative_eq!(measured, c.ratio);
/// # Ok::<(), depthwise::Error>(())
/// ```
pub fn compare(
    input: Shape,
    out_channels: usize,
    kernel_size: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: Padding,
) -> Result<Comparison, Error> {
    let window = Window { taps: Taps { kernel_size, stride, dilation }, padding };
    window.check()?;
    for (extent, what) in [(input.c, "the number of input channels"), (out_channels, "the number of output channels")] {
        if extent == 0 {
            return Err(Error::Zero { what });
        }
    }
    let [h, w] = window.outputs(input)?.extent;
    let between = Shape { h, w, ..input };
    let output = Shape { c: out_channels, ..between };
    let element = ElementType::F32;
    let standard = Cost::of(&window, element, [input, output], input.c, 0)?;
    let depthwise = Cost::of(&window, element, [input, between], 1, 0)?;
    let pointwise = Cost::of(&Window::POINT, element, [between, output], input.c, 0)?;
    let separable = depthwise.then(pointwise, element, between)?;
    let [m, k] = [out_channels as f64, kernel_size[0] as f64 * kernel_size[1] as f64];
    Ok(Comparison { standard, depthwise, pointwise, separable, ratio: 1.0 / m + 1.0 / k })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_convolutions_what_lies_between_does_not_move_and_no_sum_overflows() {
        let between = Shape::new(1, 1 << 20, 1 << 20, 1 << 20);
        let one = Cost { parameters: 1, multiply_adds: 2, bytes: 4 * (1 << 60) + 3 };
        let none = Shape::default();
        assert_eq!(one.then(one, ElementType::F32, between), Ok(Cost { parameters: 2, multiply_adds: 4, bytes: 6 }));
        assert_eq!(one.then(Cost { bytes: u64::MAX, ..one }, ElementType::F32, none), Err(Error::CostOverflow));
        assert_eq!(one.then(Cost { parameters: u64::MAX, ..one }, ElementType::F32, none), Err(Error::CostOverflow));
        assert_eq!(one.then(Cost { multiply_adds: u64::MAX, ..one }, ElementType::F32, none), Err(Error::CostOverflow));
        assert_eq!(one.then(one, ElementType::F32, Shape { n: 16, ..between }), Err(Error::CostOverflow));
    }
}
