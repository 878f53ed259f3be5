//! Shapes from public bug reports, which are none of the usual ones: how much slower they are, and whether a label matters.
//!
//!     cargo bench --bench cliffs -- [--isa avx2] [--layout nhwc] [--filter REGEX] [--seconds 0.05]
//!
//! A case's speed is compared with that of a usual shape of its operation, and with the memory's roof: where either is near, it is no
//! cliff. A pair is the same memory under two labels, which give the same bits: neither should take longer than the other. It runs on
//! one thread, on tensors that start on cache lines. The cases are those of `benches/shapes/public_reports.json`.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use depthwise::{
    Conv2d, Convolution, DepthwiseConv2d, Isa, Layout, Padding, PointwiseConv2d, Run, SeparableConv2d, Shape,
    TensorView, TensorViewMut, Workspace,
};
use depthwise_benches::command;
use depthwise_benches::crew::{BUSY, Crew, busy};
use depthwise_benches::machine::Machine;
use depthwise_benches::measure::Surveyor;
use depthwise_benches::roof::Work;
use depthwise_testkit::shapes;
use regex::Regex;
use serde::Deserialize;

#[derive(Parser)]
#[command(about = "Measures shapes from public bug reports against usual ones")]
struct Args {
    /// portable, avx2, avx512 or neon; the best of this CPU by default
    #[arg(long, value_parser = command::isa)]
    isa: Option<Isa>,
    #[arg(long, default_value = "both", value_parser = ["nhwc", "nchw", "both"])]
    layout: String,
    /// Only what matches this regular expression in layout/name
    #[arg(long)]
    filter: Option<Regex>,
    /// Measuring time for each case
    #[arg(long, default_value_t = 0.1)]
    seconds: f64,
    /// Prints all cases and pairs, not the worst alone
    #[arg(long)]
    all: bool,
    /// A few small cases, for a moment: whether this program works
    #[arg(long)]
    test: bool,
    /// What cargo bench adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// A case is a cliff if it takes more than so many times as long for a multiply-add as a usual shape,
const CLIFF: f64 = 2.0;
/// and reaches less than that of the roof of its memory.
const OF_ROOF: f64 = 0.6;
/// Two labels of the same memory may be so far apart.
const APART: f64 = 1.1;
const WORST: usize = 10;
/// Elements that are read to measure the memory: more than caches hold.
const MEMORY: usize = 1 << 26;
/// Multiply-adds of the largest case of a test.
const SMALL: u64 = 1 << 20;

#[derive(Deserialize)]
struct Reports {
    cases: Vec<Case>,
    pairs: Vec<Pair>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Operation {
    Depthwise,
    Pointwise,
    Separable,
    Conv2d,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(flatten)]
    convolution: Convolved,
}

/// The same memory under two labels.
#[derive(Deserialize)]
struct Pair {
    name: String,
    said: Labelled,
    same: Labelled,
}

#[derive(Deserialize)]
struct Labelled {
    layout: String,
    #[serde(flatten)]
    convolution: Convolved,
}

#[derive(Deserialize)]
struct Convolved {
    op: Operation,
    /// Batch, channels, height, width.
    input: [usize; 4],
    outputs: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    /// Top, left, bottom, right.
    padding: [usize; 4],
}

/// A plan and its tensors.
struct Ready {
    plan: Box<dyn Convolution>,
    input: Shape,
    output: Shape,
    x: Vec<f32>,
    y: Vec<f32>,
    workspace: Workspace,
}

impl Convolved {
    fn ready(&self, isa: Isa, layout: Layout) -> Result<Ready, depthwise::Error> {
        let ([n, c, h, w], [kh, kw]) = (self.input, self.kernel);
        let values = |len: usize| (0..len).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect::<Vec<f32>>();
        let [top, left, bottom, right] = self.padding;
        let padding = Padding::explicit(top, left, bottom, right);
        let bias = values(self.outputs);
        macro_rules! window {
            ($builder:expr) => {
                $builder
                    .layout(layout)
                    .isa(isa)
                    .kernel_size([kh, kw])
                    .stride(self.stride)
                    .dilation(self.dilation)
                    .padding(padding)
                    .bias(&bias)
            };
        }
        let plan: Box<dyn Convolution> = match self.op {
            Operation::Depthwise => {
                let weights = values(self.outputs * kh * kw);
                let builder = DepthwiseConv2d::builder(c).channel_multiplier(self.outputs / c).weights(&weights);
                Box::new(window!(builder).build()?)
            }
            Operation::Pointwise => {
                let weights = values(self.outputs * c);
                let builder = PointwiseConv2d::builder(c, self.outputs).weights(&weights);
                Box::new(builder.layout(layout).isa(isa).bias(&bias).build()?)
            }
            Operation::Separable => {
                let (depthwise, pointwise) = (values(c * kh * kw), values(self.outputs * c));
                let builder = SeparableConv2d::builder(c, self.outputs).depthwise_weights(&depthwise);
                Box::new(window!(builder.pointwise_weights(&pointwise)).build()?)
            }
            Operation::Conv2d => {
                let weights = values(self.outputs * c * kh * kw);
                Box::new(window!(Conv2d::builder(c, self.outputs).weights(&weights)).build()?)
            }
        };
        let input = Shape::new(n, c, h, w);
        let output = plan.output_shape(input)?;
        let [x, y] = [input, output].map(|shape| values(shape.len().unwrap_or(0) + LINE));
        Ok(Ready { plan, input, output, x, y, workspace: Workspace::new() })
    }
}

/// Elements of a cache line.
const LINE: usize = 16;

/// As much of it as that, from a cache line on.
fn on_line(data: &mut [f32], shape: Shape) -> &mut [f32] {
    let start = data.as_ptr().align_offset(64).min(LINE);
    &mut data[start..start + shape.len().unwrap_or(0)]
}

impl Ready {
    /// Seconds of the fastest run.
    fn measure(&mut self, crew: &Crew, turn: Duration) -> Result<f64, depthwise::Error> {
        let Self { plan, input, output, x, y, workspace } = self;
        let layout = plan.layout();
        let (x, y) = (&*on_line(x, *input), on_line(y, *output));
        crew.turn(turn, |parallelism| {
            let run = Run::new(TensorView::new(x, *input, layout)?, TensorViewMut::new(y, *output, layout)?, workspace);
            plan.run(run.parallelism(parallelism))
        })
    }

