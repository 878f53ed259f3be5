//! Times depthwise separable blocks: one JSON line a block, then the measured peak of multiply-adds.
//!
//!     cargo run --release --example blocks -- [SHAPES.json] [--block NAME] [--part block|dw|pw] …

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use depthwise::{
    Activation, DepthwiseConv2d, Isa, Layout, Padding, Parallelism, PointwiseConv2d, SeparableConv2d, Shape,
    TensorView, TensorViewMut, Workspace,
};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde::Deserialize;

#[derive(Parser)]
#[command(about = "Times depthwise separable blocks")]
struct Args {
    /// Blocks to time: the form of benches/shapes/blocks.json
    #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/shapes/blocks.json"))]
    shapes: PathBuf,
    /// Only the blocks whose name contains this
    #[arg(long)]
    block: Option<String>,
    /// The whole block, or one of its stages alone
    #[arg(long, value_enum, default_value_t = Part::Block)]
    part: Part,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// nhwc or nchw
    #[arg(long, default_value = "nhwc")]
    layout: Layout,
    /// portable, avx2, avx512 or neon; the best of this CPU by default
    #[arg(long)]
    isa: Option<Isa>,
    /// Measuring time for each block, in milliseconds
    #[arg(long, default_value_t = 400)]
    budget: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Block,
    Dw,
    Pw,
}

#[derive(Deserialize)]
struct Shapes {
    blocks: Vec<Block>,
}

#[derive(Deserialize)]
struct Block {
    name: String,
    n: usize,
    c: usize,
    h: usize,
    w: usize,
    k: usize,
    stride: usize,
    pad: usize,
    dilation: usize,
    m: usize,
    act: String,
}

/// A slice of a `Vec` that starts on a cache line, as engines' allocators give them.
struct Aligned {
    data: Vec<f32>,
    start: usize,
}

impl Aligned {
    fn random(len: usize, rng: &mut impl Rng) -> Self {
        let data: Vec<f32> = (0..len + 16).map(|_| rng.random_range(-1.0..1.0)).collect();
        let start = data.as_ptr().align_offset(64).min(16);
        Self { data, start }
    }

    fn get(&self) -> &[f32] {
        &self.data[self.start..]
    }

    fn get_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..]
    }
}

type Run = Box<dyn FnMut() -> Result<(), depthwise::Error> + Send>;

/// Runs one block once.
fn prepare(block: &Block, args: &Args, isa: Isa) -> Result<Run, Box<dyn Error>> {
    let mut rng = StdRng::seed_from_u64(1);
    let activation = match block.act.as_str() {
        "none" => Activation::None,
        "relu6" => Activation::Relu6,
        other => {
            return Err(format!("block {}: there is no activation `{other}`: use none or relu6", block.name).into());
        }
    };
    let depthwise_weights = Aligned::random(block.c * block.k * block.k, &mut rng);
    let depthwise_weights = &depthwise_weights.get()[..block.c * block.k * block.k];
    let pointwise_weights = Aligned::random(block.m * block.c, &mut rng);
    let pointwise_weights = &pointwise_weights.get()[..block.m * block.c];
    let depthwise_bias = vec![0.1; block.c];
    let bias = vec![0.2; block.m];
    let parallelism = if args.threads == 1 { Parallelism::Serial } else { Parallelism::Rayon };
    let mut workspace = Workspace::new();
    let shape = Shape::new(block.n, block.c, block.h, block.w);
    macro_rules! run {
        ($plan:expr, $input:expr) => {{
            let (plan, shape) = ($plan, $input);
            let to = plan.output_shape(shape)?;
            let len = |shape: Shape| shape.len().ok_or("a tensor's size overflows");
            let input = Aligned::random(len(shape)?, &mut rng);
            let mut output = Aligned::random(len(to)?, &mut rng);
            let layout = args.layout;
            Ok(Box::new(move || {
                plan.run(
                    TensorView::new(input.get(), shape, layout)?,
                    TensorViewMut::new(output.get_mut(), to, layout)?,
                    &mut workspace,
                    parallelism,
                )
            }))
        }};
    }
    let depthwise = || {
        DepthwiseConv2d::builder(block.c)
            .kernel_size([block.k; 2])
            .stride([block.stride; 2])
            .dilation([block.dilation; 2])
            .padding(Padding::symmetric(block.pad, block.pad))
            .layout(args.layout)
            .isa(isa)
            .weights(depthwise_weights)
            .bias(&depthwise_bias)
            .activation(activation)
            .build()
    };
    match args.part {
        Part::Dw => run!(depthwise()?, shape),
        Part::Pw => {
            let between = depthwise()?.output_shape(shape)?;
            let plan = PointwiseConv2d::builder(block.c, block.m)
                .layout(args.layout)
                .isa(isa)
                .weights(pointwise_weights)
                .bias(&bias)
                .activation(activation)
                .build()?;
            run!(plan, between)
        }
        Part::Block => {
            let plan = SeparableConv2d::builder(block.c, block.m)
                .kernel_size([block.k; 2])
                .stride([block.stride; 2])
                .dilation([block.dilation; 2])
                .padding(Padding::symmetric(block.pad, block.pad))
                .layout(args.layout)
                .isa(isa)
                .depthwise_weights(depthwise_weights)
                .depthwise_bias(&depthwise_bias)
                .depthwise_activation(activation)
                .pointwise_weights(pointwise_weights)
                .bias(&bias)
                .activation(activation)
                .build()?;
            run!(plan, shape)
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let isa = args.isa.unwrap_or_else(Isa::detect);
    let text = std::fs::read_to_string(&args.shapes).map_err(|e| format!("{}: {e}", args.shapes.display()))?;
    let shapes: Shapes = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", args.shapes.display()))?;
    let wanted = |block: &&Block| args.block.as_ref().is_none_or(|name| block.name.contains(name.as_str()));
    let blocks: Vec<&Block> = shapes.blocks.iter().filter(wanted).collect();
    if blocks.is_empty() {
        return Err(format!("no block of {} has such a name", args.shapes.display()).into());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build()?;
    let mut runs = blocks.iter().map(|block| prepare(block, &args, isa)).collect::<Result<Vec<_>, _>>()?;
    // Rounds over all blocks, so that a disturbance of the machine is shared; each block's fastest call counts.
    let slice = Duration::from_millis(20);
    let mut best = vec![f64::INFINITY; runs.len()];
    let mut peak = 0.0f64;
    for _ in 0..args.budget.div_ceil(20) {
        peak = peak.max(isa.peak_gflops()?);
        for (run, best) in runs.iter_mut().zip(&mut best) {
            pool.install(|| {
                let start = Instant::now();
                while start.elapsed() < slice {
                    let call = Instant::now();
                    run()?;
                    *best = best.min(call.elapsed().as_secs_f64());
                }
                Ok::<(), depthwise::Error>(())
            })?;
        }
    }
    let part = args.part.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
    for (block, seconds) in blocks.iter().zip(&best) {
        let line = serde_json::json!({
            "name": block.name, "threads": args.threads, "layout": args.layout.name(), "part": part,
            "us": (seconds * 1e8).round() / 100.0,
        });
        println!("{line}");
    }
    println!("{}", serde_json::json!({ "peak_gflops": (peak * 10.0).round() / 10.0, "isa": isa.name() }));
    Ok(())
}
