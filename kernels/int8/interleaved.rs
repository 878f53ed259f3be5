//! Depthwise convolution of 8 bits, channels last, from rows that lie side by side, so that one product takes an input of each.

use core::mem::MaybeUninit;

use super::depthwise::{Args, info};
use super::finish::Rule;
use super::simd::{SimdInt, SimdRows};
use crate::info::{Form, KernelInfo};
use crate::simd::opaque_address;
use crate::table::Algorithm;
use crate::types::{Taps, sub_grids, undilated_stride};

/// Any window, or where `K` is not 0, `K`×`K` at stride `STRIDE`: bundles of input rows, side by side, serve `ROWS` rows of outputs. Tiles
/// have `COLUMNS`.
pub(crate) struct Interleaved<const ROWS: usize, const COLUMNS: usize, const K: usize = 0, const STRIDE: usize = 0>;

/// How rows of outputs share rows of inputs, which lie in bundles, a dilation apart.
#[derive(Clone, Copy)]
pub(crate) struct Sharing {
    pub(crate) bundles: usize,
    /// Those of them that the next rows of outputs meet first.
    pub(crate) kept: usize,
    /// From one row of outputs to the next that shares the bundles.
    pub(crate) step: usize,
    /// The rows of bundles between their first taps.
    pub(crate) shift: usize,
}

impl Sharing {
    /// Of so many rows of outputs. `bundle`: the rows of one.
    pub(crate) fn of(taps: Taps, rows: usize, bundle: usize) -> Self {
        let (kh, stride, dilation) = (taps.kernel_size[0], taps.stride[0], taps.dilation[0]);
        let (step, shift) = (sub_grids(stride, dilation), undilated_stride(stride, dilation));
        let bundles = kh.saturating_add((rows - 1) * shift).div_ceil(bundle);
        let moved = rows * shift;
        let kept = if moved.is_multiple_of(bundle) { bundles.saturating_sub(moved / bundle) } else { 0 };
        Self { bundles, kept, step, shift }
    }
}

/// Whether output row `row`, of those that share bundles, has taps in bundle `b`, of windows `k` high.
pub(crate) const fn meets(bundle: usize, b: usize, row: usize, shift: usize, k: usize) -> bool {
    row * shift < (b + 1) * bundle && row * shift + k > b * bundle
}

/// Bytes of a strip of inputs, side by side.
const STRIP: usize = 24 << 10;

