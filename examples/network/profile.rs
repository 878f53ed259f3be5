//! The table of `--profile`: what each step of a network costs.

use std::io::Write;
use std::time::{Duration, Instant};

use depthwise::{Parallelism, Shape};

use crate::arch::{Result, counted};
use crate::engine::{Network, Stored};

const HEADINGS: [&str; 6] = ["layers", "input → output", "kernel", "µs", "GFLOP/s", "% of peak"];

/// What the names in the table's third column say.
const LEGEND: &str = "\
kernels are named after operation, element type, layout, window and stride, tile, instruction set:
  dw, pw       depthwise, pointwise; a standard convolution runs as a pointwise one of its gathered windows
  3x3s1, any   window of 3x3 at stride 1, any window at any stride; a pointwise kernel has no window
  tile         outputs computed at a time: rows x columns (dw), pixels x channels (pw, nhwc), channels x pixels (pw, nchw)
  2v, 2.5v     that many vectors of the instruction set; the half one holds the last channels, of two pixels
  1x7r, 1x7t   the tile rolls down the rows and keeps sums of rows to come; channels take turns at each row
  1x2vr        rolls, each row of the tile that many vectors wide
  1x7rb, 4x16p rolls, and writes its outputs a vector behind; a vector holds columns of a pair of rows
  4x2vc, 2x4b  reads a copy of input rows with their padding: channels first, channels last
  4x6k, 2x4i   channels run along the vector, channels first too; of 8 bits, inputs of four rows lie side by side";

/// Runs the network `runs` times on one input and writes, for each step, its shortest time.
/// The peak is that of one thread's multiply-adds, measured, times `threads`.
pub fn profile<E: Stored>(
    network: &Network<E>,
    input: &[E],
    parallelism: Parallelism,
    threads: usize,
    runs: usize,
    out: &mut dyn Write,
) -> Result<()> {
    let mut scratch = network.scratch()?;
    let mut best = vec![Duration::MAX; network.steps.len()];
    for _ in 0..runs {
        let mut start = Instant::now();
        network.run(&mut scratch, input, parallelism, |step, _| {
            best[step] = best[step].min(start.elapsed());
            start = Instant::now();
        })?;
    }

    let mut rows = Vec::new();
    let (mut total_time, mut total_flops) = (Duration::ZERO, 0.0);
    let mut peak = None;
    let mut one_pixel = OnePixel::default();
    for (step, &time) in network.steps.iter().zip(&best) {
        let (from, to) = step.shapes(&network.arch);
        let (mut kernel, mut flops) = (String::from("-"), 0.0);
        if let Some((description, multiply_adds)) = step.kernels(&network.arch, parallelism)? {
            if peak.is_none() {
                let one_thread = description.isa.peak_gflops().map_err(|error| error.to_string())?;
                peak = Some(one_thread * threads as f64);
            }
            (kernel, flops) = (description.to_string(), 2.0 * multiply_adds as f64);
            if to.h * to.w == 1 {
                one_pixel.add(&step.name, multiply_adds, time);
            }
        }
        rows.push(row(step.name.clone(), format!("{} → {}", by(from), by(to)), kernel, time, flops, peak));
        total_time += time;
        total_flops += flops;
    }
    rows.push(row("total".into(), String::new(), String::new(), total_time, total_flops, peak));

    let headings = HEADINGS.map(String::from);
    let width = |column: usize| {
        let cells = rows.iter().chain([&headings]).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    for [layers, shapes, kernel, time, rate, share] in [&headings].into_iter().chain(&rows) {
        let [a, b, c, d, e, f] = widths;
        writeln!(out, "{layers:a$}  {shapes:b$}  {kernel:c$}  {time:>d$}  {rate:>e$}  {share:>f$}")
            .map_err(|error| error.to_string())?;
    }
    let on_threads = |peak| format!("{peak:.1} GFLOP/s on {}", counted(threads, "thread"));
    let peak = peak.map_or("none measured".into(), on_threads);
    writeln!(out, "each step's shortest of {runs} runs; multiply-add peak: {peak}")
        .and_then(|()| one_pixel.explain(out))
        .and_then(|()| writeln!(out, "{LEGEND}"))
        .map_err(|error| error.to_string())
}

/// Convolutions whose output is one pixel, such as classifiers: how fast they read their weights.
#[derive(Default)]
struct OnePixel {
    steps: Vec<String>,
    bytes: f64,
    time: Duration,
}

impl OnePixel {
    /// Of one pixel, there are as many multiply-adds as weights.
    fn add(&mut self, step: &str, multiply_adds: u64, time: Duration) {
        self.steps.push(step.into());
        self.bytes += 4.0 * multiply_adds as f64;
        self.time += time;
    }

    fn explain(&self, out: &mut dyn Write) -> std::io::Result<()> {
        if self.steps.is_empty() {
            return Ok(());
        }
        let rate = self.bytes / self.time.as_secs_f64().max(1e-9) / 1e9;
        writeln!(
            out,
            "{}: one output pixel uses each weight once, so the rate of reading weights is the bound, not the peak of \
             multiply-adds ({:.1} MB at {rate:.1} GB/s)",
            self.steps.join(", "),
            self.bytes / 1e6
        )
    }
}

fn row(layers: String, shapes: String, kernel: String, time: Duration, flops: f64, peak: Option<f64>) -> [String; 6] {
    let rate = flops / time.as_secs_f64().max(1e-9) / 1e9;
    let (rate, share) = match (flops > 0.0, peak) {
        (true, Some(peak)) => (format!("{rate:.1}"), format!("{:.0}", 100.0 * rate / peak)),
        (true, None) => (format!("{rate:.1}"), "-".into()),
        (false, _) => ("-".into(), "-".into()),
    };
    [layers, shapes, kernel, format!("{:.1}", time.as_secs_f64() * 1e6), rate, share]
}

fn by(shape: Shape) -> String {
    format!("{}×{}×{}", shape.c, shape.h, shape.w)
}
