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
//! Where `writes_behind` is asked for and a channel's inputs and outputs share cache sets, the outputs of 3×3 at stride 1 wait in a
//! buffer for the rows of the next vector of channels, and so are written one line behind what is read.

use core::mem::MaybeUninit;
use core::ops::Range;

use crate::depthwise::nhwc::tile::{Grid, finish, load, store};
use crate::depthwise::{DepthwiseArgs, Lattice, MOST_STRIP_ROWS};
use crate::epilogue::{clamp, clamps};
use crate::pointwise::balanced;
use crate::simd::{Simd, opaque};

/// Columns of a strip's patch at the most.
pub(crate) const PATCH: usize = 24;

/// `KH`×`KW` taps at an undilated stride of `SH`×`SW`: strips of up to `OW` columns, of which `R` rows are held, as many as an
/// input row feeds.
///
/// # Safety
/// `a` comes from a [`DepthwiseStage`](crate::stage::DepthwiseStage) that was built for this kernel.
#[inline(always)]
pub(crate) unsafe fn rolling<
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
    const { assert!(R == KH.div_ceil(SH) && R >= 2 && R <= 5 && OW <= 7 && (OW - 1) * SW + KW <= PATCH) };
    for n in 0..a.output_shape.n {
        for rows in Lattice::all(a, 0) {
            for columns in Lattice::all(a, 1) {
                let grid = Grid::new(a, n, rows, columns);
                let (height, width) = (rows.outputs, columns.outputs);
                let whole_vectors = (a.origin.c | a.output_shape.c).is_multiple_of(S::LANES);
                let behind = SH == 1 && whole_vectors && a.tuning.writes_behind && shares_sets(&grid);
                let (high, wide) = (height.div_ceil(a.tuning.strip_rows), width.div_ceil(OW));
                for i in 0..high {
                    let (y, end) = (balanced(height, high, i), balanced(height, high, i + 1));
                    for j in 0..wide {
                        let (x, right) = (balanced(width, wide, j), balanced(width, wide, j + 1));
                        macro_rules! with_columns {
                            ($($count:literal)*) => {
                                match right - x {
                                    $($count if $count <= OW => {
                                        let strip = Strip::new::<KH, KW, SH, SW, $count>(a, &grid, y, x, end - y);
                                        // What the compiler knows of this leaves few copies of such code.
                                        let whole = KH == 3 && SH == 1 && S::LANES == 16 && $count == OW;
                                        // SAFETY: the grid has these outputs, in whole vectors where `behind`, which is not
                                        // without `padding_at_edges`; `Strip` says where the padding is.
                                        unsafe {
                                            if whole && behind && strip.padding_at_edges::<KW, SW, $count>() {
                                                strip_behind::<S, KH, KW, SH, SW, R, $count>(s, a, &grid, &strip)
                                            } else {
                                                strip_channels::<S, KH, KW, SH, SW, R, $count>(s, a, &grid, &strip)
                                            }
                                        }
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

/// Where a strip is, and what of its patch lies in the input.
pub(crate) struct Strip {
    /// Its first output.
    pub(crate) y: usize,
    pub(crate) x: usize,
    pub(crate) height: usize,
    pub(crate) rows: Range<usize>,
    pub(crate) columns: Range<usize>,
    /// Not all of its columns do.
    pub(crate) edge: bool,
    /// Results are stored as they were summed: nothing is added to them, and no clamp changes them.
    as_summed: bool,
}

impl Strip {
    #[inline(always)]
    pub(crate) fn new<const KH: usize, const KW: usize, const SH: usize, const SW: usize, const OW: usize>(
        a: &DepthwiseArgs,
        grid: &Grid,
        y: usize,
        x: usize,
        height: usize,
    ) -> Self {
        let width = (OW - 1) * SW + KW;
        let columns = grid.columns.inside(x * SW, width);
        let edge = columns != (0..width);
        let rows = grid.rows.inside(y * SH, (height - 1) * SH + KH);
        let as_summed = grid.residual.is_none() && !clamps(a.min, a.max);
        Self { y, x, height, rows, columns, edge, as_summed }
    }

    /// Whether no column of `KW - 1 ..= (OW - 1) * SW` is padding: these are not looked at.
    #[inline(always)]
    pub(crate) fn padding_at_edges<const KW: usize, const SW: usize, const OW: usize>(&self) -> bool {
        self.columns.start < KW && self.columns.end > (OW - 1) * SW
    }
}

/// One strip, all channels of the part.
#[inline(always)]
unsafe fn strip_channels<
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
    let (first, end) = (a.origin.c, a.origin.c + a.output_shape.c);
    let mut c = first / S::LANES * S::LANES;
    while c < end {
        let (from, to) = (first.saturating_sub(c), S::LANES.min(end - c));
        let mask = s.mask(from, to);
        // SAFETY: channels `c + from .. c + to` lie in the part; `padding_at_edges` where `FULL`.
        unsafe {
            // Of many taps, what adds a residual is seldom needed, and costs the other code registers. A masked vector looks at
            // every column, wherever the padding is.
            if to - from < S::LANES || (KH > 3 && grid.residual.is_some()) || !t.padding_at_edges::<KW, SW, OW>() {
                strip::<S, true, false, false, KH, KW, SH, SW, R, OW>(s, a, grid, t, c, mask, None);
            } else if t.edge {
                strip::<S, true, true, false, KH, KW, SH, SW, R, OW>(s, a, grid, t, c, mask, None);
            } else {
                strip::<S, false, true, false, KH, KW, SH, SW, R, OW>(s, a, grid, t, c, mask, None);
            }
        }
        c += S::LANES;
    }
}

/// Whether a channel's inputs and outputs share sets of the first-level cache, so that at stride 1 it pays to write one line behind.
/// (Zen 4: 14×14×512 20.6 µs instead of 25.5 µs, but 28×28×256 41 and 37 µs.)
#[inline(always)]
fn shares_sets(grid: &Grid) -> bool {
    let spacing = grid.spacing();
    let [from, to] = [grid.point(0, 0).addr(), grid.result(0, 0, 0).0.addr()];
    spacing >= 512
        && grid.output_column == grid.input_column
        && from.wrapping_sub(to).is_multiple_of(spacing * size_of::<f32>())
}

/// One strip, all channels of the part, which are whole vectors, each written where it belongs during the next one's rows. Of its
/// columns, those of its edges alone may be padding.
#[inline(always)]
unsafe fn strip_behind<
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
    debug_assert!(t.height <= MOST_STRIP_ROWS, "a strip of {} rows", t.height);
    let mut buffer = MaybeUninit::<[[S::V; OW]; MOST_STRIP_ROWS]>::uninit();
    let (at, all) = (buffer.as_mut_ptr().cast(), s.mask(0, S::LANES));
    let mut behind = None;
    // SAFETY: the buffer holds the strip's rows, at most `strip_rows`; where `behind`, they were stored with the vector before.
    unsafe {
        for c in (a.origin.c..a.origin.c + a.output_shape.c).step_by(S::LANES) {
            let buffered = grid.with_outputs_at::<S>(at, OW, [t.y, t.x, c]);
            if t.edge {
                strip::<S, true, true, true, KH, KW, SH, SW, R, OW>(s, a, &buffered, t, c, all, behind);
            } else {
                strip::<S, false, true, true, KH, KW, SH, SW, R, OW>(s, a, &buffered, t, c, all, behind);
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
pub(crate) struct Behind {
    to: *mut f32,
    row: usize,
    column: usize,
}

impl Behind {
    /// Writes row `y` of the strip, which is at `from`.
    #[inline(always)]
    unsafe fn write<S: Simd, const OW: usize>(&self, s: S, y: usize, from: *const f32) {
        for ox in 0..OW {
            let to = self.to.wrapping_add(y * self.row + ox * self.column);
            // SAFETY: the caller vouches for the row, in the buffer and in the output.
            unsafe { s.store(to, s.load(from.wrapping_add(ox * S::LANES))) }
        }
    }
}

/// One strip, the selected lanes of the vector at channel `c`: all of them if `FULL`. `EDGE`: some of its columns may be padding, those
/// of its edges alone if `FULL`. `BEHIND`: outputs go to a buffer, and each row replaces one of the vector before, which is written
/// where it belongs.
#[inline(always)]
pub(crate) unsafe fn strip<
    S: Simd,
    const EDGE: bool,
    const FULL: bool,
    const BEHIND: bool,
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
    mask: S::Mask,
    behind: Option<Behind>,
) {
    let weights = a.weights.wrapping_add(c * (1 + KH * KW));
    // SAFETY: the caller's.
    unsafe {
        let mut acc = [[s.load(weights); OW]; R];
        macro_rules! feed {
            ($i:expr, $from:expr, $to:expr) => {
                acc = feed::<S, EDGE, FULL, KH, KW, SH, SW, R, OW>(s, a, grid, t, c, mask, $i, $from, $to, acc)
            };
        }
        // Stores the first of the held rows, which is complete.
        macro_rules! store {
            ($y:expr) => {
                let (output, residual) = grid.result(t.y + $y, t.x, c);
                // The buffer still has this row of the vector before.
                if BEHIND && let Some(behind) = behind {
                    behind.write::<S, OW>(s, $y, output);
                }
                for ox in 0..OW {
                    let output = output.wrapping_add(ox * grid.output_column);
                    // At stride 2 this gains nothing (Zen 4; at stride 1 2 to 4 %).
                    if R == 3 && t.as_summed {
                        store::<S, FULL>(s, output, mask, acc[0][ox]);
                        continue;
                    }
                    let residual = residual.map(|r| r.wrapping_add(ox * grid.residual_column));
                    finish::<S, FULL>(s, a, acc[0][ox], mask, (output, residual));
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
        let inside = t.rows.start <= (R - 1) * SH && height * SH <= t.rows.end;
        // Where `FULL` the last is so anyhow; asked here, LLVM's code is the faster (AVX2, 14×14×672 at stride 2: 26 µs instead of 30 µs).
        if KH > 3 && FULL && inside && t.padding_at_edges::<KW, SW, OW>() {
            acc = middle::<S, EDGE, KH, KW, SH, SW, R, OW>(s, a, grid, t, c, acc);
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
#[inline(always)]
unsafe fn middle<
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
    mut acc: [[S::V; OW]; R],
) -> [[S::V; OW]; R] {
    let (weights, zeros) = (a.weights.wrapping_add(c * (1 + KH * KW)), a.zeros.wrapping_add(c));
    let mut row = grid.point((t.y + R - 1) * SH, t.x * SW).wrapping_add(c);
    let (mut output, _) = grid.result(t.y, t.x, c);
    for _ in R - 1..t.height {
        for dy in 0..SH {
            let (weights, _) = opaque(weights.wrapping_add(S::LANES), 0);
            for kx in 0..KW {
                let mut k = [s.splat(0.0); R];
                for r in 0..R {
                    let ky = dy + (R - 1 - r) * SH;
                    if ky < KH {
                        // SAFETY: packed weights.
                        k[r] = unsafe { s.load(weights.wrapping_add((ky * KW + kx) * S::LANES)) };
                    }
                }
                for ox in 0..OW {
                    let ix = ox * SW + kx;
                    let mut p = row.wrapping_add(ix.wrapping_mul(grid.input_column));
                    if EDGE && (ix + 1 < KW || ix > (OW - 1) * SW) {
                        // Opaque, lest LLVM turn the choice of an address into a jump.
                        p = opaque(if t.columns.contains(&ix) { p } else { zeros }, 0).0;
                    }
                    // SAFETY: the caller vouches for the rows, the lanes, and that `padding_at_edges`; it says if `EDGE`.
                    let input = unsafe { s.load(p) };
                    for r in 0..R {
                        if dy + (R - 1 - r) * SH < KH {
                            acc[r][ox] = s.mul_add(input, k[r], acc[r][ox]);
                        }
                    }
                }
            }
            row = row.wrapping_add(grid.input_row);
        }
        // Opaque, and of this row: else LLVM would keep them in registers that are not there.
        // SAFETY: references still.
        let [min, max] = [&a.min, &a.max].map(|bound| s.splat(unsafe { *opaque(bound, output.addr()).0 }));
        for ox in 0..OW {
            // SAFETY: the grid has the output.
            unsafe { s.store(output.wrapping_add(ox * grid.output_column), clamp(s, acc[0][ox], min, max)) }
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

/// Adds what `SH` input rows, the `i`-th of a strip, give to the held output rows `from..to`.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "inlined: these are the loop's variables")]
unsafe fn feed<
    S: Simd,
    const EDGE: bool,
    const FULL: bool,
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
    mask: S::Mask,
    i: usize,
    from: usize,
    to: usize,
    mut acc: [[S::V; OW]; R],
) -> [[S::V; OW]; R] {
    let zeros = a.zeros.wrapping_add(c);
    for dy in 0..SH {
        // The row's tap of the last of the held rows is `dy`, and `SH` further of each before it.
        if dy + (R - to) * SH >= KH {
            continue;
        }
        let iy = i * SH + dy;
        let mut row = (grid.point(t.y * SH + iy, t.x * SW).wrapping_add(c), grid.input_column);
        if !t.rows.contains(&iy) {
            row = (zeros, 0);
        }
        let (row, step) = opaque(row.0, row.1);
        let (weights, _) = opaque(a.weights.wrapping_add(c * (1 + KH * KW) + S::LANES), 0);
        let mut inputs = [s.splat(0.0); PATCH];
        for kx in 0..KW {
            for ox in 0..OW {
                // The other inputs of this tap were loaded for an earlier one.
                if kx < SW || ox + 1 == OW {
                    let ix = ox * SW + kx;
                    let mut p = row.wrapping_add(ix.wrapping_mul(step));
                    // Of many taps most columns are at an edge: there all are looked at.
                    if EDGE && (!FULL || KH > 3 || ix + 1 < KW || ix > (OW - 1) * SW) {
                        // Opaque, lest LLVM turn the choice of an address into a jump.
                        p = opaque(if t.columns.contains(&ix) { p } else { zeros }, 0).0;
                    }
                    // SAFETY: the caller vouches for the lanes, and for the columns that are not looked at, which `padding_at_edges`
                    // says are none of the padding's; the row lies in the input, or is zeros.
                    inputs[ix] = unsafe { load::<S, FULL>(s, p, mask) };
                }
            }
            for r in 0..R {
                let ky = dy + (R - 1 - r) * SH;
                if from <= r && r < to && ky < KH {
                    // SAFETY: packed weights.
                    let k = unsafe { s.load(weights.wrapping_add((ky * KW + kx) * S::LANES)) };
                    for ox in 0..OW {
                        acc[r][ox] = s.mul_add(inputs[ox * SW + kx], k, acc[r][ox]);
                    }
                }
            }
        }
    }
    acc
}
