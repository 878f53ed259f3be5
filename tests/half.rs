//! Plans for tensors of `f16` and `bf16` equal the oracle bit for bit, in every operation and every way to call them: each number
//! that is read is widened, and each that is written is rounded once.

use std::time::Duration;

use depthwise::{
    Activation, Convolution, DepthwiseConv2d, Element, Fusion, KernelInfo, Layout, Parallelism, PointwiseConv2d, Run,
    SeparableConv2d, Shape, TensorView, TensorViewMut, Workspace, bf16, f16, narrow,
};
use depthwise_testkit::cases::{Case, Values, by_hand, random};
use depthwise_testkit::emulation::chosen;
use depthwise_testkit::plan::Operation::{self, Conv2d, Depthwise, Pointwise, Separable};
use depthwise_testkit::{Tally, check_of};

/// `turn`: of the cases of plain values, every fourth from that one on. The kernels were tested with `f32`.
fn checks<E: Element>(operation: Operation, turn: usize) {
    let cases = by_hand().into_iter().chain((0..120).step_by(5).map(random)).enumerate();
    let cases = cases.filter(|(i, case)| case.values != Values::Plain || i % 4 == turn).map(|(_, case)| case).collect();
    let (cases, _) = chosen(operation, cases, 0);
    let mut tally = Tally::default();
    for case in &cases {
        check_of::<E>(operation, case, &mut tally);
    }
    // Kernels for these elements are depthwise ones.
    let due = |kernel: &KernelInfo| kernel.element == E::TYPE && operation == Depthwise;
    tally.finish(&format!("{operation:?} of {}", E::TYPE), 1, due);
}

macro_rules! suites {
    ($($name:ident: $element:ident, $turn:literal, $operation:ident;)*) => {
        $(#[test]
        fn $name() {
            checks::<$element>($operation, $turn);
        })*
    };
}

suites! {
    depthwise_of_f16: f16, 0, Depthwise;
    depthwise_of_bf16: bf16, 1, Depthwise;
    pointwise_of_f16: f16, 0, Pointwise;
    pointwise_of_bf16: bf16, 1, Pointwise;
    separable_of_f16: f16, 0, Separable;
    separable_of_bf16: bf16, 1, Separable;
    conv2d_of_f16: f16, 0, Conv2d;
    conv2d_of_bf16: bf16, 1, Conv2d;
}

fn numbers<E: Element>(len: usize) -> Vec<E> {
    narrow(&(0..len).map(|i| (i * 37 % 101) as f32 / 50.5 - 1.0).collect::<Vec<_>>())
}

/// A separable plan, its two stages one after the other, what is owned and what was tuned give the same bits.
fn stages_and_choices<E: Element>() {
    let (shape, weights) = (Shape::new(2, 40, 30, 31), numbers::<f32>(40 * 48));
    let input = numbers::<E>(2 * 40 * 30 * 31);
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let builder = SeparableConv2d::builder(40, 48).depthwise_weights(&weights[..360]).pointwise_weights(&weights);
        let plan = builder.layout(layout).depthwise_activation(Activation::Silu).build_as::<E>().expect("a plan");
        let (serial, workspace) = (Parallelism::Serial, &mut Workspace::new());
        let view = TensorView::new(&input, shape, layout).expect("a view");
        let whole = plan.run_to_vec(view, None, workspace, serial).expect("a run");
        let middle = plan.depthwise().run_to_vec(view, None, workspace, serial).expect("a run");
        let between = TensorView::new(&middle, shape, layout).expect("a view");
        let two = plan.clone().pointwise().run_to_vec(between, None, workspace, serial).expect("a run");
        assert_eq!(whole, two, "{}, {layout}", E::TYPE);

        let tuned = plan.tune(shape, serial, Duration::from_millis(1)).expect("a choice");
        let choice = plan.choice_from_text(&tuned.to_text()).expect("its text");
        let to = plan.output_shape(shape).expect("a shape");
        let mut output = vec![E::ZERO; whole.len()];
        let target = TensorViewMut::new(&mut output, to, layout).expect("a view");
        plan.run(Run::new(view, target, workspace).choice(&choice)).expect("a run");
        assert_eq!(whole, output, "{}, {layout}, tuned", E::TYPE);
        assert!(format!("{plan:?}").contains(&format!("element: {}", E::TYPE)), "{plan:?}");
    }
}

