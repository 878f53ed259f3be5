//! Pointwise (1×1) convolution: a GEMM over packed weights that reads activations where they are.
//!
//! One micro-kernel serves both layouts. A tile of `MR`×`NV` vectors stays in registers while the
//! input channels pass: `MR` values are broadcast, `NV` vectors loaded.
//!
//! * channels last: pixels are broadcast (rows of the tile), output channels are the vector, from a
//!   packed panel;
//! * channels first: weights are broadcast, from a packed panel, pixels are the vector.
//!
//! Channels last, the last output channels may be half a vector. Where that costs what a whole one does, two pixels share one:
//! a joined panel's last vector holds the weights of those channels twice, and its factors are two pixels', half and half.
//!
//! Channels first, the last few pixels may swap roles with the weights, which are half a vector then.
//!
//! Accumulators start at the bias and never leave their registers: every output is one chain of
//! multiply-adds over ascending channels.

use super::activation::{clamp, clamps};
use super::isa::has_distant_cache;
use super::simd::{Simd, opaque};
use crate::tensor::{Shape, Strides};

/// What a pointwise kernel computes: a part of the output, all pointers and extents checked by
/// [`PointwiseStage::run`](super::stage::PointwiseStage::run).
pub(crate) struct PointwiseArgs {
    /// The part's first pixel, channel 0.
    pub(crate) input: *const f32,
    pub(crate) input_strides: Strides,
    /// Input channels.
    pub(crate) depth: usize,
    /// The part's first element.
    pub(crate) output: *mut f32,
    /// The part's extents.
    pub(crate) shape: Shape,
    pub(crate) output_strides: Strides,
    /// Shaped as the part.
    pub(crate) residual: Option<*const f32>,
    pub(crate) residual_strides: Strides,
    /// The part's first output channel.
    pub(crate) channel: usize,
    /// All output channels.
    pub(crate) channels: usize,
    /// Of all output channels, as [`PointwiseStage::new`](super::stage::PointwiseStage::new) packed them.
    pub(crate) weights: *const f32,
    /// Channels last, what is read after this: to be brought nearer meanwhile, where that pays. Any address.
    pub(crate) next: *const f32,
    pub(crate) next_len: usize,
    pub(crate) min: f32,
    pub(crate) max: f32,
}

/// Activations that a block of pixels may take while the panels of weights pass over it: half of a
/// common second-level cache.
const BLOCK_BYTES: usize = 256 * 1024;

/// The pixels of `part` as runs along which one stride leads from each to the next.
struct Runs {
    /// Pixels in a run.
    len: usize,
    /// Runs in an image.
    runs: usize,
}

impl Runs {
    /// Whole images where all three tensors step from a row's end to the next row as between pixels,
    /// which are contiguous if `dense`.
    #[inline(always)]
    fn of(a: &PointwiseArgs, dense: bool) -> Self {
        let Shape { h, w, .. } = a.shape;
        let flat = |s: Strides| h <= 1 || s.h == if dense { w } else { w * s.w };
        if flat(a.input_strides) && flat(a.output_strides) && (a.residual.is_none() || flat(a.residual_strides)) {
            Self { len: h * w, runs: 1 }
        } else {
            Self { len: w, runs: h }
        }
    }
}

/// The `i`-th of the tiles that cut `len` as evenly as tiles of at most `most` can: its start.
#[inline(always)]
pub(super) fn balanced(len: usize, tiles: usize, i: usize) -> usize {
    // Without a product that could overflow: the first `len % tiles` tiles are one longer.
    i * (len / tiles) + i.min(len % tiles)
}

/// Where a tile's epilogue finds its other operand and puts its results.
#[derive(Clone, Copy)]
struct Results {
    output: *mut f32,
    output_row: usize,
    residual: Option<*const f32>,
    residual_row: usize,
    /// Of the `NV` vectors' lanes, those to write.
    from: usize,
    to: usize,
    /// Whether nothing but a clamp is between the accumulators and whole vectors of output.
    plain: bool,
    /// Whether the clamp changes anything.
    clamps: bool,
}

impl Results {
    /// Those of so many rows further.
    #[inline(always)]
    fn below(self, rows: usize) -> Self {
        let output = self.output.wrapping_add(rows.wrapping_mul(self.output_row));
        let residual = self.residual.map(|p| p.wrapping_add(rows.wrapping_mul(self.residual_row)));
        Self { output, residual, ..self }
    }
}

