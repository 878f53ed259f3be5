//! What differs where an emulator runs the tests: it is some 300 times slower, so that it runs a part of them.
//! `DEPTHWISE_EMULATED` is its command line, such as `qemu-aarch64 -L /usr/aarch64-linux-gnu`. Miri is an emulator, too: it
//! interprets the portable kernels, slower by far than the others.

use std::collections::HashMap;
use std::process::Command;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::cases::{Case, taps_of_kernels};
use super::plan::Operation;

/// The most cases of a suite, and the most multiply-adds of one of them.
const CASES: usize = if cfg!(miri) { 3 } else { 24 };
const MULTIPLY_ADDS: usize = if cfg!(miri) { 1 << 9 } else { 1 << 16 };

pub fn is_on() -> bool {
    cfg!(miri) || std::env::var_os("DEPTHWISE_EMULATED").is_some()
}

/// Starts this program once more, in the same emulator.
pub fn this_program() -> Command {
    let emulator = std::env::var("DEPTHWISE_EMULATED").unwrap_or_default();
    let program = std::env::current_exe().expect("this test");
    let mut words = emulator.split_whitespace().map(Into::into).chain([program.into_os_string()]);
    let mut command = Command::new(words.next().expect("at least the program"));
    command.args(words);
    command
}

/// What a suite runs of its cases, and how many of them a kernel must run that had to run `least`. An emulator runs
/// some of the small ones, of all kernel sizes and strides by turns, those that kernels are written for first; or where
/// all are large the smallest.
pub fn chosen(operation: Operation, mut cases: Vec<Case>, least: usize) -> (Vec<Case>, usize) {
    if !is_on() {
        return (cases, least);
    }
    cases.shuffle(&mut StdRng::seed_from_u64(1));
    let work = |case: &Case| multiply_adds(operation, case);
    let smallest = cases.iter().map(work).min().unwrap_or(0);
    cases.retain(|case| work(case) <= smallest.max(MULTIPLY_ADDS));
    let own = taps_of_kernels();
    let mut turns = HashMap::new();
    cases.sort_by_cached_key(|case| {
        let (taps, is_dilated) = ((case.kernel, case.stride), case.dilation != [1, 1]);
        let turn = turns.entry((taps, is_dilated)).or_insert(0);
        *turn += 1;
        (*turn, is_dilated || !own.contains(&taps))
    });
    cases.truncate(CASES);
    (cases, least.min(1))
}

/// The step of a sweep over all of `f32`.
pub fn step(step: usize) -> usize {
    if is_on() { 16 * step + 1 } else { step }
}

fn multiply_adds(operation: Operation, case: &Case) -> usize {
    let middle = case.window().output(case.input, case.input.c * case.multiplier);
    let pixels = middle.n * middle.h * middle.w;
    let taps = case.kernel[0] * case.kernel[1];
    match operation {
        Operation::Depthwise => pixels * middle.c * taps,
        Operation::Pointwise => case.input.n * case.input.h * case.input.w * case.input.c * case.outputs,
        Operation::Separable => pixels * middle.c * (taps + case.outputs),
        Operation::Conv2d => pixels * case.input.c * taps * case.outputs,
    }
}
