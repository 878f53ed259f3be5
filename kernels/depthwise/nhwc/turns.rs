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
//! cache sets, these are gone before a strip of one vector comes to them. (Zen 4 reads such pixels at 49 to 61 GB/s one vector of
//! AVX-512 at a time, at 111 four at a time.) It costs the loads and stores of the buffer, which the first-level cache holds.

use core::mem::MaybeUninit;
use core::ops::Range;

use crate::depthwise::nhwc::rolling::{PATCH, Strip, strip};
use crate::depthwise::nhwc::tile::{Grid, finish};
use crate::depthwise::{DepthwiseArgs, Lattice};
use crate::pointwise::balanced;
use crate::simd::{Simd, opaque};

/// Channels of a group at the most.
const GROUP: usize = 128;
/// Vectors of a group at the most, for which there is room in the buffer.
const VECTORS: usize = 16;

/// `KH`×`KW` taps at an undilated stride of `SH`×`SW`: strips of up to `OW` columns, of which `R` rows are held, as many as an
/// input row feeds.
///
/// # Safety
/// `a` comes from a [`DepthwiseStage`](crate::stage::DepthwiseStage) that was built for this kernel.
#[inline(always)]
pub(crate) unsafe fn in_turns<
    S: Simd,
    const KH: usize,
    const KW: usize,
    const SH: usize,
    const SW: usize,
    const R: usize,
    const OW: usize,
>(
    s: S,
    a: &DepthwiseArgs,
) {
    const {
        assert!(
            KH == (R - 1) * SH + 1 && R >= 2 && R <= 3 && SH <= 2 && OW >= 3 && OW <= 7 && (OW - 1) * SW + KW <= PATCH
        )
    };
    for n in 0..a.output_shape.n {
        for rows in Lattice::all(a, 0) {
            for columns in Lattice::all(a, 1) {
                let grid = Grid::new(a, n, rows, columns);
                let (height, width) = (rows.outputs, columns.outputs);
                let high = height.div_ceil(a.tuning.strip_rows);
                let wide = strips(width, OW, grid.spacing());
                for i in 0..high {
                    let (y, end) = (balanced(height, high, i), balanced(height, high, i + 1));
                    for j in 0..wide {
                        let (x, right) = (balanced(width, wide, j), balanced(width, wide, j + 1));
                        macro_rules! with_columns {
                            ($($count:literal)*) => {
                                match right - x {
                                    $($count if $count <= OW => {
                                        let strip = Strip::new::<KH, KW, SH, SW, $count>(a, &grid, y, x, end - y);
                                        // SAFETY: the grid has these outputs; `Strip` says where the padding is.
                                        unsafe { channels::<S, KH, KW, SH, SW, R, $count>(s, a, &grid, &strip) }
                                    })*
                                    columns => debug_assert!(false, "a strip of {columns} columns"),
                                }
                            };
                        }
                        with_columns!(1 2 3 4 5 6 7);
                    }
                }
            }
        }
    }
}

/// Into how many strips of at most `most` columns to cut a map: the more columns, the more lines of a cache set are in
/// use. (Zen 4, strips of seven columns, four, and two: at stride 2 28×28×256 15.6, 14.2, 17 µs, 14×14×512 10.6, 8.9, 8.1 µs; at
/// stride 1 10×10×1024 24.4, 23.3, 23.8 µs, or, outputs elsewhere in a page, 34, 30, 28 µs.)
#[inline(always)]
fn strips(width: usize, most: usize, spacing: usize) -> usize {
    match spacing {
        // Two or three, but for a map of one column.
        512.. => (width / 2).max(1),
        256.. => width.div_ceil(most.min(4)),
        _ => width.div_ceil(most),
    }
}

/// One strip, all channels of the part.
#[inline(always)]
unsafe fn channels<
    S: Simd,
    const KH: usize,
    const KW: usize,
    const SH: usize,
    const SW: usize,
    const R: usize,
    const OW: usize,
>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid,
    t: &Strip,
) {
    const { assert!(GROUP <= VECTORS * S::LANES) };
    // Of each vector `R - 1` rows, up to two.
    let mut buffer = MaybeUninit::<[[[S::V; OW]; 2]; VECTORS]>::uninit();
    let held = buffer.as_mut_ptr().cast();
    let (first, end) = (a.origin.c, a.origin.c + a.output_shape.c);
    // Else each vector alone, masked, which looks at every column and knows strips of one row.
    let takes_turns = t.height >= R - 1 && t.padding_at_edges::<KW, SW, OW>();
    let mut c = first / S::LANES * S::LANES;
    while c < end {
        let (from, to) = (first.saturating_sub(c), S::LANES.min(end - c));
        let mut group = c..c + S::LANES;
        // SAFETY: lanes `from..to`, or whole vectors, lie in the part; the buffer has room for the group; `padding_at_edges` was asked.
        unsafe {
            if to - from < S::LANES || !takes_turns {
                let mask = s.mask(from, to);
                strip::<S, true, false, false, KH, KW, SH, SW, R, OW>(s, a, grid, t, c, mask, None);
            } else {
                group.end = c + ((end - c) / S::LANES * S::LANES).min(GROUP);
                if t.edge {
                    turns::<S, true, KH, KW, SH, SW, R, OW>(s, a, grid, t, group.clone(), held);
                } else {
                    turns::<S, false, KH, KW, SH, SW, R, OW>(s, a, grid, t, group.clone(), held);
                }
            }
        }
        c = group.end;
    }
}

