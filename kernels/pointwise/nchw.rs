//! Pointwise convolution, channels first: weights are broadcast, pixels are the vector.
//!
//! The last few pixels may swap roles with the weights, which are half a vector then.

use crate::epilogue::{self, clamps};
use crate::info::{Form, KernelInfo};
use crate::pointwise::{LastTwo, PointwiseArgs, Results, Runs, finish, finish_row, finish_row_by_row, info};
use crate::simd::{Lanes, Masked, Simd, Whole};
use crate::table::Algorithm;
use crate::types::Layout;

/// Tiles of `MR` output channels by two vectors of pixels, or three with the last pixel of all.
pub(crate) struct Tile<const MR: usize>;

impl<S: Simd, const MR: usize> Algorithm<S> for Tile<MR> {
    type Args = PointwiseArgs;
    const INFO: KernelInfo = info::<S>(Layout::Nchw, Form::Tile, [2 * S::LANES, MR]);

    #[inline(always)]
    unsafe fn run(s: S, a: &PointwiseArgs) {
        // SAFETY: the caller's.
        unsafe { all::<S, MR>(s, a) }
    }
}

/// All of a part.
///
/// # Safety
/// 1. As [`Algorithm::run`].
#[inline(always)]
unsafe fn all<S: Simd, const MR: usize>(s: S, a: &PointwiseArgs) {
    let runs = Runs::of(a, true);
    let end = a.channel + a.shape.c;
    for n in 0..runs.images {
        for run in 0..runs.runs {
            let input = a.input.wrapping_add(n * a.input_strides.n + run * a.input_strides.h);
            let output = a.output.wrapping_add(n * a.output_strides.n + run * a.output_strides.h);
            let residual = a.residual.map(|r| r.wrapping_add(n * a.residual_strides.n + run * a.residual_strides.h));
            let is_few = a.channels <= 4 && a.shape.c == a.channels && runs.len >= 8 * S::LANES;
            if is_few && (a.channels <= 2 || MR >= 8) {
                let tensors = (input, output, residual);
                // SAFETY: the run has these pixels, and the part all channels.
                unsafe {
                    match a.channels {
                        // Of so few rows, tiles are for half as many registers.
                        1 if MR <= 2 => few::<S, MR, 1, 4>(s, a, runs.len, tensors),
                        _ if MR <= 2 => few::<S, MR, 2, 2>(s, a, runs.len, tensors),
                        1 => few::<S, MR, 1, 8>(s, a, runs.len, tensors),
                        2 => few::<S, MR, 2, 4>(s, a, runs.len, tensors),
                        _ => few::<S, MR, 4, 4>(s, a, runs.len, tensors),
                    }
                }
                continue;
            }
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
                let mut pixels = if more > 0 { rest } else { rest.min(2 * S::LANES) };
                // The last vectors are moved back rather than cut, as masked stores are slow on AMD: some outputs are computed twice.
                let whole = pixels.next_multiple_of(S::LANES);
                if more == 0 && whole <= runs.len {
                    x -= whole - pixels;
                    pixels = whole;
                }
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
                        clamps: clamps(a.bounds[0], a.bounds[1]),
                    };
                    let rows = a.channel.saturating_sub(c)..MR.min(end - c);
                    let p = input.wrapping_add(x);
                    // SAFETY: pixels `x..x + pixels` and the rows' channels lie in the part.
                    unsafe {
                        if more == 1 {
                            channels::<S, MR, 3, 1, Whole>(s, a, p, weights, rows, &r);
                        } else if more == 4 {
                            channels::<S, MR, 2, 4, Whole>(s, a, p, weights, rows, &r);
                        } else if pixels == 2 * S::LANES {
                            channels::<S, MR, 2, 0, Whole>(s, a, p, weights, rows, &r);
                        } else if pixels == S::LANES {
                            channels::<S, MR, 1, 0, Whole>(s, a, p, weights, rows, &r);
                        } else if pixels > S::LANES {
                            channels::<S, MR, 2, 0, Masked>(s, a, p, weights, rows, &r);
                        } else {
                            channels::<S, MR, 1, 0, Masked>(s, a, p, weights, rows, &r);
                        }
                    }
                    c += MR;
                }
                x += pixels;
            }
        }
    }
}

/// A run of pixels, of which there are `NV` vectors or more, of few output channels, which would leave most of a panel's rows empty: the
/// first `O` rows alone. Of the tensors, where the run begins.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. The part has these pixels, and all output channels, `O` at the most.
#[inline(always)]
unsafe fn few<S: Simd, const MR: usize, const O: usize, const NV: usize>(
    s: S,
    a: &PointwiseArgs,
    len: usize,
    (input, output, residual): (*const f32, *mut f32, Option<*const f32>),
) {
    for x in (0..len).step_by(NV * S::LANES) {
        // The last vectors are moved back rather than cut.
        let x = x.min(len - NV * S::LANES);
        // SAFETY: the caller's; the panel holds 1 + depth rows of MR weights.
        unsafe {
            let mut acc = [[s.splat(0.0); NV]; O];
            for i in 0..O.min(MR) {
                acc[i] = [s.splat(*a.weights.wrapping_add(i)); NV];
            }
            let mut k = a.weights.wrapping_add(MR);
            let mut p = input.wrapping_add(x);
            for _ in 0..a.depth {
                for v in 0..NV {
                    let pixels = s.load(p.wrapping_add(v * S::LANES));
                    for i in 0..O.min(MR) {
                        acc[i][v] = s.mul_add(pixels, s.splat(*k.wrapping_add(i)), acc[i][v]);
                    }
                }
                k = k.wrapping_add(MR);
                p = p.wrapping_add(a.input_strides.c);
            }
            for i in 0..O {
                if i < a.channels {
                    for v in 0..NV {
                        let x = x + v * S::LANES;
                        let output = output.wrapping_add(i * a.output_strides.c + x);
                        let residual = (residual, i * a.residual_strides.c + x);
                        epilogue::finish::<S, Whole, _>(s, a.bounds, acc[i][v], s.mask(0, 0), output, residual);
                    }
                }
            }
        }
    }
}

/// `MR` output channels by `NV` vectors of pixels, of the last of which those lanes, and `MORE` pixels, for each of
/// which half a vector holds the channels.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. The part has these pixels, in one run: of the vectors all up to the last, of the last `r.to` says how many, or all if `L` is
///    [`Whole`].
/// 3. It has the channels `rows` of the panel.
#[inline(always)]
unsafe fn channels<S: Simd, const MR: usize, const NV: usize, const MORE: usize, L: Lanes>(
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
        let row_by_row = S::SPLATS_MEMORY && L::ALL && MORE == 0 && r.plain && a.depth >= 2;
        for _ in 0..if row_by_row { a.depth - 2 } else { a.depth } {
            let mut p = [s.splat(0.0); NV];
            for v in 0..NV {
                let at = x.wrapping_add(v * S::LANES);
                p[v] = if v + 1 < NV { s.load(at) } else { L::load(s, at, last) };
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
                let w = s.splat_for(NV, k.wrapping_add(i));
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
        if row_by_row {
            let last = LastTwo { factor: k, row: 1, next: MR, vectors: x, next_vectors: a.input_strides.c };
            finish_row_by_row::<S, MR, NV>(s, a, &acc, &last, r);
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
                finish_row::<S::Half, 1>(half, a, [half.splat(sums[i])], 0, &one, false);
            }
        }
        finish::<S, MR, NV>(s, a, &acc, rows, r);
    }
}
