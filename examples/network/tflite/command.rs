//! What the command line asks for of a TFLite file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use depthwise::{Layout, Parallelism, Shape};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use super::values::Values;
use super::{Network, Port, quantize};
use crate::arch::{Result, counted};
use crate::command::{self, Args, Lines, RUNS, bundled_photos};
use crate::engine::{self, Options};
use crate::files::{self, Entry, Tensors};
use crate::{ops, photo};

/// The name of a network's file in its folder.
pub(crate) const FILE: &str = "model.tflite";

pub(crate) fn run(path: &Path, args: &Args, lines: &mut Lines) -> Result<()> {
    let Some(inputs) = &args.inputs else {
        let photos = if args.photos.is_empty() { bundled_photos()? } else { args.photos.clone() };
        return classify(path, &photos, lines);
    };
    let network = Network::load(path)?;
    print_heading(&network, path, lines)?;
    let bytes = files::read(inputs)?;
    let examples = read_examples(&bytes, &network.input);
    let examples = examples.map_err(|error| format!("{}: {error}", inputs.display()))?;
    let mut layers: Vec<Entry> = Vec::new();
    let mut outputs: Vec<(String, Values)> = Vec::new();
    for (name, input) in examples {
        let output = network.run(input, |index, values| {
            if args.all_layers.is_some() {
                let shape = network.operators[index].shape.clone();
                layers.push((format!("{name}.{index:03}"), values.dtype(), shape, values.bytes()));
            }
        });
        outputs.push((name, output));
    }
    if let Some(path) = &args.all_layers {
        files::write_tensors(path, &layers)?;
        let (operators, inputs) = (counted(network.operators.len(), "operator"), counted(outputs.len(), "input"));
        lines.print(format_args!("{}: {operators} for {inputs}", path.display()))?;
    }
    if let Some(path) = &args.outputs {
        let shape = match network.output.shape[..] {
            [1, ref rest @ ..] => [&[outputs.len()], rest].concat(),
            ref shape => [&[outputs.len()], shape].concat(),
        };
        let dtype = outputs.first().map_or(Dtype::F32, |(_, values)| values.dtype());
        let bytes = outputs.iter().flat_map(|(_, values)| values.bytes()).collect();
        files::write_tensors(path, &[("output0".into(), dtype, shape, bytes)])?;
        lines.print(format_args!("{}: output0 of {}", path.display(), counted(outputs.len(), "input")))?;
    }
    if args.all_layers.is_none() && args.outputs.is_none() {
        let labels = labels(path)?;
        for (name, output) in &outputs {
            print_classes(&network, name, output, &labels, lines)?;
        }
    }
    Ok(())
}

/// Makes 8 bits of a network of f32, by photographs, and says how the two compare on them.
pub(crate) fn quantize(folder: &Path, args: &Args, lines: &mut Lines) -> Result<()> {
    if folder.join("arch.json").exists() {
        return Err(format!("{}: it is the folder of a network of f32, name another one", folder.display()));
    }
    let source = args.folder();
    let in_source = |error: String| format!("{}: {error}", source.display());
    let (arch, bytes) = engine::read(&source)?;
    let weights = Tensors::parse(&bytes).map_err(in_source)?;
    let labels = command::labels(&arch, &source)?;

    let mut photos = Vec::new();
    for path in if args.photos.is_empty() { bundled_photos()? } else { args.photos.clone() } {
        match photo::load(&path, &arch.input) {
            Ok(pixels) => photos.push((path, pixels)),
            Err(error) => lines.report(&error),
        }
    }
    if photos.is_empty() {
        return Err("there is no photograph left to measure ranges on".into());
    }
    let images: Vec<Vec<f32>> = photos.iter().map(|(_, pixels)| arch.input.normalise(pixels)).collect();
    let options = Options { layout: Layout::Nhwc, isa: None };
    let ranges = quantize::ranges(&arch, &weights, &images, options).map_err(in_source)?;
    let file = quantize::quantize(&arch, &weights, &ranges).map_err(in_source)?;

    let path = folder.join(FILE);
    let write =
        |path: &Path, bytes: &[u8]| std::fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()));
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    write(&path, &file)?;
    if !labels.is_empty() {
        write(&folder.join("labels.txt"), (labels.join("\n") + "\n").as_bytes())?;
    }
    let of_8_bits = Network::load(&path)?;
    let of_f32 = engine::Network::<f32>::build(arch, &weights, options).map_err(in_source)?;
    lines.print(format_args!("{}: ranges from {}", of_f32.arch.name, counted(photos.len(), "photograph")))?;
    let [before, after] = [bytes.len(), file.len()].map(|len| len as f64 / 1e6);
    let operators = counted(of_8_bits.operators.len(), "operator");
    lines.print(format_args!("{}: {operators} of 8 bits, {after:.2} MB; f32 has {before:.2} MB", path.display()))?;
    lines.print(format_args!("times are the shortest of {RUNS} runs after a warm-up"))?;

    let mut scratch = of_f32.scratch()?;
    let (mut equal, mut shortest) = (0, [Duration::MAX; 2]);
    for ((photo, pixels), image) in photos.iter().zip(&images) {
        let image = of_f32.arrange(image);
        let mut best = [Duration::MAX; 2];
        let mut seen = [0; 2];
        for run in 0..=RUNS {
            let start = Instant::now();
            let output = of_f32.run(&mut scratch, &image, Parallelism::Serial, |_, _| ())?;
            let middle = Instant::now();
            let numbers = of_8_bits.run(of_8_bits.input.pixels(pixels), |_, _| ());
            let end = Instant::now();
            if run > 0 {
                best = [best[0].min(middle - start), best[1].min(end - middle)];
                continue;
            }
            let arch = &of_f32.arch;
            let numbers = of_8_bits.output.real(&numbers);
            let numbers = ops::relayout(&numbers, arch.output_layer().shape, Layout::Nhwc, Layout::Nchw);
            seen = [of_f32.nchw_output(output), numbers].map(|output| command::classes(arch, &output)[0].0);
        }
        let label = |class: usize| labels.get(class).map_or_else(|| format!("class {class}"), String::clone);
        let name = photo.file_name().unwrap_or(photo.as_os_str()).to_string_lossy();
        let [a, b] = [0, 1].map(|i| format!("{:.2} ms  {}", best[i].as_secs_f64() * 1e3, label(seen[i])));
        lines.print(format_args!("{name}\n  f32     {a}\n  8 bits  {b}"))?;
        equal += usize::from(seen[0] == seen[1]);
        shortest = [shortest[0].min(best[0]), shortest[1].min(best[1])];
    }
    let [a, b] = shortest.map(|time| time.as_secs_f64() * 1e3);
    lines.print(format_args!(
        "the same class of {equal} of {}; f32 {a:.2} ms, 8 bits {b:.2} ms, {:.2} times as fast",
        counted(photos.len(), "photograph"),
        a / b
    ))
}

