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
//! Stride 2 splits pairs of vectors into even and odd columns; what crosses the left or right border
//! is loaded lane by lane range, so no byte outside of a row is read.

use super::depthwise::{DepthwiseArgs, Lattice};
use super::simd::Simd;

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
        let image = a.input.wrapping_add(n * is.n + channel / a.multiplier * is.c);
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

    /// Column 0 of the row of points `y`, or `None` in the padding.
    #[inline(always)]
    fn row(&self, y: usize) -> Option<*const f32> {
        self.rows.has(y).then(|| self.input.wrapping_add(y.wrapping_mul(self.input_row)))
    }
}

impl Plane {
    /// The accumulators of the first `lanes` outputs from (`y`, `x`) on → residual → clamp → output.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, s: S, a: &DepthwiseArgs, y: usize, x: usize, lanes: usize, acc: S::V) {
        let whole = lanes == S::LANES;
        let mut v = acc;
        // SAFETY: the caller vouches for the outputs; the residual has the same shape.
        unsafe {
            if let Some(residual) = self.residual {
                let p = residual.wrapping_add(y * self.residual_row + x);
                v = s.add(v, if whole { s.load(p) } else { s.load_range(p, 0, lanes) });
            }
            v = s.min(s.splat(a.max), s.max(s.splat(a.min), v));
            let p = self.output.wrapping_add(y * self.output_row + x);
            if whole { s.store(p, v) } else { s.store_range(p, 0, lanes, v) }
        }
    }
}

/// The lanes of a vector of columns that lie in the input.
#[derive(Clone, Copy)]
struct Span {
    /// The input column of lane 0, negative in the padding.
    start: isize,
    from: usize,
    to: usize,
}

impl Span {
    /// Lane `i` is at column `start + i * step` of `width`.
    #[inline(always)]
    fn new(start: isize, step: usize, width: usize, lanes: usize) -> Self {
        let from = start.min(0).unsigned_abs().div_ceil(step).min(lanes);
        let to = (width as isize - start).max(0).unsigned_abs().div_ceil(step).min(lanes);
        Self { start, from: from.min(to), to }
    }
}

