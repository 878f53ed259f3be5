//! Plans of 8 bits equal the oracle bit for bit: every kernel, both layouts, both rules, in every way to call them.

use depthwise::int8::{DepthwiseConv2d, Quantized, Rounding, Weights};
use depthwise::{Error, Layout, OutputRange, Padding, Run, Shape, Strides, TensorView, TensorViewMut, Workspace};
use depthwise_testkit::int8::cases::{Case, randoms};
use depthwise_testkit::int8::memory::Buffer;
use depthwise_testkit::int8::oracle::Kind;
use depthwise_testkit::int8::plan::{
    Drawn, Outputs, Plan, Stage, bias_of_reals, draw, entry, expected, looked, other, plan, quantized, sums_of,
};
use depthwise_testkit::int8::{Way, check, check_all, isas, oracle, run, run_as};
use depthwise_testkit::oracle::Tensor;
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

/// Cases for what becomes of sums: each operation, all that a window may have.
fn few_of_each() -> Vec<Case> {
    let mut cases = Vec::new();
    for (operation, seed) in [(Depthwise, 1), (Pointwise, 2), (Separable, 3), (Conv2d, 4)] {
        let input = Shape::new(1, if operation == Conv2d { 20 } else { 70 }, 4, 9);
        cases.push(Case { outputs: 70, ..Case::new(operation, input, seed) });
        let few = if emulation::is_on() { 1 } else { 12 };
        cases.extend(randoms(operation, few));
    }
    cases
}

/// In every way to call them, on each instruction set.
fn check_outputs(outputs: Outputs, of_run: Option<Quantized>, drawn: &Drawn, case: &Case, want: &Tensor<i64>) {
    for (isa, layout) in isas().flat_map(|isa| [Layout::Nhwc, Layout::Nchw].map(|layout| (isa, layout))) {
        let what = format!("{case:?}, {outputs:?}, {layout}, {isa}");
        let plan = plan(case, drawn, isa, layout, [None; 2], outputs);
        let plan = plan.unwrap_or_else(|error| panic!("{what}: {error}"));
        for (gap, threads, parts) in [(0, false, false), (0, true, false), (2, false, true)] {
            let way = Way { gap, threads, parts, of_run, ..Way::new(layout) };
            let what = format!("{what}, {way:?}");
            match (outputs, case.input_kind) {
                (Outputs::Numbers | Outputs::Looked, _) => run_as(case, &plan, &drawn.input, want, way, &what),
                (Outputs::Sums, Kind::U8) => run::<u8, i32>(&plan, &drawn.input, want, way, &what),
                (Outputs::Sums, Kind::I8) => run::<i8, i32>(&plan, &drawn.input, want, way, &what),
                (Outputs::Real, Kind::U8) => run::<u8, f32>(&plan, &drawn.input, want, way, &what),
                (Outputs::Real, Kind::I8) => run::<i8, f32>(&plan, &drawn.input, want, way, &what),
            }
        }
    }
}

/// Sums as they are.
#[test]
fn sums() {
    for case in few_of_each() {
        let drawn = draw(&case);
        check_outputs(Outputs::Sums, None, &drawn, &case, &sums_of(&case, &drawn));
    }
}

/// Each number that was rounded becomes another, after both stages.
#[test]
fn tables() {
    // Blocks of outputs that are looked up while they are in a cache, too.
    let large = [Depthwise, Pointwise].map(|operation| Case::new(operation, Shape::new(1, 70, 60, 90), 5));
    let large = if emulation::is_on() { vec![] } else { large.to_vec() };
    for case in few_of_each().into_iter().chain(large) {
        let drawn = draw(&case);
        let through = |mut tensor: Tensor<i64>, from: Kind, to: Kind| {
            tensor.data.iter_mut().for_each(|q| *q = entry(*q, from, to));
            tensor
        };
        let last = drawn.stages.last().expect("a stage");
        let mut want = expected(&case, &drawn);
        if case.operation == Separable {
            let first = Case { operation: Depthwise, ..case.clone() };
            let between = drawn.stages[0].target.output;
            let middle = through(expected(&first, &drawn), between.kind, case.input_kind);
            let Stage { weights, scales, zero_point, bias, target } = last;
            let weights = oracle::Weights { values: weights, scales, zero_point: *zero_point, bias };
            want = oracle::pointwise((&middle, looked(between, case.input_kind)), weights, case.outputs, *target);
        }
        let want = through(want, case.output_kind, other(case.output_kind));
        check_outputs(Outputs::Looked, None, &drawn, &case, &want);
    }
}

