//! Depthwise convolution, channels last: vectors run across channels.
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

use core::ops::Range;

use crate::depthwise::{DepthwiseArgs, Lattice};
use crate::epilogue::clamp;
use crate::simd::{Simd, opaque};
use crate::types::Strides;
use crate::types::undilated_stride;

/// One sub-grid of rows and columns, with its addresses.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) rows: Lattice,
    pub(crate) columns: Lattice,
    /// Channel 0 of point (0, 0), which may lie in the padding.
    input: *const f32,
    pub(crate) input_row: usize,
    pub(crate) input_column: usize,
    /// Channel 0 of the whole output at output (0, 0) of the grid.
    output: *mut f32,
    pub(crate) output_row: usize,
    pub(crate) output_column: usize,
    /// The residual, likewise.
    pub(crate) residual: Option<*const f32>,
    residual_row: usize,
    pub(crate) residual_column: usize,
}

impl Grid {
    #[inline(always)]
    pub(crate) fn new(a: &DepthwiseArgs, n: usize, rows: Lattice, columns: Lattice) -> Self {
        let (is, os, rs) = (a.input_strides, a.output_strides, a.residual_strides);
        let image = a.input.wrapping_add(n * is.n);
        let part = |s: Strides| (n * s.n + rows.first * s.h + columns.first * s.w).wrapping_sub(a.origin.c);
        // Steps over points that do not exist may wrap; the points that do are reached exactly.
        Self {
            input: image
                .wrapping_offset(rows.start.wrapping_mul(is.h as isize))
                .wrapping_offset(columns.start.wrapping_mul(is.w as isize)),
            input_row: rows.in_step.wrapping_mul(is.h),
            input_column: columns.in_step.wrapping_mul(is.w),
            output: a.output.wrapping_add(part(os)),
            output_row: rows.out_step.wrapping_mul(os.h),
            output_column: columns.out_step.wrapping_mul(os.w),
            residual: a.residual.map(|r| r.wrapping_add(part(rs))),
            residual_row: rows.out_step.wrapping_mul(rs.h),
            residual_column: columns.out_step.wrapping_mul(rs.w),
            rows,
            columns,
        }
    }

    #[inline(always)]
    pub(crate) fn point(&self, y: usize, x: usize) -> *const f32 {
        self.input.wrapping_add(y.wrapping_mul(self.input_row)).wrapping_add(x.wrapping_mul(self.input_column))
    }

    /// The greatest power of two, at most a page, that pixels of the input are a multiple of apart, in `f32`.
    #[cfg(isa = "avx2")]
    #[inline(always)]
    pub(crate) fn spacing(&self) -> usize {
        1 << self.input_column.trailing_zeros().min(10)
    }

    /// This grid, but outputs from (`y`, `x`) on, of the vector at channel `c`, go to `at`, rows of `columns` vectors.
    #[cfg(isa = "avx2")]
    #[inline(always)]
    pub(crate) fn with_outputs_at<S: Simd>(&self, at: *mut f32, columns: usize, [y, x, c]: [usize; 3]) -> Self {
        let (output_row, output_column) = (columns * S::LANES, S::LANES);
        let output = at.wrapping_sub(y * output_row + x * output_column + c);
        Self { output, output_row, output_column, ..*self }
    }

    /// Where output (`y`, `x`), channel `c` is, and its residual.
    #[inline(always)]
    pub(crate) fn result(&self, y: usize, x: usize, c: usize) -> (*mut f32, Option<*const f32>) {
        let output = self.output.wrapping_add(y * self.output_row + x * self.output_column + c);
        (output, self.residual.map(|r| r.wrapping_add(y * self.residual_row + x * self.residual_column + c)))
    }
}

/// An accumulator, its selected lanes → residual → clamp → output.
#[inline(always)]
pub(crate) unsafe fn finish<S: Simd, const FULL: bool>(
    s: S,
    a: &DepthwiseArgs,
    acc: S::V,
    mask: S::Mask,
    (output, residual): (*mut f32, Option<*const f32>),
) {
    let mut v = acc;
    // SAFETY: the caller vouches for the output and its lanes; the residual has the same shape.
    unsafe {
        if let Some(residual) = residual {
            v = s.add(v, load::<S, FULL>(s, residual, mask));
        }
        v = clamp(s, v, s.splat(a.min), s.splat(a.max));
        store::<S, FULL>(s, output, mask, v);
    }
}

/// `KH`×`KW` taps at an undilated stride of `SH`×`SW`, tiles of `OH`×`OW` outputs.
///
/// `IW` follows: the columns of a tile's patch. Each of its inputs is loaded at the first tap that needs it, which takes the
/// fewest registers.
///
/// # Safety
/// `a` comes from a [`DepthwiseStage`](crate::stage::DepthwiseStage) that was built for this kernel.
#[inline(always)]
pub(crate) unsafe fn fixed<
    S: Simd,
    const KH: usize,
    const KW: usize,
    const SH: usize,
    const SW: usize,
    const OH: usize,
    const OW: usize,
    const IW: usize,
