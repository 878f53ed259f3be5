//! Windows: from an input's extents to an output's.

use core::ops::Range;

use depthwise_kernels::{Axis, Error, MAX_POSITION, MAX_STRIDE, Shape, Taps};

/// Zeros around the input.
///
/// A builder that is given no padding takes (K − 1)·d / 2 on each side, for a kernel of K taps with dilation d. This keeps the
/// size at stride 1. Where it is no whole number, as with an even kernel, a padding must be given.
///
/// A tap that falls on padding multiplies its weight by +0.0, in every kernel: an infinite weight there gives
/// NaN, and a sum of −0 becomes +0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Padding {
    /// That many rows and columns on each side.
    Explicit {
        /// Rows above.
        top: usize,
        /// Columns to the left.
        left: usize,
        /// Rows below.
        bottom: usize,
        /// Columns to the right.
        right: usize,
    },
    /// As much as makes the output ⌈input / stride⌉; an odd row or column goes below or to the right
    /// (ONNX's SAME_UPPER, TensorFlow's SAME).
    SameUpper,
    /// As [`SameUpper`](Self::SameUpper), but an odd row or column goes above or to the left (ONNX's SAME_LOWER).
    SameLower,
    /// None.
    Valid,
}

impl Padding {
    /// That many rows and columns on each side.
    pub const fn explicit(top: usize, left: usize, bottom: usize, right: usize) -> Self {
        Self::Explicit { top, left, bottom, right }
    }

    /// `rows` above and below, `columns` on either side.
    pub const fn symmetric(rows: usize, columns: usize) -> Self {
        Self::explicit(rows, columns, rows, columns)
    }

    /// See [`SameUpper`](Self::SameUpper).
    pub const fn same_upper() -> Self {
        Self::SameUpper
    }

    /// See [`SameLower`](Self::SameLower).
    pub const fn same_lower() -> Self {
        Self::SameLower
    }

    /// None.
    pub const fn valid() -> Self {
        Self::Valid
    }
}

/// A window that slides over the input: the geometry of a convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Window {
    pub(crate) taps: Taps,
    pub(crate) padding: Padding,
}

/// A window as a builder was told of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskedWindow {
    pub(crate) taps: Taps,
    /// If it was said.
    pub(crate) padding: Option<Padding>,
}

impl AskedWindow {
    /// The window, checked, with the padding that was said, or else (K − 1)·d / 2 on each side.
    pub(crate) fn resolve(&self) -> Result<Window, Error> {
        let window = Window { taps: self.taps, padding: self.padding.unwrap_or(Padding::Valid) };
        window.check()?;
        if self.padding.is_some() {
            return Ok(window);
        }
        let mut half = [0; 2];
        for (i, axis) in [Axis::H, Axis::W].into_iter().enumerate() {
            let (kernel, dilation) = (self.taps.kernel_size[i], self.taps.dilation[i]);
            let reach = (kernel - 1).checked_mul(dilation).ok_or(Error::Overflow { what: "a window's extent" })?;
            if reach % 2 == 1 {
                return Err(Error::PaddingNotGiven { axis, kernel, dilation });
            }
            half[i] = reach / 2;
        }
        Ok(Window { padding: Padding::symmetric(half[0], half[1]), ..window })
    }
}

/// Where a window's outputs are for one input size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Outputs {
    /// `[height, width]`.
    pub(crate) extent: [usize; 2],
    /// The padding at the top and at the left.
    pub(crate) pad: [usize; 2],
}

impl Window {
    /// A 1×1 window: what a pointwise convolution has.
    pub(crate) const POINT: Window =
        Window { taps: Taps { kernel_size: [1, 1], stride: [1, 1], dilation: [1, 1] }, padding: Padding::Valid };

