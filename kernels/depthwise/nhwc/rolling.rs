//! Depthwise convolution, channels last, rolling down the columns: where the rows that an input row feeds fit the registers.
//!
//! A strip of up to `OW` columns by one vector of channels, with all of its rows:
//!
//! ```text
//! acc[R][OW] = bias                         the rows that an input row feeds
//! for each input row (at stride 2, each two):
//!     each input vector is loaded once, multiplied by every tap, and added to every row held;
//!     the first row held is complete: it is stored, the others move up, and another begins
//! ```
//!
//! So each input is loaded once, but for those between two strips, and few lines of a pixel's cache sets are in use at a
//! time: 9 of the input and 7 of the output for 3×3, where a tile of 2×7 takes 36 and 14. Strips are cut as evenly as the
//! map allows. At the border, each load takes one of two addresses, as those of tiles do.
//!
//! With few registers, an input is loaded again for each tap.
//!
//! Where a channel's inputs and outputs share cache sets, it may pay to have outputs wait in a buffer for the rows of the next vector
//! of channels, and so to write them one line behind what is read.

use core::marker::PhantomData;
use core::mem::MaybeUninit;

use super::grid::{Grid, or_zeros};
use super::strip::{Held, Strip, Walk, feed, strips};
use crate::depthwise::window::Window;
use crate::depthwise::{Border, DepthwiseArgs, Edges, Inside, MOST_STRIP_ROWS, info};
use crate::epilogue::{clamp, finish};
use crate::info::{Form, KernelInfo};
use crate::simd::{Lanes, Masked, Simd, Storage, Whole, opaque};
use crate::table::Algorithm;
use crate::types::{Element, Layout};

/// Strips of up to `OW` columns, of which `R` rows are held, as many as an input row feeds.
pub(crate) struct Rolling<E, W, const R: usize, const OW: usize>(PhantomData<(E, W)>);

impl<S: Storage<E>, E: Element, W: Window, const R: usize, const OW: usize> Algorithm<S> for Rolling<E, W, R, OW> {
    type Args = DepthwiseArgs;
    const INFO: KernelInfo = info::<S, E>(Layout::Nhwc, Form::Rolling, Some(W::ALL), [1, OW]);

    #[inline(always)]
    unsafe fn run(s: S, a: &DepthwiseArgs) {
        const { assert!(R == W::KH.div_ceil(W::SH) && R >= 2 && R <= 5) };
        // SAFETY: the caller's.
        unsafe { strips::<S, Self, OW>(s, a) }
    }
}

impl<S: Storage<E>, E: Element, W: Window, const R: usize, const MOST: usize> Walk<S> for Rolling<E, W, R, MOST> {
    type Element = E;
    type Window = W;

    #[inline(always)]
    unsafe fn strip<const OW: usize>(s: S, a: &DepthwiseArgs, grid: &Grid<E>, t: &Strip) {
        // SAFETY: the caller's.
        unsafe { channels::<S, E, W, R, OW>(s, a, grid, t) }
    }
}

/// As [`Rolling`], but outputs are written a vector of channels behind, where these are whole vectors and a strip is `OW` columns wide:
/// what the compiler knows of this leaves few copies of such code.
pub(crate) struct RollingBehind<W, const R: usize, const OW: usize>(PhantomData<W>);

impl<S: Simd, W: Window, const R: usize, const OW: usize> Algorithm<S> for RollingBehind<W, R, OW> {
    type Args = DepthwiseArgs;
    const INFO: KernelInfo = info::<S, f32>(Layout::Nhwc, Form::RollingBehind, Some(W::ALL), [1, OW]);

    #[inline(always)]
    unsafe fn run(s: S, a: &DepthwiseArgs) {
        const { assert!(R == W::KH.div_ceil(W::SH) && R >= 2 && R <= 5) };
        // SAFETY: the caller's.
        unsafe { strips::<S, Self, OW>(s, a) }
    }
}

impl<S: Simd, W: Window, const R: usize, const MOST: usize> Walk<S> for RollingBehind<W, R, MOST> {
    type Element = f32;
    type Window = W;