>(
    s: S,
    a: &DepthwiseArgs,
) {
    const { assert!(IW == (OW - 1) * SW + KW && KW > 1 && OH <= 2 && SH <= KH) };
    for n in 0..a.output_shape.n {
        for rows in Lattice::all(a, 0) {
            for columns in Lattice::all(a, 1) {
                let grid = Grid::new(a, n, rows, columns);
                let whole = rows.outputs / OH * OH;
                // SAFETY: the grid has these rows.
                unsafe {
                    for y in (0..whole).step_by(OH) {
                        tiles::<S, KH, KW, SH, SW, OH, OW, IW>(s, a, &grid, y);
                    }
                    for y in whole..rows.outputs {
                        tiles::<S, KH, KW, SH, SW, 1, OW, IW>(s, a, &grid, y);
                    }
                }
            }
        }
    }
}

/// A row of tiles, from output row `y` on.
#[inline(always)]
unsafe fn tiles<
    S: Simd,
    const KH: usize,
    const KW: usize,
    const SH: usize,
    const SW: usize,
    const OH: usize,
    const OW: usize,
    const IW: usize,
>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid,
    y: usize,
) {
    let outputs = grid.columns.outputs;
    let least = if drops_columns(OW) { OW / 2 + 1 } else { OW };
    for x in (0..outputs).step_by(OW) {
        // The last tile is moved left rather than cut: some outputs are computed twice.
        let left = x.min(outputs.saturating_sub(OW));
        let tile = Tile::new::<OH, OW, KH, KW, SH, SW>(grid, y, left);
        // SAFETY: the grid has these rows; `Tile` says where the padding is, and how many of its columns the grid has.
        unsafe {
            if outputs < least || !tile.padding_at_edges::<KW, OW, IW>() {
                for y in y..y + OH {
                    for x in x..outputs.min(x + OW) {
                        let tile = Tile::new::<1, 1, KH, KW, SH, SW>(grid, y, x);
                        channels::<S, true, KH, KW, SH, SW, 1, 1, KW>(s, a, grid, &tile);
                    }
                }
            } else if tile.inside {
                channels::<S, false, KH, KW, SH, SW, OH, OW, IW>(s, a, grid, &tile);
            } else {
                channels::<S, true, KH, KW, SH, SW, OH, OW, IW>(s, a, grid, &tile);
            }
        }
    }
}

/// Whether tiles of `ow` columns drop some where a row has fewer. With four it costs more than it gains (AVX2, 3×3: to ask which the
/// row has 5 to 8 %, to look at a column more 20 %).
const fn drops_columns(ow: usize) -> bool {
    ow > 4
}

/// The first column of a patch that is looked at on the right, lest it be padding. All that do not lie under all taps are; where tiles
/// drop columns, the last that does as well, for rows that have little more than half of a tile.
const fn right_edge(kw: usize, ow: usize, iw: usize) -> usize {
    iw - kw + if drops_columns(ow) { 0 } else { 1 }
}

/// Where a tile is, and what of its patch lies in the input.
struct Tile {
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

impl Tile {
    #[inline(always)]
    fn new<const OH: usize, const OW: usize, const KH: usize, const KW: usize, const SH: usize, const SW: usize>(
        grid: &Grid,
        y: usize,
        x: usize,
    ) -> Self {
        let (ih, iw) = ((OH - 1) * SH + KH, (OW - 1) * SW + KW);
        let columns = grid.columns.inside(x * SW, iw);
        // A patch without a column of the input has no row of it either.
        let rows = if columns.is_empty() { 0..0 } else { grid.rows.inside(y * SH, ih) };
        let wide = OW.min(grid.columns.outputs - x);
        let inside = wide == OW && rows == (0..ih) && columns == (0..iw);
        Self { y, x, rows, columns, wide, inside }
    }