    fn work(&self) -> Result<Work, depthwise::Error> {
        Ok(Work::new(self.plan.cost(self.input)?, None))
    }
}

/// The shape that others are compared with: multiply-adds of usual layers.
fn usual(op: Operation) -> Convolved {
    let (input, outputs, kernel) = match op {
        Operation::Depthwise => ([1, 128, 56, 56], 128, [3, 3]),
        Operation::Pointwise => ([1, 256, 28, 28], 256, [1, 1]),
        Operation::Separable => ([1, 128, 28, 28], 128, [3, 3]),
        Operation::Conv2d => ([1, 64, 28, 28], 64, [3, 3]),
    };
    let pad = kernel[0] / 2;
    Convolved { op, input, outputs, kernel, stride: [1, 1], dilation: [1, 1], padding: [pad; 4] }
}

/// What was measured of a case.
struct Measured {
    name: String,
    seconds: f64,
    /// How many times as long as a usual shape it takes for a multiply-add.
    times: f64,
    /// What of its memory's roof it reaches.
    of_roof: f64,
}

impl Measured {
    fn is_cliff(&self) -> bool {
        self.times > CLIFF && self.of_roof < OF_ROOF
    }

    /// How far below the nearer of the two it is.
    fn distance(&self) -> f64 {
        (self.times / CLIFF).min(OF_ROOF / self.of_roof)
    }
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    // `cargo test --all-targets` runs this too.
    args.test |= !args.bench;
    command::end(run(&args))
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let isa = args.isa.unwrap_or_else(Isa::detect);
    let reports: Reports = serde_json::from_str(&std::fs::read_to_string(shapes::table("public_reports"))?)?;
    let crew = Crew::new(1)?;
    let waited = if args.test { 0.0 } else { crew.waits() };
    if waited >= BUSY {
        eprintln!("warning: {}", busy(waited));
    }
    let memory = vec![1.0; if args.test { 1 << 16 } else { MEMORY }];
    let start = memory.as_ptr().align_offset(64).min(LINE);
    let mut surveyor = Surveyor::new(&crew, &Machine::this(), isa, &memory[start..])?;
    for _ in 0..if args.test { 1 } else { 20 } {
        surveyor.round()?;
    }
    let turn = Duration::from_secs_f64(if args.test { 0.0 } else { args.seconds });
    let asked = |name: &str| args.filter.as_ref().is_none_or(|filter| filter.is_match(name));
    let small =
        |ready: &Ready| Ok::<_, depthwise::Error>(!args.test || ready.plan.cost(ready.input)?.multiply_adds < SMALL);
    let rate = |ready: &mut Ready| -> Result<(f64, f64), depthwise::Error> {
        let seconds = ready.measure(&crew, turn)?;
        Ok((seconds, ready.work()?.operations / seconds * 1e-9))
    };

