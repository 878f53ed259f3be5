//! Times depthwise separable blocks: one JSON line a block, then the measured peak of multiply-adds.
//!
//!     cargo run --release --example blocks -- [SHAPES.json] [--block NAME] [--part block|dw|pw] [--type f32|f16|bf16|u8|i8] …

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use depthwise::int8::Rounding;
use depthwise::{Fusion, Isa, Layout, Parallelism, bf16, f16};

use depthwise_testkit::shapes::{self, Block, Part, Placement};

#[derive(Parser)]
#[command(about = "Times depthwise separable blocks")]
struct Args {
    /// Blocks to time: the form of benches/shapes/blocks.json
    #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/shapes/blocks.json"))]
    shapes: PathBuf,
    /// Only the blocks whose name contains this
    #[arg(long)]
    block: Option<String>,
    /// The whole block, or one of its stages alone
    #[arg(long, default_value = "block", value_parser = ["block", "dw", "pw"])]
    part: String,
    /// Of the elements of input, output, and what lies between. With one of 8 bits, f32 is measured beside it
    #[arg(long = "type", default_value = "f32", value_parser = ["f32", "f16", "bf16", "u8", "i8"])]
    element: String,
    /// Of 8 bits, round as TensorFlow Lite's reference kernels do, not to the nearest even number
    #[arg(long)]
    tflite: bool,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// nhwc or nchw
    #[arg(long, default_value = "nhwc")]
    layout: Layout,
    /// portable, avx2, avx512, avx512vnni or neon; the best of this CPU by default
    #[arg(long)]
    isa: Option<Isa>,
    /// Where input and output lie: as a large `Vec` does, on cache lines as engines' allocators place them, or once each
    #[arg(long, default_value = "vec", value_parser = ["lines", "vec", "both"])]
    placement: String,
    /// Measuring time for each block, in milliseconds
    #[arg(long, default_value_t = 400)]
    budget: u64,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let is_int8 = matches!(args.element.as_str(), "u8" | "i8");
    let isa = args.isa.unwrap_or_else(if is_int8 { Isa::detect_int8 } else { Isa::detect });
    let part = match args.part.as_str() {
        "dw" => Part::Depthwise,
        "pw" => Part::Pointwise,
        _ => Part::Separable(Fusion::Auto),
    };
    let parallelism = if args.threads == 1 { Parallelism::Serial } else { Parallelism::Rayon };
    let blocks = shapes::load(&args.shapes)?;
    let wanted = |block: &&Block| args.block.as_ref().is_none_or(|name| block.name.contains(name.as_str()));
    let blocks: Vec<&Block> = blocks.iter().filter(wanted).collect();
    if blocks.is_empty() {
        return Err(format!("no block of {} has such a name", args.shapes.display()).into());
    }
    if args.threads == 0 {
        return Err("--threads is 0: it must be at least 1".into());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build()?;
    let placements = Placement::named(&args.placement);
    let lines: Vec<_> = blocks.iter().flat_map(|&block| placements.iter().map(move |&place| (block, place))).collect();
    let prepare_as = match args.element.as_str() {
        "f16" => shapes::prepare_as::<f16>,
        "bf16" => shapes::prepare_as::<bf16>,
        _ => shapes::prepare_as::<f32>,
    };
    let prepare = |&(block, place): &_| prepare_as(block, part, args.layout, isa, place);
    let mut prepared = lines.iter().map(|line| Ok(prepare(line)?.run)).collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    if is_int8 {
        let rounding = if args.tflite { Rounding::Tflite } else { Rounding::NearestEven };
        let prepare_int8 = if args.element == "u8" { shapes::prepare_int8::<u8> } else { shapes::prepare_int8::<i8> };
        for &(block, place) in &lines {
            prepared.push(prepare_int8(block, part, args.layout, isa, place, rounding)?);
        }
    }
    // Rounds over all blocks, so that a disturbance of the machine is shared; each block's fastest call counts.
    let slice = Duration::from_millis(20);
    let mut best = vec![f64::INFINITY; prepared.len()];
    let mut peak = 0.0f64;
    for _ in 0..args.budget.div_ceil(20) {
        peak = peak.max(if is_int8 { isa.peak_gops()? } else { isa.peak_gflops()? });
        for (run, best) in prepared.iter_mut().zip(&mut best) {
            pool.install(|| {
                let start = Instant::now();
                while start.elapsed() < slice {
                    let call = Instant::now();
                    run(parallelism)?;
                    *best = best.min(call.elapsed().as_secs_f64());
                }
                Ok::<(), depthwise::Error>(())
            })?;
        }
    }
    let rounded = |x: f64| (x * 100.0).round() / 100.0;
    let (of_f32, of_type) = best.split_at(best.len() - lines.len());
    for (i, ((block, placement), seconds)) in lines.iter().zip(of_type).enumerate() {
        let mut line = serde_json::json!({
            "name": block.name, "threads": args.threads, "layout": args.layout.name(), "part": args.part,
            "type": args.element, "placement": placement.name(),
            "us": rounded(seconds * 1e6),
        });
        if is_int8 {
            line["f32_us"] = rounded(of_f32[i] * 1e6).into();
            line["gain"] = rounded(of_f32[i] / seconds).into();
        }
        println!("{line}");
    }
    let mut last = serde_json::json!({ "isa": isa.name() });
    last[if is_int8 { "peak_gops" } else { "peak_gflops" }] = ((peak * 10.0).round() / 10.0).into();
    if is_int8 {
        last["gain"] = rounded(of_f32.iter().sum::<f64>() / of_type.iter().sum::<f64>()).into();
        last["blocks"] = lines.len().into();
        last["slower_than_f32"] =
            of_f32.iter().zip(of_type).filter(|(of_f32, of_type)| of_type > of_f32).count().into();
    }
    println!("{last}");
    Ok(())
}
