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
    let sh = undilated_stride(a.stride[0], a.dilation[0]);
    let sw = undilated_stride(a.stride[1], a.dilation[1]);
    let (first, end) = (a.origin.c, a.origin.c + a.output_shape.c);
    for n in 0..a.output_shape.n {
        for rows in Lattice::all(a, 0) {
            for columns in Lattice::all(a, 1) {
                let grid = Grid::<f32>::new(a, n, rows, columns);
                for y in 0..rows.outputs {
                    let mut x = 0;
                    while x < columns.outputs {
                        // At the end of a row few at a time, lest most are computed for nothing.
                        let row = Row { y, first, end, sw, sh };
                        // SAFETY: the caller's; the grid has these outputs.
                        x = unsafe {
                            if columns.outputs - x >= OW {
                                row.run::<S, OW>(s, a, &grid, x)
                            } else if columns.outputs - x > 2 {
                                row.run::<S, 4>(s, a, &grid, x)
                            } else {
                                row.run::<S, 1>(s, a, &grid, x)
                            }
                        };
                    }
                }
            }
        }
    }
}

/// A row of outputs, and its channels.
struct Row {
    y: usize,
    first: usize,
    end: usize,
    /// The undilated strides.
    sw: usize,
    sh: usize,
}

impl Row {
    /// Up to `OW` outputs from `x` on, of all channels. Returns the next output.
    ///
    /// # Safety
    /// 1. As [`Algorithm::run`].
    /// 2. The grid has output `x` of the row.
    #[inline(always)]
    unsafe fn run<S: Simd, const OW: usize>(&self, s: S, a: &DepthwiseArgs, grid: &Grid<f32>, x: usize) -> usize {
        let &Row { y, first, end, sw, sh } = self;
        let [kh, kw] = a.kernel_size;
        let wide = OW.min(grid.columns.outputs - x);
        let inside = wide == OW && grid.rows.holds(y * sh, kh) && grid.columns.holds(x * sw, (OW - 1) * sw + kw);
        let mut c = first / S::LANES * S::LANES;
        while c < end {
            let from = first.saturating_sub(c);
            let to = S::LANES.min(end - c);
            let full = to - from == S::LANES;
            let mask = s.mask(from, to);
            let at = At { y, x, wide, sw, sh, c, lanes: to, mask };
            // SAFETY: channels `c + from .. c + to` lie in the part; `inside` says that every point lies in the input, and
            // without it each is looked up.
            unsafe {
                match (a.multiplier, inside, full) {
                    (1, true, true) => taps::<S, OW, Inside, Whole, NOT_REPEATED>(s, a, grid, at),
                    (1, true, false) => taps::<S, OW, Inside, Masked, NOT_REPEATED>(s, a, grid, at),
                    (1, false, true) => taps::<S, OW, Edges, Whole, NOT_REPEATED>(s, a, grid, at),
                    (1, false, false) => taps::<S, OW, Edges, Masked, NOT_REPEATED>(s, a, grid, at),
                    (_, true, _) => taps::<S, OW, Inside, Masked, REPEATED>(s, a, grid, at),
                    (_, false, _) => taps::<S, OW, Edges, Masked, REPEATED>(s, a, grid, at),
                }
            }
            c += S::LANES;
        }
        x + wide
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
