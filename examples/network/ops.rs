//! The layers that are not convolutions, on contiguous tensors in either layout.
//!
//! Both layouts are walked by the same loops: a tensor is a row of maps of h × w pixels, and a pixel is
//! `inner` numbers that lie side by side. NCHW has n·c maps of one-number pixels, NHWC has n maps whose
//! pixels hold all the channels. Sums run in the same order in both, so the results are the same bits.

use depthwise::{Layout, Shape};

use crate::arch::{Activation, Pool, PoolKind, Window};

/// A tensor that is read.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    pub data: &'a [f32],
    pub shape: Shape,
}

/// The number of elements, for shapes that are known not to overflow.
pub fn len(shape: Shape) -> usize {
    shape.n * shape.c * shape.h * shape.w
}

/// How many numbers of a pixel lie side by side.
fn inner(shape: Shape, layout: Layout) -> usize {
    match layout {
        Layout::Nchw => 1,
        Layout::Nhwc => shape.c,
    }
}

/// Max pooling ignores the padding (as if it were −∞); average pooling has none.
pub fn pool(pool: &Pool, input: Operand, output: &mut [f32], to: Shape, layout: Layout) {
    match pool.kind {
        PoolKind::Max => {
            // A NaN, once met, stays.
            let larger = |most: f32, value: f32| if value > most || value.is_nan() { value } else { most };
            output.fill(f32::NEG_INFINITY);
            slide(&pool.window, larger, input, output, to, layout);
        }
        PoolKind::Average => {
            output.fill(0.0);
            slide(&pool.window, |sum, value| sum + value, input, output, to, layout);
            let count = (pool.window.kernel[0] * pool.window.kernel[1]) as f32;
            output.iter_mut().for_each(|sum| *sum /= count);
        }
    }
}

/// Folds into each output pixel the input pixels under its window, row by row.
fn slide(
    window: &Window,
    fold: impl Fn(f32, f32) -> f32,
    input: Operand,
    output: &mut [f32],
    to: Shape,
    layout: Layout,
) {
    let (from, inner) = (input.shape, inner(to, layout));
    let maps = input.data.chunks_exact(from.h * from.w * inner);
    for (input, output) in maps.zip(output.chunks_exact_mut(to.h * to.w * inner)) {
        for (index, pixel) in output.chunks_exact_mut(inner).enumerate() {
            for y in taps(window, 0, index / to.w, from.h) {
                for x in taps(window, 1, index % to.w, from.w) {
                    let values = &input[(y * from.w + x) * inner..][..inner];
                    pixel.iter_mut().zip(values).for_each(|(result, &value)| *result = fold(*result, value));
                }
            }
        }
    }
}

/// Where, along one axis of the map, the taps of a window at `position` fall; those on padding left out.
fn taps(window: &Window, axis: usize, position: usize, length: usize) -> impl Iterator<Item = usize> {
    let before = [window.pad.top, window.pad.left][axis];
    let (kernel, dilation) = (window.kernel[axis], window.dilation[axis]);
    // Counted from the edge of the padding; the map itself is at before..before + length.
    let start = position * window.stride[axis];
    let first = before.saturating_sub(start).div_ceil(dilation);
    let end = (before + length).saturating_sub(start).div_ceil(dilation).min(kernel);
    (first..end).map(move |tap| start + tap * dilation - before)
}

