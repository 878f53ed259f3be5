//! The machine code of every kernel of the table: in its inner loop as many multiply-adds as its tile asks for, no call
//! and no spill. A kernel that fails to inline is some sixty times slower, and nothing else says so.
//!
//! How: `objdump` disassembles this very program; the table says where each kernel's inner loops are. That code is cut into
//! straight runs of instructions, between jumps and the targets of jumps. Those with enough multiply-adds are inner loops: whole
//! tiles, rows or ends of them, and the same at borders and in tails, where LLVM trades registers for addresses and masks. So of
//! the runs with as many multiply-adds, and as loops or not, the one that touches the stack least counts; of these, the worst.
//! `OBJDUMP` names another `objdump` than the one on the path, for a program that an emulator runs.
//!
//! The limits: [`multiply_adds`] says how many are expected; each row of the table how often it may touch the stack.
//!
//! Besides, each kernel is traced on a small layer, and what it repeats, a whole tile, is counted ([`tiles`]) and, if `.ci/speed` asks for
//! it, simulated.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod program;
mod speed;
mod tile;
mod trace;

use std::collections::{BTreeMap, BTreeSet};

use depthwise::{ElementType, Form, Isa, KernelInfo, Layout, Operation};
use program::{Instruction, Program};
use speed::Speed;
use tile::{Counts, Tile};

/// The multiply-adds of vectors that a kernel's inner loop has at least: those of a row of taps with a row of the tile; of
/// kernels for any taps those of one tap, and of pointwise ones those of one input channel.
fn multiply_adds(kernel: &KernelInfo) -> usize {
    let [rows, columns] = kernel.tile;
    if kernel.element == ElementType::I8 {
        return match kernel.form {
            Form::Any => 2,
            Form::Interleaved => rows * columns * kernel.kernel_size.map_or(1, |[_, width]| width),
            _ => rows * columns / kernel.lanes,
        };
    }
    match (kernel.operation, kernel.layout, kernel.kernel_size) {
        // Two panels.
        (Operation::Pointwise, ..) if kernel.form == Form::Channels => 2 * rows * columns.div_ceil(kernel.lanes),
        (Operation::Pointwise, ..) => rows * columns / kernel.lanes,
        (_, Layout::Nhwc, taps) => columns * taps.map_or(1, |[_, width]| width),
        // Columns run along the vector; two rows may share one.
        (_, Layout::Nchw, Some([_, width])) => columns.div_ceil(kernel.lanes) * width,
        (_, Layout::Nchw, None) => rows,
    }
}

/// The straight runs of a function.
fn runs(function: &[Instruction]) -> Vec<&[Instruction]> {
    let targets: BTreeSet<u64> = function.iter().filter_map(Instruction::target).collect();
    let mut runs = Vec::new();
    let mut start = 0;
    for i in 1..=function.len() {
        if i == function.len() || function[i - 1].ends_run() || targets.contains(&function[i].address) {
            runs.push(&function[start..i]);
            start = i;
        }
    }
    runs
}

