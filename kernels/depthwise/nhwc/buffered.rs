//! Depthwise convolution, channels last: any taps, stride, dilation and multiplier, from a buffer of input rows.
//!
//! ```text
//! for each strip of columns:
//!     for each block of channels:              a few vectors of them, or all where they are few
//!         for each OH rows of outputs:
//!             copy the input rows not met before to the buffer
//!             for each vector of channels, each OW vectors of a row of it:
//!                 acc[OH][OW] = bias
//!                 for each input row, each tap of a kernel row:
//!                     acc[oy][..] += the OW vectors at the tap's place · weight
//! ```
//!
//! In the buffer each input is there once for each of its output channels, padding is zeros, and columns lie by
//! [phases](crate::depthwise). So a tap is always the same step from its output, and no load asks for anything.
//!
//! Where channels are few, pixels follow each other without a gap, and a vector runs over channels and pixels. The weights are then
//! repeated up to a period, after which channels meet the same lanes again.
//!
//! A row of taps on a row of padding is not multiplied, which changes no bit: see [`on_padding`](crate::depthwise::on_padding).

use core::mem::MaybeUninit;

use super::grid::Grid;
use crate::depthwise::{DepthwiseArgs, Lattice, info};
use crate::epilogue::finish;
use crate::info::{Form, KernelInfo};
use crate::simd::{Masked, Simd, Whole};
use crate::table::Algorithm;
use crate::types::{Layout, Taps, gcd, undilated_stride};

/// Tiles of `OH` rows by `OW` vectors, or as many periods.
pub(crate) struct Buffered<const OH: usize, const OW: usize>;

impl<S: Simd, const OH: usize, const OW: usize> Algorithm<S> for Buffered<OH, OW> {
    type Args = DepthwiseArgs;
    const INFO: KernelInfo = info::<S, f32>(Layout::Nhwc, Form::Buffered, None, [OH, OW]);

    #[inline(always)]
    unsafe fn run(s: S, a: &DepthwiseArgs) {
        // SAFETY: the caller's.
        unsafe { all::<S, OH, OW>(s, a) }
    }
}

/// Elements of the buffer, which lies on the stack.
const ROOM: usize = 24 << 10;
/// Elements that a first-level cache holds beside weights and outputs.
const NEAR: usize = 6 << 10;
/// Tiles of a strip at the most, lest there be room for few vectors of channels. So many may take more than [`NEAR`].
const TILES: usize = 4;

/// Vectors of channels in the buffer at the most.
const VECTORS: usize = 16;

#[repr(align(64))]
struct Room([MaybeUninit<f32>; ROOM]);

/// How inputs lie in the buffer.
#[derive(Clone, Copy)]
pub(crate) struct Buffer {
    /// All channels are in it, one pixel behind the other: else a vector of channels.
    pub(crate) gapless: bool,
    /// Elements from pixel to pixel.
    pitch: usize,
    /// Elements after which lanes meet the same channels.
    pub(crate) period: usize,
    /// Input rows that it holds.
    rows: usize,
    /// Places from the first tap of a row to the last.
    further: usize,
    /// Phases that taps read.
    phases: usize,
    /// Pixels of a tile.
    tile: usize,
    /// Tiles of a strip at the most.
    tiles: usize,
    lanes: usize,
}

impl Buffer {
    /// For that many output channels, by a kernel of such vectors and tiles: none, if the buffer has no room for a tile.
    #[inline(always)]
    pub(crate) fn new(lanes: usize, [oh, ow]: [usize; 2], taps: Taps, outputs: usize) -> Option<Self> {
        let [sh, sw] = [0, 1].map(|axis| undilated_stride(taps.stride[axis], taps.dilation[axis]));
        let [kh, kw] = taps.kernel_size;
        let rows = sh.saturating_mul(oh - 1).saturating_add(kh);
        let (further, phases) = ((kw - 1) / sw, sw.min(kw));
        let few = outputs > 0 && outputs < 2 * lanes && !outputs.is_multiple_of(lanes);
        for gapless in [true, false] {
            if gapless && !few {
                continue;
            }
            let (pitch, period) =
                if gapless { (outputs, outputs / gcd(outputs, lanes) * lanes) } else { (lanes, lanes) };
            let tile = ow * (period / pitch);
            let tiles_of = |elements: usize| {
                // The last lanes of a row are what is stored behind its last pixel.
                let pixels = (elements / rows / phases).saturating_sub(2 * lanes) / pitch;
                pixels.saturating_sub(further) / tile
            };
            let (near, room) = (tiles_of(NEAR), tiles_of(ROOM));
            let tiles = if gapless { near.max(room.min(TILES)) } else { room.min(TILES) };
            if tiles > 0 {
                return Some(Self { gapless, pitch, period, rows, further, phases, tile, tiles, lanes });
            }
        }
        None
    }

