//! Depthwise convolution, channels last, in tiles: vectors run across channels.
//!
//! The unit of work is a tile of `OH`×`OW` outputs by one vector of channels, held in registers:
//!
//! ```text
//! acc[OH][OW] = bias
//! for each input row of the tile:
//!     for each tap of a kernel row:
//!         r[IW] = inputs not met before     each input vector is loaded once per tile,
//!         for each output row that it feeds:     each weight once per row that it meets
//!             acc[oy][0..OW] += r[..] * weight
//! ```
//!
//! The loop around it runs over the channels of a fixed tile, so memory streams. Loads per
//! multiply-add are (IH·IW + weights) / (K²·OH·OW): under one half for 3×3, where one pixel at a time
//! costs two.
//!
//! At the border the same tile reads zeros in place of padding: each load takes one of two addresses, without a branch.
//! The last tile of a row is moved left rather than cut, and where a row has most of a tile, the others of its columns are dropped.

use core::marker::PhantomData;
use core::ops::Range;

use super::PATCH;
use super::grid::{Grid, or_zeros};
use crate::depthwise::window::Window;
use crate::depthwise::{Border, DepthwiseArgs, Edges, Inside, Lattice, info};
use crate::epilogue::{bound, finish};
use crate::info::{Form, KernelInfo};
use crate::simd::{Lanes, Masked, Storage, Whole, opaque, opaque_address};
use crate::table::Algorithm;
use crate::types::{Element, Layout};

/// Tiles of `OH`×`OW` outputs.
///
/// Each input of a tile's patch is loaded at the first tap that needs it, which takes the fewest registers.
pub(crate) struct Tile<E, W, const OH: usize, const OW: usize>(PhantomData<(E, W)>);

impl<S: Storage<E>, E: Element, W: Window, const OH: usize, const OW: usize> Algorithm<S> for Tile<E, W, OH, OW> {
    type Args = DepthwiseArgs;
    const INFO: KernelInfo = info::<S, E>(Layout::Nhwc, Form::Tile, Some(W::ALL), [OH, OW]);

    #[inline(always)]
    unsafe fn run(s: S, a: &DepthwiseArgs) {
        // SAFETY: the caller's.
        unsafe { all::<S, E, W, OH, OW>(s, a) }
    }
}

/// # Safety
/// 1. As [`Algorithm::run`].
#[inline(always)]
unsafe fn all<S: Storage<E>, E: Element, W: Window, const OH: usize, const OW: usize>(s: S, a: &DepthwiseArgs) {
    const { assert!((OW - 1) * W::SW + W::KW <= PATCH && W::KW > 1 && OH <= 2 && W::SH <= W::KH) };
    for n in 0..a.output_shape.n {
        for rows in Lattice::all(a, 0) {
            for columns in Lattice::all(a, 1) {
                let grid = Grid::<E>::new(a, n, rows, columns);
                let whole = rows.outputs / OH * OH;
                // SAFETY: the grid has these rows.
                unsafe {
                    for y in (0..whole).step_by(OH) {
                        row::<S, E, W, OH, OW>(s, a, &grid, y);
                    }
                    for y in whole..rows.outputs {
                        row::<S, E, W, 1, OW>(s, a, &grid, y);
                    }
                }
            }
        }
    }
}

/// A row of tiles, from output row `y` on.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. The grid has `OH` rows from `y` on.
#[inline(always)]
unsafe fn row<S: Storage<E>, E: Element, W: Window, const OH: usize, const OW: usize>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid<E>,
    y: usize,
) {
    let outputs = grid.columns.outputs;
    let least = if drops_columns(OW) { OW / 2 + 1 } else { OW };
    for x in (0..outputs).step_by(OW) {
        // The last tile is moved left rather than cut: some outputs are computed twice.
        let left = x.min(outputs.saturating_sub(OW));
        let tile = Patch::new::<E, W, OH, OW>(grid, y, left);
        // SAFETY: the grid has these rows; `Patch` says where the padding is, and how many of its columns the grid has.
        unsafe {
            if outputs < least || !tile.padding_at_edges::<W, OW>() {
                for y in y..y + OH {
                    for x in x..outputs.min(x + OW) {
                        let tile = Patch::new::<E, W, 1, 1>(grid, y, x);
                        channels::<S, E, W, Edges, 1, 1>(s, a, grid, &tile);
                    }
                }
            } else if tile.inside {
                channels::<S, E, W, Inside, OH, OW>(s, a, grid, &tile);
            } else {
                channels::<S, E, W, Edges, OH, OW>(s, a, grid, &tile);
            }
        }
    }
}

