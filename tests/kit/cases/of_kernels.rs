//! Cases that the table's kernels ask for: around the taps, the vectors, the tiles and the strips that they are compiled for.

use depthwise::{Activation, Operation, Padding, Shape};

use super::{Case, Epilogue, Values};
use crate::float_kernels;

/// Taps and strides that kernels are written for.
pub fn taps_of_kernels() -> Vec<([usize; 2], [usize; 2])> {
    let mut taps: Vec<_> = float_kernels().filter_map(|k| k.kernel_size.zip(k.stride)).collect();
    taps.sort_unstable();
    taps.dedup();
    taps
}

/// Sums of −0 and of +0 at bounds of either, which every kernel must keep: as few as an emulator runs all of.
pub fn signs_of_zero() -> Vec<Case> {
    let mut cases = Vec::new();
    for (kernel, stride) in taps_of_kernels() {
        let mut case = |activation, values| {
            let then = Epilogue { activation, ..Case::default().depthwise };
            cases.push(Case {
                name: format!("{kernel:?} taps, stride {stride:?}, {values:?}, then {activation:?}"),
                // A vector of sixteen and one channel more; four rows, and columns for whole tiles at stride 2.
                input: Shape::new(1, 17, kernel[0] + 3 * stride[0], 25),
                kernel,
                stride,
                padding: Padding::valid(),
                outputs: 18,
                depthwise: then,
                pointwise: then,
                values,
                ..Case::default()
            });
        };
        case(Activation::Relu, Values::NegativeZeros);
        case(Activation::Clamp { min: -1.0, max: -0.0 }, Values::Zeros);
    }
    cases
}

/// The channel counts around every tail of every instruction set's vectors.
pub fn tails() -> Vec<Case> {
    let lanes = float_kernels().map(|kernel| kernel.lanes).max().unwrap_or(1);
    let cases = (1..=2 * lanes + 1).flat_map(|channels| {
        [(3, 1), (3, 2), (5, 1)].map(|(kernel, stride)| Case {
            name: format!("{channels} channels in and out, {kernel}x{kernel} stride {stride}"),
            input: Shape::new(1, channels, 4, 5),
            kernel: [kernel, kernel],
            stride: [stride, stride],
            padding: Padding::symmetric(kernel / 2, kernel / 2),
            outputs: channels,
            ..Case::default()
        })
    });
    cases.collect()
}

/// The output sizes from 1 to past the tile of every depthwise kernel, on both axes.
pub fn tiles() -> Vec<Case> {
    let kernels = || float_kernels().filter(|k| k.operation == Operation::Depthwise);
    let [rows, columns] = [0, 1].map(|axis| kernels().map(|k| k.tile[axis]).max().unwrap_or(1) + 2);
    let mut cases = Vec::new();
    for (kernel, stride) in taps_of_kernels() {
        for h in 1..=rows {
            for w in 1..=columns {
                // Every other input is one larger than its outputs need.
                let input = |out: usize, s: usize| (out - 1) * s + 1 + if s > 1 { out % 2 } else { 0 };
                cases.push(Case {
                    name: format!("{kernel:?} taps, stride {stride:?}, {h}x{w} outputs"),
                    input: Shape::new(1, 2, input(h, stride[0]), input(w, stride[1])),
                    kernel,
                    stride,
                    padding: Padding::symmetric(kernel[0] / 2, kernel[1] / 2),
                    outputs: 3,
                    ..Case::default()
                });
            }
        }
    }
    cases
}

/// Stride 2 on inputs that leave a row or a column over, or both, or neither, around whole vectors of outputs.
pub fn left_over() -> Vec<Case> {
    let mut cases = Vec::new();
    let strided = taps_of_kernels().into_iter().filter(|(_, stride)| *stride == [2, 2]);
    for (kernel, w) in strided.flat_map(|(kernel, _)| [7, 8, 9, 15, 16, 17, 31, 32, 33].map(move |w| (kernel, w))) {
        for (h, more, is_padded) in [2, 5]
            .into_iter()
            .flat_map(|h| [[0, 0], [0, 1], [1, 0], [1, 1]].map(move |more| (h, more)))
            .flat_map(|(h, more)| [false, true].map(move |is_padded| (h, more, is_padded)))
        {
            let pad = if is_padded { kernel.map(|k| k / 2) } else { [0; 2] };
            let [height, width] = [(h, 0), (w, 1)].map(|(out, i)| 2 * (out - 1) + kernel[i] - 2 * pad[i] + more[i]);
            cases.push(Case {
                name: format!("{kernel:?} taps, stride 2, {h}x{w} outputs of {height}x{width}, padding {pad:?}"),
                input: Shape::new(1, 2, height, width),
                kernel,
                stride: [2, 2],
                padding: Padding::symmetric(pad[0], pad[1]),
                ..Case::default()
            });
        }
    }
    cases
}

