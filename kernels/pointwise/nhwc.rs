//! Pointwise convolution, channels last: pixels are broadcast, output channels are the vector.
//!
//! The last output channels may be half a vector. Where that costs what a whole one does, two pixels share one: a joined panel's
//! last vector holds the weights of those channels twice, and its factors are two pixels', half and half.

use crate::epilogue::{self, clamps};
use crate::info::{Form, KernelInfo};
use crate::pointwise::{
    LastTwo, PointwiseArgs, Results, Runs, balanced, each_row, finish, finish_row, finish_row_by_row, info,
};
use crate::simd::{Masked, Simd, Whole, opaque_address};
use crate::table::Algorithm;
use crate::types::{Layout, MAX_STRIDE};

/// Activations that a block of pixels may take while the panels of weights pass over it: half of a
/// common second-level cache.
const BLOCK_BYTES: usize = 256 * 1024;

/// Channels last, how many output channels the next panel holds if so many are left: two vectors, or of the last ones a
/// single vector, or half of one if there are vectors of so many lanes, which one or two whole ones before it take in if
/// panels are `joined`.
#[inline(always)]
pub(crate) fn panel_width(left: usize, lanes: usize, half: usize, joined: bool) -> usize {
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
pub(crate) fn packed_width(width: usize, lanes: usize) -> usize {
    if width > lanes { width.next_multiple_of(lanes) } else { width }
}

/// Tiles of up to `MR` pixels by two vectors of output channels, fewer at the last ones.
pub(crate) struct Tile<const MR: usize>;

impl<S: HasSeries, const MR: usize> Algorithm<S> for Tile<MR> {
    type Args = PointwiseArgs;
    const INFO: KernelInfo = info::<S>(Layout::Nhwc, Form::Tile, [MR, 2 * S::LANES]);

    #[inline(always)]
    unsafe fn run(s: S, a: &PointwiseArgs) {
        // SAFETY: the caller's.
        unsafe { all::<S, MR, 0>(s, a) }
    }
}

/// As [`Tile`], and of up to `JOINED` pixels in panels that take in the last half vector of output channels.
#[cfg(isa = "avx512")]
pub(crate) struct Joined<const MR: usize, const JOINED: usize>;

#[cfg(isa = "avx512")]
impl<S: HasSeries, const MR: usize, const JOINED: usize> Algorithm<S> for Joined<MR, JOINED> {
    type Args = PointwiseArgs;
    const INFO: KernelInfo = info::<S>(Layout::Nhwc, Form::Joined, [JOINED, 2 * S::LANES + S::LANES / 2]);

    #[inline(always)]
    unsafe fn run(s: S, a: &PointwiseArgs) {
        const { assert!(JOINED > 0) };
        // SAFETY: the caller's.
        unsafe { all::<S, MR, JOINED>(s, a) }
    }
}

/// All of a part. Panels are joined unless `JOINED` is 0.
///
/// # Safety
/// 1. As [`Algorithm::run`].
#[inline(always)]
unsafe fn all<S: HasSeries, const MR: usize, const JOINED: usize>(s: S, a: &PointwiseArgs) {
    const { assert!(MR <= S::SERIES.len() && JOINED <= MR && JOINED <= MOST_JOINED) };
    const { assert!(JOINED == 0 || 2 * S::Half::LANES == S::LANES) };
    let runs = Runs::of(a, false);
    let end = a.channel + a.shape.c;
    // Rows a multiple of 4 KB apart share their L1 sets: taller tiles would evict themselves.
    let rows = if a.input_strides.w.is_multiple_of(1024) { MR.min(8) } else { MR };
    let block = (BLOCK_BYTES / (4 * a.depth.max(1))).max(rows);
    // A tile's loop brings a panel's width of elements at each input channel nearer: weights, outputs or what is read next.
    // With all channels, the outputs of a tile's pixels are one run, worth it unless the loop reaches far beyond them.
    let (brought, run) = (2 * S::LANES * a.depth, rows.saturating_mul(a.output_strides.w));
    let brings_outputs = a.prefetches_outputs && a.shape.c == a.channels && brought <= run.saturating_add(run / 2);
    let mut next = 0;
    for n in 0..runs.images {
        for run in 0..runs.runs {
            let input = a.input.wrapping_add(n * a.input_strides.n + run * a.input_strides.h);
            let output = a.output.wrapping_add(n * a.output_strides.n + run * a.output_strides.h);
            let residual = a.residual.map(|r| r.wrapping_add(n * a.residual_strides.n + run * a.residual_strides.h));
            let is_few = a.channels <= FEW && a.shape.c == a.channels && a.depth >= 4;
            if is_few && runs.len >= 2 * S::LANES && a.input_strides.w <= MAX_STRIDE {
                let tensors = (input, output, residual);
                // SAFETY: the run has these pixels, and the part all channels, for whose weights half a vector is enough.
                unsafe {
                    match a.channels {
                        1 => few::<S, 1>(s, a, runs.len, tensors),
                        2 => few::<S, 2>(s, a, runs.len, tensors),
                        3 => few::<S, 3>(s, a, runs.len, tensors),
                        _ => few::<S, FEW>(s, a, runs.len, tensors),
                    }
                }
                continue;
            }
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
                    let mut series = Series {
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
                            clamps: clamps(a.bounds[0], a.bounds[1]),
                        },
                    };
                    // The first tiles are a pixel taller.
                    let (height, taller) = ((stop - start) / tiles, (stop - start) % tiles);
                    for (height, count) in [(height + 1, taller), (height, tiles - taller)] {
                        if count == 0 {
                            continue;
                        }
                        series.tiles = count;
                        if brings_outputs && c == 0 {
                            // The next tile's outputs, of all panels: after the last, what lies behind.
                            series.step = height * a.output_strides.w;
                            series.ahead = away(series.results.output.wrapping_add(series.step));
                            series.brings = count;
                        } else if next < a.next_len {
                            let skipped = usize::from(series.first.is_some());
                            series.step = packed * a.depth;
                            series.ahead = away(a.next.wrapping_add(next).wrapping_sub(skipped * series.step));
                            series.brings =
                                count.min(skipped.saturating_add((a.next_len - next).div_ceil(series.step.max(1))));
                            next = next.saturating_add((series.brings - skipped).saturating_mul(series.step));
                        } else {
                            series.brings = 0;
                        }
                        // SAFETY: the pixels of so many tiles and channels `c + from .. c + to` lie in the part; series
                        // `i` has tiles of `i + 1` pixels, and the kernel's instruction set.
                        unsafe { S::SERIES[height - 1](&series, a) }
                        series.input = series.input.wrapping_add(count * height * a.input_strides.w);
                        series.results = series.results.below(count * height);
                        series.first = None;
                    }
                    c += width;
                }
            }
        }
    }
}

