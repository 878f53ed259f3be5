//! Cases chosen by hand, one for each boundary.

use depthwise::{Activation, Padding, Shape};

use super::of_kernels::taps_of_kernels;
use super::{ACTIVATIONS, Case, Epilogue, Values};

/// Each differs from [`Case::default`] in what its name says.
pub fn by_hand() -> Vec<Case> {
    let sections = [
        windows(),
        copies(),
        strides_and_dilations(),
        narrow_maps(),
        channels(),
        rows_of_padding(),
        sizes(),
        epilogues(),
        negative_zeros(),
        taps_of_each_kernel(),
        special_values(),
    ];
    sections.concat()
}

fn base() -> Case {
    Case::default()
}

fn case(name: &str, case: Case) -> Case {
    Case { name: name.into(), ..case }
}

/// The window, its borders, and the kernel's own size.
fn windows() -> Vec<Case> {
    vec![
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
    ]
}

/// Copies of bands, channels first: columns that are dealt to phases, several bands and blocks, rows of taps on padding.
fn copies() -> Vec<Case> {
    let mut cases = Vec::new();
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
    cases
}

/// Far apart, and of all kinds of common divisors.
fn strides_and_dilations() -> Vec<Case> {
    let mut cases = Vec::new();
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
    cases
}

/// Of fewer columns than a tile.
fn narrow_maps() -> Vec<Case> {
    let mut cases = Vec::new();
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
    cases
}

/// Multipliers, and fewer channels than a vector has lanes.
fn channels() -> Vec<Case> {
    let mut cases = Vec::new();
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
    cases
}

/// Above and below, with columns of padding on both sides.
fn rows_of_padding() -> Vec<Case> {
    let mut cases = Vec::new();
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
    cases
}

/// Of maps and batches.
fn sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    for n in [0, 2, 3] {
        cases.push(case(&format!("batch of {n}"), Case { input: Shape::new(n, 10, 5, 6), ..base() }));
    }
    cases.extend([
        case("one row", Case { input: Shape::new(1, 3, 1, 131), ..base() }),
        case("one column", Case { input: Shape::new(1, 3, 67, 1), ..base() }),
        case("one channel", Case { input: Shape::new(1, 1, 20, 21), ..base() }),
        case("one channel in, one out", Case { input: Shape::new(1, 1, 20, 21), outputs: 1, ..base() }),
        case("many channels, one pixel", Case { input: Shape::new(1, 321, 1, 1), outputs: 130, ..base() }),
    ]);
    cases
}

/// Batch norm, residual, activations: alone and together.
fn epilogues() -> Vec<Case> {
    let batch_norm = Epilogue { bias: false, batch_norm: true, activation: Activation::None };
    let small = || Case { input: Shape::new(1, 18, 6, 7), ..base() };
    let mut cases = vec![
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
    ];
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
    cases
}

/// −0 before each activation, in vectors and tails: a bound of +0 keeps it, and so must every kernel.
fn negative_zeros() -> Vec<Case> {
    let unpadded = || Case { input: Shape::new(1, 18, 5, 23), padding: Padding::valid(), ..base() };
    let negative_zeros = |name: String, case: Case| Case { name, ..case }.with_values(Values::NegativeZeros);
    let mut cases = Vec::new();
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
    cases
}

/// The taps of each kernel that has its own, in the ways that reach beyond its plain use.
fn taps_of_each_kernel() -> Vec<Case> {
    let mut cases = Vec::new();
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
    cases
}

/// Special values, in the geometries where padding, strides and tails meet them.
fn special_values() -> Vec<Case> {
    let bare = Epilogue { bias: false, ..base().depthwise };
    let mut cases = Vec::new();
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

/// Enough work for the scheduler to cut it between seven threads, for each way to cut.
pub fn large() -> Vec<Case> {
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