/// Channels that fill vectors, so that a plan has kernels of its own elements where there are any.
fn choices_of_own_kernels<E: Element>() {
    let (shape, weights, serial) = (Shape::new(1, 64, 14, 14), numbers::<f32>(64 * 64), Parallelism::Serial);
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let depthwise = DepthwiseConv2d::builder(64).layout(layout).weights(&weights[..64 * 9]);
        let separable = SeparableConv2d::builder(64, 64).layout(layout).depthwise_weights(&weights[..64 * 9]);
        let separable = separable.pointwise_weights(&weights).fusion(Fusion::TwoPass);
        let plans: [Box<dyn Convolution<E>>; 2] = [
            Box::new(depthwise.build_as::<E>().expect("a plan")),
            Box::new(separable.build_as::<E>().expect("a plan")),
        ];
        for plan in plans {
            let tuned = plan.tune(shape, serial, Duration::from_millis(1)).expect("a choice");
            for choice in [plan.prepare(shape, serial).expect("a choice"), tuned] {
                let text = choice.to_text();
                assert_eq!(plan.choice_from_text(&text).expect(&text).to_text(), text);
            }
        }
    }
}

#[test]
fn choices_of_plans_with_own_kernels_are_read_back() {
    choices_of_own_kernels::<f16>();
    choices_of_own_kernels::<bf16>();
}

#[test]
fn stages_and_choices_of_narrow_plans() {
    stages_and_choices::<f16>();
    stages_and_choices::<bf16>();
}

#[test]
fn choices_of_another_type_are_refused() {
    let builder = PointwiseConv2d::builder(1, 1).weights(&[1.0]);
    let (plan, other) = (builder.build_as::<f16>().expect("a plan"), builder.build_as::<bf16>().expect("a plan"));
    let (shape, layout) = (Shape::new(1, 1, 1, 1), plan.layout());
    let choice = other.prepare(shape, Parallelism::Serial).expect("a choice");
    let mut output = [f16::ZERO];
    let (x, y) = (TensorView::new(&[f16::ONE], shape, layout), TensorViewMut::new(&mut output, shape, layout));
    let run = plan.run(Run::new(x.expect("a view"), y.expect("a view"), &mut Workspace::new()).choice(&choice));
    for error in [run.expect_err("of bf16"), plan.choice_from_text(&choice.to_text()).expect_err("of bf16")] {
        let message = error.to_string();
        assert!(message.contains("element: f16") && message.contains("element: bf16"), "{message}");
    }
}

#[test]
fn costs_count_bytes_of_the_type() {
    let builder = DepthwiseConv2d::builder(8).weights(&[1.0; 72]);
    let shape = Shape::new(1, 8, 10, 10);
    let [wide, narrow] =
        [builder.build().and_then(|p| p.cost(shape)), builder.build_as::<bf16>().and_then(|p| p.cost(shape))];
    assert_eq!(wide.expect("a cost").bytes, 4 * (800 + 72 + 800));
    assert_eq!(narrow.expect("a cost").bytes, 2 * (800 + 800) + 4 * 72);
}

/// Rows so long that not even one fits, as machines have caches: columns are cut, too.
#[test]
fn blocks_of_long_rows() {
    if depthwise_testkit::emulation::is_on() {
        return println!("left out: it takes an emulator a minute");
    }
    let case = Case { input: Shape::new(1, 64, 5, 3000), outputs: 5, stride: [1, 2], ..Case::default() };
    check_of::<bf16>(Separable, &case, &mut Tally::default());
}
