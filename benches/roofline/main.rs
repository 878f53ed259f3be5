//! The roofline report: what this machine can do at most, and what of it each layer reaches.
//!
//!     cargo bench --bench roofline -- [FILTER] [--quick] [--layout nhwc] [--threads 1] [--isa avx2] [--list]
//!     cargo bench --bench roofline -- --shapes networks_2026
//!     cargo bench --bench roofline -- --from benches/record/zen4/2026-11-28-roofline.csv
//!
//! The second measures the layers of other tables of `benches/shapes/`. The third makes the report of a record. Each prints the report and writes `report.md`, `report.csv` and a plot for each number of threads to
//! `target/roofline`.

mod plot;

use std::error::Error;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use depthwise::{Fusion, Isa, Layout};
use depthwise_benches::command;
use depthwise_benches::crew::{BUSY, Crew, busy};
use depthwise_benches::roof::Work;
use depthwise_testkit::shapes::{self, Block, Part, Placement, Prepared, model};
use indicatif::{ProgressBar, ProgressStyle};
use regex::Regex;

use depthwise_benches::machine::{self, Machine};
use depthwise_benches::measure::Surveyor;
use depthwise_benches::report::{LEFT_OUT, NOTE, OPERATIONS, Report, Row};

#[derive(Parser)]
#[command(about = "Measures the roofs of this machine, and what of them each layer reaches")]
struct Args {
    /// Only what matches this regular expression in operation/layout/layer, as --list prints them
    filter: Option<Regex>,
    /// Tables of benches/shapes
    #[arg(long, value_delimiter = ',', value_parser = shapes::TABLES, default_values = &shapes::TABLES[..4])]
    shapes: Vec<String>,
    /// The first table alone, in fewer rounds: with blocks.json within a minute
    #[arg(long)]
    quick: bool,
    #[arg(long, default_value = "both", value_parser = ["nhwc", "nchw", "both"])]
    layout: String,
    /// Numbers of threads; `all` is a thread for each CPU
    #[arg(long, default_value = "1,all", value_delimiter = ',')]
    threads: Vec<String>,
    /// portable, avx2, avx512 or neon; the best of this CPU by default
    #[arg(long, value_parser = command::isa)]
    isa: Option<Isa>,
    /// Prints what would be measured
    #[arg(long)]
    list: bool,
    /// The report of a record, such as benches/record/zen4/2026-11-28-roofline.csv: nothing is measured
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// What cargo bench adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// The bytes of layers that are kept ready at a time.
const GROUP: u64 = 256 << 20;

/// Standard convolutions of more multiply-adds than that are no part of --quick.
const QUICK_STANDARD: u64 = 1 << 30;

/// One layer to measure.
struct Task<'a> {
    operation: &'static str,
    part: Part,
    layout: Layout,
    block: &'a Block,
    whole_network: bool,
}

impl Task<'_> {
    fn name(&self) -> String {
        format!("{}/{}/{}", self.operation, self.layout, self.block.name)
    }

    /// The name without the layer's: `mobilenet_v2` of `mobilenet_v2-112x32`, `lfm2-t128` (128 time steps) of `lfm2-t128x2048k3`.
    fn network(&self) -> Option<String> {
        let layer = Regex::new(r"(-t\d+)[x-].*|-\d+x.*").expect("a regular expression");
        self.whole_network.then(|| layer.replace(&self.block.name, "$1").into_owned())
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.bench && !args.list {
        // `cargo test --all-targets` runs this too.
        println!("nothing is measured: run it by `cargo bench --bench roofline`");
        return ExitCode::SUCCESS;
    }
    command::end(run(&args))
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let report = match &args.from {
        Some(path) => read(path)?,
        None => match measured(args)? {
            Some(report) => report,
            None => return Ok(()),
        },
    };
    eprintln!();
    print!("{}", report.markdown()?);
    let folder = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")).join("roofline");
    write(&report, &folder).map_err(|e| format!("the report cannot be written to {}: {e}", folder.display()))?;
    eprintln!("\nwritten to {}: report.md, report.csv and a plot for each number of threads", folder.display());
    Ok(())
}

fn read(path: &Path) -> Result<Report, Box<dyn Error>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read ({error}): name a record of benches/record", path.display()))?;
    let report = depthwise_benches::record::read(&text).map_err(|error| {
        format!("{} is no roofline record ({error}): name a report.csv of this bench", path.display())
    })?;
    Ok(report)
}