    #[inline(always)]
    unsafe fn strip<const OW: usize>(s: S, a: &DepthwiseArgs, grid: &Grid<f32>, t: &Strip) {
        let whole_vectors = (a.origin.c | a.output_shape.c).is_multiple_of(S::LANES);
        // SAFETY: the caller's; and for `behind`, 3. and 4. were asked.
        unsafe {
            if OW == MOST && whole_vectors && t.padding_at_edges::<W, OW>() {
                behind::<S, W, R, OW>(s, a, grid, t);
            } else {
                channels::<S, f32, W, R, OW>(s, a, grid, t);
            }
        }
    }
}

/// One strip, all channels of the part.
///
/// # Safety
/// 1. 2. As [`Walk::strip`].
#[inline(always)]
unsafe fn channels<S: Storage<E>, E: Element, W: Window, const R: usize, const OW: usize>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid<E>,
    t: &Strip,
) {
    let (first, end) = (a.origin.c, a.origin.c + a.output_shape.c);
    let mut c = first / S::LANES * S::LANES;
    while c < end {
        let (from, to) = (first.saturating_sub(c), S::LANES.min(end - c));
        let mask = s.mask(from, to);
        // SAFETY: channels `c + from .. c + to` lie in the part; `padding_at_edges` where `Whole`.
        unsafe {
            // Of many taps, what adds a residual is seldom needed, and costs the other code registers. A masked vector looks at
            // every column, wherever the padding is.
            if to - from < S::LANES || (W::KH > 3 && grid.residual.is_some()) || !t.padding_at_edges::<W, OW>() {
                strip::<S, E, W, Edges, Masked, R, OW>(s, a, grid, t, (c, mask), None);
            } else if t.edge {
                strip::<S, E, W, Edges, Whole, R, OW>(s, a, grid, t, (c, mask), None);
            } else {
                strip::<S, E, W, Inside, Whole, R, OW>(s, a, grid, t, (c, mask), None);
            }
        }
        c += S::LANES;
    }
}

/// One strip, all channels of the part, each written where it belongs during the next one's rows.
///
/// # Safety
/// 1. 2. As [`Walk::strip`].
/// 3. The part's channels are whole vectors.
/// 4. `padding_at_edges`.
#[inline(always)]
unsafe fn behind<S: Simd, W: Window, const R: usize, const OW: usize>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid<f32>,
    t: &Strip,
) {
    debug_assert!(t.height <= MOST_STRIP_ROWS, "a strip of {} rows", t.height);
    let mut buffer = MaybeUninit::<[[S::V; OW]; MOST_STRIP_ROWS]>::uninit();
    let (at, all) = (buffer.as_mut_ptr().cast(), s.mask(0, S::LANES));
    let mut behind = None;
    // SAFETY: the buffer holds the strip's rows, at most `strip_rows`; where `behind`, they were stored with the vector before.
    unsafe {
        for c in (a.origin.c..a.origin.c + a.output_shape.c).step_by(S::LANES) {
            let buffered = grid.with_outputs_at::<S>(at, OW, [t.y, t.x, c]);
            if t.edge {
                strip::<S, f32, W, Edges, Whole, R, OW>(s, a, &buffered, t, (c, all), behind);
            } else {
                strip::<S, f32, W, Inside, Whole, R, OW>(s, a, &buffered, t, (c, all), behind);
            }
            behind = Some(Behind { to: grid.result(t.y, t.x, c).0, row: grid.output_row, column: grid.output_column });
        }
        for y in 0..t.height {
            if let Some(behind) = &behind {
                behind.write::<S, OW>(s, y, at.wrapping_add(y * OW * S::LANES));
            }
        }
    }
}

/// Where the vector of channels that is in the buffer belongs: a strip's first output, and the steps to its others.
#[derive(Clone, Copy)]
pub(super) struct Behind {
    to: *mut f32,
    row: usize,
    column: usize,
}