/// Written out for each row: in a loop, LLVM would index the accumulators, and so keep all of them in memory.
macro_rules! each_row {
    ($rows:expr, $i:ident => $body:expr) => {
        each_row!($rows, $i => $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13);
        const { assert!($rows <= 14) };
    };
    ($rows:expr, $i:ident => $body:expr, $($row:literal)*) => {$(
        if $row < $rows {
            let $i = $row % $rows;
            $body
        }
    )*};
}

/// The accumulators of a tile's rows → residual → clamp → output.
#[inline(always)]
unsafe fn finish<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    a: &PointwiseArgs,
    acc: &[[S::V; NV]; MR],
    rows: core::ops::Range<usize>,
    r: &Results,
) {
    each_row!(MR, i => if rows.start <= i && i < rows.end {
        // SAFETY: the caller vouches for rows and lanes.
        unsafe { finish_row::<S, NV>(s, a, acc[i], i, r) }
    });
}

/// Each row's last two multiply-adds, clamp, and store to whole vectors, before those of the next row. All rows' stores
/// after all rows' multiply-adds would keep those of the next tile waiting: on Zen 4 a store takes the time of one and a half of
/// them.
///
/// Row `i` has its factors at `factors.0 + i * factors.1` and `factors.2` further; the vectors, which all rows share, are at
/// `vectors.0` and `vectors.1` further. Registers are just enough if nothing is loaded before it is needed.
#[inline(always)]
unsafe fn finish_in_turn<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    a: &PointwiseArgs,
    acc: &[[S::V; NV]; MR],
    factors: (*const f32, usize, usize),
    vectors: (*const f32, usize),
    r: &Results,
) {
    // SAFETY: the caller's.
    unsafe {
        if r.clamps {
            rows_in_turn::<S, MR, NV, true>(s, a, acc, factors, vectors, r);
        } else {
            rows_in_turn::<S, MR, NV, false>(s, a, acc, factors, vectors, r);
        }
    }
}

#[inline(always)]
unsafe fn rows_in_turn<S: Simd, const MR: usize, const NV: usize, const CLAMPS: bool>(
    s: S,
    a: &PointwiseArgs,
    acc: &[[S::V; NV]; MR],
    factors: (*const f32, usize, usize),
    vectors: (*const f32, usize),
    r: &Results,
) {
    let (mut x, mut row, next) = factors;
    let mut y = r.output;
    let mut w = [[s.splat(0.0); NV]; 2];
    let mut bounds = [s.splat(0.0); 2];
    each_row!(MR, i => {
        if i > 0 {
            x = x.wrapping_add(row);
            y = y.wrapping_add(r.output_row);
        }
        for v in 0..NV {
            // Else LLVM would keep the factor for the other vector, in a register that is not there.
            (x, row) = opaque(x, row);
            let mut sum = acc[i][v];
            // SAFETY: the caller vouches for the factors, the vectors and the outputs.
            unsafe {
                for l in 0..2 {
                    if i == 0 {
                        w[l][v] = s.load(vectors.0.wrapping_add(l * vectors.1 + v * S::LANES));
                    }
                    sum = s.mul_add(s.splat(*x.wrapping_add(l * next)), w[l][v], sum);
                }
                if CLAMPS {
                    if i == 0 && v == 0 {
                        // Opaque, and of this tile: else LLVM would load them before the loop over the channels.
                        bounds = [&a.min, &a.max].map(|bound| s.splat(*opaque(bound, x.addr()).0));
                    }
                    sum = clamp(s, sum, bounds[0], bounds[1]);
                }
                s.store(y.wrapping_add(v * S::LANES), sum);
            }
        }
    });
}

#[inline(always)]
unsafe fn finish_row<S: Simd, const NV: usize>(s: S, a: &PointwiseArgs, acc: [S::V; NV], i: usize, r: &Results) {
    let whole = r.from == 0 && r.to == NV * S::LANES;
    let (min, max) = (s.splat(a.min), s.splat(a.max));
    // Row 0 may lie before the part, and a stride along an axis of one element be anything: addresses may
    // wrap on the way to an element that exists.
    // SAFETY: the caller vouches for the row and the lanes.
    unsafe {
        each_row!(NV, v => {
            let at = v * S::LANES;
            let (mut y, p) = (acc[v], r.output.wrapping_add(i.wrapping_mul(r.output_row)).wrapping_add(at));
            let residual =
                r.residual.map(|residual| residual.wrapping_add(i.wrapping_mul(r.residual_row)).wrapping_add(at));
            if whole {
                if let Some(residual) = residual {
                    y = s.add(y, s.load(residual));
                }
                s.store(p, clamp(s, y, min, max));
            } else {
                let mask = s.mask(r.from.saturating_sub(at), r.to.saturating_sub(at).min(S::LANES));
                if let Some(residual) = residual {
                    y = s.add(y, s.load_masked(residual, mask));
                }
                s.store_masked(p, mask, clamp(s, y, min, max));
            }
        }, 0 1 2);
        const { assert!(NV <= 3) };
    }
}

