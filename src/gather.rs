//! Standard convolution as a matrix product: the window's inputs, pixel by pixel (im2col), a block at a time.

use crate::kernels::stage::Taps;
use crate::tensor::{Layout, Shape, Strides, TensorView};

/// Where along one axis the taps of an output lie.
struct Positions {
    stride: usize,
    dilation: usize,
    pad: usize,
    extent: usize,
}

impl Positions {
    fn new(taps: &Taps, axis: usize, pad: [usize; 2], extent: usize) -> Self {
        Self { stride: taps.stride[axis], dilation: taps.dilation[axis], pad: pad[axis], extent }
    }

    /// The input under tap `k` of output `o`, or `None` in the padding.
    fn get(&self, o: usize, k: usize) -> Option<usize> {
        (o * self.stride + k * self.dilation).checked_sub(self.pad).filter(|&i| i < self.extent)
    }
}

/// Writes to `panel`, a tensor of that shape and strides, the inputs of the output pixels from `origin` on: channel
/// (ky · Kw + kx) · C + c holds channel c of the input under tap (ky, kx), zero in the padding. `input` is one image.
#[allow(clippy::too_many_arguments, reason = "a tensor to write is four of them")]
pub(crate) fn gather(
    layout: Layout,
    taps: &Taps,
    pad: [usize; 2],
    input: TensorView<'_>,
    origin: Shape,
    panel: &mut [f32],
    shape: Shape,
    strides: Strides,
) {
    let [kh, kw] = taps.kernel_size;
    let Shape { c: channels, h: height, w: width, .. } = input.shape();
    let rows = Positions::new(taps, 0, pad, height);
    let columns = Positions::new(taps, 1, pad, width);
    match layout {
        Layout::Nhwc => {
            for y in 0..shape.h {
                for ky in 0..kh {
                    let iy = rows.get(origin.h + y, ky);
                    let row = iy.and_then(|iy| input.row(0, None, iy));
                    for x in 0..shape.w {
                        let at = y * strides.h + x * strides.w + ky * kw * channels;
                        let taps = &mut panel[at..at + kw * channels];
                        let first = columns.get(origin.w + x, 0);
                        if let (Some(row), Some(first), 1) = (row, first, columns.dilation) {
                            // All taps of this kernel row are neighbours.
                            if let Some(inputs) = row.get(first * channels..(first + kw) * channels) {
                                copy(taps, inputs);
                                continue;
                            }
                        }
                        for (kx, tap) in taps.chunks_exact_mut(channels).enumerate() {
                            let ix = columns.get(origin.w + x, kx);
                            match iy.zip(ix).and_then(|(iy, ix)| input.pixel(0, iy, ix)) {
                                Some(pixel) => copy(tap, pixel),
                                None => tap.fill(0.0),
                            }
                        }
                    }
                }
            }
        }
        Layout::Nchw => {
            for k in 0..shape.c {
                let (ky, kx, c) = (k / channels / kw, k / channels % kw, k % channels);
                for y in 0..shape.h {
                    let at = k * strides.c + y * strides.h;
                    let to = &mut panel[at..at + shape.w];
                    let row = rows.get(origin.h + y, ky).and_then(|iy| input.row(0, Some(c), iy));
                    let Some(row) = row else {
                        to.fill(0.0);
                        continue;
                    };
                    // Outputs whose tap lies in the input: one range.
                    let reach = origin.w * columns.stride + kx * columns.dilation;
                    let from = columns.pad.saturating_sub(reach).div_ceil(columns.stride).min(to.len());
                    let end = (width + columns.pad).saturating_sub(reach).div_ceil(columns.stride).min(to.len());
                    to[..from].fill(0.0);
                    to[end.max(from)..].fill(0.0);
                    if from < end {
                        let inputs = &row[reach + from * columns.stride - columns.pad..];
                        let to = &mut to[from..end];
                        if columns.stride == 1 {
                            to.copy_from_slice(&inputs[..to.len()]);
                        } else {
                            to.iter_mut().zip(inputs.iter().step_by(columns.stride)).for_each(|(to, &from)| *to = from);
                        }
                    }
                }
            }
        }
    }
}

/// A copy that does not call `memcpy` for the few values of a first layer's kernel row: three taps of one
/// or of three channels.
fn copy(to: &mut [f32], from: &[f32]) {
    fn short<const N: usize>(to: &mut [f32], from: &[f32]) -> bool {
        let arrays = <&mut [f32; N]>::try_from(to).ok().zip(<&[f32; N]>::try_from(from).ok());
        arrays.is_some_and(|(to, from)| {
            *to = *from;
            true
        })
    }
    if !(short::<3>(to, from) || short::<9>(to, from)) {
        to.copy_from_slice(from);
    }
}
