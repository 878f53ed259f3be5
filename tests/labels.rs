//! The same memory under two labels: the same bits, and what runs is the same, too.

use depthwise::{
    AnyConv2d, Axis, Choice, Conv2d, Convolution, DepthwiseConv2d, Error, Layout, OutputRange, Padding, Parallelism,
    PointwiseConv2d, Run, SeparableConv2d, Shape, TensorView, TensorViewMut, Workspace,
};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// The seeds of the cases: fewer for an emulator.
fn seeds() -> std::ops::Range<u64> {
    0..if depthwise_testkit::emulation::is_on() { 6 } else { 40 }
}

/// Of a window of one column or one row, and its map.
struct Line {
    channels: [usize; 2],
    n: usize,
    length: usize,
    taps: usize,
    stride: usize,
    dilation: usize,
    pads: [usize; 2],
}

impl Line {
    fn random(rng: &mut impl Rng) -> Self {
        let (taps, dilation) = (rng.random_range(1..6), rng.random_range(1..3));
        let channels = [rng.random_range(1..36), rng.random_range(1..36)];
        let pads = [0, 1].map(|_| rng.random_range(0..taps));
        let length = (taps - 1) * dilation + rng.random_range(1..60);
        Line { channels, n: rng.random_range(1..3), length, taps, stride: rng.random_range(1..4), dilation, pads }
    }

    fn shape(&self, is_column: bool) -> Shape {
        let row = Shape::new(self.n, self.channels[0], 1, self.length);
        if is_column { Shape { h: row.w, w: 1, ..row } } else { row }
    }
}

/// Values of which some are zeros of either sign, and some very small, so that sums of other terms have other bits.
fn values(len: usize, rng: &mut impl Rng) -> Vec<f32> {
    let value = |rng: &mut _| -> f32 {
        match Rng::next_u32(rng) % 8 {
            0 => 0.0,
            1 => -0.0,
            2 => 1e-38,
            3 => -1e-30,
            more => (more as f32 - 5.2) * RngExt::random::<f32>(rng),
        }
    };
    (0..len).map(|_| value(rng)).collect()
}

fn run(plan: &dyn Convolution, input: &[f32], shape: Shape, choice: Option<&Choice>) -> Vec<u32> {
    let output = plan.output_shape(shape).expect("a shape");
    let mut y = vec![7.0; output.len().expect("small")];
    let view = TensorView::new(input, shape, plan.layout()).expect("a view");
    let to = TensorViewMut::new(&mut y, output, plan.layout()).expect("a view");
    plan.run(Run::new(view, to, &mut Workspace::new()).maybe_choice(choice)).expect("a run");
    y.into_iter().map(f32::to_bits).collect()
}

/// Runs both on the same memory.
fn check(name: &str, plans: [&dyn Convolution; 2], shapes: [Shape; 2], rng: &mut impl Rng) {
    let input = values(shapes[0].len().expect("small"), rng);
    let [a, b] = [0, 1].map(|i| run(plans[i], &input, shapes[i], None));
    assert!(a == b, "{name}: {:?} of {} and {:?} of {} differ", plans[0], shapes[0], plans[1], shapes[1]);
}

/// What both do on these inputs is the same.
fn same_choice(name: &str, plans: [&dyn Convolution; 2], shapes: [Shape; 2]) {
    let [a, b] = [0, 1].map(|i| plans[i].prepare(shapes[i], Parallelism::Serial).expect("a choice"));
    assert_eq!(a.describe(), b.describe(), "{name}: {:?} of {}", plans[0], shapes[0]);
}

