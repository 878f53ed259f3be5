//! What choosing costs: the regret, the time of what a plan chose over the time of the best that it could have chosen.
//!
//!     cargo bench --bench choice -- [--isa avx2] [--layout nhwc] [--threads 1] [--placement vec] [--filter REGEX] …
//!
//! Depthwise layers run on every kernel that fits them; separable blocks on each besides fused and in two passes; and all as the plan
//! runs them by itself, and as it does when it has tuned itself. A kernel asked for by name is not the same: a run may take another
//! where inputs and outputs share cache sets. The layers are those of `benches/shapes/`, each once, or of some of its tables (`--shapes
//! blocks,networks_2026`), and random ones.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use depthwise::{Fusion, Isa, KernelInfo, Layout, Machine, Operation};
use depthwise_benches::command;
use depthwise_benches::crew::{BUSY, Crew, busy};
use depthwise_benches::regret::{self, Group, Layer, Way};
use depthwise_testkit::shapes::{self, Block, Built, Part, Placement, Tensors, random};
use regex::Regex;

#[derive(Parser)]
#[command(about = "Measures what was chosen against the best that could have been")]
struct Args {
    /// portable, avx2, avx512 or neon; all of this CPU by default
    #[arg(long, value_parser = command::isa)]
    isa: Option<Isa>,
    #[arg(long, default_value = "both", value_parser = ["nhwc", "nchw", "both"])]
    layout: String,
    /// Numbers of threads; `all` is a thread for each CPU
    #[arg(long, default_value = "1,all", value_delimiter = ',')]
    threads: Vec<String>,
    /// Where input and output lie: on cache lines as engines' allocators place them, as large `Vec`s do, or across cache lines elsewhere
    #[arg(long, default_value = "both", value_parser = ["lines", "vec", "apart", "both"])]
    placement: String,
    /// Only what matches this regular expression in operation/layout/layer, such as depthwise/nhwc/mbv1
    #[arg(long)]
    filter: Option<Regex>,
    /// Measuring time for each layer in each way to measure it
    #[arg(long, default_value_t = 0.1)]
    seconds: f64,
    /// Milliseconds that a plan has to tune itself to a layer, or 300 times as long as that takes, if it is longer
    #[arg(long, default_value_t = 20)]
    tuning: u64,
    /// Tables of benches/shapes, whose layers are measured each once
    #[arg(long, value_delimiter = ',', value_parser = shapes::TABLES, default_values = shapes::TABLES)]
    shapes: Vec<String>,
    /// How many random layers
    #[arg(long, default_value_t = 100)]
    random: usize,
    /// A regret above it is measured again, ten times, before it counts
    #[arg(long, default_value_t = 1.05)]
    limit: f64,
    /// Writes every way of every layer there, a line each
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// A few small layers, for a moment: whether this program works
    #[arg(long)]
    test: bool,
    /// What cargo bench adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a way gets at a time. Short, as a disturbance should hit neighbours alike.
const TURN: Duration = Duration::from_millis(1);
/// How often each way has its turn, however long that takes.
const LEAST_TURNS: usize = 3;
/// A way that takes so many times as long as the best after two turns is not measured any more.
const HOPELESS: f64 = 2.0;
/// How often what is above the limit is measured again.
const AGAIN: usize = 10;
/// The runs that a plan has time for when it tunes itself.
const RUNS_OF_TUNING: f64 = 300.0;
/// Multiply-adds of the largest layer of a test.
const SMALL: u64 = 1 << 24;

/// Who chooses.
#[derive(Clone, Copy)]
enum Strategy {
    /// What a plan takes by itself.
    Prediction,
    /// What it takes when it has measured.
    Tuning,
}

/// Each is measured beside the others, as a way of its own.
const STRATEGIES: [(Strategy, &str); 2] = [(Strategy::Prediction, "prediction"), (Strategy::Tuning, "tuning")];

/// A way to run a layer, ready to run.
struct Candidate {
    name: String,
    built: Built,
    /// It is of another packing than the plan's own.
    apart: bool,
}

/// A layer to measure.
struct Task<'a> {
    operation: &'static str,
    part: Part,
    block: &'a Block,
}

