//! The command line, and what it asks for: photographs or tensors in, classes or tensors out.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use depthwise::{ElementType, Isa, Layout, Parallelism, bf16, f16};

use crate::arch::{Arch, Op, Result, counted};
use crate::engine::{self, Network, Options, Scratch, Stored};
use crate::files::{self, Tensors};
use crate::{photo, profile, tflite};

/// How often an image is run, after a warm-up, to find its shortest time.
pub(crate) const RUNS: usize = 5;
/// How often the profile runs the network.
const PROFILE_RUNS: usize = 10;
/// How many classes are printed per image.
const BEST: usize = 5;

/// Runs a network of the format dwx-arch/1, or of 8 bits from a TFLite file, on photographs or on tensors.
///
/// A photograph that cannot be read is reported, and the others are classified nevertheless. The exit status
/// is 1 if anything went wrong.
#[derive(Parser)]
pub struct Args {
    /// Photographs to classify, PNG or JPEG [default: those in examples/models/images]. A JPEG that is cut short
    /// or damaged is decoded as far as it goes, without an error
    pub(crate) photos: Vec<PathBuf>,
    /// Folder with arch.json and model.safetensors, or with model.tflite of 8 bits, or such a file [default:
    /// examples/models/efficientnet_lite0, then examples/models/visual_wake_words_i8]
    #[arg(long, value_name = "DIR|FILE.tflite")]
    pub(crate) model: Option<PathBuf>,
    /// Read the inputs from this file: images_u8 [n,h,w,c], or images_f32 [n,c,h,w] already normalised. For a TFLite file: images_u8
    /// (whose names may be in the metadata), or one tensor for each input
    #[arg(long, value_name = "FILE.safetensors", conflicts_with = "photos")]
    pub(crate) inputs: Option<PathBuf>,
    /// Write the network's first output for all inputs to this file, as the tensor output0, and print no classes
    #[arg(long, value_name = "FILE.safetensors", requires = "inputs")]
    pub(crate) outputs: Option<PathBuf>,
    /// Write every operator's output for every input to this file, as tensors INPUT.LLL (a TFLite file's networks only)
    #[arg(long, value_name = "FILE.safetensors", requires = "inputs")]
    pub(crate) all_layers: Option<PathBuf>,
    /// Make 8 bits of the network of f32, with the ranges that its tensors have on the photographs, and write it to this folder, for
    /// --model to run
    #[arg(long, value_name = "DIR", conflicts_with_all = ["inputs", "outputs", "all_layers"])]
    pub(crate) quantize: Option<PathBuf>,
    /// Print a table of what each layer costs, on the first input
    #[arg(long)]
    profile: bool,
    /// Instruction set: portable, avx2, avx512 or neon [default: DEPTHWISE_ISA, else the best of this CPU]
    #[arg(long, value_name = "NAME")]
    isa: Option<Isa>,
    /// Threads to compute with
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads)]
    threads: usize,
    /// Order of the activations in memory: nchw or nhwc
    #[arg(long, default_value_t = Layout::Nhwc)]
    layout: Layout,
    /// Type of the elements of activations in memory: f32, f16 or bf16
    #[arg(long = "type", value_name = "TYPE", default_value = "f32", value_parser = ["f32", "f16", "bf16"])]
    element: String,
}

impl Args {
    /// The folder of the network of f32.
    pub(crate) fn folder(&self) -> PathBuf {
        self.model.clone().unwrap_or_else(|| models().join("efficientnet_lite0"))
    }
}

/// More threads than any machine has are a slip of the finger.
fn threads(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=1024) => Ok(threads),
        _ => Err("a number of threads is 1 to 1024".into()),
    }
}

/// Where the lines for the person at the terminal go.
pub(crate) struct Lines<'a> {
    out: &'a mut (dyn Write + Send),
    errors: &'a mut (dyn Write + Send),
    /// Whether no error was reported so far.
    fine: bool,
}

impl Lines<'_> {
    /// Like `println!`, which panics where nobody reads on.
    pub(crate) fn print(&mut self, line: impl Display) -> Result<()> {
        writeln!(self.out, "{line}").map_err(|error| format!("standard output: {error}"))
    }

    pub(crate) fn report(&mut self, error: &str) {
        self.fine = false;
        // There is nowhere to say that this cannot be said.
        let _ = writeln!(self.errors, "error: {error}");
    }
}