/// Says what the network sees in photographs. Of each, the central square is read, unless the file says otherwise.
pub(crate) fn classify(path: &Path, photos: &[PathBuf], lines: &mut Lines) -> Result<()> {
    let network = Network::load(path)?;
    let [1, h, w, c] = network.input.shape[..] else {
        return Err(format!(
            "{}: it reads {:?}, no photograph [1, h, w, c]: give it --inputs",
            path.display(),
            network.input.shape
        ));
    };
    print_heading(&network, path, lines)?;
    let labels = labels(path)?;
    for photo in photos {
        let pixels = match photo::load_as(photo, Shape::new(1, c, h, w), network.central_crop) {
            Ok(pixels) => pixels,
            Err(error) => {
                lines.report(&error);
                continue;
            }
        };
        let output = network.run(network.input.pixels(&pixels), |_, _| ());
        let name = photo.file_name().unwrap_or(photo.as_os_str()).to_string_lossy();
        print_classes(&network, &name, &output, &labels, lines)?;
    }
    Ok(())
}

fn print_heading(network: &Network, path: &Path, lines: &mut Lines) -> Result<()> {
    let operators = counted(network.operators.len(), "operator");
    lines.print(format_args!("{}: {operators} of 8 bits", path.display()))
}

/// The names of the classes, in `labels.txt` beside the network.
fn labels(path: &Path) -> Result<Vec<String>> {
    files::read_labels(&path.with_file_name("labels.txt"))
}

fn print_classes(network: &Network, name: &str, output: &Values, labels: &[String], lines: &mut Lines) -> Result<()> {
    let values = network.output.real(output);
    let shares = if network.ends_in_softmax {
        values
    } else {
        // Logits.
        let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = values.iter().map(|value| (value - largest).exp()).collect();
        let sum: f32 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    };
    let best = (0..shares.len()).max_by(|&a, &b| shares[a].total_cmp(&shares[b]).then(b.cmp(&a)));
    let Some(best) = best else { return Err(format!("{name}: the output is empty")) };
    let label = labels.get(best).map_or_else(|| format!("class {best}"), String::clone);
    lines.print(format_args!("{name}  {:.1} %  {label}", 100.0 * shares[best]))
}

/// The inputs of a file by name: of `images_u8` one for each image, else one for each tensor.
fn read_examples(bytes: &[u8], port: &Port) -> Result<Vec<(String, Values)>> {
    let in_file = |error| format!("not a safetensors file: {error}");
    let tensors = SafeTensors::deserialize(bytes).map_err(in_file)?;
    if let Ok(images) = tensors.tensor("images_u8") {
        let image = port.shape.strip_prefix(&[1]).unwrap_or(&port.shape);
        let [count, rest @ ..] = images.shape() else { return Err("images_u8 is a single number".into()) };
        if images.dtype() != Dtype::U8 || rest != image {
            let (dtype, shape) = (images.dtype(), images.shape());
            return Err(format!("images_u8 is {dtype} {shape:?}, the network reads images of {image:?} as U8"));
        }
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(in_file)?;
        let names = metadata.metadata().as_ref().and_then(|metadata| metadata.get("names"));
        let names: Vec<String> = match names {
            Some(names) => names.split(',').map(|name| name.trim().to_owned()).collect(),
            None => (0..*count).map(|index| format!("image{index}")).collect(),
        };
        if names.len() != *count {
            return Err(format!("images_u8 has {count} images, its metadata {} names", names.len()));
        }
        let pixels = images.data().chunks_exact(image.iter().product::<usize>().max(1));
        return Ok(names.into_iter().zip(pixels.map(|pixels| port.pixels(pixels))).collect());
    }
    let mut names = tensors.names();
    names.sort_unstable();
    let read = |name: &str| {
        let tensor = tensors.tensor(name).map_err(in_file)?;
        let dtype = match port.kind {
            "FLOAT32" => Dtype::F32,
            "INT8" => Dtype::I8,
            _ => Dtype::U8,
        };
        if tensor.dtype() != dtype || tensor.shape() != port.shape {
            let (is, shape) = (tensor.dtype(), tensor.shape());
            return Err(format!("tensor `{name}` is {is} {shape:?}, the network reads {dtype} {:?}", port.shape));
        }
        Ok((name.to_owned(), Values::of(dtype, tensor.data())))
    };
    names.into_iter().map(read).collect()
}