/// How a layer is measured.
struct Setting<'a> {
    isa: Isa,
    layout: Layout,
    crew: &'a Crew,
    placement: Placement,
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    // `cargo test --all-targets` runs this too.
    args.test |= !args.bench;
    command::end(run(&args))
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let isas = match args.isa {
        Some(isa) => vec![isa],
        None => Isa::all().iter().copied().filter(|isa| isa.is_available()).collect(),
    };
    let machine = match std::env::var("DEPTHWISE_MACHINE") {
        Ok(name) if !name.is_empty() => Machine::named(&name)?,
        _ => Machine::detect(),
    };
    let crews = Crew::of_each(&args.threads)?;
    let mut networks = Vec::new();
    for name in &args.shapes {
        networks.extend(shapes::load(&shapes::table(name))?);
    }
    let random = random::layers(args.random);
    let sets = [
        distinct("depthwise", Part::Depthwise, &networks),
        distinct("block", Part::Separable(Fusion::Auto), &networks),
        distinct("random depthwise", Part::Depthwise, &random),
    ];
    let waited = if args.test { 0.0 } else { Crew::longest_wait(&crews) };
    if waited >= BUSY {
        eprintln!(
            "warning: {} What is close will be told wrongly: end other programs, or wait for them.",
            busy(waited)
        );
    }

    println!("machine {}, {} s for a layer, again above {}", machine.name(), args.seconds, args.limit);
    let mut groups = Vec::new();
    for &isa in &isas {
        for layout in [Layout::Nhwc, Layout::Nchw] {
            if args.layout != "both" && args.layout != layout.name() {
                continue;
            }
            for crew in &crews {
                for placement in Placement::named(&args.placement) {
                    for tasks in &sets {
                        let setting = Setting { isa, layout, crew, placement };
                        groups.extend(measure_all(args, &setting, tasks)?);
                    }
                }
            }
        }
    }
    if groups.is_empty() {
        return Err("no layer matches the filter: it looks at names such as depthwise/nhwc/mbv1-01-112x32-64".into());
    }
    let names = STRATEGIES.map(|(_, name)| name);
    println!("\n{}", regret::summary(&groups, &names)?);
    if let Some(path) = &args.csv {
        std::fs::write(path, regret::csv(&groups, &names)?)
            .map_err(|e| format!("{} cannot be written: {e}", path.display()))?;
    }
    if args.test {
        println!("a test: these figures say nothing. `cargo bench --bench choice` measures.");
    }
    Ok(())
}

/// Each layer once, whatever its names.
fn distinct<'a>(operation: &'static str, part: Part, blocks: &'a [Block]) -> Vec<Task<'a>> {
    let mut seen = BTreeSet::new();
    let new = |block: &&Block| block.layer(part).is_some_and(|layer| seen.insert(layer));
    blocks.iter().filter(new).map(|block| Task { operation, part, block }).collect()
}

/// Measures the layers of a set that the filter leaves, and prints the worst. Nothing if it leaves none.
fn measure_all(args: &Args, setting: &Setting, tasks: &[Task]) -> Result<Option<Group>, Box<dyn Error>> {
    let mut layers = Vec::new();
    let [isa, layout, placement] = [setting.isa.name(), setting.layout.name(), setting.placement.name()];
    let threads = setting.crew.threads.to_string();
    for task in tasks {
        let name = format!("{}/{layout}/{}", task.operation, task.block.name);
        if args.filter.as_ref().is_some_and(|filter| !filter.is_match(&name)) {
            continue;
        }
        let layer = measure(args, setting, task).map_err(|e| format!("{name}: {e}"))?;
        layers.extend(layer);
        if args.test && layers.len() == 2 {
            break;
        }
    }
    let Some(task) = tasks.first().filter(|_| !layers.is_empty()) else { return Ok(None) };
    let of = [task.operation, isa, layout, &*threads, placement].map(str::to_owned);
    let group = Group { of, layers };
    eprintln!("measured {}: {} layers", group.of.join(", "), group.layers.len());
    if !args.test {
        for (strategy, (_, name)) in STRATEGIES.into_iter().enumerate() {
            print!("{}", group.worst((strategy, name), args.limit)?);
        }
    }
    Ok(Some(group))
}

