//! Depthwise convolution, channels first, rolling down the rows: where taps come from few loads, and the rows that an input row feeds
//! fit the registers.

use core::marker::PhantomData;

use super::Plane;
use super::taps::{Columns, PerPlane, Reach, Taps};
use crate::depthwise::window::Window;
use crate::depthwise::{DepthwiseArgs, info};
use crate::info::{Form, KernelInfo};
use crate::simd::{Masked, Simd, Whole, opaque};
use crate::table::Algorithm;
use crate::types::Layout;

/// Strips of up to two vectors. `T`: how taps are reached.
pub(crate) struct Rolling<W, T>(PhantomData<(W, T)>);

impl<S: Simd, W: Window, T: Taps<S>> Algorithm<S> for Rolling<W, T> {
    type Args = DepthwiseArgs;
    const INFO: KernelInfo = info::<S, f32>(Layout::Nchw, Form::Rolling, Some(W::ALL), [1, 2 * S::LANES]);

    #[inline(always)]
    unsafe fn run(s: S, a: &DepthwiseArgs) {
        // SAFETY: the caller's.
        unsafe { T::planes::<W, Self>(s, a) }
    }
}

impl<S: Simd, V: Window, T> PerPlane<S> for Rolling<V, T> {
    const VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn plane<W: Window, R: Reach<S>>(s: S, a: &DepthwiseArgs, plane: &Plane, tiles: &[Columns<S, W>]) {
        for columns in tiles {
            // SAFETY: 1. The caller's. 2. `vectors` says how many there are.
            unsafe {
                match columns.vectors {
                    2 => roll::<S, W, R, 2>(s, a, plane, *columns),
                    _ => roll::<S, W, R, 1>(s, a, plane, *columns),
                }
            }
        }
    }
}

/// All rows by `NV` vectors: holds the output rows that an input row feeds, as many as the window has rows, or at stride 2 half as many,
/// so that the taps of an input row are loaded and picked once. With the last input row that it needs, the oldest of them is complete.
/// `columns` is a copy, so that masks stay in registers, as far as they fit.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. The columns have so many vectors.
#[inline(always)]
unsafe fn roll<S: Simd, W: Window, R: Reach<S>, const NV: usize>(
    s: S,
    a: &DepthwiseArgs,
    plane: &Plane,
    columns: Columns<S, W>,
) {
    let (height, held) = (plane.rows.outputs, W::KH.div_ceil(W::SH));
    // SAFETY: the caller's.
    unsafe {
        // Held row `r` is output `y - r`. Before the first output and behind the last, there are some that nobody asked for.
        let mut acc = W::across([s.splat(0.0); NV]);
        const { assert!(W::KH <= W::KW) };
        macro_rules! load {
            ($iy:expr) => {
                R::load::<W, NV>(s, a, plane, $iy, &columns)
            };
        }
        // At stride 2, the next row is loaded and split meanwhile; for 7×7 there are no registers.
        let ahead = W::SW == 2 && W::KW < 7;
        let mut next = None;
        if ahead {
            next = Some(load!(0));
        }
        for y in 0..height + held - 1 {
            // Opaque, lest LLVM keep all weights in registers, which are too few.
            let (weights, _) = opaque(plane.weights, 0);
            for r in (1..held).rev() {
                acc[r] = acc[r - 1];
            }
            acc[0] = [s.splat(*weights); NV];
            for i in 0..W::SH {
                let iy = y * W::SH + i;
                let inputs;
                if let Some(row) = next {
                    inputs = R::pick::<W, NV>(s, &row);
                    next = Some(load!(iy + 1));
                } else {
                    inputs = R::pick::<W, NV>(s, &load!(iy));
                }
                for r in 0..held {
                    // Of many taps LLVM would load the weights too early, did it not have to ask whether the output exists.
                    if i + r * W::SH < W::KH && (W::KH == 3 || (y >= r && y < height + r)) {
                        for kx in 0..W::KW {
                            let k = s.splat_for(NV, weights.wrapping_add(1 + (i + r * W::SH) * W::KW + kx));
                            for v in 0..NV {
                                acc[r][v] = s.mul_add(inputs[kx][v], k, acc[r][v]);
                            }
                        }
                    }
                }
            }
            if y + 1 >= held {
                for v in 0..NV {
                    let (at, outputs) = ([y + 1 - held, columns.x + v * S::LANES], columns.outputs[v]);
                    // The vector before the last is whole.
                    if v + 1 < NV {
                        plane.finish::<S, Whole>(s, a, at, outputs, acc[held - 1][v]);
                    } else {
                        plane.finish::<S, Masked>(s, a, at, outputs, acc[held - 1][v]);
                    }
                }
            }
        }
    }
}
