//! Depthwise convolution, channels first, in tiles.
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
//! Tiles of one vector are for maps that are no wider. They are taller, as fewer sums would not hide the latency of multiply-adds.

use core::marker::PhantomData;

use super::Plane;
use super::taps::{Columns, PerPlane, Reach, Taps};
use crate::depthwise::window::Window;
use crate::depthwise::{Border, DepthwiseArgs, Edges, Inside, info};
use crate::epilogue::bound;
use crate::info::{Form, KernelInfo};
use crate::simd::{Lanes, Masked, Simd, Whole};
use crate::table::Algorithm;
use crate::types::Layout;

/// Tiles of `OH` rows by `NV` vectors, by one at the end of a row. `T`: how taps are reached.
pub(crate) struct Tile<W, T, const OH: usize, const NV: usize>(PhantomData<(W, T)>);

impl<S: Simd, W: Window, T: Taps<S>, const OH: usize, const NV: usize> Algorithm<S> for Tile<W, T, OH, NV> {
    type Args = DepthwiseArgs;
    const INFO: KernelInfo = info::<S, f32>(Layout::Nchw, Form::Tile, Some(W::ALL), [OH, NV * S::LANES]);

    #[inline(always)]
    unsafe fn run(s: S, a: &DepthwiseArgs) {
        // SAFETY: the caller's.
        unsafe { T::planes::<W, Self>(s, a) }
    }
}

impl<S: Simd, V: Window, T, const OH: usize, const NV: usize> PerPlane<S> for Tile<V, T, OH, NV> {
    const VECTORS: usize = NV;

    #[inline(always)]
    unsafe fn plane<W: Window, R: Reach<S>>(s: S, a: &DepthwiseArgs, plane: &Plane, tiles: &[Columns<S, W>]) {
        const { assert!(NV == 1 || NV == 2) };
        let outputs = plane.rows.outputs;
        let whole_rows = plane.whole_rows::<S>(a);
        if NV == 1 {
            for columns in tiles {
                // SAFETY: 1. The caller's. 2. They exist.
                unsafe {
                    match outputs {
                        rows if rows >= OH => column::<S, W, R, OH>(s, a, plane, columns, whole_rows),
                        // Of so few rows, as many at a time as tiles of two vectors have.
                        4.. => column::<S, W, R, 4>(s, a, plane, columns, whole_rows),
                        _ => column::<S, W, R, 1>(s, a, plane, columns, whole_rows),
                    }
                }
            }
            return;
        }
        let whole = outputs >= OH;
        for y in (0..outputs).step_by(if whole { OH } else { 1 }) {
            // The last tile is moved up rather than cut: some outputs are computed twice.
            let y = if whole { y.min(outputs - OH) } else { y };
            let inside = plane.rows.holds(y * W::SH, (OH - 1) * W::SH + W::KH);
            for columns in tiles {
                // SAFETY: 1. The caller's. 2. `whole` and `vectors` say that they exist. 3. Both were asked. 4. The plane says it.
                unsafe {
                    match (whole, inside, columns.inside, columns.vectors) {
                        (true, true, true, _) => {
                            tile::<S, W, R, Inside, Whole, OH, NV>(s, a, plane, columns, y, whole_rows)
                        }
                        (true, true, false, 2) => {
                            tile::<S, W, R, Inside, Masked, OH, NV>(s, a, plane, columns, y, whole_rows)
                        }
                        (true, true, false, _) => {
                            tile::<S, W, R, Inside, Masked, OH, 1>(s, a, plane, columns, y, whole_rows)
                        }
                        (true, false, _, 2) => {
                            tile::<S, W, R, Edges, Masked, OH, NV>(s, a, plane, columns, y, whole_rows)
                        }
                        (true, false, _, _) => {
                            tile::<S, W, R, Edges, Masked, OH, 1>(s, a, plane, columns, y, whole_rows)
                        }
                        (false, _, _, 2) => tile::<S, W, R, Edges, Masked, 1, NV>(s, a, plane, columns, y, whole_rows),
                        (false, _, _, _) => tile::<S, W, R, Edges, Masked, 1, 1>(s, a, plane, columns, y, whole_rows),
                    }
                }
            }
        }
    }
}

/// All rows by one vector, `OH` at a time, which are no more than there are.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. The columns are one vector.
#[inline(always)]
unsafe fn column<S: Simd, W: Window, R: Reach<S>, const OH: usize>(
    s: S,
    a: &DepthwiseArgs,
    plane: &Plane,
    columns: &Columns<S, W>,
    whole_rows: usize,
) {
    for y in (0..plane.rows.outputs).step_by(OH) {
        // As above.
        let y = y.min(plane.rows.outputs - OH);
        // SAFETY: the caller's; the plane says of which rows vectors are whole.
        unsafe { tile::<S, W, R, Edges, Masked, OH, 1>(s, a, plane, columns, y, whole_rows) }
    }
}

/// `OH` rows by `NV` vectors.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. The part has these rows, and the columns so many vectors.
/// 3. If `B` is [`Inside`], all input rows lie in the input; if `L` is [`Whole`], the columns are `inside`.
/// 4. Of rows before `whole_rows` whole vectors can be written, and read of a residual.
#[inline(always)]
unsafe fn tile<S: Simd, W: Window, R: Reach<S>, B: Border, L: Lanes, const OH: usize, const NV: usize>(
    s: S,
    a: &DepthwiseArgs,
    plane: &Plane,
    columns: &Columns<S, W>,
    y: usize,
    whole_rows: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [[s.splat(*plane.weights); NV]; OH];
        for iy in 0..(OH - 1) * W::SH + W::KH {
            let mut inputs = W::across([s.splat(0.0); NV]);
            R::tile::<W, B, L, NV>(s, a, plane, y * W::SH + iy, columns, &mut inputs);
            for oy in 0..OH {
                if iy >= oy * W::SH && iy - oy * W::SH < W::KH {
                    let ky = iy - oy * W::SH;
                    for kx in 0..W::KW {
                        let k = s.splat(*plane.weights.wrapping_add(1 + ky * W::KW + kx));
                        for v in 0..NV {
                            acc[oy][v] = s.mul_add(inputs[kx][v], k, acc[oy][v]);
                        }
                    }
                }
            }
        }
        // Masked stores in a second place would take longer than bounds.
        let bounded = S::TIGHT_PIPES && L::ALL && bound(s, a.bounds, plane.residual.is_some(), &mut acc);
        let apart = columns.apart::<L>();
        for oy in 0..OH {
            let is_whole = L::ALL || S::SLOW_MASKED_STORES && y + oy < whole_rows;
            for v in 0..NV {
                let (at, outputs) = ([y + oy, columns.x + v * apart], columns.outputs[v]);
                if S::TIGHT_PIPES && bounded {
                    L::store(s, plane.result(y + oy, at[1]), outputs, acc[oy][v]);
                } else if is_whole {
                    plane.finish::<S, Whole>(s, a, at, outputs, acc[oy][v]);
                } else {
                    plane.finish::<S, Masked>(s, a, at, outputs, acc[oy][v]);
                }
            }
        }
    }
}
