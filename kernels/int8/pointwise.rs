//! Pointwise convolution of 8 bits, channels last: tiles of pixels by a panel of output channels.

use super::finish::{Finish, Rule};
use super::simd::{SimdInt, SimdWide};
use crate::info::{Form, KernelInfo, Operation};
use crate::simd::opaque_address;
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
        let ([h, w], block, step) = (args.rows(), block(args.depth), args.input_steps[1]);
        for y in 0..h {
            for x in (0..w).step_by(block) {
                let inputs = Inputs { p: args.input.wrapping_add(y * args.input_steps[0] + x * step), step };
                let output = y * args.output_steps[0] + x * args.output_steps[1];
                // SAFETY: the caller's.
                unsafe { panels(s, args, inputs, output, block.min(w - x)) }
            }
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
        let ([h, w], block) = (args.rows(), block(step));
        for y in 0..h {
            for x in (0..w).step_by(block) {
                let n = block.min(w - x);
                for i in 0..n {
                    let from = args.input.wrapping_add(y * args.input_steps[0] + (x + i) * args.input_steps[1]);
                    // SAFETY: the scratch has room for a block, whose pixels are of so many channels.
                    unsafe {
                        let to = args.scratch.add(i * step).cast::<i16>();
                        if args.depth % 2 == 1 {
                            // Its weight is 0.
                            to.add(args.depth).write(0);
                        }
                        s.widen(from, to, args.depth, args.flip);
                    }
                }
                let inputs = Inputs { p: args.scratch, step };
                let output = y * args.output_steps[0] + x * args.output_steps[1];
                // SAFETY: the caller's.
                unsafe { panels(s, args, inputs, output, n) }
            }
        }
    }
}

impl Args {
    /// Rows, and pixels of each. Rows without gaps are one.
    #[inline(always)]
    fn rows(&self) -> [usize; 2] {
        let [h, w] = self.extent;
        let is_dense =
            self.input_steps[0] == w * self.input_steps[1] && self.output_steps[0] == w * self.output_steps[1];
        if is_dense { [1, h * w] } else { [h, w] }
    }
}

/// Pixels of inputs, and the bytes from one to the next.
#[derive(Clone, Copy)]
struct Inputs {
    p: *const u8,
    step: usize,
}

/// All panels' outputs of so many pixels.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. `inputs` are as many pixels, widened if the instruction set multiplies 16 bits.
/// 3. The part has them from `output` on.
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
            // SAFETY: the caller's; a panel of half the channels has their weights and tables in the same places.
            unsafe {
                if S::Half::CHANNELS < S::CHANNELS && panel.n <= S::Half::CHANNELS {
                    tile_of(s.half(), args, panel, inputs, output, height);
                } else {
                    tile_of(s, args, panel, inputs, output, height);
                }
            }
            done += height;
        }
    }
}

/// Adds the products of a group of inputs of each pixel and a panel's weights.
///
/// # Safety
/// 1. The group can be read in each of `M` pixels, `step` apart: of three from the first address on, of the others from the second.
/// 2. A panel's weights of a group can be read.
#[inline(always)]
unsafe fn accumulate<S: SimdInt, const M: usize>(
    s: S,
    sums: &mut [[S::V; 4]; M],
    x: [*const u8; 2],
    step: usize,
    w: *const u8,
    flip: u32,
) {
    let vector = S::STEP * S::GROUP * if S::WIDE { 2 } else { 1 };
    // SAFETY: the caller's.
    unsafe {
        let mut weights = [s.weights(w); 4];
        for g in 1..S::GROUPS {
            weights[g] = s.weights(w.add(g * vector));
        }
        for r in 0..M {
            let factor = s.factor(x[r / 3].wrapping_add(r % 3 * step), flip);
            for g in 0..S::GROUPS {
                sums[r][g] = s.add_products(sums[r][g], factor, weights[g]);
            }
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

/// The outputs of `height` pixels, of a panel.
///
/// # Safety
/// 1. As [`panels`], of so many pixels, at most [`TILE`].
#[inline(always)]
unsafe fn tile_of<S: SimdInt>(s: S, args: &Args, panel: Panel, inputs: Inputs, output: usize, height: usize) {
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
}

/// The outputs of `M` pixels, of a panel.
///
/// # Safety
/// 1. As [`panels`], of so many pixels.
#[inline(always)]
unsafe fn tile<S: SimdInt, const M: usize>(s: S, args: &Args, panel: Panel, inputs: Inputs, output: usize) {
    let size = if S::WIDE { 2 } else { 1 };
    let (group, vector) = (S::GROUP * size, S::STEP * S::GROUP * size);
    let flip = u32::from_ne_bytes([args.flip; 4]);
    // SAFETY: inputs are pixels of so many channels, weights and biases those of a panel; outputs lie within the part.
    unsafe {
        let mut bias = [s.load(args.bias.add(panel.place)); 4];
        for g in 1..S::GROUPS {
            bias[g] = s.load(args.bias.add(panel.place + g * S::STEP));
        }
        let mut sums = [bias; M];
        // Two addresses, from which an instruction reaches three pixels each.
        let mut x = [inputs.p, opaque_address(inputs.p.wrapping_add(3 * inputs.step))];
        let mut w = panel.weights;
        // Of 16 bits the last group is padded.
        let whole = if S::WIDE { args.depth.div_ceil(S::GROUP) } else { args.depth / S::GROUP };
        for _ in 0..whole {
            accumulate(s, &mut sums, x, inputs.step, w, flip);
            x = [x[0].wrapping_add(group), x[1].wrapping_add(group)];
            w = w.wrapping_add(S::GROUPS * vector);
        }
        let left = args.depth - whole.min(args.depth / S::GROUP) * S::GROUP;
        // Row by row with numbers that are known, or the sums would be kept in memory.
        macro_rules! each_row {
            ($r:ident => $each:expr) => {
                each_row!($r => $each, 0 1 2 3 4 5)
            };
            ($r:ident => $each:expr, $($row:literal)*) => {{
                $(if $row < M {
                    const $r: usize = $row;
                    $each
                })*
            }};
        }
        if !S::WIDE && left > 0 {
            let mut weights = [s.weights(w); 4];
            for g in 1..S::GROUPS {
                weights[g] = s.weights(w.add(g * vector));
            }
            each_row!(R => {
                let factor = s.factor_of(x[0].wrapping_add(R * inputs.step), left, flip);
                for g in 0..S::GROUPS {
                    sums[R][g] = s.add_products(sums[R][g], factor, weights[g]);
                }
            });
        }
        let (to, step) = (args.output, args.output_steps[1]);
        match args.finish.rule {
            Rule::NearestEven => each_row!(R => {
                args.finish.store::<S, false>(s, &sums[R], panel.place, to.add(output + R * step), panel.n);
            }),
            Rule::Tflite => each_row!(R => {
                args.finish.store::<S, true>(s, &sums[R], panel.place, to.add(output + R * step), panel.n);
            }),
            Rule::Sums => each_row!(R => {
                s.store_sums(&sums[R], to.cast::<i32>().add(output + R * step), panel.n);
            }),
        }
    }
}
