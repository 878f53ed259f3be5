//! Depthwise convolution: what both layouts share, which is the geometry.
//!
//! A convolution with dilation d and stride s is, along each axis, d / gcd(s, d) interleaved
//! convolutions without dilation and with stride s / gcd(s, d) over every d-th row or column. The
//! kernels therefore know no dilation: [`Lattice`] hands them one of those sub-grids at a time.
//!
//! Where inputs are copied, columns lie by phases: at column stride s, column c goes to place c / s of phase c mod s. The inputs of
//! neighbouring outputs under a tap then lie side by side.

pub(crate) mod nchw;
pub(crate) mod nhwc;
pub(crate) mod window;

use core::ops::Range;

use crate::info::{Form, KernelInfo, Operation};
use crate::simd::Simd;
use crate::types::{Element, Layout, Shape, Strides, sub_grids};

/// The numbers of a depthwise kernel's way that depend on the CPU. None changes a bit of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthwiseTuning {
    /// Rows of a strip at the most, 1 to [`MOST_STRIP_ROWS`].
    pub strip_rows: usize,
    /// Columns of a strip at the most, from 1 on; a kernel has a limit of its own.
    pub strip_columns: usize,
}

/// Rows of any strip at the most, for which there is room in the buffer of outputs that wait.
pub const MOST_STRIP_ROWS: usize = 28;

impl Default for DepthwiseTuning {
    fn default() -> Self {
        Self { strip_rows: MOST_STRIP_ROWS, strip_columns: usize::MAX }
    }
}

/// What a depthwise kernel computes: a part of the output, all pointers and extents checked by
/// [`DepthwiseStage::run`](crate::stage::DepthwiseStage::run). Input, output and residual are of the kernel's type of elements.
pub(crate) struct DepthwiseArgs {
    /// The first image of the part, all channels, rows and columns.
    pub(crate) input: *const (),
    pub(crate) input_shape: Shape,
    pub(crate) input_strides: Strides,
    /// The part's first element.
    pub(crate) output: *mut (),
    /// The part's extents.
    pub(crate) output_shape: Shape,
    pub(crate) output_strides: Strides,
    /// Shaped as the part.
    pub(crate) residual: Option<*const ()>,
    pub(crate) residual_strides: Strides,
    /// The index of the part's first element in the whole output; `n` is 0.
    pub(crate) origin: Shape,
    pub(crate) kernel_size: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// The padding at the top and at the left.
    pub(crate) pad: [usize; 2],
    /// Output channels per input channel.
    pub(crate) multiplier: usize,
    /// Of all channels, as [`DepthwiseStage::new`](crate::stage::DepthwiseStage::new) packed them.
    pub(crate) weights: *const f32,
    /// As many +0.0 as there are channels, rounded up to whole vectors. Of any narrower type they are +0.0, too.
    pub(crate) zeros: *const f32,
    #[cfg_attr(not(isa = "avx2"), expect(dead_code, reason = "no kernel has strips"))]
    pub(crate) tuning: DepthwiseTuning,
    /// The least output, and the greatest.
    pub(crate) bounds: [f32; 2],
}

/// A row of the table. `window`: taps down and across, stride down and across.
const fn info<S: Simd, E: Element>(
    layout: Layout,
    form: Form,
    window: Option<[usize; 4]>,
    tile: [usize; 2],
) -> KernelInfo {
    let (kernel_size, stride) = match window {
        Some([kh, kw, sh, sw]) => (Some([kh, kw]), Some([sh, sw])),
        None => (None, None),
    };
    KernelInfo {
        name: "",
        isa: S::ISA,
        operation: Operation::Depthwise,
        element: E::TYPE,
        form,
        layout,
        kernel_size,
        stride,
        tile,
        lanes: S::LANES,
        spills: 0,
    }
}

/// Whether some of a tile's or a strip's points may be padding, which are then looked at.
pub(crate) trait Border {
    const PADDED: bool;
}

/// None is.
pub(crate) struct Inside;
/// Some may be.
pub(crate) struct Edges;

impl Border for Inside {
    const PADDED: bool = false;
}

impl Border for Edges {
    const PADDED: bool = true;
}

