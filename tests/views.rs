//! What a caller may hand to a run beside plain tensors, and in which order.

use std::mem::MaybeUninit;

use depthwise::{
    Activation, Axis, Fusion, Isa, Layout, Machine, OutputRange, Padding, Parallelism, Run, SeparableConv2d, Shape,
    Strides, TensorView, TensorViewMut, Workspace,
};
use depthwise_testkit::cases::{Case, Epilogue};
use depthwise_testkit::memory::{Arrangement, Buffer, SENTINEL, first_difference};
use depthwise_testkit::oracle::Tensor;
use depthwise_testkit::plan::{Arguments, Choice, Operation, Plan, expected_on};

/// In Miri without the standard convolution, whose oracle alone takes as long as all the others: of that, `kernels` runs some there.
const OPERATIONS: &[Operation] = {
    use Operation::{Conv2d, Depthwise, Pointwise, Separable};
    if cfg!(miri) { &[Depthwise, Pointwise, Separable] } else { &[Depthwise, Pointwise, Separable, Conv2d] }
};

fn machines_and_layouts(isa: Isa) -> impl Iterator<Item = (&'static Machine, Layout)> {
    Choice::machines(isa).flat_map(|machine| [Layout::Nchw, Layout::Nhwc].map(|layout| (machine, layout)))
}

/// Every operation on every instruction set in every layout.
fn for_each_plan(case: &Case, mut test: impl FnMut(&str, &Arguments, &Plan, Isa, Layout, &Tensor)) {
    for operation in OPERATIONS.iter().copied() {
        let arguments = Arguments::new(operation, case);
        for isa in depthwise_testkit::isas() {
            let want = expected_on(isa, operation, case, &arguments);
            for (machine, layout) in machines_and_layouts(isa) {
                let plan = Plan::new(operation, case, &arguments, Choice::new(machine, isa, layout)).expect(&case.name);
                test(&format!("{operation:?} on {machine}, {isa}, {layout}"), &arguments, &plan, isa, layout, &want);
            }
        }
    }
}

#[test]
fn uninitialised_output() {
    for_each_plan(&Case::default(), |name, arguments, plan, _, layout, want| {
        let input = Buffer::of(&arguments.input, layout, Arrangement::Contiguous);
        let len = want.data.len();
        let mut output = Box::<[f32]>::new_uninit_slice(len);
        let view = TensorViewMut::uninit(&mut output, want.shape, layout).expect(name);
        plan.run(Run::new(input.view(), view, &mut Workspace::new())).expect(name);
        // SAFETY: a run that returned `Ok` has written every element of a contiguous view.
        let output = unsafe { output.assume_init() };
        let view = TensorView::new(&output, want.shape, layout).expect(name);
        first_difference(want, |n, c, h, w| view.get(n, c, h, w).expect(name)).expect(name);

        // Every other element only.
        let dense = layout.strides(want.shape).expect(name);
        let vector = |stride: usize| if stride == 1 { 1 } else { 2 * stride };
        let strides = Strides { n: vector(dense.n), c: vector(dense.c), h: vector(dense.h), w: vector(dense.w) };
        let mut output = vec![MaybeUninit::new(7.0); 2 * len];
        let view = TensorViewMut::uninit_strided(&mut output, want.shape, strides).expect(name);
        plan.run(Run::new(input.view(), view, &mut Workspace::new())).expect(name);
        // SAFETY: all of it was initialised above.
        let output: Vec<f32> = output.into_iter().map(|x| unsafe { x.assume_init() }).collect();
        let view = TensorView::strided(&output, want.shape, strides).expect(name);
        first_difference(want, |n, c, h, w| view.get(n, c, h, w).expect(name)).expect(name);
        assert_eq!(output.iter().filter(|&&x| x == 7.0).count(), len, "{name}: wrote a gap");
    });
}

