//! Depthwise convolution of 8 bits, channels last: any window tap by tap, and 3×3 from rows that lie side by side.

use core::mem::MaybeUninit;

use super::finish::{Finish, Rule};
use super::simd::{QUAD, SimdInt, SimdRows, SimdWide};
use crate::info::{Form, KernelInfo, Operation};
use crate::simd::opaque_address;
use crate::table::Algorithm;
use crate::types::{ElementType, Layout, Taps};

/// What a kernel computes: a part of an image.
pub(crate) struct Args {
    /// The first row's first pixel, at the part's first channel.
    pub(crate) input: *const u8,
    /// Bytes from a row to the next, and from a pixel to the next.
    pub(crate) input_steps: [usize; 2],
    /// Rows and columns; outside is padding.
    pub(crate) input_extent: [usize; 2],
    /// What the inputs are to be flipped by.
    pub(crate) flip: u8,
    /// Where the first output's first tap is.
    pub(crate) first: [isize; 2],
    pub(crate) taps: Taps,
    /// Of bytes, or of sums, at the part's first channel.
    pub(crate) output: *mut u8,
    /// As of inputs, in elements.
    pub(crate) output_steps: [usize; 2],
    pub(crate) extent: [usize; 2],
    /// The first channel, which starts a panel.
    pub(crate) channel: usize,
    pub(crate) channels: usize,
    /// What padding reads, not flipped.
    pub(crate) padding: [u8; 64],
    pub(crate) weights: *const u8,
    pub(crate) bias: *const i32,
    pub(crate) finish: Finish,
}

impl Args {
    /// Where a tap of an output lies along an axis, or `None` on padding.
    #[inline(always)]
    fn at(&self, axis: usize, output: usize, tap: usize) -> Option<usize> {
        let at = self.first[axis] + (output * self.taps.stride[axis] + tap * self.taps.dilation[axis]) as isize;
        // What is negative is too large.
        Some(at as usize).filter(|&at| at < self.input_extent[axis])
    }

    /// The inputs of row `y`, and the bytes from one to the next. The padding is one pixel again and again.
    #[inline(always)]
    fn row(&self, y: Option<usize>) -> (*const u8, usize) {
        match y {
            Some(y) => (self.input.wrapping_add(y * self.input_steps[0]), self.input_steps[1]),
            None => (self.padding.as_ptr(), 0),
        }
    }
}

const fn info<S: SimdInt>(form: Form, tile: [usize; 2], window: Option<([usize; 2], [usize; 2])>) -> KernelInfo {
    let (kernel_size, stride) = match window {
        Some((kernel_size, stride)) => (Some(kernel_size), Some(stride)),
        None => (None, None),
    };
    KernelInfo {
        name: "",
        isa: S::ISA,
        operation: Operation::Depthwise,
        element: ElementType::I8,
        form,
        layout: Layout::Nhwc,
        kernel_size,
        stride,
        tile,
        lanes: S::LANES,
        spills: 0,
    }
}

/// Any window, two taps of a row at a time, an output pixel by a panel of channels.
pub(crate) struct Any;

impl<S: SimdWide> Algorithm<S> for Any {
    type Args = Args;
    const INFO: KernelInfo = info::<S>(Form::Any, [1, 1], None);

