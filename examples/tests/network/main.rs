//! The example `network`: trained networks against their references, every op of its format against a
//! naive one in f64, and bad files against the sentence that they must bring up.

use std::collections::BTreeMap;

use depthwise::{Isa, Layout, Parallelism};

mod command_line;
mod errors;
mod net;
mod photos;
mod synthetic;
mod tflite;
mod trained;

use network::engine::{Network, Options};

/// Errors are compared with this share of the largest output.
const TOLERANCE: f64 = 1e-4;

#[derive(Clone, Copy, Debug)]
struct Way {
    isa: Isa,
    layout: Layout,
    threads: usize,
}

/// Every instruction set of this CPU, both layouts, one thread and two.
fn ways() -> Vec<Way> {
    let (here, absent): (Vec<_>, Vec<_>) = Isa::all().iter().copied().partition(|isa| isa.is_available());
    println!("ran on {here:?}; not available on this CPU: {absent:?}");
    let layouts = [Layout::Nchw, Layout::Nhwc];
    let all = here.into_iter().flat_map(|isa| layouts.map(|layout| [1, 2].map(|threads| Way { isa, layout, threads })));
    all.flatten().collect()
}

/// The outputs, in NCHW order, of some images in NCHW order.
fn run(network: &Network, images: &[Vec<f32>], threads: usize) -> Vec<Vec<f32>> {
    let run = |parallelism| {
        let mut scratch = network.scratch().unwrap();
        let outputs = images.iter().map(|image| {
            let output = network.run(&mut scratch, &network.arrange(image), parallelism, |_, _| ()).unwrap();
            network.nchw_output(output)
        });
        outputs.collect()
    };
    match threads {
        1 => run(Parallelism::Serial),
        _ => rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| run(Parallelism::Rayon)),
    }
}

/// Runs a network in every way: each output must be near the expected one, and all the ways of fused
/// multiply-adds must agree to the bit, as must all those without.
fn check(name: &str, ways: &[Way], build: impl Fn(Options) -> Network, images: &[Vec<f32>], expected: &[Vec<f64>]) {
    let mut seen: BTreeMap<bool, Vec<Vec<u32>>> = BTreeMap::new();
    for way in ways {
        let network = build(Options { layout: way.layout, isa: Some(way.isa) });
        let outputs = run(&network, images, way.threads);
        assert_eq!(outputs.len(), expected.len());
        for (image, (output, expected)) in outputs.iter().zip(expected).enumerate() {
            assert_eq!(output.len(), expected.len(), "{name}, image {image}, {way:?}");
            let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
            for (index, (&value, &expected)) in output.iter().zip(expected).enumerate() {
                let error = (f64::from(value) - expected).abs();
                // Written so that a NaN fails.
                assert!(
                    error <= TOLERANCE * largest,
                    "{name}, image {image}, element {index}, {way:?}: {value} instead of {expected}"
                );
            }
        }
        let bits: Vec<Vec<u32>> =
            outputs.iter().map(|output| output.iter().map(|value| value.to_bits()).collect()).collect();
        let first = seen.entry(way.isa.is_fused()).or_insert_with(|| bits.clone());
        assert!(*first == bits, "{name}: {way:?} gives other bits than the ways before it");
    }
}