/// Channels last, how many output channels the next panel holds if so many are left: two vectors, or of the last ones a
/// single vector, or half of one if there are vectors of so many lanes, which one or two whole ones before it take in if
/// panels are `joined`.
#[inline(always)]
pub(super) fn panel_width(left: usize, lanes: usize, half: usize, joined: bool) -> usize {
    let halves = half % lanes;
    if left <= half {
        half
    } else if left <= lanes {
        lanes
    } else if left <= lanes + halves {
        lanes + if joined { halves } else { 0 }
    } else if joined && left > 2 * lanes && left <= 2 * lanes + halves {
        2 * lanes + halves
    } else {
        2 * lanes
    }
}

/// The weights of an input channel in a panel of that width: a half vector that whole ones take in is there twice.
#[inline(always)]
pub(super) fn packed_width(width: usize, lanes: usize) -> usize {
    if width > lanes { width.next_multiple_of(lanes) } else { width }
}

/// Channels last: tiles of up to `MR` pixels by two vectors of output channels, fewer at the last ones; in joined panels of two
/// and a half vectors of up to `JOINED` pixels, which is 0 if panels are not joined.
///
/// # Safety
/// `a` comes from a [`PointwiseStage`](super::stage::PointwiseStage) that was built for this kernel.
#[inline(always)]
pub(super) unsafe fn nhwc<S: Columns, const MR: usize, const JOINED: usize>(_: S, a: &PointwiseArgs) {
    const { assert!(MR <= S::COLUMNS.len() && JOINED <= MR && JOINED <= MOST_JOINED) };
    const { assert!(JOINED == 0 || (S::PICKS && 2 * S::Half::LANES == S::LANES)) };
    let runs = Runs::of(a, false);
    let end = a.channel + a.shape.c;
    // Rows a multiple of 4 KB apart share their L1 sets: taller tiles would evict themselves.
    let rows = if a.input_strides.w.is_multiple_of(1024) { MR.min(8) } else { MR };
    let block = (BLOCK_BYTES / (4 * a.depth.max(1))).max(rows);
    // A tile's loop brings a panel's width of elements at each input channel nearer: weights, outputs or what is read next.
    // With all channels, the outputs of a tile's pixels are one run, worth it unless the loop reaches far beyond them.
    let (brought, run) = (2 * S::LANES * a.depth, rows.saturating_mul(a.output_strides.w));
    let brings_outputs = has_distant_cache() && a.shape.c == a.channels && brought <= run.saturating_add(run / 2);
    let mut next = 0;
    for n in 0..a.shape.n {
        for run in 0..runs.runs {
            let input = a.input.wrapping_add(n * a.input_strides.n + run * a.input_strides.h);
            let output = a.output.wrapping_add(n * a.output_strides.n + run * a.output_strides.h);
            let residual = a.residual.map(|r| r.wrapping_add(n * a.residual_strides.n + run * a.residual_strides.h));
            let blocks = runs.len.div_ceil(block);
            for b in 0..blocks {
                let (start, stop) = (balanced(runs.len, blocks, b), balanced(runs.len, blocks, b + 1));
                let mut c = 0;
                while c < end {
                    let width = panel_width(a.channels - c, S::LANES, S::Half::LANES, JOINED > 0);
                    if c + width <= a.channel {
                        c += width;
                        continue;
                    }
                    let rows = if width > 2 * S::LANES { rows.min(JOINED) } else { rows };
                    let tiles = (stop - start).div_ceil(rows);
                    let weights = a.weights.wrapping_add(c * (1 + a.depth));
                    let packed = packed_width(width, S::LANES);
                    // From the weights of the first input channel, behind the biases.
                    let k = weights.wrapping_add(packed).addr() as isize;
                    let away = |p: *const f32| ((p.addr() as isize).wrapping_sub(k) / 4) as usize;
                    let back = |p: usize| (start * p).wrapping_add(c).wrapping_sub(a.channel);
                    let mut column = Column {
                        input: input.wrapping_add(start * a.input_strides.w),
                        weights,
                        width,
                        tiles: 0,
                        // Weights of the next panel: they stream past, and are seldom near.
                        first: (c + width < end).then_some(packed * (1 + a.depth)),
                        ahead: 0,
                        step: 0,
                        brings: 0,
                        results: Results {
                            output: output.wrapping_add(back(a.output_strides.w)),
                            output_row: a.output_strides.w,
                            residual: residual.map(|r| r.wrapping_add(back(a.residual_strides.w))),
                            residual_row: a.residual_strides.w,
                            from: a.channel.saturating_sub(c),
                            to: width.min(end - c),
                            plain: c >= a.channel && c + width <= end && residual.is_none(),
                            clamps: clamps(a.min, a.max),
                        },
                    };
                    // The first tiles are a pixel taller.
                    let (height, taller) = ((stop - start) / tiles, (stop - start) % tiles);
                    for (height, count) in [(height + 1, taller), (height, tiles - taller)] {
                        if count == 0 {
                            continue;
                        }
                        column.tiles = count;
                        if brings_outputs && c == 0 {
                            // The next tile's outputs, of all panels: after the last, what lies behind.
                            column.step = height * a.output_strides.w;
                            column.ahead = away(column.results.output.wrapping_add(column.step));
                            column.brings = count;
                        } else if next < a.next_len {
                            let skipped = usize::from(column.first.is_some());
                            column.step = packed * a.depth;
                            column.ahead = away(a.next.wrapping_add(next).wrapping_sub(skipped * column.step));
                            column.brings =
                                count.min(skipped.saturating_add((a.next_len - next).div_ceil(column.step.max(1))));
                            next = next.saturating_add((column.brings - skipped).saturating_mul(column.step));
                        } else {
                            column.brings = 0;
                        }
                        // SAFETY: the pixels of so many tiles and channels `c + from .. c + to` lie in the part; column
                        // `i` has tiles of `i + 1` pixels, and the kernel's instruction set.
                        unsafe { S::COLUMNS[height - 1](&column, a) }
                        column.input = column.input.wrapping_add(count * height * a.input_strides.w);
                        column.results = column.results.below(count * height);
                        column.first = None;
                    }
                    c += width;
                }
            }
        }
    }
}