/// The plans of an operation on a line: with a window of one column, and of one row.
fn plans(operation: usize, line: &Line, layout: Layout, rng: &mut StdRng) -> [Box<dyn Convolution>; 2] {
    let [inputs, outputs] = line.channels;
    let between = values(inputs * line.taps, rng);
    let (weights, bias) = (values(outputs * inputs * line.taps, rng), values(inputs.max(outputs), rng));
    [true, false].map(|is_column| -> Box<dyn Convolution> {
        let along = |x: usize| if is_column { [x, 1] } else { [1, x] };
        let [before, after] = line.pads;
        let padding =
            if is_column { Padding::explicit(before, 0, after, 0) } else { Padding::explicit(0, before, 0, after) };
        macro_rules! window {
            ($builder:expr) => {
                $builder
                    .layout(layout)
                    .kernel_size(along(line.taps))
                    .stride(along(line.stride))
                    .dilation(along(line.dilation))
                    .padding(padding)
                    .build()
                    .expect("a plan")
            };
        }
        match operation {
            0 => Box::new(window!(DepthwiseConv2d::builder(inputs).weights(&between).bias(&bias[..inputs]))),
            1 => Box::new(window!(
                SeparableConv2d::builder(inputs, outputs)
                    .depthwise_weights(&between)
                    .depthwise_bias(&bias[..inputs])
                    .pointwise_weights(&weights[..outputs * inputs])
            )),
            2 => Box::new(window!(Conv2d::builder(inputs, outputs).weights(&weights).bias(&bias[..outputs]))),
            _ => Box::new(window!(AnyConv2d::builder(inputs, outputs, 1).weights(&weights).bias(&bias[..outputs]))),
        }
    })
}

#[test]
fn a_column_is_a_row() {
    for seed in seeds() {
        let rng = &mut StdRng::seed_from_u64(seed);
        let line = Line::random(rng);
        let shapes = [true, false].map(|is_column| line.shape(is_column));
        for layout in [Layout::Nchw, Layout::Nhwc] {
            for operation in 0..4 {
                let name = format!("seed {seed}, {layout}, operation {operation}");
                let [column, row] = plans(operation, &line, layout, rng);
                check(&name, [&*column, &*row], shapes, rng);
                let output = column.output_shape(shapes[0]).expect("a shape");
                if line.length > 1 && line.taps > 1 && output.h > 1 {
                    same_choice(&name, [&*column, &*row], shapes);
                }
            }
        }
    }
}

/// Choices made for columns, kept as text, parts for threads, and tensors whose columns have gaps.
#[test]
fn a_column_is_run_in_every_way() {
    for seed in seeds() {
        let rng = &mut StdRng::seed_from_u64(seed);
        let line = Line::random(rng);
        let shape = line.shape(true);
        for layout in [Layout::Nchw, Layout::Nhwc] {
            for operation in 0..3 {
                let [plan, _] = plans(operation, &line, layout, rng);
                let input = values(shape.len().expect("small"), rng);
                let want = run(&*plan, &input, shape, None);
                let choice = plan.prepare(shape, Parallelism::Serial).expect("a choice");
                let read = plan.choice_from_text(&choice.to_text()).expect("a text");
                assert_eq!(read.to_text(), choice.to_text());
                assert!(run(&*plan, &input, shape, Some(&read)) == want, "seed {seed}: {choice}");

                let output = plan.output_shape(shape).expect("a shape");
                let mut y = vec![7.0; output.len().expect("small")];
                let view = TensorView::new(&input, shape, layout).expect("a view");
                if let Some(steps) = plan.parts(shape, 3).expect("parts").last() {
                    let views = TensorViewMut::new(&mut y, output, layout).expect("a view").split(steps);
                    for (part, to) in steps.iter().zip(views.expect("parts of the output")) {
                        plan.run(Run::new(view, to, &mut Workspace::new()).range(part.clone())).expect("a run");
                    }
                }
                assert!(y.iter().map(|y| y.to_bits()).eq(want.iter().copied()), "seed {seed}: parts of {plan:?}");

                // The same column in an image of three.
                let gapped = layout.strides(Shape { w: 3, ..shape }).expect("strides");
                let mut wide = vec![f32::NAN; Shape { w: 3, ..shape }.len().expect("small")];
                let tight = layout.strides(shape).expect("strides");
                for n in 0..shape.n {
                    for c in 0..shape.c {
                        for h in 0..shape.h {
                            wide[gapped.offset(n, c, h, 1)] = input[tight.offset(n, c, h, 0)];
                        }
                    }
                }
                let start = gapped.offset(0, 0, 0, 1);
                let view = TensorView::strided(&wide[start..], shape, gapped).expect("a view");
                for choice in [None, Some(&choice)] {
                    let mut workspace = Workspace::with_len(read.workspace_len()).expect("memory");
                    y.fill(7.0);
                    let to = TensorViewMut::new(&mut y, output, layout).expect("a view");
                    plan.run(Run::new(view, to, &mut workspace).maybe_choice(choice)).expect("a run");
                    assert!(y.iter().map(|y| y.to_bits()).eq(want.iter().copied()), "seed {seed}: gaps, {plan:?}");
                    assert_eq!(workspace.len(), read.workspace_len(), "seed {seed}: it grew, {plan:?}");
                }
            }
        }
    }
}

