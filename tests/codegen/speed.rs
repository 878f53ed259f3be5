//! How many cycles a tile takes on cores that no one has here: predicted by `llvm-mca` of LLVM 22, all data in the first-level cache.
//! `.ci/speed` asks for it. Which of its models may be believed, docs/experiments/093-neon-tiles.md says.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use depthwise::{Isa, KernelInfo};

use super::program::Instruction;
use super::tile::Tile;

/// A core whose model agrees with hardware.
struct Core {
    name: &'static str,
    isa: Isa,
    /// Multiply-adds of a vector in a cycle.
    peak: f64,
    /// Instructions that are decoded in a cycle, which `llvm-mca` does not ask, and the operations that they become.
    decoded: f64,
    dispatched: Option<u32>,
}

const CORES: [Core; 4] = [
    Core { name: "neoverse-n1", isa: Isa::Neon, peak: 2.0, decoded: 4.0, dispatched: Some(8) },
    Core { name: "neoverse-v1", isa: Isa::Neon, peak: 4.0, decoded: 8.0, dispatched: Some(15) },
    Core { name: "neoverse-v2", isa: Isa::Neon, peak: 4.0, decoded: 8.0, dispatched: Some(16) },
    Core { name: "znver4", isa: Isa::Avx2, peak: 2.0, decoded: 6.0, dispatched: None },
];

/// Where `llvm-mca` is, and the file that predictions are added to.
pub struct Speed {
    mca: PathBuf,
    record: PathBuf,
}

impl Speed {
    /// If `.ci/speed` asks for it, by `LLVM_MCA` and `DEPTHWISE_SPEED`.
    pub fn asked() -> Option<Speed> {
        let [mca, record] = ["LLVM_MCA", "DEPTHWISE_SPEED"].map(|name| std::env::var_os(name).map(PathBuf::from));
        Some(Speed { mca: mca?, record: record? })
    }

    /// Adds a line for each core that runs the kernel.
    pub fn record(&self, kernel: &KernelInfo, tile: &Tile) {
        let counts = tile.counts(kernel.isa);
        for core in CORES.iter().filter(|core| core.isa == kernel.isa) {
            let cycles = self.cycles(core, tile).max(counts.instructions as f64 / core.decoded);
            let share = counts.multiply_adds as f64 / core.peak / cycles;
            let (name, repeats) = (kernel.name, if tile.is_whole { "tile" } else { "loop" });
            let [fma, all, others] = [counts.multiply_adds, counts.instructions, counts.others];
            let line = format!("{name},{},{repeats},{fma},{all},{others},{cycles:.1},{share:.3}\n", core.name);
            let file = OpenOptions::new().append(true).create(true).open(&self.record);
            file.and_then(|mut file| file.write_all(line.as_bytes()))
                .unwrap_or_else(|e| panic!("{}: {e}", self.record.display()));
        }
    }

    /// The cycles of a tile among others: what so many more of them take.
    fn cycles(&self, core: &Core, tile: &Tile) -> f64 {
        let [few, many] = [20, 60].map(|times| self.simulate(core, tile, times));
        (many - few) / 40.0
    }

    fn simulate(&self, core: &Core, tile: &Tile, times: u32) -> f64 {
        let mut command = Command::new(&self.mca);
        command.args(["-mtriple", if core.isa == Isa::Neon { "aarch64" } else { "x86_64" }, "-mcpu", core.name]);
        command.args([format!("-iterations={times}"), "-instruction-info=false".into()]);
        command.args(core.dispatched.map(|n| format!("-dispatch={n}")));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("`{}` does not run ({e}): .ci/speed brings it", self.mca.display()));
        let text: String = tile.instructions.iter().filter_map(|i| assembly(i)).collect();
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("llvm-mca reads");
        let output = child.wait_with_output().expect("llvm-mca ends");
        let output = String::from_utf8_lossy(&output.stdout);
        let cycles = output.lines().find_map(|line| line.strip_prefix("Total Cycles:"));
        cycles.and_then(|cycles| cycles.trim().parse().ok()).expect("the cycles that llvm-mca simulates")
    }
}

/// The instruction as an assembler takes it; of jumps, any target.
fn assembly(instruction: &Instruction) -> Option<String> {
    let comment = if cfg!(target_arch = "aarch64") { "//" } else { "# " };
    let operands = instruction.operands.split(comment).next()?.trim();
    // `401200 <name+0x20>`, on AArch64 behind the register that is tested.
    let operands = match operands.split_once(" <") {
        Some((before, _)) if before.contains(',') => format!("{}, somewhere", before.rsplit_once(',')?.0),
        Some(_) => "somewhere".into(),
        None => operands.into(),
    };
    // Padding has prefixes for which objdump has names of its own.
    let pads = ["cs", "data16"].contains(&&*instruction.mnemonic) || instruction.mnemonic.starts_with("nop");
    (!pads).then(|| format!("{} {operands}\n", instruction.mnemonic))
}