/// An instruction set's code for columns of tiles, by their height: a pixel, two, … Each height is a function of its own, and so
/// a unit that the compiler can generate beside others.
pub(super) trait Columns: Simd {
    const COLUMNS: &'static [RunColumn];
}

/// Computes a column's tiles, which are as high as its place in [`Columns::COLUMNS`] says: to be called only where the CPU has
/// the instruction set.
pub(super) type RunColumn = unsafe fn(&Column, &PointwiseArgs);

/// Tiles of equally many pixels, one after another under one panel of weights.
pub(super) struct Column {
    input: *const f32,
    weights: *const f32,
    /// Output channels of the panel.
    width: usize,
    tiles: usize,
    /// What the first tile prefetches, if not the same as the others, as [`pixels`] counts.
    first: Option<usize>,
    /// What tile `t` prefetches if `t < brings`: `ahead + t * step`.
    ahead: usize,
    step: usize,
    brings: usize,
    /// Of the first tile.
    results: Results,
}

/// The code for columns of tiles of `MR` pixels.
///
/// # Safety
/// The column and `a` come from [`nhwc`].
#[inline(always)]
pub(super) unsafe fn column<S: Simd, const MR: usize>(s: S, column: &Column, a: &PointwiseArgs) {
    // SAFETY: the caller's.
    unsafe {
        if S::Half::LANES < S::LANES && column.width < S::LANES {
            column.run::<S::Half, MR, 1, false>(s.half(), a);
        } else if column.width == S::LANES {
            column.run::<S, MR, 1, false>(s, a);
        } else if column.width == 2 * S::LANES {
            column.run::<S, MR, 2, false>(s, a);
        } else if S::PICKS && column.width < 2 * S::LANES {
            column.run::<S, MR, 1, true>(s, a);
        } else if S::PICKS && MR <= MOST_JOINED {
            column.run::<S, MR, 2, true>(s, a);
        } else {
            unreachable!("a panel of {} channels and tiles of {MR} pixels", column.width);
        }
    }
}

