//! Standard convolution: equals the oracle bit for bit.

mod common;

use common::cases::{self, Case};
use common::plan::Operation;
use common::{Tally, check};
use depthwise::Shape;

fn run(suite: &str, cases: Vec<Case>) {
    let mut tally = Tally::default();
    for case in &cases {
        check(Operation::Conv2d, case, &mut tally);
    }
    tally.finish(suite, 0, |_| true);
}

#[test]
fn by_hand() {
    run("conv2d by hand", cases::by_hand());
}

#[test]
fn tails_of_vectors() {
    run("conv2d, tails of vectors", cases::tails());
}

#[test]
fn split_between_threads() {
    let fewer_channels = |case: Case| {
        let pixels = case.input.n * case.input.h * case.input.w;
        let work_per_channel = pixels * case.kernel[0] * case.kernel[1] * case.outputs;
        let c = case.input.c.min(((1 << 24) / work_per_channel).max(1));
        Case { input: Shape { c, ..case.input }, ..case }
    };
    run("conv2d, split between threads", cases::large().into_iter().map(fewer_channels).collect());
}
