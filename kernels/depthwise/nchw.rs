//! Depthwise convolution, channels first: vectors run across the columns of one plane.
//!
//! The unit of work is a tile of `OH` rows by one or two vectors of columns, held in registers:
//!
//! ```text
//! acc[OH] = bias
//! for each input row of the tile:
//!     for each kernel column:  one (unaligned) load,
//!         for each output row that it feeds:  acc[oy] += load * weight[ky][kx]
//! ```
//!
//! Stride 2 splits pairs of vectors into even and odd columns; loads across the left or right border are
//! masked, so no byte outside of a row is read.
//!
//! With sixteen lanes, and instructions that pick and shift lanes of two vectors, taps come from few loads. 5×5, 7×7 and all at
//! stride 2 then roll down the rows instead, holding those that an input row feeds; so do, where the tuning says so, 3×3, and
//! dilated columns, whose taps are loaded. Rows of up to eight columns (7×7 maps) share a vector, two at a time.

use crate::depthwise::{DepthwiseArgs, Lattice};
use crate::epilogue::clamp;
use crate::simd::{Simd, opaque};
use crate::types::undilated_stride;

/// One plane: an input channel and the output channel that it feeds, along one sub-grid of rows.
struct Plane {
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
        let image = a.input.wrapping_add(n * is.n + input_channel * is.c);
        Self {
            input: image.wrapping_offset(rows.start.wrapping_mul(is.h as isize)),
            // Steps over rows that do not exist may wrap; the rows that do are reached exactly.
            input_row: rows.in_step.wrapping_mul(is.h),
            output: a.output.wrapping_add(n * os.n + c * os.c + rows.first * os.h),
            output_row: rows.out_step.wrapping_mul(os.h),
            residual: a.residual.map(|r| r.wrapping_add(n * rs.n + c * rs.c + rows.first * rs.h)),
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
    /// The accumulators of the selected outputs from (`y`, `x`) on, all of them if `whole` → residual →
    /// clamp → output.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "inlined: these are the loop's variables")]
    unsafe fn finish<S: Simd>(
        &self,
        s: S,
        a: &DepthwiseArgs,
        y: usize,
        x: usize,
        mask: S::Mask,
        whole: bool,
        acc: S::V,
    ) {
        let mut v = acc;
        // SAFETY: the caller vouches for the outputs; the residual has the same shape.
        unsafe {
            if let Some(residual) = self.residual {
                let p = residual.wrapping_add((y * self.residual_row).wrapping_add(x));
                v = s.add(v, if whole { s.load(p) } else { s.load_masked(p, mask) });
            }
            v = clamp(s, v, s.splat(a.min), s.splat(a.max));
            let p = self.output.wrapping_add((y * self.output_row).wrapping_add(x));
            if whole { s.store(p, v) } else { s.store_masked(p, mask, v) }
        }
    }
}

/// Of the first `lanes` lanes those whose columns `start + i * step` lie in an input of `width` columns.
#[inline(always)]
fn in_row<S: Simd>(s: S, start: isize, step: usize, width: usize, lanes: usize) -> S::Mask {
    let from = start.min(0).unsigned_abs().div_ceil(step);
    let to = (width as isize - start).max(0).unsigned_abs().div_ceil(step);
    s.mask(from, to.min(lanes))
}

/// The columns of a tile of up to two vectors: the same for all of its rows, and for all planes.
#[derive(Clone, Copy)]
struct Columns<M, const K: usize> {
    /// The first output column of the part.
    x: usize,
    /// How many of the two vectors hold outputs.
    vectors: usize,
    /// The input column under tap 0, or, where taps are picked, under the tap that loads start at; negative in the padding.
    start: isize,
    /// All loads of both vectors lie in the input, and all outputs exist: of tiles, not of what rolls.
    inside: bool,
    /// For each vector and kernel column, the lanes that lie in the input. At stride 2, of the first of the two vectors
    /// that the tap and the next are split from …
    lanes: [[M; K]; 2],
    /// … and of the second.
    more: [[M; K]; 2],
    /// Where taps are picked instead: of vectors from the one before `start` on, the lanes that lie in the input.
    row: [M; 6],
    outputs: [M; 2],
}

impl<M: Copy, const K: usize> Columns<M, K> {
    /// The tile at output column `x` of the part: empty at its end.
    #[inline(always)]
    fn new<S: Simd<Mask = M>, const SW: usize, const TAPS: usize>(s: S, a: &DepthwiseArgs, x: usize) -> Self {
        let (width, dilation) = (a.input_shape.w, a.dilation[1]);
        let start = ((a.origin.w + x) * SW) as isize - a.pad[1] as isize;
        let start = if TAPS == LOADED { start } else { start + lead(K, TAPS) as isize };
        let reach = if TAPS == LOADED {
            // At stride 2, vectors are read up to the odd column after the last that is needed.
            (2 * S::LANES - 1) * SW + (K - 1) * dilation + SW
        } else {
            3 * S::LANES
        };
        let rest = a.output_shape.w.saturating_sub(x);
        let mut columns = Self {
            x,
            vectors: rest.div_ceil(S::LANES).min(2),
            start,
            inside: start >= 0 && start as usize + reach <= width && rest >= 2 * S::LANES,
            lanes: [[s.mask(0, 0); K]; 2],
            more: [[s.mask(0, 0); K]; 2],
            row: [s.mask(0, 0); 6],
            outputs: [s.mask(0, rest.min(S::LANES)), s.mask(0, rest.saturating_sub(S::LANES).min(S::LANES))],
        };
        // Of these, the masks that the tiles use.
        let in_row = |first: isize, lanes: usize| in_row(s, first, 1, width, lanes);
        if TAPS != LOADED {
            for v in 0..2 * SW + 2 {
                columns.row[v] = in_row(start + (v * S::LANES) as isize - S::LANES as isize, S::LANES);
            }
        } else {
            for v in 0..2 {
                for kx in 0..K {
                    let first = start + (v * S::LANES * SW + kx * dilation) as isize;
                    columns.lanes[v][kx] = in_row(first, S::LANES);
                    if SW == 2 {
                        columns.more[v][kx] = in_row(first + S::LANES as isize, S::LANES);
                    }
                }
            }
        }
        columns
    }
}

/// A row of padding: the vectors of [`Columns::row`], of up to sixteen lanes.
static ZEROS: [f32; 6 * 16] = [0.0; 6 * 16];

/// How a tile reaches its taps: by a load for each, at stride 2 for every other, …
const LOADED: usize = 0;
/// … or by picking lanes of loads that start under the first tap …
const FIRST: usize = 1;
/// … or under the middle one …
const MIDDLE: usize = 2;
/// … or under the one before that.
const BEFORE: usize = 3;

/// The tap, of `k` in a row, that loads start under where taps are picked.
#[inline(always)]
fn lead(k: usize, taps: usize) -> usize {
    match taps {
        FIRST => 0,
        MIDDLE => k / 2,
        BEFORE => k / 2 - 1,
        _ => unreachable!("taps that are loaded need no lead"),
    }
}

/// Tiles of a row whose columns are worked out before the rows are: enough for 256 columns of sixteen lanes.
const TILES: usize = 8;
/// Rows of a tile where a row is a single vector: with one vector each, fewer would not hide the latency of multiply-adds.
/// Seven divides the maps of the usual networks.
const NARROW: usize = 7;

/// `K`×`K` taps, an undilated row stride of `SH`, a column stride of `SW` (1, or 2 without dilation), tiles of `OH` rows
/// by two vectors, by one at the end of a row.
///
/// # Safety
/// `a` comes from a [`DepthwiseStage`](crate::stage::DepthwiseStage) that was built for this kernel.
#[inline(always)]
pub(crate) unsafe fn fixed<S: Simd, const K: usize, const SH: usize, const SW: usize, const OH: usize>(
    s: S,
    a: &DepthwiseArgs,
) {
    const { assert!(SW == 1 || SW == 2) };
    // SAFETY: the caller's.
    unsafe {
        if S::PICKS && Pairs::<S, K>::fit(a, SW) {
            return pairs::<S, K, SH, SW>(s, a);
        }
        // Where columns are not dilated, as at stride 2 they never are.
        if S::PICKS && (SW == 2 || a.dilation[1] == 1) {
            // At stride 2, pairs of columns start in step with the row, so that loads of many rows are whole cache lines. At
            // stride 1 a vector less is loaded instead.
            if SW == 1 {
                planes::<S, K, SH, SW, OH, FIRST>(s, a)
            } else if a.pad[1] % 2 == K / 2 % 2 {
                planes::<S, K, SH, SW, OH, MIDDLE>(s, a)
            } else {
                planes::<S, K, SH, SW, OH, BEFORE>(s, a)
            }
        } else {
            planes::<S, K, SH, SW, OH, LOADED>(s, a)
        }
    }
}

/// `TAPS`: how they are reached.
#[inline(always)]
unsafe fn planes<S: Simd, const K: usize, const SH: usize, const SW: usize, const OH: usize, const TAPS: usize>(
    s: S,
    a: &DepthwiseArgs,
) {
    // What picks, rolls at stride 2.
    const { assert!(SW == 1 || SH == 2) };
    let (width, grids) = (a.output_shape.w, Lattice::all_again(a, 0));
    let rolls = match TAPS {
        LOADED => SW == 1 && S::PICKS && width > S::LANES && a.tuning.rolls,
        _ => SH == 2 || K > 3 || a.tuning.rolls,
    };
    for x in (0..width).step_by(TILES * 2 * S::LANES) {
        let mut tiles = [Columns::<_, K>::new::<S, SW, TAPS>(s, a, x); TILES];
        for t in 1..TILES {
            if x + t * 2 * S::LANES < width {
                tiles[t] = Columns::new::<S, SW, TAPS>(s, a, x + t * 2 * S::LANES);
            }
        }
        let tiles = &tiles[..TILES.min((width - x).div_ceil(2 * S::LANES))];
        for n in 0..a.output_shape.n {
            for c in 0..a.output_shape.c {
                for rows in grids.clone() {
                    let plane = Plane::new(a, n, c, rows);
                    if rolls {
                        for columns in tiles {
                            // SAFETY: all of its rows and columns exist.
                            unsafe {
                                match columns.vectors {
                                    2 => roll::<S, K, SH, SW, 2, TAPS>(s, a, &plane, *columns),
                                    _ => roll::<S, K, SH, SW, 1, TAPS>(s, a, &plane, *columns),
                                }
                            }
                        }
                        continue;
                    }
                    let narrow = SW == 1 || S::LANES < 16;
                    if let ([columns @ Columns { vectors: 1, .. }], NARROW.., true) = (tiles, rows.outputs, narrow) {
                        for y in (0..rows.outputs).step_by(NARROW) {
                            let y = y.min(rows.outputs - NARROW);
                            // SAFETY: all of the tile's rows exist.
                            unsafe { tile::<S, K, SH, SW, NARROW, 1, false, false, TAPS>(s, a, &plane, columns, y) }
                        }
                        continue;
                    }
                    let whole = rows.outputs >= OH;
                    for y in (0..rows.outputs).step_by(if whole { OH } else { 1 }) {
                        // The last tile is moved up rather than cut: some outputs are computed twice.
                        let y = if whole { y.min(rows.outputs - OH) } else { y };
                        let inside = rows.holds(y * SH, (OH - 1) * SH + K);
                        for columns in tiles {
                            // SAFETY: tiles are called inside only where all that they load lies in the input,
                            // and where all their rows exist.
                            unsafe {
                                match (whole, inside, columns.inside, columns.vectors) {
                                    (true, true, true, _) => {
                                        tile::<S, K, SH, SW, OH, 2, true, true, TAPS>(s, a, &plane, columns, y)
                                    }
                                    (true, true, false, 2) => {
                                        tile::<S, K, SH, SW, OH, 2, true, false, TAPS>(s, a, &plane, columns, y)
                                    }
                                    (true, true, false, _) => {
                                        tile::<S, K, SH, SW, OH, 1, true, false, TAPS>(s, a, &plane, columns, y)
                                    }
                                    (true, false, _, 2) => {
                                        tile::<S, K, SH, SW, OH, 2, false, false, TAPS>(s, a, &plane, columns, y)
                                    }
                                    (true, false, _, _) => {
                                        tile::<S, K, SH, SW, OH, 1, false, false, TAPS>(s, a, &plane, columns, y)
                                    }
                                    (false, _, _, 2) => {
                                        tile::<S, K, SH, SW, 1, 2, false, false, TAPS>(s, a, &plane, columns, y)
                                    }
                                    (false, _, _, _) => {
                                        tile::<S, K, SH, SW, 1, 1, false, false, TAPS>(s, a, &plane, columns, y)
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `OH` rows by `NV` vectors, all of which exist. `ROWS`: all input rows lie in the input; `COLUMNS`: all columns do.
#[inline(always)]
unsafe fn tile<
    S: Simd,
    const K: usize,
    const SH: usize,
    const SW: usize,
    const OH: usize,
    const NV: usize,
    const ROWS: bool,
    const COLUMNS: bool,
    const TAPS: usize,
>(
    s: S,
    a: &DepthwiseArgs,
    plane: &Plane,
    columns: &Columns<S::Mask, K>,
    y: usize,
) {
    // SAFETY: loads lie in the input by the caller's word, or are masked to the lanes that do; rows outside of it that taps are
    // picked from are zeros, and as long.
    unsafe {
        let mut acc = [[s.splat(*plane.weights); NV]; OH];
        for iy in 0..(OH - 1) * SH + K {
            let (point, start) = (y * SH + iy, columns.start);
            // A vector for each kernel column.
            let mut inputs = [[s.splat(0.0); NV]; K];
            if TAPS != LOADED {
                let row = if ROWS { plane.at(point, start) } else { plane.at_or_zeros::<S>(point, start) };
                inputs = picked::<S, K, SW, NV, TAPS>(s, &phases::<S, K, SW, NV, TAPS, COLUMNS>(s, row, columns));
            } else {
                let (row, valid) = (plane.at(point, start), ROWS || plane.rows.has(point));
                for v in 0..NV {
                    for kx in (0..K).step_by(SW) {
                        let p = row.wrapping_add(v * S::LANES * SW + kx * a.dilation[1]);
                        let first = load::<S, COLUMNS>(s, p, s.mask_if(valid, columns.lanes[v][kx]));
                        if SW == 1 {
                            inputs[kx][v] = first;
                        } else {
                            let p = p.wrapping_add(S::LANES);
                            let more = load::<S, COLUMNS>(s, p, s.mask_if(valid, columns.more[v][kx]));
                            let (even, odd) = s.unzip(first, more);
                            inputs[kx][v] = even;
                            if kx + 1 < K {
                                inputs[kx + 1][v] = odd;
                            }
                        }
                    }
                }
            }
            for oy in 0..OH {
                if iy >= oy * SH && iy - oy * SH < K {
                    let ky = iy - oy * SH;
                    for kx in 0..K {
                        let k = s.splat(*plane.weights.wrapping_add(1 + ky * K + kx));
                        for v in 0..NV {
                            acc[oy][v] = s.mul_add(inputs[kx][v], k, acc[oy][v]);
                        }
                    }
                }
            }
        }
        for oy in 0..OH {
            for v in 0..NV {
                let x = columns.x + v * S::LANES;
                plane.finish::<S>(s, a, y + oy, x, columns.outputs[v], COLUMNS, acc[oy][v]);
            }
        }
    }
}

/// All rows by `NV` vectors: holds the output rows that an input row feeds, `K` of them, or at stride 2 half as many, so that the
/// taps of an input row are loaded and picked once. With the last input row that it needs, the oldest of them is complete.
/// `columns` is a copy, so that masks stay in registers, as far as they fit.
#[inline(always)]
unsafe fn roll<S: Simd, const K: usize, const SH: usize, const SW: usize, const NV: usize, const TAPS: usize>(
    s: S,
    a: &DepthwiseArgs,
    plane: &Plane,
    columns: Columns<S::Mask, K>,
) {
    let (height, held) = (plane.rows.outputs, K.div_ceil(SH));
    // SAFETY: loads are masked to the lanes that lie in the input; rows outside of it are zeros, and as long.
    unsafe {
        // Held row `r` is output `y - r`. Before the first output and behind the last, there are some that nobody asked for.
        let mut acc = [[s.splat(0.0); NV]; K];
        macro_rules! load {
            ($iy:expr) => {
                phases::<S, K, SW, NV, TAPS, false>(s, plane.at_or_zeros::<S>($iy, columns.start), &columns)
            };
        }
        // At stride 2, loading and splitting the next row meanwhile is 1 to 4 % faster; for 7×7 there are no registers (Zen 4).
        let ahead = SW == 2 && K < 7;
        let mut next = [[s.splat(0.0); 4]; 2];
        if ahead {
            next = load!(0);
        }
        for y in 0..height + held - 1 {
            // Opaque, lest LLVM keep all weights in registers, which are too few.
            let (weights, _) = opaque(plane.weights, 0);
            for r in (1..held).rev() {
                acc[r] = acc[r - 1];
            }
            acc[0] = [s.splat(*weights); NV];
            for i in 0..SH {
                let mut inputs = [[s.splat(0.0); NV]; K];
                let iy = y * SH + i;
                if TAPS == LOADED {
                    // Without a column stride. In a row of zeros, all taps are one.
                    let row = plane.at_or_zeros::<S>(iy, columns.start);
                    let step = if plane.rows.has(iy) { a.dilation[1] } else { 0 };
                    for v in 0..NV {
                        for kx in 0..K {
                            let p = row.wrapping_add(v * S::LANES + kx * step);
                            inputs[kx][v] = s.load_masked(p, columns.lanes[v][kx]);
                        }
                    }
                } else if ahead {
                    inputs = picked::<S, K, SW, NV, TAPS>(s, &next);
                    next = load!(iy + 1);
                } else {
                    inputs = picked::<S, K, SW, NV, TAPS>(s, &load!(iy));
                }
                for r in 0..held {
                    // Of many taps LLVM would load the weights too early, did it not have to ask whether the output exists.
                    if i + r * SH < K && (K == 3 || (y >= r && y < height + r)) {
                        for kx in 0..K {
                            let k = s.splat_for(NV, weights.wrapping_add(1 + (i + r * SH) * K + kx));
                            for v in 0..NV {
                                acc[r][v] = s.mul_add(inputs[kx][v], k, acc[r][v]);
                            }
                        }
                    }
                }
            }
            if y + 1 >= held {
                for v in 0..NV {
                    let x = columns.x + v * S::LANES;
                    plane.finish::<S>(s, a, y + 1 - held, x, columns.outputs[v], v + 1 < NV, acc[held - 1][v]);
                }
            }
        }
    }
}

/// The columns of rows so short that a vector takes two of them, where taps are reached by [`Simd::pick`].
struct Pairs<S: Simd, const K: usize> {
    /// The input column under the first tap, negative in the padding.
    start: isize,
    /// Of a vector from `start` on, the lanes that lie in the input.
    row: S::Mask,
    /// Of two such vectors, the lanes under each kernel column.
    taps: [S::Index; K],
    /// The outputs of each row.
    outputs: [S::Mask; 2],
}

impl<S: Simd, const K: usize> Pairs<S, K> {
    /// Whether rows are so short: all of their taps lie in one vector.
    #[inline(always)]
    fn fit(a: &DepthwiseArgs, step: usize) -> bool {
        let width = a.output_shape.w;
        width <= S::LANES / 2 && (width - 1) * step + (K - 1) * a.dilation[1] < S::LANES
    }

    #[inline(always)]
    fn new(s: S, a: &DepthwiseArgs, step: usize) -> Self {
        let start = (a.origin.w * step) as isize - a.pad[1] as isize;
        Self {
            start,
            row: in_row(s, start, 1, a.input_shape.w, S::LANES),
            taps: core::array::from_fn(|kx| {
                // The upper half of the lanes picks from the second row.
                let half = S::LANES / 2;
                s.index(|i| i / half * S::LANES + kx * a.dilation[1] + i % half * step)
            }),
            outputs: [0, S::LANES / 2].map(|from| s.mask(from, from + a.output_shape.w)),
        }
    }
}

/// All planes, whose rows are short: in tiles of eight rows, of six, four or two where that is all.
#[inline(always)]
unsafe fn pairs<S: Simd, const K: usize, const SH: usize, const SW: usize>(s: S, a: &DepthwiseArgs) {
    let (columns, grids) = (Pairs::<S, K>::new(s, a, SW), Lattice::all_again(a, 0));
    for n in 0..a.output_shape.n {
        for c in 0..a.output_shape.c {
            for rows in grids.clone() {
                let plane = Plane::new(a, n, c, rows);
                // SAFETY: the columns fit.
                unsafe {
                    match rows.outputs {
                        ..=2 => pairs_of_rows::<S, K, SH, 1>(s, a, &plane, &columns, 0),
                        3..=4 => pairs_of_rows::<S, K, SH, 2>(s, a, &plane, &columns, 0),
                        5..=6 => pairs_of_rows::<S, K, SH, 3>(s, a, &plane, &columns, 0),
                        outputs => {
                            for y in (0..outputs).step_by(8) {
                                pairs_of_rows::<S, K, SH, 4>(s, a, &plane, &columns, y);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Twice `N` rows, of which some may not exist, two in each vector.
#[inline(always)]
unsafe fn pairs_of_rows<S: Simd, const K: usize, const SH: usize, const N: usize>(
    s: S,
    a: &DepthwiseArgs,
    plane: &Plane,
    columns: &Pairs<S, K>,
    y: usize,
) {
    const { assert!(SH == 1 || SH == 2) };
    // SAFETY: loads are masked to the lanes that lie in the input; rows outside of it are zeros, and as long.
    unsafe {
        let load = |i: usize| s.load_masked(plane.at_or_zeros::<S>(y * SH + i, columns.start), columns.row);
        let mut acc = [s.splat(*plane.weights); N];
        let mut upper = [load(0), load(SH - 1)];
        for i in 0..(2 * N - 2) * SH + K {
            // The row of the second output is a stride below that of the first.
            let lower = load(i + SH);
            let mut inputs = [lower; K];
            for kx in 0..K {
                inputs[kx] = s.pick(upper[i % SH], lower, columns.taps[kx]);
            }
            upper[i % SH] = lower;
            for p in 0..N {
                if i >= 2 * p * SH && i - 2 * p * SH < K {
                    for kx in 0..K {
                        let k = s.splat(*plane.weights.wrapping_add(1 + (i - 2 * p * SH) * K + kx));
                        acc[p] = s.mul_add(inputs[kx], k, acc[p]);
                    }
                }
            }
        }
        for p in 0..N {
            for half in 0..2 {
                let y = y + 2 * p + half;
                if y < plane.rows.outputs {
                    let x = 0usize.wrapping_sub(half * S::LANES / 2);
                    plane.finish::<S>(s, a, y, x, columns.outputs[half], false, acc[p]);
                }
            }
        }
    }
}

/// Of each phase of the columns, the vectors under `NV` vectors of outputs, with one on either side, of which the lanes next to
/// them count; `row`: of the column that loads start at, and with taps before it a vector earlier.
#[inline(always)]
unsafe fn phases<S: Simd, const K: usize, const SW: usize, const NV: usize, const TAPS: usize, const INSIDE: bool>(
    s: S,
    row: *const f32,
    columns: &Columns<S::Mask, K>,
) -> [[S::V; 4]; 2] {
    let lead = lead(K, TAPS);
    // From the vector before on; the first and the last only where a tap reaches there.
    let (first, end) = (if lead > 0 { 0 } else { 1 }, NV * SW + if K > lead + SW { 2 } else { 1 });
    let mut vectors = [s.splat(0.0); 6];
    for i in first..end {
        let p = row.wrapping_add(i * S::LANES).wrapping_sub(S::LANES);
        // SAFETY: the caller vouches for the lanes.
        vectors[i] = unsafe { load::<S, INSIDE>(s, p, columns.row[i]) };
    }
    let mut phases = [[s.splat(0.0); 4]; 2];
    if SW == 1 {
        phases[0].copy_from_slice(&vectors[..4]);
    } else {
        (phases[0][0], phases[1][0]) = s.unzip_ends(vectors[0]);
        for v in 0..NV {
            (phases[0][v + 1], phases[1][v + 1]) = s.unzip(vectors[2 * v + 1], vectors[2 * v + 2]);
        }
        (phases[0][NV + 1], phases[1][NV + 1]) = s.unzip_ends(vectors[2 * NV + 1]);
    }
    phases
}

/// The inputs under each kernel column, of those.
#[inline(always)]
fn picked<S: Simd, const K: usize, const SW: usize, const NV: usize, const TAPS: usize>(
    s: S,
    phases: &[[S::V; 4]; 2],
) -> [[S::V; NV]; K] {
    const { assert!(K <= 7) };
    let lead = lead(K, TAPS);
    let mut inputs = [[s.splat(0.0); NV]; K];
    // Written out, as shifts must be known.
    macro_rules! each {
        ($($kx:literal)*) => {$(if $kx < K {
            let distance = $kx - lead as isize;
            let (phase, by) = (distance.rem_euclid(SW as isize) as usize, distance.div_euclid(SW as isize));
            for v in 0..NV {
                let [before, here, after] = [0, 1, 2].map(|i| phases[phase][v + i]);
                inputs[$kx][v] = match by {
                    0 => here,
                    ..0 => s.shift(before, here, S::LANES - by.unsigned_abs()),
                    1.. => s.shift(here, after, by.unsigned_abs()),
                };
            }
        })*};
    }
    each!(0 1 2 3 4 5 6);
    inputs
}

#[inline(always)]
unsafe fn load<S: Simd, const INSIDE: bool>(s: S, p: *const f32, mask: S::Mask) -> S::V {
    // SAFETY: the caller vouches for the lanes.
    unsafe { if INSIDE { s.load(p) } else { s.load_masked(p, mask) } }
}

/// Any taps, stride, dilation and multiplier: `OH` rows by one vector.
///
/// # Safety
/// `a` comes from a [`DepthwiseStage`](crate::stage::DepthwiseStage) that was built for this kernel.
#[inline(always)]
pub(crate) unsafe fn any<S: Simd, const OH: usize>(s: S, a: &DepthwiseArgs) {
    let (width, grids) = (a.output_shape.w, Lattice::all_again(a, 0));
    let sw = a.stride[1];
    let reach = (S::LANES - 1) * sw + (a.kernel_size[1] - 1) * a.dilation[1];
    for n in 0..a.output_shape.n {
        for c in 0..a.output_shape.c {
            for rows in grids.clone() {
                let plane = Plane::new(a, n, c, rows);
                for y in (0..rows.outputs).step_by(OH) {
                    for x in (0..width).step_by(S::LANES) {
                        let start = ((a.origin.w + x) * sw) as isize - a.pad[1] as isize;
                        let inside = start >= 0 && start as usize + reach < a.input_shape.w;
                        // SAFETY: `inside` says that every load lies in its row; `taps` guards the others.
                        unsafe {
                            let acc = match (sw, inside) {
                                (1, true) => taps::<S, OH, 1, true>(s, a, &plane, y, start),
                                (1, false) => taps::<S, OH, 1, false>(s, a, &plane, y, start),
                                (2, _) => taps::<S, OH, 2, false>(s, a, &plane, y, start),
                                _ => taps::<S, OH, 0, false>(s, a, &plane, y, start),
                            };
                            let mask = s.mask(0, S::LANES.min(width - x));
                            for oy in 0..OH {
                                if y + oy < rows.outputs {
                                    plane.finish::<S>(s, a, y + oy, x, mask, false, acc[oy]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The accumulators of `OH` rows at a column stride of `SW`, 0 for any.
#[inline(always)]
unsafe fn taps<S: Simd, const OH: usize, const SW: usize, const INSIDE: bool>(
    s: S,
    a: &DepthwiseArgs,
    plane: &Plane,
    y: usize,
    start: isize,
) -> [S::V; OH] {
    let [kh, kw] = a.kernel_size;
    let sh = undilated_stride(a.stride[0], a.dilation[0]);
    let mut weights = plane.weights;
    // SAFETY: the plane gives only rows that lie in the input; of these, loads are inside, or masked to
    // the columns that are.
    unsafe {
        let mut acc = [s.splat(*weights); OH];
        for ky in 0..kh {
            let mut rows = [None; OH];
            for oy in 0..OH {
                // Outputs past the end are computed from zeros and not stored.
                if y + oy < plane.rows.outputs {
                    rows[oy] = plane.row((y + oy) * sh + ky);
                }
            }
            for kx in 0..kw {
                weights = weights.wrapping_add(1);
                let k = s.splat(*weights);
                let first = start + (kx * a.dilation[1]) as isize;
                let step = if SW == 0 { a.stride[1] } else { 1 };
                let mask = in_row(s, first, step, a.input_shape.w, S::LANES);
                let more = in_row(s, first + S::LANES as isize, 1, a.input_shape.w, S::LANES);
                for oy in 0..OH {
                    let v = match rows[oy].map(|row| row.wrapping_offset(first)) {
                        Some(p) if SW == 1 => load::<S, INSIDE>(s, p, mask),
                        Some(p) if SW == 2 => {
                            s.unzip(s.load_masked(p, mask), s.load_masked(p.wrapping_add(S::LANES), more)).0
                        }
                        Some(p) => s.load_strided(p, step, mask),
                        None => s.splat(0.0),
                    };
                    acc[oy] = s.mul_add(v, k, acc[oy]);
                }
            }
        }
        acc
    }
}
