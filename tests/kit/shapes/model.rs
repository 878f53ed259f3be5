//! What a split should bring: a model of the time of a run with any number of threads.
//!
//! A part takes the time of its multiply-adds, those that kernels compute for nothing included, and then that of its
//! bytes. A run takes the time of each step's slowest part, and that of handing the parts to the threads.

use depthwise::{Axis, Description, KernelInfo, Layout, Machine, OutputRange, Shape};

use super::Layer;

/// What a machine does in a second.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Multiply-adds of one lane of a core's vectors, of those that take one slot.
    pub lane: f64,
    /// Bytes that a core reads or writes: in its own cache, and in the one that cores share.
    pub own: f64,
    pub shared: f64,
    /// The capacities of those two.
    pub own_bytes: f64,
    pub shared_bytes: f64,
    /// Bytes from and to memory: of one core, of each of several, of all together.
    pub memory: [f64; 3],
    /// Pointwise kernels bring what they read next from afar while they multiply.
    pub overlaps: bool,
    /// The seconds that two halves of work wait for each other, both threads awake.
    pub wait: f64,
}

/// AMD EPYC, Zen 5 (family 26, model 2), a virtual machine of two cores, November 2026: the peak, 250 GFLOP/s by AVX-512, and
/// the rates of reading as the roofline report measured them. The wait is the median of `rayon::join` over two equal busy
/// loops, less one loop, while both threads are awake; to wake one took some 20 µs and more. Not measured, as it has two
/// cores: that the shared cache's rate grows with the cores, and that memory's ends somewhere, here at 400 GB/s, two thirds of
/// what the twelve channels of such a processor carry.
pub const ZEN_5: Rates = Rates {
    lane: 125e9 / 16.0,
    own: 235e9,
    shared: 110e9,
    own_bytes: 1e6,
    shared_bytes: 32e6,
    memory: [36e9, 32.5e9, 400e9],
    overlaps: false,
    wait: 0.7e-6,
};

/// AMD EPYC, Zen 4 (family 25, model 17), a virtual machine of two cores, November 2026: the peak by AVX-512, 118 GFLOP/s, and
/// the rates of reading as the roofline report measured them. The wait is Zen 5's; memory's end is two thirds of what twelve
/// channels of DDR5-4800 carry.
pub const ZEN_4: Rates = Rates {
    lane: 118e9 / 16.0,
    own: 118e9,
    shared: 100e9,
    own_bytes: 1e6,
    shared_bytes: 32e6,
    memory: [23.5e9, 20.3e9, 300e9],
    overlaps: false,
    wait: 0.7e-6,
};

/// Intel Xeon, Emerald Rapids (family 6, model 207), a virtual machine of two cores, November 2026: the peak by AVX-512, 205 GFLOP/s,
/// and the shared cache's rate, 25 GB/s a core, as measured there. Not measured: the own cache, for which Zen 5's rate stands, memory,
/// of which a core gets half of what the shared cache gives, and the wait, which is Zen 5's.
pub const EMERALD_RAPIDS: Rates = Rates {
    lane: 102e9 / 16.0,
    own: 235e9,
    shared: 25e9,
    own_bytes: 2e6,
    shared_bytes: 64e6,
    memory: [12e9, 12e9, 200e9],
    overlaps: true,
    wait: 0.7e-6,
};

/// A run, predicted.
#[derive(Clone, Copy, Debug)]
pub struct Prediction {
    pub passes: usize,
    /// The seconds in which parts are computed, the slowest of each step, over the mean of all threads.
    pub imbalance: f64,
    /// The seconds in which none is.
    pub serial: f64,
    pub seconds: f64,
}

/// What a pass computes.
#[derive(Clone, Copy)]
enum Pass {
    Depthwise,
    Pointwise,
    Fused,
}

fn kernel(name: Option<&str>) -> KernelInfo {
    depthwise::kernels().find(|kernel| Some(kernel.name) == name).expect("what a plan describes is in the table")
}

/// How long a run of a layer with that many threads takes on its machine.
pub fn predict(layer: &Layer, threads: usize) -> Result<Prediction, depthwise::Error> {
    Rates::of(layer.machine).predict(layer, threads)
}

impl Rates {
    fn of(machine: &Machine) -> Rates {
        match machine.name() {
            "zen4" => ZEN_4,
            // Not measured there: the peak of AVX2 is much the same.
            "zen3" => Rates { own_bytes: 512e3, ..ZEN_4 },
            "emerald-rapids" => EMERALD_RAPIDS,
            _ => ZEN_5,
        }
    }

