//! How kernels channels first reach the taps of a row: by a load for each, at stride 2 for every other, or by picking lanes of few
//! loads.
//!
//! Picked taps come from vectors that start under one of the taps, the lead. Stride 2 splits pairs of vectors into even and odd
//! columns, the phases.

use super::{Plane, in_row};
use crate::depthwise::window::Window;
use crate::depthwise::{Border, DepthwiseArgs, Lattice};
use crate::simd::{Lanes, Simd};
#[cfg(isa = "avx512")]
use crate::simd::{Masked, Permute};

/// How a row of the table reaches its taps.
pub(crate) trait Taps<S: Simd> {
    /// Computes all planes by `A`, in the way that dilation and padding call for.
    ///
    /// # Safety
    /// 1. As [`Algorithm::run`](crate::table::Algorithm::run).
    unsafe fn planes<W: Window, A: PerPlane<S>>(s: S, a: &DepthwiseArgs);
}

/// A load for each tap, whatever the dilation; at stride 2 without dilation.
pub(crate) struct Loaded;

impl<S: Simd> Taps<S> for Loaded {
    #[inline(always)]
    unsafe fn planes<W: Window, A: PerPlane<S>>(s: S, a: &DepthwiseArgs) {
        // SAFETY: the caller's.
        unsafe { planes::<S, W, Loaded, A>(s, a) }
    }
}

/// Lanes are picked where columns are not dilated, as at stride 2 they never are; else a load for each.
#[cfg(isa = "avx512")]
pub(crate) struct Picked;

#[cfg(isa = "avx512")]
impl<S: Permute> Taps<S> for Picked {
    #[inline(always)]
    unsafe fn planes<W: Window, A: PerPlane<S>>(s: S, a: &DepthwiseArgs) {
        // SAFETY: the caller's.
        unsafe {
            // At stride 2, pairs of columns start in step with the row, so that loads of many rows are whole cache lines. At
            // stride 1 a vector less is loaded instead.
            if W::SW == 1 {
                if a.dilation[1] == 1 { planes::<S, W, First, A>(s, a) } else { planes::<S, W, Loaded, A>(s, a) }
            } else if a.pad[1] % 2 == W::KW / 2 % 2 {
                planes::<S, W, Middle, A>(s, a)
            } else {
                planes::<S, W, Before, A>(s, a)
            }
        }
    }
}

/// Taps that are picked from loads that start under the first one, …
#[cfg(isa = "avx512")]
pub(super) struct First;
/// … under the middle one, …
#[cfg(isa = "avx512")]
pub(super) struct Middle;
/// … or under the one before that.
#[cfg(isa = "avx512")]
pub(super) struct Before;

/// What is done with a plane.
pub(crate) trait PerPlane<S: Simd> {
    /// The vectors of a tile's columns: one or two.
    const VECTORS: usize;

    /// Computes it, in those columns.
    ///
    /// # Safety
    /// 1. As [`Algorithm::run`](crate::table::Algorithm::run).
    /// 2. The part has these columns.
    unsafe fn plane<W: Window, R: Reach<S>>(s: S, a: &DepthwiseArgs, plane: &Plane, tiles: &[Columns<S, W>]);
}

/// Tiles of a row whose columns are worked out before the rows are: enough for 256 columns of sixteen lanes.
const TILES: usize = 8;

/// # Safety
/// 1. As [`Algorithm::run`](crate::table::Algorithm::run).
#[inline(always)]
unsafe fn planes<S: Simd, W: Window, R: Reach<S>, A: PerPlane<S>>(s: S, a: &DepthwiseArgs) {
    const { assert!(W::SW == 1 || W::SW == 2) };
    let (width, grids) = (a.output_shape.w, Lattice::all_again(a, 0));
    let wide = A::VECTORS * S::LANES;
    for x in (0..width).step_by(TILES * wide) {
        let mut tiles = [Columns::new::<R>(s, a, x, A::VECTORS); TILES];
        for t in 1..TILES {
            if x + t * wide < width {
                tiles[t] = Columns::new::<R>(s, a, x + t * wide, A::VECTORS);
            }
        }
        let tiles = &tiles[..TILES.min((width - x).div_ceil(wide))];
        for n in 0..a.output_shape.n {
            for c in 0..a.output_shape.c {
                for rows in grids.clone() {
                    // SAFETY: 1. The caller's. 2. They are within the width.
                    unsafe { A::plane::<W, R>(s, a, &Plane::new(a, n, c, rows), tiles) }
                }
            }
        }
    }
}

