//! Pointwise convolution, channels first, of maps of few pixels: output channels are the vector, pixels are broadcast.
//!
//! Panels of weights are those of [`nchw`](super::nchw), which are narrower than vectors on most CPUs: the lanes beyond compute
//! something that nobody stores.

use crate::epilogue::finish;
use crate::info::{Form, KernelInfo};
use crate::pointwise::{PointwiseArgs, info};
use crate::simd::{Lanes, Masked, Simd, Whole};
use crate::table::Algorithm;
use crate::types::Layout;

/// Panels of `MR` output channels, which are `NV` vectors; tiles of two panels by `PIXELS`, or of eight by one.
pub(crate) struct Channels<const MR: usize, const NV: usize, const PIXELS: usize>;

impl<S: Simd, const MR: usize, const NV: usize, const PIXELS: usize> Algorithm<S> for Channels<MR, NV, PIXELS> {
    type Args = PointwiseArgs;
    const INFO: KernelInfo = info::<S>(Layout::Nchw, Form::Channels, [PIXELS, MR]);

    #[inline(always)]
    unsafe fn run(s: S, a: &PointwiseArgs) {
        const { assert!(NV == MR.div_ceil(S::LANES) && S::LANES <= MOST_LANES) };
        let (pixels, end) = (a.shape.n * a.shape.h * a.shape.w, a.channel + a.shape.c);
        let mut c = a.channel / MR * MR;
        while c < end {
            let left = (end - c).div_ceil(MR);
            // SAFETY: the caller's; so many panels are left.
            let panels = unsafe {
                if pixels < PIXELS && left >= 8 {
                    tiles::<S, MR, NV, 1, 8>(s, a, c, pixels);
                    8
                } else if pixels < PIXELS || left == 1 {
                    tiles::<S, MR, NV, 1, 1>(s, a, c, pixels);
                    1
                } else {
                    tiles::<S, MR, NV, PIXELS, 2>(s, a, c, pixels);
                    2
                }
            };
            c += panels * MR;
        }
    }
}

/// All pixels by the `P` panels from channel `c` on.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. The part has these panels, of the first and the last some channels.
/// 3. It has `R` pixels at least.
#[inline(always)]
unsafe fn tiles<S: Simd, const MR: usize, const NV: usize, const R: usize, const P: usize>(
    s: S,
    a: &PointwiseArgs,
    c: usize,
    pixels: usize,
) {
    for q in (0..pixels).step_by(R) {
        // The last tile is moved back rather than cut: some outputs are computed twice.
        // SAFETY: the caller's; the part has these pixels.
        unsafe { tile::<S, MR, NV, R, P>(s, a, c, q.min(pixels - R)) }
    }
}

/// `R` pixels from the part's `q`-th on by the `P` panels from channel `c` on.
///
/// # Safety
/// 1. As [`tiles`].
/// 2. The part has these pixels.
#[inline(always)]
unsafe fn tile<S: Simd, const MR: usize, const NV: usize, const R: usize, const P: usize>(
    s: S,
    a: &PointwiseArgs,
    c: usize,
    q: usize,
) {
    // Image, row and column of a pixel.
    let pixel = |i: usize| {
        let (row, w) = ((q + i) / a.shape.w, (q + i) % a.shape.w);
        (row / a.shape.h, row % a.shape.h, w)
    };
    let mut x = [a.input; R];
    for i in 0..R {
        let (n, h, w) = pixel(i);
        x[i] = a.input.wrapping_add(a.input_strides.offset(n, 0, h, w));
    }
    let weights = a.weights.wrapping_add(c * (1 + a.depth));
    let panel = MR * (1 + a.depth);
    // A panel's last rows are read by lanes: a vector of them would reach beyond the packed weights.
    let vectors = a.depth.saturating_sub((NV * S::LANES - MR).div_ceil(MR));
    // SAFETY: a panel holds 1 + depth rows of MR weights; the part has the pixels.
    unsafe {
        let bias = rows::<S, Masked, MR, NV, P>(s, weights, panel);
        let mut acc = [bias; R];
        let mut k = weights;
        for d in 0..vectors {
            k = k.wrapping_add(MR);
            let w = rows::<S, Whole, MR, NV, P>(s, k, panel);
            multiply_add::<S, NV, R, P>(s, w, x, d * a.input_strides.c, &mut acc);
        }
        for d in vectors..a.depth {
            k = k.wrapping_add(MR);
            let w = rows::<S, Masked, MR, NV, P>(s, k, panel);
            multiply_add::<S, NV, R, P>(s, w, x, d * a.input_strides.c, &mut acc);
        }
        // The ends of all vectors are one piece of code, so sums go through memory.
        let mut sums = [[[[0.0; MOST_LANES]; NV]; P]; R];
        for i in 0..R {
            for p in 0..P {
                for v in 0..NV {
                    s.store(sums[i][p][v].as_mut_ptr(), acc[i][p][v]);
                }
            }
        }
        for (i, panels) in sums.iter().enumerate() {
            for (p, vectors) in panels.iter().enumerate() {
                for (v, sums) in vectors.iter().enumerate() {
                    store(s, a, pixel(i), c + p * MR + v * S::LANES, (MR - v * S::LANES).min(S::LANES), sums);
                }
            }
        }
    }
}

