//! Strips: columns of outputs, cut as evenly as the map allows, down which kernels channels last go. What those that roll and those
//! that take turns share.

use core::ops::Range;

use super::PATCH;
use super::grid::{Grid, or_zeros};
use crate::depthwise::window::Window;
use crate::depthwise::{Border, DepthwiseArgs, Lattice, MOST_STRIP_ROWS};
use crate::epilogue::clamps;
use crate::pointwise::balanced;
use crate::simd::{Lanes, Simd, Storage, opaque};

/// What is done with a strip.
pub(super) trait Walk<S: Simd> {
    type Element;
    type Window: Window;

    /// Computes a strip of `OW` columns, all channels of the part.
    ///
    /// # Safety
    /// 1. As [`Algorithm::run`](crate::table::Algorithm::run).
    /// 2. The grid has the strip's outputs, `OW` columns of them, and up to [`MOST_STRIP_ROWS`] rows.
    unsafe fn strip<const OW: usize>(s: S, a: &DepthwiseArgs, grid: &Grid<Self::Element>, t: &Strip);
}

/// All strips, of up to `OW` columns.
///
/// # Safety
/// 1. As [`Algorithm::run`](crate::table::Algorithm::run).
#[inline(always)]
pub(super) unsafe fn strips<S: Simd, A: Walk<S>, const OW: usize>(s: S, a: &DepthwiseArgs) {
    const { assert!(OW >= 2 && OW <= 7 && (OW - 1) * A::Window::SW + A::Window::KW <= PATCH) };
    debug_assert!((1..=MOST_STRIP_ROWS).contains(&a.tuning.strip_rows));
    for n in 0..a.output_shape.n {
        for rows in Lattice::all(a, 0) {
            for columns in Lattice::all(a, 1) {
                let grid = Grid::<A::Element>::new(a, n, rows, columns);
                let (height, width) = (rows.outputs, columns.outputs);
                // No strip has a single column, unless the map has.
                let (most, fewest) = (a.tuning.strip_columns.min(OW), width.div_ceil(OW));
                let (high, wide) =
                    (height.div_ceil(a.tuning.strip_rows), width.div_ceil(most).min(width / 2).max(fewest));
                for i in 0..high {
                    let (y, end) = (balanced(height, high, i), balanced(height, high, i + 1));
                    for j in 0..wide {
                        let (x, right) = (balanced(width, wide, j), balanced(width, wide, j + 1));
                        macro_rules! with_columns {
                            ($($count:literal)*) => {
                                match right - x {
                                    $($count if $count <= OW => {
                                        let strip = Strip::new::<A::Element, A::Window, $count>(a, &grid, y, x, end - y);
                                        // SAFETY: 1. The caller's. 2. The cuts are within the grid.
                                        unsafe { A::strip::<$count>(s, a, &grid, &strip) }
                                    })*
                                    columns => debug_assert!(false, "a strip of {columns} columns"),
                                }
                            };
                        }
                        with_columns!(1 2 3 4 5 6 7);
                    }
                }
            }
        }
    }
}

/// Where a strip is, and what of its patch lies in the input.
pub(super) struct Strip {
    /// Its first output.
    pub(super) y: usize,
    pub(super) x: usize,
    pub(super) height: usize,
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
    /// Not all of its columns do.
    pub(super) edge: bool,
    /// Results are stored as they were summed: nothing is added to them, and no clamp changes them.
    pub(super) as_summed: bool,
}

impl Strip {
    #[inline(always)]
    fn new<E, W: Window, const OW: usize>(
        a: &DepthwiseArgs,
        grid: &Grid<E>,
        y: usize,
        x: usize,
        height: usize,
    ) -> Self {
        let width = (OW - 1) * W::SW + W::KW;
        let columns = grid.columns.inside(x * W::SW, width);
        let edge = columns != (0..width);
        let rows = grid.rows.inside(y * W::SH, (height - 1) * W::SH + W::KH);
        let as_summed = grid.residual.is_none() && !clamps(a.bounds[0], a.bounds[1]);
        Self { y, x, height, rows, columns, edge, as_summed }
    }

    /// Whether no column of `KW - 1 ..= (OW - 1) * SW` is padding: these are not looked at.
    #[inline(always)]
    pub(super) fn padding_at_edges<W: Window, const OW: usize>(&self) -> bool {
        self.columns.start < W::KW && self.columns.end > (OW - 1) * W::SW
    }
}

/// The rows that a strip holds, the first of which is complete first.
pub(super) type Held<S, const R: usize, const OW: usize> = [[<S as Simd>::V; OW]; R];

/// Adds what an input row, the `dy`-th of a step, gives to the held rows `fed`. `row`: channel 0 of its first point, and the step to
/// the next, or zeros and no step.
///
/// # Safety
/// 1. The lanes of the vector at channel `c` are channels of the part.
/// 2. `row` is of the input, or zeros.
/// 3. Of the strip's columns, none is padding if `B` is [`Inside`](crate::depthwise::Inside); and if `L` is whole and the window is of
///    three rows, none but those that `padding_at_edges` leaves.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "inlined: these are the loop's variables")]
pub(super) unsafe fn feed<S: Storage<E>, E, W: Window, B: Border, L: Lanes, const R: usize, const OW: usize>(
    s: S,
    a: &DepthwiseArgs,
    t: &Strip,
    (c, mask): (usize, S::Mask),
    dy: usize,
    (row, step): (*const E, usize),
    fed: Range<usize>,
    mut acc: Held<S, R, OW>,
) -> Held<S, R, OW> {
    // Opaque, lest LLVM step an address for each column from vector to vector, for which there are no registers.
    let (row, step) = opaque(row.wrapping_add(c), step);
    let (weights, _) = opaque(a.weights.wrapping_add(c * (1 + W::KH * W::KW) + S::LANES), 0);
    let zeros = a.zeros.cast::<E>().wrapping_add(c);
    let mut inputs = [s.splat(0.0); PATCH];
    for kx in 0..W::KW {
        for ox in 0..OW {
            // The other inputs of this tap were loaded for an earlier one.
            if kx < W::SW || ox + 1 == OW {
                let ix = ox * W::SW + kx;
                let mut p = row.wrapping_add(ix.wrapping_mul(step));
                // Of many taps most columns are at an edge: there all are looked at.
                if B::PADDED && (!L::ALL || W::KH > 3 || ix + 1 < W::KW || ix > (OW - 1) * W::SW) {
                    p = or_zeros(p, zeros, !t.columns.contains(&ix));
                }
                // SAFETY: 1, 2. The caller's. 3. The columns that are not looked at are none of the padding's.
                inputs[ix] = unsafe { L::load(s, p, mask) };
            }
        }
        for r in 0..R {
            let ky = dy + (R - 1 - r) * W::SH;
            if fed.start <= r && r < fed.end && ky < W::KH {
                // SAFETY: packed weights.
                let k = unsafe { s.load(weights.wrapping_add((ky * W::KW + kx) * S::LANES)) };
                for ox in 0..OW {
                    acc[r][ox] = s.mul_add(inputs[ox * W::SW + kx], k, acc[r][ox]);
                }
            }
        }
    }
    acc
}