/// The columns of a tile of up to two vectors: the same for all of its rows, and for all planes.
pub(crate) struct Columns<S: Simd, W: Window> {
    /// The first output column of the part.
    pub(super) x: usize,
    /// How many vectors hold outputs.
    pub(super) vectors: usize,
    /// See [`apart`](Self::apart).
    apart: usize,
    /// The input column under tap 0, or, where taps are picked, under the lead; negative in the padding.
    start: isize,
    /// All loads of two vectors lie in the input, and all outputs exist: of tiles, not of what rolls.
    pub(super) inside: bool,
    /// For each vector and kernel column, the lanes that lie in the input. At stride 2, of the first of the two vectors
    /// that the tap and the next are split from …
    lanes: [W::Across<S::Mask>; 2],
    /// … and of the second.
    more: [W::Across<S::Mask>; 2],
    /// Where taps are picked instead: of vectors from the one before `start` on, the lanes that lie in the input.
    row: [S::Mask; 6],
    pub(super) outputs: [S::Mask; 2],
}

impl<S: Simd, W: Window> Clone for Columns<S, W> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Simd, W: Window> Copy for Columns<S, W> {}

impl<S: Simd, W: Window> Columns<S, W> {
    /// Columns from a vector's first output to the next one's.
    #[inline(always)]
    pub(super) fn apart<L: Lanes>(&self) -> usize {
        if L::ALL || !S::SLOW_MASKED_STORES { S::LANES } else { self.apart }
    }

    /// The tile at output column `x` of the part: empty at its end.
    ///
    /// Where masked stores are slow, the last vector is moved back rather than cut, if the row has as many columns: some outputs are
    /// computed twice.
    #[inline(always)]
    fn new<R: Reach<S>>(s: S, a: &DepthwiseArgs, x: usize, vectors: usize) -> Self {
        let (width, dilation, outputs) = (a.input_shape.w, a.dilation[1], a.output_shape.w);
        let vectors = outputs.saturating_sub(x).div_ceil(S::LANES).min(vectors);
        let (mut x, mut apart) = (x, S::LANES);
        if S::SLOW_MASKED_STORES && vectors > 0 && outputs - x < vectors * S::LANES && outputs >= S::LANES {
            if outputs >= vectors * S::LANES {
                x = outputs - vectors * S::LANES;
            } else {
                apart = outputs - S::LANES;
            }
        }
        let start = ((a.origin.w + x) * W::SW) as isize - a.pad[1] as isize + R::lead(W::KW) as isize;
        let reach = if R::PICKS {
            3 * S::LANES
        } else {
            // At stride 2, vectors are read up to the odd column after the last that is needed.
            (2 * S::LANES - 1) * W::SW + (W::KW - 1) * dilation + W::SW
        };
        let rest = outputs.saturating_sub(x);
        let mut columns = Self {
            x,
            vectors,
            apart,
            start,
            inside: start >= 0 && start as usize + reach <= width && rest >= 2 * S::LANES,
            lanes: [W::across(s.mask(0, 0)); 2],
            more: [W::across(s.mask(0, 0)); 2],
            row: [s.mask(0, 0); 6],
            outputs: [s.mask(0, rest.min(S::LANES)), s.mask(0, rest.saturating_sub(apart).min(S::LANES))],
        };
        // Of these, the masks that the tiles use.
        let in_row = |first: isize, lanes: usize| in_row(s, first, 1, width, lanes);
        if R::PICKS {
            for v in 0..2 * W::SW + 2 {
                columns.row[v] = in_row(start + (v * S::LANES) as isize - S::LANES as isize, S::LANES);
            }
        } else {
            for v in 0..2 {
                for kx in 0..W::KW {
                    let first = start + (v * apart * W::SW + kx * dilation) as isize;
                    columns.lanes[v][kx] = in_row(first, S::LANES);
                    if W::SW == 2 {
                        columns.more[v][kx] = in_row(first + S::LANES as isize, S::LANES);
                    }
                }
            }
        }
        columns
    }
}

/// The inputs under each tap of a row, for up to two vectors of outputs.
pub(super) type Inputs<S, W, const NV: usize> = <W as Window>::Across<[<S as Simd>::V; NV]>;

/// How the taps of a row are reached.
pub(crate) trait Reach<S: Simd> {
    /// Whether they are picked from loads that start under the lead.
    const PICKS: bool;
    /// What is loaded of a row before its taps are picked.
    type Row: Copy;

    /// The tap, of `k` in a row, that loads start under.
    fn lead(k: usize) -> usize;

