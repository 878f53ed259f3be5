//! Where the points and outputs of a sub-grid are, channels last.

use crate::depthwise::{DepthwiseArgs, Lattice};
#[cfg(isa = "avx2")]
use crate::simd::Simd;
use crate::simd::opaque;
use crate::types::Strides;

/// One sub-grid of rows and columns of elements `E`, with its addresses.
#[derive(Clone, Copy)]
pub(super) struct Grid<E> {
    pub(super) rows: Lattice,
    pub(super) columns: Lattice,
    /// Channel 0 of point (0, 0), which may lie in the padding.
    input: *const E,
    pub(super) input_row: usize,
    pub(super) input_column: usize,
    /// Channel 0 of the whole output at output (0, 0) of the grid.
    output: *mut E,
    pub(super) output_row: usize,
    pub(super) output_column: usize,
    /// The residual, likewise.
    pub(super) residual: Option<*const E>,
    pub(super) residual_row: usize,
    pub(super) residual_column: usize,
}

impl<E> Grid<E> {
    #[inline(always)]
    pub(super) fn new(a: &DepthwiseArgs, n: usize, rows: Lattice, columns: Lattice) -> Self {
        let (is, os, rs) = (a.input_strides, a.output_strides, a.residual_strides);
        let image = a.input.cast::<E>().wrapping_add(n * is.n);
        let part = |s: Strides| (n * s.n + rows.first * s.h + columns.first * s.w).wrapping_sub(a.origin.c);
        // Steps over points that do not exist may wrap; the points that do are reached exactly.
        Self {
            input: image
                .wrapping_offset(rows.start.wrapping_mul(is.h as isize))
                .wrapping_offset(columns.start.wrapping_mul(is.w as isize)),
            input_row: rows.in_step.wrapping_mul(is.h),
            input_column: columns.in_step.wrapping_mul(is.w),
            output: a.output.cast::<E>().wrapping_add(part(os)),
            output_row: rows.out_step.wrapping_mul(os.h),
            output_column: columns.out_step.wrapping_mul(os.w),
            residual: a.residual.map(|r| r.cast::<E>().wrapping_add(part(rs))),
            residual_row: rows.out_step.wrapping_mul(rs.h),
            residual_column: columns.out_step.wrapping_mul(rs.w),
            rows,
            columns,
        }
    }

    #[inline(always)]
    pub(super) fn point(&self, y: usize, x: usize) -> *const E {
        self.input.wrapping_add(y.wrapping_mul(self.input_row)).wrapping_add(x.wrapping_mul(self.input_column))
    }

    /// This grid, but outputs from (`y`, `x`) on, of the vector at channel `c`, go to `at`, rows of `columns` vectors.
    #[cfg(isa = "avx2")]
    #[inline(always)]
    pub(super) fn with_outputs_at<S: Simd>(&self, at: *mut E, columns: usize, [y, x, c]: [usize; 3]) -> Self {
        let (output_row, output_column) = (columns * S::LANES, S::LANES);
        let output = at.wrapping_sub(y * output_row + x * output_column + c);
        Self { output, output_row, output_column, ..*self }
    }

    /// Where output (`y`, `x`), channel `c` is, and its residual.
    #[inline(always)]
    pub(super) fn result(&self, y: usize, x: usize, c: usize) -> (*mut E, Option<*const E>) {
        let output = self.output.wrapping_add(y * self.output_row + x * self.output_column + c);
        (output, self.residual.map(|r| r.wrapping_add(y * self.residual_row + x * self.residual_column + c)))
    }
}

/// The point at `p`, or zeros in place of padding. Opaque, lest LLVM turn the choice of an address into a jump.
#[inline(always)]
pub(super) fn or_zeros<E>(p: *const E, zeros: *const E, is_padding: bool) -> *const E {
    opaque(if is_padding { zeros } else { p }, 0).0
}
