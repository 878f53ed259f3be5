//! Depthwise convolution, channels first, of narrow planes: those of as many channels as a vector has lanes are copied side by side, a
//! vector for each of their pixels, with the padding. Lanes are channels then, as in the other layout.
//!
//! ```text
//! for each block of columns, each vector of channels:    transpose its weights
//!     for each block of rows:     transpose the inputs under it
//!         for each R outputs:     acc[R] = bias;  for each tap: acc[r] += input * weight
//!         transpose the sums
//! ```

use core::mem::MaybeUninit;

use crate::depthwise::DepthwiseArgs;
use crate::epilogue::finish;
use crate::simd::{Masked, Simd, Whole};
use crate::types::{MAX_STRIDE, Shape, Taps};

/// Elements of weights, of inputs and of sums.
const WEIGHTS: usize = 2 << 10;
const INPUTS: usize = 6 << 10;
const SUMS: usize = 13 << 8;
/// Outputs of a block at the most.
const OUTPUTS: usize = 192;

#[repr(align(64))]
struct Room<const N: usize>([f32; N]);

/// How planes are cut.
pub(super) struct Beside {
    /// Rows and columns of outputs of a block.
    rows: usize,
    wide: usize,
}

/// A block's columns of outputs.
struct Block {
    /// The first of them, in the part, and how many.
    x: usize,
    wide: usize,
    /// Columns of inputs under them, and those of them that lie in the input.
    columns: usize,
    from: usize,
    to: usize,
    /// The input column of the first of them, negative in the padding.
    left: isize,
    /// Where the inputs of each output begin.
    offsets: [usize; OUTPUTS],
}

/// Whether so many channels' planes, of so many columns of outputs, are copied side by side: whole vectors of them, of short rows that
/// are not cut, or if columns are more than two apart. There must be room for what some outputs read.
#[inline(always)]
pub(crate) fn suits(taps: Taps, multiplier: usize, lanes: usize, channels: usize, width: usize) -> bool {
    let size = taps.kernel_size[0].saturating_mul(taps.kernel_size[1]);
    if multiplier > 1 || channels < lanes || size >= WEIGHTS / lanes {
        return false;
    }
    let reach = (width - 1).saturating_mul(taps.stride[1]).saturating_add(reach(taps, 1));
    let is_short = |wide: usize| wide == width && reach < 8 * lanes.min(8);
    block(taps, lanes, width).is_some_and(|[_, wide]| is_short(wide) || taps.stride[1] > 2)
}

/// Points from the first tap to the last.
#[inline(always)]
fn reach(taps: Taps, axis: usize) -> usize {
    (taps.kernel_size[axis] - 1).saturating_mul(taps.dilation[axis])
}

/// Rows and columns of outputs of a block: columns as many as there are, or enough for several vectors, if there is room.
#[inline(always)]
fn block(taps: Taps, lanes: usize, width: usize) -> Option<[usize; 2]> {
    let ([sh, sw], [below, beside]) = (taps.stride, [reach(taps, 0), reach(taps, 1)]);
    let mut found = None;
    for rows in [1, 2, 4] {
        let points = ((rows - 1) * sh).saturating_add(below).saturating_add(1);
        let Some(left) = (INPUTS / lanes / points).checked_sub(beside.saturating_add(1)) else { break };
        let wide = (left / sw + 1).min(width).min(OUTPUTS);
        if found.is_none() || wide >= width.min(16) {
            // As many rows as there is room for.
            let columns = (wide - 1) * sw + beside + 1;
            let most = (INPUTS / lanes / columns - below - 1) / sh + 1;
            found = Some([most.min(OUTPUTS / wide), wide]);
        }
    }
    found
}

impl Beside {
    /// If they are.
    #[inline(always)]
    pub(super) fn of<S: Simd>(a: &DepthwiseArgs) -> Option<Self> {
        let Shape { c, h, w, .. } = a.output_shape;
        let taps = Taps { kernel_size: a.kernel_size, stride: a.stride, dilation: a.dilation };
        if a.input_strides.c > MAX_STRIDE || !suits(taps, a.multiplier, S::LANES, c, w) {
            return None;
        }
        let [rows, wide] = block(taps, S::LANES, w)?;
        Some(Self { rows: rows.min(h), wide: w.div_ceil(w.div_ceil(wide)) })
    }

