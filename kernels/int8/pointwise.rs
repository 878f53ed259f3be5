//! Pointwise convolution of 8 bits, channels last: tiles of pixels by a panel of output channels.

use super::finish::{Finish, Rule};
use super::simd::{SimdInt, SimdWide};
use crate::info::{Form, KernelInfo, Operation};
use crate::table::Algorithm;
use crate::types::{ElementType, Layout};

/// What a kernel computes: rows of pixels.
pub(crate) struct Args {
    pub(crate) input: *const u8,
    /// Bytes from a row to the next, and from a pixel to the next.
    pub(crate) input_steps: [usize; 2],
    /// Input channels.
    pub(crate) depth: usize,
    /// What the inputs are to be flipped by.
    pub(crate) flip: u8,
    /// Of bytes, or of sums.
    pub(crate) output: *mut u8,
    /// The same of outputs, in elements.
    pub(crate) output_steps: [usize; 2],
    /// Rows and columns.
    pub(crate) extent: [usize; 2],
    /// The first output channel, which starts a panel.
    pub(crate) channel: usize,
    /// As many of them.
    pub(crate) channels: usize,
    pub(crate) weights: *const u8,
    pub(crate) bias: *const i32,
    pub(crate) finish: Finish,
    /// [`scratch_len`] bytes, on a cache line.
    pub(crate) scratch: *mut u8,
}

/// The most pixels of a tile.
pub(crate) const TILE: usize = 6;
/// Bytes of inputs that the panels pass over at a time.
const BLOCK: usize = 96 << 10;

/// Pixels that the panels pass over at a time.
fn block(bytes_of_pixel: usize) -> usize {
    (BLOCK / bytes_of_pixel.max(1)).max(TILE).next_multiple_of(TILE)
}

/// The bytes that inputs of 16 bits take.
pub(crate) fn scratch_len(depth: usize) -> usize {
    let pixel = 2 * depth.next_multiple_of(2);
    block(pixel) * pixel
}

/// Tiles of inputs of 8 bits, read where they are.
pub(crate) struct Tile;
/// Tiles of inputs that are widened to 16 bits before.
pub(crate) struct Widened;

const fn info<S: SimdInt>() -> KernelInfo {
    KernelInfo {
        name: "",
        isa: S::ISA,
        operation: Operation::Pointwise,
        element: ElementType::I8,
        form: Form::Tile,
        layout: Layout::Nhwc,
        kernel_size: None,
        stride: None,
        tile: [TILE, S::CHANNELS],
        lanes: S::LANES,
        spills: 0,
    }
}

impl<S: SimdInt> Algorithm<S> for Tile {
    type Args = Args;
    const INFO: KernelInfo = info::<S>();

    #[inline(always)]
    unsafe fn run(s: S, args: &Args) {
        const { assert!(!S::WIDE) };
        // SAFETY: the caller's.
        unsafe {
            rows(args, |input, output, pixels| {
                let block = block(args.depth);
                for first in (0..pixels).step_by(block) {
                    let n = block.min(pixels - first);
                    let inputs =
                        Inputs { p: input.wrapping_add(first * args.input_steps[1]), step: args.input_steps[1] };
                    panels(s, args, inputs, output + first * args.output_steps[1], n);
                }
            });
        }
    }
}

impl<S: SimdWide> Algorithm<S> for Widened {
    type Args = Args;
    const INFO: KernelInfo = info::<S>();

    #[inline(always)]
    unsafe fn run(s: S, args: &Args) {
        const { assert!(S::WIDE && S::GROUP == 2) };
        let step = 2 * args.depth.next_multiple_of(2);
        // SAFETY: the caller's; the scratch has room for a block.
        unsafe {
            rows(args, |input, output, pixels| {
                let block = block(step);
                for first in (0..pixels).step_by(block) {
                    let n = block.min(pixels - first);
                    for i in 0..n {
                        let to = args.scratch.add(i * step).cast::<i16>();
                        if args.depth % 2 == 1 {
                            // Its weight is 0.
                            to.add(args.depth).write(0);
                        }
                        s.widen(input.wrapping_add((first + i) * args.input_steps[1]), to, args.depth, args.flip);
                    }
                    let inputs = Inputs { p: args.scratch, step };
                    panels(s, args, inputs, output + first * args.output_steps[1], n);
                }
            });
        }
    }
}

/// Calls `row` with each row's first input, its first output, counted from the first of all, and its pixels. Rows without gaps are one.
#[inline(always)]
unsafe fn rows(args: &Args, mut row: impl FnMut(*const u8, usize, usize)) {
    let [h, w] = args.extent;
    let dense = |[y, x]: [usize; 2]| y == w * x;
    let (h, w) = if dense(args.input_steps) && dense(args.output_steps) { (1, h * w) } else { (h, w) };
    for y in 0..h {
        row(args.input.wrapping_add(y * args.input_steps[0]), y * args.output_steps[0], w);
    }
}