impl Behind {
    /// Writes row `y` of the strip, which is at `from`.
    ///
    /// # Safety
    /// 1. `OW` whole vectors at `from` can be read.
    /// 2. Those of the row, in the output, can be written.
    #[inline(always)]
    unsafe fn write<S: Simd, const OW: usize>(&self, s: S, y: usize, from: *const f32) {
        for ox in 0..OW {
            let to = self.to.wrapping_add(y * self.row + ox * self.column);
            // SAFETY: the caller vouches for the row, in the buffer and in the output.
            unsafe { s.store(to, s.load(from.wrapping_add(ox * S::LANES))) }
        }
    }
}

/// One strip, the lanes of the vector at channel `c`. Of its columns, those that `padding_at_edges` leaves may be padding, if `B` is
/// [`Edges`]. With `behind`, outputs go to a buffer, and each row replaces one of the vector before, which is written where it
/// belongs.
///
/// # Safety
/// 1. 2. As [`Walk::strip`].
/// 3. The lanes are channels of the part.
/// 4. If `B` is [`Inside`], no column is padding; if `L` is [`Whole`], `padding_at_edges`.
/// 5. If there is a `behind`, the grid's outputs are the buffer, which holds the vector before.
#[inline(always)]
pub(super) unsafe fn strip<
    S: Storage<E>,
    E: Element,
    W: Window,
    B: Border,
    L: Lanes,
    const R: usize,
    const OW: usize,
>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid<E>,
    t: &Strip,
    (c, mask): (usize, S::Mask),
    behind: Option<Behind>,
) {
    let weights = a.weights.wrapping_add(c * (1 + W::KH * W::KW));
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [[s.load(weights); OW]; R];
        // Adds what the `i`-th step's input rows give to the held rows.
        macro_rules! feed {
            ($i:expr, $from:expr, $to:expr) => {
                for dy in 0..W::SH {
                    // The row's tap of the last of the held rows is `dy`, and `SH` further of each before it.
                    if dy + (R - $to) * W::SH >= W::KH {
                        continue;
                    }
                    let iy = $i * W::SH + dy;
                    let mut row = (grid.point(t.y * W::SH + iy, t.x * W::SW), grid.input_column);
                    if !t.rows.contains(&iy) {
                        row = (a.zeros.cast(), 0);
                    }
                    acc = feed::<S, E, W, B, L, R, OW>(s, a, t, (c, mask), dy, row, $from..$to, acc);
                }
            };
        }
        // Stores the first of the held rows, which is complete.
        macro_rules! store {
            ($y:expr) => {
                let (output, residual) = grid.result(t.y + $y, t.x, c);
                // The buffer still has this row of the vector before.
                if let Some(behind) = behind {
                    behind.write::<S, OW>(s, $y, output.cast_const().cast());
                }
                for ox in 0..OW {
                    let output = output.wrapping_add(ox * grid.output_column);
                    // At stride 2 this gains nothing (experiment 034).
                    if R == 3 && t.as_summed {
                        L::store(s, output, mask, acc[0][ox]);
                        continue;
                    }
                    finish::<S, L, _>(s, a.bounds, acc[0][ox], mask, output, (residual, ox * grid.residual_column));
                }
            };
        }
        // Drops the first of the held rows, and begins another.
        macro_rules! roll {
            () => {
                for r in 1..R {
                    acc[r - 1] = acc[r];
                }
                acc[R - 1] = [s.load(opaque(weights, 0).0); OW];
            };
        }
        macro_rules! each {
            ($i:ident < $end:expr => $body:expr) => { each!($i < $end => $body, 0 1 2 3) };
            ($i:ident < $end:expr => $body:expr, $($row:literal)*) => {$(if $row < $end { let $i = $row; $body })*};
        }
        let height = t.height;
        if height < R - 1 {
            // Known where it can only be 1.
            let height = if R == 3 { 1 } else { height };
            for i in 0..height + R - 1 {
                feed!(i, (R - 1).saturating_sub(i), R.min(height + R - 1 - i));
                if i >= R - 1 {
                    store!(i - (R - 1));
                }
                roll!();
            }
            return;
        }
        each!(i < R - 1 => {
            feed!(i, R - 1 - i, R);
            roll!();
        });
        let inside = t.rows.start <= (R - 1) * W::SH && height * W::SH <= t.rows.end;
        // Of whole vectors the last is so anyhow; asked here, LLVM's code is the faster (experiment 035).
        if W::KH > 3 && L::ALL && inside && t.padding_at_edges::<W, OW>() {
            acc = middle::<S, E, W, B, R, OW>(s, a, grid, t, c, acc);
        } else {
            for i in R - 1..height {
                feed!(i, 0, R);
                store!(i - (R - 1));
                roll!();
            }
        }
        each!(i < R - 1 => {
            if i > 0 {
                roll!();
            }
            feed!(height + i, 0, R - 1 - i);
            store!(height + i - (R - 1));
        });
    }
}