    fn predict(&self, layer: &Layer, threads: usize) -> Result<Prediction, depthwise::Error> {
        let passes = layer.schedule.steps(layer.input, threads)?;
        let description = layer.schedule.prepare(layer.input, threads)?.describe();
        let kinds: &[Pass] = match (description.depthwise, description.pointwise) {
            (_, None) => &[Pass::Depthwise],
            (None, _) => &[Pass::Pointwise],
            _ if passes.len() == 2 => &[Pass::Depthwise, Pass::Pointwise],
            _ => &[Pass::Fused],
        };
        // What an earlier run left, with what lies between two passes.
        let between =
            if passes.len() == 2 { 4 * layer.output.n * layer.output.h * layer.output.w * layer.between.c } else { 0 };
        let bytes = layer.cost.bytes as f64 + between as f64;
        let (mut slowest, mut all, mut serial) = (0.0, 0.0, 0.0);
        for (steps, &pass) in passes.iter().zip(kinds) {
            for parts in steps {
                let bandwidth = self.bandwidth(bytes, parts.len());
                let seconds = |part| self.seconds(layer, &description, pass, part, bandwidth);
                slowest += parts.iter().map(seconds).fold(0.0, f64::max);
                all += parts.iter().map(seconds).sum::<f64>();
                // A tree of halves.
                serial += self.wait * f64::from(parts.len().next_power_of_two().ilog2());
            }
        }
        let imbalance = slowest * threads as f64 / all;
        Ok(Prediction { passes: passes.len(), imbalance, serial, seconds: slowest + serial })
    }

    /// How long a part of a pass takes at that many bytes in a second.
    fn seconds(&self, layer: &Layer, description: &Description, pass: Pass, part: &OutputRange, bandwidth: f64) -> f64 {
        let (n, rows, c) = (part.n.len(), part.h.len(), part.c.len());
        let [kh, kw] = layer.kernel_size;
        let (width, mid, taps) = (part.w.len(), layer.between.c, kh * kw);
        let mut seconds = 0.0;
        let time = |multiply_adds: usize, kernel: &KernelInfo| {
            layer.schedule.slots(kernel) * multiply_adds as f64 / (self.lane * kernel.lanes as f64)
        };
        // Read and written.
        let mut values = n * rows * width * c;
        if let Pass::Depthwise | Pass::Fused = pass {
            let info = kernel(description.depthwise);
            let channels = if let Pass::Fused = pass { mid } else { c };
            let computed = match layer.layout {
                Layout::Nhwc => rows.next_multiple_of(info.tile[0]) * width * channels.next_multiple_of(info.lanes),
                // Vectors run along a row; about one is lost to its ends.
                Layout::Nchw => rows * (width.next_multiple_of(info.lanes) + info.lanes) * channels,
            };
            seconds += time(n * computed * taps, &info);
            let rows_read = ((rows - 1) * layer.stride + (kh - 1) * layer.dilation + 1).min(layer.input.h);
            // Of some channels between, as many inputs as a multiplier leaves.
            let read = (channels * layer.input.c).div_ceil(mid);
            let columns_read = ((width * layer.input.w).div_ceil(layer.output.w) + kw - 1).min(layer.input.w);
            values += n * rows_read * columns_read * read + taps * channels;
        }
        if let Pass::Pointwise | Pass::Fused = pass {
            let info = kernel(description.pointwise);
            let computed = match layer.layout {
                // The last panel may be a single vector wide, or a half more.
                Layout::Nhwc if info.joins() => rows * width * c.next_multiple_of(info.lanes / 2),
                Layout::Nhwc => rows * width * c.next_multiple_of(info.lanes),
                Layout::Nchw => (rows * width).next_multiple_of(info.lanes) * c.next_multiple_of(info.tile[1]),
            };
            seconds += time(n * computed * mid, &info);
            values += c * mid + if let Pass::Pointwise = pass { n * rows * width * mid } else { 0 };
        }
        let moving = 4.0 * values as f64 / bandwidth;
        match pass {
            Pass::Pointwise | Pass::Fused if self.overlaps => seconds.max(moving),
            _ => seconds + moving,
        }
    }

    /// Bytes in a second for each thread, from where so many lie after an earlier run.
    fn bandwidth(&self, bytes: f64, threads: usize) -> f64 {
        match threads {
            1 if bytes <= self.own_bytes => self.own,
            // What one core has written, another may read.
            _ if bytes <= self.shared_bytes => self.shared,
            1 => self.memory[0],
            _ => self.memory[1].min(self.memory[2] / threads as f64),
        }
    }
}

/// Whether the parts have each element of an output exactly once.
pub fn tile(parts: &[OutputRange], output: Shape) -> bool {
    let within = |part: &OutputRange| Axis::ALL.into_iter().all(|axis| part[axis].end <= output[axis]);
    let len = |part: &OutputRange| part.n.len() * part.c.len() * part.h.len() * part.w.len();
    let disjoint = parts.iter().enumerate().all(|(i, a)| parts[..i].iter().all(|b| !a.meets(b)));
    let all = parts.iter().map(len).sum::<usize>() == output.n * output.c * output.h * output.w;
    disjoint && all && parts.iter().all(|part| within(part) && len(part) > 0)
}