    /// The inputs of the row of points `point`, of a tile, to `inputs`, in whose place LLVM keeps them better than in a result.
    ///
    /// # Safety
    /// 1. As [`Algorithm::run`](crate::table::Algorithm::run).
    /// 2. If `B` is [`Inside`](crate::depthwise::Inside), the row lies in the input; if `L` is whole, the columns are `inside`.
    unsafe fn tile<W: Window, B: Border, L: Lanes, const NV: usize>(
        s: S,
        a: &DepthwiseArgs,
        plane: &Plane,
        point: usize,
        columns: &Columns<S, W>,
        inputs: &mut Inputs<S, W, NV>,
    );

    /// What is loaded of the row of points `point`, of a strip. The row may lie in the padding.
    ///
    /// # Safety
    /// 1. As [`Algorithm::run`](crate::table::Algorithm::run).
    #[cfg(isa = "avx512")]
    unsafe fn load<W: Window, const NV: usize>(
        s: S,
        a: &DepthwiseArgs,
        plane: &Plane,
        point: usize,
        columns: &Columns<S, W>,
    ) -> Self::Row;

    /// The inputs, of that.
    #[cfg(isa = "avx512")]
    fn pick<W: Window, const NV: usize>(s: S, row: &Self::Row) -> Inputs<S, W, NV>;
}

impl<S: Simd> Reach<S> for Loaded {
    const PICKS: bool = false;
    /// Of each tap, the vectors.
    type Row = [[S::V; 2]; 7];

    #[inline(always)]
    fn lead(_: usize) -> usize {
        0
    }

    #[inline(always)]
    unsafe fn tile<W: Window, B: Border, L: Lanes, const NV: usize>(
        s: S,
        a: &DepthwiseArgs,
        plane: &Plane,
        point: usize,
        columns: &Columns<S, W>,
        inputs: &mut Inputs<S, W, NV>,
    ) {
        let (row, valid) = (plane.at(point, columns.start), !B::PADDED || plane.rows.has(point));
        let apart = columns.apart::<L>();
        for v in 0..NV {
            for kx in (0..W::KW).step_by(W::SW) {
                let p = row.wrapping_add(v * apart * W::SW + kx * a.dilation[1]);
                // SAFETY: the row lies in the input, or no lane is read; the columns do, or they are masked to those that do.
                unsafe {
                    let first = L::load(s, p, s.mask_if(valid, columns.lanes[v][kx]));
                    if W::SW == 1 {
                        inputs[kx][v] = first;
                    } else {
                        let more = L::load(s, p.wrapping_add(S::LANES), s.mask_if(valid, columns.more[v][kx]));
                        let (even, odd) = s.unzip(first, more);
                        inputs[kx][v] = even;
                        if kx + 1 < W::KW {
                            inputs[kx + 1][v] = odd;
                        }
                    }
                }
            }
        }
    }

    #[cfg(isa = "avx512")]
    #[inline(always)]
    unsafe fn load<W: Window, const NV: usize>(
        s: S,
        a: &DepthwiseArgs,
        plane: &Plane,
        point: usize,
        columns: &Columns<S, W>,
    ) -> Self::Row {
        debug_assert!(W::SW == 1 && W::KW <= 7, "at stride 2 taps are picked");
        let mut inputs = [[s.splat(0.0); 2]; 7];
        // In a row of zeros, all taps are one.
        let row = plane.at_or_zeros::<S>(point, columns.start);
        let step = if plane.rows.has(point) { a.dilation[1] } else { 0 };
        for v in 0..NV {
            for kx in 0..W::KW {
                // SAFETY: masked to the lanes that lie in the input; a row outside of it is zeros, and as long.
                inputs[kx][v] =
                    unsafe { s.load_masked(row.wrapping_add(v * S::LANES + kx * step), columns.lanes[v][kx]) };
            }
        }
        inputs
    }

    #[cfg(isa = "avx512")]
    #[inline(always)]
    fn pick<W: Window, const NV: usize>(s: S, row: &Self::Row) -> Inputs<S, W, NV> {
        let mut inputs = W::across([s.splat(0.0); NV]);
        for kx in 0..W::KW {
            inputs[kx].copy_from_slice(&row[kx][..NV]);
        }
        inputs
    }
}

