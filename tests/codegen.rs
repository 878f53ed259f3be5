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

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use depthwise::{Form, Isa, KernelInfo, Layout, Operation};

/// The multiply-adds of vectors that a kernel's inner loop has at least: those of a row of taps with a row of the tile; of
/// kernels for any taps those of one tap, and of pointwise ones those of one input channel.
fn multiply_adds(kernel: &KernelInfo) -> usize {
    let [rows, columns] = kernel.tile;
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

/// A line of the disassembly.
struct Instruction {
    address: u64,
    mnemonic: String,
    operands: String,
}

impl Instruction {
    /// `  401000: vfmadd231ps 0x40(%rsi),%zmm1,%zmm2`
    fn parse(line: &str) -> Option<Instruction> {
        let (address, text) = line.split_once(":\t")?;
        let address = u64::from_str_radix(address.trim(), 16).ok()?;
        let (mnemonic, operands) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
        Some(Instruction { address, mnemonic: mnemonic.into(), operands: operands.trim().into() })
    }

    /// A multiply-add of vectors; of the portable kernels, which round twice, the multiplication.
    fn multiplies(&self, isa: Isa) -> bool {
        match (isa, cfg!(target_arch = "aarch64")) {
            (Isa::Portable, true) => self.mnemonic == "fmul" && self.operands.contains(".4s"),
            (Isa::Portable, false) => self.mnemonic == "mulps",
            (_, true) => self.mnemonic == "fmla" && self.operands.contains(".4s"),
            (_, false) => self.mnemonic.starts_with("vfmadd") && self.mnemonic.ends_with("ps"),
        }
    }

    fn calls(&self) -> bool {
        self.mnemonic.starts_with("call") || self.mnemonic == "bl" || self.mnemonic == "blr"
    }

    /// Whether it calls a function of this crate, which should have been inlined.
    fn calls_own(&self) -> bool {
        self.calls() && self.operands.contains("depthwise")
    }

    /// Where it may jump to, if the code says so.
    fn target(&self) -> Option<u64> {
        let jumps = if cfg!(target_arch = "aarch64") {
            let m = &*self.mnemonic;
            m == "b" || m.starts_with("b.") || ["cbz", "cbnz", "tbz", "tbnz"].contains(&m)
        } else {
            self.mnemonic.starts_with('j')
        };
        // `401200 <name+0x20>`, on AArch64 after the register that is tested.
        let address = self.operands.split(" <").next()?.rsplit([' ', ',']).next()?;
        jumps.then(|| u64::from_str_radix(address.trim_start_matches("0x"), 16).ok())?
    }

    /// Whether control goes elsewhere behind it.
    fn ends_run(&self) -> bool {
        self.target().is_some() || self.mnemonic.starts_with("jmp") || ["ret", "br", "ud2"].contains(&&*self.mnemonic)
    }

    /// Whether it has the stack frame start on a cache line.
    fn aligns_frame(&self) -> bool {
        self.mnemonic == "and" && self.operands == "$0xffffffffffffffc0,%rsp"
    }

    /// Whether it moves a vector to or from the stack, or computes with one there.
    fn spills(&self) -> bool {
        let vector = if cfg!(target_arch = "aarch64") {
            self.operands.starts_with('q') || self.operands.starts_with("{v") || self.operands.starts_with('v')
        } else {
            ["%xmm", "%ymm", "%zmm"].iter().any(|register| self.operands.contains(register))
        };
        vector && (self.operands.contains("(%rsp") || self.operands.contains("[sp"))
    }
}

/// The code of each function, by its first address.
struct Program {
    functions: Vec<Vec<Instruction>>,
    /// What to take from an address in memory to find it in the file.
    offset: u64,
}

/// A function whose place in the file and in memory are both known.
#[inline(never)]
fn codegen_anchor(x: u64) -> u64 {
    std::hint::black_box(x) ^ 0x5eed_c0de
}

impl Program {
    fn disassemble() -> Program {
        let objdump = std::env::var("OBJDUMP").unwrap_or_else(|_| "objdump".into());
        let file = std::env::current_exe().expect("the path of this program");
        let output = Command::new(&objdump).args(["-d", "--no-show-raw-insn"]).arg(file).output();
        let output =
            output.unwrap_or_else(|e| panic!("`{objdump}` does not run ({e}): install binutils, or set OBJDUMP"));
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`{objdump}` fails; for another architecture set OBJDUMP: {problem}");

        let mut functions: Vec<Vec<Instruction>> = Vec::new();
        let mut anchor = None;
        for line in String::from_utf8(output.stdout).expect("text").lines() {
            if line.ends_with(">:") {
                functions.push(Vec::new());
                if line.contains("codegen_anchor") {
                    anchor = u64::from_str_radix(line.split(' ').next().expect("an address"), 16).ok();
                }
            } else if let (Some(function), Some(instruction)) = (functions.last_mut(), Instruction::parse(line)) {
                function.push(instruction);
            }
        }
        std::hint::black_box(codegen_anchor(1));
        let in_memory = codegen_anchor as fn(u64) -> u64 as usize as u64;
        let offset = in_memory - anchor.expect("this program has symbols");
        functions.retain(|function| !function.is_empty());
        Program { functions, offset }
    }

    fn function(&self, code: *const ()) -> &[Instruction] {
        let address = code as usize as u64 - self.offset;
        let found = self.functions.binary_search_by_key(&address, |function| function[0].address);
        &self.functions[found.expect("a kernel starts where a function starts")]
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
    let program = Program::disassemble();
    let mut problems = Vec::new();
    println!("{:<40} {:>22} {:>8} {:>16}", "kernel", "multiply-adds in a row", "calls", "on the stack");
    for (kernel, code) in depthwise::kernel_code() {
        let function = program.function(code);
        // A portable vector is two registers of four lanes.
        let expected = multiply_adds(&kernel) * if kernel.isa == Isa::Portable { 2 } else { 1 };
        let multiplies = |run: &[Instruction]| run.iter().filter(|i| i.multiplies(kernel.isa)).count();
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
        let wide = [Isa::Avx2, Isa::Avx512].contains(&kernel.isa) && function.iter().any(Instruction::spills);
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