    /// Whether only columns are padding that are looked at.
    #[inline(always)]
    fn padding_at_edges<const KW: usize, const OW: usize, const IW: usize>(&self) -> bool {
        self.columns.start < KW && self.columns.end >= right_edge(KW, OW, IW)
    }
}

/// One tile, all channels of the part. `EDGE`: some of its patch may be padding, and some of its columns none of the output's.
#[inline(always)]
unsafe fn channels<
    S: Simd,
    const EDGE: bool,
    const KH: usize,
    const KW: usize,
    const SH: usize,
    const SW: usize,
    const OH: usize,
    const OW: usize,
    const IW: usize,
>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid,
    t: &Tile,
) {
    let (first, end) = (a.origin.c, a.origin.c + a.output_shape.c);
    let all = s.mask(0, S::LANES);
    let mut c = first / S::LANES * S::LANES;
    // SAFETY: channels `c + from .. c + to` of a mask `from..to` lie in the part.
    unsafe {
        if c < first {
            let mask = s.mask(first - c, S::LANES.min(end - c));
            tile::<S, true, false, KH, KW, SH, SW, OH, OW, IW>(s, a, grid, t, c, mask);
            c += S::LANES;
        }
        while c + S::LANES <= end {
            tile::<S, EDGE, true, KH, KW, SH, SW, OH, OW, IW>(s, a, grid, t, c, all);
            c += S::LANES;
        }
        if c < end {
            let mask = s.mask(0, end - c);
            tile::<S, true, false, KH, KW, SH, SW, OH, OW, IW>(s, a, grid, t, c, mask);
        }
    }
}

/// One tile, the selected lanes of the vector at channel `c`: all of them if `FULL`.
#[inline(always)]
unsafe fn tile<
    S: Simd,
    const EDGE: bool,
    const FULL: bool,
    const KH: usize,
    const KW: usize,
    const SH: usize,
    const SW: usize,
    const OH: usize,
    const OW: usize,
    const IW: usize,
>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid,
    t: &Tile,
    c: usize,
    mask: S::Mask,
) {
    let weights = a.weights.wrapping_add(c * (1 + KH * KW));
    let zeros = a.zeros.wrapping_add(c);
    let first = grid.point(t.y * SH, t.x * SW).wrapping_add(c);
    // SAFETY: the caller vouches for the lanes; what is read are points of the input, zeros, and the packed weights.
    unsafe {
        let mut acc = [[s.load(weights); OW]; OH];
        // Adds what input rows give to output rows: a loop over those that feed the same ones, lest each tap ask. The end of a
        // long one, or of a wide tile's, is opaque, lest LLVM write out all of its rows, with more weights and inputs at a time
        // than registers.
        macro_rules! feed {
            ($top:expr, $end:expr => $from:literal..$to:expr) => {
                for iy in $top..if (KH > 3 || OW > 6) && $end - $top > 1 { opaque(zeros, $end).1 } else { $end } {
                    let (mut row, mut step) = (first.wrapping_add(iy.wrapping_mul(grid.input_row)), grid.input_column);
                    if EDGE && !t.rows.contains(&iy) {
                        (row, step) = (zeros, 0);
                    }
                    let (row, step) = opaque(row, step);
                    let point = |ix: usize| {
                        let p = row.wrapping_add(ix.wrapping_mul(step));
                        let (first, last) = (ix + 1 < KW, ix >= right_edge(KW, OW, IW));
                        if EDGE && (first || last) {
                            let padding = (first && ix < t.columns.start) || (last && ix >= t.columns.end);
                            // Opaque, lest LLVM turn the choice of an address into a jump.
                            opaque(if padding { zeros } else { p }, 0).0
                        } else {
                            p
                        }
                    };
                    let mut inputs = [s.splat(0.0); IW];
                    for kx in 0..KW {
                        for ox in 0..OW {
                            // The other inputs of this tap were loaded for an earlier one.
                            if kx < SW || ox + 1 == OW {
                                inputs[ox * SW + kx] = load::<S, FULL>(s, point(ox * SW + kx), mask);
                            }
                        }
                        for oy in $from..$to {
                            let k = s.load(weights.wrapping_add((1 + (iy - oy * SH) * KW + kx) * S::LANES));
                            for ox in 0..OW {
                                acc[oy][ox] = s.mul_add(inputs[ox * SW + kx], k, acc[oy][ox]);
                            }
                        }
                    }
                }
            };
        }
        if OH == 1 {
            feed!(0, KH => 0..1);
        } else {
            feed!(0, SH => 0..1);
            feed!(SH, KH => 0..OH);
            feed!(KH, KH + SH => 1..OH);
        }
        let (output, residual) = grid.result(t.y, t.x, c);
        for oy in 0..OH {
            for ox in 0..OW {
                if EDGE && drops_columns(OW) && ox >= t.wide {
                    break;
                }
                let output = output.wrapping_add(oy * grid.output_row + ox * grid.output_column);
                let residual = residual.map(|r| r.wrapping_add(oy * grid.residual_row + ox * grid.residual_column));
                finish::<S, FULL>(s, a, acc[oy][ox], mask, (output, residual));
            }
        }
    }
}

#[inline(always)]
pub(crate) unsafe fn load<S: Simd, const FULL: bool>(s: S, p: *const f32, mask: S::Mask) -> S::V {
    // SAFETY: the caller vouches for the lanes.
    unsafe { if FULL { s.load(p) } else { s.load_masked(p, mask) } }
}