#[repr(align(64))]
struct Strip(#[expect(dead_code, reason = "written and read by its address")] MaybeUninit<[u8; STRIP]>);

/// How many columns of outputs a strip serves, of so many bytes for a column of inputs.
pub(crate) fn strip_columns(taps: Taps, column: usize) -> usize {
    let reach = (taps.kernel_size[1] - 1).saturating_mul(taps.dilation[1]);
    (STRIP / column).checked_sub(reach.saturating_add(1)).map_or(0, |more| more / taps.stride[1] + 1)
}

impl<S: SimdRows, const ROWS: usize, const COLUMNS: usize, const K: usize, const STRIDE: usize> Algorithm<S>
    for Interleaved<ROWS, COLUMNS, K, STRIDE>
where
    S::Half: SimdRows,
{
    type Args = Args;
    const INFO: KernelInfo = {
        let window = if K == 0 { None } else { Some(([K, K], [STRIDE, STRIDE])) };
        info::<S>(Form::Interleaved, [ROWS, COLUMNS], window)
    };

    #[inline(always)]
    unsafe fn run(s: S, args: &Args) {
        let sharing = Sharing::of(args.taps, ROWS, S::GROUP);
        let mut strip = Strip(MaybeUninit::uninit());
        let strip: *mut u8 = (&raw mut strip).cast();
        for first in (0..args.channels).step_by(S::CHANNELS) {
            let panel = Panel::new::<S, ROWS>(args, first, sharing.bundles);
            // SAFETY: the caller's; a panel of half the channels has their weights and tables in the same places.
            unsafe {
                if S::Half::CHANNELS < S::CHANNELS && panel.n <= S::Half::CHANNELS {
                    outputs::<S::Half, ROWS, COLUMNS, K, STRIDE>(s.half(), args, panel, strip, sharing);
                } else {
                    outputs::<S, ROWS, COLUMNS, K, STRIDE>(s, args, panel, strip, sharing);
                }
            }
        }
    }
}

const NEAREST: u8 = 0;
const TFLITE: u8 = 1;
const SUMS: u8 = 2;
/// As `NEAREST`, of scaled sums of any size.
const GUARDED: u8 = 3;

#[derive(Clone, Copy)]
struct Panel {
    weights: *const u8,
    /// Its first channel, of the part.
    first: usize,
    /// The same as tables count.
    place: usize,
    /// The outputs that are stored.
    n: usize,
}

impl Panel {
    #[inline(always)]
    fn new<S: SimdRows, const ROWS: usize>(args: &Args, first: usize, bundles: usize) -> Self {
        let place = args.channel + first;
        let bytes = S::GROUPS * bundles * args.taps.kernel_size[1] * ROWS * S::BYTES;
        let weights = args.weights.wrapping_add(place / S::CHANNELS * bytes);
        Panel { weights, first, place, n: S::CHANNELS.min(args.channels - first) }
    }
}

/// A panel's outputs.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. The panel has at most [`CHANNELS`](SimdInt::CHANNELS) channels.
/// 3. `strip` is a [`Strip`], to write, that serves a column of outputs at the least.
/// 4. `sharing` is that of the taps, of `ROWS` and [`GROUP`](SimdInt::GROUP).
#[inline(always)]
unsafe fn outputs<S: SimdRows, const ROWS: usize, const COLUMNS: usize, const K: usize, const STRIDE: usize>(
    s: S,
    args: &Args,
    panel: Panel,
    strip: *mut u8,
    sharing: Sharing,
) {
    let ([h, w], [_, stride]) = (args.extent, args.taps.stride);
    let Sharing { bundles, kept, step, .. } = sharing;
    let column = bundles * S::GROUPS * S::BYTES;
    let reach = (args.taps.kernel_size[1] - 1) * args.taps.dilation[1] + 1;
    // Of like widths.
    let most = strip_columns(args.taps, column);
    debug_assert!(most > 0);
    let width = w.div_ceil(w.div_ceil(most).max(1)).max(1);
    for x in (0..w).step_by(width) {
        let columns = width.min(w - x);
        // Rows that share bundles lie `step` apart.
        for start in 0..step.min(h) {
            let mut slot = 0;
            for y in (start..h).step_by(step * ROWS) {
                let first = if y == start { 0 } else { kept };
                slot = (slot + bundles - first) % bundles;
                // SAFETY: rows lie in the input or are padding; the strip holds the columns that so many outputs read.
                unsafe {
                    for b in first..bundles {
                        let mut rows = [None; 4];
                        for j in 0..S::GROUP {
                            rows[j] = args.at(0, y, S::GROUP * b + j);
                        }
                        let to = strip.add((slot + b) % bundles * S::GROUPS * S::BYTES);
                        let to = Side { strip: to, column, first: x * stride };
                        let number = (columns - 1) * stride + reach;
                        if panel.n == S::CHANNELS {
                            side_by_side(s, args, rows, panel.first, S::CHANNELS, to, number);
                        } else {
                            side_by_side(s, args, rows, panel.first, panel.n, to, number);
                        }
                    }
                    let part = Tiles {
                        strip,
                        sharing,
                        slot,
                        output: y * args.output_steps[0] + x * args.output_steps[1] + panel.first,
                        row: step.wrapping_mul(args.output_steps[0]),
                        rows: ROWS.min((h - y).div_ceil(step)),
                        columns,
                    };
                    match args.finish.rule {
                        Rule::NearestEven if args.finish.fits => {
                            tiles::<S, ROWS, COLUMNS, K, STRIDE, NEAREST>(s, args, panel, part);
                        }
                        Rule::NearestEven => tiles::<S, ROWS, COLUMNS, K, STRIDE, GUARDED>(s, args, panel, part),
                        Rule::Tflite => tiles::<S, ROWS, COLUMNS, K, STRIDE, TFLITE>(s, args, panel, part),
                        Rule::Sums => tiles::<S, ROWS, COLUMNS, K, STRIDE, SUMS>(s, args, panel, part),
                    }
                }
            }
        }
    }
}

/// Where rows are written side by side.
#[derive(Clone, Copy)]
struct Side {
    strip: *mut u8,
    /// Bytes from a column to the next.
    column: usize,
    /// The first column, counted from where the first output has its first tap.
    first: usize,
}

/// Writes so many columns of a bundle, from channel `first` of the part on, side by side.
///
/// # Safety
/// 1. The rows are those of the input, or `None` on padding, and have `n` channels from there on.
/// 2. A panel's inputs can be written for each column.
#[inline(always)]
unsafe fn side_by_side<S: SimdRows>(
    s: S,
    args: &Args,
    rows: [Option<usize>; 4],
    first: usize,
    n: usize,
    to: Side,
    number: usize,
) {
    let start = args.first[1] + to.first as isize;
    let left = (-start).clamp(0, number as isize) as usize;
    let right = (args.input_extent[1] as isize - start).clamp(left as isize, number as isize) as usize;
    // SAFETY: the caller's; columns from `left` to `right` are the input's.
    unsafe {
        let mut strip = to.strip;
        for _ in 0..left {
            s.fill(args.padding[0] ^ args.flip, strip);
            strip = strip.wrapping_add(to.column);
        }
        let (mut inputs, mut steps) = ([args.padding.as_ptr(); 4], [0; 4]);
        for j in 0..4 {
            // The padding is one pixel again and again.
            if let Some(y) = rows[j] {
                let [row, pixel] = args.input_steps;
                let at = start.wrapping_add(left as isize) as usize;
                let at = (y * row).wrapping_add(at.wrapping_mul(pixel)).wrapping_add(first);
                (inputs[j], steps[j]) = (args.input.wrapping_add(at), pixel);
            }
        }
        for _ in left..right {
            s.interleave(inputs, n, args.flip, strip);
            for j in 0..4 {
                inputs[j] = inputs[j].wrapping_add(steps[j]);
            }
            strip = strip.wrapping_add(to.column);
        }
        for _ in right..number {
            s.fill(args.padding[0] ^ args.flip, strip);
            strip = strip.wrapping_add(to.column);
        }
    }
}

/// Outputs that a strip serves.
#[derive(Clone, Copy)]
struct Tiles {
    strip: *const u8,
    sharing: Sharing,
    /// Where the first bundle is; the others follow it in a ring.
    slot: usize,
    /// Elements to the first output, and from its row to the next.
    output: usize,
    row: usize,
    rows: usize,
    columns: usize,
}

impl Tiles {
    /// From column `x` on.
    #[inline(always)]
    fn from<S: SimdRows>(self, args: &Args, x: usize) -> Self {
        let column = self.sharing.bundles * S::GROUPS * S::BYTES;
        let strip = self.strip.wrapping_add(x * args.taps.stride[1] * column);
        Tiles { strip, output: self.output + x * args.output_steps[1], columns: self.columns - x, ..self }
    }
}

/// A strip's outputs.
///
/// # Safety
/// 1. As [`outputs`].
/// 2. The strip holds what these columns of outputs read, of the panel's channels.
/// 3. The part has these rows and columns, one row at the least.
#[inline(always)]
unsafe fn tiles<
    S: SimdRows,
    const ROWS: usize,
    const COLUMNS: usize,
    const K: usize,
    const STRIDE: usize,
    const RULE: u8,
>(
    s: S,
    args: &Args,
    panel: Panel,
    part: Tiles,
) {
    // SAFETY: the caller's.
    unsafe {
        let mut x = 0;
        while x < part.columns {
            // The last one may compute some again.
            if part.columns >= COLUMNS {
                let part = part.from::<S>(args, x.min(part.columns - COLUMNS));
                tile::<S, ROWS, COLUMNS, K, STRIDE, RULE>(s, args, panel, part);
                x += COLUMNS;
            } else if part.columns >= 2 {
                tile::<S, ROWS, 2, K, STRIDE, RULE>(s, args, panel, part.from::<S>(args, x.min(part.columns - 2)));
                x += 2;
            } else {
                tile::<S, ROWS, 1, K, STRIDE, RULE>(s, args, panel, part);
                x += 1;
            }
        }
    }
}

/// The outputs of `N` columns.
///
/// # Safety
/// 1. As [`tiles`], of so many columns.
#[inline(always)]
unsafe fn tile<S: SimdRows, const ROWS: usize, const N: usize, const K: usize, const STRIDE: usize, const RULE: u8>(
    s: S,
    args: &Args,
    panel: Panel,
    part: Tiles,
) {
    // SAFETY: the strip holds what N columns read; weights, biases and factors are those of a panel; outputs lie within the part.
    unsafe {
        if RULE == SUMS {
            let mut all = [[[s.load(args.bias.add(panel.place)); 4]; N]; ROWS];
            for g in 0..S::GROUPS {
                let sums = group::<S, ROWS, N, K, STRIDE>(s, args, panel, part, g);
                for r in 0..ROWS {
                    for i in 0..N {
                        all[r][i][g] = sums[r][i];
                    }
                }
            }
            for r in 0..part.rows {
                for i in 0..N {
                    let at = part.output + r * part.row + i * args.output_steps[1];
                    s.store_sums(&all[r][i], args.output.cast::<i32>().add(at), panel.n);
                }
            }
            return;
        }
        let first = pair::<S, ROWS, N, K, STRIDE, RULE>(s, args, panel, part, 0);
        let second = if S::GROUPS == 4 { pair::<S, ROWS, N, K, STRIDE, RULE>(s, args, panel, part, 2) } else { first };
        for r in 0..ROWS {
            if r < part.rows {
                for i in 0..N {
                    let at = part.output + r * part.row + i * args.output_steps[1];
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
/// 2. The panel has vector `g` + 1, and the stage factors of the rule.
/// 3. Of `NEAREST`, scaled sums fit in 32 bits.
#[inline(always)]
unsafe fn pair<S: SimdRows, const ROWS: usize, const N: usize, const K: usize, const STRIDE: usize, const RULE: u8>(
    s: S,
    args: &Args,
    panel: Panel,
    part: Tiles,
    g: usize,
) -> [[S::Packed; N]; ROWS] {
    // SAFETY: the caller's.
    unsafe {
        let mut halves = [[[s.load(args.bias.add(panel.place)); N]; ROWS]; 2];
        for half in 0..2 {
            let sums = group::<S, ROWS, N, K, STRIDE>(s, args, panel, part, g + half);
            let place = panel.place + (g + half) * S::STEP;
            for r in 0..ROWS {
                for i in 0..N {
                    halves[half][r][i] = match RULE {
                        TFLITE => args.finish.rounded::<S, true>(s, sums[r][i], place),
                        GUARDED => args.finish.rounded::<S, false>(s, sums[r][i], place),
                        _ => args.finish.rounded_fitting(s, sums[r][i], place),
                    };
                }
            }
        }
        let mut packed = [[s.pack(halves[0][0][0], halves[1][0][0]); N]; ROWS];
        for r in 0..ROWS {
            for i in 0..N {
                packed[r][i] = s.pack(halves[0][r][i], halves[1][r][i]);
            }
        }
        packed
    }
}

/// The sums of vector `g` of the panel.
///
/// # Safety
/// 1. As [`tile`].
/// 2. The panel has it.
#[inline(always)]
unsafe fn group<S: SimdRows, const ROWS: usize, const N: usize, const K: usize, const STRIDE: usize>(
    s: S,
    args: &Args,
    panel: Panel,
    part: Tiles,
    g: usize,
) -> [[S::V; N]; ROWS] {
    let (kw, stride) = if K == 0 { (args.taps.kernel_size[1], args.taps.stride[1]) } else { (K, STRIDE) };
    let (bundle, bundles) = (S::GROUPS * S::BYTES, part.sharing.bundles);
    let (column, dilation) = (bundles * bundle, if K == 0 { args.taps.dilation[1] } else { 1 });
    // Lest what all vectors read is loaded first, and spilled.
    let strip = opaque_address(part.strip.wrapping_add(g * S::BYTES));
    let mut weights = opaque_address(panel.weights.wrapping_add(g * bundles * kw * ROWS * S::BYTES));
    // SAFETY: the caller's.
    unsafe {
        let bias = s.load(args.bias.add(panel.place + g * S::STEP));
        let mut sums = [[bias; N]; ROWS];
        let mut slot = part.slot;
        for b in 0..if K == 0 { bundles } else { (K + (ROWS - 1) * STRIDE).div_ceil(S::GROUP) } {
            for kx in 0..kw {
                let inputs = strip.wrapping_add(slot * bundle + kx * dilation * column);
                if ROWS <= N {
                    let mut taps = [s.weights(weights); ROWS];
                    for r in 1..ROWS {
                        taps[r] = s.weights(weights.add(r * S::BYTES));
                    }
                    for i in 0..N {
                        let columns = s.inputs(inputs.add(i * stride * column));
                        for r in 0..ROWS {
                            if K == 0 || meets(S::GROUP, b, r, STRIDE, K) {
                                sums[r][i] = s.add_products(sums[r][i], columns, taps[r]);
                            }
                        }
                    }
                } else {
                    let mut columns = [s.inputs(inputs); N];
                    for i in 1..N {
                        columns[i] = s.inputs(inputs.add(i * stride * column));
                    }
                    for r in 0..ROWS {
                        let taps = s.weights(weights.add(r * S::BYTES));
                        for i in 0..N {
                            if K == 0 || meets(S::GROUP, b, r, STRIDE, K) {
                                sums[r][i] = s.add_products(sums[r][i], columns[i], taps);
                            }
                        }
                    }
                }
                weights = weights.wrapping_add(ROWS * S::BYTES);
            }
            slot = if slot + 1 == bundles { 0 } else { slot + 1 };
        }
        sums
    }
}
