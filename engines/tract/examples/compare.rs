//! Runs a model by tract and by tract with `depthwise`, taking turns, and compares times and outputs.
//!
//! `cargo run --release --example compare -- MODEL.onnx [--threads N] [--shape 1,3,640,640]... [--budget MS] [--quiet]`
//!
//! Each time is the least of all turns: with one thread the time that the CPU worked for this process, which other programs disturb less,
//! with several threads the time that passed.
//!
//! Exit status: 0, or 1 if the outputs differ by more than 1e-4 of the largest, or 2 if there is nothing to compare.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use depthwise_models::{Random, Timer, page};
use depthwise_tract::DepthwiseTransform;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::tract_linalg::multithread::Executor;
use tract_onnx::tract_hir::internal::{DimFact, DimLike, Factoid, InferenceFact, ShapeFactoid};

const USAGE: &str = "usage: compare MODEL.onnx [--threads N] [--shape N,C,H,W]... [--budget MS] [--quiet]
  --threads N       threads of tract's executor; 1 if not given
  --shape N,C,H,W   extents of an input, for the axes whose extent the model does not say; the first is for the first input, and so on
  --budget MS       the time for each of the two, at each shape, in milliseconds; 2000 if not given
  --quiet           does not list the nodes";

struct Arguments {
    model: String,
    threads: usize,
    shapes: Vec<Vec<usize>>,
    budget: Duration,
    quiet: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        model: String::new(),
        threads: 1,
        shapes: Vec::new(),
        budget: Duration::from_secs(2),
        quiet: false,
    };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or_else(|| format!("{argument} needs a value"));
        let whole = |value: &str| match value.trim().parse::<usize>() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!("`{value}` is no whole number of at least 1")),
        };
        match argument.as_str() {
            "--threads" => arguments.threads = whole(&value()?)?,
            "--shape" => arguments.shapes.push(value()?.split(',').map(whole).collect::<Result<_, _>>()?),
            "--budget" => arguments.budget = Duration::from_millis(whole(&value()?)? as u64),
            "--quiet" => arguments.quiet = true,
            "--help" | "-h" => return Err(USAGE.into()),
            _ if argument.starts_with('-') || !arguments.model.is_empty() => {
                return Err(format!("`{argument}` is not understood\n{USAGE}"));
            }
            _ => arguments.model = argument,
        }
    }
    if arguments.model.is_empty() { Err(USAGE.into()) } else { Ok(arguments) }
}

/// What was measured at a shape.
struct Outcome {
    tract: Duration,
    ours: Duration,
    difference: f32,
    largest: f32,
}

/// Sentences of errors, innermost last, on one line.
fn sentence(error: &TractError) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The extents of an input, with `given` for those that the model does not say. Without it the first axis is 1.
fn extents(name: &str, fact: &InferenceFact, given: Option<&Vec<usize>>) -> Result<Vec<usize>, String> {
    let rank = match fact.shape.rank().concretize() {
        Some(rank) => rank as usize,
        None => given
            .map(Vec::len)
            .ok_or(format!("the model does not say how many axes its input {name} has: give --shape"))?,
    };
    if let Some(given) = given.filter(|given| given.len() != rank) {
        return Err(format!("--shape has {} numbers, but the input {name} has {rank} axes", given.len()));
    }
    let known = |axis: usize| fact.shape.dim(axis).and_then(|dim| dim.concretize()).and_then(|dim| dim.to_usize().ok());
    (0..rank)
        .map(|axis| match (known(axis), given) {
            (Some(known), Some(given)) if given[axis] != known => {
                Err(format!("axis {axis} of the input {name} has the extent {known}, but --shape says {}", given[axis]))
            }
            (Some(known), _) => Ok(known),
            (None, Some(given)) => Ok(given[axis]),
            (None, None) if axis == 0 => Ok(1),
            (None, None) => {
                Err(format!("the model does not say the extent of axis {axis} of its input {name}: give --shape"))
            }
        })
        .collect()
}

/// How many channels and pixels a tensor has, and whether channels are last, if it may be an image.
fn image(shape: &[usize]) -> Option<(usize, [usize; 2], bool)> {
    let (channels, size, last) = match *shape {
        [_, channels @ (1 | 3), height, width] => (channels, [height, width], false),
        [_, height, width, channels @ (1 | 3)] => (channels, [height, width], true),
        _ => return None,
    };
    size.iter().all(|&extent| extent >= 16).then_some((channels, size, last))
}

