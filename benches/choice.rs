//! What choosing costs: the regret, the time of what a plan chose over the time of the best that it could have chosen.
//!
//!     cargo bench --bench choice -- [--isa avx2] [--layout nhwc] [--threads 1] [--placement vec] [--filter REGEX] …
//!
//! Depthwise layers run on every kernel that fits them; separable blocks fused and in two passes. The layers are those of
//! `benches/shapes/`, each once, and random ones. An instruction set with one number of threads takes some four minutes.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use depthwise::{Fusion, Isa, Layout, Machine, Operation};
use depthwise_benches::crew::{BUSY, Crew, busy};
use depthwise_benches::regret::{self, Group, Layer, Way};
use depthwise_testkit::shapes::{self, Block, Built, Part, Placement, Tensors, random};
use regex::Regex;

#[derive(Parser)]
#[command(about = "Measures what was chosen against the best that could have been")]
struct Args {
    /// portable, avx2, avx512 or neon; all of this CPU by default
    #[arg(long)]
    isa: Option<Isa>,
    #[arg(long, default_value = "both", value_parser = ["nhwc", "nchw", "both"])]
    layout: String,
    /// Numbers of threads; `all` is a thread for each CPU
    #[arg(long, default_value = "1,all", value_delimiter = ',')]
    threads: Vec<String>,
    /// Where input and output lie: on cache lines as engines' allocators place them, or as large `Vec`s do
    #[arg(long, default_value = "both", value_parser = ["lines", "vec", "both"])]
    placement: String,
    /// Only what matches this regular expression in operation/layout/layer, such as depthwise/nhwc/mbv1
    #[arg(long)]
    filter: Option<Regex>,
    /// Measuring time for each layer in each way to measure it
    #[arg(long, default_value_t = 0.1)]
    seconds: f64,
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

const TABLES: [&str; 4] = ["blocks", "efficientnet_lite0", "xception", "networks_ncnn"];

/// What a way gets at a time. Short, as a disturbance should hit neighbours alike.
const TURN: Duration = Duration::from_millis(1);
/// How often each way has its turn, however long that takes.
const LEAST_TURNS: usize = 3;
/// A way that takes so many times as long as the best after two turns is not measured any more.
const HOPELESS: f64 = 2.0;
/// How often what is above the limit is measured again.
const AGAIN: usize = 10;
/// Multiply-adds of the largest layer of a test.
const SMALL: u64 = 1 << 24;

/// Who chooses.
#[derive(Clone, Copy)]
enum Strategy {
    /// What a plan takes by itself.
    Prediction,
}

/// Each is measured beside the others: a plan that tunes itself is one more.
const STRATEGIES: [(Strategy, &str); 1] = [(Strategy::Prediction, "prediction")];

/// A layer to measure.
struct Task<'a> {
    operation: &'static str,
    part: Part,
    block: &'a Block,
}

/// How a layer is measured.
struct Setting<'a> {
    isa: Isa,
    machine: &'static Machine,
    layout: Layout,
    crew: &'a Crew,
    placement: Placement,
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    // `cargo test --all-targets` runs this too.
    args.test |= !args.bench;
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let isas = match args.isa {
        Some(isa) if !isa.is_available() => {
            return Err(format!("this CPU does not have {isa}: leave out --isa, or name another").into());
        }
        Some(isa) => vec![isa],
        None => Isa::all().iter().copied().filter(|isa| isa.is_available()).collect(),
    };
    let machine = match std::env::var("DEPTHWISE_MACHINE") {
        Ok(name) if !name.is_empty() => Machine::named(&name)?,
        _ => Machine::detect(),
    };
    let crews = Crew::of_each(&args.threads)?;
    let mut networks = Vec::new();
    for name in TABLES {
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
                        let setting = Setting { isa, machine, layout, crew, placement };
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
    let has = |block: &&Block| part == Part::Depthwise || block.m.is_some();
    let outputs = |block: &Block| if part == Part::Depthwise { None } else { block.m };
    let new = |block: &&Block| seen.insert((block.depthwise_layer(), outputs(block)));
    blocks.iter().filter(has).filter(new).map(|block| Task { operation, part, block }).collect()
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
    let mut candidates = candidates(setting, task)?;
    if args.test && candidates.iter().any(|(_, built)| built.cost.multiply_adds > SMALL) {
        return Ok(None);
    }
    let names: Vec<String> = candidates.iter().map(|(name, _)| name.clone()).collect();
    let choose = |(strategy, _)| chosen_by(strategy, setting, task, &names);
    let chosen = STRATEGIES.map(choose).into_iter().collect::<Result<Vec<_>, _>>()?;
    let ways = names.iter().map(|name| Way { name: name.clone(), seconds: f64::INFINITY }).collect();
    let mut layer = Layer { name: task.block.name.clone(), ways, chosen };
    let budget = Duration::from_secs_f64(if args.test { 0.0 } else { args.seconds });
    take_turns(setting, &mut candidates, &mut layer, budget)?;
    if !args.test && !layer.is_short() && layer.largest_regret() > args.limit {
        for _ in 0..AGAIN {
            take_turns(setting, &mut candidates, &mut layer, budget)?;
        }
    }
    Ok(Some(layer))
}