    /// The columns from `x` on.
    #[inline(always)]
    fn block(&self, a: &DepthwiseArgs, lanes: usize, x: usize) -> Block {
        let wide = self.wide.min(a.output_shape.w - x);
        let [sh, sw] = a.stride;
        let columns = (wide - 1) * sw + (a.kernel_size[1] - 1) * a.dilation[1] + 1;
        let left = ((a.origin.w + x) * sw) as isize - a.pad[1] as isize;
        let from = left.min(0).unsigned_abs().min(columns);
        let to = (a.input_shape.w as isize - left).max(0).unsigned_abs().clamp(from, columns);
        let mut offsets = [0; OUTPUTS];
        for (offset, output) in offsets.iter_mut().zip(0..self.rows * wide) {
            *offset = (output / wide * sh * columns + output % wide * sw) * lanes;
        }
        Block { x, wide, columns, from, to, left, offsets }
    }

    /// # Safety
    /// 1. As [`Algorithm::run`](crate::table::Algorithm::run).
    /// 2. It is of these arguments.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd, const R: usize>(&self, s: S, a: &DepthwiseArgs) {
        let (lanes, shape) = (S::LANES, a.output_shape);
        let size = 1 + a.kernel_size[0] * a.kernel_size[1];
        let mut weights = MaybeUninit::<Room<WEIGHTS>>::uninit();
        let mut inputs = MaybeUninit::<Room<INPUTS>>::uninit();
        let mut sums = MaybeUninit::<Room<SUMS>>::uninit();
        let weights = weights.as_mut_ptr().cast::<f32>();
        let [inputs, sums] = [inputs.as_mut_ptr().cast::<f32>(), sums.as_mut_ptr().cast::<f32>()];
        // Of sums a vector more is read than there are.
        // SAFETY: there is room for those of a block and a vector.
        unsafe { zero(s, sums, self.rows * self.wide + lanes) }
        for x in (0..shape.w).step_by(self.wide) {
            let block = self.block(a, lanes, x);
            // Padding stays zero, if it is at the same place in all blocks.
            // SAFETY: there is room for what a block reads.
            unsafe { zero(s, inputs, points(a, self.rows) * block.columns) }
            for c in (0..shape.c).step_by(lanes) {
                // The last vector is moved back rather than cut.
                let c = c.min(shape.c - lanes);
                let packed = a.weights.wrapping_add((a.origin.c + c) * size);
                // SAFETY: 1. The caller's. 2. The part has these rows and columns of a vector of channels from `c` on, each of which has so
                // many weights. 3. The room was asked for.
                unsafe {
                    transpose(s, packed, size, size, weights, (size, size));
                    for n in 0..shape.n {
                        for y in (0..shape.h).step_by(self.rows) {
                            let rows = self.rows.min(shape.h - y);
                            block.fill(s, a, [n, c, y], rows, inputs, self.rows < shape.h);
                            let outputs = rows * block.wide;
                            let mut output = 0;
                            while output < outputs {
                                if outputs >= R {
                                    let first = output.min(outputs - R);
                                    block.tile::<S, R>(s, a, weights, inputs, first, sums);
                                    output = first + R;
                                } else {
                                    block.tile::<S, 1>(s, a, weights, inputs, output, sums);
                                    output += 1;
                                }
                            }
                            block.write(s, a, [n, c, y], rows, sums);
                        }
                    }
                }
            }
        }
    }
}

/// Rows of inputs under so many rows of outputs.
#[inline(always)]
fn points(a: &DepthwiseArgs, rows: usize) -> usize {
    (rows - 1) * a.stride[0] + (a.kernel_size[0] - 1) * a.dilation[0] + 1
}

