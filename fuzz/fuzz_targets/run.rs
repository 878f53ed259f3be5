//! Valid convolutions, each on one kernel and called in one way: the bits must be the oracle's.

#![no_main]

mod shared;

use std::ops::Range;
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Result, Unstructured};
use depthwise::{
    Error, Fusion, KernelInfo, Machine, OutputRange, Padding, Parallelism, Run, Shape, WeightOrder, Workspace,
};
use depthwise_testkit::cases::{ACTIVATIONS, Case, Epilogue, Values};
use depthwise_testkit::memory::{Arrangement, Buffer};
use depthwise_testkit::plan::{Arguments, Choice, Operation, Plan, expected_on};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|job: Job| -> Corpus { job.check() });

/// The kernels that this machine runs.
static KERNELS: LazyLock<Vec<KernelInfo>> =
    LazyLock::new(|| depthwise::kernels().filter(|kernel| kernel.isa.is_available()).collect());

#[derive(Debug)]
struct Job {
    operation: Operation,
    case: Case,
    choice: Choice,
    /// Of input, residual and output.
    arrangements: [Arrangement; 3],
    way: Way,
    /// Scratch that another run has used and left larger, not one of exactly the length asked for.
    dirty: bool,
}

#[derive(Debug)]
enum Way {
    Serial,
    /// On a pool of [`depthwise_testkit::POOLS`].
    Threads(usize),
    Range(OutputRange),
}

impl Arbitrary<'_> for Job {
    fn arbitrary(u: &mut Unstructured) -> Result<Job> {
        use Operation::{Conv2d, Depthwise, Pointwise, Separable};
        let operation = *u.choose(&[Depthwise, Pointwise, Separable, Conv2d])?;
        let kernel = *u.choose(&KERNELS)?;
        let choice = Choice {
            machine: u.choose(Machine::all())?,
            isa: kernel.isa,
            layout: kernel.layout,
            kernel: u.ratio(3, 4)?.then_some(kernel.name),
            order: *u.choose(&[WeightOrder::Pytorch, WeightOrder::Tflite])?,
            fusion: *u.choose(&[Fusion::Auto, Fusion::Fused, Fusion::TwoPass])?,
        };
        let case = case(u, operation, &kernel)?;
        let output = Arguments::new(operation, &case).output;
        let mut part = |extent: usize| -> Result<Range<usize>> {
            let start = u.int_in_range(0..=extent)?;
            Ok(start..u.int_in_range(start..=extent)?)
        };
        let range = OutputRange { n: part(output.n)?, c: part(output.c)?, h: part(output.h)?, w: part(output.w)? };
        let way = match u.int_in_range(0..=2)? {
            0 => Way::Serial,
            1 => Way::Threads(u.choose_index(depthwise_testkit::POOLS.len())?),
            _ => Way::Range(range),
        };
        let mut arrangement = || Ok(*u.choose(&Arrangement::ALL)?);
        let arrangements = [arrangement()?, arrangement()?, arrangement()?];
        Ok(Job { operation, case, choice, arrangements, way, dirty: u.arbitrary()? })
    }
}

/// A convolution, most of them such as `kernel` computes.
fn case(u: &mut Unstructured, operation: Operation, kernel: &KernelInfo) -> Result<Case> {
    let mut pair = |range: std::ops::RangeInclusive<usize>| -> Result<[usize; 2]> {
        Ok([u.int_in_range(range.clone())?, u.int_in_range(range)?])
    };
    // A kernel of one stride also computes its multiples at dilations that share the factor.
    let (size, stride, factor, dilation) = (pair(1..=8)?, pair(1..=6)?, pair(1..=3)?, pair(1..=5)?);
    let [top, left] = pair(0..=12)?;
    let [bottom, right] = pair(0..=12)?;
    let plain = u.ratio(1, 2)?;
    let both = |f: &dyn Fn(usize) -> usize| [f(0), f(1)];
    let mut case = Case {
        name: "fuzzed".into(),
        input: Shape::new(
            u.int_in_range(0..=3)?,
            u.int_in_range(1..=80)?,
            u.int_in_range(1..=40)?,
            u.int_in_range(1..=300)?,
        ),
        kernel: kernel.kernel_size.unwrap_or(size),
        stride: kernel.stride.map_or(stride, |s| if plain { s } else { both(&|axis| s[axis] * factor[axis]) }),
        dilation: if plain { [1, 1] } else { both(&|axis| dilation[axis] * factor[axis]) },
        padding: match u.int_in_range(0..=4)? {
            0 => Padding::same_upper(),
            1 => Padding::same_lower(),
            2 => Padding::valid(),
            _ => Padding::explicit(top, left, bottom, right),
        },
        multiplier: if u.ratio(3, 4)? { 1 } else { u.int_in_range(2..=20)? },
        outputs: u.int_in_range(1..=80)?,
        depthwise: epilogue(u)?,
        pointwise: epilogue(u)?,
        residual: u.arbitrary()?,
        values: *u.choose(&[Values::Plain, Values::Special, Values::Zeros, Values::Tiny, Values::Huge])?,
        seed: u.arbitrary()?,
    };
    // Few are large enough to be split between threads.
    let limit = if u.ratio(1, 64)? { 1 << 21 } else { 1 << 14 };
    while work(operation, &case) > limit {
        let Shape { n, c, h, w } = &mut case.input;
        let extents = [n, c, h, w, &mut case.multiplier, &mut case.outputs];
        let largest = extents.into_iter().max().expect("six of them");
        *largest = largest.div_ceil(2);
    }
    // The window must fit.
    if let Padding::Explicit { .. } | Padding::Valid = case.padding {
        let pads = if case.padding == Padding::Valid { [0, 0] } else { [top + bottom, left + right] };
        let least = both(&|axis| ((case.kernel[axis] - 1) * case.dilation[axis] + 1).saturating_sub(pads[axis]));
        case.input.h = case.input.h.max(least[0]);
        case.input.w = case.input.w.max(least[1]);
    }
    Ok(case)
}

