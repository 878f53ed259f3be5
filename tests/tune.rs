//! Choices by measurement, and choices as text: the same bits, and only for the runs that they were made for.

use std::time::Duration;

use depthwise::{DepthwiseConv2d, Error, Fusion, Layout, Machine, Parallelism, Run, Shape, Workspace};
use depthwise_testkit::cases::Case;
use depthwise_testkit::memory::{Arrangement, Buffer};
use depthwise_testkit::oracle::Tensor;
use depthwise_testkit::plan::{Arguments, Choice, Operation, Plan, expected_on};

const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];

/// Time for some slices of each choice, and for none.
const BUDGETS: [Duration; 2] = [Duration::from_millis(if cfg!(miri) { 0 } else { 20 }), Duration::ZERO];

fn check(plan: &Plan, choice: &depthwise::Choice, arguments: &Arguments, parallelism: Parallelism, want: &Tensor) {
    let layout = plan.layout();
    let input = Buffer::of(&arguments.input, layout, Arrangement::Contiguous);
    let mut output = Buffer::blank(arguments.output, layout, Arrangement::Contiguous);
    let mut workspace = Workspace::with_len(choice.workspace_len()).expect("a little memory");
    let len = workspace.len();
    let run = Run::new(input.view(), output.view_mut(), &mut workspace).parallelism(parallelism).choice(choice);
    plan.run(run).unwrap_or_else(|e| panic!("{choice}: {e}"));
    output.expect(want).unwrap_or_else(|e| panic!("{choice}: {e}"));
    assert_eq!(workspace.len(), len, "{choice}");
}

#[test]
fn a_tuned_choice_changes_no_bit() {
    let case = Case { input: Shape::new(1, 40, 21, 20), outputs: 24, ..Case::default() };
    for operation in [Operation::Depthwise, Operation::Pointwise, Operation::Separable, Operation::Conv2d] {
        let arguments = Arguments::new(operation, &case);
        for isa in depthwise_testkit::isas() {
            let want = expected_on(isa, operation, &case, &arguments);
            for (layout, budget) in LAYOUTS.into_iter().flat_map(|layout| BUDGETS.map(|budget| (layout, budget))) {
                let way = Choice::new(Machine::all()[0], isa, layout);
                let plan = Plan::new(operation, &case, &arguments, way).expect("a plain plan");
                let tune = |parallelism| {
                    let choice = plan.tune(case.input, parallelism, budget).expect("a choice");
                    let text = choice.to_text();
                    let again = plan.choice_from_text(&text).unwrap_or_else(|e| panic!("{text}{e}"));
                    assert_eq!((again.describe(), again.to_text()), (choice.describe(), text.clone()));
                    assert_eq!(again.to_string(), choice.to_string());
                    for choice in [choice, again] {
                        check(&plan, &choice, &arguments, parallelism, &want);
                    }
                };
                tune(Parallelism::Serial);
                #[cfg(feature = "rayon")]
                depthwise_testkit::POOLS[2].install(|| tune(Parallelism::Rayon));
            }
        }
    }
}

/// What was asked for stays: a kernel by name, and how stages follow each other.
#[test]
fn tuning_keeps_what_was_asked_for() {
    let case = Case { input: Shape::new(1, 40, 21, 20), outputs: 24, ..Case::default() };
    let arguments = Arguments::new(Operation::Separable, &case);
    for isa in depthwise_testkit::isas() {
        for layout in LAYOUTS {
            for kernel in depthwise::kernels().filter(|kernel| kernel.isa == isa && kernel.layout == layout) {
                for (fusion, passes) in [(Fusion::Fused, 1), (Fusion::TwoPass, 2)] {
                    let way =
                        Choice { kernel: Some(kernel.name), fusion, ..Choice::new(Machine::all()[0], isa, layout) };
                    let Ok(plan) = Plan::new(Operation::Separable, &case, &arguments, way) else { continue };
                    let choice = plan.tune(case.input, Parallelism::Serial, Duration::from_micros(200));
                    let description = choice.expect("a choice").describe();
                    assert_eq!(description.passes, passes, "{}", kernel.name);
                    assert!([description.depthwise, description.pointwise].contains(&Some(kernel.name)));
                }
            }
        }
    }
}

