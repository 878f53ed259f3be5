//! Of a trace, the whole tile that a kernel repeats, and what of it does not multiply.

use std::collections::{HashMap, HashSet};

use depthwise::{Form, Isa, KernelInfo, Operation};

use super::program::{Instruction, Program};
use super::trace::DEPTH;

/// The instructions of a kernel from one tile to the next, or of what it repeats most where no tile is.
pub struct Tile<'a> {
    pub instructions: Vec<&'a Instruction>,
    /// Whether it is one tile, with exactly its multiply-adds.
    pub is_whole: bool,
}

/// What a tile takes.
#[derive(Clone, Copy, PartialEq)]
pub struct Counts {
    pub multiply_adds: usize,
    pub instructions: usize,
    /// Operations of vectors that are neither a multiply-add nor a move from or to memory.
    pub others: usize,
}

impl Counts {
    /// Instructions and other operations for each multiply-add.
    pub fn ratios(&self) -> [f64; 2] {
        [self.instructions, self.others].map(|count| count as f64 / self.multiply_adds as f64)
    }
}

/// The multiply-adds of vectors that a tile has, if the kernel works in tiles.
fn multiply_adds(kernel: &KernelInfo) -> Option<usize> {
    let [rows, columns] = kernel.tile;
    // A portable vector is two registers of four lanes.
    let registers = if kernel.isa == Isa::Portable { 2 } else { 1 };
    let vectors = match (kernel.operation, kernel.layout, kernel.form) {
        (Operation::Pointwise, _, Form::Channels) => 2 * rows * columns.div_ceil(kernel.lanes),
        (Operation::Pointwise, ..) => (rows * columns).div_ceil(kernel.lanes),
        (_, depthwise::Layout::Nhwc, Form::Tile) => rows * columns,
        (_, _, Form::Tile) => rows * columns / kernel.lanes,
        _ => return None,
    };
    let each = match (kernel.operation, kernel.kernel_size) {
        (Operation::Pointwise, _) => DEPTH,
        (_, taps) => taps.map(|[height, width]| height * width)?,
    };
    Some(registers * vectors * each)
}

impl<'a> Tile<'a> {
    /// Of the sequences of instructions from an address that is jumped to, to the same address again, that have exactly the multiply-adds
    /// of a tile, the commonest, and of these the shortest. Where there is none: that with most multiply-adds in all.
    pub fn find(program: &'a Program, kernel: &KernelInfo, code: *const (), trace: &[u64]) -> Option<Tile<'a>> {
        let at: HashMap<u64, &Instruction> = program.function(code).iter().map(|i| (i.address, i)).collect();
        let next: HashMap<u64, u64> =
            program.function(code).windows(2).map(|pair| (pair[0].address, pair[1].address)).collect();
        let multiplies: Vec<bool> = trace.iter().map(|address| at[address].multiplies(kernel.isa)).collect();
        let mut before = vec![0];
        for &multiplies in &multiplies {
            before.push(before[before.len() - 1] + usize::from(multiplies));
        }
        let jumps = trace.windows(2).filter(|pair| next.get(&pair[0]) != Some(&pair[1]));
        let heads: HashSet<u64> = jumps.map(|pair| pair[1]).collect();

        let expected = multiply_adds(kernel);
        // Sequences by their instructions: how often, and where one starts.
        let (mut whole, mut any) = (HashMap::<&[u64], usize>::new(), HashMap::<&[u64], usize>::new());
        for head in heads {
            let met: Vec<usize> = (0..trace.len()).filter(|&i| trace[i] == head).collect();
            let counts = |pair: &[usize]| before[pair[1]] - before[pair[0]];
            let parts = met.windows(2).filter(|pair| expected.is_some_and(|n| counts(pair) < n)).count();
            for pair in met.windows(2).filter(|pair| counts(pair) > 0) {
                let sequence = &trace[pair[0]..pair[1]];
                // Of a tile, what is met but once in each.
                if Some(counts(pair)) == expected && 4 * parts <= met.len() {
                    *whole.entry(sequence).or_default() += 1;
                }
                *any.entry(sequence).or_default() += 1;
            }
        }
        let count = |sequence: &[u64]| sequence.iter().filter(|address| at[address].multiplies(kernel.isa)).count();
        // Ties go to the first address, lest the order of a map decide.
        let best = whole.iter().min_by_key(|&(s, times)| (usize::MAX - times, s.len(), s[0]));
        let most = any.iter().filter(|&(_, &times)| times > 3);
        let most = most.min_by_key(|&(s, times)| (usize::MAX - times * count(s), s.len(), s[0]));
        let (sequence, _) = best.or(most)?;
        let instructions = sequence.iter().map(|address| at[address]).collect();
        Some(Tile { instructions, is_whole: best.is_some() })
    }

    pub fn counts(&self, isa: Isa) -> Counts {
        let count = |is: &dyn Fn(&Instruction) -> bool| self.instructions.iter().filter(|i| is(i)).count();
        Counts {
            multiply_adds: count(&|i| i.multiplies(isa)),
            instructions: self.instructions.len(),
            others: count(&|i| i.is_other_vector(isa)),
        }
    }
}
