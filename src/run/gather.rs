//! Standard convolution as a matrix product: the window's inputs, pixel by pixel (im2col), a block at a time.

use core::ops::Range;

use depthwise_kernels::{Layout, Shape, Strides, Taps, TensorView};

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

    /// Of `outputs` from `first` on, those all of whose `taps` lie in the input.
    fn whole(&self, first: usize, outputs: usize, taps: usize) -> Range<usize> {
        let start = self.pad.div_ceil(self.stride).saturating_sub(first).min(outputs);
        let end = match (self.extent + self.pad).checked_sub((taps - 1) * self.dilation + 1) {
            Some(last) => (last / self.stride + 1).saturating_sub(first).min(outputs),
            None => start,
        };
        start..end.max(start)
    }

    /// The input under tap `k` of output `o`, or `None` in the padding.
    fn get(&self, o: usize, k: usize) -> Option<usize> {
        (o * self.stride + k * self.dilation).checked_sub(self.pad).filter(|&i| i < self.extent)
    }
}

/// Writes to `values`, a tensor of that shape and strides, the inputs of the output pixels from `origin` on: channel
/// (ky · Kw + kx) · C + c holds channel c of the input under tap (ky, kx), zero in the padding. `input` is one image.
#[allow(clippy::too_many_arguments, reason = "a tensor to write is four of them")]
pub(crate) fn gather(
    layout: Layout,
    taps: &Taps,
    pad: [usize; 2],
    input: TensorView<'_>,
    origin: Shape,
    values: &mut [f32],
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
                    let at = y * strides.h + ky * kw * channels;
                    // Where the whole kernel row lies in the input, its taps are neighbours.
                    let mut whole = 0..0;
                    if let (Some(row), 1) = (row, columns.dilation) {
                        whole = columns.whole(origin.w, shape.w, kw);
                        // Where there is one window, the step to the next may lie beyond all numbers: nobody takes it.
                        let (start, step) = (whole.start, columns.stride.saturating_mul(channels));
                        if let Some(first) = columns.get(origin.w + start, 0).filter(|_| !whole.is_empty()) {
                            let to = &mut values[at + start * strides.w..];
                            windows(to, strides.w, &row[first * channels..], step, whole.len(), kw * channels);
                        }
                    }
                    for x in (0..whole.start).chain(whole.end..shape.w) {
                        let at = at + x * strides.w;
                        for (kx, tap) in values[at..at + kw * channels].chunks_exact_mut(channels).enumerate() {
                            let ix = columns.get(origin.w + x, kx);
                            match iy.zip(ix).and_then(|(iy, ix)| input.pixel(0, iy, ix)) {
                                Some(pixel) => tap.copy_from_slice(pixel),
                                None => tap.fill(0.0),
                            }
                        }
                    }
                }
            }
        }
        Layout::Nchw => {
            // All taps across of a row of the input, while it is near.
            let taps = (0..channels).flat_map(|c| (0..kh).flat_map(move |ky| (0..shape.h).map(move |y| (c, ky, y))));
            for (c, ky, y) in taps {
                let row = rows.get(origin.h + y, ky).and_then(|iy| input.row(0, Some(c), iy));
                for kx in 0..kw {
                    let at = ((ky * kw + kx) * channels + c) * strides.c + y * strides.h;
                    let to = &mut values[at..at + shape.w];
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

/// Copies `count` windows of `len` elements, `step` apart, to places `pitch` apart.
fn windows(to: &mut [f32], pitch: usize, from: &[f32], step: usize, count: usize, len: usize) {
    /// With a constant length: no call of `memcpy` for the few values of a first layer's kernel row.
    fn short<const N: usize>(to: &mut [f32], pitch: usize, from: &[f32], step: usize, count: usize) {
        for i in 0..count {
            to[i * pitch..][..N].copy_from_slice(&from[i * step..][..N]);
        }
    }
    match len {
        3 => short::<3>(to, pitch, from, step, count),
        9 => short::<9>(to, pitch, from, step, count),
        _ => (0..count).for_each(|i| to[i * pitch..][..len].copy_from_slice(&from[i * step..][..len])),
    }
}
