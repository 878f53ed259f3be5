//! The shapes that other projects test and that real networks have.

mod common;

use common::plan::Operation;
use common::{Tally, cases, check};

fn run(operation: Operation, suite: &str, least: usize) {
    let mut tally = Tally::default();
    for case in cases::tables() {
        check(operation, &case, &mut tally);
    }
    tally.finish(suite, least, |kernel| kernel.operation == depthwise::Operation::Depthwise);
}

#[test]
fn depthwise() {
    run(Operation::Depthwise, "tables, depthwise", 3);
}

#[test]
fn separable() {
    run(Operation::Separable, "tables, separable", 3);
}
