//! Depthwise convolution of 8 bits, channels last: what kernels are told, and any window, two taps at a time.

use super::finish::{Finish, Rule};
use super::simd::{SimdInt, SimdWide};
use crate::info::{Form, KernelInfo, Operation};
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
    pub(super) fn at(&self, axis: usize, output: usize, tap: usize) -> Option<usize> {
        let at = self.first[axis] + (output * self.taps.stride[axis] + tap * self.taps.dilation[axis]) as isize;
        // What is negative is too large.
        Some(at as usize).filter(|&at| at < self.input_extent[axis])
    }
}

pub(super) const fn info<S: SimdInt>(
    form: Form,
    tile: [usize; 2],
    window: Option<([usize; 2], [usize; 2])>,
) -> KernelInfo {
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