/// Nothing where the layers are only listed.
fn measured(args: &Args) -> Result<Option<Report>, Box<dyn Error>> {
    let isa = args.isa.unwrap_or_else(Isa::detect);
    let tables = args.shapes.iter().take(if args.quick { 1 } else { usize::MAX });
    // All tables but one are of whole networks.
    let load = |name: &String| Ok((shapes::load(&shapes::table(name))?, name != "blocks"));
    let tables = tables.map(load).collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let tasks = tasks(args, &tables);
    if tasks.is_empty() {
        return Err("no layer matches the filter: --list prints what there is, without --quick all of it".into());
    }
    if args.list {
        tasks.iter().for_each(|task| println!("{}", task.name()));
        return Ok(None);
    }

    let report = measure(args, isa, &tasks)?;
    if report.rows.is_empty() {
        return Err("--quick leaves out all that matches the filter, as it takes long: run it without".into());
    }
    Ok(Some(report))
}

fn tasks<'a>(args: &Args, tables: &'a [(Vec<Block>, bool)]) -> Vec<Task<'a>> {
    let parts = [
        Part::Depthwise,
        Part::Pointwise,
        Part::Separable(Fusion::Fused),
        Part::Separable(Fusion::TwoPass),
        Part::Standard,
    ];
    let mut tasks = Vec::new();
    for (blocks, whole_network) in tables {
        for layout in [Layout::Nhwc, Layout::Nchw] {
            for block in blocks {
                for (operation, part) in OPERATIONS.into_iter().zip(parts) {
                    let task = Task { operation, part, layout, block, whole_network: *whole_network };
                    let there = part == Part::Depthwise || block.m.is_some();
                    let asked = args.layout == "both" || args.layout == layout.name();
                    if there && asked && args.filter.as_ref().is_none_or(|filter| filter.is_match(&task.name())) {
                        tasks.push(task);
                    }
                }
            }
        }
    }
    tasks
}

