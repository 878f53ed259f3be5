//! Every kernel that this CPU runs equals the oracle bit for bit, in every operation that it is a part of.
//!
//! `DEPTHWISE_SEED=17` runs exactly the random case of that seed, and `DEPTHWISE_CASES=100000` that many of them.

use depthwise::{ElementType, Layout, Machine, Run, Shape, Workspace};
use depthwise_testkit::cases::{
    by_hand, large, left_over, pointwise, random, signs_of_zero, strips, tables, tails, tiles,
};
use depthwise_testkit::emulation::chosen;
use depthwise_testkit::memory::{Arrangement, Buffer};
use depthwise_testkit::oracle::Exact;
use depthwise_testkit::plan::Operation::{self, Conv2d, Depthwise, Pointwise, Separable};
use depthwise_testkit::plan::{Arguments, Choice, Plan, expected};
use depthwise_testkit::{Tally, cases::Case, check};

/// Any pointwise kernel fits any case of its layout.
const ALL: usize = usize::MAX;

/// A test for each list of cases; `least`: how many of them each kernel that the operation is named for must run.
macro_rules! suites {
    ($($name:ident: $operation:ident, $cases:expr, $least:expr;)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name), $operation, $cases, $least);
        })*
    };
}

suites! {
    depthwise_by_hand: Depthwise, by_hand(), 5;
    depthwise_signs_of_zero: Depthwise, signs_of_zero(), 2;
    depthwise_tails_of_vectors: Depthwise, tails(), 0;
    depthwise_borders_of_tiles: Depthwise, tiles(), 100;
    depthwise_inputs_left_over: Depthwise, left_over(), 0;
    depthwise_strips: Depthwise, strips(), 0;
    depthwise_split_between_threads: Depthwise, large(), 0;
    depthwise_tables: Depthwise, tables(), 3;
    depthwise_random: Depthwise, randoms(), 0;

    pointwise_by_hand: Pointwise, by_hand(), ALL;
    pointwise_signs_of_zero: Pointwise, signs_of_zero(), ALL;
    pointwise_tails_of_vectors: Pointwise, tails(), ALL;
    pointwise_borders_of_tiles: Pointwise, pointwise(), ALL;
    pointwise_split_between_threads: Pointwise, large(), ALL;
    pointwise_random: Pointwise, randoms(), 0;

    separable_by_hand: Separable, by_hand(), 5;
    separable_tails_of_vectors: Separable, tails(), 0;
    separable_borders_of_tiles: Separable, tiles(), 100;
    separable_split_between_threads: Separable, large(), 0;
    separable_tables: Separable, tables(), 3;
    separable_random: Separable, randoms(), 0;

    conv2d_by_hand: Conv2d, by_hand(), 0;
    conv2d_tails_of_vectors: Conv2d, tails(), 0;
    conv2d_split_between_threads: Conv2d, large().into_iter().map(fewer_channels).collect(), 0;
    conv2d_random: Conv2d, randoms(), 0;
}

fn run(suite: &str, operation: Operation, cases: Vec<Case>, least: usize) {
    let (cases, least) = chosen(operation, cases, least);
    let mut tally = Tally::default();
    for case in &cases {
        check(operation, case, &mut tally);
    }
    let named = match operation {
        Pointwise => depthwise::Operation::Pointwise,
        _ => depthwise::Operation::Depthwise,
    };
    // Not every window occurs in the tables, which are of other projects.
    let occurs = |taps: Option<[usize; 2]>| taps.is_none_or(|taps| cases.iter().any(|case| case.kernel == taps));
    tally.finish(suite, least.min(cases.len()), |kernel| {
        let plain = kernel.element == ElementType::F32;
        plain && kernel.operation == named && occurs(kernel.kernel_size)
    });
}

fn randoms() -> Vec<Case> {
    let number = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().expect(name));
    let seeds = match number("DEPTHWISE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DEPTHWISE_CASES").unwrap_or(120),
    };
    seeds.map(random).collect()
}

fn fewer_channels(case: Case) -> Case {
    let pixels = case.input.n * case.input.h * case.input.w;
    let work_per_channel = pixels * case.kernel[0] * case.kernel[1] * case.outputs;
    let c = case.input.c.min(((1 << 24) / work_per_channel).max(1));
    Case { input: Shape { c, ..case.input }, ..case }
}

/// Each output is one chain of roundings, whose error docs/numerics.md states: a kernel that summed otherwise would err less, or
/// more.
#[test]
fn long_sums() {
    if depthwise_testkit::emulation::is_on() {
        return println!("left out: it takes an emulator long");
    }
    // (terms, the error stated)
    for (terms, stated) in [(4_608, 1.2e-6), (73_728, 5e-6)] {
        let (pixels, outputs) = (Shape::new(1, terms, 1, 36), 33);
        let case = Case { input: pixels, outputs, ..Case::default() };
        let arguments = Arguments::new(Pointwise, &case);
        let exact = expected::<Exact>(Pointwise, &case, &arguments);
        for isa in depthwise_testkit::isas() {
            let choice = Choice::new(Machine::all()[0], isa, Layout::Nhwc);
            let plan = Plan::new(Pointwise, &case, &arguments, choice).expect("a plan");
            let input = Buffer::of(&arguments.input, Layout::Nhwc, Arrangement::Contiguous);
            let mut output = Buffer::blank(arguments.output, Layout::Nhwc, Arrangement::Contiguous);
            let workspace = &mut Workspace::new();
            plan.run(Run::new(input.view(), output.view_mut(), workspace)).expect("a run");
            // Channels last: pixel by pixel.
            let value = |i: usize| exact.at(0, i % outputs, 0, i / outputs).value;
            let square = |x: f64| x * x;
            let off: f64 = output.data().iter().enumerate().map(|(i, &y)| square(f64::from(y) - value(i))).sum();
            let all: f64 = (0..output.data().len()).map(|i| square(value(i))).sum();
            let error = (off / all).sqrt();
            println!("{terms} terms on {isa}: off by {error:.2e} of a sum");
            assert!(
                (0.7 * stated..1.4 * stated).contains(&error),
                "{terms} terms on {isa}: {error:e}, stated {stated:e}"
            );
        }
    }
}