/// The ways that pick, by their lead.
#[cfg(isa = "avx512")]
macro_rules! picks {
    ($($way:ident: |$k:ident| $lead:expr;)*) => {$(
        impl<S: Permute> Reach<S> for $way {
            const PICKS: bool = true;
            /// Of each phase, the vectors under those of outputs, and one on either side.
            type Row = [[S::V; 4]; 2];

            #[inline(always)]
            fn lead($k: usize) -> usize {
                $lead
            }

            #[inline(always)]
            unsafe fn tile<W: Window, B: Border, L: Lanes, const NV: usize>(
                s: S,
                _: &DepthwiseArgs,
                plane: &Plane,
                point: usize,
                columns: &Columns<S, W>,
                inputs: &mut Inputs<S, W, NV>,
            ) {
                let start = columns.start;
                let row = if B::PADDED { plane.at_or_zeros::<S>(point, start) } else { plane.at(point, start) };
                // SAFETY: the row lies in the input or is zeros, and as long; the columns do, or are masked to those that do.
                let row = unsafe { phases::<S, W, L, NV>(s, row, columns, <Self as Reach<S>>::lead(W::KW)) };
                *inputs = Self::pick::<W, NV>(s, &row);
            }

            #[inline(always)]
            unsafe fn load<W: Window, const NV: usize>(
                s: S,
                _: &DepthwiseArgs,
                plane: &Plane,
                point: usize,
                columns: &Columns<S, W>,
            ) -> Self::Row {
                let row = plane.at_or_zeros::<S>(point, columns.start);
                // SAFETY: masked to the lanes that lie in the input; a row outside of it is zeros, and as long.
                unsafe { phases::<S, W, Masked, NV>(s, row, columns, <Self as Reach<S>>::lead(W::KW)) }
            }

            #[inline(always)]
            fn pick<W: Window, const NV: usize>(s: S, row: &Self::Row) -> Inputs<S, W, NV> {
                picked::<S, W, NV>(s, row, <Self as Reach<S>>::lead(W::KW))
            }
        }
    )*};
}

#[cfg(isa = "avx512")]
picks! {
    First: |_k| 0;
    Middle: |k| k / 2;
    Before: |k| k / 2 - 1;
}

/// Of each phase of the columns, the vectors under `NV` vectors of outputs, with one on either side, of which the lanes next to
/// them count; `row`: of the column that loads start at, and with taps before it a vector earlier.
///
/// # Safety
/// 1. The lanes of the vectors from the one before `row` on that the columns' masks select, or all if `L` is whole, can be read.
#[cfg(isa = "avx512")]
#[inline(always)]
unsafe fn phases<S: Permute, W: Window, L: Lanes, const NV: usize>(
    s: S,
    row: *const f32,
    columns: &Columns<S, W>,
    lead: usize,
) -> [[S::V; 4]; 2] {
    // From the vector before on; the first and the last only where a tap reaches there.
    let (first, end) = (if lead > 0 { 0 } else { 1 }, NV * W::SW + if W::KW > lead + W::SW { 2 } else { 1 });
    let mut vectors = [s.splat(0.0); 6];
    for i in first..end {
        let p = row.wrapping_add(i * S::LANES).wrapping_sub(S::LANES);
        // SAFETY: the caller's.
        vectors[i] = unsafe { L::load(s, p, columns.row[i]) };
    }
    let mut phases = [[s.splat(0.0); 4]; 2];
    if W::SW == 1 {
        phases[0].copy_from_slice(&vectors[..4]);
    } else {
        (phases[0][0], phases[1][0]) = s.unzip_ends(vectors[0]);
        for v in 0..NV {
            (phases[0][v + 1], phases[1][v + 1]) = s.unzip(vectors[2 * v + 1], vectors[2 * v + 2]);
        }
        (phases[0][NV + 1], phases[1][NV + 1]) = s.unzip_ends(vectors[2 * NV + 1]);
    }
    phases
}

/// The inputs under each kernel column, of those.
#[cfg(isa = "avx512")]
#[inline(always)]
fn picked<S: Permute, W: Window, const NV: usize>(s: S, phases: &[[S::V; 4]; 2], lead: usize) -> Inputs<S, W, NV> {
    const { assert!(W::KW <= 7) };
    let mut inputs = W::across([s.splat(0.0); NV]);
    // Written out, as shifts must be known.
    macro_rules! each {
        ($($kx:literal)*) => {$(if $kx < W::KW {
            let distance = $kx - lead as isize;
            let (phase, by) = (distance.rem_euclid(W::SW as isize) as usize, distance.div_euclid(W::SW as isize));
            for v in 0..NV {
                let [before, here, after] = [0, 1, 2].map(|i| phases[phase][v + i]);
                inputs[$kx][v] = match by {
                    0 => here,
                    ..0 => s.shift(before, here, S::LANES - by.unsigned_abs()),
                    1.. => s.shift(here, after, by.unsigned_abs()),
                };
            }
        })*};
    }
    each!(0 1 2 3 4 5 6);
    inputs
}