impl Column {
    /// Computes the tiles, of `MR` pixels by `NV` vectors of output channels each, and half of one if `JOINED`.
    #[inline(always)]
    unsafe fn run<S: Simd, const MR: usize, const NV: usize, const JOINED: bool>(&self, s: S, a: &PointwiseArgs) {
        let (mut input, mut r) = (self.input, self.results);
        for t in 0..self.tiles {
            let ahead = if t < self.brings { self.ahead.wrapping_add(t.wrapping_mul(self.step)) } else { 0 };
            let ahead = if t == 0 { self.first.unwrap_or(ahead) } else { ahead };
            // SAFETY: the caller vouches for the tile.
            unsafe {
                if JOINED {
                    joined::<S, MR, NV>(s, a, input, self.weights, ahead, &r);
                } else {
                    pixels::<S, MR, NV>(s, a, input, self.weights, ahead, &r);
                }
            }
            input = input.wrapping_add(MR * a.input_strides.w);
            r = r.below(MR);
        }
    }
}

/// The `NV` vectors at `p`.
#[inline(always)]
unsafe fn vectors<S: Simd, const NV: usize>(s: S, p: *const f32) -> [S::V; NV] {
    let mut vectors = [s.splat(0.0); NV];
    for v in 0..NV {
        // SAFETY: the caller vouches for the elements.
        vectors[v] = unsafe { s.load(p.wrapping_add(v * S::LANES)) };
    }
    vectors
}

/// `MR` pixels by `NV` vectors of output channels. Prefetches what lies that far `ahead` of the weights, wrapping.
#[inline(always)]
unsafe fn pixels<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    a: &PointwiseArgs,
    input: *const f32,
    weights: *const f32,
    ahead: usize,
    r: &Results,
) {
    let stride = a.input_strides.w;
    // SAFETY: the caller vouches for the pixels; the panel holds 1 + depth rows of NV vectors.
    unsafe {
        let mut acc = [vectors::<S, NV>(s, weights); MR];
        let mut k = weights.wrapping_add(NV * S::LANES);
        let mut x = input;
        let in_turn = S::SPLATS_MEMORY && r.plain && a.depth >= 2;
        let mut left = if in_turn { a.depth - 2 } else { a.depth };
        if S::FACTOR_LANES {
            while left >= 4 {
                let mut b = [[s.splat(0.0); 4]; MR];
                for i in 0..MR {
                    b[i] = s.splat_four(x.wrapping_add(i * stride));
                }
                for l in 0..4 {
                    for v in 0..NV {
                        let w = s.load(k.wrapping_add((l * NV + v) * S::LANES));
                        for i in 0..MR {
                            acc[i][v] = s.mul_add(w, b[i][l], acc[i][v]);
                        }
                    }
                }
                k = k.wrapping_add(4 * NV * S::LANES);
                x = x.wrapping_add(4);
                left -= 4;
            }
        }
        for _ in 0..left {
            let w = vectors::<S, NV>(s, k);
            for i in 0..MR {
                let b = s.splat(*x.wrapping_add(i * stride));
                for v in 0..NV {
                    acc[i][v] = s.mul_add(b, w[v], acc[i][v]);
                }
            }
            for v in 0..NV {
                s.prefetch(k.wrapping_add(ahead.wrapping_add(v * S::LANES)));
            }
            k = k.wrapping_add(NV * S::LANES);
            x = x.wrapping_add(1);
        }
        if in_turn {
            finish_in_turn::<S, MR, NV>(s, a, &acc, (x, stride, 1), (k, NV * S::LANES), r);
        } else {
            finish::<S, MR, NV>(s, a, &acc, 0..MR, r);
        }
    }
}

/// The most pixels of a tile of two and a half vectors of channels for which registers are enough: 25 accumulators, 3 of weights
/// and 3 of factors.
const MOST_JOINED: usize = 10;

