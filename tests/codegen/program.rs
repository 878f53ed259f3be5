//! The instructions of this very program, as `objdump` prints them.

use std::process::Command;
use std::sync::LazyLock;

use depthwise::Isa;

/// A line of the disassembly.
pub struct Instruction {
    pub address: u64,
    pub mnemonic: String,
    pub operands: String,
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
    pub fn multiplies(&self, isa: Isa) -> bool {
        match (isa, cfg!(target_arch = "aarch64")) {
            (Isa::Portable, true) => self.mnemonic == "fmul" && self.operands.contains(".4s"),
            (Isa::Portable, false) => self.mnemonic == "mulps",
            (_, true) => self.mnemonic == "fmla" && self.operands.contains(".4s"),
            (_, false) => self.mnemonic.starts_with("vfmadd") && self.mnemonic.ends_with("ps"),
        }
    }

    /// Products of vectors of 8 or 16 bits, added to sums of 32.
    pub fn multiplies_bytes(&self, isa: Isa) -> bool {
        match isa {
            Isa::Avx512Vnni => self.mnemonic == "vpdpbusd",
            Isa::Avx2 => self.mnemonic == "vpmaddwd",
            _ => self.mnemonic.starts_with("smlal"),
        }
    }

    /// Whether it adds products of 8 bits so that a sum too large for it becomes another: results would depend on the order.
    pub fn saturates(&self) -> bool {
        ["pmaddubsw", "vpmaddubsw", "vpdpbusds", "vpdpwssds"].contains(&&*self.mnemonic)
    }

    /// An addition of the portable kernels, of which a multiplication has one.
    pub fn adds(&self, isa: Isa) -> bool {
        let name = if cfg!(target_arch = "aarch64") { "fadd" } else { "addps" };
        isa == Isa::Portable && self.mnemonic == name
    }

    /// Whether it has to do with vectors, or single elements in their registers.
    fn is_of_vectors(&self) -> bool {
        if cfg!(target_arch = "aarch64") {
            let is_register = |word: &str| {
                let mut letters = word.chars();
                let kind = letters.next().is_some_and(|c| "vqds".contains(c));
                kind && letters.next().is_some_and(|c| c.is_ascii_digit())
            };
            self.operands.split([',', ' ', '{', '}', '[', ']']).any(is_register)
        } else {
            ["%xmm", "%ymm", "%zmm", "%k"].iter().any(|register| self.operands.contains(register))
        }
    }

    /// Whether it moves a vector from or to memory, and does nothing else that takes time.
    fn moves(&self) -> bool {
        if cfg!(target_arch = "aarch64") {
            let m = &*self.mnemonic;
            m.starts_with("ld") || m.starts_with("st")
        } else {
            let m = self.mnemonic.trim_start_matches('v');
            self.operands.contains('(') && (m.starts_with("mov") || m.starts_with("broadcast"))
        }
    }

    /// Whether it is an operation of vectors that is no part of a multiply-add: a copy, a clamp, a shuffle.
    pub fn is_other_vector(&self, isa: Isa) -> bool {
        self.is_of_vectors() && !self.moves() && !self.multiplies(isa) && !self.adds(isa)
    }

    pub fn calls(&self) -> bool {
        self.mnemonic.starts_with("call") || self.mnemonic == "bl" || self.mnemonic == "blr"
    }

    /// Whether it calls a function of this crate, or an intrinsic or a function of arrays, which should have been inlined: the
    /// closures that `array::map` calls are compiled without the instruction set.
    pub fn calls_own(&self) -> bool {
        let is_inlined = ["depthwise", "core_arch", "core::array", "4core5array"];
        self.calls() && is_inlined.iter().any(|name| self.operands.contains(name))
    }

    /// Where it may jump to, if the code says so.
    pub fn target(&self) -> Option<u64> {
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
    pub fn ends_run(&self) -> bool {
        self.target().is_some() || self.mnemonic.starts_with("jmp") || ["ret", "br", "ud2"].contains(&&*self.mnemonic)
    }

    /// Whether it has the stack frame start on a cache line.
    pub fn aligns_frame(&self) -> bool {
        self.mnemonic == "and" && self.operands == "$0xffffffffffffffc0,%rsp"
    }

    /// Whether it moves a vector to or from the stack, or computes with one there.
    pub fn spills(&self) -> bool {
        let vector = if cfg!(target_arch = "aarch64") {
            self.operands.starts_with('q') || self.operands.starts_with("{v") || self.operands.starts_with('v')
        } else {
            ["%xmm", "%ymm", "%zmm"].iter().any(|register| self.operands.contains(register))
        };
        vector && (self.operands.contains("(%rsp") || self.operands.contains("[sp"))
    }
}

/// The code of each function, by its first address.
pub struct Program {
    functions: Vec<Vec<Instruction>>,
    /// What to take from an address in memory to find it in the file.
    offset: u64,
    /// Where [`codegen_anchor`] is in the file.
    #[cfg_attr(target_arch = "x86_64", expect(dead_code, reason = "there the system says where a program lies"))]
    pub anchor: u64,
}

/// A function whose place in the file and in memory are both known.
#[inline(never)]
fn codegen_anchor(x: u64) -> u64 {
    std::hint::black_box(x) ^ 0x5eed_c0de
}

/// Where it is in this process.
pub fn anchor_in_memory() -> u64 {
    std::hint::black_box(codegen_anchor(1));
    codegen_anchor as fn(u64) -> u64 as usize as u64
}

impl Program {
    /// The one, disassembled once.
    pub fn this() -> &'static Program {
        static PROGRAM: LazyLock<Program> = LazyLock::new(Program::disassemble);
        &PROGRAM
    }

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
        let in_memory = anchor_in_memory();
        let anchor = anchor.expect("this program has symbols");
        let offset = in_memory - anchor;
        functions.retain(|function| !function.is_empty());
        Program { functions, offset, anchor }
    }

    pub fn function(&self, code: *const ()) -> &[Instruction] {
        let address = code as usize as u64 - self.offset;
        let found = self.functions.binary_search_by_key(&address, |function| function[0].address);
        &self.functions[found.expect("a kernel starts where a function starts")]
    }

    /// The address of the instruction behind that one.
    #[cfg(target_arch = "x86_64")]
    pub fn next(&self, address: u64) -> u64 {
        let function = self.functions.partition_point(|function| function[0].address <= address);
        let function = &self.functions[function.checked_sub(1).expect("an address of this program")];
        let at = function.binary_search_by_key(&address, |i| i.address).expect("an instruction");
        function[at + 1].address
    }

    /// Where it asks the CPU, by `cpuid` or else by `xgetbv`, what it and the system have.
    #[cfg(target_arch = "x86_64")]
    pub fn that_ask_for_the_cpu(&self) -> impl Iterator<Item = (u64, bool)> {
        let asks = |i: &&Instruction| ["cpuid", "xgetbv"].contains(&&*i.mnemonic);
        self.functions.iter().flatten().filter(asks).map(|i| (i.address, i.mnemonic == "cpuid"))
    }
}