impl Block {
    /// Transposes the inputs under so many rows of outputs, from image, channel and row on. `clears`: what was another block's input may
    /// be padding here.
    ///
    /// # Safety
    /// 1. As [`Algorithm::run`](crate::table::Algorithm::run).
    /// 2. The part has these rows of a vector of channels.
    /// 3. There is room for what they read.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "what to read, and where to")]
    unsafe fn fill<S: Simd>(
        &self,
        s: S,
        a: &DepthwiseArgs,
        [n, c, y]: [usize; 3],
        rows: usize,
        inputs: *mut f32,
        clears: bool,
    ) {
        let (is, wide, points) = (a.input_strides, self.to - self.from, points(a, rows));
        let plane = a.input.cast::<f32>().wrapping_add(n * is.n + (a.origin.c + c) * is.c);
        let first = ((a.origin.h + y) * a.stride[0]) as isize - a.pad[0] as isize;
        let top = first.min(0).unsigned_abs().min(points);
        let bottom = (a.input_shape.h as isize - first).max(0).unsigned_abs().clamp(top, points);
        let input = |row: usize| {
            let row = (first + row as isize).wrapping_mul(is.h as isize);
            plane.wrapping_offset(row).wrapping_offset(self.left + self.from as isize)
        };
        let to = |row: usize| inputs.wrapping_add((row * self.columns + self.from) * S::LANES);
        // SAFETY: of the planes, rows from the first to the last that lie in the input are read, of these the columns that do.
        unsafe {
            if clears {
                zero(s, inputs, points * self.columns);
            }
            if wide == 0 || bottom == top {
                return;
            }
            if is.h == wide {
                // Rows follow each other without a gap.
                transpose(s, input(top), is.c, (bottom - top) * wide, to(top), (wide, self.columns));
            } else {
                for row in top..bottom {
                    transpose(s, input(row), is.c, wide, to(row), (wide, wide));
                }
            }
        }
    }

    /// The sums of `R` outputs from `first` on.
    ///
    /// # Safety
    /// 1. `weights`, `inputs` and `sums` have room for what these outputs take.
    #[allow(clippy::too_many_arguments, reason = "three rooms, and which outputs")]
    #[inline(always)]
    unsafe fn tile<S: Simd, const R: usize>(
        &self,
        s: S,
        a: &DepthwiseArgs,
        weights: *const f32,
        inputs: *const f32,
        first: usize,
        sums: *mut f32,
    ) {
        let [kh, kw] = a.kernel_size;
        let [below, beside] = [a.dilation[0] * self.columns * S::LANES, a.dilation[1] * S::LANES];
        let mut offsets = [0; R];
        offsets.copy_from_slice(&self.offsets[first..first + R]);
        // SAFETY: the caller's.
        unsafe {
            let mut acc = [s.load(weights); R];
            let mut k = weights;
            let mut row = inputs;
            for _ in 0..kh {
                let mut at = row;
                for _ in 0..kw {
                    k = k.wrapping_add(S::LANES);
                    let w = s.load(k);
                    for r in 0..R {
                        acc[r] = s.mul_add(s.load(at.wrapping_add(offsets[r])), w, acc[r]);
                    }
                    at = at.wrapping_add(beside);
                }
                row = row.wrapping_add(below);
            }
            for r in 0..R {
                s.store(sums.wrapping_add((first + r) * S::LANES), acc[r]);
            }
        }
    }