/// An input whose images, or rows, are all the same memory: stride 0.
#[test]
fn broadcast_input() {
    for axis in [Axis::N, Axis::H] {
        for operation in OPERATIONS.iter().copied() {
            let input = if cfg!(miri) { Shape::new(2, 3, 2, 9) } else { Shape::new(3, 5, 6, 7) };
            let case = Case { input, ..Case::default() };
            let mut arguments = Arguments::new(operation, &case);
            let first = arguments.input.clone();
            arguments.input = Tensor::from_fn(case.input, |n, c, h, w| match axis {
                Axis::N => first.at(0, c, h, w),
                _ => first.at(n, c, 0, w),
            });
            for (machine, isa) in depthwise_testkit::machines() {
                let want = expected_on(isa, operation, &case, &arguments);
                for layout in [Layout::Nchw, Layout::Nhwc] {
                    let name = format!("{operation:?} on {machine}, {isa}, {layout}, stride 0 along {axis}");
                    let plan = Plan::new(operation, &case, &arguments, Choice::new(machine, isa, layout)).expect(&name);
                    let dense = Buffer::of(&arguments.input, layout, Arrangement::Contiguous);
                    let mut strides = dense.view().strides();
                    strides[axis] = 0;
                    let input = TensorView::strided(dense.data(), case.input, strides).expect(&name);
                    let mut output = Buffer::blank(want.shape, layout, Arrangement::Contiguous);
                    plan.run(Run::new(input, output.view_mut(), &mut Workspace::new())).expect(&name);
                    output.expect(&want).expect(&name);
                }
            }
        }
    }
}

/// Parts of a larger tensor, cut out by `narrow` from input and output: what lies around them is neither read nor
/// written.
#[test]
fn narrowed_views() {
    for_each_plan(&Case::default(), |name, arguments, plan, _, layout, want| {
        let around = |s: Shape| Shape::new(s.n + 2, s.c + 2, s.h + 2, s.w + 2);
        let frame = |t: &Tensor| {
            Tensor::from_fn(around(t.shape), |n, c, h, w| {
                let inside = n == 1 && c > 0 && h > 0 && w > 0 && c <= t.shape.c && h <= t.shape.h && w <= t.shape.w;
                if inside { t.at(0, c - 1, h - 1, w - 1) } else { f32::NAN }
            })
        };
        let input = Buffer::of(&frame(&arguments.input), layout, Arrangement::Contiguous);
        let s = arguments.input.shape;
        let input = [(Axis::N, s.n), (Axis::C, s.c), (Axis::H, s.h), (Axis::W, s.w)]
            .into_iter()
            .fold(input.view(), |view, (axis, len)| view.narrow(axis, 1..1 + len).expect(name));
        let mut output = Buffer::of(&frame(&want.map(|_| 0.0)), layout, Arrangement::Contiguous);
        let s = want.shape;
        let view = [(Axis::N, s.n), (Axis::C, s.c), (Axis::H, s.h), (Axis::W, s.w)]
            .into_iter()
            .fold(output.view_mut(), |view, (axis, len)| view.narrow(axis, 1..1 + len).expect(name));
        plan.run(Run::new(input, view, &mut Workspace::new())).expect(name);
        output.expect(&frame(want)).expect(name);
    });
}