    #[inline(always)]
    unsafe fn run(s: S, args: &Args) {
        let [h, w] = args.extent;
        let [kh, kw] = args.taps.kernel_size;
        let pair = 2 * 2 * S::CHANNELS;
        let panel = kh * kw.div_ceil(2) * pair;
        for y in 0..h {
            for x in 0..w {
                let output = y * args.output_steps[0] + x * args.output_steps[1];
                for first in (0..args.channels).step_by(S::CHANNELS) {
                    let place = args.channel + first;
                    let n = S::CHANNELS.min(args.channels - first);
                    // SAFETY: taps lie in the input or are padding, of a panel's channels at the most; weights and biases are those of a
                    // panel, outputs within the part.
                    unsafe {
                        let mut sums = [s.load(args.bias.add(place)); 4];
                        for g in 1..S::GROUPS {
                            sums[g] = s.load(args.bias.add(place + g * S::LANES));
                        }
                        let mut weights = args.weights.wrapping_add(place / S::CHANNELS * panel);
                        for ky in 0..kh {
                            let row = args.at(0, y, ky);
                            let tap = |kx: usize| match (row, args.at(1, x, kx)) {
                                (Some(y), Some(x)) => {
                                    args.input.wrapping_add(y * args.input_steps[0] + x * args.input_steps[1] + first)
                                }
                                _ => args.padding.as_ptr(),
                            };
                            for kx in (0..kw).step_by(2) {
                                // Of the last one of an odd number, the second weights are 0.
                                let taps = [tap(kx), tap((kx + 1).min(kw - 1))];
                                sums = s.add_taps(sums, taps, n, args.flip, weights);
                                weights = weights.wrapping_add(pair);
                            }
                        }
                        match args.finish.rule {
                            Rule::NearestEven => {
                                let to = args.output.add(output + first);
                                args.finish.store::<S, false>(s, &sums, place, to, n);
                            }
                            Rule::Tflite => {
                                let to = args.output.add(output + first);
                                args.finish.store::<S, true>(s, &sums, place, to, n);
                            }
                            Rule::Sums => s.store_sums(&sums, args.output.cast::<i32>().add(output + first), n),
                        }
                    }
                }
            }
        }
    }
}

/// 3×3 at stride `STRIDE`: inputs of four rows, side by side, serve two rows of outputs, or one at stride 2. Tiles have `COLUMNS`.
pub(crate) struct Interleaved<const STRIDE: usize, const COLUMNS: usize>;

/// Rows of outputs that four rows of inputs serve.
pub(crate) const fn served(stride: usize) -> usize {
    if stride == 1 { 2 } else { 1 }
}

/// Bytes of a strip of four rows, side by side.
const STRIP: usize = 24 << 10;

