//! Plans of 8 bits equal the oracle bit for bit: every kernel, both layouts, both rules, in every way to call them.

use depthwise::int8::{DepthwiseConv2d, Quantized, Rounding, Weights};
use depthwise::{Error, Layout, OutputRange, Run, Shape, TensorView, TensorViewMut, Workspace};
use depthwise_testkit::int8::cases::{Case, randoms};
use depthwise_testkit::int8::plan::{draw, plan, sums_of};
use depthwise_testkit::int8::{Way, check, check_all, isas, oracle, run};
use depthwise_testkit::plan::Operation::{Conv2d, Depthwise, Pointwise, Separable};
use depthwise_testkit::{Tally, emulation};

#[test]
fn depthwise() {
    let mut cases = Vec::new();
    // Strips of more columns than a buffer holds, and rows left over.
    for (stride, w) in [([1, 1], 9), ([2, 2], 9), ([1, 1], 200), ([2, 2], 201)] {
        cases.push(Case { stride, ..Case::new(Depthwise, Shape::new(1, 70, 3, w), 7) });
    }
    cases.extend(randoms(Depthwise, 40));
    check_all("depthwise of 8 bits", depthwise::Operation::Depthwise, cases);
}

#[test]
fn pointwise() {
    let mut cases = randoms(Pointwise, 30);
    // Depths beyond a block of inputs, and each height of a tile.
    for w in [1, 2, 3, 4, 5, 6, 7, 13] {
        let rounding = if w % 2 == 0 { oracle::Rounding::Tflite } else { oracle::Rounding::NearestEven };
        cases.push(Case { outputs: 70, rounding, ..Case::new(Pointwise, Shape::new(1, 1021 + w, 1, w), 9) });
    }
    check_all("pointwise of 8 bits", depthwise::Operation::Pointwise, cases);
}

#[test]
fn separable() {
    check_all("separable of 8 bits", depthwise::Operation::Pointwise, randoms(Separable, 24));
}

#[test]
fn standard() {
    check_all("standard of 8 bits", depthwise::Operation::Pointwise, randoms(Conv2d, 20));
}

/// Large enough to be cut in blocks and between threads.
#[test]
fn blocks() {
    if emulation::is_on() {
        return println!("left out: it takes an emulator long");
    }
    let mut tally = Tally::default();
    for (operation, outputs) in [(Separable, 72), (Conv2d, 40)] {
        let input = if operation == Conv2d { Shape::new(1, 20, 61, 64) } else { Shape::new(1, 130, 61, 64) };
        check(&Case { outputs, ..Case::new(operation, input, 3) }, &mut tally);
    }
}

/// Sums as they are.
#[test]
fn sums() {
    for (operation, seed) in [(Depthwise, 1), (Pointwise, 2), (Separable, 3), (Conv2d, 4)] {
        let case = Case { outputs: 70, ..Case::new(operation, Shape::new(1, 70, 4, 5), seed) };
        let drawn = draw(&case);
        let want = sums_of(&case, &drawn);
        for isa in isas() {
            for layout in [Layout::Nhwc, Layout::Nchw] {
                let plan = plan(&case, &drawn, isa, layout, [None; 2], true).expect("a plan");
                for parts in [false, true] {
                    let way = Way { layout, gap: 2, threads: false, parts };
                    run::<i8, i32>(&plan, &drawn.input, &want, way, &format!("{case:?}, {isa}, {way:?}"));
                }
            }
        }
    }
}