    /// From a phase to the next, for so many tiles.
    #[inline(always)]
    fn phase_len(&self, tiles: usize) -> usize {
        ((tiles * self.tile + self.further) * self.pitch + self.lanes).next_multiple_of(self.lanes)
    }
}

/// A strip of columns in the buffer, one block of channels: of which convolution, and what the buffer holds of it.
#[derive(Clone, Copy)]
struct Strip<'a, S: Simd> {
    s: S,
    a: &'a DepthwiseArgs,
    grid: &'a Grid<f32>,
    /// How inputs lie in the buffer, and where it is.
    b: &'a Buffer,
    ring: *mut f32,
    /// Of each vector of channels.
    inputs: &'a [Inputs<S>; VECTORS],
    /// Its first output.
    x: usize,
    /// Its outputs.
    wide: usize,
    tiles: usize,
    phase_len: usize,
    /// From a vector of channels in the buffer to the next.
    vector_len: usize,
    row_len: usize,
    /// The first output channel of the block.
    c: usize,
    /// The vectors of channels that the buffer holds; where pixels have no gaps, one.
    vectors: usize,
    /// The undilated strides.
    sh: usize,
    sw: usize,
}

/// # Safety
/// 1. As [`Algorithm::run`].
#[inline(always)]
unsafe fn all<S: Simd, const OH: usize, const OW: usize>(s: S, a: &DepthwiseArgs) {
    const { assert!(OH == 1 || OH == 2) };
    let [sh, sw] = [0, 1].map(|axis| undilated_stride(a.stride[axis], a.dilation[axis]));
    let taps = Taps { kernel_size: a.kernel_size, stride: a.stride, dilation: a.dilation };
    let outputs = a.input_shape.c * a.multiplier;
    let Some(b) = Buffer::new(S::LANES, [OH, OW], taps, outputs) else {
        unreachable!("the kernel computes these taps")
    };
    let (first, end) = (a.origin.c, a.origin.c + a.output_shape.c);
    let first = if b.gapless { 0 } else { first / S::LANES * S::LANES };
    let mut room = Room([const { MaybeUninit::uninit() }; ROOM]);
    let ring = room.0.as_mut_ptr().cast::<f32>();
    for n in 0..a.output_shape.n {
        for rows in Lattice::all(a, 0) {
            for columns in Lattice::all(a, 1) {
                let grid = Grid::<f32>::new(a, n, rows, columns);
                for x in (0..columns.outputs).step_by(b.tiles * b.tile) {
                    let wide = (columns.outputs - x).min(b.tiles * b.tile);
                    let tiles = wide.div_ceil(b.tile);
                    let phase_len = b.phase_len(tiles);
                    let vector_len = b.phases * phase_len;
                    let most = if b.gapless { 1 } else { (NEAR / (b.rows * vector_len)).clamp(1, VECTORS) };
                    let row_len = most * vector_len;
                    // SAFETY: the buffer has room for these rows. Each element has a value from here on, also those that only
                    // outputs beyond the strip read.
                    unsafe { ring.write_bytes(0, b.rows * row_len) };
                    // Of few channels, all are one block.
                    for c in (first..end).step_by(if b.gapless { outputs } else { most * S::LANES }) {
                        let vectors = if b.gapless { 1 } else { (end - c).div_ceil(S::LANES).min(most) };
                        let mut inputs = [Inputs::new(s, a, c); VECTORS];
                        for vector in 1..if b.gapless { outputs.div_ceil(S::LANES) } else { vectors } {
                            inputs[vector] = Inputs::new(s, a, c + vector * S::LANES);
                        }
                        let (inputs, grid, b) = (&inputs, &grid, &b);
                        let strip = Strip {
                            s,
                            a,
                            grid,
                            b,
                            ring,
                            inputs,
                            x,
                            wide,
                            tiles,
                            phase_len,
                            vector_len,
                            row_len,
                            c,
                            vectors,
                            sh,
                            sw,
                        };
                        // Of the next rows that are not in the buffer, the first.
                        let mut next = 0;
                        let whole = rows.outputs / OH * OH;
                        // SAFETY: the grid has these rows and columns, and the buffer has room for the strip.
                        unsafe {
                            for y in (0..whole).step_by(OH) {
                                strip.row::<OH, OW>(&mut next, y);
                            }
                            for y in whole..rows.outputs {
                                strip.row::<1, OW>(&mut next, y);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What a vector of output channels reads of a pixel.
#[derive(Clone, Copy)]
struct Inputs<S: Simd> {
    /// The first of its input channels, and so many.
    channel: usize,
    channels: usize,
    /// Its lanes that are channels.
    lanes: usize,
    mask: S::Mask,
    /// Which of the input channels each lane takes.
    index: S::Index,
}

impl<S: Simd> Inputs<S> {
    /// Of output channel `c` and those that follow.
    #[inline(always)]
    fn new(s: S, a: &DepthwiseArgs, c: usize) -> Self {
        let (inputs, m) = (a.input_shape.c, a.multiplier);
        let lanes = S::LANES.min(inputs * m - c);
        let channel = c / m;
        let channels = (c + lanes - 1) / m - channel + 1;
        // Where the pixel has as many, a whole vector can be read.
        let read = if channels > 1 && channel + S::LANES <= inputs { S::LANES } else { channels };
        let (first, times) = if m > 1 && channels > 1 { (c % m, m) } else { (0, 1) };
        Self { channel, channels: read, lanes, mask: s.mask(0, lanes), index: s.repeated(first, times) }
    }
}

impl<S: Simd> Strip<'_, S> {
    /// `OH` rows of outputs, a row of tiles, from row `y` on. `next`: the first input row that is not in the buffer.
    ///
    /// # Safety
    /// 1. As [`Algorithm::run`].
    /// 2. The grid has these rows, and the strip's columns.
    /// 3. The buffer has room for the rows of the strip, and holds those before `next` that these outputs read.
    #[inline(always)]
    unsafe fn row<const OH: usize, const OW: usize>(&self, next: &mut usize, y: usize) {
        let Self { a, grid, b, ring, .. } = *self;
        let [kh, kw] = a.kernel_size;
        let (top, size) = (y * self.sh, 1 + kh * kw);
        let bottom = top + (OH - 1) * self.sh + kh;
        for iy in top.max(*next)..bottom {
            if grid.rows.has(iy) {
                let row = ring.wrapping_add(iy % b.rows * self.row_len);
                // SAFETY: the row is one of the input, and the buffer has room for it.
                unsafe { self.fill(row, iy) };
            }
        }
        *next = bottom;
        let held = top % b.rows;
        // Channels follow each other in the output as they do in the weights.
        let groups = if b.gapless { b.period / S::LANES } else { self.vectors };
        for group in 0..groups {
            let channel = group * S::LANES;
            let weights = a.weights.wrapping_add((self.c + channel) * size);
            let of_group = ring.wrapping_add(if b.gapless { channel } else { group * self.vector_len });
            for tile in 0..self.tiles {
                let first = of_group.wrapping_add(tile * OW * b.period);
                // SAFETY: the rows that lie in the input are in the buffer, and the grid has these rows of outputs.
                unsafe {
                    let acc = self.taps::<OH, OW>(weights, first, top, held);
                    self.write::<OH, OW>([y, tile * OW, channel], &acc);
                }
            }
        }
    }

    /// Copies the strip's points of an input row to the buffer, a vector for each point, or two. What one writes beyond its channels, the next
    /// writes again.
    ///
    /// # Safety
    /// 1. As [`Algorithm::run`].
    /// 2. The grid has the row `y`.
    /// 3. There is room for a row of the self.
    #[inline(always)]
    unsafe fn fill(&self, row: *mut f32, y: usize) {
        let Self { s, a, grid, b, inputs, .. } = *self;
        let from = self.x * self.sw;
        let pixels = self.wide + b.further;
        let outputs = a.input_shape.c * a.multiplier;
        let zero = s.splat(0.0);
        if b.gapless && a.multiplier == 1 && self.sw == 1 && grid.input_column == outputs {
            // Neighbours there and here.
            let inside = grid.columns.inside(from, pixels);
            let [start, end, all] = [inside.start, inside.end, pixels].map(|pixel| pixel * outputs);
            // SAFETY: the points inside lie in the input, and the buffer has room for all.
            unsafe {
                row.write_bytes(0, start);
                let input = grid.point(y, from + inside.start);
                core::ptr::copy_nonoverlapping(input, row.wrapping_add(start), end - start);
                row.wrapping_add(end).write_bytes(0, all - end);
            }
            return;
        }
        let vectors = if b.gapless { outputs.div_ceil(S::LANES) } else { self.vectors };
        // Without divisions, which would take as long as the row.
        let steps = |points: usize| if self.sw == 1 { points } else { points.div_ceil(self.sw) };
        for vector in 0..vectors {
            let Inputs { channel, channels, lanes, mask, index } = inputs[vector];
            let to = row.wrapping_add(vector * if b.gapless { S::LANES } else { self.vector_len });
            // The vectors of pixels without gaps do not come one after the other: a second one may not reach into the next pixel.
            let is_second = b.gapless && vector > 0;
            // Of so many pixels at the end of the row only the channels may be read: where pixels have no gaps, what follows is the row's, too.
            let last = if lanes == S::LANES {
                0
            } else if grid.input_column == a.input_shape.c && channel == 0 {
                S::LANES.div_ceil(a.input_shape.c)
            } else {
                usize::MAX
            };
            for phase in 0..b.phases {
                let to = to.wrapping_add(phase * self.phase_len);
                let first = from + phase;
                // Those of the phase that lie in the input.
                let start = steps(grid.columns.valid_from.saturating_sub(first)).min(pixels);
                let end = steps(grid.columns.valid_to.saturating_sub(first)).clamp(start, pixels);
                let whole = steps(grid.columns.valid_to.saturating_sub(last).saturating_sub(first)).clamp(start, end);
                let input = grid.point(y, first).wrapping_add(channel);
                let step = grid.input_column.wrapping_mul(self.sw);
                macro_rules! copy {
                    ($pixels:expr, |$p:ident| $load:expr) => {
                        for i in $pixels {
                            let $p = input.wrapping_add(i.wrapping_mul(step));
                            let (v, to) = ($load, to.wrapping_add(i * b.pitch));
                            if is_second { s.store_masked(to, mask, v) } else { s.store(to, v) }
                        }
                    };
                }
                // SAFETY: of points in the input all channels can be read, and of those before the `last` a vector; there is room for a
                // vector at each point.
                unsafe {
                    copy!(0..start, |_p| zero);
                    if a.multiplier == 1 {
                        copy!(start..whole, |p| s.load(p));
                        copy!(whole..end, |p| s.load_masked(p, mask));
                    } else if channels == 1 {
                        copy!(start..end, |p| s.splat(*p));
                    } else {
                        copy!(start..end, |p| s.load_repeated(p, channels, index));
                    }
                    copy!(end..pixels, |_p| zero);
                }
            }
        }
    }

    /// The sums of a tile: `OH` rows of `OW` vectors, a period apart. `weights`: of their channels. `first`: their first in the buffer's first
    /// row. `held`: where in it the input row `top` is.
    ///
    /// # Safety
    /// 1. As [`Algorithm::run`].
    /// 2. The buffer holds the rows under the tile's taps that lie in the input.
    #[inline(always)]
    unsafe fn taps<const OH: usize, const OW: usize>(
        &self,
        weights: *const f32,
        first: *const f32,
        top: usize,
        mut held: usize,
    ) -> [[S::V; OW]; OH] {
        let Self { s, a, grid, b, .. } = *self;
        let [kh, kw] = a.kernel_size;
        let row_of_taps = kw * S::LANES;
        let back = b.pitch.wrapping_sub(self.sw.wrapping_mul(self.phase_len));
        // SAFETY: packed weights, and the buffer.
        unsafe {
            let mut acc = [[s.load(weights); OW]; OH];
            let weights = weights.wrapping_add(S::LANES);
            for iy in 0..(OH - 1) * self.sh + kh {
                let is_inside = grid.rows.has(top + iy);
                let row = first.wrapping_add(held * self.row_len);
                held = if held + 1 == b.rows { 0 } else { held + 1 };
                // Adds what an input row gives to output rows.
                macro_rules! feed {
                    ($from:literal..$to:expr) => {
                        if is_inside {
                            let (mut at, mut phase) = (row, 0);
                            let mut k = weights.wrapping_add(iy * row_of_taps);
                            for _ in 0..kw {
                                let mut w = [s.splat(0.0); OH];
                                for oy in $from..$to {
                                    w[oy] = s.load(k.wrapping_sub(oy * self.sh * row_of_taps));
                                }
                                for ox in 0..OW {
                                    let v = s.load(at.wrapping_add(ox * b.period));
                                    for oy in $from..$to {
                                        acc[oy][ox] = s.mul_add(v, w[oy], acc[oy][ox]);
                                    }
                                }
                                k = k.wrapping_add(S::LANES);
                                at = at.wrapping_add(self.phase_len);
                                phase += 1;
                                if phase == self.sw {
                                    (at, phase) = (at.wrapping_add(back), 0);
                                }
                            }
                        } else {
                            for oy in $from..$to {
                                let mut k = weights.wrapping_add((iy - oy * self.sh) * row_of_taps);
                                let mut sum = s.splat(-0.0);
                                for _ in 0..kw {
                                    sum = s.add(sum, s.mul(s.splat(0.0), s.load(k)));
                                    k = k.wrapping_add(S::LANES);
                                }
                                for ox in 0..OW {
                                    acc[oy][ox] = s.add(acc[oy][ox], sum);
                                }
                            }
                        }
                    };
                }
                let (feeds_first, feeds_second) = (iy < kh, OH == 2 && iy >= self.sh);
                if feeds_first && feeds_second {
                    feed!(0..OH);
                } else if feeds_first {
                    feed!(0..1);
                } else if feeds_second {
                    feed!(1..OH);
                }
            }
            acc
        }
    }

    /// Writes a tile of sums to the outputs that are there: from row `y` on, from that vector of the strip's rows on, or period, and of it that
    /// channel, or element.
    ///
    /// # Safety
    /// 1. As [`Algorithm::run`].
    /// 2. The grid has the rows, and the strip's columns.
    #[inline(always)]
    unsafe fn write<const OH: usize, const OW: usize>(&self, [y, x, c]: [usize; 3], acc: &[[S::V; OW]; OH]) {
        let Self { s, a, grid, b, .. } = *self;
        let (first, end) = (a.origin.c, a.origin.c + a.output_shape.c);
        let all = s.mask(0, S::LANES);
        // Without gaps, outputs are as the sums are if there are none in the output either.
        let neighbours = end - first == b.pitch
            && grid.output_column == b.pitch
            && (grid.residual_column == b.pitch || a.residual.is_none());
        let (is_whole, column, step) = if b.gapless {
            let last = (x + OW - 1) * b.period + c + S::LANES;
            (neighbours && last <= self.wide * b.pitch, x * b.period + c, [b.period; 2])
        } else {
            let c = self.c + c;
            (x + OW <= self.wide && c >= first && c + S::LANES <= end, c, [grid.output_column, grid.residual_column])
        };
        let pixel = if b.gapless { self.x } else { self.x + x };
        for oy in 0..OH {
            let (output, residual) = grid.result(y + oy, pixel, column);
            // SAFETY: outputs of the part, and their residuals.
            unsafe {
                if is_whole {
                    for ox in 0..OW {
                        let (output, residual) = (output.wrapping_add(ox * step[0]), (residual, ox * step[1]));
                        finish::<S, Whole, _>(s, a.bounds, acc[oy][ox], all, output, residual);
                    }
                    continue;
                }
                for ox in 0..OW {
                    let element = (x + ox) * b.period + if b.gapless { c } else { 0 };
                    if b.gapless && neighbours {
                        let lanes = (self.wide * b.pitch).saturating_sub(element).min(S::LANES);
                        let (output, residual) = (output.wrapping_add(ox * step[0]), (residual, ox * step[1]));
                        if lanes == S::LANES {
                            finish::<S, Whole, _>(s, a.bounds, acc[oy][ox], all, output, residual);
                        } else if lanes > 0 {
                            finish::<S, Masked, _>(s, a.bounds, acc[oy][ox], s.mask(0, lanes), output, residual);
                        }
                        continue;
                    }
                    // Lane by lane of each pixel.
                    let (pixels, channel) = if b.gapless { (b.pitch, 0) } else { (b.period, self.c + c) };
                    for x in element / pixels..(element + S::LANES).div_ceil(pixels).min(self.wide) {
                        let lane = |c: usize| {
                            c.saturating_sub(channel).saturating_add(x * pixels).clamp(element, element + S::LANES)
                                - element
                        };
                        let (output, residual) = grid.result(y + oy, self.x + x, channel);
                        // Where lane 0 would be, which may be another pixel's.
                        let back = element as isize - (x * pixels) as isize;
                        let (output, residual) =
                            (output.wrapping_offset(back), residual.map(|r| r.wrapping_offset(back)));
                        finish::<S, Masked, _>(
                            s,
                            a.bounds,
                            acc[oy][ox],
                            s.mask(lane(first), lane(end)),
                            output,
                            (residual, 0),
                        );
                    }
                }
            }
        }
    }
}