#[test]
fn a_channel_is_a_plane() {
    for seed in seeds() {
        let rng = &mut StdRng::seed_from_u64(seed);
        let kernel = [rng.random_range(1..8), rng.random_range(1..8)];
        let shape = Shape::new(rng.random_range(1..3), 1, rng.random_range(8..30), rng.random_range(8..40));
        let (weights, stride) = (values(kernel[0] * kernel[1], rng), [0, 1].map(|_| rng.random_range(1..4)));
        let plans = [Layout::Nhwc, Layout::Nchw].map(|layout| {
            let plan = DepthwiseConv2d::builder(1).layout(layout).weights(&weights).kernel_size(kernel).stride(stride);
            plan.padding(Padding::symmetric(1, 2)).build().expect("a plan")
        });
        let standard = [Layout::Nhwc, Layout::Nchw].map(|layout| {
            let plan = Conv2d::builder(1, 1).layout(layout).weights(&weights).kernel_size(kernel).stride(stride);
            plan.padding(Padding::symmetric(1, 2)).build().expect("a plan")
        });
        let name = format!("seed {seed}");
        check(&name, [&plans[0], &plans[1]], [shape; 2], rng);
        for standard in &standard {
            check(&name, [standard, &plans[1]], [shape; 2], rng);
        }
        let [a, b] = [0, 1].map(|i| plans[i].prepare(shape, Parallelism::Serial).expect("a choice").describe());
        assert_eq!(a, b, "{name}");

        // One channel of three: there are gaps between its pixels.
        let all = Shape { c: 3, ..shape };
        let data = values(all.len().expect("small"), rng);
        let strides = Layout::Nhwc.strides(all).expect("strides");
        let view = TensorView::strided(&data[1..], shape, strides).expect("a view");
        let gaps = plans[0].run_to_vec(view, None, &mut Workspace::new(), Parallelism::Serial).expect("a run");
        let channel: Vec<f32> = data.iter().skip(1).step_by(3).copied().collect();
        let want = run(&plans[1], &channel, shape, None);
        assert!(gaps.iter().map(|y| y.to_bits()).eq(want), "{name}: gaps");
    }
}

#[test]
fn one_input_is_depthwise() {
    for seed in seeds() {
        let rng = &mut StdRng::seed_from_u64(seed);
        let outputs = rng.random_range(1..40);
        let shape = Shape::new(rng.random_range(1..3), 1, rng.random_range(3..20), rng.random_range(3..30));
        let weights = values(outputs * 9, rng);
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let standard = Conv2d::builder(1, outputs).layout(layout).weights(&weights).build().expect("a plan");
            let depthwise = DepthwiseConv2d::builder(1).channel_multiplier(outputs).layout(layout).weights(&weights);
            check(&format!("seed {seed}, {layout}"), [&standard, &depthwise.build().expect("a plan")], [shape; 2], rng);
        }
    }
}