#[test]
fn a_text_is_of_one_plan_machine_and_version() {
    let builder = || DepthwiseConv2d::builder(2).weights(&[1.0; 18]).isa(depthwise::Isa::Portable);
    let plan = builder().machine(Machine::all()[0]).build().expect("a plan");
    let choice = plan.prepare(Shape::new(1, 2, 6, 4), Parallelism::Serial).expect("a choice");
    let text = choice.to_text();
    assert!(plan.choice_from_text(&text).is_ok(), "{text}");

    let refused = |plan: &DepthwiseConv2d, text: &str, says: &[&str]| match plan.choice_from_text(text) {
        Err(error @ Error::ChoiceText { .. }) => {
            let message = error.to_string();
            assert!(says.iter().all(|say| message.contains(say)), "`{message}` does not say {says:?}");
        }
        other => panic!("{text}\nis read as {other:?}"),
    };
    let other = builder().stride([2, 1]).machine(Machine::all()[0]).build().expect("a plan");
    refused(&other, &text, &["stride: [1, 1]", "stride: [2, 1]", "tune"]);
    let elsewhere = builder().machine(Machine::all()[1]).build().expect("a plan");
    refused(&elsewhere, &text, &["machine", Machine::all()[0].name(), Machine::all()[1].name()]);
    let changed = |what: &str, to: &str| -> String {
        let line = |line: &str| match line.split_once(": ") {
            Some((name, _)) if name == what => format!("{what}: {to}\n"),
            _ => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    };
    for (what, to, says) in [
        ("depthwise", "0.0.1", "0.0.1"),
        ("isa", "avx2", "portable"),
        ("input", "1 2 6", "height and width"),
        ("input", "1 2 6 4 5", "height and width"),
        ("input", "one 2 6 4", "height and width"),
        ("threads", "many", "a number"),
        ("depthwise kernel", "none", "packing"),
        ("depthwise kernel", "dw_f32_nhwc_any_portable", "packing"),
        ("where cache sets are shared", "pw", "packing"),
        ("across cache lines", "pw", "packing"),
        ("across cache lines", choice.describe().depthwise.expect("a kernel"), "none"),
        ("pointwise kernel", "pw", "packing"),
        ("passes", "2", "1 to 1"),
        ("tasks", "0", "1 to 1"),
        ("tasks", "2", "1 to 1"),
    ] {
        refused(&plan, &changed(what, to), &[what.split(' ').next_back().expect("a word"), to, says]);
    }
    // What the plan does not take at all is its own error.
    let beyond = changed("input", "1 3 6 4");
    assert!(matches!(plan.choice_from_text(&beyond), Err(Error::Channels { expected: 2, found: 3 })));
    refused(&plan, "", &["depthwise"]);
    refused(&plan, "nonsense", &["nonsense"]);
    refused(&plan, &format!("{text}more\n"), &["more"]);
    refused(&plan, text.trim_end().rsplit_once('\n').expect("lines").0, &["tasks"]);
}

/// What runs depends on where the tensors lie, and the bits do not.
#[test]
fn a_choice_says_what_runs_where_tensors_lie_otherwise() {
    if !depthwise_testkit::isas().contains(&depthwise::Isa::Avx512) {
        println!("NOT TESTED HERE: a CPU without AVX-512 has no such kernels");
        return;
    }
    let (channels, machine) = (512, Machine::named("zen4").expect("a machine"));
    let shape = Shape::new(1, channels, 3, 7);
    let weights: Vec<f32> = (0..channels * 9).map(|i| (i % 7) as f32 - 3.0).collect();
    let builder =
        DepthwiseConv2d::builder(channels).weights(&weights).padding(depthwise::Padding::explicit(1, 1, 1, 1));
    let plan = builder.layout(Layout::Nhwc).isa(depthwise::Isa::Avx512).machine(machine).build().expect("a plan");
    let predicted = plan.prepare(shape, Parallelism::Serial).expect("a choice");
    let description = predicted.describe();
    assert!(description.sharing.is_some() && description.across.is_some(), "{predicted}");
    let tuned = plan.tune(shape, Parallelism::Serial, BUDGETS[0]).expect("a choice");
    let len = shape.len().expect("a length");
    let (mut input, mut output, mut want) = (vec![0.0f32; len + 2048], vec![0.0f32; len + 2048], None);
    let at = |data: &[f32], place: usize| data.as_ptr().align_offset(4096).min(1024) + place;
    for choice in [predicted, tuned] {
        let again = plan.choice_from_text(&choice.to_text()).expect("its own text");
        assert_eq!((again.describe(), again.to_text()), (choice.describe(), choice.to_text()));
        // Elements behind a page: across cache lines, on them, and elsewhere in the page.
        for starts in [[1, 1], [16, 16], [16, 16 + 256]] {
            let (x, y) = (at(&input, starts[0]), at(&output, starts[1]));
            input[x..x + len].iter_mut().enumerate().for_each(|(i, value)| *value = (i % 13) as f32);
            let from = depthwise::TensorView::new(&input[x..x + len], shape, Layout::Nhwc).expect("a tensor");
            let to = depthwise::TensorViewMut::new(&mut output[y..y + len], shape, Layout::Nhwc).expect("a tensor");
            plan.run(Run::new(from, to, &mut Workspace::new()).choice(&again)).expect("a run");
            let found = output[y..y + len].to_vec();
            assert_eq!(want.get_or_insert_with(|| found.clone()), &found, "{choice} at {starts:?}");
        }
    }
}