/// As [`pixels`], and half a vector more of output channels, each pair of pixels in one vector.
#[inline(always)]
unsafe fn joined<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    a: &PointwiseArgs,
    input: *const f32,
    weights: *const f32,
    ahead: usize,
    r: &Results,
) {
    const { assert!(MR <= 14) };
    let (stride, half) = (a.input_strides.w, S::LANES / 2);
    // The lower half of one vector, and the upper of another.
    let halves = s.index(|i| if i < half { i } else { S::LANES + i });
    // SAFETY: the caller vouches for the pixels; the panel holds 1 + depth rows of NV + 1 vectors.
    unsafe {
        let mut acc = [vectors::<S, NV>(s, weights); MR];
        // Of pairs, `MR / 2` rounded up.
        let mut pairs = [s.load(weights.wrapping_add(NV * S::LANES)); 7];
        let mut k = weights.wrapping_add((NV + 1) * S::LANES);
        let mut x = input;
        for _ in 0..a.depth {
            let w = vectors::<S, NV>(s, k);
            let twice = s.load(k.wrapping_add(NV * S::LANES));
            for i in (0..MR).step_by(2) {
                let first = s.splat(*x.wrapping_add(i * stride));
                let second = if i + 1 < MR { s.splat(*x.wrapping_add((i + 1) * stride)) } else { first };
                for v in 0..NV {
                    acc[i][v] = s.mul_add(first, w[v], acc[i][v]);
                    if i + 1 < MR {
                        acc[i + 1][v] = s.mul_add(second, w[v], acc[i + 1][v]);
                    }
                }
                let both = if i + 1 < MR { s.pick(first, second, halves) } else { first };
                pairs[i / 2] = s.mul_add(both, twice, pairs[i / 2]);
            }
            for v in 0..=NV {
                s.prefetch(k.wrapping_add(ahead.wrapping_add(v * S::LANES)));
            }
            k = k.wrapping_add((NV + 1) * S::LANES);
            x = x.wrapping_add(1);
        }
        let at = NV * S::LANES;
        let whole = Results { to: r.to.min(at), ..*r };
        finish::<S, MR, NV>(s, a, &acc, 0..MR, &whole);
        each_row!(MR, i => {
            // The second pixel's outputs are in the upper half: as if its row began so much earlier.
            let lower = i % 2 * half;
            let row = r.below(i);
            let back = |p: *mut f32| p.wrapping_add(at).wrapping_sub(lower);
            let last = Results {
                output: back(row.output),
                residual: row.residual.map(|p| back(p.cast_mut()).cast_const()),
                from: r.from.saturating_sub(at) + lower,
                to: r.to.saturating_sub(at) + lower,
                ..*r
            };
            finish_row::<S, 1>(s, a, [pairs[i / 2]], 0, &last);
        });
    }
}

/// Channels first: tiles of `MR` output channels by two vectors of pixels, or three with the last pixel of all.
///
/// # Safety
/// `a` comes from a [`PointwiseStage`](super::stage::PointwiseStage) that was built for this kernel.
#[inline(always)]
pub(super) unsafe fn nchw<S: Simd, const MR: usize>(s: S, a: &PointwiseArgs) {
    let runs = Runs::of(a, true);
    let end = a.channel + a.shape.c;
    for n in 0..a.shape.n {
        for run in 0..runs.runs {
            let input = a.input.wrapping_add(n * a.input_strides.n + run * a.input_strides.h);
            let output = a.output.wrapping_add(n * a.output_strides.n + run * a.output_strides.h);
            let residual = a.residual.map(|r| r.wrapping_add(n * a.residual_strides.n + run * a.residual_strides.h));
            let mut x = 0;
            while x < runs.len {
                let rest = runs.len - x;
                // A tile takes these few more pixels, rather than leave them to a vector of their own: those of 7×7 and 14×14
                // maps with sixteen lanes.
                let more = if MR != S::Half::LANES || S::Half::LANES == S::LANES {
                    0
                } else if rest == 3 * S::LANES + 1 {
                    1
                } else if rest == 2 * S::LANES + 4 {
                    4
                } else {
                    0
                };
                let pixels = if more > 0 { rest } else { rest.min(2 * S::LANES) };
                let mut c = a.channel / MR * MR;
                while c < end {
                    let weights = a.weights.wrapping_add(c * (1 + a.depth));
                    let back = |p: usize| c.wrapping_sub(a.channel).wrapping_mul(p).wrapping_add(x);
                    let r = Results {
                        output: output.wrapping_add(back(a.output_strides.c)),
                        output_row: a.output_strides.c,
                        residual: residual.map(|r| r.wrapping_add(back(a.residual_strides.c))),
                        residual_row: a.residual_strides.c,
                        from: 0,
                        to: pixels - more,
                        plain: c >= a.channel && c + MR <= end && residual.is_none(),
                        clamps: clamps(a.min, a.max),
                    };
                    let rows = a.channel.saturating_sub(c)..MR.min(end - c);
                    let p = input.wrapping_add(x);
                    // SAFETY: pixels `x..x + pixels` and the rows' channels lie in the part.
                    unsafe {
                        if more == 1 {
                            channels::<S, MR, 3, 1, true>(s, a, p, weights, rows, &r);
                        } else if more == 4 {
                            channels::<S, MR, 2, 4, true>(s, a, p, weights, rows, &r);
                        } else if pixels == 2 * S::LANES {
                            channels::<S, MR, 2, 0, true>(s, a, p, weights, rows, &r);
                        } else if pixels > S::LANES {
                            channels::<S, MR, 2, 0, false>(s, a, p, weights, rows, &r);
                        } else {
                            channels::<S, MR, 1, 0, false>(s, a, p, weights, rows, &r);
                        }
                    }
                    c += MR;
                }
                x += pixels;
            }
        }
    }
}