/// Whole vectors of channels, more than take turns in a strip, and a part of one; pixels that share cache sets, where strips have
/// fewer columns.
pub fn strips() -> Vec<Case> {
    let mut cases = Vec::new();
    for (channels, widths) in [(147, 1..10), (256, 6..8), (512, 1..8)] {
        for (width, stride) in widths.flat_map(|width| [(width, 1), (width, 2)]) {
            let height = 1 + width % 4;
            let input = Shape::new(1, channels, (height - 1) * stride + 1, (width - 1) * stride + 1);
            cases.push(Case {
                name: format!("{channels} channels, stride {stride}, {height}x{width} outputs"),
                input,
                stride: [stride; 2],
                residual: width % 2 == 0,
                ..Case::default()
            });
        }
    }
    cases
}

/// Channels and pixels around the tile of every pointwise kernel, and depths around its blocks.
pub fn pointwise() -> Vec<Case> {
    let kernels = || float_kernels().filter(|k| k.operation == Operation::Pointwise);
    let [pixels, outputs] = [0, 1].map(|axis| kernels().map(|k| k.tile[axis]).max().unwrap_or(1) + 2);
    let case = |name: &str, input: Shape, outputs: usize| Case {
        name: format!("{name}: {input:?} to {outputs}"),
        input,
        outputs,
        residual: outputs.is_multiple_of(3),
        ..Case::default()
    };
    let mut cases = Vec::new();
    for w in 1..=pixels {
        // A vector's channels and one more, half as many more, and those of panels that join them.
        for outputs in [33, 24, 40] {
            cases.push(case("pixels of a row", Shape::new(1, 5, 1, w), outputs));
        }
        cases.push(case("pixels of a column", Shape::new(1, 5, w, 1), 7));
        cases.push(case("pixels of three rows", Shape::new(2, 3, 3, w), 9));
    }
    for outputs in 1..=outputs {
        cases.push(case("output channels", Shape::new(1, 6, 3, 11), outputs));
        cases.push(case("output channels, one pixel", Shape::new(1, 6, 1, 1), outputs));
    }
    for outputs in [24, 40, 72] {
        cases.push(
            Case { residual: true, ..case("special values", Shape::new(1, 5, 3, 7), outputs) }
                .with_values(Values::Special),
        );
    }
    // Pixels that AVX-512's tiles take beside whole vectors.
    for pixels in [36, 49] {
        cases.push(case("pixels beside vectors", Shape::new(2, 5, 1, pixels), 12));
        cases.push(case("pixels beside vectors, two tiles before", Shape::new(1, 6, 1, 64 + pixels), 19));
    }
    // Two whole tiles and a tail of output channels.
    cases.push(case("three tiles", Shape::new(1, 6, 5, 7), 2 * outputs + 3));
    // The depth is one chain, however long; 1024 channels are rows of 4 KB.
    for depth in [1, 2, 15, 16, 17, 255, 256, 257, 1000, 1023, 1024, 1025, 2048] {
        cases.push(case("depth", Shape::new(1, depth, 3, 6), 35));
    }
    // More pixels than a cache block, and than one thread should do alone.
    cases.push(case("a large map", Shape::new(1, 16, 90, 91), 24));
    cases.push(case("a large batch", Shape::new(3, 40, 30, 31), 33));
    cases.push(case("many channels", Shape::new(1, 300, 14, 14), 290));
    cases.push(case("deep, two cache blocks of pixels", Shape::new(1, 1024, 9, 11), 40));
    cases
}
