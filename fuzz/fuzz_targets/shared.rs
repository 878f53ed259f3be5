//! What both targets need.

use std::sync::atomic::{AtomicU64, Ordering};

use depthwise::{OutputRange, Shape};

use depthwise_testkit::oracle::Tensor;

/// Counts one result that was compared with the oracle's; reports at powers of two, as libFuzzer does its executions,
/// for `.ci/asan fuzz` to see that a target gets as far as results.
pub fn compared() {
    static RESULTS: AtomicU64 = AtomicU64::new(0);
    let results = RESULTS.fetch_add(1, Ordering::Relaxed) + 1;
    if results.is_power_of_two() {
        eprintln!("results compared: {results}");
    }
}

pub fn part_of<T: Copy>(whole: &Tensor<T>, range: &OutputRange) -> Tensor<T> {
    let OutputRange { n, c, h, w } = range;
    let shape = Shape::new(n.len(), c.len(), h.len(), w.len());
    Tensor::from_fn(shape, |i, j, k, l| whole.at(n.start + i, c.start + j, h.start + k, w.start + l))
}
