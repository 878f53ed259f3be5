//! The table of `--profile`: what each step of a network costs.

use std::io::Write;
use std::time::{Duration, Instant};

use depthwise::{Parallelism, Shape};

use crate::arch::Result;
use crate::engine::Network;

const HEADINGS: [&str; 6] = ["layers", "input → output", "kernel", "µs", "GFLOP/s", "% of peak"];

/// Runs the network `runs` times on one input and writes, for each step, its shortest time.
/// The peak is that of one thread's multiply-adds, measured, times `threads`.
pub fn profile(
    network: &Network,
    input: &[f32],
    parallelism: Parallelism,
    threads: usize,
    runs: usize,
    out: &mut dyn Write,
) -> Result<()> {
    let mut scratch = network.scratch()?;
    let mut best = vec![Duration::MAX; network.steps.len()];
    for _ in 0..runs {
        let mut start = Instant::now();
        network.run(&mut scratch, input, parallelism, |step| {
            best[step] = best[step].min(start.elapsed());
            start = Instant::now();
        })?;
    }

    let mut rows = Vec::new();
    let (mut total_time, mut total_flops) = (Duration::ZERO, 0.0);
    let mut peak = None;
    for (step, &time) in network.steps.iter().zip(&best) {
        let (from, to) = step.shapes(&network.arch);
        let (mut kernel, mut flops) = (String::from("-"), 0.0);
        if let Some((description, multiply_adds)) = step.kernels(&network.arch)? {
            if peak.is_none() {
                let one_thread = description.isa.peak_gflops().map_err(|error| error.to_string())?;
                peak = Some(one_thread * threads as f64);
            }
            (kernel, flops) = (description.to_string(), 2.0 * multiply_adds as f64);
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
    let peak = peak.map_or("none measured".into(), |peak| format!("{peak:.1} GFLOP/s on {threads} thread(s)"));
    writeln!(out, "each step's shortest of {runs} runs; multiply-add peak: {peak}").map_err(|error| error.to_string())
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
