//! Runs a trained network on photographs, on the public API of `depthwise` alone.
//!
//! ```text
//! cargo run --release --example network                       # EfficientNet-Lite0, the bundled photographs
//! cargo run --release --example network -- cat.jpg dog.png    # your own
//! cargo run --release --example network -- --profile          # what each layer costs
//! ```
//!
//! A network is a folder with `arch.json` (format `dwx-arch/1`) and `model.safetensors`. The modules, in
//! the order in which data flows: `arch` reads the description, `engine` builds the plans and runs them,
//! `ops` has the layers that are not convolutions, `photo` and `files` read and write, `profile` measures.

mod arch;
mod engine;
mod files;
mod ops;
mod photo;
mod profile;

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use depthwise::{Isa, Layout, Parallelism};

use arch::{Arch, Op, Result};
use engine::{Network, Options};
use files::Tensors;

/// How often an image is run, after a warm-up, to find its shortest time.
const RUNS: usize = 5;
/// How often the profile runs the network.
const PROFILE_RUNS: usize = 10;
/// How many classes are printed per photograph.
const BEST: usize = 5;

/// Runs a network of the format dwx-arch/1 on photographs or on tensors.
#[derive(Parser)]
struct Args {
    /// Photographs to classify [default: those in examples/models/images]
    photos: Vec<PathBuf>,
    /// Folder with arch.json and model.safetensors [default: examples/models/efficientnet_lite0]
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Read the inputs from this file: images_u8 [n,h,w,c], or images_f32 [n,c,h,w] already normalised
    #[arg(long, value_name = "FILE.safetensors", requires = "outputs", conflicts_with = "photos")]
    inputs: Option<PathBuf>,
    /// Write the network's first output for all inputs to this file, as the tensor output0
    #[arg(long, value_name = "FILE.safetensors", requires = "inputs")]
    outputs: Option<PathBuf>,
    /// Print a table of what each layer costs, on the first input
    #[arg(long)]
    profile: bool,
    /// Instruction set: portable, avx2, avx512 or neon [default: the best of this CPU]
    #[arg(long, value_name = "NAME")]
    isa: Option<Isa>,
    /// Threads to compute with
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads)]
    threads: usize,
    /// Order of the activations in memory: nchw or nhwc
    #[arg(long, default_value_t = Layout::Nhwc)]
    layout: Layout,
}

/// More threads than any machine has are a slip of the finger.
fn threads(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=1024) => Ok(threads),
        _ => Err("a number of threads is 1 to 1024".into()),
    }
}

