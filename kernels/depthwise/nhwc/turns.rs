//! Depthwise convolution, channels last, vectors of channels in turns: where pixels share cache sets, or come from afar.
//!
//! Strips run down the columns as in `rolling`, but each is of a group of vectors of channels, not of one:
//!
//! ```text
//! for each input row (at stride 2, each two):
//!     for each vector of channels of the group:
//!         acc[R][OW] = the rows that the input row feeds: what waits in a buffer, or bias
//!         each input vector is loaded once, multiplied by every tap, and added to them
//!         the first of them is complete: it is stored, the others wait in the buffer
//! ```
//!
//! So a pixel's lines are read one after the other. Hardware brings the lines beside those that are read, and where pixels share
//! cache sets, these are gone before a strip of one vector comes to them (experiment 072). It costs the loads and stores of
//! the buffer, which the first-level cache holds.

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;

use super::grid::Grid;
use super::rolling::strip;
use super::strip::{Strip, Walk, feed, strips};
use crate::depthwise::window::Window;
use crate::depthwise::{Border, DepthwiseArgs, Edges, Inside, info};
use crate::epilogue::finish;
use crate::info::{Form, KernelInfo};
use crate::simd::{Masked, Storage, Whole, opaque};
use crate::table::Algorithm;
use crate::types::{Element, Layout};

/// Channels of a group at the most.
const GROUP: usize = 128;
/// Vectors of a group at the most, for which there is room in the buffer.
const VECTORS: usize = 16;

/// Strips of up to `OW` columns, of which `R` rows are held, as many as an input row feeds.
pub(crate) struct InTurns<E, W, const R: usize, const OW: usize>(PhantomData<(E, W)>);

impl<S: Storage<E>, E: Element, W: Window, const R: usize, const OW: usize> Algorithm<S> for InTurns<E, W, R, OW> {
    type Args = DepthwiseArgs;
    const INFO: KernelInfo = info::<S, E>(Layout::Nhwc, Form::InTurns, Some(W::ALL), [1, OW]);

    #[inline(always)]
    unsafe fn run(s: S, a: &DepthwiseArgs) {
        const { assert!(W::KH == (R - 1) * W::SH + 1 && R >= 2 && R <= 3 && W::SH <= 2 && OW >= 3) };
        // SAFETY: the caller's.
        unsafe { strips::<S, Self, OW>(s, a) }
    }
}

impl<S: Storage<E>, E: Element, W: Window, const R: usize, const MOST: usize> Walk<S> for InTurns<E, W, R, MOST> {
    type Element = E;
    type Window = W;

    #[inline(always)]
    unsafe fn strip<const OW: usize>(s: S, a: &DepthwiseArgs, grid: &Grid<E>, t: &Strip) {
        const { assert!(GROUP <= VECTORS * S::LANES) };
        // Of each vector `R - 1` rows, up to two.
        let mut buffer = MaybeUninit::<[[[S::V; OW]; 2]; VECTORS]>::uninit();
        let held = buffer.as_mut_ptr().cast();
        let (first, end) = (a.origin.c, a.origin.c + a.output_shape.c);
        // Else each vector alone, masked, which looks at every column and knows strips of one row.
        let takes_turns = t.height >= R - 1 && t.padding_at_edges::<W, OW>();
        let mut c = first / S::LANES * S::LANES;
        while c < end {
            let (from, to) = (first.saturating_sub(c), S::LANES.min(end - c));
            let mut group = c..c + S::LANES;
            // SAFETY: lanes `from..to`, or whole vectors, lie in the part; the buffer has room for the group; `padding_at_edges` was asked.
            unsafe {
                if to - from < S::LANES || !takes_turns {
                    let mask = s.mask(from, to);
                    strip::<S, E, W, Edges, Masked, R, OW>(s, a, grid, t, (c, mask), None);
                } else {
                    group.end = c + ((end - c) / S::LANES * S::LANES).min(GROUP);
                    if t.edge {
                        turns::<S, E, W, Edges, R, OW>(s, a, grid, t, group.clone(), held);
                    } else {
                        turns::<S, E, W, Inside, R, OW>(s, a, grid, t, group.clone(), held);
                    }
                }
            }
            c = group.end;
        }
    }
}

