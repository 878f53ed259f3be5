//! Depthwise convolution, channels first, two rows in a vector: for maps of short rows, such as 7×7, of which one would leave half of
//! it empty.
//!
//! A step takes as many columns as half a vector has lanes, or fewer, so that all of their taps lie in one vector of each row.

use core::marker::PhantomData;

use super::{Plane, in_row};
use crate::depthwise::window::Window;
use crate::depthwise::{DepthwiseArgs, Lattice, info};
use crate::info::{Form, KernelInfo};
use crate::simd::{Masked, Permute};
use crate::table::Algorithm;
use crate::types::Layout;

/// Tiles of eight rows by half a vector, of six, four or two rows where that is all.
pub(crate) struct Pairs<W>(PhantomData<W>);

impl<S: Permute, W: Window> Algorithm<S> for Pairs<W> {
    type Args = DepthwiseArgs;
    const INFO: KernelInfo = info::<S, f32>(Layout::Nchw, Form::Pairs, Some(W::ALL), [8, S::LANES / 2]);

    #[inline(always)]
    unsafe fn run(s: S, a: &DepthwiseArgs) {
        let (grids, width) = (Lattice::all_again(a, 0), a.output_shape.w);
        let step = Columns::<S, W>::most(a.dilation[1]);
        for x in (0..width).step_by(step) {
            let columns = Columns::<S, W>::new(s, a, x, step.min(width - x));
            for n in 0..a.output_shape.n {
                for c in 0..a.output_shape.c {
                    for rows in grids.clone() {
                        let plane = Plane::new(a, n, c, rows);
                        // SAFETY: 1. The caller's. 2. The part has these columns, and `rows` or those below the last.
                        unsafe {
                            match rows.outputs {
                                ..=2 => pairs::<S, W, 1>(s, a, &plane, &columns, 0),
                                3..=4 => pairs::<S, W, 2>(s, a, &plane, &columns, 0),
                                5..=6 => pairs::<S, W, 3>(s, a, &plane, &columns, 0),
                                outputs => {
                                    for y in (0..outputs).step_by(8) {
                                        pairs::<S, W, 4>(s, a, &plane, &columns, y);
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

/// Columns, of which a vector takes two rows.
struct Columns<S: Permute, W: Window> {
    /// The first output column of the part.
    x: usize,
    /// The input column under the first tap, negative in the padding.
    start: isize,
    /// Of a vector from `start` on, the lanes that lie in the input.
    row: S::Mask,
    /// Of two such vectors, the lanes under each kernel column.
    taps: W::Across<S::Index>,
    /// The outputs of each row.
    outputs: [S::Mask; 2],
}

impl<S: Permute, W: Window> Columns<S, W> {
    /// As many columns as have all of their taps in one vector, half a vector at the most.
    #[inline(always)]
    fn most(dilation: usize) -> usize {
        debug_assert!((W::KW - 1) * dilation < S::LANES);
        ((S::LANES - 1 - (W::KW - 1) * dilation) / W::SW + 1).min(S::LANES / 2)
    }

    #[inline(always)]
    fn new(s: S, a: &DepthwiseArgs, x: usize, width: usize) -> Self {
        let start = ((a.origin.w + x) * W::SW) as isize - a.pad[1] as isize;
        let half = S::LANES / 2;
        let mut taps = W::across(s.index(|_| 0));
        for kx in 0..W::KW {
            // The upper half of the lanes picks from the second row.
            taps[kx] = s.index(|i| i / half * S::LANES + kx * a.dilation[1] + i % half * W::SW);
        }
        let row = in_row(s, start, 1, a.input_shape.w, S::LANES);
        Self { x, start, row, taps, outputs: [0, half].map(|from| s.mask(from, from + width)) }
    }
}

/// Twice `N` rows, of which some may not exist, two in each vector.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. The part has these columns.
#[inline(always)]
unsafe fn pairs<S: Permute, W: Window, const N: usize>(
    s: S,
    a: &DepthwiseArgs,
    plane: &Plane,
    columns: &Columns<S, W>,
    y: usize,
) {
    const { assert!(W::SH == 1 || W::SH == 2) };
    // SAFETY: loads are masked to the lanes that lie in the input; rows outside of it are zeros, and as long.
    unsafe {
        let load = |i: usize| s.load_masked(plane.at_or_zeros::<S>(y * W::SH + i, columns.start), columns.row);
        let mut acc = [s.splat(*plane.weights); N];
        let mut upper = [load(0), load(W::SH - 1)];
        for i in 0..(2 * N - 2) * W::SH + W::KH {
            // The row of the second output is a stride below that of the first.
            let lower = load(i + W::SH);
            let mut inputs = W::across(lower);
            for kx in 0..W::KW {
                inputs[kx] = s.pick(upper[i % W::SH], lower, columns.taps[kx]);
            }
            upper[i % W::SH] = lower;
            for p in 0..N {
                if i >= 2 * p * W::SH && i - 2 * p * W::SH < W::KH {
                    for kx in 0..W::KW {
                        let k = s.splat(*plane.weights.wrapping_add(1 + (i - 2 * p * W::SH) * W::KW + kx));
                        acc[p] = s.mul_add(inputs[kx], k, acc[p]);
                    }
                }
            }
        }
        for p in 0..N {
            for half in 0..2 {
                let y = y + 2 * p + half;
                if y < plane.rows.outputs {
                    let x = columns.x.wrapping_sub(half * S::LANES / 2);
                    plane.finish::<S, Masked>(s, a, [y, x], columns.outputs[half], acc[p]);
                }
            }
        }
    }
}