/// Inputs and outputs at the same place of a page, as large allocations are, and pixels that share sets of a cache, where some machines
/// have outputs written later than others.
#[test]
fn the_same_place_of_a_page() {
    const PAGE: usize = 1024;
    let case = |input| Case { input, ..Case::default() };
    // More rows than a strip's, one row, two images, columns of no whole strip; sub-grids. Pixels 2 kB apart: of those 4 kB apart
    // channels take turns.
    let mut cases = vec![
        case(Shape::new(1, 512, 31, 7)),
        case(Shape::new(1, 1536, 1, 14)),
        case(Shape::new(2, 512, 2, 7)),
        case(Shape::new(1, 512, 4, 20)),
        Case { dilation: [2, 2], padding: Padding::symmetric(2, 2), ..case(Shape::new(1, 512, 5, 14)) },
    ];
    for case in cases.clone() {
        let activation = Activation::Relu6;
        cases.push(Case { residual: true, depthwise: Epilogue { activation, ..case.depthwise }, ..case });
    }
    for case in cases {
        let arguments = Arguments::new(Operation::Depthwise, &case);
        for (machine, isa) in depthwise_testkit::machines() {
            let want = expected_on(isa, Operation::Depthwise, &case, &arguments);
            let name = format!("{:?} on {machine}, {isa}", case.input);
            let choice = Choice::new(machine, isa, Layout::Nhwc);
            let plan = Plan::new(Operation::Depthwise, &case, &arguments, choice).expect(&name);
            let dense = Buffer::of(&arguments.input, Layout::Nhwc, Arrangement::Contiguous);
            let residual = arguments.residual.as_ref().map(|r| Buffer::of(r, Layout::Nhwc, Arrangement::Contiguous));
            let residual = residual.as_ref().map(Buffer::view);
            // An output at another place of a page is written as any other.
            for apart in [0, 16] {
                let len = dense.data().len();
                let mut memory = vec![f32::from_bits(SENTINEL); len.next_multiple_of(PAGE) + apart + want.data.len()];
                let (input, output) = memory.split_at_mut(len.next_multiple_of(PAGE) + apart);
                input[..len].copy_from_slice(dense.data());
                let input = TensorView::new(&input[..len], case.input, Layout::Nhwc).expect(&name);
                // All channels, and parts of whole and of other vectors of them; the last begins and ends within a vector, and has as
                // many channels as one.
                for cuts in [[0, 0], [0, 32], [0, 37], [5, 21]] {
                    output.fill(f32::from_bits(SENTINEL));
                    let whole = TensorViewMut::new(output, want.shape, Layout::Nhwc).expect(&name);
                    let (rest, third) = whole.split_at(Axis::C, cuts[1]).expect(&name);
                    let (first, second) = rest.split_at(Axis::C, cuts[0]).expect(&name);
                    for (part, c) in [(first, 0..cuts[0]), (second, cuts[0]..cuts[1]), (third, cuts[1]..want.shape.c)] {
                        let residual = residual.map(|r| r.narrow(Axis::C, c.clone()).expect(&name));
                        let range = OutputRange { c, ..OutputRange::all(want.shape) };
                        plan.run(Run::new(input, part, &mut Workspace::new()).maybe_residual(residual).range(range))
                            .expect(&name);
                    }
                    let got = TensorView::new(output, want.shape, Layout::Nhwc).expect(&name);
                    first_difference(&want, |n, c, h, w| got.get(n, c, h, w).expect(&name))
                        .unwrap_or_else(|e| panic!("{name}, {apart} elements apart, cut at {cuts:?}: {e}"));
                }
            }
        }
    }
}

/// A plan knows nothing of batch, height and width: one plan and one workspace, sizes up and down.
#[test]
fn one_plan_for_many_sizes() {
    // The last four are worth several threads, if not with every kernel.
    let sizes = [
        (1, 6, 7),
        (2, 1, 1),
        (3, 2, 50),
        (1, 7, 6),
        (0, 6, 7),
        (1, 31, 2),
        (1, 80, 99),
        (1, 99, 80),
        (1, 80, 99),
        (2, 40, 99),
    ];
    let case = |(n, h, w)| Case { input: Shape::new(n, 11, h, w), stride: [2, 1], ..Case::default() };
    for operation in OPERATIONS.iter().copied() {
        let first = Arguments::new(operation, &case(sizes[0]));
        for isa in depthwise_testkit::isas() {
            let cases = sizes.map(|size| {
                let case = case(size);
                let mut arguments = first.clone();
                arguments.input = Arguments::new(operation, &case).input;
                let want = expected_on(isa, operation, &case, &arguments);
                (arguments, want)
            });
            for (machine, layout) in machines_and_layouts(isa) {
                let name = format!("{operation:?} on {machine}, {isa}, {layout}");
                let plan =
                    Plan::new(operation, &case(sizes[0]), &first, Choice::new(machine, isa, layout)).expect(&name);
                let mut workspace = Workspace::new();
                for (arguments, want) in &cases {
                    let input = Buffer::of(&arguments.input, layout, Arrangement::Contiguous);
                    let mut output = Buffer::blank(want.shape, layout, Arrangement::Contiguous);
                    let mut run = |parallelism| {
                        output.clear();
                        plan.run(Run::new(input.view(), output.view_mut(), &mut workspace).parallelism(parallelism))
                            .expect(&name);
                        output.expect(want).unwrap_or_else(|e| panic!("{name}, {}: {e}", want.shape));
                    };
                    run(Parallelism::Serial);
                    // Twice: the second takes the split of the first.
                    #[cfg(feature = "rayon")]
                    depthwise_testkit::POOLS[2].install(|| [(); 2].map(|()| run(Parallelism::Rayon)));
                }
            }
        }
    }
}