    /// Fails on a zero and on a stride beyond what kernels compute.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for (extents, what) in [
            (self.taps.kernel_size, "the kernel size"),
            (self.taps.stride, "the stride"),
            (self.taps.dilation, "the dilation"),
        ] {
            if extents.contains(&0) {
                return Err(Error::Zero { what });
            }
        }
        let stride = self.taps.stride;
        match stride.into_iter().find(|&stride| stride > MAX_STRIDE) {
            Some(found) => Err(Error::TooLarge { what: "the stride", found, limit: MAX_STRIDE }),
            None => Ok(()),
        }
    }

    /// The outputs for an input of that height and width.
    pub(crate) fn outputs(&self, input: Shape) -> Result<Outputs, Error> {
        let mut outputs = Outputs { extent: [0; 2], pad: [0; 2] };
        for (i, axis) in [Axis::H, Axis::W].into_iter().enumerate() {
            let (extent, before) = self.along(i, axis, input[axis])?;
            outputs.extent[i] = extent;
            outputs.pad[i] = before;
        }
        Ok(outputs)
    }

    /// The input rows that output rows `rows`, at least one, read, of an input of that height padded that much at the top.
    pub(crate) fn rows_read(&self, rows: Range<usize>, height: usize, pad: usize) -> Range<usize> {
        let taps = self.taps;
        let reach = (taps.kernel_size[0] - 1) * taps.dilation[0];
        let start = (rows.start * taps.stride[0]).saturating_sub(pad).min(height);
        let end = ((rows.end - 1) * taps.stride[0] + reach + 1).saturating_sub(pad).min(height);
        start..end.max(start)
    }

    /// The number of outputs along one axis, and the padding before the first input.
    fn along(&self, i: usize, axis: Axis, input: usize) -> Result<(usize, usize), Error> {
        let overflow = || Error::Overflow { what: "a window's extent" };
        let bounded = |x: Option<usize>| x.filter(|&x| x < MAX_POSITION / 4).ok_or_else(overflow);
        let (kernel, stride, dilation) = (self.taps.kernel_size[i], self.taps.stride[i], self.taps.dilation[i]);
        if input == 0 {
            return Err(Error::Zero { what: if i == 0 { "the input's height" } else { "the input's width" } });
        }
        // What the kernels' indices may reach is `kernel * dilation`.
        let window = bounded(kernel.checked_mul(dilation))? - dilation + 1;
        let (before, after) = match self.padding {
            Padding::Explicit { top, left, bottom, right } => {
                if i == 0 {
                    (top, bottom)
                } else {
                    (left, right)
                }
            }
            Padding::Valid => (0, 0),
            Padding::SameUpper | Padding::SameLower => {
                let reach = bounded((input.div_ceil(stride) - 1).checked_mul(stride))? + window;
                let total = reach.saturating_sub(input);
                let less = total / 2;
                match self.padding {
                    Padding::SameUpper => (less, total - less),
                    _ => (total - less, less),
                }
            }
        };
        let padded = bounded(input.checked_add(before).and_then(|x| x.checked_add(after)))?;
        if padded < window {
            return Err(Error::WindowTooLarge { axis, window, input, padding: [before, after] });
        }
        Ok(((padded - window) / stride + 1, before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: usize, stride: usize, dilation: usize, padding: Padding) -> Window {
        Window { taps: Taps { kernel_size: [kernel; 2], stride: [stride; 2], dilation: [dilation; 2] }, padding }
    }

    #[test]
    fn same_puts_the_odd_row_where_its_name_says() {
        let input = Shape::new(1, 1, 224, 7);
        let upper = window(3, 2, 1, Padding::SameUpper).outputs(input).unwrap();
        assert_eq!(upper, Outputs { extent: [112, 4], pad: [0, 1] });
        let lower = window(3, 2, 1, Padding::SameLower).outputs(input).unwrap();
        assert_eq!(lower, Outputs { extent: [112, 4], pad: [1, 1] });
    }

    #[test]
    fn padding_that_is_not_said_keeps_the_size() {
        let asked =
            |kernel_size, dilation| AskedWindow { taps: Taps { kernel_size, stride: [1, 1], dilation }, padding: None };
        for (kernel, dilation, padding) in
            [([3, 3], [1, 1], [1, 1]), ([5, 1], [1, 7], [2, 0]), ([2, 4], [2, 4], [1, 6])]
        {
            let window = asked(kernel, dilation).resolve().unwrap();
            assert_eq!(window.padding, Padding::symmetric(padding[0], padding[1]));
            assert_eq!(window.outputs(Shape::new(1, 1, 7, 9)).unwrap().extent, [7, 9]);
        }
        let error = asked([3, 4], [1, 3]).resolve().unwrap_err();
        assert_eq!(error, Error::PaddingNotGiven { axis: Axis::W, kernel: 4, dilation: 3 });
        assert_eq!(
            asked([2, 3], [1, 1]).resolve().unwrap_err(),
            Error::PaddingNotGiven { axis: Axis::H, kernel: 2, dilation: 1 }
        );
        assert!(matches!(asked([3, 3], [1, usize::MAX]).resolve(), Err(Error::Overflow { .. })));
    }

    #[test]
    fn rows_read_leave_out_the_padding() {
        let rows = |rows, stride, dilation| window(3, stride, dilation, Padding::Valid).rows_read(rows, 8, 1);
        assert_eq!([rows(0..2, 2, 1), rows(2..4, 2, 1), rows(6..8, 1, 1)], [0..4, 3..8, 5..8]);
        assert_eq!([rows(0..1, 1, 2), rows(7..8, 1, 4)], [0..4, 6..8]);
    }

    #[test]
    fn same_never_pads_less_than_nothing() {
        let outputs = window(1, 3, 1, Padding::SameUpper).outputs(Shape::new(1, 1, 7, 8)).unwrap();
        assert_eq!(outputs, Outputs { extent: [3, 3], pad: [0, 0] });
    }

    #[test]
    fn a_window_larger_than_the_padded_input_is_an_error() {
        let error = window(3, 1, 2, Padding::Valid).outputs(Shape::new(1, 1, 4, 9)).unwrap_err();
        assert_eq!(error, Error::WindowTooLarge { axis: Axis::H, window: 5, input: 4, padding: [0, 0] });
    }
}