/// One undilated sub-grid of a convolution along one axis.
///
/// It is a row of points, `in_step` apart in the input; output `t` and tap `k` meet at point
/// `t * undilated_stride + k`.
#[derive(Clone, Copy)]
pub(crate) struct Lattice {
    /// Its first output, counted from the part's start.
    pub(crate) first: usize,
    /// The distance between its outputs.
    pub(crate) out_step: usize,
    /// How many outputs of the part belong to it.
    pub(crate) outputs: usize,
    /// The input position of point 0, negative in the padding.
    pub(crate) start: isize,
    /// The distance between its points.
    pub(crate) in_step: usize,
    /// The points from this one on …
    pub(crate) valid_from: usize,
    /// … to before this one, which is no earlier, lie in the input; the others are padding.
    pub(crate) valid_to: usize,
}

impl Lattice {
    /// The sub-grids along the rows (`axis` 0) or columns (`axis` 1).
    #[inline(always)]
    pub(crate) fn all(a: &DepthwiseArgs, axis: usize) -> impl Iterator<Item = Lattice> {
        let (extent, out_step) = Self::steps(a, axis);
        (0..out_step.min(extent)).map(move |first| Self::nth(a, axis, extent, out_step, first))
    }

    /// As [`all`](Self::all), to be cloned for each plane: the first, often the only one, is worked out here, so that its
    /// divisions are done once. Where nothing is cloned it costs (experiment 037).
    #[inline(always)]
    pub(crate) fn all_again(a: &DepthwiseArgs, axis: usize) -> impl Iterator<Item = Lattice> + Clone {
        let (extent, out_step) = Self::steps(a, axis);
        let nth = move |first| Self::nth(a, axis, extent, out_step, first);
        let zeroth = nth(0);
        (0..out_step.min(extent)).map(move |first| if first == 0 { zeroth } else { nth(first) })
    }

    /// Outputs of the part along an axis, and the distance between those of a sub-grid.
    #[inline(always)]
    fn steps(a: &DepthwiseArgs, axis: usize) -> (usize, usize) {
        let extent = if axis == 0 { a.output_shape.h } else { a.output_shape.w };
        (extent, sub_grids(a.stride[axis], a.dilation[axis]))
    }

    #[inline(always)]
    fn nth(a: &DepthwiseArgs, axis: usize, extent: usize, out_step: usize, first: usize) -> Self {
        let (origin, len) = match axis {
            0 => (a.origin.h, a.input_shape.h),
            _ => (a.origin.w, a.input_shape.w),
        };
        let in_step = a.dilation[axis];
        // The plan bounds all of these far below `isize::MAX`.
        let start = ((origin + first) * a.stride[axis]) as isize - a.pad[axis] as isize;
        let valid_from = start.min(0).unsigned_abs().div_ceil(in_step);
        Lattice {
            first,
            out_step,
            outputs: (extent - first).div_ceil(out_step),
            start,
            in_step,
            valid_from,
            valid_to: (len as isize - start).max(0).unsigned_abs().div_ceil(in_step),
        }
    }

    /// Whether all of `points` lie in the input.
    #[inline(always)]
    pub(crate) fn holds(&self, from: usize, points: usize) -> bool {
        from >= self.valid_from && from + points <= self.valid_to
    }

    /// Of `points` from this one on, those that lie in the input.
    #[inline(always)]
    pub(crate) fn inside(&self, from: usize, points: usize) -> Range<usize> {
        let start = self.valid_from.saturating_sub(from).min(points);
        start..self.valid_to.saturating_sub(from).min(points).max(start)
    }

    /// Whether `point` lies in the input.
    #[inline(always)]
    pub(crate) fn has(&self, point: usize) -> bool {
        // One comparison, where rows are so short that they count.
        point.wrapping_sub(self.valid_from) < self.valid_to - self.valid_from
    }
}

/// What taps on padding add to a sum, in one number: the sum of +0.0 · w. So a row of taps that lies on padding need not be multiplied.
///
/// Added one by one, a finite w adds a zero with the sign of w. That changes no sum but −0, which becomes +0 with the first zero
/// that is +0, and then stays. The sum of these zeros, from −0 on, is +0 if any of them is, else −0: added at once it does the
/// same. A w that is not finite makes 0 · w, and so every sum after it, NaN either way.
#[inline(always)]
pub(crate) fn on_padding(weights: impl Iterator<Item = f32>) -> f32 {
    weights.fold(-0.0, |sum, w| sum + 0.0 * w)
}