/// One strip, a group of whole vectors of channels.
///
/// # Safety
/// 1. 2. As [`Walk::strip`]; it has `R - 1` rows or more.
/// 3. The group is channels of the part.
/// 4. If `B` is [`Inside`], no column is padding; else `padding_at_edges`.
/// 5. `held` has room for `R - 1` rows of `OW` vectors for each vector of the group.
#[inline(always)]
unsafe fn turns<S: Storage<E>, E: Element, W: Window, B: Border, const R: usize, const OW: usize>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid<E>,
    t: &Strip,
    group: Range<usize>,
    held: *mut f32,
) {
    // Adds what the `i`-th `W::SH` input rows give to the held rows `fed`, for each vector of the group.
    macro_rules! step {
        ($i:expr, $fed:expr) => {
            let row = |dy: usize| {
                let iy = $i * W::SH + dy;
                let inside = t.rows.contains(&iy);
                if inside {
                    (grid.point(t.y * W::SH + iy, t.x * W::SW), grid.input_column)
                } else {
                    (a.zeros.cast(), 0)
                }
            };
            let (first_row, last_row) = (row(0), row(W::SH - 1));
            for c in group.clone().step_by(S::LANES) {
                let held = held.wrapping_add((c - group.start) * (R - 1) * OW);
                turn::<S, E, W, B, R, OW>(s, a, grid, t, c, held, $i, first_row, last_row, $fed);
            }
        };
    }
    let height = t.height;
    // SAFETY: the caller's; each row of outputs is begun at the buffer's last row, and there moves up with each step.
    unsafe {
        step!(0, R - 1..R);
        if R == 3 {
            step!(1, R - 2..R);
        }
        for i in R - 1..height {
            step!(i, 0..R);
        }
        if R == 3 {
            step!(height, 0..R - 1);
        }
        step!(height + R - 2, 0..1);
    }
}

/// One turn of the vector at channel `c`: adds what input rows give to the held rows `fed`, stores the first if it is among them, and
/// moves the others up.
///
/// # Safety
/// 1. 2. 3. 4. 5. As [`turns`].
/// 6. Where the first held row is fed, the output row exists.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "inlined: these are the loop's variables")]
unsafe fn turn<S: Storage<E>, E: Element, W: Window, B: Border, const R: usize, const OW: usize>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid<E>,
    t: &Strip,
    c: usize,
    held: *mut f32,
    i: usize,
    first_row: (*const E, usize),
    last_row: (*const E, usize),
    fed: Range<usize>,
) {
    let all = s.mask(0, S::LANES);
    let held = |r: usize, ox: usize| held.wrapping_add((r * OW + ox) * S::LANES);
    // SAFETY: the caller vouches for the lanes, the buffer, and, where the first held row is fed, the output row.
    unsafe {
        let mut acc = [[s.load(a.weights.wrapping_add(c * (1 + W::KH * W::KW))); OW]; R];
        for r in 0..R - 1 {
            for ox in 0..OW {
                if fed.contains(&r) {
                    acc[r][ox] = s.load(held(r, ox));
                }
            }
        }
        // Not a loop, which LLVM would not write out.
        macro_rules! feed {
            ($dy:literal, $row:ident) => {
                acc = feed::<S, E, W, B, Whole, R, OW>(s, a, t, (c, all), $dy, $row, fed.clone(), acc)
            };
        }
        feed!(0, first_row);
        // The first row's last taps were those of the first input row.
        if fed.start == 0 {
            let (output, residual) = grid.result(t.y + i + 1 - R, t.x, c);
            let (output, step) = opaque(output.cast_const(), grid.output_column);
            for ox in 0..OW {
                let output = output.cast_mut().wrapping_add(ox * step);
                finish::<S, Whole, _>(s, a.bounds, acc[0][ox], all, output, (residual, ox * grid.residual_column));
            }
        }
        if W::SH == 2 {
            feed!(1, last_row);
        }
        for r in 1..R {
            for ox in 0..OW {
                if fed.contains(&r) {
                    s.store(held(r - 1, ox), acc[r][ox]);
                }
            }
        }
    }
}