fn epilogue(u: &mut Unstructured) -> Result<Epilogue> {
    Ok(Epilogue { bias: u.arbitrary()?, batch_norm: u.ratio(1, 4)?, activation: *u.choose(&ACTIVATIONS)? })
}

/// Multiply-adds, were there an output for each input.
fn work(operation: Operation, case: &Case) -> usize {
    let Shape { n, c, h, w } = case.input;
    let (middle, taps) = (c * case.multiplier, case.kernel[0] * case.kernel[1]);
    n * h
        * w
        * match operation {
            Operation::Depthwise => middle * taps,
            Operation::Pointwise => c * case.outputs,
            Operation::Separable => middle * (taps + case.outputs),
            Operation::Conv2d => c * taps * case.outputs,
        }
}

impl Job {
    /// Panics unless the result is right. What the kernel does not compute is not worth keeping.
    fn check(&self) -> Corpus {
        let Job { operation, ref case, choice, arrangements: [of_input, of_residual, of_output], .. } = *self;
        let arguments = Arguments::new(operation, case);
        let plan = match Plan::new(operation, case, &arguments, choice) {
            Ok(plan) => plan,
            Err(Error::KernelDoesNotFit { .. }) if choice.kernel.is_some() => return Corpus::Reject,
            Err(error) => panic!("{error}, in {self:#?}"),
        };
        let want = expected_on(choice.isa, operation, case, &arguments);
        assert_eq!(plan.output_shape(case.input), Ok(want.shape), "{self:#?}");

        let range = match &self.way {
            Way::Range(range) => range.clone(),
            _ => OutputRange::all(want.shape),
        };
        let want = shared::part_of(&want, &range);
        let residual = arguments.residual.as_ref().map(|whole| shared::part_of(whole, &range));
        let layout = choice.layout;
        let input = Buffer::of(&arguments.input, layout, of_input);
        let residual = residual.map(|residual| Buffer::of(&residual, layout, of_residual));
        let mut output = Buffer::blank(want.shape, layout, of_output);
        let run = self.run(&plan, &input, residual.as_ref(), &mut output);
        if let Err(problem) = run.map_err(|error| error.to_string()).and_then(|()| output.expect(&want)) {
            panic!("{problem}, in {self:#?}");
        }
        shared::compared();
        Corpus::Keep
    }

    fn run(&self, plan: &Plan, input: &Buffer, residual: Option<&Buffer>, output: &mut Buffer) -> Result<(), Error> {
        let (input, residual, output) = (input.view(), residual.map(Buffer::view), output.view_mut());
        let workspace = |parallelism| match self.dirty {
            true => Ok(depthwise_testkit::dirty_workspace()),
            false => Workspace::with_len(plan.workspace_len(input.shape(), parallelism)?),
        };
        // All of it, which takes just the workspace that the plan asked for.
        let whole = |output, parallelism| {
            let mut workspace = workspace(parallelism)?;
            let len = workspace.len();
            plan.run(Run::new(input, output, &mut workspace).maybe_residual(residual).parallelism(parallelism))?;
            assert!(self.dirty || workspace.len() == len, "took {} of workspace, in {self:#?}", workspace.len());
            Ok(())
        };
        match &self.way {
            Way::Serial => whole(output, Parallelism::Serial),
            Way::Threads(pool) => depthwise_testkit::POOLS[*pool].install(|| whole(output, Parallelism::Rayon)),
            Way::Range(range) => plan.run(
                Run::new(input, output, &mut workspace(Parallelism::Serial)?)
                    .maybe_residual(residual)
                    .range(range.clone()),
            ),
        }
    }
}