/// Every way in which a plan could run the layer: its name, and a plan that was told so.
fn candidates(setting: &Setting, task: &Task) -> Result<Vec<(String, Built)>, Box<dyn Error>> {
    let build = |part, kernel| shapes::build(task.block, part, setting.layout, setting.isa, kernel);
    if let Part::Separable(_) = task.part {
        let ways = [("fused", Fusion::Fused), ("two-pass", Fusion::TwoPass)];
        return ways
            .map(|(name, fusion)| Ok((name.into(), build(Part::Separable(fusion), None)?)))
            .into_iter()
            .collect();
    }
    let mut candidates = Vec::new();
    for kernel in depthwise::kernels().filter(|kernel| kernel.operation == Operation::Depthwise) {
        match build(task.part, Some(kernel.name)) {
            Ok(built) => candidates.push((kernel.name.into(), built)),
            Err(error) if matches!(error.downcast_ref(), Some(depthwise::Error::KernelDoesNotFit { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(candidates)
}

/// Which of the ways a strategy takes, by the way's name. What `plan.tune` takes will be known here in the same manner.
fn chosen_by(strategy: Strategy, setting: &Setting, task: &Task, names: &[String]) -> Result<usize, Box<dyn Error>> {
    let Setting { isa, machine, layout, .. } = *setting;
    let name = match strategy {
        Strategy::Prediction => {
            let layer = shapes::layer(task.block, task.part, layout, isa, machine)?;
            match task.part {
                Part::Separable(_) if layer.schedule.steps(layer.input, setting.crew.threads)?.len() > 1 => "two-pass",
                Part::Separable(_) => "fused",
                _ => {
                    let choice = layer.schedule.prepare(layer.input, setting.crew.threads)?;
                    choice.describe().depthwise.ok_or("a depthwise plan has no depthwise kernel")?
                }
            }
        }
    };
    Ok(names.iter().position(|other| other == name).ok_or_else(|| format!("{name} was chosen, and is not measured"))?)
}

/// A turn for each way, round after round. Each time on new tensors, as pages that share sets of the larger caches are luck.
fn take_turns(
    setting: &Setting,
    candidates: &mut [(String, Built)],
    layer: &mut Layer,
    budget: Duration,
) -> Result<(), Box<dyn Error>> {
    let Some((_, first)) = candidates.first() else { return Err("no kernel fits it".into()) };
    let mut tensors = Tensors::new(first, setting.placement);
    let turn = TURN.min(budget);
    let (start, mut rounds) = (Instant::now(), 0);
    while rounds < LEAST_TURNS || start.elapsed() < budget {
        let hopeless = HOPELESS * layer.best().seconds;
        for (index, (_, built)) in candidates.iter_mut().enumerate() {
            let way = &mut layer.ways[index];
            if rounds >= 2 && way.seconds > hopeless && !layer.chosen.contains(&index) {
                continue;
            }
            let seconds = setting.crew.turn(turn, |parallelism| built.run(&mut tensors, parallelism))?;
            way.seconds = way.seconds.min(seconds);
        }
        rounds += 1;
    }
    Ok(())
}
