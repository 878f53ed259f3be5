//! The examples `compare` of adapters whose threads are those of `rayon`: an engine alone and with the adapter, taking turns.

use std::error::Error;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;

/// Any error.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A way to compute a network: a name, and a run that gives the outputs.
pub struct Case<'a> {
    pub name: &'static str,
    pub run: Box<dyn Fn() -> Result<Vec<f32>> + 'a>,
}

/// A time that began: with one thread the time that the CPU works for this process, which other programs disturb less, with several threads
/// the time that passes.
pub struct Timer {
    passed: Instant,
    worked: Option<ProcessTime>,
}

impl Timer {
    pub fn start(threads: usize) -> Self {
        Self { passed: Instant::now(), worked: (threads == 1).then(ProcessTime::now) }
    }

    pub fn elapsed(&self) -> Duration {
        self.worked.map_or_else(|| self.passed.elapsed(), |worked| worked.elapsed())
    }
}

const USAGE: &str = "usage: compare [--threads N] [--seconds S]";

/// The variable by which `rayon` is told the number of threads. Only another process can be given another value.
const THREADS: &str = "RAYON_NUM_THREADS";

/// Measures the cases of a network as the command line asks, and prints a table. The first case is the engine alone; the last one counts
/// as the adapter.
///
/// Each time is the least of all turns, as a [`Timer`] says it.
///
/// The exit status is 0, or 1 if the outputs of a case differ from the first one's by more than 1e-4 of the largest, or 2 if there is
/// nothing to compare.
pub fn compare<N>(
    title: &str,
    network: impl FnOnce() -> Result<N>,
    cases: impl for<'a> FnOnce(&'a N) -> Result<Vec<Case<'a>>>,
) -> ExitCode {
    let run = || {
        let (threads, budget) = arguments()?;
        if std::env::var(THREADS).ok() != Some(threads.to_string()) {
            let mut again = Command::new(std::env::current_exe()?);
            let status = again.args(std::env::args_os().skip(1)).env(THREADS, threads.to_string()).status()?;
            return Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2)));
        }
        println!("{title}, {threads} thread{}", if threads == 1 { "" } else { "s" });
        measure(&cases(&network()?)?, threads, budget)
    };
    run().unwrap_or_else(|error: Box<dyn Error>| {
        eprintln!("compare: {error}");
        ExitCode::from(2)
    })
}

/// The number of threads, and the time for all turns together.
fn arguments() -> Result<(usize, Duration)> {
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
    Ok((threads, Duration::from_secs_f64(seconds)))
}

fn measure(cases: &[Case], threads: usize, budget: Duration) -> Result<ExitCode> {
    let outputs = cases.iter().map(|case| (case.run)()).collect::<Result<Vec<_>>>()?;
    let (start, mut least) = (Instant::now(), vec![Duration::MAX; cases.len()]);
    while start.elapsed() < budget {
        for (case, least) in cases.iter().zip(&mut least) {
            let timer = Timer::start(threads);
            black_box((case.run)()?);
            *least = timer.elapsed().min(*least);
        }
    }
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let times_as_fast = |time: Duration| milliseconds(least[0]) / milliseconds(time);
    for (case, &time) in cases.iter().zip(&least) {
        println!("{:<40} {:8.2} ms {:6.2} x", case.name, milliseconds(time), times_as_fast(time));
    }
    let largest = outputs[0].iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let differences = outputs[1..].iter().flat_map(|output| output.iter().zip(&outputs[0]).map(|(a, b)| (a - b).abs()));
    let difference = differences.fold(0.0_f32, |most, value| if value.is_nan() { value } else { most.max(value) });
    let last = least[least.len() - 1];
    println!("speedup {:.2}, difference {difference:.1e} of {largest:.3}", times_as_fast(last));
    // Not `>`, which a NaN would pass.
    Ok(if difference <= 1e-4 * largest { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fails if outputs differ by more than `tolerance` of the largest one of `theirs`.
#[track_caller]
pub fn assert_close(ours: &[f64], theirs: &[f64], tolerance: f64, what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    assert!(!theirs.is_empty() && theirs.iter().all(|value| value.is_finite()), "{what}");
    let largest = theirs.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        // Not `>`, which a NaN would pass.
        assert!(
            (ours - theirs).abs() <= tolerance * largest,
            "{what}: output {index} is {ours}, the engine's {theirs}"
        );
    }
}