/// Whether tiles of `ow` columns drop some where a row has fewer. With four it costs more than it gains (experiment 036).
const fn drops_columns(ow: usize) -> bool {
    ow > 4
}

/// The first column on the right side of a patch that may be padding, and so is looked at: the first that some tap does not read. Where
/// tiles drop columns, the last that all taps read is looked at, too: a row that has little more than half of a tile ends there.
const fn right_edge<W: Window>(ow: usize) -> usize {
    (ow - 1) * W::SW + if drops_columns(ow) { 0 } else { 1 }
}

/// The patch of a tile: where the tile is, and what of the patch lies in the input.
struct Patch {
    /// Its first output.
    y: usize,
    x: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    /// Its columns that the output has: the first of them, or all.
    wide: usize,
    /// The whole patch lies in the input, and all of the tile in the output.
    inside: bool,
}

impl Patch {
    #[inline(always)]
    fn new<E, W: Window, const OH: usize, const OW: usize>(grid: &Grid<E>, y: usize, x: usize) -> Self {
        let (ih, iw) = ((OH - 1) * W::SH + W::KH, (OW - 1) * W::SW + W::KW);
        let columns = grid.columns.inside(x * W::SW, iw);
        // A patch without a column of the input has no row of it either.
        let rows = if columns.is_empty() { 0..0 } else { grid.rows.inside(y * W::SH, ih) };
        let wide = OW.min(grid.columns.outputs - x);
        let inside = wide == OW && rows == (0..ih) && columns == (0..iw);
        Self { y, x, rows, columns, wide, inside }
    }

    /// Whether only columns are padding that are looked at.
    #[inline(always)]
    fn padding_at_edges<W: Window, const OW: usize>(&self) -> bool {
        self.columns.start < W::KW && self.columns.end >= right_edge::<W>(OW)
    }
}

/// One tile, all channels of the part. With `Edges`, some of its columns may be none of the output's.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. The grid has the tile's rows, and its columns, or those that `t` says.
/// 3. If `B` is [`Inside`], `t` is `inside`; else `padding_at_edges`.
#[inline(always)]
unsafe fn channels<S: Storage<E>, E: Element, W: Window, B: Border, const OH: usize, const OW: usize>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid<E>,
    t: &Patch,
) {
    let (first, end) = (a.origin.c, a.origin.c + a.output_shape.c);
    let all = s.mask(0, S::LANES);
    let mut c = first / S::LANES * S::LANES;
    // SAFETY: channels `c + from .. c + to` of a mask `from..to` lie in the part.
    unsafe {
        if c < first {
            let mask = s.mask(first - c, S::LANES.min(end - c));
            tile::<S, E, W, Edges, Masked, OH, OW>(s, a, grid, t, c, mask);
            c += S::LANES;
        }
        while c + S::LANES <= end {
            tile::<S, E, W, B, Whole, OH, OW>(s, a, grid, t, c, all);
            c += S::LANES;
        }
        if c < end {
            let mask = s.mask(0, end - c);
            tile::<S, E, W, Edges, Masked, OH, OW>(s, a, grid, t, c, mask);
        }
    }
}