/// Does what the command line asks for, and says whether all went well: each error is a line of `errors`.
pub fn run(args: &Args, out: &mut (dyn Write + Send), errors: &mut (dyn Write + Send)) -> bool {
    let mut lines = Lines { out, errors, fine: true };
    if let Err(error) = start(args, &mut lines) {
        lines.report(&error);
    }
    lines.fine
}

fn start(args: &Args, lines: &mut Lines) -> Result<()> {
    let tflite = args.model.as_deref().and_then(tflite_file);
    if let Some(folder) = &args.quantize {
        if let Some(path) = tflite {
            return Err(format!("{}: it is of 8 bits already", path.display()));
        }
        expect_plain_options(args, "with --quantize")?;
        return tflite::command::quantize(folder, args, lines);
    }
    if let Some(path) = tflite {
        expect_plain_options(args, "on a TFLite file")?;
        return tflite::command::run(&path, args, lines);
    }
    if args.all_layers.is_some() {
        return Err("--all-layers is for networks of 8 bits, with --model FILE.tflite".into());
    }
    if args.threads == 1 {
        return work(args, Parallelism::Serial, lines);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build();
    let pool = pool.map_err(|error| format!("can not start {} threads: {error}", args.threads))?;
    pool.install(|| work(args, Parallelism::Rayon, lines))
}

/// The network of 8 bits that a path means: a file, or that of a folder.
fn tflite_file(path: &Path) -> Option<PathBuf> {
    if path.is_file() || path.extension().is_some_and(|extension| extension == "tflite") {
        return Some(path.into());
    }
    Some(path.join(tflite::command::FILE)).filter(|file| file.is_file())
}

/// What [`tflite`] has no use for.
fn expect_plain_options(args: &Args, at: &str) -> Result<()> {
    let given = [
        ("--profile", args.profile),
        ("--isa", args.isa.is_some()),
        ("--threads", args.threads != 1),
        ("--layout", args.layout != Layout::Nhwc),
        ("--type", args.element != "f32"),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(format!("{option} has no effect {at}: leave it out")),
        None => Ok(()),
    }
}

fn work(args: &Args, parallelism: Parallelism, lines: &mut Lines) -> Result<()> {
    match args.element.as_str() {
        "f16" => work_as::<f16>(args, parallelism, lines),
        "bf16" => work_as::<bf16>(args, parallelism, lines),
        _ => work_as::<f32>(args, parallelism, lines),
    }
}

fn work_as<E: Stored>(args: &Args, parallelism: Parallelism, lines: &mut Lines) -> Result<()> {
    // Before anything is read, so that an error about it blames neither the network nor one of its layers.
    let isa = engine::instruction_set(args.isa)?;
    let folder = args.folder();
    let network = Network::<E>::load_as(&folder, Options { layout: args.layout, isa: Some(isa) })?;
    lines.print(format_args!(
        "{}: {} in {}, {}, {}{isa}, {}",
        network.arch.name,
        counted(network.arch.layers.len(), "layer"),
        counted(network.steps.len(), "step"),
        args.layout,
        if E::TYPE == ElementType::F32 { String::new() } else { format!("{}, ", E::TYPE) },
        counted(args.threads, "thread")
    ))?;
    let first_input = match (&args.inputs, &args.outputs) {
        (Some(inputs), Some(outputs)) => run_tensors(&network, inputs, outputs, parallelism, lines)?,
        (Some(inputs), None) => {
            let mut classifier = Classifier::new(&network, &folder, parallelism)?;
            classifier.classify_tensors(inputs, lines)?
        }
        (None, _) => {
            let mut classifier = Classifier::new(&network, &folder, parallelism)?;
            if args.photos.is_empty() {
                let photos = bundled_photos()?;
                let first_input = classifier.classify_photos(&photos, lines)?;
                if args.model.is_none() {
                    lines.print(
                        "ImageNet's 1000 classes have no astronaut: that photograph gets the classes most like it",
                    )?;
                    tflite::command::classify(&models().join("visual_wake_words_i8/model.tflite"), &photos, lines)?;
                }
                first_input
            } else {
                classifier.classify_photos(&args.photos, lines)?
            }
        }
    };
    match first_input {
        Some(input) if args.profile => {
            profile::profile(&network, &input, parallelism, args.threads, PROFILE_RUNS, lines.out)
        }
        _ => Ok(()),
    }
}

/// The images of a file, normalised and in NCHW order.
fn read_images<E: Stored>(network: &Network<E>, path: &Path) -> Result<Vec<Vec<f32>>> {
    let bytes = files::read(path)?;
    let images = Tensors::parse(&bytes).and_then(|tensors| tensors.images(&network.arch.input));
    images.map_err(|error| format!("{}: {error}", path.display()))
}

/// Runs every image of a file, writes the outputs, and returns the first input.
fn run_tensors<E: Stored>(
    network: &Network<E>,
    inputs: &Path,
    outputs: &Path,
    parallelism: Parallelism,
    lines: &mut Lines,
) -> Result<Option<Vec<E>>> {
    let images = read_images(network, inputs)?;
    let mut scratch = network.scratch()?;
    let mut rows = Vec::with_capacity(images.len());
    for image in &images {
        let output = network.run(&mut scratch, &network.arrange(image), parallelism, |_, _| ())?;
        rows.push(network.nchw_output(output));
    }
    files::write_outputs(outputs, &network.arch.output_dims(), &rows)?;
    lines.print(format_args!("{}: output0 of {}", outputs.display(), counted(rows.len(), "image")))?;
    Ok(images.first().map(|image| network.arrange(image)))
}

/// Prints what a network sees in images.
struct Classifier<'a, E: Stored> {
    network: &'a Network<E>,
    labels: Vec<String>,
    scratch: Scratch<E>,
    parallelism: Parallelism<'a>,
}