/// A range of nothing is no error, and writes nothing.
#[test]
fn empty_range() {
    for_each_plan(&Case::default(), |name, arguments, plan, _, layout, want| {
        let input = Buffer::of(&arguments.input, layout, Arrangement::Contiguous);
        let empty = Shape { h: 0, ..want.shape };
        let output = TensorViewMut::new(&mut [], empty, layout).expect(name);
        let range = OutputRange { h: 2..2, ..OutputRange::all(want.shape) };
        plan.run(Run::new(input.view(), output, &mut Workspace::new()).range(range)).expect(name);
    });
}

/// Threads that share a plan, each with its own workspace.
#[test]
#[cfg_attr(target_family = "wasm", ignore = "WASI has no threads")]
fn a_plan_is_shared() {
    for_each_plan(&Case::default(), |name, arguments, plan, _, layout, want| {
        let input = Buffer::of(&arguments.input, layout, Arrangement::Contiguous);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut output = Buffer::blank(want.shape, layout, Arrangement::Contiguous);
                    let mut workspace = depthwise_testkit::dirty_workspace();
                    for _ in 0..if cfg!(miri) { 1 } else { 5 } {
                        output.clear();
                        let view = output.view_mut();
                        plan.run(Run::new(input.view(), view, &mut workspace)).expect(name);
                        output.expect(want).expect(name);
                    }
                });
            }
        });
    });
}

/// It takes longer to hand work to a pool from outside, so that less is worth it.
#[test]
#[cfg(feature = "rayon")]
#[cfg_attr(target_family = "wasm", ignore = "WASI has no threads")]
fn a_call_from_outside_of_the_pool() {
    let two = || rayon::ThreadPoolBuilder::new().num_threads(2);
    two().build_global().expect("no other test here uses the global pool");
    let pool = two().build().expect("a pool");
    let case = Case { input: Shape::new(1, 32, 8, 8), outputs: 32, ..Case::default() };
    let arguments = Arguments::new(Operation::Separable, &case);
    for (machine, isa) in depthwise_testkit::machines() {
        for layout in [Layout::Nchw, Layout::Nhwc] {
            let name = format!("{machine}, {isa}, {layout}");
            let choice = Choice { fusion: Fusion::Fused, ..Choice::new(machine, isa, layout) };
            let plan = Plan::new(Operation::Separable, &case, &arguments, choice).expect(&name);
            // Each task has scratch of its own.
            let tasks = |n| {
                let shape = Shape { n, ..case.input };
                let len = |parallelism| plan.workspace_len(shape, parallelism).expect(&name);
                (
                    len(Parallelism::Rayon) / len(Parallelism::Serial),
                    pool.install(|| len(Parallelism::Rayon)) / len(Parallelism::Serial),
                )
            };
            let found: Vec<_> = (0..12).map(|power| tasks(1 << power)).collect();
            assert_eq!(found[11], (2, 2), "{name}: large work is split");
            assert!(found.contains(&(1, 2)), "{name}: some work is split from within alone, not {found:?}");
            assert!(found.is_sorted(), "{name}: more work is split no less, not {found:?}");
        }
    }
}

