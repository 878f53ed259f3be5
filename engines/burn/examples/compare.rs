//! MobileNetV1 1.0/224 with random weights, by burn alone (burn-flex) and with the modules of this crate, taking turns:
//! `cargo run --release --example compare -- [--threads N] [--seconds S]`.
//!
//! Each time is the least of all turns: with one thread the time that the CPU worked for this process, which other programs disturb
//! less, with several threads the time that passed.

use std::error::Error;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use burn_tensor::Tensor;
use cpu_time::ProcessTime;
use depthwise_burn::Layout;

#[path = "../tests/networks/mod.rs"]
mod networks;

use networks::mobilenet_v1::{Level, MobileNetV1};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: compare [--threads N] [--seconds S]";

/// The variable by which `rayon`, and so burn-flex, is told the number of threads. Only another process can be given another value.
const THREADS: &str = "RAYON_NUM_THREADS";

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let (mut threads, mut seconds) = (1_usize, 20.0_f64);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{name} takes a number. {USAGE}"));
        match name.as_str() {
            "--threads" => threads = value()?.parse().map_err(|error| format!("--threads: {error}. {USAGE}"))?,
            "--seconds" => seconds = value()?.parse().map_err(|error| format!("--seconds: {error}. {USAGE}"))?,
            _ => return Err(format!("unknown argument {name}. {USAGE}").into()),
        }
    }
    if threads == 0 || !(seconds > 0.0 && seconds <= 3600.0) {
        return Err(format!("it takes 1 thread or more, and up to 3600 seconds. {USAGE}").into());
    }
    if std::env::var(THREADS).ok() != Some(threads.to_string()) {
        let mut again = Command::new(std::env::current_exe()?);
        let status = again.args(std::env::args_os().skip(1)).env(THREADS, threads.to_string()).status()?;
        return Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2)));
    }
    compare(threads, Duration::from_secs_f64(seconds))
}

fn compare(threads: usize, budget: Duration) -> Result<ExitCode> {
    let network = MobileNetV1::new();
    let input = networks::random([1, 3, 224, 224]);
    type Run<'a> = Box<dyn Fn(Tensor<4>) -> Vec<f32> + 'a>;
    let with = |level, layout| -> Result<Run> { Ok(Box::new(network.with(level, layout)?)) };
    let runs: [(&str, Run); 7] = [
        ("burn", Box::new(network.by_burn())),
        ("depthwise convolutions swapped, NCHW", with(Level::Depthwise, Layout::Nchw)?),
        ("all convolutions swapped, NCHW", with(Level::Convolutions, Layout::Nchw)?),
        ("activations in the plans, NCHW", with(Level::Activations, Layout::Nchw)?),
        ("activations in the plans, NHWC", with(Level::Activations, Layout::Nhwc)?),
        ("pairs, NCHW", with(Level::Pairs, Layout::Nchw)?),
        ("pairs, NHWC", with(Level::Pairs, Layout::Nhwc)?),
    ];
    let outputs: Vec<Vec<f32>> = runs.iter().map(|(_, run)| run(input.clone())).collect();

    let (start, mut best) = (Instant::now(), [Duration::MAX; 7]);
    while start.elapsed() < budget {
        for ((_, run), best) in runs.iter().zip(&mut best) {
            let (begin, worked) = (Instant::now(), ProcessTime::now());
            black_box(run(black_box(input.clone())));
            let time = if threads == 1 { worked.elapsed() } else { begin.elapsed() };
            *best = time.min(*best);
        }
    }
    println!("MobileNetV1 1.0/224, random weights, {threads} thread{}", if threads == 1 { "" } else { "s" });
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    for ((name, _), time) in runs.iter().zip(best) {
        println!("{name:<40} {:8.2} ms {:6.2} x", milliseconds(time), milliseconds(best[0]) / milliseconds(time));
    }
    let largest = outputs[0].iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let differences = outputs[1..].iter().flat_map(|output| output.iter().zip(&outputs[0]).map(|(a, b)| (a - b).abs()));
    let difference = differences.fold(0.0_f32, |most, value| if value.is_nan() { value } else { most.max(value) });
    println!(
        "speedup {:.2}, difference {difference:.1e} of {largest:.3}",
        milliseconds(best[0]) / milliseconds(best[6])
    );
    Ok(if difference <= 1e-4 * largest { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
