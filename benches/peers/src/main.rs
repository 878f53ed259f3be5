//! A Rust library as a worker of run.py: `peers NAME THREADS`, then requests on stdin, answers on stdout, JSON lines
//! as in worker.py.

mod burn;
mod candle;
mod model;
mod ours;
mod rten;
mod tract;

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use depthwise_benches::cores::hand_over;
use serde::Deserialize;
use serde_json::{Value, json};

use model::Model;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Computes the output once, and copies it if it is asked for.
type Run = Box<dyn FnMut(Option<&mut Vec<f32>>) -> Result<()>>;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, peer, threads] = arguments.as_slice() else { return Err("usage: peers NAME THREADS".into()) };
    let threads: usize = threads.parse()?;
    // All work happens on the threads of one pool, the caller's being one of them.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    match peer.as_str() {
        "depthwise" => pool.install(|| ours::serve(threads)),
        "candle" => pool.install(|| serve(&["nchw"], OWN, |model, variant, _| candle::prepare(model, variant))),
        "burn" => pool.install(|| serve(&["nchw"], OWN, |model, variant, _| burn::prepare(model, variant))),
        "rten" => rten::serve(threads),
        "tract" => tract::serve(threads, pool),
        _ => Err(format!("there is no peer `{peer}`: use depthwise, candle, burn, rten or tract").into()),
    }
}

#[derive(Deserialize)]
#[serde(tag = "cmd", rename_all = "lowercase")]
enum Request {
    /// Build a variant on a model and write its output, raw, to the path.
    Prepare {
        model: String,
        variant: String,
        placement: String,
        output: String,
    },
    Time {
        variant: String,
        placement: String,
        ms: f64,
        warm: f64,
    },
    /// How long a cache line takes from thread to thread now, if there are several.
    HandOver,
    /// Drop all that was prepared.
    Clear,
}

/// Where tensors lie if that is the library's matter.
const OWN: &[&str] = &["own"];

/// `prepare` is given the variant, and one of the placements.
fn serve(variants: &[&str], placements: &[&str], prepare: impl Fn(Model, &str, &str) -> Result<Run>) -> Result<()> {
    let mut out = std::io::stdout();
    let mut answer = |value: Value| writeln!(out, "{value}").and_then(|()| out.flush());
    answer(json!({ "variants": variants, "placements": placements, "versions": versions() }))?;
    let mut runs = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        let result = serde_json::from_str(&line?).map_err(Into::into).and_then(|request| match request {
            Request::Prepare { model, variant, placement, output } => {
                let mut run = prepare(Model::load(Path::new(&model))?, &variant, &placement)?;
                let mut values = Vec::new();
                run(Some(&mut values))?;
                std::fs::write(output, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())?;
                let layout = variant[..4].to_owned();
                runs.insert((variant, placement), run);
                Ok(json!({ "layout": layout }))
            }
            Request::Time { variant, placement, ms, warm } => {
                time_slice(runs.get_mut(&(variant, placement)).ok_or("not prepared")?, ms, warm)
            }
            Request::HandOver => Ok(json!({ "ns": hand_over() })),
            Request::Clear => {
                runs.clear();
                Ok(json!({}))
            }
        });
        answer(result.unwrap_or_else(|error: Box<dyn Error + Send + Sync>| json!({ "error": error.to_string() })))?;
    }
    Ok(())
}

/// Times single calls for `ms` milliseconds, after a warm-up: the fastest and the median.
fn time_slice(run: &mut Run, ms: f64, warm: f64) -> Result<Value> {
    let (slice, warm) = (Duration::from_secs_f64(ms / 1e3), Duration::from_secs_f64(warm / 1e3));
    let start = Instant::now();
    run(None)?;
    while start.elapsed() < warm {
        run(None)?;
    }
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < 2 || start.elapsed() < slice {
        let call = Instant::now();
        run(None)?;
        times.push(call.elapsed());
    }
    times.sort_unstable();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    Ok(json!({ "us_min": us(times[0]), "us_med": us(times[times.len() / 2]) }))
}

/// Of the libraries, from the lock file: name to version.
fn versions() -> HashMap<&'static str, &'static str> {
    let wanted = ["burn-flex", "candle-core", "depthwise", "rten", "tract-core"];
    let field = |line: &'static str, key| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"');
    let lines: Vec<_> = include_str!("../Cargo.lock").lines().collect();
    let versions = lines.windows(2).filter_map(|pair| Some((field(pair[0], "name")?, field(pair[1], "version")?)));
    versions.filter(|(name, _)| wanted.contains(name)).collect()
}
