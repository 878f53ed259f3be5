//! What to compute: cases chosen by hand, read from `tests/data`, and drawn at random.

use depthwise::{Activation, Operation, Padding, Shape};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::oracle::Window;

/// One convolution. Every operation can run it, each with the fields that concern it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where it comes from, or which boundary it crosses.
    pub name: String,
    pub input: Shape,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub padding: Padding,
    /// Output channels per input channel of a depthwise stage.
    pub multiplier: usize,
    /// Output channels of a pointwise stage and of a standard convolution.
    pub outputs: usize,
    pub depthwise: Epilogue,
    /// Of a pointwise stage and of a standard convolution.
    pub pointwise: Epilogue,
    pub residual: bool,
    pub values: Values,
    /// Of the values.
    pub seed: u64,
}

/// What follows one of the two convolutions.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue {
    pub bias: bool,
    pub batch_norm: bool,
    pub activation: Activation,
}

/// What numbers a case computes with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values {
    /// Within ±1, all bits of the mantissa in use, so that any other order of the terms shows.
    Plain,
    /// Plain, with NaN, ±∞, −0 and denormals among all arguments: ∞ · 0 on padding, −0 as bias.
    Special,
    /// Only +0 and −0: the sign of a zero survives or not.
    Zeros,
    /// Sums of −0 alone, as of no other values but by chance: whether an activation keeps it. A tap on padding would make +0 of it.
    NegativeZeros,
    /// Around the least normal number: products and sums are denormal.
    Tiny,
    /// Around the square root of the greatest number: products and sums overflow.
    Huge,
}

impl Default for Case {
    fn default() -> Case {
        let epilogue = Epilogue { bias: true, batch_norm: false, activation: Activation::None };
        Case {
            name: String::new(),
            // One vector and a tail, along channels and along rows: of AVX-512, and in Miri of the portable kernels.
            input: if cfg!(miri) { Shape::new(1, 9, 3, 9) } else { Shape::new(1, 19, 6, 21) },
            kernel: [3, 3],
            stride: [1, 1],
            dilation: [1, 1],
            padding: Padding::symmetric(1, 1),
            multiplier: 1,
            // One more than a vector of AVX2.
            outputs: 9,
            depthwise: epilogue,
            pointwise: epilogue,
            residual: false,
            values: Values::Plain,
            seed: 1,
        }
    }
}

impl Case {
    pub fn window(&self) -> Window {
        Window { kernel: self.kernel, stride: self.stride, dilation: self.dilation, padding: self.padding }
    }

    pub fn with_values(&self, values: Values) -> Case {
        Case { name: format!("{}, {values:?} values", self.name), values, ..self.clone() }
    }
}

pub const ACTIVATIONS: [Activation; 14] = [
    Activation::None,
    Activation::Relu,
    Activation::Relu6,
    Activation::Clamp { min: -0.5, max: 0.25 },
    // Bounds that are zeros of both signs, and infinite ones.
    Activation::Clamp { min: -0.0, max: 0.0 },
    Activation::Clamp { min: f32::NEG_INFINITY, max: f32::INFINITY },
    Activation::LeakyRelu { slope: 0.1 },
    Activation::HardSwish,
    Activation::HardSigmoid,
    Activation::Sigmoid,
    Activation::Silu,
    Activation::Gelu,
    Activation::Mish,
    Activation::Tanh,
];

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