/// `MR` output channels by `NV` vectors of pixels, the last of which is whole only if `FULL`, and `MORE` pixels, for each of
/// which half a vector holds the channels.
#[inline(always)]
unsafe fn channels<S: Simd, const MR: usize, const NV: usize, const MORE: usize, const FULL: bool>(
    s: S,
    a: &PointwiseArgs,
    input: *const f32,
    weights: *const f32,
    rows: core::ops::Range<usize>,
    r: &Results,
) {
    debug_assert!(MORE == 0 || MR == S::Half::LANES);
    let half = s.half();
    let last = s.mask(0, r.to - (NV - 1) * S::LANES);
    // SAFETY: the caller vouches for the pixels; the panel holds 1 + depth rows of MR weights.
    unsafe {
        let mut acc = [[s.splat(0.0); NV]; MR];
        for i in 0..MR {
            acc[i] = [s.splat(*weights.wrapping_add(i)); NV];
        }
        let mut more = [half.splat(0.0); MORE];
        if MORE > 0 {
            more = [half.load(weights); MORE];
        }
        let mut k = weights.wrapping_add(MR);
        let mut x = input;
        let in_turn = S::SPLATS_MEMORY && FULL && MORE == 0 && r.plain && a.depth >= 2;
        for _ in 0..if in_turn { a.depth - 2 } else { a.depth } {
            let mut p = [s.splat(0.0); NV];
            for v in 0..NV {
                let at = x.wrapping_add(v * S::LANES);
                p[v] = if FULL || v + 1 < NV { s.load(at) } else { s.load_masked(at, last) };
            }
            let fours = if S::FACTOR_LANES { MR / 4 * 4 } else { 0 };
            for i in (0..fours).step_by(4) {
                let w = s.splat_four(k.wrapping_add(i));
                for j in 0..4 {
                    for v in 0..NV {
                        acc[i + j][v] = s.mul_add(p[v], w[j], acc[i + j][v]);
                    }
                }
            }
            for i in fours..MR {
                let w = s.splat(*k.wrapping_add(i));
                for v in 0..NV {
                    acc[i][v] = s.mul_add(p[v], w, acc[i][v]);
                }
            }
            for j in 0..MORE {
                let p = half.splat(*x.wrapping_add(NV * S::LANES + j));
                more[j] = half.mul_add(p, half.load(k), more[j]);
            }
            k = k.wrapping_add(MR);
            x = x.wrapping_add(a.input_strides.c);
        }
        if in_turn {
            finish_in_turn::<S, MR, NV>(s, a, &acc, (k, 1, MR), (x, a.input_strides.c), r);
            return;
        }
        for j in 0..MORE {
            let mut sums = [0.0; MR];
            half.store(sums.as_mut_ptr(), more[j]);
            for i in rows.clone() {
                let one = Results {
                    output: r.output.wrapping_add(i.wrapping_mul(r.output_row)).wrapping_add(NV * S::LANES + j),
                    residual: r
                        .residual
                        .map(|p| p.wrapping_add(i.wrapping_mul(r.residual_row)).wrapping_add(NV * S::LANES + j)),
                    to: 1,
                    ..*r
                };
                finish_row::<S::Half, 1>(half, a, [half.splat(sums[i])], 0, &one);
            }
        }
        finish::<S, MR, NV>(s, a, &acc, rows, r);
    }
}