/// One strip of at least `R - 1` rows, a group of whole vectors of channels. Of its columns, those of its edges alone may be padding,
/// if `EDGE`.
#[inline(always)]
unsafe fn turns<
    S: Simd,
    const EDGE: bool,
    const KH: usize,
    const KW: usize,
    const SH: usize,
    const SW: usize,
    const R: usize,
    const OW: usize,
>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid,
    t: &Strip,
    group: Range<usize>,
    held: *mut f32,
) {
    // Adds what the `i`-th `SH` input rows give to the held rows `fed`, for each vector of the group.
    macro_rules! step {
        ($i:expr, $fed:expr) => {
            let row = |dy: usize| {
                let iy = $i * SH + dy;
                let inside = t.rows.contains(&iy);
                if inside { (grid.point(t.y * SH + iy, t.x * SW), grid.input_column) } else { (a.zeros, 0) }
            };
            let (first_row, last_row) = (row(0), row(SH - 1));
            for c in group.clone().step_by(S::LANES) {
                let held = held.wrapping_add((c - group.start) * (R - 1) * OW);
                turn::<S, EDGE, KH, KW, SH, SW, R, OW>(s, a, grid, t, c, held, $i, first_row, last_row, $fed);
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
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "inlined: these are the loop's variables")]
unsafe fn turn<
    S: Simd,
    const EDGE: bool,
    const KH: usize,
    const KW: usize,
    const SH: usize,
    const SW: usize,
    const R: usize,
    const OW: usize,
>(
    s: S,
    a: &DepthwiseArgs,
    grid: &Grid,
    t: &Strip,
    c: usize,
    held: *mut f32,
    i: usize,
    first_row: (*const f32, usize),
    last_row: (*const f32, usize),
    fed: Range<usize>,
) {
    let held = |r: usize, ox: usize| held.wrapping_add((r * OW + ox) * S::LANES);
    // SAFETY: the caller vouches for the lanes, the buffer, and, where the first held row is fed, the output row.
    unsafe {
        let mut acc = [[s.load(a.weights.wrapping_add(c * (1 + KH * KW))); OW]; R];
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
                acc = feed::<S, EDGE, $dy, KH, KW, SH, SW, R, OW>(s, a, t, c, $row, fed.clone(), acc)
            };
        }
        feed!(0, first_row);
        // The first row's last taps were those of the first input row.
        if fed.start == 0 {
            let (output, residual) = grid.result(t.y + i + 1 - R, t.x, c);
            let (output, step) = opaque(output.cast_const(), grid.output_column);
            for ox in 0..OW {
                let residual = residual.map(|r| r.wrapping_add(ox * grid.residual_column));
                let output = output.cast_mut().wrapping_add(ox * step);
                finish::<S, true>(s, a, acc[0][ox], s.mask(0, S::LANES), (output, residual));
            }
        }
        if SH == 2 {
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

/// Adds what an input row, of those of a turn the `DY`-th, gives to the held rows `fed`.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "inlined: these are the loop's variables")]
unsafe fn feed<
    S: Simd,
    const EDGE: bool,
    const DY: usize,
    const KH: usize,
    const KW: usize,
    const SH: usize,
    const SW: usize,
    const R: usize,
    const OW: usize,
>(
    s: S,
    a: &DepthwiseArgs,
    t: &Strip,
    c: usize,
    (row, step): (*const f32, usize),
    fed: Range<usize>,
    mut acc: [[S::V; OW]; R],
) -> [[S::V; OW]; R] {
    // Opaque, lest LLVM step an address for each column from vector to vector, for which there are no registers.
    let (row, step) = opaque(row.wrapping_add(c), step);
    let (weights, _) = opaque(a.weights.wrapping_add(c * (1 + KH * KW) + S::LANES), 0);
    let zeros = a.zeros.wrapping_add(c);
    let mut inputs = [s.splat(0.0); PATCH];
    for kx in 0..KW {
        for ox in 0..OW {
            // The other inputs of this tap were loaded for an earlier one.
            if kx < SW || ox + 1 == OW {
                let ix = ox * SW + kx;
                let mut p = row.wrapping_add(ix.wrapping_mul(step));
                if EDGE && (ix + 1 < KW || ix > (OW - 1) * SW) {
                    // Opaque, lest LLVM turn the choice of an address into a jump.
                    p = opaque(if t.columns.contains(&ix) { p } else { zeros }, 0).0;
                }
                // SAFETY: the caller vouches for the lanes, for the row, which may be zeros, and for `padding_at_edges`.
                inputs[ix] = unsafe { s.load(p) };
            }
        }
        for r in 0..R {
            let ky = DY + (R - 1 - r) * SH;
            if ky < KH && fed.contains(&r) {
                // SAFETY: packed weights.
                let k = unsafe { s.load(weights.wrapping_add((ky * KW + kx) * S::LANES)) };
                for ox in 0..OW {
                    acc[r][ox] = s.mul_add(inputs[ox * SW + kx], k, acc[r][ox]);
                }
            }
        }
    }
    acc
}