/// Cases chosen by hand, one for each boundary.
pub fn by_hand() -> Vec<Case> {
    let base = Case::default;
    let case = |name: &str, case: Case| Case { name: name.into(), ..case };
    let mut cases = vec![
        // The plainest: every other case differs from this one in what its name says.
        case("3x3, stride 1, padding 1", base()),
        // ---- The window and the borders.
        case("no padding", Case { padding: Padding::valid(), ..base() }),
        case("one output", Case { input: Shape::new(1, 5, 3, 3), padding: Padding::valid(), ..base() }),
        case("one pixel: all taps but the centre on padding", Case { input: Shape::new(2, 5, 1, 1), ..base() }),
        case(
            "kernel larger than the input on both axes",
            Case { input: Shape::new(1, 5, 2, 3), kernel: [5, 7], padding: Padding::symmetric(3, 3), ..base() },
        ),
        case(
            "kernel larger than the input, one output",
            Case { input: Shape::new(1, 9, 2, 2), kernel: [7, 7], padding: Padding::explicit(1, 3, 4, 2), ..base() },
        ),
        case("padding on one side only", Case { padding: Padding::explicit(0, 2, 1, 0), ..base() }),
        case(
            "padding larger than the kernel: whole windows on it",
            Case { padding: Padding::explicit(5, 0, 1, 4), ..base() },
        ),
        case(
            "padding larger than kernel and input, strided",
            Case { input: Shape::new(1, 8, 3, 2), stride: [2, 3], padding: Padding::explicit(0, 7, 6, 1), ..base() },
        ),
        case(
            "the last stride leaves rows and columns over",
            Case { input: Shape::new(1, 3, 8, 9), stride: [3, 2], padding: Padding::valid(), ..base() },
        ),
        case("stride 2, even size", Case { input: Shape::new(1, 3, 8, 10), stride: [2, 2], ..base() }),
        case("stride 2, odd size", Case { input: Shape::new(1, 3, 9, 11), stride: [2, 2], ..base() }),
        case("stride 2 down, 1 across", Case { stride: [2, 1], ..base() }),
        case("stride 1 down, 2 across", Case { stride: [1, 2], ..base() }),
        case("stride 3", Case { input: Shape::new(1, 3, 10, 13), stride: [3, 3], ..base() }),
        case(
            "stride larger than the kernel: pixels that nothing reads",
            Case { input: Shape::new(1, 3, 11, 12), kernel: [2, 2], stride: [4, 5], ..base() },
        ),
        case("stride larger than the input", Case { stride: [9, 25], ..base() }),
        // ---- SAME.
        case("SAME, upper, even kernel", Case { kernel: [2, 4], padding: Padding::same_upper(), ..base() }),
        case("SAME, lower, even kernel", Case { kernel: [2, 4], padding: Padding::same_lower(), ..base() }),
        case(
            "SAME, upper, stride 2, even size: one-sided padding",
            Case { input: Shape::new(1, 3, 8, 9), stride: [2, 2], padding: Padding::same_upper(), ..base() },
        ),
        case(
            "SAME, lower, stride 2, even size: one-sided padding",
            Case { input: Shape::new(1, 3, 8, 9), stride: [2, 2], padding: Padding::same_lower(), ..base() },
        ),
        case(
            "SAME, stride larger than the kernel: no padding at all",
            Case { kernel: [2, 1], stride: [3, 4], padding: Padding::same_upper(), ..base() },
        ),
        case("SAME, dilated", Case { dilation: [2, 3], padding: Padding::same_upper(), ..base() }),
        // ---- The kernel's own size.
        case("1x1", Case { kernel: [1, 1], padding: Padding::valid(), ..base() }),
        case("1x1, stride 2", Case { kernel: [1, 1], stride: [2, 2], padding: Padding::valid(), ..base() }),
        case("1x1 with padding: outputs that are only bias", Case { kernel: [1, 1], ..base() }),
        case("2x2", Case { kernel: [2, 2], ..base() }),
        case("1x5", Case { kernel: [1, 5], padding: Padding::explicit(0, 2, 0, 2), ..base() }),
        case("5x1", Case { kernel: [5, 1], padding: Padding::explicit(2, 0, 2, 0), ..base() }),
        case("2x3, stride 2x1, dilation 1x2", Case { kernel: [2, 3], stride: [2, 1], dilation: [1, 2], ..base() }),
        case("3x2, stride 1x3, dilation 2x1", Case { kernel: [3, 2], stride: [1, 3], dilation: [2, 1], ..base() }),
        case("4x4, stride 2", Case { kernel: [4, 4], stride: [2, 2], ..base() }),
        case(
            "5x5",
            Case { input: Shape::new(1, 17, 9, 10), kernel: [5, 5], padding: Padding::symmetric(2, 2), ..base() },
        ),
        case(
            "5x5, stride 2",
            Case {
                input: Shape::new(1, 17, 9, 10),
                kernel: [5, 5],
                stride: [2, 2],
                padding: Padding::symmetric(2, 2),
                ..base()
            },
        ),
        case(
            "7x7",
            Case { input: Shape::new(1, 17, 9, 10), kernel: [7, 7], padding: Padding::symmetric(3, 3), ..base() },
        ),
        case(
            "7x7, stride 2",
            Case {
                input: Shape::new(1, 17, 9, 10),
                kernel: [7, 7],
                stride: [2, 2],
                padding: Padding::symmetric(3, 3),
                ..base()
            },
        ),
        case(
            "11x9: more taps than any kernel keeps in registers",
            Case { input: Shape::new(1, 3, 12, 14), kernel: [11, 9], padding: Padding::symmetric(4, 4), ..base() },
        ),
        // ---- Dilation: with a stride it splits into interleaved lattices, as many as d / gcd(s, d).
        case("dilation 2", Case { dilation: [2, 2], padding: Padding::symmetric(2, 2), ..base() }),
        case("dilation 3 down, 2 across", Case { dilation: [3, 2], padding: Padding::symmetric(2, 2), ..base() }),
        case(
            "dilation 12: only the centre tap meets the input",
            Case { input: Shape::new(1, 19, 6, 7), dilation: [12, 12], padding: Padding::symmetric(12, 12), ..base() },
        ),
        case(
            "dilation without padding: the window is the input",
            Case { input: Shape::new(1, 4, 7, 9), dilation: [3, 4], padding: Padding::valid(), ..base() },
        ),
    ];
    // ---- Copies of bands, channels first: columns that are dealt to phases, several bands and blocks, rows of taps on padding.
    for (name, input, kernel, stride, dilation, padding) in [
        ("stride 3 across, wide", [3, 9, 70], [3, 3], [1, 3], [1, 1], [1, 1]),
        ("stride 4, 4x4, wide", [3, 17, 140], [4, 4], [4, 4], [1, 1], [0, 0]),
        ("stride 5 across, 7 taps, wide", [2, 6, 175], [2, 7], [3, 5], [1, 1], [1, 3]),
        ("stride 6, 2x2: phases that no tap reads", [2, 14, 203], [2, 2], [6, 6], [1, 1], [0, 1]),
        ("stride 3, dilation 2 across, wide", [2, 7, 109], [3, 4], [2, 3], [3, 2], [2, 4]),
        ("stride 2, dilation 3 across, wide", [2, 7, 90], [3, 3], [1, 2], [1, 3], [1, 3]),
        ("rows for several bands", [2, 131, 61], [4, 4], [1, 1], [1, 1], [2, 1]),
        ("rows for several bands, strided", [1, 263, 66], [2, 5], [3, 3], [1, 1], [0, 2]),
        ("a row of several blocks", [1, 6, 2211], [3, 3], [1, 1], [1, 2], [1, 2]),
        ("large taps, bands of a tile", [1, 37, 97], [29, 31], [1, 1], [1, 1], [14, 15]),
        ("more rows of taps than are skipped", [1, 5, 17], [67, 3], [1, 1], [1, 1], [33, 1]),
    ] {
        let [c, h, w] = input;
        let padding = Padding::symmetric(padding[0], padding[1]);
        cases.push(case(name, Case { input: Shape::new(1, c, h, w), kernel, stride, dilation, padding, ..base() }));
    }
    // Rows of padding have all taps in one place: the others would lie far beyond what stands for such a row.
    cases.push(case(
        "dilation 40 of a large map",
        Case { input: Shape::new(1, 3, 60, 60), dilation: [40, 40], padding: Padding::symmetric(40, 40), ..base() },
    ));
    // The largest stride: the last of more outputs than a vector has lanes is the only one that meets the input. Fewer bits
    // cannot count so many columns of padding.
    let largest = i32::MAX as usize / 16;
    let before = if usize::BITS < 64 { 0 } else { 17 * largest };
    for (name, stride, padding) in [
        ("the largest stride down", [largest, 1], Padding::explicit(before, 1, 1, 1)),
        ("the largest stride across", [1, largest], Padding::explicit(1, before, 1, 1)),
        ("the largest stride both ways", [largest, largest], Padding::explicit(before / 17, before, 1, 1)),
    ] {
        cases.push(case(name, Case { input: Shape::new(2, 19, 4, 5), stride, padding, ..base() }));
    }
    for (stride, dilation) in [(2, 2), (2, 3), (3, 2), (2, 4), (4, 2), (6, 4), (4, 6)] {
        cases.push(case(
            &format!("stride {stride}, dilation {dilation}"),
            Case {
                input: Shape::new(1, 3, 19, 22),
                stride: [stride, stride],
                dilation: [dilation, dilation],
                padding: Padding::explicit(dilation, dilation + 1, 1, dilation),
                ..base()
            },
        ));
    }
    for (kernel, width) in [(3, 3), (5, 3), (5, 5), (5, 6), (7, 3), (7, 4), (7, 6)] {
        cases.push(case(
            &format!("{kernel}x{kernel}, {width} columns: fewer than a tile's"),
            Case {
                input: Shape::new(1, 18, 3, width),
                kernel: [kernel; 2],
                padding: Padding::symmetric(kernel / 2, kernel / 2),
                ..base()
            },
        ));
    }
    for (channels, multiplier) in [(1, 7), (3, 2), (5, 4), (8, 3), (2, 17), (16, 2)] {
        let input = Shape::new(1, channels, 6, 7);
        cases
            .push(case(&format!("{channels} channels, multiplier {multiplier}"), Case { input, multiplier, ..base() }));
        cases.push(case(
            &format!("{channels} channels, multiplier {multiplier}, dilation 2, stride 2"),
            Case { input, multiplier, dilation: [2, 2], stride: [2, 2], padding: Padding::symmetric(2, 2), ..base() },
        ));
    }
    for channels in [2, 3, 5, 6, 7, 12, 17] {
        // Vectors run over channels and pixels: rows of more than a tile's, and of parts of them.
        for (name, kernel, stride, width) in [
            ("rows of many pixels", [3, 3], 1, 150),
            ("stride 2", [5, 4], 2, 83),
            ("more taps than rows", [13, 9], 1, 21),
        ] {
            cases.push(case(
                &format!("{channels} channels, {name}"),
                Case {
                    input: Shape::new(1, channels, 6, width),
                    kernel,
                    stride: [stride; 2],
                    padding: Padding::explicit(kernel[0] / 2, kernel[1] / 2, kernel[0] / 2, 3),
                    residual: channels % 2 == 1,
                    ..base()
                },
            ));
        }
    }
    for values in [Values::Special, Values::Zeros, Values::NegativeZeros, Values::Tiny] {
        cases.push(case(
            &format!("rows of padding above, below and on both sides, {values:?}"),
            Case {
                input: Shape::new(1, 19, 3, 11),
                kernel: [9, 5],
                padding: Padding::explicit(5, 4, 6, 7),
                values,
                ..base()
            },
        ));
    }
    for n in [0, 2, 3] {
        cases.push(case(&format!("batch of {n}"), Case { input: Shape::new(n, 10, 5, 6), ..base() }));
    }
    cases.extend([
        // ---- Sizes.
        case("one row", Case { input: Shape::new(1, 3, 1, 131), ..base() }),
        case("one column", Case { input: Shape::new(1, 3, 67, 1), ..base() }),
        case("one channel", Case { input: Shape::new(1, 1, 20, 21), ..base() }),
        case("one channel in, one out", Case { input: Shape::new(1, 1, 20, 21), outputs: 1, ..base() }),
        case("many channels, one pixel", Case { input: Shape::new(1, 321, 1, 1), outputs: 130, ..base() }),
    ]);
    // ---- Epilogues, alone and together.
    let batch_norm = Epilogue { bias: false, batch_norm: true, activation: Activation::None };
    let small = || Case { input: Shape::new(1, 18, 6, 7), ..base() };
    cases.extend([
        case("no bias", {
            let none = Epilogue { bias: false, ..base().depthwise };
            Case { depthwise: none, pointwise: none, ..small() }
        }),
        case("residual", Case { residual: true, ..small() }),
        case("batch norm", Case { depthwise: batch_norm, pointwise: batch_norm, ..small() }),
        case("batch norm over a bias", {
            let both = Epilogue { bias: true, ..batch_norm };
            Case { depthwise: both, pointwise: both, ..small() }
        }),
    ]);
    for activation in ACTIVATIONS {
        let then = Epilogue { activation, ..base().depthwise };
        cases.extend([
            case(&format!("{activation:?} after depthwise"), Case { depthwise: then, ..small() }),
            case(&format!("{activation:?} after pointwise"), Case { pointwise: then, ..small() }),
            case(
                &format!("batch norm, residual, {activation:?} after both"),
                Case {
                    depthwise: Epilogue { batch_norm: true, ..then },
                    pointwise: Epilogue { batch_norm: true, ..then },
                    residual: true,
                    ..small()
                },
            )
            .with_values(Values::Special),
        ]);
    }
    // An upper bound alone, which none of those above has.
    let activation = Activation::Clamp { min: f32::NEG_INFINITY, max: 0.25 };
    let below = Epilogue { activation, ..base().depthwise };
    for c in [18, 32] {
        let input = Shape::new(1, c, 6, 7);
        cases.push(case(
            &format!("no more than 0.25 after both, {c} channels"),
            Case { input, outputs: c, depthwise: below, pointwise: below, ..base() },
        ));
    }
    // ---- −0 before each activation, in vectors and tails: a bound of +0 keeps it, and so must every kernel.
    let unpadded = || Case { input: Shape::new(1, 18, 5, 23), padding: Padding::valid(), ..base() };
    let negative_zeros = |name: String, case: Case| Case { name, ..case }.with_values(Values::NegativeZeros);
    for activation in ACTIVATIONS {
        let then = Epilogue { activation, ..base().depthwise };
        for (kernel, residual) in [([3, 3], false), ([1, 1], true)] {
            let case = Case { kernel, residual, depthwise: then, pointwise: then, ..unpadded() };
            cases.push(negative_zeros(format!("{kernel:?} taps, then {activation:?}"), case));
        }
    }
    for (kernel, stride) in taps_of_kernels() {
        let then = Epilogue { activation: Activation::Relu, ..base().depthwise };
        let case = Case { input: Shape::new(1, 18, 9, 43), kernel, stride, depthwise: then, ..unpadded() };
        cases.push(negative_zeros(format!("{kernel:?} taps, stride {stride:?}, then ReLU"), case));
    }
    // ---- The taps of each kernel that has its own, in the ways that reach beyond its plain use.
    for (kernel, stride) in taps_of_kernels() {
        let pad = Padding::symmetric(kernel[0] / 2, kernel[1] / 2);
        let own = |name: &str, case: Case| Case {
            name: format!("{kernel:?} taps, stride {stride:?}: {name}"),
            kernel,
            stride,
            ..case
        };
        let wide = Shape::new(1, 35, 11, 37);
        cases.extend([
            own("vectors and tails", Case { input: wide, padding: pad, ..base() }),
            // The channels-first kernels work out 8 pairs of vectors at a time: 256 columns at most.
            own("wide rows", Case { input: Shape::new(1, 3, 5, 561), padding: pad, outputs: 2, ..base() }),
            // Tiles of columns within the row, and of rows within the map.
            own("wide and high", Case { input: Shape::new(1, 2, 23, 203), padding: pad, outputs: 2, ..base() }),
            own("wide and high, padding of the other parity", {
                let padding = Padding::symmetric(kernel[0] / 2, kernel[1] / 2 + 1);
                Case { input: Shape::new(1, 2, 23, 203), padding, outputs: 2, ..base() }
            }),
            own("short rows", Case { input: Shape::new(1, 2, 41, 13), padding: pad, outputs: 2, ..base() }),
            own("short rows, dilated", {
                let (padding, dilation) = (Padding::symmetric(2 * (kernel[0] / 2), kernel[1] / 2), [2, 1]);
                Case { input: Shape::new(1, 2, 41, 7), padding, dilation, outputs: 2, ..base() }
            }),
            own("no padding, images", Case { input: Shape::new(2, 17, 15, 16), padding: Padding::valid(), ..base() }),
            own("one-sided padding", Case { input: wide, padding: Padding::explicit(0, 4, 5, 0), ..base() }),
            own(
                "columns of padding alone",
                Case { input: wide, padding: Padding::symmetric(kernel[0] / 2, 9), ..base() },
            ),
            own("a row", Case { input: Shape::new(1, 17, 1, 12), padding: pad, ..base() }),
            own("three rows", Case { input: Shape::new(1, 17, 3, 12), padding: pad, ..base() }),
            own("multiplier", Case { input: Shape::new(1, 6, 9, 19), multiplier: 3, padding: pad, ..base() }),
            own("dilation", {
                let padding = Padding::symmetric(6.max(kernel[0]), 5.max(kernel[1]));
                Case { input: wide, dilation: [3, 2], padding, ..base() }
            }),
            own("residual", Case { input: wide, padding: pad, residual: true, ..base() }).with_values(Values::Special),
        ]);
    }
    // ---- Special values, in the geometries where padding, strides and tails meet them.
    let bare = Epilogue { bias: false, ..base().depthwise };
    for geometry in [
        case("padding", Case { input: Shape::new(1, 19, 6, 7), ..base() }),
        case("wide padding, no bias", {
            let input = Shape::new(2, 9, 5, 4);
            Case { input, padding: Padding::symmetric(3, 3), depthwise: bare, pointwise: bare, ..base() }
        }),
        case("stride 2", Case { input: Shape::new(1, 19, 9, 8), stride: [2, 2], ..base() }),
        case("dilation 2", Case { dilation: [2, 2], padding: Padding::symmetric(2, 2), ..base() }),
        case("5x5", Case { kernel: [5, 5], padding: Padding::symmetric(2, 2), ..base() }),
        case("multiplier 2", Case { multiplier: 2, residual: true, ..base() }),
        case("rows and columns for three strips", Case { input: Shape::new(1, 17, 59, 15), ..base() }),
        case("the same at stride 2", Case { input: Shape::new(1, 17, 119, 30), stride: [2, 2], ..base() }),
        case("5x5, rows dilated", {
            let (kernel, padding) = ([5, 5], Padding::symmetric(4, 2));
            Case { input: Shape::new(1, 3, 11, 23), kernel, padding, dilation: [2, 1], ..base() }
        }),
        case("no padding", Case { input: Shape::new(1, 18, 4, 21), padding: Padding::valid(), ..base() }),
        case("9x7, rows of taps on padding for whole tiles", {
            let (kernel, padding) = ([9, 7], Padding::symmetric(7, 3));
            Case { input: Shape::new(1, 19, 5, 21), kernel, padding, ..base() }
        }),
    ] {
        for values in [Values::Special, Values::Zeros, Values::Tiny, Values::Huge] {
            cases.push(geometry.with_values(values));
        }
    }
    cases
}

