//! The arithmetic of the roofline model: what a roof allows, and which roof binds.

use depthwise::{Cost, Isa};

/// What one run of a layer computes and moves.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Floating-point operations, two a multiply-add.
    pub operations: f64,
    /// Bytes that must move at least once.
    pub bytes: f64,
    /// Bytes of memory that a run touches.
    pub footprint: f64,
}

impl Work {
    /// Of two stages in two passes, what lies between them is written and read.
    pub fn new(cost: Cost, between: Option<u64>) -> Self {
        let (bytes, between) = (cost.bytes as f64, between.unwrap_or(0) as f64);
        let operations = 2.0 * cost.multiply_adds as f64;
        Self { operations, bytes: bytes + 2.0 * between, footprint: bytes + between }
    }

    /// Arithmetic intensity, in floating-point operations a byte.
    pub fn intensity(&self) -> f64 {
        self.operations / self.bytes
    }
}

/// A cache, or memory, as a number of threads sees it.
#[derive(Clone, Debug)]
pub struct Level {
    pub name: &'static str,
    /// What it holds, in bytes, for all of the threads together; infinite for memory.
    pub capacity: f64,
    /// The bytes that each thread read to measure it.
    pub read_by_thread: usize,
    /// The rate at which the threads together read from it, in GB/s.
    pub bandwidth: f64,
}

/// The rates that no run exceeds.
#[derive(Clone, Debug)]
pub struct Roofs {
    pub threads: usize,
    /// Multiply-adds by instruction set, in GFLOP/s, the best one last.
    pub peaks: Vec<(Isa, f64)>,
    /// The nearest first.
    pub levels: Vec<Level>,
    /// The nanoseconds that a cache line takes from thread to thread, at the best of times and at the worst.
    pub hand_over: Option<[f64; 2]>,
}

/// The roof over a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// `peak`, or the name of a level.
    pub name: &'static str,
    /// What it allows, in GFLOP/s.
    pub gflops: f64,
    /// The nearest level that holds all that a run touches.
    pub level: &'static str,
}

impl Roofs {
    pub fn peak(&self, isa: Isa) -> f64 {
        self.peaks.iter().find(|peak| peak.0 == isa).map_or(f64::NAN, |peak| peak.1)
    }

    /// The lower of two roofs: the peak, and what the layer's level feeds at its intensity.
    pub fn bound(&self, isa: Isa, work: &Work) -> Bound {
        let holds = self.levels.iter().find(|level| work.footprint <= level.capacity);
        let level = holds.expect("memory holds anything");
        let (fed, peak) = (work.intensity() * level.bandwidth, self.peak(isa));
        let (name, gflops) = if fed < peak { (level.name, fed) } else { ("peak", peak) };
        Bound { name, gflops, level: level.name }
    }
}