/// One tile, the lanes of the vector at channel `c`.
///
/// # Safety
/// 1. As [`channels`].
/// 2. The lanes are channels of the part.
#[inline(always)]
unsafe fn tile<S: Storage<E>, E: Element, W: Window, B: Border, L: Lanes, const OH: usize, const OW: usize>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid<E>,
    t: &Patch,
    c: usize,
    mask: S::Mask,
) {
    let mut weights = a.weights.wrapping_add(c * (1 + W::KH * W::KW));
    let zeros = a.zeros.cast::<E>().wrapping_add(c);
    let first = grid.point(t.y * W::SH, t.x * W::SW).wrapping_add(c);
    // SAFETY: the caller vouches for the lanes; what is read are points of the input, zeros, and the packed weights.
    unsafe {
        let mut acc = [[s.load(weights); OW]; OH];
        if S::TIGHT_PIPES {
            for oy in 0..OH {
                for ox in 0..OW {
                    weights = opaque_address(weights);
                    acc[oy][ox] = s.load(weights);
                }
            }
        }
        let mut next = first;
        // Adds what input rows give to output rows: a loop over those that feed the same ones, lest each tap ask. The end of a
        // long one, or of a wide tile's, is opaque, lest LLVM write out all of its rows, with more weights and inputs at a time
        // than registers.
        macro_rules! feed {
            ($top:expr, $end:expr => $from:literal..$to:expr) => {
                for iy in $top..if (W::KH > 3 || OW > 6) && $end - $top > 1 { opaque(zeros, $end).1 } else { $end } {
                    let (mut row, mut step) = (first.wrapping_add(iy.wrapping_mul(grid.input_row)), grid.input_column);
                    if B::PADDED && !t.rows.contains(&iy) {
                        (row, step) = (zeros, 0);
                    }
                    let (row, step) = if S::STEPS_ROWS && !B::PADDED {
                        let row = opaque_address(next);
                        next = row.wrapping_add(grid.input_row);
                        (row, step)
                    } else {
                        opaque(row, step)
                    };
                    let point = |ix: usize| {
                        let p = row.wrapping_add(ix.wrapping_mul(step));
                        let (first, last) = (ix + 1 < W::KW, ix >= right_edge::<W>(OW));
                        if B::PADDED && (first || last) {
                            let padding = (first && ix < t.columns.start) || (last && ix >= t.columns.end);
                            or_zeros(p, zeros, padding)
                        } else {
                            p
                        }
                    };
                    let mut inputs = [s.splat(0.0); PATCH];
                    for kx in 0..W::KW {
                        for ox in 0..OW {
                            // The other inputs of this tap were loaded for an earlier one.
                            if kx < W::SW || ox + 1 == OW {
                                inputs[ox * W::SW + kx] = L::load(s, point(ox * W::SW + kx), mask);
                            }
                        }
                        for oy in $from..$to {
                            let k = s.load(weights.wrapping_add((1 + (iy - oy * W::SH) * W::KW + kx) * S::LANES));
                            for ox in 0..OW {
                                acc[oy][ox] = s.mul_add(inputs[ox * W::SW + kx], k, acc[oy][ox]);
                            }
                        }
                    }
                }
            };
        }
        if OH == 1 {
            feed!(0, W::KH => 0..1);
        } else {
            feed!(0, W::SH => 0..1);
            feed!(W::SH, W::KH => 0..OH);
            feed!(W::KH, W::KH + W::SH => 1..OH);
        }
        let (output, residual) = grid.result(t.y, t.x, c);
        let bounded = S::TIGHT_PIPES && L::ALL && bound(s, a.bounds, residual.is_some(), &mut acc);
        for oy in 0..OH {
            for ox in 0..OW {
                if B::PADDED && drops_columns(OW) && ox >= t.wide {
                    break;
                }
                let output = output.wrapping_add(oy * grid.output_row + ox * grid.output_column);
                let residual = (residual, oy * grid.residual_row + ox * grid.residual_column);
                if S::TIGHT_PIPES && bounded {
                    L::store(s, output, mask, acc[oy][ox]);
                } else {
                    finish::<S, L, _>(s, a.bounds, acc[oy][ox], mask, output, residual);
                }
            }
        }
    }
}