/// Each bad argument is an error that names it.
#[test]
fn errors_name_what_is_wrong() {
    let (weights, scales, bias) = ([1i8; 36], [0.01f32; 4], [0i32; 4]);
    let good = || {
        let builder = DepthwiseConv2d::builder(4).input(Quantized::i8(0.5, 0)).output(Quantized::i8(0.5, 0));
        builder.layout(Layout::Nhwc).weights(Weights::i8(&weights, &scales)).bias(&bias)
    };
    let large = [i32::MIN, 0, 0, 0];
    let nan = [0.01, f32::NAN, 0.01, 0.01];
    let errors = [
        (good().input(Quantized::i8(0.0, 0)).build(), "the scale of the input is 0.0"),
        (good().output(Quantized::u8(f32::INFINITY, 0)).build(), "the scale of the output is inf"),
        (
            good().input(Quantized::u8(1.0, -1)).build(),
            "the zero point of the input is -1: of u8 it must be in 0 ..= 255",
        ),
        (good().output(Quantized::i8(1.0, 128)).build(), "the zero point of the output is 128: of i8"),
        (good().weights(Weights::i8(&weights, &nan)).build(), "the scale of the depthwise weights of channel 1 is NaN"),
        (good().weights(Weights::i8(&weights, &scales[..3])).build(), "3 elements were given for the scales of"),
        (
            good().weights(Weights::i8(&weights[..35], &scales)).build(),
            "35 elements were given for the depthwise weights",
        ),
        (good().weights(Weights::u8(&[0; 36], &scales, 256)).build(), "the zero point of the depthwise weights is 256"),
        (good().bias(&bias[..2]).build(), "2 elements were given for the depthwise bias"),
        (good().bias(&large).build(), "a sum of channel 0 may reach 2147484800"),
        (good().clamp(128, 200).build(), "an output of i8 cannot be clamped to 128 ..= 200"),
        (good().clamp(3, 2).build(), "cannot be clamped to 3 ..= 2"),
        (good().clamp(0, 5).output_sums().build(), "do not take a clamp of sums"),
        (good().input(Quantized::i8(1e38, 0)).output(Quantized::i8(1e-38, 0)).build(), "a factor of inf"),
        (good().rounding(Rounding::Tflite).input(Quantized::i8(1e20, 0)).build(), "channel 0 a factor of 1.9"),
        (good().rounding(Rounding::Tflite).input(Quantized::i8(1e9, 0)).build(), "also times the power of two"),
        (good().kernel("dw_none").build(), "there is no kernel `dw_none`"),
        (DepthwiseConv2d::builder(4).weights(Weights::i8(&weights, &scales)).build(), "use `input`"),
        (good().stride([0, 1]).build(), "the stride is 0"),
    ];
    for (result, sentence) in errors {
        let error = result.map(|plan| format!("{plan:?}")).expect_err(sentence).to_string();
        assert!(error.contains(sentence), "`{error}` does not say `{sentence}`");
    }

    let plan = good().build().expect("a plan");
    let (shape, mut workspace) = (Shape::new(1, 4, 2, 2), Workspace::new());
    let (input, mut output, mut other) = ([0i8; 16], [0i8; 16], [0u8; 16]);
    let view = |shape| TensorView::new(&input, shape, Layout::Nhwc).expect("a view");
    fn view_mut<T>(data: &mut [T], shape: Shape) -> TensorViewMut<'_, T> {
        TensorViewMut::new(data, shape, Layout::Nhwc).expect("a view")
    }
    let error = plan.run(Run::new(view(shape), view_mut(&mut other, shape), &mut workspace)).unwrap_err();
    assert_eq!(error.to_string(), "the output has elements of u8, but the plan is for i8");
    let run = Run::new(view(shape), view_mut(&mut output, shape), &mut workspace).residual(view(shape));
    assert!(plan.run(run).unwrap_err().to_string().contains("do not take a residual"));
    let run = Run::new(view(Shape::new(1, 2, 2, 4)), view_mut(&mut output, shape), &mut workspace);
    assert_eq!(plan.run(run).unwrap_err(), Error::Channels { expected: 4, found: 2 });
    let range = OutputRange { h: 0..3, ..OutputRange::all(shape) };
    let run = Run::new(view(shape), view_mut(&mut output, shape), &mut workspace).range(range);
    assert!(matches!(plan.run(run), Err(Error::Range { .. })));
    // Nothing is a result, too.
    let none = Shape { n: 0, ..shape };
    let (from, to): ([i8; 0], [i8; 0]) = ([], []);
    let mut to = to;
    let input = TensorView::new(&from, none, Layout::Nhwc).expect("a view");
    assert_eq!(plan.run(Run::new(input, view_mut(&mut to, none), &mut workspace)), Ok(()));
}
