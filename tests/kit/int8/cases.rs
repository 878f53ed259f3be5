//! What to compute with 8 bits: a case, and cases drawn at random.

use depthwise::{Padding, Shape};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::oracle::{Kind, Rounding};
use crate::oracle::Window;
use crate::plan::Operation::{self, Conv2d, Depthwise, Separable};

/// A convolution with all that belongs to it but its numbers, which follow from `seed`.
#[derive(Clone, Debug)]
pub struct Case {
    pub operation: Operation,
    pub input: Shape,
    pub multiplier: usize,
    pub outputs: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub padding: Padding,
    pub input_kind: Kind,
    pub output_kind: Kind,
    pub weights_kind: Kind,
    /// Whether all numbers are those at the ends of their types.
    pub extreme: bool,
    pub rounding: Rounding,
    pub seed: u64,
}

impl Case {
    pub fn new(operation: Operation, input: Shape, seed: u64) -> Self {
        Case {
            operation,
            input,
            multiplier: 1,
            outputs: 8,
            kernel: [3, 3],
            stride: [1, 1],
            dilation: [1, 1],
            padding: Padding::explicit(1, 1, 1, 1),
            input_kind: Kind::I8,
            output_kind: Kind::I8,
            weights_kind: Kind::I8,
            extreme: false,
            rounding: Rounding::NearestEven,
            seed,
        }
    }

    /// Output channels.
    pub fn last(&self) -> usize {
        if self.operation == Depthwise { self.input.c * self.multiplier } else { self.outputs }
    }

    pub fn window(&self) -> Window {
        Window { kernel: self.kernel, stride: self.stride, dilation: self.dilation, padding: self.padding }
    }
}

/// Cases by chance, of few numbers.
pub fn randoms(operation: Operation, count: u64) -> Vec<Case> {
    let kinds = [Kind::U8, Kind::I8];
    let of = |seed: u64| {
        let mut rng = StdRng::seed_from_u64(1000 + seed);
        let mut any = |numbers: &[usize]| numbers[rng.random_range(0..numbers.len())];
        let kernel = match any(&[0, 0, 0, 1, 2, 3]) {
            0 => [3, 3],
            1 => [any(&[1, 2, 5]), any(&[1, 4, 5])],
            2 => [5, 5],
            _ => [7, 2],
        };
        let stride = match any(&[0, 0, 1, 1, 2]) {
            0 => [1, 1],
            1 => [2, 2],
            _ => [any(&[1, 2, 3]), any(&[1, 3])],
        };
        let dilation = if any(&[0, 0, 0, 1]) == 1 { [any(&[1, 2]), 2] } else { [1, 1] };
        let c = any(&[1, 3, 4, 8, 15, 16, 17, 24, 33, 63, 64, 65, 100, 130]);
        let input = Shape::new(any(&[1, 1, 2]), c, any(&[1, 2, 3, 5, 6, 9]), any(&[1, 2, 4, 7, 8, 11, 13]));
        Case {
            multiplier: if operation == Depthwise || operation == Separable { any(&[1, 1, 1, 2, 3]) } else { 1 },
            outputs: any(&[1, 5, 16, 20, 64, 70]),
            kernel,
            stride,
            dilation,
            input_kind: kinds[any(&[0, 1])],
            output_kind: kinds[any(&[0, 1])],
            weights_kind: kinds[any(&[0, 1, 1])],
            extreme: any(&[0, 0, 1]) == 1,
            rounding: [Rounding::NearestEven, Rounding::Tflite, Rounding::TfliteLegacy][any(&[0, 0, 1, 1, 2])],
            ..Case::new(operation, input, seed)
        }
    };
    (0..count)
        .map(of)
        .map(|case| {
            if case.operation == Conv2d {
                Case { input: Shape { c: case.input.c.min(20), ..case.input }, ..case }
            } else {
                case
            }
        })
        .map(|case| {
            // As much as there is an output, at the least.
            let least = [0, 1].map(|i| {
                let reach = (case.kernel[i] - 1) * case.dilation[i];
                reach.div_ceil(2).max((reach + 1).saturating_sub([case.input.h, case.input.w][i]).div_ceil(2))
            });
            let [y, x] = least;
            let more = usize::from(case.seed % 4 == 0);
            Case { padding: Padding::explicit(y + more, x, y, x + more), ..case }
        })
        .collect()
}