#[repr(align(64))]
struct Strip(#[expect(dead_code, reason = "written and read by its address")] MaybeUninit<[u8; STRIP]>);

impl<S: SimdRows, const STRIDE: usize, const COLUMNS: usize> Algorithm<S> for Interleaved<STRIDE, COLUMNS> {
    type Args = Args;
    const INFO: KernelInfo = info::<S>(Form::Interleaved, [served(STRIDE), COLUMNS], Some(([3, 3], [STRIDE, STRIDE])));

    #[inline(always)]
    unsafe fn run(s: S, args: &Args) {
        let (rows, [h, w]) = (served(STRIDE), args.extent);
        let mut strip = Strip(MaybeUninit::uninit());
        let strip: *mut u8 = (&raw mut strip).cast();
        let column = S::GROUPS * QUAD;
        // Of like widths.
        let most = (STRIP / column - 3) / STRIDE + 1;
        let width = w.div_ceil(w.div_ceil(most).max(1)).max(1);
        for y in (0..h).step_by(rows) {
            for first in (0..args.channels).step_by(S::CHANNELS) {
                let panel = Panel::new::<S, STRIDE>(args, first);
                for x in (0..w).step_by(width) {
                    let columns = width.min(w - x);
                    // SAFETY: rows lie in the input or are padding; the strip holds the columns that so many outputs read.
                    unsafe {
                        let inputs = [0, 1, 2, 3].map(|j| args.row(args.at(0, y, j)));
                        for i in 0..(columns - 1) * STRIDE + 3 {
                            let to = strip.add(i * column);
                            match args.at(1, x, i) {
                                Some(at) => {
                                    // The padding has no more channels.
                                    let row = |(p, step): (*const u8, usize)| {
                                        if step == 0 { p } else { p.wrapping_add(at * step + first) }
                                    };
                                    s.interleave(inputs.map(row), panel.n, args.flip, to);
                                }
                                None => s.fill(args.padding[0] ^ args.flip, to),
                            }
                        }
                        let output = y * args.output_steps[0] + x * args.output_steps[1] + first;
                        let stored = rows.min(h - y);
                        match args.finish.rule {
                            Rule::NearestEven => {
                                tiles::<S, STRIDE, COLUMNS, NEAREST>(s, args, panel, strip, output, columns, stored);
                            }
                            Rule::Tflite => {
                                tiles::<S, STRIDE, COLUMNS, TFLITE>(s, args, panel, strip, output, columns, stored);
                            }
                            Rule::Sums => {
                                tiles::<S, STRIDE, COLUMNS, SUMS>(s, args, panel, strip, output, columns, stored);
                            }
                        }
                    }
                }
            }
        }
    }
}

const NEAREST: u8 = 0;
const TFLITE: u8 = 1;
const SUMS: u8 = 2;

#[derive(Clone, Copy)]
struct Panel {
    weights: *const u8,
    /// Its first channel, as tables count.
    place: usize,
    /// The outputs that are stored.
    n: usize,
}

impl Panel {
    #[inline(always)]
    fn new<S: SimdInt, const STRIDE: usize>(args: &Args, first: usize) -> Self {
        let place = args.channel + first;
        let bytes = S::GROUPS * served(STRIDE) * 3 * QUAD;
        let weights = args.weights.wrapping_add(place / S::CHANNELS * bytes);
        Panel { weights, place, n: S::CHANNELS.min(args.channels - first) }
    }
}

/// A strip's outputs.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. The strip holds what these columns of outputs read, of the panel's channels.
/// 3. The part has these rows and columns from `output` on, one row at the least.
#[inline(always)]
unsafe fn tiles<S: SimdRows, const STRIDE: usize, const COLUMNS: usize, const RULE: u8>(
    s: S,
    args: &Args,
    panel: Panel,
    strip: *const u8,
    output: usize,
    columns: usize,
    rows: usize,
) {
    let at = |x: usize| strip.wrapping_add(x * STRIDE * S::GROUPS * QUAD);
    // SAFETY: the caller's.
    unsafe {
        if columns < COLUMNS {
            for x in 0..columns {
                tile::<S, STRIDE, 1, RULE>(s, args, panel, at(x), output + x * args.output_steps[1], rows);
            }
            return;
        }
        let mut x = 0;
        while x < columns {
            // The last one may compute some again.
            let here = x.min(columns - COLUMNS);
            tile::<S, STRIDE, COLUMNS, RULE>(s, args, panel, at(here), output + here * args.output_steps[1], rows);
            x += COLUMNS;
        }
    }
}

/// The outputs of `N` columns.
///
/// # Safety
/// 1. As [`tiles`], of so many columns from `strip` on.
#[inline(always)]
unsafe fn tile<S: SimdRows, const STRIDE: usize, const N: usize, const RULE: u8>(
    s: S,
    args: &Args,
    panel: Panel,
    strip: *const u8,
    output: usize,
    rows: usize,
) {
    // SAFETY: the strip holds what N columns read; weights, biases and factors are those of a panel; outputs lie within the part.
    unsafe {
        if RULE == SUMS {
            let mut all = [[[s.load(args.bias.add(panel.place)); 4]; N]; 2];
            for g in 0..S::GROUPS {
                let sums = group::<S, STRIDE, N>(s, args, panel, strip, g);
                for r in 0..served(STRIDE) {
                    for i in 0..N {
                        all[r][i][g] = sums[r][i];
                    }
                }
            }
            for r in 0..rows {
                for i in 0..N {
                    let at = output + r * args.output_steps[0] + i * args.output_steps[1];
                    s.store_sums(&all[r][i], args.output.cast::<i32>().add(at), panel.n);
                }
            }
            return;
        }
        let first = pair::<S, STRIDE, N, RULE>(s, args, panel, strip, 0);
        let second = if S::GROUPS == 4 { pair::<S, STRIDE, N, RULE>(s, args, panel, strip, 2) } else { first };
        for r in 0..served(STRIDE) {
            if r < rows {
                for i in 0..N {
                    let at = output + r * args.output_steps[0] + i * args.output_steps[1];
                    s.store([first[r][i], second[r][i]], &args.finish.ends, args.output.add(at), panel.n);
                }
            }
        }
    }
}

/// The rounded sums of two vectors of channels, as 16 bits, from vector `g` of the panel on.
///
/// # Safety
/// 1. As [`tile`].
/// 2. The panel has vector `g` + 1.
#[inline(always)]
unsafe fn pair<S: SimdRows, const STRIDE: usize, const N: usize, const RULE: u8>(
    s: S,
    args: &Args,
    panel: Panel,
    strip: *const u8,
    g: usize,
) -> [[S::Packed; N]; 2] {
    // SAFETY: the caller's.
    unsafe {
        let a = rounded::<S, STRIDE, N, RULE>(s, args, panel, strip, g);
        let b = rounded::<S, STRIDE, N, RULE>(s, args, panel, strip, g + 1);
        let mut packed = [[s.pack(a[0][0], b[0][0]); N]; 2];
        for r in 0..served(STRIDE) {
            for i in 0..N {
                packed[r][i] = s.pack(a[r][i], b[r][i]);
            }
        }
        packed
    }
}

/// The rounded sums of vector `g` of the panel.
///
/// # Safety
/// 1. As [`tile`].
/// 2. The panel has it, and the stage factors of the rule.
#[inline(always)]
unsafe fn rounded<S: SimdRows, const STRIDE: usize, const N: usize, const RULE: u8>(
    s: S,
    args: &Args,
    panel: Panel,
    strip: *const u8,
    g: usize,
) -> [[S::V; N]; 2] {
    // SAFETY: the caller's.
    unsafe {
        let mut sums = group::<S, STRIDE, N>(s, args, panel, strip, g);
        let place = panel.place + g * S::LANES;
        for r in 0..served(STRIDE) {
            for i in 0..N {
                sums[r][i] = if RULE == TFLITE {
                    args.finish.rounded::<S, true>(s, sums[r][i], place)
                } else {
                    args.finish.rounded::<S, false>(s, sums[r][i], place)
                };
            }
        }
        sums
    }
}

/// The sums of vector `g` of the panel, of two rows, or of one twice.
///
/// # Safety
/// 1. As [`tile`].
/// 2. The panel has it.
#[inline(always)]
unsafe fn group<S: SimdRows, const STRIDE: usize, const N: usize>(
    s: S,
    args: &Args,
    panel: Panel,
    strip: *const u8,
    g: usize,
) -> [[S::V; N]; 2] {
    let rows = served(STRIDE);
    // Lest what all vectors read is loaded first, and spilled.
    let strip = opaque_address(strip.wrapping_add(g * QUAD));
    let weights = opaque_address(panel.weights.wrapping_add(g * rows * 3 * QUAD));
    // SAFETY: the caller's.
    unsafe {
        let bias = s.load(args.bias.add(panel.place + g * S::LANES));
        let mut sums = [[bias; N]; 2];
        let mut taps = [[s.quad(weights); 3]; 2];
        for r in 0..rows {
            for kx in 0..3 {
                taps[r][kx] = s.quad(weights.add((r * 3 + kx) * QUAD));
            }
        }
        for column in 0..(N - 1) * STRIDE + 3 {
            let quad = s.quad(strip.add(column * S::GROUPS * QUAD));
            for kx in 0..3 {
                if column >= kx && (column - kx) % STRIDE == 0 && (column - kx) / STRIDE < N {
                    let i = (column - kx) / STRIDE;
                    for r in 0..rows {
                        sums[r][i] = s.add_rows(sums[r][i], quad, taps[r][kx]);
                    }
                }
            }
        }
        sums
    }
}