/// Measures a layer in every way; not one that is too large for a test.
fn measure(args: &Args, setting: &Setting, task: &Task) -> Result<Option<Layer>, Box<dyn Error>> {
    let mut plan = shapes::build(task.block, task.part, setting.layout, setting.isa, None)?;
    if args.test && plan.cost.multiply_adds > SMALL {
        return Ok(None);
    }
    let mut tensors = Tensors::new(&plan, setting.placement);
    let run = setting.crew.turn(Duration::ZERO, |parallelism| plan.run(&mut tensors, parallelism))?;
    drop(tensors);
    let tuning = Duration::from_millis(args.tuning).max(Duration::from_secs_f64(RUNS_OF_TUNING * run));
    let tuning = if args.test { Duration::ZERO } else { tuning };
    let tuned = setting.crew.within(|parallelism| plan.tuned(parallelism, tuning))?;
    let mut candidates = candidates(setting, task, &tuned)?;
    let chosen = (candidates.len() - STRATEGIES.len()..candidates.len()).collect();
    let way = |c: &Candidate| Way { name: c.name.clone(), seconds: f64::INFINITY, apart: c.apart };
    let ways = candidates.iter().map(way).collect();
    let mut layer = Layer { name: task.block.name.clone(), ways, chosen };
    let budget = Duration::from_secs_f64(if args.test { 0.0 } else { args.seconds });
    take_turns(setting, &mut candidates, &mut layer, budget)?;
    if !args.test && !layer.is_short() && layer.largest_regret() > args.limit {
        for _ in 0..AGAIN {
            // Built anew, as where a plan's weights lie is luck too.
            let mut candidates = self::candidates(setting, task, &tuned)?;
            take_turns(setting, &mut candidates, &mut layer, budget)?;
        }
    }
    Ok(Some(layer))
}

/// Every way in which a plan could be told to run the layer, and last those of the strategies.
fn candidates(setting: &Setting, task: &Task, tuned: &Built) -> Result<Vec<Candidate>, Box<dyn Error>> {
    let plain = || shapes::build(task.block, task.part, setting.layout, setting.isa, None);
    let plan = plain()?;
    let is_packed_for = |kernel: &KernelInfo| {
        let own = depthwise::kernels().find(|own| Some(own.name) == plan.description.depthwise);
        own.is_some_and(|own| own.packs_as(kernel))
    };
    let parts: &[(&str, Part)] = match task.part {
        Part::Separable(_) => {
            &[("fused ", Part::Separable(Fusion::Fused)), ("two-pass ", Part::Separable(Fusion::TwoPass))]
        }
        _ => &[("", Part::Depthwise)],
    };
    let mut candidates = Vec::new();
    for kernel in depthwise::kernels().filter(|kernel| kernel.operation == Operation::Depthwise) {
        for &(before, part) in parts {
            match shapes::build(task.block, part, setting.layout, setting.isa, Some(kernel.name)) {
                Ok(built) => candidates.push(Candidate {
                    name: format!("{before}{}", kernel.name),
                    built,
                    apart: !is_packed_for(&kernel),
                }),
                Err(error) if matches!(error.downcast_ref(), Some(depthwise::Error::KernelDoesNotFit { .. })) => {}
                Err(error) => return Err(error),
            }
        }
    }
    for (strategy, by) in STRATEGIES {
        let built = match strategy {
            Strategy::Prediction => plain()?,
            Strategy::Tuning => plain()?.choosing_as(tuned),
        };
        let description = setting.crew.within(|parallelism| built.describe(parallelism))?;
        let passes = match (task.part, description.passes) {
            (Part::Separable(_), 1) => "fused ",
            (Part::Separable(_), _) => "two-pass ",
            _ => "",
        };
        let name = format!("{by}: {passes}{}", description.depthwise.unwrap_or("none"));
        candidates.push(Candidate { name, built, apart: false });
    }
    Ok(candidates)
}

/// A turn for each way, round after round. Each time on new tensors, as pages that share sets of the larger caches are luck.
fn take_turns(
    setting: &Setting,
    candidates: &mut [Candidate],
    layer: &mut Layer,
    budget: Duration,
) -> Result<(), Box<dyn Error>> {
    let Some(first) = candidates.first() else { return Err("no kernel fits it".into()) };
    let mut tensors = Tensors::new(&first.built, setting.placement);
    let turn = TURN.min(budget);
    let (start, mut rounds) = (Instant::now(), 0);
    while rounds < LEAST_TURNS || start.elapsed() < budget {
        let hopeless = HOPELESS * layer.best().seconds;
        for (index, candidate) in candidates.iter_mut().enumerate() {
            let way = &mut layer.ways[index];
            if rounds >= 2 && way.seconds > hopeless && !layer.chosen.contains(&index) {
                continue;
            }
            let seconds = setting.crew.turn(turn, |parallelism| candidate.built.run(&mut tensors, parallelism))?;
            way.seconds = way.seconds.min(seconds);
        }
        rounds += 1;
    }
    Ok(())
}
