//! Depthwise convolution, channels last: vectors run across channels.
//!
//! The unit of work is a tile of `OH`×`OW` outputs by one vector of channels, held in registers:
//!
//! ```text
//! acc[OH][OW] = bias
//! for each input row of the tile:
//!     r[IW] = the row                       each input vector is loaded once per tile,
//!     for each output row that it feeds:
//!         for each tap of that kernel row:  each weight once per row that it meets
//!             acc[oy][0..OW] += r[..] * weight
//! ```
//!
//! The loop around it runs over the channels of a fixed tile, so memory streams. Loads per
//! multiply-add are (IH·IW + weights) / (K²·OH·OW): under one half for 3×3, where one pixel at a time
//! costs two.
//!
//! The shape of these loops matters: written as one nest with a condition per tap, LLVM leaves the
//! accumulators in memory.

use super::activation::clamp;
use super::depthwise::{DepthwiseArgs, Lattice, undilated_stride};
use super::simd::Simd;
use crate::tensor::Strides;

/// Where the inputs of a tile are.
trait Patch {
    /// The address of channel 0 of point (`iy`, `ix`) of the tile.
    fn at(&self, iy: usize, ix: usize) -> *const f32;
    /// Whether output (`oy`, `ox`) of the tile exists.
    fn wanted(&self, oy: usize, ox: usize) -> bool;
}

/// All of the tile's points lie in the input, and all its outputs exist.
struct Interior {
    first: *const f32,
    row: usize,
    column: usize,
}

impl Interior {
    /// The patch from point (`y`, `x`) on.
    #[inline(always)]
    fn new(grid: &Grid, y: usize, x: usize) -> Self {
        Self { first: grid.point(y, x), row: grid.input_row, column: grid.input_column }
    }
}

impl Patch for Interior {
    #[inline(always)]
    fn at(&self, iy: usize, ix: usize) -> *const f32 {
        self.first.wrapping_add(iy.wrapping_mul(self.row)).wrapping_add(ix.wrapping_mul(self.column))
    }

    #[inline(always)]
    fn wanted(&self, _: usize, _: usize) -> bool {
        true
    }
}

/// A tile at the border: points in the padding are the address of zeros.
struct Border<const IW: usize, const POINTS: usize> {
    points: [*const f32; POINTS],
    rows: usize,
    columns: usize,
}

impl<const IW: usize, const POINTS: usize> Border<IW, POINTS> {
    /// The patch of `height` rows from point (`y`, `x`) on, for that many rows and columns of outputs.
    #[inline(always)]
    fn new(grid: &Grid, y: usize, x: usize, height: usize, outputs: [usize; 2], zeros: *const f32) -> Self {
        let mut points = [zeros; POINTS];
        for iy in (0..height).filter(|iy| grid.rows.has(y + iy)) {
            for ix in (0..IW).filter(|ix| grid.columns.has(x + ix)) {
                points[iy * IW + ix] = grid.point(y + iy, x + ix);
            }
        }
        Self { points, rows: outputs[0], columns: outputs[1] }
    }
}

impl<const IW: usize, const POINTS: usize> Patch for Border<IW, POINTS> {
    #[inline(always)]
    fn at(&self, iy: usize, ix: usize) -> *const f32 {
        self.points[iy * IW + ix]
    }

    #[inline(always)]
    fn wanted(&self, oy: usize, ox: usize) -> bool {
        oy < self.rows && ox < self.columns
    }
}

/// One sub-grid of rows and columns, with its addresses.
struct Grid {
    rows: Lattice,
    columns: Lattice,
    /// Channel 0 of point (0, 0), which may lie in the padding.
    input: *const f32,
    input_row: usize,
    input_column: usize,
    /// Channel 0 of the whole output at output (0, 0) of the grid.
    output: *mut f32,
    output_row: usize,
    output_column: usize,
    /// The residual, likewise.
    residual: Option<*const f32>,
    residual_row: usize,
    residual_column: usize,
}