    let mut cases = Vec::new();
    for layout in
        [Layout::Nhwc, Layout::Nchw].into_iter().filter(|layout| ["both", layout.name()].contains(&&*args.layout))
    {
        let mut usual_rates = Vec::new();
        for op in [Operation::Depthwise, Operation::Pointwise, Operation::Separable, Operation::Conv2d] {
            usual_rates.push((op, rate(&mut usual(op).ready(isa, layout)?)?.1));
        }
        for case in &reports.cases {
            let name = format!("{layout}/{}", case.name);
            let mut ready = case.convolution.ready(isa, layout)?;
            if !asked(&name) || !small(&ready)? {
                continue;
            }
            let (seconds, gflops) = rate(&mut ready)?;
            let usual = usual_rates.iter().find(|usual| usual.0 == case.convolution.op);
            let usual = usual.ok_or("a usual shape is missing")?.1;
            let work = ready.work()?;
            let holds = surveyor.roofs.levels.iter().find(|level| work.footprint <= level.capacity);
            let bandwidth = holds.ok_or("memory holds anything")?.bandwidth;
            let of_roof = gflops / (work.intensity() * bandwidth);
            cases.push(Measured { name, seconds, times: usual / gflops, of_roof });
        }
    }
    let mut pairs = Vec::new();
    for Pair { name, said, same } in &reports.pairs {
        let layouts: [Layout; 2] = [said.layout.parse()?, same.layout.parse()?];
        let name = format!("{}/{name}", layouts[0]);
        let (mut a, mut b) = (said.convolution.ready(isa, layouts[0])?, same.convolution.ready(isa, layouts[1])?);
        if !asked(&name) || !small(&a)? {
            continue;
        }
        // In turns, so that what disturbs the CPU disturbs both.
        let mut seconds = [f64::INFINITY; 2];
        for _ in 0..3 {
            seconds[0] = seconds[0].min(a.measure(&crew, turn / 6)?);
            seconds[1] = seconds[1].min(b.measure(&crew, turn / 6)?);
        }
        pairs.push((name, seconds));
    }
    if cases.is_empty() && pairs.is_empty() {
        return Err("no case matches the filter: it looks at names such as nhwc/dw 64ch 112x112 k4 s4".into());
    }
    print(args, isa, cases, pairs);
    Ok(())
}

fn print(args: &Args, isa: Isa, mut cases: Vec<Measured>, mut pairs: Vec<(String, [f64; 2])>) {
    cases.sort_by(|a, b| b.distance().total_cmp(&a.distance()));
    let ratio = |[said, same]: [f64; 2]| said.max(same) / said.min(same);
    pairs.sort_by(|a, b| ratio(b.1).total_cmp(&ratio(a.1)));
    let cliffs = cases.iter().filter(|case| case.is_cliff()).count();
    println!(
        "{isa}, one thread: {cliffs} of {} cases take more than {CLIFF} times as long for a multiply-add as a usual shape, and reach less than {:.0} % of their memory's roof.",
        cases.len(),
        100.0 * OF_ROOF
    );
    let shown = |all: usize| if args.all { all } else { WORST };
    println!("{:>10}  {:>6}  {:>6}", "µs", "times", "roof");
    for Measured { name, seconds, times, of_roof } in cases.iter().take(shown(cases.len())) {
        println!("{:10.1}  {times:6.2}  {:4.0} %  {name}", 1e6 * seconds, 100.0 * of_roof);
    }
    let apart = pairs.iter().filter(|pair| ratio(pair.1) > APART).count();
    println!("\n{apart} of {} pairs of labels for the same memory are more than {APART} times apart.", pairs.len());
    println!("{:>10}  {:>10}  {:>6}", "µs", "relabelled", "ratio");
    for (name, seconds) in pairs.iter().take(shown(pairs.len())) {
        println!("{:10.1}  {:10.1}  {:6.2}  {name}", 1e6 * seconds[0], 1e6 * seconds[1], ratio(*seconds));
    }
    if args.test {
        println!("a test: these figures say nothing. `cargo bench --bench cliffs` measures.");
    }
}