#[test]
fn images_of_a_pixel_are_pixels() {
    for seed in seeds() {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (inputs, outputs) = (rng.random_range(1..70), rng.random_range(1..70));
        let [n, h, w] = [0; 3].map(|_| rng.random_range(1..9));
        let weights = values(inputs * outputs, rng);
        let [nhwc, nchw] = [Layout::Nhwc, Layout::Nchw].map(|layout| {
            PointwiseConv2d::builder(inputs, outputs).layout(layout).weights(&weights).build().expect("a plan")
        });
        let name = format!("seed {seed}");
        let pixels = Shape::new(1, inputs, 1, n * h * w);
        for same in
            [Shape::new(n, inputs, h, w), Shape::new(n * h * w, inputs, 1, 1), Shape { h: n * h * w, w: 1, ..pixels }]
        {
            check(&name, [&nhwc, &nhwc], [same, pixels], rng);
        }
        check(&name, [&nchw, &nhwc], [Shape::new(n, inputs, 1, 1), Shape::new(1, inputs, 1, n)], rng);
        check(&name, [&nchw, &nchw], [Shape::new(n, inputs, h, w), Shape::new(n, inputs, 1, h * w)], rng);
        check(&name, [&nchw, &nchw], [Shape::new(n, inputs, h, w), Shape::new(n, inputs, w, h)], rng);
    }
}

#[test]
fn a_window_as_large_as_the_image_is_pointwise() {
    for seed in seeds() {
        let rng = &mut StdRng::seed_from_u64(seed);
        let ([n, h, w], inputs, outputs) =
            ([0; 3].map(|_| rng.random_range(1..6)), rng.random_range(1..12), rng.random_range(1..40));
        let weights = values(outputs * inputs * h * w, rng);
        // In the order of the sum: taps row by row, then channels.
        let mut ordered = Vec::new();
        for o in 0..outputs {
            for t in 0..h * w {
                ordered.extend((0..inputs).map(|c| weights[(o * inputs + c) * h * w + t]));
            }
        }
        let standard = Conv2d::builder(inputs, outputs).layout(Layout::Nhwc).weights(&weights).kernel_size([h, w]);
        let standard = standard.padding(Padding::valid()).build().expect("a plan");
        let pointwise = PointwiseConv2d::builder(inputs * h * w, outputs).layout(Layout::Nhwc).weights(&ordered);
        let shapes = [Shape::new(n, inputs, h, w), Shape::new(n, inputs * h * w, 1, 1)];
        check(&format!("seed {seed}"), [&standard, &pointwise.build().expect("a plan")], shapes, rng);
    }
}

#[test]
fn errors_are_of_the_label_that_was_said() {
    let plan = DepthwiseConv2d::builder(1).weights(&[1.0; 3]).kernel_size([3, 1]).build().expect("a plan");
    let (shape, x) = (Shape::new(1, 1, 8, 1), [1.0; 8]);
    let run = |rows: usize, range: Option<OutputRange>| {
        let (input, output) = (TensorView::new(&x, shape, plan.layout())?, Shape { h: rows, ..shape });
        let mut y = vec![0.0; rows];
        let output = TensorViewMut::new(&mut y, output, plan.layout())?;
        plan.run(Run::new(input, output, &mut Workspace::new()).maybe_range(range))
    };
    let (expected, found) = (shape, Shape { h: 7, ..shape });
    assert_eq!(run(7, None).unwrap_err(), Error::Shape { what: "output", expected, found });
    let rows = OutputRange { h: 0..9, ..OutputRange::all(shape) };
    assert_eq!(run(8, Some(rows)).unwrap_err(), Error::Range { axis: Axis::H, start: 0, end: 9, extent: 8 });
}
