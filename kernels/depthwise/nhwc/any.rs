//! Depthwise convolution, channels last: any taps, stride, dilation and multiplier. A row of outputs at a time, inputs from memory.

use super::grid::Grid;
use crate::depthwise::{Border, DepthwiseArgs, Edges, Inside, Lattice, info};
use crate::epilogue::{bound, finish};
use crate::info::{Form, KernelInfo};
use crate::simd::{Lanes, Masked, Simd, Whole};
use crate::table::Algorithm;
use crate::types::{Layout, undilated_stride};

/// `OW` outputs of a row at a time.
pub(crate) struct Any<const OW: usize>;

impl<S: Simd, const OW: usize> Algorithm<S> for Any<OW> {
    type Args = DepthwiseArgs;
    const INFO: KernelInfo = info::<S, f32>(Layout::Nhwc, Form::Any, None, [1, OW]);

    #[inline(always)]
    unsafe fn run(s: S, a: &DepthwiseArgs) {
        // SAFETY: the caller's.
        unsafe { any::<S, OW>(s, a) }
    }
}

/// # Safety
/// 1. As [`Algorithm::run`].
#[inline(always)]
unsafe fn any<S: Simd, const OW: usize>(s: S, a: &DepthwiseArgs) {
    let [kh, kw] = a.kernel_size;
    let sh = undilated_stride(a.stride[0], a.dilation[0]);
    let sw = undilated_stride(a.stride[1], a.dilation[1]);
    let (first, end) = (a.origin.c, a.origin.c + a.output_shape.c);
    for n in 0..a.output_shape.n {
        for rows in Lattice::all(a, 0) {
            for columns in Lattice::all(a, 1) {
                let grid = Grid::<f32>::new(a, n, rows, columns);
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
                                    (1, true, true) => taps::<S, OW, Inside, Whole, NOT_REPEATED>(s, a, &grid, at),
                                    (1, true, false) => taps::<S, OW, Inside, Masked, NOT_REPEATED>(s, a, &grid, at),
                                    (1, false, true) => taps::<S, OW, Edges, Whole, NOT_REPEATED>(s, a, &grid, at),
                                    (1, false, false) => taps::<S, OW, Edges, Masked, NOT_REPEATED>(s, a, &grid, at),
                                    (_, true, _) => taps::<S, OW, Inside, Masked, REPEATED>(s, a, &grid, at),
                                    (_, false, _) => taps::<S, OW, Edges, Masked, REPEATED>(s, a, &grid, at),
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

/// Several output channels share an input channel.
const REPEATED: bool = true;
/// Each output channel has an input channel of its own.
const NOT_REPEATED: bool = false;

/// Up to `OW` outputs.
///
/// # Safety
/// 1. The lanes of the outputs `at` exist.
/// 2. If `B` is [`Inside`], all points under their taps lie in the input.
#[inline(always)]
unsafe fn taps<S: Simd, const OW: usize, B: Border, L: Lanes, const REPEAT: bool>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid<f32>,
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
            // Stepped, as products would take longer than the multiply-adds.
            let step = at.sw.wrapping_mul(grid.input_column);
            let mut first = grid.point(y, at.x * at.sw).wrapping_add(channel);
            for kx in 0..kw {
                if kx > 0 {
                    first = first.wrapping_add(grid.input_column);
                }
                weights = weights.wrapping_add(S::LANES);
                let k = s.load(weights);
                for ox in 0..OW {
                    let x = (at.x + ox) * at.sw + kx;
                    let p = if !B::PADDED {
                        first.wrapping_add(ox.wrapping_mul(step))
                    } else if row && grid.columns.has(x) {
                        grid.point(y, x).wrapping_add(channel)
                    } else {
                        a.zeros
                    };
                    let v = if REPEAT { s.load_repeated(p, channels, index) } else { L::load(s, p, at.mask) };
                    acc[ox] = s.mul_add(v, k, acc[ox]);
                }
            }
        }
        let bounded =
            S::TIGHT_PIPES && L::ALL && bound(s, a.bounds, grid.residual.is_some(), core::array::from_mut(&mut acc));
        for ox in 0..OW {
            if !B::PADDED || ox < at.wide {
                let (output, residual) = grid.result(at.y, at.x + ox, at.c);
                if S::TIGHT_PIPES && bounded {
                    L::store(s, output, at.mask, acc[ox]);
                } else {
                    finish::<S, L, _>(s, a.bounds, acc[ox], at.mask, output, (residual, 0));
                }
            }
        }
    }
}
