//! What the suites of 8 bits share, in the rooms of those of `f32`: the oracle, the cases, the plans, and [`check`].

pub mod cases;
pub mod memory;
pub mod oracle;
pub mod plan;

use depthwise::int8::{Integer, Quantized};
use depthwise::{Axis, ElementType, Error, Isa, KernelInfo, Layout, OutputRange, Parallelism, Run, Workspace};

use super::oracle::Tensor;
use super::plan::Operation::*;
use super::{Tally, emulation};
use cases::Case;
use memory::{Buffer, Number};
use oracle::Kind;
use plan::{Outputs, Plan, draw, expected, of_any, plan};

/// How a plan is run.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub layout: Layout,
    pub gap: usize,
    pub threads: bool,
    /// In parts, of which none begins where kernels would.
    pub parts: bool,
    /// What the run says of its input.
    pub of_run: Option<Quantized>,
}

impl Way {
    pub fn new(layout: Layout) -> Self {
        Way { layout, gap: 0, threads: false, parts: false, of_run: None }
    }
}

pub fn run<I: Number + Integer<Stored = u8>, O: Number>(
    plan: &Plan,
    input: &Tensor<i64>,
    want: &Tensor<i64>,
    way: Way,
    what: &str,
) {
    let input = Buffer::<I>::of(input, way.layout, way.gap);
    let mut output = Buffer::<O>::blank(want.shape, way.layout, way.gap);
    let mut workspace = Workspace::new();
    let parallelism = match way.threads {
        #[cfg(feature = "rayon")]
        true => Parallelism::Rayon,
        _ => Parallelism::Serial,
    };
    let shape = of_any!(plan, plan => plan.output_shape(input.shape)).expect("a shape");
    assert_eq!(shape, want.shape, "{what}");
    let all = OutputRange::all(shape);
    let mut ranges = vec![all.clone()];
    if way.parts {
        for (axis, at) in [(Axis::C, shape.c / 3 + 1), (Axis::H, shape.h / 2), (Axis::W, shape.w / 3)] {
            let cut = |range: OutputRange| {
                let (mut a, mut b) = (range.clone(), range);
                let at = at.clamp(a[axis].start, a[axis].end);
                (a[axis].end, b[axis].start) = (at, at);
                [a, b]
            };
            ranges = ranges.into_iter().flat_map(cut).filter(|range| !range.is_empty()).collect();
        }
    }
    let views = output.view_mut().split(&ranges).expect("parts");
    for (view, range) in views.into_iter().zip(ranges) {
        let run = Run::new(input.view(), view, &mut workspace).parallelism(parallelism);
        let run = if way.parts { run.range(range) } else { run };
        let run = if let Some(input) = way.of_run { run.quantized(input) } else { run };
        of_any!(plan, plan => plan.run(run)).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    if !way.parts {
        let said = of_any!(plan, plan => plan.workspace_len(input.shape, parallelism)).expect("a length");
        assert!(workspace.len() <= said.next_multiple_of(16), "{what}: a workspace of {} not {said}", workspace.len());
    }
    output.check(want, what);
}

/// The type of a plan's numbers.
fn plan_kind(plan: &Plan) -> Kind {
    match of_any!(plan, plan => plan.output_element()) {
        ElementType::U8 => Kind::U8,
        ElementType::I8 => Kind::I8,
        other => panic!("outputs of {other}"),
    }
}

pub fn run_as(case: &Case, plan: &Plan, input: &Tensor<i64>, want: &Tensor<i64>, way: Way, what: &str) {
    match (case.input_kind, plan_kind(plan)) {
        (Kind::U8, Kind::U8) => run::<u8, u8>(plan, input, want, way, what),
        (Kind::U8, Kind::I8) => run::<u8, i8>(plan, input, want, way, what),
        (Kind::I8, Kind::U8) => run::<i8, u8>(plan, input, want, way, what),
        (Kind::I8, Kind::I8) => run::<i8, i8>(plan, input, want, way, what),
    }
}

pub fn isas() -> impl Iterator<Item = Isa> {
    Isa::EVERY.into_iter().filter(|isa| isa.is_available())
}

/// The kernels of 8 bits that this CPU runs, each with the instruction set of its plan.
pub fn kernels() -> impl Iterator<Item = KernelInfo> {
    depthwise::kernels().filter(|info| info.element == ElementType::I8 && info.isa.is_available())
}

/// A case on every kernel that fits it, in both layouts.
pub fn check(case: &Case, tally: &mut Tally) {
    let mut ran = Vec::new();
    let drawn = draw(case);
    let want = expected(case, &drawn);
    let plain = Way::new(Layout::Nhwc);
    for info in kernels() {
        let is_depthwise = info.operation == depthwise::Operation::Depthwise;
        let fits = match case.operation {
            Depthwise => is_depthwise,
            Pointwise | Conv2d => !is_depthwise,
            Separable => true,
        };
        if !fits {
            continue;
        }
        // Such a kernel may not be for the window, or not for the weights.
        match plan(case, &drawn, info.isa, Layout::Nhwc, [Some(info.name), None], Outputs::Numbers) {
            Ok(plan) => {
                ran.push(info.name);
                run_as(case, &plan, &drawn.input, &want, plain, &format!("{case:?} on {}", info.name));
            }
            Err(Error::KernelDoesNotFit { .. }) => {}
            // Alone, an instruction set may lack the other stage's kernel.
            Err(error) => panic!("{case:?} on {}: {error}", info.name),
        }
    }
    tally.add(ran);
    for isa in isas() {
        for layout in [Layout::Nhwc, Layout::Nchw] {
            let what = format!("{case:?}, {layout}, {isa}");
            let plan = plan(case, &drawn, isa, layout, [None; 2], Outputs::Numbers)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            for (gap, threads, parts) in [(0, false, true), (3, false, false), (3, true, false)] {
                let way = Way { gap, threads, parts, ..Way::new(layout) };
                run_as(case, &plan, &drawn.input, &want, way, &format!("{what}, {way:?}"));
            }
        }
    }
}

pub fn check_all(suite: &str, operation: depthwise::Operation, cases: Vec<Case>) {
    let few = if cfg!(miri) { 2 } else { 12 };
    // Those by hand come first.
    let of_few = |&(i, _): &(usize, Case)| i < 3 || i % 5 == 0;
    let is_small = |case: &Case| !cfg!(miri) || case.input.len().is_some_and(|len| len < 256);
    let cases: Vec<Case> = if emulation::is_on() {
        cases.into_iter().filter(is_small).enumerate().filter(of_few).map(|(_, case)| case).take(few).collect()
    } else {
        cases
    };
    let mut tally = Tally::default();
    for case in &cases {
        check(case, &mut tally);
    }
    tally.finish(suite, 1, |kernel| kernel.element == ElementType::I8 && kernel.operation == operation);
}