fn main() -> ExitCode {
    match start(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<()> {
    if args.threads == 1 {
        return work(args, Parallelism::Serial);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build();
    let pool = pool.map_err(|error| format!("can not start {} threads: {error}", args.threads))?;
    pool.install(|| work(args, Parallelism::Rayon))
}

fn work(args: &Args, parallelism: Parallelism) -> Result<()> {
    let folder = args.model.clone().unwrap_or_else(|| models().join("efficientnet_lite0"));
    let network = Network::load(&folder, Options { layout: args.layout, isa: args.isa })?;
    let mut out = std::io::stdout().lock();
    print(
        &mut out,
        format_args!(
            "{}: {} layers in {} steps, {}, {} thread(s)",
            network.arch.name,
            network.arch.layers.len(),
            network.steps.len(),
            args.layout,
            args.threads
        ),
    )?;
    let first_input = match (&args.inputs, &args.outputs) {
        (Some(inputs), Some(outputs)) => run_tensors(&network, inputs, outputs, parallelism, &mut out)?,
        _ => run_photos(&network, &folder, &args.photos, parallelism, &mut out)?,
    };
    match first_input {
        Some(input) if args.profile => {
            profile::profile(&network, &input, parallelism, args.threads, PROFILE_RUNS, &mut out)
        }
        _ => Ok(()),
    }
}

/// Runs every image of a file, writes the outputs, and returns the first input.
fn run_tensors(
    network: &Network,
    inputs: &Path,
    outputs: &Path,
    parallelism: Parallelism,
    out: &mut dyn Write,
) -> Result<Option<Vec<f32>>> {
    let bytes = files::read(inputs)?;
    let images = Tensors::parse(&bytes).and_then(|tensors| tensors.images(&network.arch.input));
    let images = images.map_err(|error| format!("{}: {error}", inputs.display()))?;
    let mut scratch = network.scratch()?;
    let mut rows = Vec::with_capacity(images.len());
    for image in &images {
        let output = network.run(&mut scratch, &network.arrange(image), parallelism, |_| ())?;
        rows.push(network.nchw_output(output));
    }
    files::write_outputs(outputs, &network.arch.output_dims(), &rows)?;
    print(out, format_args!("{}: output0 of {} image(s)", outputs.display(), rows.len()))?;
    Ok(images.first().map(|image| network.arrange(image)))
}

/// Prints what the network sees in each photograph, and returns the first input.
fn run_photos(
    network: &Network,
    folder: &Path,
    photos: &[PathBuf],
    parallelism: Parallelism,
    out: &mut dyn Write,
) -> Result<Option<Vec<f32>>> {
    let labels = labels(&network.arch, folder)?;
    let photos = if photos.is_empty() { bundled_photos()? } else { photos.to_vec() };
    print(out, format_args!("times are the shortest of {RUNS} runs after a warm-up"))?;
    let mut scratch = network.scratch()?;
    let mut first_input = None;
    for photo in &photos {
        let pixels = photo::load(photo, &network.arch.input)?;
        let input = network.arrange(&network.arch.input.normalise(&pixels));
        let output = network.run(&mut scratch, &input, parallelism, |_| ())?;
        let classes = classes(&network.arch, &network.nchw_output(output));
        let mut best = Duration::MAX;
        for _ in 0..RUNS {
            let start = Instant::now();
            network.run(&mut scratch, &input, parallelism, |_| ())?;
            best = best.min(start.elapsed());
        }
        let name = photo.file_name().unwrap_or(photo.as_os_str()).to_string_lossy();
        print(out, format_args!("{name}  {:.2} ms", best.as_secs_f64() * 1e3))?;
        for (class, share) in classes {
            let label = labels.get(class).map_or_else(|| format!("class {class}"), String::clone);
            print(out, format_args!("  {:5.1} %  {label}", 100.0 * share))?;
        }
        first_input.get_or_insert(input);
    }
    Ok(first_input)
}

/// The strongest classes: by probability, or, where the output is a map, by their share of its pixels.
fn classes(arch: &Arch, output: &[f32]) -> Vec<(usize, f64)> {
    let layer = arch.output_layer();
    let pixels = layer.shape.h * layer.shape.w;
    let shares: Vec<f64> = if pixels > 1 {
        let mut shares = vec![0.0; layer.shape.c];
        for pixel in 0..pixels {
            let value = |class: &usize| output[class * pixels + pixel];
            let strongest = (0..shares.len()).max_by(|a, b| value(a).total_cmp(&value(b)));
            strongest.into_iter().for_each(|class| shares[class] += 1.0 / pixels as f64);
        }
        shares
    } else if matches!(layer.op, Op::Softmax) {
        output.iter().copied().map(f64::from).collect()
    } else {
        // Logits.
        let largest = output.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<_> = output.iter().map(|&value| f64::from(value - largest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    };
    let mut classes: Vec<_> = shares.into_iter().enumerate().collect();
    classes.sort_by(|a, b| b.1.total_cmp(&a.1));
    classes.truncate(BEST);
    classes
}

/// The names of the classes: `labels.txt`, else those in the description.
fn labels(arch: &Arch, folder: &Path) -> Result<Vec<String>> {
    let labels = files::read_labels(&folder.join("labels.txt"))?;
    Ok(if labels.is_empty() { arch.classes.clone() } else { labels })
}

/// The folder of the bundled models: where this example was compiled, else below the current one.
fn models() -> PathBuf {
    let compiled = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/models");
    if compiled.is_dir() { compiled } else { "examples/models".into() }
}

fn bundled_photos() -> Result<Vec<PathBuf>> {
    let folder = models().join("images");
    let in_folder = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut photos = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(in_folder)? {
        let path = entry.map_err(in_folder)?.path();
        if path.extension().is_some_and(|extension| extension == "png") {
            photos.push(path);
        }
    }
    photos.sort();
    Ok(photos)
}

/// Like `println!`, which panics where nobody reads on.
fn print(out: &mut dyn Write, line: impl Display) -> Result<()> {
    writeln!(out, "{line}").map_err(|error| format!("standard output: {error}"))
}