/// The channel counts around every tail of every instruction set's vectors.
pub fn tails() -> Vec<Case> {
    let lanes = super::float_kernels().map(|kernel| kernel.lanes).max().unwrap_or(1);
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

/// Taps and strides that kernels are written for.
pub fn taps_of_kernels() -> Vec<([usize; 2], [usize; 2])> {
    let mut taps: Vec<_> = super::float_kernels().filter_map(|k| k.kernel_size.zip(k.stride)).collect();
    taps.sort_unstable();
    taps.dedup();
    taps
}

/// The output sizes from 1 to past the tile of every depthwise kernel, on both axes.
pub fn tiles() -> Vec<Case> {
    let kernels = || super::float_kernels().filter(|k| k.operation == Operation::Depthwise);
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
    let kernels = || super::float_kernels().filter(|k| k.operation == Operation::Pointwise);
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

/// Enough work for the scheduler to cut it between seven threads, for each way to cut.
pub fn large() -> Vec<Case> {
    let case = |name: &str, case: Case| Case { name: name.into(), ..case };
    let base = || Case { residual: true, ..Case::default() };
    let five = || Case { kernel: [5, 5], padding: Padding::symmetric(2, 2), ..base() };
    vec![
        case("rows", Case { input: Shape::new(1, 40, 103, 104), outputs: 24, ..base() }),
        case("rows, stride 2", Case { input: Shape::new(1, 64, 161, 160), stride: [2, 2], outputs: 9, ..base() }),
        case("few rows, so channels", Case { input: Shape::new(1, 3003, 7, 7), outputs: 19, ..five() }),
        case("images", Case { input: Shape::new(9, 40, 33, 34), outputs: 24, ..base() }),
        case("two images, then rows", Case { input: Shape::new(2, 40, 73, 74), outputs: 24, ..base() }),
        case(
            "channels, in the middle of a multiplier",
            Case { input: Shape::new(1, 201, 15, 16), multiplier: 3, outputs: 24, ..five() },
        ),
        case("one row, a few blocks of columns", Case { input: Shape::new(1, 150, 5, 400), outputs: 5, ..base() }),
        case("dilated rows", {
            let padding = Padding::symmetric(5, 5);
            Case { input: Shape::new(1, 40, 103, 104), dilation: [5, 5], padding, outputs: 24, ..base() }
        }),
    ]
}

/// The tables in `tests/data`; says what it leaves out.
pub fn tables() -> Vec<Case> {
    let files = [
        ("pytorch", include_str!("../data/pytorch.json")),
        ("tflite", include_str!("../data/tflite.json")),
        ("xnnpack", include_str!("../data/xnnpack.json")),
        ("ncnn", include_str!("../data/ncnn_networks.json")),
    ];
    files.into_iter().flat_map(|(file, text)| table(file, text)).collect()
}

type Row = (
    String,     // name
    [usize; 4], // input n, c, h, w
    [usize; 2], // kernel
    [usize; 2], // stride
    [usize; 2], // dilation
    [usize; 4], // padding: top, left, bottom, right
    usize,      // multiplier
    bool,       // bias
    String,     // activation
    [usize; 2], // output h, w
);

fn table(file: &str, text: &str) -> Vec<Case> {
    let table: serde_json::Value = serde_json::from_str(text).expect(file);
    let rows: Vec<Row> = serde_json::from_value(table["rows"].clone()).expect(file);
    let skipped = table["three_dimensional"].as_array().map_or(0, Vec::len);
    println!("{file}: {} cases; {skipped} left out, being three-dimensional", rows.len());

    let cases = rows.into_iter().map(|row| {
        let (name, [n, c, h, w], kernel, stride, dilation, padding, multiplier, bias, activation, output) = row;
        let [top, left, bottom, right] = padding;
        let activation = match activation.as_str() {
            "none" => Activation::None,
            "relu" => Activation::Relu,
            "relu6" => Activation::Relu6,
            "relu_n1_to_1" => Activation::Clamp { min: -1.0, max: 1.0 },
            "leaky_relu" => Activation::LeakyRelu { slope: 0.1 },
            other => panic!("{file}: {name}: unknown activation {other}"),
        };
        // Of many channels all but the last vectors compute alike: keep one vector of 16 and the
        // tail, so that all tables together take seconds.
        let channels = if c < 32 { c } else { 16 + c % 16 };
        let epilogue = Epilogue { bias, batch_norm: false, activation };
        let case = Case {
            name: format!("{file}: {name}"),
            input: Shape::new(n, channels, h, w),
            kernel,
            stride,
            dilation,
            padding: Padding::explicit(top, left, bottom, right),
            multiplier,
            outputs: channels / 2 + 1,
            depthwise: epilogue,
            pointwise: Epilogue { bias, ..Case::default().pointwise },
            ..Case::default()
        };
        let resolved = case.window().output(case.input, channels);
        assert_eq!([resolved.h, resolved.w], output, "the table's output size, {case:?}");
        case
    });
    cases.collect()
}

/// The case of a seed, drawn as TFLite's and XNNPACK's own fuzz-like tests draw theirs.
pub fn random(seed: u64) -> Case {
    let mut rng = StdRng::seed_from_u64(seed);
    // A drawn case may have no output, or more work than a test should take.
    let mut case = loop {
        let case = match rng.random_range(0..3) {
            0 => tflite_float(&mut rng),
            1 => xnnpack_fuzz(&mut rng),
            _ => tflite_delegate(&mut rng),
        };
        let fits = |axis: usize, input: usize| {
            let padding = match case.padding {
                Padding::Explicit { top, left, bottom, right } => [top + bottom, left + right][axis],
                Padding::Valid => 0,
                _ => return true,
            };
            (case.kernel[axis] - 1) * case.dilation[axis] < input + padding
        };
        if !fits(0, case.input.h) || !fits(1, case.input.w) {
            continue;
        }
        let output = case.window().output(case.input, case.input.c * case.multiplier);
        let taps = case.kernel[0] * case.kernel[1];
        if output.c <= 1024 && output.n * output.h * output.w * output.c * taps <= 1 << 20 {
            break case;
        }
    };
    // What those tests do not draw.
    let mut epilogue =
        |activation| Epilogue { bias: rng.random_bool(0.5), batch_norm: rng.random_bool(0.25), activation };
    case.depthwise = epilogue(case.depthwise.activation);
    case.pointwise = epilogue(case.pointwise.activation);
    case.pointwise.activation = ACTIVATIONS[rng.random_range(0..ACTIVATIONS.len())];
    case.residual = rng.random_bool(0.25);
    case.outputs = rng.random_range(1..=40);
    if rng.random_bool(0.25) {
        case.values = Values::Special;
    }
    Case { name: format!("DEPTHWISE_SEED={seed}"), seed, ..case }
}

/// LiteRT `depthwiseconv_float_test.cc`.
fn tflite_float(rng: &mut StdRng) -> Case {
    // A positive integer, exponentially distributed: `percentile` of them below `value`.
    let mut exponential = |percentile: f64, value: f64, max: f64| loop {
        let uniform: f64 = rng.random_range(0.0..1.0);
        let drawn = (-(1.0 - uniform).ln() * value / -(1.0 - percentile).ln()).round();
        if (1.0..=max).contains(&drawn) {
            break drawn as usize;
        }
    };
    let [c, h, w] = [(6.0, 50.0), (20.0, 200.0), (20.0, 200.0)].map(|(value, max)| exponential(0.9, value, max));
    let kernel = [(); 2].map(|()| exponential(0.9, 4.0, 10.0));
    let multiplier = exponential(0.8, 6.0, 50.0);
    let stride = [exponential(0.9, 3.0, 8.0); 2];
    let activations =
        [Activation::None, Activation::Relu, Activation::Clamp { min: -1.0, max: 1.0 }, Activation::Relu6];
    let mut case = Case {
        input: Shape::new(rng.random_range(1..=2), c, h, w),
        kernel,
        stride,
        dilation: [(); 2].map(|()| 1 << rng.random_range(0..3)),
        padding: if rng.random_bool(0.5) { Padding::same_upper() } else { Padding::valid() },
        multiplier,
        ..Case::default()
    };
    case.depthwise.activation = activations[rng.random_range(0..activations.len())];
    case
}

/// XNNPACK `test/subgraph/depthwise-convolution-2d.cc`.
fn xnnpack_fuzz(rng: &mut StdRng) -> Case {
    let kernel = [(); 2].map(|()| rng.random_range(1..=7));
    let explicit = |rng: &mut StdRng| {
        let [top, left, bottom, right] = [(); 4].map(|()| rng.random_range(0..=4));
        Padding::explicit(top, left, bottom, right)
    };
    Case {
        input: Shape::new(
            rng.random_range(1..=3),
            rng.random_range(10..=15),
            rng.random_range(1..=20),
            rng.random_range(1..=20),
        ),
        kernel,
        stride: kernel.map(|k| rng.random_range(1..=k + 1)),
        dilation: [(); 2].map(|()| rng.random_range(1..=2)),
        padding: if rng.random_bool(0.5) { Padding::same_upper() } else { explicit(rng) },
        multiplier: rng.random_range(1..=7),
        ..Case::default()
    }
}

/// LiteRT `delegates/xnnpack/depthwise_conv_2d_test.cc`.
fn tflite_delegate(rng: &mut StdRng) -> Case {
    let [h, w] = [(); 2].map(|()| rng.random_range(5..=25));
    let (kernel, stride) = [(1, 1), (2, 1), (3, 1), (3, 2), (5, 1), (5, 2)][rng.random_range(0..6)];
    Case {
        input: Shape::new(1, rng.random_range(3..=32), h, w),
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [rng.random_range(1..=2); 2],
        padding: if rng.random_bool(0.5) { Padding::same_lower() } else { Padding::valid() },
        ..Case::default()
    }
}