/// `K`×`K` taps, an undilated row stride of `SH`, a column stride of `SW` (2 only without dilation),
/// tiles of `OH` rows by two vectors, by one at the end of a row.
///
/// # Safety
/// `a` comes from a [`DepthwiseStage`](super::stage::DepthwiseStage) that was built for this kernel.
#[inline(always)]
pub(super) unsafe fn fixed<S: Simd, const K: usize, const SH: usize, const SW: usize, const OH: usize>(
    s: S,
    a: &DepthwiseArgs,
) {
    let width = a.output_shape.w;
    for n in 0..a.output_shape.n {
        for c in 0..a.output_shape.c {
            for rows in Lattice::all(a, 0) {
                let plane = Plane::new(a, n, c, rows);
                for y in (0..rows.outputs).step_by(OH) {
                    let mut x = 0;
                    while x < width {
                        // SAFETY: `tile` looks at the borders itself.
                        unsafe {
                            if x + S::LANES < width {
                                tile::<S, K, SH, SW, OH, 2>(s, a, &plane, y, x);
                                x += 2 * S::LANES;
                            } else {
                                tile::<S, K, SH, SW, OH, 1>(s, a, &plane, y, x);
                                x += S::LANES;
                            }
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, const K: usize, const SH: usize, const SW: usize, const OH: usize, const NV: usize>(
    s: S,
    a: &DepthwiseArgs,
    plane: &Plane,
    y: usize,
    x: usize,
) {
    let start = ((a.origin.w + x) * SW) as isize - a.pad[1] as isize;
    // Pairs of vectors read up to the odd column after the last one they need.
    let reach = (NV * S::LANES - 1) * SW + (K - 1) * a.dilation[1] + SW;
    let inside = start >= 0 && start as usize + reach <= a.input_shape.w && x + NV * S::LANES <= a.output_shape.w;
    // SAFETY: `inside` says that every load lies in its row; `rows_of` guards the others.
    unsafe {
        let acc = if inside {
            rows_of::<S, K, SH, SW, OH, NV, true>(s, a, plane, y, start)
        } else {
            rows_of::<S, K, SH, SW, OH, NV, false>(s, a, plane, y, start)
        };
        for oy in 0..OH {
            if y + oy < plane.rows.outputs {
                for v in 0..NV {
                    let at = x + v * S::LANES;
                    let lanes = a.output_shape.w.saturating_sub(at).min(S::LANES);
                    plane.finish::<S>(s, a, y + oy, at, lanes, acc[oy][v]);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn rows_of<
    S: Simd,
    const K: usize,
    const SH: usize,
    const SW: usize,
    const OH: usize,
    const NV: usize,
    const INSIDE: bool,
>(
    s: S,
    a: &DepthwiseArgs,
    plane: &Plane,
    y: usize,
    start: isize,
) -> [[S::V; NV]; OH] {
    let mut spans = [[Span { start: 0, from: 0, to: 0 }; K]; NV];
    if !INSIDE {
        for v in 0..NV {
            for kx in 0..K {
                let first = start + (v * S::LANES * SW + kx * a.dilation[1]) as isize;
                spans[v][kx] = Span::new(first, SW, a.input_shape.w, S::LANES);
            }
        }
    }
    // SAFETY: loads are inside by the caller's word, or cut to the span that is.
    unsafe {
        let mut acc = [[s.splat(*plane.weights); NV]; OH];
        for iy in 0..(OH - 1) * SH + K {
            // One row's inputs, a vector for each kernel column: zeros where the row is padding.
            let mut inputs = [[s.splat(0.0); NV]; K];
            if let Some(row) = plane.row(y * SH + iy) {
                for v in 0..NV {
                    if INSIDE && SW == 2 {
                        for pair in 0..K.div_ceil(2) {
                            let p = row.wrapping_offset(start).wrapping_add(2 * (v * S::LANES + pair));
                            let (even, odd) = s.load_pairs(p);
                            inputs[2 * pair][v] = even;
                            if 2 * pair + 1 < K {
                                inputs[2 * pair + 1][v] = odd;
                            }
                        }
                    } else {
                        for kx in 0..K {
                            inputs[kx][v] = if INSIDE {
                                s.load(row.wrapping_offset(start).wrapping_add(v * S::LANES + kx * a.dilation[1]))
                            } else {
                                let Span { start, from, to } = spans[v][kx];
                                load_span::<S>(s, row.wrapping_offset(start), SW, from, to)
                            };
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
        acc
    }
}

#[inline(always)]
unsafe fn load_span<S: Simd>(s: S, p: *const f32, step: usize, from: usize, to: usize) -> S::V {
    // SAFETY: the caller vouches for the lanes.
    unsafe {
        if step == 1 {
            s.load_range(p, from, to)
        } else {
            s.load_strided(p, step, from, to)
        }
    }
}

/// Any taps, stride, dilation and multiplier: `OH` rows by one vector.
///
/// # Safety
/// `a` comes from a [`DepthwiseStage`](super::stage::DepthwiseStage) that was built for this kernel.
#[inline(always)]
pub(super) unsafe fn any<S: Simd, const OH: usize>(s: S, a: &DepthwiseArgs) {
    let width = a.output_shape.w;
    let sw = a.stride[1];
    let reach = (S::LANES - 1) * sw + (a.kernel_size[1] - 1) * a.dilation[1];
    for n in 0..a.output_shape.n {
        for c in 0..a.output_shape.c {
            for rows in Lattice::all(a, 0) {
                let plane = Plane::new(a, n, c, rows);
                for y in (0..rows.outputs).step_by(OH) {
                    for x in (0..width).step_by(S::LANES) {
                        let start = ((a.origin.w + x) * sw) as isize - a.pad[1] as isize;
                        let inside = start >= 0 && start as usize + reach < a.input_shape.w;
                        // SAFETY: `inside` says that every load lies in its row; `taps` guards the others.
                        unsafe {
                            let acc = if inside && sw == 1 {
                                taps::<S, OH, true>(s, a, &plane, y, start)
                            } else {
                                taps::<S, OH, false>(s, a, &plane, y, start)
                            };
                            for oy in 0..OH {
                                if y + oy < rows.outputs {
                                    let lanes = S::LANES.min(width - x);
                                    plane.finish::<S>(s, a, y + oy, x, lanes, acc[oy]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn taps<S: Simd, const OH: usize, const INSIDE: bool>(
    s: S,
    a: &DepthwiseArgs,
    plane: &Plane,
    y: usize,
    start: isize,
) -> [S::V; OH] {
    let [kh, kw] = a.kernel_size;
    let sh = super::depthwise::undilated_stride(a.stride[0], a.dilation[0]);
    let mut weights = plane.weights;
    // SAFETY: loads are inside by the caller's word, or cut to the span that is.
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
                let Span { from, to, .. } = Span::new(first, a.stride[1], a.input_shape.w, S::LANES);
                for oy in 0..OH {
                    let v = match rows[oy] {
                        Some(row) if INSIDE => s.load(row.wrapping_offset(first)),
                        Some(row) => load_span::<S>(s, row.wrapping_offset(first), a.stride[1], from, to),
                        None => s.splat(0.0),
                    };
                    acc[oy] = s.mul_add(v, k, acc[oy]);
                }
            }
        }
        acc
    }
}
