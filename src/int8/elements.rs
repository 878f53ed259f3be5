//! What goes element by element.

use super::quantized::{Quantized, Rounding, fixed};
use crate::api::weights::check_len;
use depthwise_kernels::{Elementwise, Error, Fixed, Integer, Isa, Numbers, SumFactors};

/// Checks that elements are of the type that is said of them. `what`: with its article, which the error has.
pub(crate) fn check_type<T: Integer>(what: &'static str, of: Quantized) -> Result<(), Error> {
    let (expected, found, what) = (of.element(), T::TYPE, what.strip_prefix("the ").unwrap_or(what));
    if expected == found { Ok(()) } else { Err(Error::ElementType { what, expected, found }) }
}

pub(crate) fn check_same_len(input: usize, output: usize) -> Result<(), Error> {
    check_len("the output", output, input, || "one for each of the input".into())
}

/// Writes the numbers of 8 bits that are nearest to real ones, and no further than the type goes: of two equally near, by
/// [`Rounding::NearestEven`] the one an even number of steps from the zero point (ONNX's QuantizeLinear), by the others the one further from
/// it (TensorFlow Lite's QUANTIZE). A NaN becomes the zero point.
///
/// ```
/// use depthwise::int8::{Quantized, Rounding, dequantize, quantize};
///
/// let of = Quantized::i8(0.5, 10);
/// let mut q = [0i8; 4];
/// quantize(&[1.0, -0.25, 1e9, f32::NAN], (&mut q, of), Rounding::Tflite)?;
/// assert_eq!(q, [12, 9, 127, 10]);
/// let mut x = [0.0; 4];
/// dequantize((&q, of), &mut x)?;
/// assert_eq!(x, [1.0, -0.5, 58.5, 0.0]);
/// # Ok::<(), depthwise::Error>(())
/// ```
///
/// # Errors
/// If the slices have different lengths, elements are of another type than is said of them, or a scale or zero point is out of range.
pub fn quantize<T: Integer<Stored = u8>>(
    x: &[f32],
    (q, of): (&mut [T], Quantized),
    rounding: Rounding,
) -> Result<(), Error> {
    On(Isa::detect_int8()).quantize(x, (q, of), rounding)
}

/// Writes what numbers of 8 bits stand for: scale · (q − zero point), in `f32`.
///
/// # Errors
/// As of [`quantize`].
pub fn dequantize<T: Integer<Stored = u8>>((q, of): (&[T], Quantized), x: &mut [f32]) -> Result<(), Error> {
    On(Isa::detect_int8()).dequantize((q, of), x)
}

/// Adds two tensors of 8 bits: a residual. `clamp`: bounds of the outputs, such as an activation has, as numbers of their type.
///
/// By [`Rounding::NearestEven`] it computes in `f32`, as ONNX Runtime's QLinearAdd is defined, by the others as TensorFlow Lite's reference
/// ADD. `docs/numerics.md` has the formulas.
///
/// ```
/// use depthwise::int8::{Quantized, Rounding, add};
///
/// let (a, b) = ([4i8, 100], [6i8, 100]);
/// let (of_a, of_b, of_y) = (Quantized::i8(0.5, 0), Quantized::i8(0.25, 0), Quantized::i8(0.5, -1));
/// let mut y = [0; 2];
/// add([(&a, of_a), (&b, of_b)], (&mut y, of_y), Rounding::Tflite, None)?;
/// assert_eq!(y, [6, 127]); // 2.0 + 1.5 is 7 steps above the zero point; 75.0 is beyond
/// # Ok::<(), depthwise::Error>(())
/// ```
///
/// # Errors
/// As of [`quantize`]; if the clamp holds no number of the type; if the scale of the output is less than 2⁻¹⁹ of the greater one of the
/// inputs, which TensorFlow Lite's rule does not allow.
pub fn add<T: Integer<Stored = u8>>(
    [(a, of_a), (b, of_b)]: [(&[T], Quantized); 2],
    (y, of_y): (&mut [T], Quantized),
    rounding: Rounding,
    clamp: Option<[i32; 2]>,
) -> Result<(), Error> {
    On(Isa::detect_int8()).add([(a, of_a), (b, of_b)], (y, of_y), rounding, clamp)
}

/// These on an instruction set, of which all give the same bits: to test it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct On(pub Isa);

impl On {
    /// As the function.
    pub fn quantize<T: Integer<Stored = u8>>(
        self,
        x: &[f32],
        (q, of): (&mut [T], Quantized),
        rounding: Rounding,
    ) -> Result<(), Error> {
        let numbers = numbers::<T>("the output", of, None)?;
        check_same_len(x.len(), q.len())?;
        Elementwise::new(self.0).quantize(x, q, numbers, rounding != Rounding::NearestEven);
        Ok(())
    }

    /// As the function.
    pub fn dequantize<T: Integer<Stored = u8>>(self, (q, of): (&[T], Quantized), x: &mut [f32]) -> Result<(), Error> {
        let numbers = numbers::<T>("the input", of, None)?;
        check_same_len(q.len(), x.len())?;
        Elementwise::new(self.0).dequantize(q, x, numbers);
        Ok(())
    }

    /// As the function.
    pub fn add<T: Integer<Stored = u8>>(
        self,
        [(a, of_a), (b, of_b)]: [(&[T], Quantized); 2],
        (y, of_y): (&mut [T], Quantized),
        rounding: Rounding,
        clamp: Option<[i32; 2]>,
    ) -> Result<(), Error> {
        let numbers = [
            numbers::<T>("the first input", of_a, None)?,
            numbers::<T>("the second input", of_b, None)?,
            numbers::<T>("the output", of_y, clamp)?,
        ];
        check_same_len(a.len(), y.len())?;
        check_len("the second input", b.len(), a.len(), || "one for each of the first".into())?;
        let [of_a, of_b, of_y] = numbers;
        let (of, [a, b]) =
            if of_a.scale >= of_b.scale { ([of_a, of_b, of_y], [a, b]) } else { ([of_b, of_a, of_y], [b, a]) };
        let factors = match rounding {
            Rounding::NearestEven => None,
            Rounding::Tflite | Rounding::TfliteLegacy => Some(factors(of)?),
        };
        Elementwise::new(self.0).add(a, b, y, of, factors);
        Ok(())
    }
}

/// What elements of a type stand for, as kernels take it.
fn numbers<T: Integer>(what: &'static str, of: Quantized, clamp: Option<[i32; 2]>) -> Result<Numbers, Error> {
    of.check(what)?;
    check_type::<T>(what, of)?;
    Ok(Numbers { scale: of.scale, ends: of.ends(clamp)? })
}

/// Of two inputs to twice the greater scale, which is the first, and from there, 2²⁰ times finer, to the output.
fn factors([first, second, output]: [Numbers; 3]) -> Result<SumFactors, Error> {
    let twice = 2.0 * f64::from(first.scale);
    let sum = fixed(twice / (f64::from(1 << 20) * f64::from(output.scale))).filter(|&Fixed { e, .. }| e <= 0);
    let sum = sum.ok_or(Error::ScaleOfSum { output: output.scale, inputs: [first.scale, second.scale] })?;
    // At most 1/2.
    Ok(SumFactors { second: fixed(f64::from(second.scale) / twice).unwrap_or_default(), sum })
}