    /// Writes the sums of `rows` rows of outputs, from image, channel and row on.
    ///
    /// # Safety
    /// 1. As [`Algorithm::run`](crate::table::Algorithm::run).
    /// 2. The part has these rows of a vector of channels, and there are as many sums, and room for a vector of outputs more.
    #[inline(always)]
    unsafe fn write<S: Simd>(&self, s: S, a: &DepthwiseArgs, [n, c, y]: [usize; 3], rows: usize, sums: *mut f32) {
        let (lanes, wide) = (S::LANES, self.wide);
        let (os, rs) = (a.output_strides, a.residual_strides);
        let output = a.output.cast::<f32>().wrapping_add(n * os.n + c * os.c + y * os.h + self.x);
        let residual = a.residual.map(|r| r.cast::<f32>().wrapping_add(n * rs.n + c * rs.c + y * rs.h + self.x));
        let all = s.mask(0, lanes);
        // SAFETY: the caller's.
        unsafe {
            let outputs = rows * wide;
            let follow =
                |[output, residual]: [usize; 2], len: usize| output == len && (a.residual.is_none() || residual == len);
            let rows_follow = rows == 1 || follow([os.h, rs.h], wide);
            if outputs < lanes && rows_follow && follow([os.c, rs.c], outputs) {
                // All channels' outputs are one run.
                let mut run = MaybeUninit::<Room<SUMS>>::uninit();
                let run = run.as_mut_ptr().cast::<f32>();
                let run = if outputs == 1 {
                    sums
                } else {
                    for lane in 0..lanes {
                        for i in 0..outputs {
                            *run.wrapping_add(lane * outputs + i) = *sums.wrapping_add(i * lanes + lane);
                        }
                    }
                    run
                };
                for i in 0..outputs {
                    let at = i * lanes;
                    let sum = s.load(run.wrapping_add(at));
                    finish::<S, Whole, _>(s, a.bounds, sum, all, output.wrapping_add(at), (residual, at));
                }
                return;
            }
            let (runs, len) = if rows_follow { (1, outputs) } else { (rows, wide) };
            let mask = s.mask(0, len.min(lanes));
            for run in 0..runs {
                let mut x = 0;
                while x < len {
                    x = x.min(len.saturating_sub(lanes));
                    for lane in (0..lanes).step_by(4) {
                        let four = s.deal(sums.wrapping_add((run * len + x) * lanes + lane), lanes);
                        for j in 0..4 {
                            let output = output.wrapping_add((lane + j) * os.c + run * os.h + x);
                            let residual = (residual, (lane + j) * rs.c + run * rs.h + x);
                            if len >= lanes {
                                finish::<S, Whole, _>(s, a.bounds, four[j], all, output, residual);
                            } else {
                                finish::<S, Masked, _>(s, a.bounds, four[j], mask, output, residual);
                            }
                        }
                    }
                    x += lanes;
                }
            }
        }
    }
}

/// Makes so many vectors zero.
///
/// # Safety
/// 1. They can be written.
#[inline(always)]
unsafe fn zero<S: Simd>(s: S, to: *mut f32, vectors: usize) {
    for i in 0..vectors {
        // SAFETY: the caller's.
        unsafe { s.store(to.wrapping_add(i * S::LANES), s.splat(0.0)) }
    }
}

/// Element `i` of as many runs as a vector has lanes, `step` apart, becomes vector `i`: in rows of `width` that are `pitch` apart.
///
/// # Safety
/// 1. The runs' `count` elements can be read, and the vectors written.
/// 2. `step` is at most [`MAX_STRIDE`].
#[inline(always)]
unsafe fn transpose<S: Simd>(
    s: S,
    runs: *const f32,
    step: usize,
    count: usize,
    to: *mut f32,
    (width, pitch): (usize, usize),
) {
    // SAFETY: the caller's.
    unsafe {
        if count < 4 {
            let all = s.mask(0, S::LANES);
            for i in 0..count {
                let pixel = i / width * pitch + i % width;
                s.store(to.wrapping_add(pixel * S::LANES), s.load_strided(runs.wrapping_add(i), step, all));
            }
            return;
        }
        let mut i = 0;
        while i < count {
            // The last four are moved back rather than cut.
            i = i.min(count - 4);
            let four = s.deal(runs.wrapping_add(i), step);
            let (mut pixel, mut left) = (i / width * pitch + i % width, width - i % width);
            for j in 0..4 {
                s.store(to.wrapping_add(pixel * S::LANES), four[j]);
                (pixel, left) = if left == 1 { (pixel + 1 + pitch - width, width) } else { (pixel + 1, left - 1) };
            }
            i += 4;
        }
    }
}