/// A row of weights of each of `P` panels, which are so far apart.
///
/// # Safety
/// 1. The rows can be read; if `L` is [`Whole`], as whole vectors.
#[inline(always)]
unsafe fn rows<S: Simd, L: Lanes, const MR: usize, const NV: usize, const P: usize>(
    s: S,
    row: *const f32,
    panel: usize,
) -> [[S::V; NV]; P] {
    let mut rows = [[s.splat(0.0); NV]; P];
    for p in 0..P {
        for v in 0..NV {
            let mask = s.mask(0, (MR - v * S::LANES).min(S::LANES));
            // SAFETY: the caller's.
            rows[p][v] = unsafe { L::load(s, row.wrapping_add(p * panel + v * S::LANES), mask) };
        }
    }
    rows
}

/// Adds the products of the pixels' inputs, that far behind `x`, with a row of weights.
///
/// # Safety
/// 1. The inputs can be read.
#[inline(always)]
unsafe fn multiply_add<S: Simd, const NV: usize, const R: usize, const P: usize>(
    s: S,
    w: [[S::V; NV]; P],
    x: [*const f32; R],
    at: usize,
    acc: &mut [[[S::V; NV]; P]; R],
) {
    for i in 0..R {
        // SAFETY: the caller's.
        let b = s.splat(unsafe { *x[i].wrapping_add(at) });
        for p in 0..P {
            for v in 0..NV {
                acc[i][p][v] = s.mul_add(b, w[p][v], acc[i][p][v]);
            }
        }
    }
}

/// Lanes of the widest vector.
const MOST_LANES: usize = 16;

/// The first `lanes` of these sums → residual → clamp → the channels of a pixel from `c` on, those of them that the part has.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. The part has the pixel.
#[inline(always)]
unsafe fn store<S: Simd>(
    s: S,
    a: &PointwiseArgs,
    (n, h, w): (usize, usize, usize),
    c: usize,
    lanes: usize,
    sums: &[f32; MOST_LANES],
) {
    let (from, to) = (a.channel.saturating_sub(c), lanes.min((a.channel + a.shape.c).saturating_sub(c)));
    if from >= to {
        return;
    }
    // The first lane may lie before the part.
    let back = |step: usize| c.wrapping_sub(a.channel).wrapping_mul(step);
    let output = a.output.wrapping_add(a.output_strides.offset(n, 0, h, w).wrapping_add(back(a.output_strides.c)));
    let (strides, residual) = (a.residual_strides, a.residual);
    let residual = residual.map(|r| r.wrapping_add(strides.offset(n, 0, h, w).wrapping_add(back(strides.c))));
    let steps = [a.output_strides.c, if residual.is_some() { strides.c } else { 1 }];
    // SAFETY: the part has channels `c + from .. c + to` of the pixel.
    unsafe {
        if steps == [1, 1] || to - from == 1 && from == 0 {
            let sums = s.load(sums.as_ptr());
            finish::<S, Masked, _>(s, a.bounds, sums, s.mask(from, to), output, (residual, 0));
            return;
        }
        for lane in from..to {
            let output = output.wrapping_add(lane.wrapping_mul(steps[0]));
            let residual = (residual, lane.wrapping_mul(steps[1]));
            finish::<S, Masked, _>(s, a.bounds, s.splat(sums[lane]), s.mask(0, 1), output, residual);
        }
    }
}