/// What an engine with threads of its own does.
#[test]
fn the_parts_of_a_run() {
    // Many rows, and few rows of many channels: enough work to be split.
    for (input, outputs) in [(Shape::new(2, 24, 32, 40), 48), (Shape::new(1, 256, 7, 7), 192)] {
        let case = Case { input, outputs, ..Case::default() };
        for_each_plan(&case, |name, arguments, plan, _, layout, want| {
            let input = Buffer::of(&arguments.input, layout, Arrangement::Contiguous);
            let len = plan.workspace_len(case.input, Parallelism::Serial).expect(name);
            for threads in [1, 3, 16] {
                let lists = plan.parts(case.input, threads).expect(name);
                let mut output = Buffer::blank(want.shape, layout, Arrangement::Contiguous);
                let mut workspace = Workspace::with_len(len).expect(name);
                let before = workspace.len();
                let parts = lists.last().expect(name);
                for (view, part) in output.view_mut().split(parts).expect(name).into_iter().zip(parts) {
                    plan.run(Run::new(input.view(), view, &mut workspace).range(part.clone())).expect(name);
                }
                assert_eq!(workspace.len(), before, "{name}: a part needs more than the whole");
                output.expect(want).unwrap_or_else(|e| panic!("{name}, {threads} threads: {e}"));
            }
        });
    }
}

/// Rows so wide that fused stages take some of their columns at a time, the last ones fewer: no whole tiles.
#[test]
fn blocks_of_columns() {
    let wide = |c, h, w| Case { input: Shape::new(1, c, h, w), outputs: 5, ..Case::default() };
    let five = |case| Case { kernel: [5, 5], padding: Padding::symmetric(2, 2), residual: true, ..case };
    let dilated = |case| Case { dilation: [2, 2], padding: Padding::symmetric(2, 2), ..case };
    for (operation, case) in [
        (Operation::Separable, wide(150, 5, 400)),
        (Operation::Separable, wide(150, 2, 900)),
        (Operation::Separable, five(wide(300, 3, 449))),
        (Operation::Separable, dilated(wide(300, 3, 513))),
        (Operation::Separable, Case { stride: [2, 2], ..wide(300, 3, 899) }),
        (Operation::Conv2d, wide(17, 2, 961)),
    ] {
        let arguments = Arguments::new(operation, &case);
        for isa in depthwise_testkit::isas() {
            let want = expected_on(isa, operation, &case, &arguments);
            for (machine, layout) in machines_and_layouts(isa) {
                let input = Buffer::of(&arguments.input, layout, Arrangement::Contiguous);
                let residual = arguments.residual.as_ref().map(|r| Buffer::of(r, layout, Arrangement::Contiguous));
                let mut lens = [Fusion::Fused, Fusion::TwoPass].map(|fusion| {
                    let name = format!("{operation:?} of {:?} on {machine}, {isa}, {layout}, {fusion:?}", case.input);
                    let choice = Choice { fusion, ..Choice::new(machine, isa, layout) };
                    let plan = Plan::new(operation, &case, &arguments, choice).expect(&name);
                    let mut output = Buffer::blank(want.shape, layout, Arrangement::Contiguous);
                    let (mut workspace, residual) = (Workspace::new(), residual.as_ref().map(Buffer::view));
                    plan.run(Run::new(input.view(), output.view_mut(), &mut workspace).maybe_residual(residual))
                        .expect(&name);
                    output.expect(&want).unwrap_or_else(|e| panic!("{name}: {e}"));
                    workspace.len()
                });
                if operation == Operation::Conv2d {
                    // It has but one way: gathered, all of it would take so much.
                    lens[1] = case.input.c * 9 * want.shape.h * want.shape.w;
                }
                assert!(
                    lens[0] < lens[1],
                    "{operation:?} of {:?} on {machine}, {isa}, {layout}: one block",
                    case.input
                );
            }
        }
    }
}