/// What sums stand for, of inputs that stand for what the plan or the run says.
#[test]
fn reals() {
    let large = [Depthwise, Pointwise].map(|operation| Case::new(operation, Shape::new(1, 70, 60, 90), 5));
    let large = if emulation::is_on() { vec![] } else { large.to_vec() };
    for case in few_of_each().into_iter().chain(large) {
        let drawn = draw(&case);
        let (low, high) = case.input_kind.range();
        for zero_point in [None, Some(low), Some(high), Some(low + 99)] {
            // The second stage of two reads what the plan says.
            if zero_point.is_some() && case.operation == Separable {
                continue;
            }
            let of_run = zero_point.map(|zero_point| oracle::Quantized { zero_point, scale: 0.0123, ..drawn.from });
            let from = of_run.unwrap_or(drawn.from);
            let last = drawn.stages.last().expect("a stage");
            let scale = if case.operation == Separable { drawn.stages[0].target.output.scale } else { from.scale };
            let sums = sums_of(&case, &Drawn { from, input: drawn.input.clone(), stages: drawn.stages.clone() });
            let bias = bias_of_reals(case.last());
            let want = Tensor::from_fn(sums.shape, |n, c, h, w| {
                let factor = scale * last.scales[c % last.scales.len()];
                oracle::real(sums.at(n, c, h, w) as i32, factor, bias[c]).to_bits().into()
            });
            check_outputs(Outputs::Real, of_run.map(quantized), &drawn, &case, &want);
        }
    }
}

