//! Activations of numbers of 8 bits.

use core::fmt;

use super::elements::{On, check_same_len, check_type, dequantize, quantize};
use super::quantized::{Quantized, Rounding};
use depthwise_kernels::{ElementType, Elementwise, Error, Integer, Isa};

/// An activation of numbers of 8 bits: a number for each number, so that a curve of any kind is exact.
///
/// A builder's `output_table` takes one: sums are rounded to what its input stands for, and become what it has for these numbers.
#[derive(Clone, PartialEq)]
pub struct Table {
    input: Quantized,
    output: Quantized,
    /// What is stored for each number, from the least on.
    entries: [u8; 256],
}

impl Table {
    /// With the numbers that `f` gives for numbers, and no further than the output's type goes.
    ///
    /// ```
    /// use depthwise::int8::{Quantized, Table};
    ///
    /// // A table as a file may have it: from the least number, -128, on.
    /// let stored: [u8; 256] = std::array::from_fn(|i| i as u8 / 2);
    /// let table = Table::new(Quantized::i8(0.5, 0), Quantized::u8(1.0, 64), |q| stored[(q + 128) as usize].into())?;
    /// let mut y = [0u8; 3];
    /// table.look_up(&[-128i8, 0, 127], &mut y)?;
    /// assert_eq!(y, [0, 64, 127]);
    /// # Ok::<(), depthwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// If a scale or zero point is out of range.
    pub fn new(input: Quantized, output: Quantized, mut f: impl FnMut(i32) -> i32) -> Result<Self, Error> {
        input.check("the input of a table")?;
        output.check("the output of a table")?;
        let (least, _) = input.range();
        let (low, high) = output.range();
        // What is stored for an `i8` is its bits.
        let entries = core::array::from_fn(|i| f(least + i as i32).clamp(low, high) as u8);
        Ok(Self { input, output, entries })
    }

    /// With the numbers for what the curve gives for what numbers stand for: quantize(f(dequantize(q))), by the rule.
    ///
    /// ```
    /// use depthwise::int8::{Quantized, Rounding, Table};
    ///
    /// let hard_swish = |x: f32| x * (x + 3.0).clamp(0.0, 6.0) / 6.0;
    /// let table = Table::of_curve(Quantized::i8(0.5, 0), Quantized::i8(0.25, 0), Rounding::NearestEven, hard_swish)?;
    /// let mut y = [0i8; 3];
    /// table.look_up(&[-2i8, 2, 8], &mut y)?; // of -1, 1 and 4: -1/3, 2/3 and 4
    /// assert_eq!(y, [-1, 3, 16]);
    /// # Ok::<(), depthwise::Error>(())
    /// ```
    ///
    /// # Errors
    /// If a scale or zero point is out of range.
    pub fn of_curve(
        input: Quantized,
        output: Quantized,
        rounding: Rounding,
        mut f: impl FnMut(f32) -> f32,
    ) -> Result<Self, Error> {
        let mut real = [0.0; 256];
        match input.element() {
            ElementType::U8 => dequantize((&core::array::from_fn::<u8, 256, _>(|i| i as u8), input), &mut real)?,
            _ => dequantize((&core::array::from_fn::<i8, 256, _>(|i| (i as i16 - 128) as i8), input), &mut real)?,
        }
        real.iter_mut().for_each(|x| *x = f(*x));
        let (mut unsigned, mut signed) = ([0u8; 256], [0i8; 256]);
        match output.element() {
            ElementType::U8 => quantize(&real, (&mut unsigned, output), rounding)?,
            _ => quantize(&real, (&mut signed, output), rounding)?,
        }
        let (least, _) = input.range();
        Self::new(input, output, |q| {
            let place = (q - least) as usize;
            if output.is_signed() { signed[place].into() } else { unsigned[place].into() }
        })
    }

    /// What the numbers stand for that it is looked up with.
    pub const fn input(&self) -> Quantized {
        self.input
    }

    /// What the numbers stand for that it has.
    pub const fn output(&self) -> Quantized {
        self.output
    }

    /// What is stored for each number, from the least on.
    pub(crate) fn entries(&self) -> &[u8; 256] {
        &self.entries
    }

    /// Looks each number up: an activation of a tensor that is there.
    ///
    /// # Errors
    /// If elements are of another type than the table, or the slices have different lengths.
    pub fn look_up<A: Integer<Stored = u8>, B: Integer<Stored = u8>>(&self, x: &[A], y: &mut [B]) -> Result<(), Error> {
        On(Isa::detect_int8()).look_up(self, x, y)
    }
}

impl On {
    /// As the table's method.
    pub fn look_up<A: Integer<Stored = u8>, B: Integer<Stored = u8>>(
        self,
        table: &Table,
        x: &[A],
        y: &mut [B],
    ) -> Result<(), Error> {
        check_type::<A>("the input", table.input)?;
        check_type::<B>("the output", table.output)?;
        check_same_len(x.len(), y.len())?;
        let mut entries = table.entries;
        if table.input.is_signed() {
            // By bits, 0 is the first.
            entries.rotate_left(128);
        }
        Elementwise::new(self.0).look_up(x, y, &entries);
        Ok(())
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({:?} to {:?})", self.input, self.output)
    }
}