#[test]
#[cfg_attr(debug_assertions, ignore = "of optimised code: cargo test --release --test codegen")]
fn inner_loops() {
    let program = Program::this();
    let mut problems = Vec::new();
    println!("{:<40} {:>22} {:>8} {:>16}", "kernel", "multiply-adds in a row", "calls", "on the stack");
    for (kernel, code) in depthwise::kernel_code() {
        // How loops of whole numbers become vectors is the compiler's choice on any CPU.
        if (kernel.element, kernel.isa) == (ElementType::I8, Isa::Portable) {
            continue;
        }
        let function = program.function(code);
        // A portable vector is two registers of four lanes.
        let expected = multiply_adds(&kernel) * if kernel.isa == Isa::Portable { 2 } else { 1 };
        let multiplies = |run: &[Instruction]| match kernel.element {
            ElementType::I8 => run.iter().filter(|i| i.multiplies_bytes(kernel.isa)).count(),
            _ => run.iter().filter(|i| i.multiplies(kernel.isa)).count(),
        };
        if let Some(i) = function.iter().find(|i| kernel.element == ElementType::I8 && i.saturates()) {
            problems.push(format!("{}: {} saturates sums, which are exact", kernel.name, i.mnemonic));
        }
        let inner: Vec<_> = runs(function).into_iter().filter(|run| multiplies(run) >= expected).collect();
        let found = inner.iter().map(|run| multiplies(run)).max().unwrap_or(0);
        let calls = function.iter().filter(|i| i.calls_own()).count()
            + inner.iter().flat_map(|run| run.iter()).filter(|i| i.calls()).count();
        // By what tells runs of the same part of a tile from others.
        let mut least: BTreeMap<(bool, usize), usize> = BTreeMap::new();
        for run in inner {
            let repeats = run.last().and_then(Instruction::target) == Some(run[0].address);
            let spills = 100 * run.iter().filter(|i| i.spills()).count() / multiplies(run);
            least.entry((repeats, multiplies(run))).and_modify(|least| *least = spills.min(*least)).or_insert(spills);
        }
        let spilled = least.into_values().max().unwrap_or(0);
        println!("{:<40} {found:>10} of {expected:>8} {calls:>8} {spilled:>14} %", kernel.name);

        // Vectors of sixteen bytes do not straddle cache lines in any frame.
        let wide =
            [Isa::Avx2, Isa::Avx512, Isa::Avx512Vnni].contains(&kernel.isa) && function.iter().any(Instruction::spills);
        if wide && !function.iter().any(Instruction::aligns_frame) {
            problems.push(format!("{}: vectors in a stack frame that does not start on a cache line", kernel.name));
        }
        let allowed = usize::from(kernel.spills);
        if found < expected || calls > 0 || spilled > allowed {
            problems.push(format!(
                "{}: {found} multiply-adds in a row where {expected} are expected, {calls} calls where none may be, {spilled} accesses \
                 to the stack in 100 multiply-adds where {allowed} are allowed",
                kernel.name
            ));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A line of the list: what a kernel's tile may take.
fn listed(line: &str) -> Option<(&str, Counts)> {
    let mut words = line.split_whitespace();
    let name = words.next().filter(|name| !name.starts_with('#'))?;
    let mut count = || words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("not a line: {line}"));
    Some((name, Counts { multiply_adds: count(), instructions: count(), others: count() }))
}

/// Instructions, and operations of vectors that are no multiply-add, of each kernel's tile: no more for each multiply-add than the list
/// of this architecture says, and a little for other compilers. `DEPTHWISE_BLESS=1` writes it anew.
#[test]
#[cfg_attr(debug_assertions, ignore = "of optimised code: cargo test --release --test codegen")]
fn tiles() {
    let list = depthwise_testkit::data("tiles").join(format!("{}.txt", std::env::consts::ARCH));
    let speed = Speed::asked();
    let (program, mut problems, mut text) = (Program::this(), Vec::new(), String::from(HEADER));
    // Of instruction sets that no machine has been asked for yet.
    let mut unlisted = Vec::new();
    let known = std::fs::read_to_string(&list).unwrap_or_default();
    let known: BTreeMap<_, _> = known.lines().filter_map(listed).collect();
    for (kernel, code) in depthwise::kernel_code().filter(|(kernel, _)| kernel.element == ElementType::F32) {
        let trace = match trace::trace(program, &kernel, code) {
            Ok(trace) => trace,
            Err(why) => return println!("NOT COUNTED HERE: {why}"),
        };
        let Some(tile) = Tile::find(program, &kernel, code, &trace) else {
            problems.push(format!(
                "{}: {} instructions were traced, and none of them repeat",
                kernel.name,
                trace.len()
            ));
            continue;
        };
        let counts = tile.counts(kernel.isa);
        let repeats = if tile.is_whole { "" } else { " loop" };
        let Counts { multiply_adds, instructions, others } = counts;
        let line = format!("{:<40} {multiply_adds:>6} {instructions:>6} {others:>6}{repeats}", kernel.name);
        println!("{line}");
        text += &line;
        text.push('\n');
        if let Some(speed) = &speed {
            speed.record(&kernel, &tile);
        }
        let limit = known.get(kernel.name).map(|known| {
            let [all, others] = known.ratios();
            // The same source built twice has been seen to move a few registers more, of no more instructions.
            [1.05 * all + 0.01, 1.05 * others + 0.08]
        });
        let ratios = counts.ratios();
        match limit {
            Some(limit) if ratios[0] <= limit[0] && ratios[1] <= limit[1] => {}
            Some([all, some]) => problems.push(format!(
                "{}: {:.2} instructions and {:.2} other operations of vectors in a multiply-add, where {all:.2} and {some:.2} are the most",
                kernel.name, ratios[0], ratios[1]
            )),
            None if known.keys().any(|name| name.ends_with(kernel.isa.name())) => {
                problems.push(format!("{}: not in {}", kernel.name, list.display()));
            }
            None => unlisted.push(kernel.name),
        }
    }
    if std::env::var_os("DEPTHWISE_BLESS").is_some() {
        return std::fs::write(&list, text).unwrap_or_else(|e| panic!("{}: {e}", list.display()));
    }
    if !unlisted.is_empty() {
        println!("NOT CHECKED: {} has no kernel of the instruction set of {}", list.display(), unlisted.join(", "));
    }
    assert!(problems.is_empty(), "{}\n`DEPTHWISE_BLESS=1` writes the list anew.", problems.join("\n"));
}

const HEADER: &str = "\
# What each kernel's tile takes: multiply-adds of vectors, instructions, and operations of vectors that are neither a multiply-add nor
# a move from or to memory. Of one that works in no whole tiles, what it repeats most (loop). The check allows a twentieth more.
";
