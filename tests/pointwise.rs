//! Pointwise convolution: every kernel equals the oracle bit for bit.

mod common;

use common::cases::{self, Case};
use common::plan::Operation;
use common::{Tally, check};

fn run(suite: &str, cases: Vec<Case>) {
    let mut tally = Tally::default();
    for case in &cases {
        check(Operation::Pointwise, case, &mut tally);
    }
    // Any pointwise kernel fits any case of its layout.
    tally.finish(suite, cases.len(), |kernel| kernel.operation == depthwise::Operation::Pointwise);
}

#[test]
fn by_hand() {
    run("pointwise by hand", cases::by_hand());
}

#[test]
fn tails_of_vectors() {
    run("pointwise, tails of vectors", cases::tails());
}

#[test]
fn borders_of_tiles() {
    run("pointwise, borders of tiles", cases::pointwise());
}

#[test]
fn split_between_threads() {
    run("pointwise, split between threads", cases::large());
}