impl<'a, E: Stored> Classifier<'a, E> {
    fn new(network: &'a Network<E>, folder: &Path, parallelism: Parallelism<'a>) -> Result<Self> {
        Ok(Self { network, labels: labels(&network.arch, folder)?, scratch: network.scratch()?, parallelism })
    }

    /// Classifies photographs, reports those that cannot be read, and returns the first input.
    fn classify_photos(&mut self, photos: &[PathBuf], lines: &mut Lines) -> Result<Option<Vec<E>>> {
        self.print_heading(lines)?;
        let mut first_input = None;
        for path in photos {
            let pixels = match photo::load(path, &self.network.arch.input) {
                Ok(pixels) => pixels,
                Err(error) => {
                    lines.report(&error);
                    continue;
                }
            };
            let input = self.network.arrange(&self.network.arch.input.normalise(&pixels));
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
            self.classify(&name, &input, lines)?;
            first_input.get_or_insert(input);
        }
        Ok(first_input)
    }

    /// Classifies every image of a file, and returns the first input.
    fn classify_tensors(&mut self, inputs: &Path, lines: &mut Lines) -> Result<Option<Vec<E>>> {
        let images = read_images(self.network, inputs)?;
        lines.print(format_args!("{}: {}", inputs.display(), counted(images.len(), "image")))?;
        self.print_heading(lines)?;
        for (index, image) in images.iter().enumerate() {
            self.classify(&format!("image {index}"), &self.network.arrange(image), lines)?;
        }
        Ok(images.first().map(|image| self.network.arrange(image)))
    }

    fn print_heading(&self, lines: &mut Lines) -> Result<()> {
        lines.print(format_args!("times are the shortest of {RUNS} runs after a warm-up"))
    }

    /// Prints the time and the strongest classes of one input.
    fn classify(&mut self, name: &str, input: &[E], lines: &mut Lines) -> Result<()> {
        let Self { network, scratch, parallelism, .. } = self;
        let output = network.run(scratch, input, *parallelism, |_, _| ())?;
        let classes = classes(&network.arch, &network.nchw_output(output));
        let mut best = Duration::MAX;
        for _ in 0..RUNS {
            let start = Instant::now();
            network.run(scratch, input, *parallelism, |_, _| ())?;
            best = best.min(start.elapsed());
        }
        lines.print(format_args!("{name}  {:.2} ms", best.as_secs_f64() * 1e3))?;
        for (class, share) in classes {
            let label = self.labels.get(class).map_or_else(|| format!("class {class}"), String::clone);
            lines.print(format_args!("  {:5.1} %  {label}", 100.0 * share))?;
        }
        Ok(())
    }
}

/// The strongest classes: by probability, or, where the output is a map, by their share of its pixels.
pub(crate) fn classes(arch: &Arch, output: &[f32]) -> Vec<(usize, f64)> {
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
pub(crate) fn labels(arch: &Arch, folder: &Path) -> Result<Vec<String>> {
    let labels = files::read_labels(&folder.join("labels.txt"))?;
    Ok(if labels.is_empty() { arch.classes.clone() } else { labels })
}

/// The folder of the bundled models: where this example was compiled, else below the current one.
fn models() -> PathBuf {
    let compiled = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    if compiled.is_dir() { compiled } else { "examples/models".into() }
}

pub(crate) fn bundled_photos() -> Result<Vec<PathBuf>> {
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