/// An axis of one element has a stride that means nothing, such as 0.
#[test]
fn strides_of_an_axis_of_one() {
    for (input, kernel) in [(Shape::new(1, 70, 9, 1), [3, 3]), (Shape::new(1, 70, 1, 40), [1, 31])] {
        let [ph, pw] = kernel.map(|taps| taps / 2);
        let padding = Padding::explicit(ph, ph, pw, pw);
        let case =
            Case { kernel, padding, input_kind: Kind::U8, output_kind: Kind::U8, ..Case::new(Depthwise, input, 5) };
        let drawn = draw(&case);
        let want = expected(&case, &drawn);
        // Of one row or column, pixels follow each other.
        let pixels = (0..input.h * input.w).flat_map(|i| (0..input.c).map(move |c| (c, i)));
        let numbers = pixels.map(|(c, i)| drawn.input.at(0, c, i / input.w, i % input.w) as u8);
        let numbers: Vec<u8> = numbers.collect();
        for isa in isas() {
            let plan = plan(&case, &drawn, isa, Layout::Nhwc, [None; 2], Outputs::Numbers).expect("a plan");
            let Plan::Depthwise(plan) = plan else { unreachable!("a depthwise case") };
            let strides =
                Strides { n: 0, h: if input.h == 1 { 0 } else { 70 }, w: if input.w == 1 { 0 } else { 70 }, c: 1 };
            let view = TensorView::strided(&numbers, input, strides).expect("a view");
            let mut output = Buffer::<u8>::blank(want.shape, Layout::Nhwc, 0);
            plan.run(Run::new(view, output.view_mut(), &mut Workspace::new())).expect("a run");
            output.check(&want, &format!("{isa}, {input:?}"));
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
        (good().clamp(0, 5).output_sums().build(), "do not take a clamp of outputs of i32 or f32"),
        (good().input(Quantized::i8(1e38, 0)).output(Quantized::i8(1e-38, 0)).build(), "a factor of inf"),
        (good().rounding(Rounding::Tflite).input(Quantized::i8(1e20, 0)).build(), "channel 0 a factor of 1.9"),
        (good().rounding(Rounding::Tflite).input(Quantized::i8(1e9, 0)).build(), "also times the power of two"),
        (good().kernel("dw_none").build(), "there is no kernel `dw_none`"),
        (DepthwiseConv2d::builder(4).weights(Weights::i8(&weights, &scales)).build(), "use `input`"),
        (good().stride([0, 1]).build(), "the stride is 0"),
        (good().clamp(0, 5).output_f32().build(), "do not take a clamp of outputs of i32 or f32: clamp them"),
        (good().bias_f32(&[0.0; 4]).build(), "do not take a bias of f32 without outputs of f32: use `output_f32`"),
        (
            good().output_f32().bias_f32(&[0.0; 3]).build(),
            "3 elements were given for the bias of f32, but 4 are needed (one for each of 4 output channels)",
        ),
        (
            good().output_f32().input(Quantized::i8(3e38, 0)).weights(Weights::i8(&weights, &[2.0])).build(),
            "a factor of inf",
        ),
        // Of any zero point.
        (good().output_f32().bias(&[i32::MAX - 2294, 0, 0, 0]).build(), "a sum of channel 0 may reach 2147483648"),
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
    assert_eq!(
        error.to_string(),
        "the output has elements of u8, but was described as i8: give what was described, or describe it so"
    );
    let run = Run::new(view(shape), view_mut(&mut output, shape), &mut workspace).residual(view(shape));
    assert!(plan.run(run).unwrap_err().to_string().contains("do not take a residual"));
    let run = Run::new(view(shape), view_mut(&mut output, shape), &mut workspace).quantized(Quantized::i8(0.5, 1));
    let error = plan.run(run).unwrap_err().to_string();
    assert!(error.contains("do not take what a run says of its input, unless outputs are of f32"), "{error}");
    let run = Run::new(view(Shape::new(1, 2, 2, 4)), view_mut(&mut output, shape), &mut workspace);
    assert_eq!(plan.run(run).unwrap_err(), Error::Channels { expected: 4, found: 2 });
    let range = OutputRange { h: 0..3, ..OutputRange::all(shape) };
    let run = Run::new(view(shape), view_mut(&mut output, shape), &mut workspace).range(range);
    assert!(matches!(plan.run(run), Err(Error::Range { .. })));
    let plan = good().output_f32().build().expect("a plan");
    let mut real = [0f32; 16];
    for (of_run, sentence) in [
        (Quantized::i8(f32::NAN, 0), "the scale of the input is NaN"),
        (Quantized::i8(1.0, 200), "the zero point of the input is 200"),
        (Quantized::u8(1.0, 0), "the input has elements of u8, but was described as i8"),
    ] {
        let run = Run::new(view(shape), view_mut(&mut real, shape), &mut workspace).quantized(of_run);
        let error = plan.run(run).unwrap_err().to_string();
        assert!(error.contains(sentence), "`{error}` does not say `{sentence}`");
    }
    let plan = good().output_f32().weights(Weights::i8(&weights, &[2.0])).build().expect("a plan");
    let run = Run::new(view(shape), view_mut(&mut real, shape), &mut workspace).quantized(Quantized::i8(3e38, 0));
    assert!(plan.run(run).unwrap_err().to_string().contains("channel 0 a factor of inf"));
    let plan = good().build().expect("a plan");
    // Taps as far apart as a number can say.
    for dilation in [[1, usize::MAX], [usize::MAX, 1]] {
        let far = good().padding(Padding::explicit(1, 1, 1, 1)).dilation(dilation).build();
        let run = Run::new(view(shape), view_mut(&mut output, shape), &mut workspace);
        far.and_then(|far| far.run(run)).expect_err("it is out of reach");
    }
    // Nothing is a result, too.
    let none = Shape { n: 0, ..shape };
    let (from, to): ([i8; 0], [i8; 0]) = ([], []);
    let mut to = to;
    let input = TensorView::new(&from, none, Layout::Nhwc).expect("a view");
    assert_eq!(plan.run(Run::new(input, view_mut(&mut to, none), &mut workspace)), Ok(()));
}