fn measure(args: &Args, isa: Isa, tasks: &[Task]) -> Result<Report, Box<dyn Error>> {
    let machine = Machine::this();
    let crews = Crew::of_each(&args.threads)?;
    let before = Crew::longest_wait(&crews);
    if before >= BUSY {
        eprintln!("warning: {} Times will be too long: end other programs, or wait for them.", busy(before));
    }
    let (roof_rounds, rounds, turn_ms) = if args.quick { (20, 6, 5) } else { (60, 10, 10) };
    let turn = Duration::from_millis(turn_ms);
    let last = machine.caches.iter().map(|cache| cache.bytes * cache.instances(machine.cpus, machine.cpus)).max();
    let last = last.unwrap_or(0);
    let bytes = if args.quick { (2 * last).clamp(64 << 20, 256 << 20) } else { (4 * last).clamp(256 << 20, 1 << 30) };
    // From a multiple of 2 MiB on. A slice across one has addresses that differ in many bits, of which Zen's first-level cache
    // takes some for others: it is then slower (experiment 083).
    let data = vec![1.0f32; (bytes + (2 << 20)) / 4];
    let data = &data[data.as_ptr().align_offset(2 << 20).min(data.len() - bytes / 4)..][..bytes / 4];
    let progress = Progress::new(tasks.len() * rounds);

    progress.say("the roofs");
    let surveyors = crews.iter().map(|crew| Surveyor::new(crew, &machine, isa, data));
    let mut surveyors = surveyors.collect::<Result<Vec<_>, _>>()?;
    for _ in 0..roof_rounds {
        surveyors.iter_mut().try_for_each(Surveyor::round)?;
    }
    let head = [
        ("date", machine.date.clone()),
        ("cpu", machine.cpu.clone()),
        ("cpus", machine.cpus.to_string()),
        ("isa", isa.to_string()),
        // Through rustup these are those that cargo has just built with.
        ("compiler", machine::said("rustc", &["--version"])),
        ("commit", machine::said("git", &["describe", "--always", "--dirty", "--exclude=*"])),
        ("version depthwise", env!("CARGO_PKG_VERSION").to_owned()),
        ("caches", machine.sizes()),
        ("rounds", rounds.to_string()),
        ("turn_ms", turn_ms.to_string()),
    ];
    let head = head.map(|(key, value)| (key.to_owned(), value)).into();
    let mut report = Report { head, isa, roofs: Vec::new(), rows: Vec::new() };
    let mut left_out = Vec::new();
    let mut tasks = tasks.iter().peekable();
    while tasks.peek().is_some() {
        let mut group: Vec<(&Task, Prepared, Vec<f64>)> = Vec::new();
        let mut held = 0;
        while held < GROUP
            && let Some(task) = tasks.next()
        {
            let prepared = shapes::prepare(task.block, task.part, task.layout, isa, Placement::Lines)?;
            if args.quick && task.part == Part::Standard && prepared.cost.multiply_adds > QUICK_STANDARD {
                left_out.push(task.name());
                progress.bar.inc(rounds as u64);
                continue;
            }
            held += prepared.cost.bytes;
            group.push((task, prepared, vec![f64::INFINITY; crews.len()]));
        }
        // Rounds over the group, so that a disturbance of the machine is shared.
        for _ in 0..rounds {
            surveyors.iter_mut().try_for_each(Surveyor::round)?;
            for (task, prepared, best) in &mut group {
                progress.step(task);
                for (crew, best) in crews.iter().zip(best) {
                    *best = best.min(crew.turn(turn, |parallelism| (prepared.run)(parallelism))?);
                }
            }
        }
        for (task, prepared, best) in group {
            let between = (task.part == Part::Separable(Fusion::TwoPass)).then_some(prepared.between);
            let work = Work::new(prepared.cost, between);
            for ((crew, surveyor), seconds) in crews.iter().zip(&surveyors).zip(best) {
                let layer = shapes::layer(task.block, task.part, task.layout, isa, depthwise::Machine::detect())?;
                let predicted = model::predict(&layer, crew.threads)?.seconds;
                report.rows.push(Row {
                    operation: task.operation,
                    layout: task.layout,
                    layer: task.block.name.clone(),
                    network: task.network(),
                    count: task.block.count,
                    threads: crew.threads,
                    work,
                    seconds,
                    predicted,
                    bound: surveyor.roofs.bound(isa, &work),
                });
            }
        }
    }
    report.roofs = surveyors.into_iter().map(|surveyor| surveyor.roofs).collect();
    // Roofs rise until the last round.
    for row in &mut report.rows {
        let roofs = report.roofs.iter().find(|roofs| roofs.threads == row.threads);
        row.bound = roofs.expect("the roofs of every crew").bound(isa, &row.work);
    }
    let mut say = |key: &str, value| report.head.push((key.to_owned(), value));
    if !left_out.is_empty() {
        say(LEFT_OUT, left_out.join(", "));
    }
    let waited = before.max(Crew::longest_wait(&crews));
    say("busy", format!("{:.0} %", 100.0 * waited));
    if waited >= BUSY {
        say(NOTE, busy(waited));
    }
    Ok(report)
}

fn write(report: &Report, folder: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    // Plots of an earlier run, which may have had other threads.
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "svg") {
            std::fs::remove_file(path)?;
        }
    }
    std::fs::write(folder.join("report.md"), report.markdown()?)?;
    std::fs::write(folder.join("report.csv"), depthwise_benches::record::write(report)?)?;
    for roofs in &report.roofs {
        let name = if roofs.threads == 1 { "roofline.svg".into() } else { format!("roofline-{}.svg", roofs.threads) };
        plot::draw(report, roofs, &folder.join(name))?;
    }
    Ok(())
}

/// A bar on a terminal, elsewhere a line now and then.
struct Progress {
    bar: ProgressBar,
    said: std::cell::Cell<Instant>,
}

impl Progress {
    fn new(steps: usize) -> Self {
        let bar = ProgressBar::new(steps as u64);
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} %, {eta} left, {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, said: Instant::now().into() }
    }

    fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        if !std::io::stderr().is_terminal() {
            eprintln!("{:>3} %: {what}", 100 * self.bar.position() / self.bar.length().unwrap_or(1));
            self.said.set(Instant::now());
        }
    }

    fn step(&self, task: &Task) {
        self.bar.inc(1);
        if std::io::stderr().is_terminal() || self.said.get().elapsed() > Duration::from_secs(10) {
            self.say(&task.name());
        }
    }
}