/// What a model may be given: a page of text where an image fits, as noise is not what a model of images was made for; else numbers
/// between −1 and 1, or zeros if it takes no floats.
fn input(kind: DatumType, shape: &[usize], random: &mut Random) -> TractResult<Tensor> {
    let values = match image(shape) {
        Some((channels, [height, width], last)) => {
            let planes = page(channels, height, width);
            let pixels = height * width;
            let image: Vec<f32> = match last {
                true => (0..pixels * channels).map(|i| planes[i % channels * pixels + i / channels]).collect(),
                false => planes,
            };
            image.repeat(shape[0])
        }
        None => random.floats(shape.iter().product()),
    };
    let bytes = || values.iter().map(|value| ((value + 1.0) * 127.5) as u8).collect::<Vec<_>>();
    match kind {
        kind if kind.is_float() => Ok(Tensor::from_shape(shape, &values)?.cast_to_dt(kind)?.into_owned()),
        DatumType::U8 if image(shape).is_some() => Tensor::from_shape(shape, &bytes()),
        kind => Tensor::zero_dt(kind, shape),
    }
}

/// The fastest of many calls of each, in turns of a few calls.
fn race(states: [&mut Box<dyn State>; 2], inputs: &TVec<TValue>, arguments: &Arguments) -> TractResult<[Duration; 2]> {
    let mut least = [Duration::MAX; 2];
    let mut spent = [Duration::ZERO; 2];
    let [a, b] = states;
    let mut states = [a, b];
    while spent.iter().any(|&spent| spent < arguments.budget) {
        for (k, state) in states.iter_mut().enumerate() {
            let turn = Instant::now();
            while turn.elapsed() < Duration::from_millis(20) {
                let timer = Timer::start(arguments.threads);
                state.run(inputs.clone())?;
                least[k] = least[k].min(timer.elapsed());
            }
            spent[k] += turn.elapsed();
        }
    }
    Ok(least)
}

fn compare(typed: &TypedModel, inputs: &TVec<TValue>, arguments: &Arguments) -> TractResult<Outcome> {
    let executor = match arguments.threads {
        1 => Executor::SingleThread,
        threads => Executor::multithread(threads),
    };
    let options = RunOptions { executor: Some(executor), ..RunOptions::default() };
    let prepare = |name| -> TractResult<Box<dyn State>> {
        let runtime = runtime_for_name(name)?.ok_or_else(|| TractError::msg(format!("there is no runtime {name}")))?;
        runtime.prepare_with_options(typed.clone(), &options)?.spawn()
    };
    let (mut tract, mut ours) = (prepare("cpu")?, prepare("depthwise")?);
    let (expected, found) = (tract.run(inputs.clone())?, ours.run(inputs.clone())?);
    let (mut difference, mut largest) = (0f32, 0f32);
    for (expected, found) in expected.iter().zip(&found) {
        if expected.shape() != found.shape() || expected.datum_type() != found.datum_type() {
            return Err(TractError::msg(format!("tract gives {expected:?}, and depthwise {found:?}")));
        }
        let values = [expected.cast_to::<f32>()?, found.cast_to::<f32>()?];
        let [expected, found] = [values[0].try_as_plain_ram()?, values[1].try_as_plain_ram()?];
        for (&expected, &found) in expected.as_slice::<f32>()?.iter().zip(found.as_slice::<f32>()?) {
            if expected.to_bits() == found.to_bits() || expected.is_nan() && found.is_nan() {
                continue;
            }
            let apart = (expected - found).abs();
            // Not a number counts as infinitely wrong.
            difference = if apart.is_nan() { f32::INFINITY } else { difference.max(apart) };
        }
        let finite = expected.as_slice::<f32>()?.iter().filter(|value| value.is_finite());
        largest = finite.fold(largest, |largest, value| largest.max(value.abs()));
    }
    let [tract, ours] = race([&mut tract, &mut ours], inputs, arguments)?;
    Ok(Outcome { tract, ours, difference, largest })
}

/// A model, ready to be run.
struct Loaded {
    /// With the extents of the inputs, and as the file says them.
    fixed: TypedModel,
    asis: InferenceModel,
    shapes: Vec<Vec<usize>>,
    symbolic: bool,
}

