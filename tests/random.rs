//! Random cases. `DEPTHWISE_SEED=17` runs exactly the case of that seed, and `DEPTHWISE_CASES=100000` that many.

mod common;

use common::plan::Operation;
use common::{Tally, cases, check};

fn run(operation: Operation) {
    let number = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().expect(name));
    let seeds = match number("DEPTHWISE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("DEPTHWISE_CASES").unwrap_or(120),
    };
    let mut tally = Tally::default();
    for seed in seeds {
        check(operation, &cases::random(seed), &mut tally);
    }
    tally.finish(&format!("random, {operation:?}"), 0, |_| true);
}

#[test]
fn depthwise() {
    run(Operation::Depthwise);
}

#[test]
fn pointwise() {
    run(Operation::Pointwise);
}

#[test]
fn separable() {
    run(Operation::Separable);
}

#[test]
fn conv2d() {
    run(Operation::Conv2d);
}