/// So few output channels that pixels had better be the vector.
const FEW: usize = 4;

/// A run of pixels, of which there are two vectors or more, of `O` output channels: pixels are the vector. Of the tensors, where the run
/// begins.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. The part has these pixels, and all output channels, which are `O`; they are no more than lanes of half a vector.
/// 3. Pixels are [`MAX_STRIDE`] apart at the most, and there are four input channels at least.
#[inline(always)]
unsafe fn few<S: Simd, const O: usize>(
    s: S,
    a: &PointwiseArgs,
    len: usize,
    (input, output, residual): (*const f32, *mut f32, Option<*const f32>),
) {
    const { assert!(O <= FEW && FEW <= S::Half::LANES && S::LANES <= MOST_LANES) };
    let (row, step, all) = (S::Half::LANES, a.input_strides.w, s.mask(0, S::LANES));
    let neighbours = a.output_strides.w == O && (residual.is_none() || a.residual_strides.w == O);
    for x in (0..len).step_by(2 * S::LANES) {
        // The last pixels are moved back rather than cut.
        let x = x.min(len - 2 * S::LANES);
        // SAFETY: the caller's; the panel holds 1 + depth rows of half a vector of weights.
        unsafe {
            let mut acc = [[s.splat(0.0); 2]; O];
            for o in 0..O {
                acc[o] = [s.splat(*a.weights.wrapping_add(o)); 2];
            }
            let mut k = a.weights.wrapping_add(row);
            let pixels = input.wrapping_add(x * step);
            for d in (0..a.depth / 4 * 4).step_by(4) {
                for v in 0..2 {
                    let four = s.deal(pixels.wrapping_add(v * S::LANES * step + d), step);
                    for j in 0..4 {
                        for o in 0..O {
                            let w = s.splat(*k.wrapping_add(j * row + o));
                            acc[o][v] = s.mul_add(four[j], w, acc[o][v]);
                        }
                    }
                }
                k = k.wrapping_add(4 * row);
            }
            for d in a.depth / 4 * 4..a.depth {
                for v in 0..2 {
                    let one = s.load_strided(pixels.wrapping_add(v * S::LANES * step + d), step, all);
                    for o in 0..O {
                        acc[o][v] = s.mul_add(one, s.splat(*k.wrapping_add(o)), acc[o][v]);
                    }
                }
                k = k.wrapping_add(row);
            }
            for v in 0..2 {
                let x = x + v * S::LANES;
                // Channel by channel, then pixel by pixel.
                let mut sums = [[0.0; MOST_LANES]; O];
                let mut side_by_side = [0.0; FEW * MOST_LANES];
                for o in 0..O {
                    s.store(sums[o].as_mut_ptr(), acc[o][v]);
                }
                for i in 0..S::LANES {
                    for o in 0..O {
                        side_by_side[i * O + o] = sums[o][i];
                    }
                }
                let sums = side_by_side.as_ptr();
                if neighbours {
                    for o in 0..O {
                        let at = x * O + o * S::LANES;
                        let sum = s.load(sums.wrapping_add(o * S::LANES));
                        epilogue::finish::<S, Whole, _>(s, a.bounds, sum, all, output.wrapping_add(at), (residual, at));
                    }
                } else {
                    // The last pixels' vectors reach beyond the sums of all.
                    for i in 0..S::LANES {
                        let mut sum = [0.0; MOST_LANES];
                        sum[..O].copy_from_slice(&side_by_side[i * O..i * O + O]);
                        let sum = s.load(sum.as_ptr());
                        let output = output.wrapping_add((x + i) * a.output_strides.w);
                        let residual = (residual, (x + i) * a.residual_strides.w);
                        epilogue::finish::<S, Masked, _>(s, a.bounds, sum, s.mask(0, O), output, residual);
                    }
                }
            }
        }
    }
}