/// Loads the file; without the shapes that it says of values within, if they are not `trusted`.
fn load(arguments: &Arguments, trusted: bool) -> Result<Loaded, String> {
    let load = || {
        let onnx = tract_onnx::onnx().with_ignore_value_info(!trusted);
        let model = onnx.model_for_path(&arguments.model);
        model.map_err(|error| format!("tract cannot load {}: {}", arguments.model, sentence(&error)))
    };
    let (mut fixed, mut asis) = (load()?, load()?);
    let mut shapes = Vec::new();
    let mut symbolic = false;
    for (k, outlet) in fixed.inputs.clone().into_iter().enumerate() {
        let name = fixed.node(outlet.node).name.clone();
        let fact = fixed.input_fact(k).map_err(|error| sentence(&error))?.clone();
        let shape = extents(&name, &fact, arguments.shapes.get(k))?;
        let known = |axis| fact.shape.dim(axis).and_then(|dim| dim.concretize());
        symbolic |= (0..shape.len()).any(|axis| known(axis).is_none_or(|dim| dim.to_usize().is_err()));
        // An extent that has no name gets one.
        let named = |axis| known(axis).unwrap_or_else(|| asis.symbols.new_with_prefix("extent").into());
        let dims: [Vec<TDim>; 2] =
            [shape.iter().map(|&extent| extent.to_dim()).collect(), (0..shape.len()).map(named).collect()];
        for (model, dims) in [&mut fixed, &mut asis].into_iter().zip(dims) {
            let shape = ShapeFactoid::closed(dims.into_iter().map(DimFact::Only).collect());
            let fact = InferenceFact { shape, ..fact.clone() };
            model.set_input_fact(k, fact).map_err(|error| sentence(&error))?;
        }
        shapes.push(shape);
    }
    Ok(Loaded { fixed: typed(fixed, &arguments.model)?, asis, shapes, symbolic })
}

fn typed(model: InferenceModel, path: &str) -> Result<TypedModel, String> {
    model.into_typed().map_err(|error| format!("tract cannot infer the shapes of {path}: {}", sentence(&error)))
}

fn run(arguments: &Arguments) -> Result<(f64, f32, f32), String> {
    // Exporters write shapes with symbols of their own, which may contradict a number for the same extent.
    let loaded = load(arguments, true).or_else(|error| {
        let loaded = load(arguments, false).map_err(|_| error.clone())?;
        println!("without the shapes that the file says of values within, as with them {error}");
        Ok::<_, String>(loaded)
    });
    let Loaded { fixed, asis, shapes, symbolic } = loaded?;
    let mut seeded = Random(25);
    let mut inputs = tvec!();
    for (k, shape) in shapes.iter().enumerate() {
        let kind = fixed.input_fact(k).map_err(|error| sentence(&error))?.datum_type;
        inputs.push(input(kind, shape, &mut seeded).map_err(|error| sentence(&error))?.into_tvalue());
    }
    if !arguments.quiet {
        let report = DepthwiseTransform.transform_and_report(&mut fixed.clone()).map_err(|error| sentence(&error))?;
        print!("{report}");
    }
    let told = |what: &str, outcome: &Outcome| {
        let Outcome { tract, ours, difference, largest } = outcome;
        let [tract, ours] = [tract, ours].map(|time| time.as_secs_f64() * 1e3);
        println!(
            "{what}, {} thread(s): tract {tract:.2} ms, with depthwise {ours:.2} ms, {:.2} times as fast, difference {difference:.2e} of {largest:.3}",
            arguments.threads,
            tract / ours
        );
    };
    let first =
        compare(&fixed, &inputs, arguments).map_err(|error| format!("tract cannot run it: {}", sentence(&error)))?;
    told(&format!("inputs of {shapes:?}"), &first);
    let (mut difference, mut largest) = (first.difference, first.largest);
    if symbolic {
        // The same tensors, for a model whose symbolic axes stay so.
        match typed(asis, &arguments.model)
            .and_then(|asis| compare(&asis, &inputs, arguments).map_err(|error| sentence(&error)))
        {
            Ok(outcome) => {
                told("the same, symbolic axes as they are", &outcome);
                if outcome.difference > difference {
                    (difference, largest) = (outcome.difference, outcome.largest);
                }
            }
            Err(error) => println!("with symbolic axes as they are, tract does not run it: {error}"),
        }
    }
    Ok((first.tract.as_secs_f64() / first.ours.as_secs_f64(), difference, largest))
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok((speedup, difference, largest)) => {
            println!("speedup {speedup:.2}, difference {difference:e} of {largest}");
            ExitCode::from(u8::from(difference > 1e-4 * largest))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
