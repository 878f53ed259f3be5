//! Depthwise convolution, channels first: vectors run across the columns of one plane. An algorithm a file.
//!
//! Loads across the left or right border are masked, so no byte outside of a row is read.

mod any;
mod beside;
mod copied;
#[cfg(isa = "avx512")]
mod pairs;
#[cfg(isa = "avx512")]
mod rolling;
mod taps;
mod tile;

pub(crate) use any::Any;
pub(crate) use beside::suits as copies_beside;
pub(crate) use copied::{Copied, fits as fits_copy};
#[cfg(isa = "avx512")]
pub(crate) use pairs::Pairs;
#[cfg(isa = "avx512")]
pub(crate) use rolling::Rolling;
pub(crate) use taps::Loaded;
#[cfg(isa = "avx512")]
pub(crate) use taps::Picked;
pub(crate) use tile::Tile;

use crate::depthwise::{DepthwiseArgs, Lattice};
use crate::epilogue::finish;
use crate::simd::{Lanes, Simd};

/// One plane: an input channel and the output channel that it feeds, along one sub-grid of rows.
pub(crate) struct Plane {
    rows: Lattice,
    /// Point 0 of the rows, column 0; it may lie in the padding.
    input: *const f32,
    input_row: usize,
    output: *mut f32,
    output_row: usize,
    residual: Option<*const f32>,
    residual_row: usize,
    /// Bias, then the taps row by row.
    weights: *const f32,
}

impl Plane {
    #[inline(always)]
    fn new(a: &DepthwiseArgs, n: usize, c: usize, rows: Lattice) -> Self {
        let (is, os, rs) = (a.input_strides, a.output_strides, a.residual_strides);
        let channel = a.origin.c + c;
        let input_channel = if a.multiplier == 1 { channel } else { channel / a.multiplier };
        let image = a.input.cast::<f32>().wrapping_add(n * is.n + input_channel * is.c);
        Self {
            input: image.wrapping_offset(rows.start.wrapping_mul(is.h as isize)),
            // Steps over rows that do not exist may wrap; the rows that do are reached exactly.
            input_row: rows.in_step.wrapping_mul(is.h),
            output: a.output.cast::<f32>().wrapping_add(n * os.n + c * os.c + rows.first * os.h),
            output_row: rows.out_step.wrapping_mul(os.h),
            residual: a.residual.map(|r| r.cast::<f32>().wrapping_add(n * rs.n + c * rs.c + rows.first * rs.h)),
            residual_row: rows.out_step.wrapping_mul(rs.h),
            weights: a.weights.wrapping_add(channel * (1 + a.kernel_size[0] * a.kernel_size[1])),
            rows,
        }
    }

    /// Column `start` of the row of points `y`, which may not exist.
    #[inline(always)]
    fn at(&self, y: usize, start: isize) -> *const f32 {
        self.input.wrapping_add(y.wrapping_mul(self.input_row)).wrapping_offset(start)
    }

    /// The same, or in the padding zeros in its place and in that of the vector before, as many as picked taps are loaded from.
    #[cfg(isa = "avx512")]
    #[inline(always)]
    fn at_or_zeros<S: Simd>(&self, y: usize, start: isize) -> *const f32 {
        if self.rows.has(y) { self.at(y, start) } else { ZEROS.as_ptr().wrapping_add(S::LANES) }
    }

    /// Column 0 of the row of points `y`, or `None` in the padding.
    #[inline(always)]
    fn row(&self, y: usize) -> Option<*const f32> {
        self.rows.has(y).then(|| self.at(y, 0))
    }
}

impl Plane {
    /// Where output (`y`, `x`) is.
    #[inline(always)]
    fn result(&self, y: usize, x: usize) -> *mut f32 {
        self.output.wrapping_add((y * self.output_row).wrapping_add(x))
    }

    /// Rows of the part, from the first on, whose last vector may be stored whole: what is beyond its last column are columns of rows to
    /// come, which are stored later.
    #[inline(always)]
    fn whole_rows<S: Simd>(&self, a: &DepthwiseArgs) -> usize {
        let (rows, width) = (self.rows.outputs, a.output_shape.w);
        if width >= S::LANES {
            rows
        } else if self.output_row == width && (self.residual.is_none() || self.residual_row == width) {
            // The row's own columns are followed by those of so many more.
            rows.saturating_sub((S::LANES - 1) / width)
        } else {
            0
        }
    }

    /// The sums of outputs from (`y`, `x`) on → residual → clamp → output.
    ///
    /// # Safety
    /// 1. The plane's part has these outputs.
    #[inline(always)]
    unsafe fn finish<S: Simd, L: Lanes>(&self, s: S, a: &DepthwiseArgs, [y, x]: [usize; 2], mask: S::Mask, sum: S::V) {
        let output = self.result(y, x);
        let residual = (self.residual, (y * self.residual_row).wrapping_add(x));
        // SAFETY: 1. The caller's. 2. The residual has the same shape.
        unsafe { finish::<S, L, _>(s, a.bounds, sum, mask, output, residual) }
    }
}

/// Of the first `lanes` lanes those whose columns `start + i * step` lie in an input of `width` columns.
#[inline(always)]
fn in_row<S: Simd>(s: S, start: isize, step: usize, width: usize, lanes: usize) -> S::Mask {
    let from = start.min(0).unsigned_abs().div_ceil(step);
    let to = (width as isize - start).max(0).unsigned_abs().div_ceil(step);
    s.mask(from, to.min(lanes))
}

/// A row of padding: the vectors of a row that taps are picked from, of up to sixteen lanes.
#[cfg(isa = "avx512")]
static ZEROS: [f32; 6 * 16] = [0.0; 6 * 16];