#[inline(always)]
pub(crate) unsafe fn store<S: Simd, const FULL: bool>(s: S, p: *mut f32, mask: S::Mask, v: S::V) {
    // SAFETY: the caller vouches for the lanes.
    unsafe { if FULL { s.store(p, v) } else { s.store_masked(p, mask, v) } }
}

/// Any taps, stride, dilation and multiplier: one row of `OW` outputs at a time, inputs from memory.
///
/// # Safety
/// `a` comes from a [`DepthwiseStage`](crate::stage::DepthwiseStage) that was built for this kernel.
#[inline(always)]
pub(crate) unsafe fn any<S: Simd, const OW: usize>(s: S, a: &DepthwiseArgs) {
    let [kh, kw] = a.kernel_size;
    let sh = undilated_stride(a.stride[0], a.dilation[0]);
    let sw = undilated_stride(a.stride[1], a.dilation[1]);
    let (first, end) = (a.origin.c, a.origin.c + a.output_shape.c);
    for n in 0..a.output_shape.n {
        for rows in Lattice::all(a, 0) {
            for columns in Lattice::all(a, 1) {
                let grid = Grid::new(a, n, rows, columns);
                for y in 0..rows.outputs {
                    for x in (0..columns.outputs).step_by(OW) {
                        let wide = OW.min(columns.outputs - x);
                        let inside = wide == OW && rows.holds(y * sh, kh) && columns.holds(x * sw, (OW - 1) * sw + kw);
                        let mut c = first / S::LANES * S::LANES;
                        while c < end {
                            let from = first.saturating_sub(c);
                            let to = S::LANES.min(end - c);
                            let full = to - from == S::LANES;
                            let mask = s.mask(from, to);
                            let at = At { y, x, wide, sw, sh, c, lanes: to, mask };
                            // SAFETY: channels `c + from .. c + to` lie in the part; `inside` says that
                            // every point lies in the input, and without it each is looked up.
                            unsafe {
                                match (a.multiplier, inside, full) {
                                    (1, true, true) => taps::<S, OW, true, true, false>(s, a, &grid, at),
                                    (1, true, false) => taps::<S, OW, true, false, false>(s, a, &grid, at),
                                    (1, false, true) => taps::<S, OW, false, true, false>(s, a, &grid, at),
                                    (1, false, false) => taps::<S, OW, false, false, false>(s, a, &grid, at),
                                    (_, true, _) => taps::<S, OW, true, false, true>(s, a, &grid, at),
                                    (_, false, _) => taps::<S, OW, false, false, true>(s, a, &grid, at),
                                }
                            }
                            c += S::LANES;
                        }
                    }
                }
            }
        }
    }
}

/// A row of outputs, and the lanes of one vector of channels.
#[derive(Clone, Copy)]
struct At<M> {
    /// The first output.
    y: usize,
    x: usize,
    /// How many exist.
    wide: usize,
    /// The undilated strides.
    sh: usize,
    sw: usize,
    c: usize,
    /// The lanes of the vector up to the part's last channel.
    lanes: usize,
    mask: M,
}

/// Up to `OW` outputs. `REPEAT`: several output channels share an input channel.
#[inline(always)]
unsafe fn taps<S: Simd, const OW: usize, const INSIDE: bool, const FULL: bool, const REPEAT: bool>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid,
    at: At<S::Mask>,
) {
    let [kh, kw] = a.kernel_size;
    let mut weights = a.weights.wrapping_add(at.c * (1 + kh * kw));
    let channel = at.c / a.multiplier;
    let channels = (at.c + at.lanes - 1) / a.multiplier - channel + 1;
    let index = s.repeated(at.c % a.multiplier, a.multiplier);
    // SAFETY: the caller vouches for the lanes; points outside of the input are replaced by zeros.
    unsafe {
        let mut acc = [s.load(weights); OW];
        for ky in 0..kh {
            let y = at.y * at.sh + ky;
            let row = grid.rows.has(y);
            for kx in 0..kw {
                weights = weights.wrapping_add(S::LANES);
                let k = s.load(weights);
                for ox in 0..OW {
                    let x = (at.x + ox) * at.sw + kx;
                    let p = if INSIDE || (row && grid.columns.has(x)) {
                        grid.point(y, x).wrapping_add(channel)
                    } else {
                        a.zeros
                    };
                    let v = if REPEAT { s.load_repeated(p, channels, index) } else { load::<S, FULL>(s, p, at.mask) };
                    acc[ox] = s.mul_add(v, k, acc[ox]);
                }
            }
        }
        for ox in 0..OW {
            if ox < at.wide {
                finish::<S, false>(s, a, acc[ox], at.mask, grid.result(at.y, at.x + ox, at.c));
            }
        }
    }
}