/// The mean of each map, summed in f64.
pub fn global_avg_pool(input: Operand, output: &mut [f32], layout: Layout) {
    let inner = inner(input.shape, layout);
    let pixels = input.shape.h * input.shape.w;
    let mut sums = vec![0.0; inner];
    for (input, means) in input.data.chunks_exact(pixels * inner).zip(output.chunks_exact_mut(inner)) {
        sums.fill(0.0);
        for pixel in input.chunks_exact(inner) {
            sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        means.iter_mut().zip(&sums).for_each(|(mean, sum)| *mean = (sum / pixels as f64) as f32);
    }
}

/// `output = op(a, b)`, element by element; an axis of length 1 stretches to the output's.
pub fn elementwise(
    op: impl Fn(f32, f32) -> f32 + Copy,
    a: Operand,
    b: Operand,
    output: &mut [f32],
    to: Shape,
    layout: Layout,
) {
    let [first, second, row] = axes(to, layout);
    let mut rows = output.chunks_exact_mut(row);
    for i in 0..first {
        for j in 0..second {
            let Some(row) = rows.next() else { return };
            match (a.row(i, j, layout), b.row(i, j, layout)) {
                (&[a], b) => row.iter_mut().zip(b).for_each(|(result, &b)| *result = op(a, b)),
                (a, &[b]) => row.iter_mut().zip(a).for_each(|(result, &a)| *result = op(a, b)),
                (a, b) => {
                    row.iter_mut().zip(a.iter().zip(b)).for_each(|(result, (&a, &b))| *result = op(a, b));
                }
            }
        }
    }
}

/// Repeats a tensor of one pixel per map over the whole of each map.
pub fn broadcast_hw(input: Operand, output: &mut [f32], to: Shape, layout: Layout) {
    let [first, second, row] = axes(to, layout);
    let mut rows = output.chunks_exact_mut(row);
    for i in 0..first {
        for j in 0..second {
            let Some(row) = rows.next() else { return };
            match input.row(i, j, layout) {
                &[value] => row.fill(value),
                values => row.copy_from_slice(values),
            }
        }
    }
}

/// The axes in memory order, with height and width, which always stretch together, as one.
fn axes(shape: Shape, layout: Layout) -> [usize; 3] {
    let pixels = shape.h * shape.w;
    match layout {
        Layout::Nchw => [shape.n, shape.c, pixels],
        Layout::Nhwc => [shape.n, pixels, shape.c],
    }
}

impl<'a> Operand<'a> {
    fn row(&self, i: usize, j: usize, layout: Layout) -> &'a [f32] {
        let [first, second, row] = axes(self.shape, layout);
        let i = if first == 1 { 0 } else { i };
        let j = if second == 1 { 0 } else { j };
        &self.data[(i * second + j) * row..][..row]
    }
}

/// Puts the channels of all inputs one after the other.
pub fn concat_channels(inputs: &[Operand], output: &mut [f32], to: Shape, layout: Layout) {
    // All the channels of what is contiguous together: an image in NCHW, a pixel in NHWC.
    let pixels = match layout {
        Layout::Nchw => to.h * to.w,
        Layout::Nhwc => 1,
    };
    for (index, block) in output.chunks_exact_mut(to.c * pixels).enumerate() {
        let mut rest = block;
        for input in inputs {
            let length = input.shape.c * pixels;
            let (part, tail) = rest.split_at_mut(length);
            part.copy_from_slice(&input.data[index * length..][..length]);
            rest = tail;
        }
    }
}

/// Softmax over the channels of each pixel.
pub fn softmax(input: Operand, output: &mut [f32], layout: Layout) {
    let shape = input.shape;
    let pixels = shape.h * shape.w;
    let strides = match layout {
        Layout::Nchw => (1, pixels),
        Layout::Nhwc => (shape.c, 1),
    };
    let images = input.data.chunks_exact(shape.c * pixels).zip(output.chunks_exact_mut(shape.c * pixels));
    for (input, output) in images {
        for pixel in 0..pixels {
            let channels = (0..shape.c).map(|channel| pixel * strides.0 + channel * strides.1);
            let largest = channels.clone().fold(f32::NEG_INFINITY, |largest, at| largest.max(input[at]));
            let mut sum = 0.0;
            for at in channels.clone() {
                output[at] = (input[at] - largest).exp();
                sum += output[at];
            }
            channels.for_each(|at| output[at] /= sum);
        }
    }
}

/// Rewrites a tensor from one layout into another.
pub fn relayout(input: &[f32], shape: Shape, from: Layout, to: Layout) -> Vec<f32> {
    let pixels = shape.h * shape.w;
    let (rows, columns) = match (from, to) {
        (Layout::Nchw, Layout::Nhwc) => (shape.c, pixels),
        (Layout::Nhwc, Layout::Nchw) => (pixels, shape.c),
        _ => return input.to_vec(),
    };
    // One transposition per image.
    let mut output = vec![0.0; input.len()];
    let images = input.chunks_exact(rows * columns).zip(output.chunks_exact_mut(rows * columns));
    for (input, output) in images {
        for (row, values) in input.chunks_exact(columns).enumerate() {
            let column = output.iter_mut().skip(row).step_by(rows);
            column.zip(values).for_each(|(result, &value)| *result = value);
        }
    }
    output
}

/// Applies an activation that no convolution could take over; NaN stays NaN.
pub fn activate(activation: Activation, values: &mut [f32]) {
    let gate = |value: f32| (value + 3.0).clamp(0.0, 6.0) * (1.0 / 6.0);
    match activation {
        Activation::None => {}
        Activation::Relu => map(values, |value| if value < 0.0 { 0.0 } else { value }),
        Activation::Relu6 => map(values, |value| value.clamp(0.0, 6.0)),
        Activation::HardSigmoid => map(values, gate),
        Activation::HardSwish => map(values, |value| value * gate(value)),
    }
}

fn map(values: &mut [f32], apply: impl Fn(f32) -> f32) {
    values.iter_mut().for_each(|value| *value = apply(*value));
}