/// The input rows of a strip that feed all rows held, none of which is padding, for a whole vector of channels and no residual.
/// Where taps are many and registers few, what this loop can do without costs it as much as a multiply-add.
///
/// # Safety
/// 1. 2. 3. 4. 5. As [`strip`], of whole vectors.
/// 6. No row that it reads is padding, and there is no residual.
#[inline(always)]
unsafe fn middle<S: Storage<E>, E: Element, W: Window, B: Border, const R: usize, const OW: usize>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid<E>,
    t: &Strip,
    c: usize,
    mut acc: Held<S, R, OW>,
) -> Held<S, R, OW> {
    let (weights, zeros) = (a.weights.wrapping_add(c * (1 + W::KH * W::KW)), a.zeros.cast::<E>().wrapping_add(c));
    let mut row = grid.point((t.y + R - 1) * W::SH, t.x * W::SW).wrapping_add(c);
    let (mut output, _) = grid.result(t.y, t.x, c);
    for _ in R - 1..t.height {
        for dy in 0..W::SH {
            let (weights, _) = opaque(weights.wrapping_add(S::LANES), 0);
            for kx in 0..W::KW {
                let mut k = [s.splat(0.0); R];
                for r in 0..R {
                    let ky = dy + (R - 1 - r) * W::SH;
                    if ky < W::KH {
                        // SAFETY: packed weights.
                        k[r] = unsafe { s.load(weights.wrapping_add((ky * W::KW + kx) * S::LANES)) };
                    }
                }
                for ox in 0..OW {
                    let ix = ox * W::SW + kx;
                    let mut p = row.wrapping_add(ix.wrapping_mul(grid.input_column));
                    if B::PADDED && (ix + 1 < W::KW || ix > (OW - 1) * W::SW) {
                        p = or_zeros(p, zeros, !t.columns.contains(&ix));
                    }
                    // SAFETY: the caller vouches for the rows, the lanes, and that `padding_at_edges`; `B` says if there is any.
                    let input = unsafe { s.widen(p) };
                    for r in 0..R {
                        if dy + (R - 1 - r) * W::SH < W::KH {
                            acc[r][ox] = s.mul_add(input, k[r], acc[r][ox]);
                        }
                    }
                }
            }
            row = row.wrapping_add(grid.input_row);
        }
        // Opaque, and of this row: else LLVM would keep them in registers that are not there.
        // SAFETY: references still.
        let [min, max] = [&a.bounds[0], &a.bounds[1]].map(|bound| s.splat(unsafe { *opaque(bound, output.addr()).0 }));
        for ox in 0..OW {
            // SAFETY: the grid has the output.
            unsafe { s.narrow(output.wrapping_add(ox * grid.output_column), clamp(s, acc[0][ox], min, max)) }
        }
        output = output.wrapping_add(grid.output_row);
        for r in 1..R {
            acc[r - 1] = acc[r];
        }
        // SAFETY: packed weights, which begin with the biases.
        acc[R - 1] = [unsafe { s.load(opaque(weights, 0).0) }; OW];
    }
    acc
}