/// Lanes of the widest vector.
const MOST_LANES: usize = 16;

/// An instruction set's code for series of tiles, by their height: a pixel, two, … Each height is a function of its own, and so
/// a unit that the compiler can generate beside others.
pub(crate) trait HasSeries: Simd {
    const SERIES: &'static [RunSeries];
}

/// Computes a series's tiles, which are as high as its place in [`HasSeries::SERIES`] says.
///
/// # Safety
/// 1. The CPU has the instruction set.
/// 2. As [`run_series`].
pub(crate) type RunSeries = unsafe fn(&Series, &PointwiseArgs);

/// Tiles of equally many pixels, one after another under one panel of weights.
pub(crate) struct Series {
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

/// The code for series of tiles of `MR` pixels.
///
/// # Safety
/// 1. `a` is as for [`Algorithm::run`].
/// 2. The series's tiles are pixels of the part, and its panel is one of the packed weights.
#[inline(always)]
pub(crate) unsafe fn run_series<S: Simd, const MR: usize>(s: S, series: &Series, a: &PointwiseArgs) {
    // SAFETY: the caller's.
    unsafe {
        if S::Half::LANES < S::LANES && series.width < S::LANES {
            series.run::<S::Half, MR, 1, APART>(s.half(), a);
        } else if series.width == S::LANES {
            series.run::<S, MR, 1, APART>(s, a);
        } else if series.width == 2 * S::LANES {
            series.run::<S, MR, 2, APART>(s, a);
        } else if S::Half::LANES < S::LANES && series.width < 2 * S::LANES {
            series.run::<S, MR, 1, JOINED>(s, a);
        } else if S::Half::LANES < S::LANES && MR <= MOST_JOINED {
            series.run::<S, MR, 2, JOINED>(s, a);
        } else {
            unreachable!("a panel of {} channels and tiles of {MR} pixels", series.width);
        }
    }
}

/// Panels take in the last half vector of output channels.
const JOINED: bool = true;
/// They do not.
const APART: bool = false;

impl Series {
    /// Computes the tiles, of `MR` pixels by `NV` vectors of output channels each, and half of one if `HALF`.
    ///
    /// # Safety
    /// 1. 2. As [`run_series`], whose width is that.
    #[inline(always)]
    unsafe fn run<S: Simd, const MR: usize, const NV: usize, const HALF: bool>(&self, s: S, a: &PointwiseArgs) {
        let (mut input, mut r) = (self.input, self.results);
        for t in 0..self.tiles {
            let ahead = if t < self.brings { self.ahead.wrapping_add(t.wrapping_mul(self.step)) } else { 0 };
            let ahead = if t == 0 { self.first.unwrap_or(ahead) } else { ahead };
            // SAFETY: the caller vouches for the tile.
            unsafe {
                if HALF {
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
///
/// # Safety
/// 1. They can be read.
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
///
/// # Safety
/// 1. `a` is as for [`Algorithm::run`].
/// 2. The `MR` pixels from `input` on are the part's, and lanes `from..to` of their results its outputs.
/// 3. `weights` is a panel of `NV` vectors.
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
        let (mut acc, mut weights) = ([vectors::<S, NV>(s, weights); MR], weights);
        if S::TIGHT_PIPES {
            for i in 0..MR {
                weights = opaque_address(weights);
                acc[i] = vectors::<S, NV>(s, weights);
            }
        }
        let mut k = weights.wrapping_add(NV * S::LANES);
        let mut x = input;
        let row_by_row = S::SPLATS_MEMORY && r.plain && a.depth >= 2;
        let mut left = if row_by_row { a.depth - 2 } else { a.depth };
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
                let b = s.splat_for(NV, x.wrapping_add(i * stride));
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
        if row_by_row {
            let last = LastTwo { factor: x, row: stride, next: 1, vectors: k, next_vectors: NV * S::LANES };
            finish_row_by_row::<S, MR, NV>(s, a, &acc, &last, r);
        } else {
            finish::<S, MR, NV>(s, a, &acc, 0..MR, r);
        }
    }
}

/// The most pixels of a tile of two and a half vectors of channels for which registers are enough: 25 accumulators, 3 of weights
/// and 3 of factors.
const MOST_JOINED: usize = 10;

/// As [`pixels`], and half a vector more of output channels, each pair of pixels in one vector.
///
/// # Safety
/// 1. 2. As [`pixels`].
/// 3. `weights` is a panel of `NV` vectors and a half, which is there twice.
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
                let both = if i + 1 < MR { s.halves(first, second) } else { first };
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
            finish_row::<S, 1>(s, a, [pairs[i / 2]], 0, &last, false);
        });
    }
}