/// A separable plan's stages as plans of their own, a clone, and a run into a vector: all give what the plan gives.
#[test]
fn stages_clones_and_vectors() {
    let case = Case { residual: true, stride: [2, 1], multiplier: 2, ..Case::default() };
    let weights = |len: usize| (0..len).map(|i| (i % 7) as f32 - 3.0).collect::<Vec<f32>>();
    let (first, second) = (weights(19 * 2 * 9), weights(9 * 38));
    let arguments = Arguments::new(Operation::Separable, &case);
    let bias: Vec<f32> = (0..9).map(|i| i as f32).collect();
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let plan = SeparableConv2d::builder(19, 9)
            .channel_multiplier(2)
            .stride([2, 1])
            .depthwise_weights(&first)
            .depthwise_activation(Activation::Relu6)
            .pointwise_weights(&second)
            .bias(&bias)
            .activation(Activation::Relu)
            .layout(layout)
            .build()
            .expect("a plan");
        let input = Buffer::of(&arguments.input, layout, Arrangement::Contiguous);
        let residual = Buffer::of(arguments.residual.as_ref().expect("one"), layout, Arrangement::Contiguous);
        let (workspace, serial) = (&mut Workspace::new(), Parallelism::Serial);
        let mut output = Buffer::blank(arguments.output, layout, Arrangement::Contiguous);
        plan.run(Run::new(input.view(), output.view_mut(), workspace).residual(residual.view()).parallelism(serial))
            .expect("a run");
        let whole = output.data().to_vec();
        let vector = plan.clone().run_to_vec(input.view(), Some(residual.view()), workspace, serial);
        assert_eq!(vector.as_ref(), Ok(&whole), "{layout}: a clone's vector");
        let (depthwise, pointwise) = (plan.depthwise(), plan.pointwise());
        let between = depthwise.output_shape(case.input).expect("a shape");
        let values = depthwise.run_to_vec(input.view(), None, workspace, serial).expect("a run");
        let values = TensorView::new(&values, between, layout).expect("a view");
        let stages = pointwise.run_to_vec(values, Some(residual.view()), workspace, serial);
        assert_eq!(stages.as_ref(), Ok(&whole), "{layout}: the stages");
        let both = plan.prepare(case.input, serial).expect("a choice").describe();
        let first = depthwise.prepare(case.input, serial).expect("a choice").describe();
        let second = pointwise.prepare(between, serial).expect("a choice").describe();
        assert_eq!([both.depthwise, both.pointwise], [first.depthwise, second.pointwise]);
        let sum =
            depthwise.cost(case.input).expect("small").parameters + pointwise.cost(between).expect("small").parameters;
        assert_eq!(plan.cost(case.input).expect("small").parameters, sum);
    }
}

#[test]
fn a_range_needs_no_more_than_the_whole() {
    // One row alone would go in wider blocks than the rows together.
    let case = Case { input: Shape::new(1, 150, 5, 600), outputs: 4, ..Case::default() };
    let arguments = Arguments::new(Operation::Separable, &case);
    for (machine, isa) in depthwise_testkit::machines() {
        for layout in [Layout::Nchw, Layout::Nhwc] {
            for fusion in [Fusion::Auto, Fusion::Fused, Fusion::TwoPass] {
                let choice = Choice { fusion, ..Choice::new(machine, isa, layout) };
                let plan = Plan::new(Operation::Separable, &case, &arguments, choice).expect("a plain plan");
                let input = Buffer::of(&arguments.input, layout, Arrangement::Contiguous);
                let whole = plan.output_shape(case.input).expect("a plain shape");
                let len = plan.workspace_len(case.input, Parallelism::Serial).expect("a plain shape");
                for row in 0..whole.h {
                    let mut workspace = Workspace::with_len(len).expect("a little memory");
                    let mut output = Buffer::blank(Shape { h: 1, ..whole }, layout, Arrangement::Contiguous);
                    let range = OutputRange { h: row..row + 1, ..OutputRange::all(whole) };
                    let before = workspace.len();
                    plan.run(Run::new(input.view(), output.view_mut(), &mut workspace).range(range))
                        .expect("a plain run");
                    assert_eq!(workspace.len(), before, "{machine} {isa} {layout} {fusion:?}, row {row} of {whole}");
                }
            }
        }
    }
}
