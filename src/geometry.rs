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
    /// A 1×1 window.
    pub(crate) const POINT: AskedWindow =
        AskedWindow { taps: Window::POINT.taps, padding: Some(Window::POINT.padding) };

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

/// A part of an input along one axis, as an input of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Excerpt {
    pub(crate) inputs: Range<usize>,
    /// The index of the part's first output, as if there were no other inputs, and padding before them.
    pub(crate) first: usize,
    pub(crate) pad: usize,
}

impl Window {
    /// A 1×1 window: what a pointwise convolution has.
    pub(crate) const POINT: Window =
        Window { taps: Taps { kernel_size: [1, 1], stride: [1, 1], dilation: [1, 1] }, padding: Padding::Valid };

    /// With height and width exchanged.
    pub(crate) fn turned(&self) -> Self {
        let padding = match self.padding {
            Padding::Explicit { top, left, bottom, right } => Padding::explicit(left, top, right, bottom),
            same_on_both @ (Padding::SameUpper | Padding::SameLower | Padding::Valid) => same_on_both,
        };
        Self { taps: self.taps.turned(), padding }
    }

    /// Whether each output reads the input at its own place alone.
    pub(crate) fn is_point(&self) -> bool {
        let pads = match self.padding {
            Padding::Explicit { top, left, bottom, right } => [top, left, bottom, right] != [0; 4],
            // A tap and a stride of 1 need none.
            Padding::SameUpper | Padding::SameLower | Padding::Valid => false,
        };
        self.taps.kernel_size == [1, 1] && self.taps.stride == [1, 1] && !pads
    }

    /// Whether outputs beside each other read some inputs of the same rows or columns.
    pub(crate) fn overlaps(&self) -> bool {
        self.taps.kernel_size.iter().zip(self.taps.stride).any(|(&kernel, stride)| kernel > stride)
    }

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

    /// The outputs of a plan from so many channels to so many, and their shape.
    pub(crate) fn whole(&self, input: Shape, [from, to]: [usize; 2]) -> Result<(Outputs, Shape), Error> {
        if input.c != from {
            return Err(Error::Channels { expected: from, found: input.c });
        }
        let outputs = self.outputs(input)?;
        let shape = Shape::new(input.n, to, outputs.extent[0], outputs.extent[1]);
        for shape in [input, shape] {
            if shape.len().is_none_or(|len| len > isize::MAX as usize / 4) {
                return Err(Error::Overflow { what: "the number of elements of a tensor" });
            }
        }
        Ok((outputs, shape))
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

    /// What the outputs of a range, at least one, read along axis 0 (height) or 1 (width) of an input of that extent, padded that much
    /// before the first.
    pub(crate) fn read(&self, i: usize, outputs: Range<usize>, extent: usize, pad: usize) -> Range<usize> {
        let (kernel, stride, dilation) = (self.taps.kernel_size[i], self.taps.stride[i], self.taps.dilation[i]);
        let reach = (kernel - 1) * dilation;
        let start = (outputs.start * stride).saturating_sub(pad).min(extent);
        let end = ((outputs.end - 1) * stride + reach + 1).saturating_sub(pad).min(extent);
        start..end.max(start)
    }

    /// The same as an input of its own: at least one, even where the outputs read nothing but padding.
    pub(crate) fn excerpt(&self, i: usize, outputs: Range<usize>, extent: usize, pad: usize) -> Excerpt {
        let stride = self.taps.stride[i];
        let begins = outputs.start * stride;
        let read = self.read(i, outputs, extent, pad);
        let start = read.start.min(extent - 1);
        // Of the padded whole, the first input here, and what the first output reads first.
        let first = match begins.checked_sub(start + pad) {
            Some(ahead) => ahead.div_ceil(stride),
            None => 0,
        };
        let pad = first * stride + start + pad - begins;
        Excerpt { inputs: start..read.end.max(start + 1), first, pad }
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
        let rows = |rows, stride, dilation| window(3, stride, dilation, Padding::Valid).read(0, rows, 8, 1);
        assert_eq!([rows(0..2, 2, 1), rows(2..4, 2, 1), rows(6..8, 1, 1)], [0..4, 3..8, 5..8]);
        assert_eq!([rows(0..1, 1, 2), rows(7..8, 1, 4)], [0..4, 6..8]);
    }

    #[test]
    fn an_excerpt_has_the_same_taps_under_the_same_outputs() {
        for (stride, dilation, pad) in [(1, 1, 0), (1, 1, 1), (2, 1, 1), (3, 2, 5), (5, 1, 9), (1, 4, 20)] {
            let (window, extent) = (window(3, stride, dilation, Padding::Valid), 8);
            for start in 0..(extent + 2 * pad - 2 * dilation).div_ceil(stride) {
                let excerpt = window.excerpt(0, start..start + 1, extent, pad);
                let taps = |first: usize, pad: usize, extent: usize, from: usize| {
                    let taps = (0..3).map(move |k| (first * stride + k * dilation).checked_sub(pad));
                    taps.map(move |tap| tap.filter(|&tap| tap < extent).map(|tap| tap + from)).collect::<Vec<_>>()
                };
                let whole = taps(start, pad, extent, 0);
                let inputs = excerpt.inputs.clone();
                assert!(!inputs.is_empty() && inputs.end <= extent);
                assert_eq!(taps(excerpt.first, excerpt.pad, inputs.len(), inputs.start), whole, "{excerpt:?}");
            }
        }
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