/// Pixels of inputs, and the bytes from one to the next.
#[derive(Clone, Copy)]
struct Inputs {
    p: *const u8,
    step: usize,
}

/// All panels' outputs of so many pixels.
#[inline(always)]
unsafe fn panels<S: SimdInt>(s: S, args: &Args, inputs: Inputs, output: usize, pixels: usize) {
    let groups = args.depth.div_ceil(S::GROUP);
    let bytes = groups * S::CHANNELS * S::GROUP * if S::WIDE { 2 } else { 1 };
    let tiles = pixels.div_ceil(TILE);
    for first in (0..args.channels).step_by(S::CHANNELS) {
        let place = args.channel + first;
        let panel = Panel {
            weights: args.weights.wrapping_add(place / S::CHANNELS * bytes),
            place,
            n: S::CHANNELS.min(args.channels - first),
        };
        let mut done = 0;
        // Of like heights.
        for i in 0..tiles {
            let height = (pixels * (i + 1) / tiles) - done;
            let inputs = Inputs { p: inputs.p.wrapping_add(done * inputs.step), ..inputs };
            let output = output + done * args.output_steps[1] + first;
            // SAFETY: the caller's.
            unsafe {
                match height {
                    6 => tile::<S, 6>(s, args, panel, inputs, output),
                    5 => tile::<S, 5>(s, args, panel, inputs, output),
                    4 => tile::<S, 4>(s, args, panel, inputs, output),
                    3 => tile::<S, 3>(s, args, panel, inputs, output),
                    2 => tile::<S, 2>(s, args, panel, inputs, output),
                    _ => tile::<S, 1>(s, args, panel, inputs, output),
                }
            }
            done += height;
        }
    }
}

#[derive(Clone, Copy)]
struct Panel {
    weights: *const u8,
    /// Its first channel, as tables count.
    place: usize,
    /// The outputs that are stored.
    n: usize,
}

#[inline(always)]
unsafe fn tile<S: SimdInt, const M: usize>(s: S, args: &Args, panel: Panel, inputs: Inputs, output: usize) {
    let size = if S::WIDE { 2 } else { 1 };
    let (group, vector) = (S::GROUP * size, S::LANES * S::GROUP * size);
    let flip = u32::from_ne_bytes([args.flip; 4]);
    // SAFETY: inputs are pixels of so many channels, weights and biases those of a panel; outputs lie within the part.
    unsafe {
        let zero = s.load(args.bias.add(panel.place));
        let bias: [S::V; 4] = core::array::from_fn(|g| match g {
            0 => zero,
            g if g < S::GROUPS => s.load(args.bias.add(panel.place + g * S::LANES)),
            _ => zero,
        });
        let mut sums = [bias; M];
        let (mut x, mut w) = (inputs.p, panel.weights);
        // Of 16 bits the last group is padded.
        let whole = if S::WIDE { args.depth.div_ceil(S::GROUP) } else { args.depth / S::GROUP };
        for _ in 0..whole {
            let first = s.weights(w);
            let weights: [S::Weights; 4] =
                core::array::from_fn(|g| if g > 0 && g < S::GROUPS { s.weights(w.add(g * vector)) } else { first });
            for r in 0..M {
                let factor = s.factor(x.add(r * inputs.step), flip);
                for g in 0..S::GROUPS {
                    sums[r][g] = s.add_products(sums[r][g], factor, weights[g]);
                }
            }
            x = x.wrapping_add(group);
            w = w.wrapping_add(S::GROUPS * vector);
        }
        let left = args.depth - whole.min(args.depth / S::GROUP) * S::GROUP;
        if !S::WIDE && left > 0 {
            for r in 0..M {
                let factor = s.factor_of(x.wrapping_add(r * inputs.step), left, flip);
                for g in 0..S::GROUPS {
                    sums[r][g] = s.add_products(sums[r][g], factor, s.weights(w.add(g * vector)));
                }
            }
        }
        let at = |r: usize| output + r * args.output_steps[1];
        match args.finish.rule {
            Rule::NearestEven => {
                for r in 0..M {
                    let to = args.output.add(at(r));
                    args.finish.store::<S, false>(s, &sums[r], panel.place, to, panel.n);
                }
            }
            Rule::Tflite => {
                for r in 0..M {
                    let to = args.output.add(at(r));
                    args.finish.store::<S, true>(s, &sums[r], panel.place, to, panel.n);
                }
            }
            Rule::Sums => {
                for r in 0..M {
                    s.store_sums(&sums[r], args.output.cast::<i32>().add(at(r)), panel.n);
                }
            }
        }
    }
}
