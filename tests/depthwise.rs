//! Depthwise convolution: every kernel equals the oracle bit for bit.

mod common;

use common::cases::{self, Case};
use common::plan::Operation;
use common::{Tally, check};

fn run(suite: &str, least: usize, cases: Vec<Case>) {
    let mut tally = Tally::default();
    for case in &cases {
        check(Operation::Depthwise, case, &mut tally);
    }
    tally.finish(suite, least, |kernel| kernel.operation == depthwise::Operation::Depthwise);
}

#[test]
fn by_hand() {
    run("depthwise by hand", 5, cases::by_hand());
}

#[test]
fn tails_of_vectors() {
    run("depthwise, tails of vectors", 0, cases::tails());
}

#[test]
fn borders_of_tiles() {
    run("depthwise, borders of tiles", 100, cases::tiles());
}

#[test]
fn split_between_threads() {
    run("depthwise, split between threads", 0, cases::large());
}