impl Grid {
    #[inline(always)]
    fn new(a: &DepthwiseArgs, n: usize, rows: Lattice, columns: Lattice) -> Self {
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
    fn point(&self, y: usize, x: usize) -> *const f32 {
        self.input.wrapping_add(y.wrapping_mul(self.input_row)).wrapping_add(x.wrapping_mul(self.input_column))
    }

    /// The accumulators of output (`y`, `x`), the vector at channel `c`, its selected lanes → residual → clamp →
    /// output.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "inlined: these are the loop's variables")]
    unsafe fn finish<S: Simd, const FULL: bool>(
        &self,
        s: S,
        a: &DepthwiseArgs,
        y: usize,
        x: usize,
        c: usize,
        mask: S::Mask,
        acc: S::V,
    ) {
        let mut v = acc;
        // SAFETY: the caller vouches for the output's index and lanes; the residual has the same shape.
        unsafe {
            if let Some(residual) = self.residual {
                let p = residual.wrapping_add(y * self.residual_row + x * self.residual_column + c);
                v = s.add(v, load::<S, FULL>(s, p, mask));
            }
            v = clamp(s, v, s.splat(a.min), s.splat(a.max));
            let p = self.output.wrapping_add(y * self.output_row + x * self.output_column + c);
            if FULL { s.store(p, v) } else { s.store_masked(p, mask, v) }
        }
    }
}

/// `KH`×`KW` taps at an undilated stride of `SH`×`SW`, tiles of `OH`×`OW` outputs.
///
/// `IW` and `POINTS` follow: the columns and the points of a tile's patch. `REUSE` keeps a row of
/// the patch in registers; without it each tap takes its input from memory, which costs no more than
/// a load port where the registers are few.
///
/// # Safety
/// `a` comes from a [`DepthwiseStage`](super::stage::DepthwiseStage) that was built for this kernel.
#[inline(always)]
pub(super) unsafe fn fixed<
    S: Simd,
    const KH: usize,
    const KW: usize,
    const SH: usize,
    const SW: usize,
    const OH: usize,
    const OW: usize,
    const IW: usize,
    const POINTS: usize,
    const REUSE: bool,
>(
    s: S,
    a: &DepthwiseArgs,
) {
    const { assert!(IW == (OW - 1) * SW + KW && POINTS == IW * ((OH - 1) * SH + KH)) };
    let ih = (OH - 1) * SH + KH;
    for n in 0..a.output_shape.n {
        for rows in Lattice::all(a, 0) {
            for columns in Lattice::all(a, 1) {
                let grid = Grid::new(a, n, rows, columns);
                for y in (0..rows.outputs).step_by(OH) {
                    let high = OH.min(rows.outputs - y);
                    let rows_inside = high == OH && rows.holds(y * SH, ih);
                    for x in (0..columns.outputs).step_by(OW) {
                        let wide = OW.min(columns.outputs - x);
                        let inside = rows_inside && wide == OW && columns.holds(x * SW, IW);
                        // SAFETY: `Interior` is taken only where the lattices hold every point of the tile; `Border`
                        // holds points of the lattices, and zeros.
                        unsafe {
                            if inside {
                                let patch = Interior::new(&grid, y * SH, x * SW);
                                channels::<S, _, KH, KW, SH, SW, OH, OW, IW, REUSE>(s, a, &grid, y, x, &patch);
                            } else {
                                let patch = Border::<IW, POINTS>::new(&grid, y * SH, x * SW, ih, [high, wide], a.zeros);
                                channels::<S, _, KH, KW, SH, SW, OH, OW, IW, REUSE>(s, a, &grid, y, x, &patch);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// One tile, all channels of the part.
#[inline(always)]
unsafe fn channels<
    S: Simd,
    P: Patch,
    const KH: usize,
    const KW: usize,
    const SH: usize,
    const SW: usize,
    const OH: usize,
    const OW: usize,
    const IW: usize,
    const REUSE: bool,
>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid,
    y: usize,
    x: usize,
    patch: &P,
) {
    let (first, end) = (a.origin.c, a.origin.c + a.output_shape.c);
    let all = s.mask(0, S::LANES);
    let panel = (1 + KH * KW) * S::LANES;
    let mut c = first / S::LANES * S::LANES;
    let mut weights = a.weights.wrapping_add(c / S::LANES * panel);
    // SAFETY: channels `c + from .. c + to` lie in the part, and the panels hold all channels.
    unsafe {
        if c < first {
            let mask = s.mask(first - c, S::LANES.min(end - c));
            tile::<S, P, false, KH, KW, SH, SW, OH, OW, IW, REUSE>(s, a, grid, patch, weights, y, x, c, mask);
            c += S::LANES;
            weights = weights.wrapping_add(panel);
        }
        while c + S::LANES <= end {
            tile::<S, P, true, KH, KW, SH, SW, OH, OW, IW, REUSE>(s, a, grid, patch, weights, y, x, c, all);
            c += S::LANES;
            weights = weights.wrapping_add(panel);
        }
        if c < end {
            let mask = s.mask(0, end - c);
            tile::<S, P, false, KH, KW, SH, SW, OH, OW, IW, REUSE>(s, a, grid, patch, weights, y, x, c, mask);
        }
    }
}

/// One tile, the selected lanes of the vector at channel `c`: all of them if `FULL`.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "inlined: these are the loop's variables")]
unsafe fn tile<
    S: Simd,
    P: Patch,
    const FULL: bool,
    const KH: usize,
    const KW: usize,
    const SH: usize,
    const SW: usize,
    const OH: usize,
    const OW: usize,
    const IW: usize,
    const REUSE: bool,
>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid,
    patch: &P,
    weights: *const f32,
    y: usize,
    x: usize,
    c: usize,
    mask: S::Mask,
) {
    // SAFETY: the caller vouches for the lanes, the patch for the addresses.
    unsafe {
        let mut acc = [[s.load(weights); OW]; OH];
        for iy in 0..(OH - 1) * SH + KH {
            let mut row = [s.splat(0.0); IW];
            if REUSE {
                for ix in 0..IW {
                    row[ix] = load::<S, FULL>(s, patch.at(iy, ix).wrapping_add(c), mask);
                }
            }
            for oy in 0..OH {
                if iy >= oy * SH && iy - oy * SH < KH {
                    let ky = iy - oy * SH;
                    for kx in 0..KW {
                        let k = s.load(weights.wrapping_add((1 + ky * KW + kx) * S::LANES));
                        for ox in 0..OW {
                            let v = if REUSE {
                                row[ox * SW + kx]
                            } else {
                                load::<S, FULL>(s, patch.at(iy, ox * SW + kx).wrapping_add(c), mask)
                            };
                            acc[oy][ox] = s.mul_add(v, k, acc[oy][ox]);
                        }
                    }
                }
            }
        }
        for oy in 0..OH {
            for ox in 0..OW {
                if patch.wanted(oy, ox) {
                    grid.finish::<S, FULL>(s, a, y + oy, x + ox, c, mask, acc[oy][ox]);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn load<S: Simd, const FULL: bool>(s: S, p: *const f32, mask: S::Mask) -> S::V {
    // SAFETY: the caller vouches for the lanes.
    unsafe { if FULL { s.load(p) } else { s.load_masked(p, mask) } }
}

/// Any taps, stride, dilation and multiplier: one row of `OW` outputs at a time, inputs from memory.
///
/// # Safety
/// `a` comes from a [`DepthwiseStage`](super::stage::DepthwiseStage) that was built for this kernel.
#[inline(always)]
pub(super) unsafe fn any<S: Simd, const OW: usize>(s: S, a: &DepthwiseArgs) {
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
                            let at = At { y: y * sh, x: x * sw, sw, c, lanes: to, mask };
                            // SAFETY: channels `c + from .. c + to` lie in the part; `inside` says that
                            // every point lies in the input, and without it each is looked up.
                            unsafe {
                                let acc = match (a.multiplier, inside, full) {
                                    (1, true, true) => taps::<S, OW, true, true, false>(s, a, &grid, at),
                                    (1, true, false) => taps::<S, OW, true, false, false>(s, a, &grid, at),
                                    (1, false, true) => taps::<S, OW, false, true, false>(s, a, &grid, at),
                                    (1, false, false) => taps::<S, OW, false, false, false>(s, a, &grid, at),
                                    (_, true, _) => taps::<S, OW, true, false, true>(s, a, &grid, at),
                                    (_, false, _) => taps::<S, OW, false, false, true>(s, a, &grid, at),
                                };
                                for ox in 0..OW {
                                    if ox < wide {
                                        grid.finish::<S, false>(s, a, y, x + ox, c, mask, acc[ox]);
                                    }
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

/// A row of outputs: its first point, and the lanes of one vector of channels.
#[derive(Clone, Copy)]
struct At<M> {
    y: usize,
    x: usize,
    sw: usize,
    c: usize,
    /// The lanes of the vector up to the part's last channel.
    lanes: usize,
    mask: M,
}

/// The accumulators of `OW` outputs. `REPEAT`: several output channels share an input channel.
#[inline(always)]
unsafe fn taps<S: Simd, const OW: usize, const INSIDE: bool, const FULL: bool, const REPEAT: bool>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid,
    at: At<S::Mask>,
) -> [S::V; OW] {
    let [kh, kw] = a.kernel_size;
    let mut weights = a.weights.wrapping_add(at.c * (1 + kh * kw));
    let channel = at.c / a.multiplier;
    let channels = (at.c + at.lanes - 1) / a.multiplier - channel + 1;
    let index = s.repeated(at.c % a.multiplier, a.multiplier);
    // SAFETY: the caller vouches for the lanes; points outside of the input are replaced by zeros.
    unsafe {
        let mut acc = [s.load(weights); OW];
        for ky in 0..kh {
            let row = grid.rows.has(at.y + ky);
            for kx in 0..kw {
                weights = weights.wrapping_add(S::LANES);
                let k = s.load(weights);
                for ox in 0..OW {
                    let x = at.x + ox * at.sw + kx;
                    let p = if INSIDE || (row && grid.columns.has(x)) {
                        grid.point(at.y + ky, x).wrapping_add(channel)
                    } else {
                        a.zeros
                    };
                    let v = if REPEAT { s.load_repeated(p, channels, index) } else { load::<S, FULL>(s, p, at.mask) };
                    acc[ox] = s.mul_add(v, k, acc[ox]);
                }
            }
        }
        acc
    }
}
