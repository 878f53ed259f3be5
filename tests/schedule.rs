//! How runs are split between threads, for any number of them: each element once, in balance, and worth it.
//!
//!     cargo test --release --test schedule -- --show-output

use std::collections::{BTreeMap, BTreeSet};

use depthwise::{Fusion, Isa, Layout, Machine, Shape};

use depthwise_testkit::shapes::model::{Prediction, predict, tile};
use depthwise_testkit::shapes::{self, Layer, Part, TABLES, table};

const OPERATIONS: [(&str, Part); 4] = [
    ("depthwise", Part::Depthwise),
    ("pointwise", Part::Pointwise),
    ("separable", Part::Separable(Fusion::Auto)),
    ("two-pass", Part::Separable(Fusion::TwoPass)),
];
const MOST: usize = 128;
/// Numbers of threads to simulate: all that desktops have, and some of those that servers have.
fn threads() -> impl Iterator<Item = usize> + Clone {
    (1..=24).chain([32, 48, 64, 96, MOST])
}
/// The tables whose layers pay for their threads. Of the others, which have maps of few rows and single steps of sequences,
/// what the model says is printed.
const USUAL: &[&str] = TABLES.split_at(4).0;
/// A layer that takes less than that with one thread is small.
const LARGE: f64 = 1e-3;

/// What the model says of a layer for each number of threads.
struct Simulated {
    name: String,
    predictions: BTreeMap<usize, Prediction>,
}

impl Simulated {
    fn of(layer: &Layer, name: String) -> Self {
        let predictions = threads().map(|threads| (threads, predict(layer, threads).expect(&name))).collect();
        Self { name, predictions }
    }

    fn with(&self, threads: usize) -> Prediction {
        self.predictions[&threads]
    }

    fn speed_up(&self, threads: usize) -> f64 {
        self.with(1).seconds / self.with(threads).seconds
    }

    fn efficiency(&self, threads: usize) -> f64 {
        self.speed_up(threads) / threads as f64
    }
}

/// Every operation on every layer of these tables, each once, in both layouts, with the kernels that a machine takes of an instruction
/// set.
fn for_each_layer(tables: &[&str], (machine, isa): (&'static Machine, Isa), mut test: impl FnMut(&Layer, String)) {
    let mut seen = OPERATIONS.map(|_| BTreeSet::new());
    for &name in tables {
        for block in shapes::load(&table(name)).expect(name) {
            for ((operation, part), seen) in OPERATIONS.into_iter().zip(&mut seen) {
                if block.layer(part).is_some_and(|layer| seen.insert(layer)) {
                    for layout in [Layout::Nhwc, Layout::Nchw] {
                        let layer = shapes::layer(&block, part, layout, isa, machine).expect(name);
                        test(&layer, format!("{operation}/{layout}/{}", block.name));
                    }
                }
            }
        }
    }
}

/// Every machine with each of its instruction sets that this target has. None of it depends on the CPU that runs the test.
fn machines() -> impl Iterator<Item = (&'static Machine, Isa)> {
    let pairs = Machine::all().iter().flat_map(|&machine| machine.isas().iter().map(move |&isa| (machine, isa)));
    pairs.filter(|(_, isa)| Isa::all().contains(isa))
}

#[test]
fn parts_have_each_element_once() {
    for machine in machines() {
        for_each_layer(&TABLES, machine, |layer, name| {
            for threads in [0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 24, MOST] {
                let passes = layer.schedule.steps(layer.input, threads).expect(&name);
                let outputs: &[Shape] =
                    if passes.len() == 1 { &[layer.output] } else { &[layer.between, layer.output] };
                assert_eq!(passes.len(), outputs.len(), "{name}, {threads} threads");
                for (steps, &output) in passes.iter().zip(outputs) {
                    let (parts, most) = (steps.concat(), threads.max(1));
                    assert!(tile(&parts, output), "{name}, {threads} threads: {parts:?}");
                    assert!(steps.len() <= most.min(2), "{name}, {threads} threads: {} steps", steps.len());
                    for parts in steps {
                        assert!(parts.len() <= most, "{name}, {threads} threads: {} parts", parts.len());
                    }
                }
            }
        });
    }
}

/// Channels first, two threads that each had rows of a plane would both write the cache line at the cut.
#[test]
fn planes_are_shared_whole() {
    for (machine, isa) in machines() {
        let mut shared = 0;
        for_each_layer(&TABLES, (machine, isa), |layer, name| {
            if name.starts_with("depthwise/nchw") && layer.output.c.is_multiple_of(2) {
                let parts = layer.schedule.steps(layer.input, 2).expect(&name).concat().concat();
                assert!(parts.iter().all(|part| part.h == (0..layer.output.h)), "{machine} {isa}, {name}: {parts:?}");
                shared += usize::from(parts.len() > 1);
            }
        });
        println!("{machine} {isa}: {shared} layers shared");
        assert!(shared > 0, "{machine} {isa}: no layer is shared");
    }
}

#[test]
fn rows_left_over_are_shared() {
    for (machine, isa) in machines() {
        let mut second_steps = 0;
        for_each_layer(&TABLES, (machine, isa), |layer, name| {
            for threads in [2, 3, 7, 16] {
                let passes = layer.schedule.steps(layer.input, threads).expect(&name);
                second_steps += passes.iter().filter(|steps| steps.len() == 2).count();
            }
            if name.ends_with("nhwc/xception-19x728-728") {
                let Prediction { imbalance, seconds, .. } = predict(layer, 2).expect(&name);
                // Depthwise alone, a row more for one thread may cost less than a cut between channels.
                let excess = seconds - seconds / imbalance;
                assert!(
                    imbalance < 1.03 || (name.starts_with("depthwise") && excess < 3e-6),
                    "{machine} {isa}, {name}: of 19 rows, 2 threads, the slowest {imbalance:.3} times the mean, {:.1} µs longer",
                    1e6 * excess
                );
            }
        });
        println!("{machine} {isa}: {second_steps} second steps");
        assert!(second_steps > 0, "{machine} {isa}: no rows are left over in any layer");
    }
}

#[test]
fn threads_are_worth_it() {
    let mut problems = Vec::new();
    for (machine, isa) in machines() {
        let mut simulated = Vec::new();
        for_each_layer(USUAL, (machine, isa), |layer, name| simulated.push(Simulated::of(layer, name)));
        let large: Vec<&Simulated> = simulated.iter().filter(|layer| layer.with(1).seconds > LARGE).collect();
        print(machine, isa, &large);

        for layer in &simulated {
            for threads in threads() {
                let (name, speed_up) = (&layer.name, layer.speed_up(threads));
                if speed_up < 1.0 {
                    let longer = 1.0 / speed_up;
                    problems.push(format!("{machine} {isa}, {name}: {threads} threads take {longer:.3} times as long"));
                }
            }
        }
        for threads in 1..=16 {
            let (imbalance, name) = worst(&large, |layer| -layer.with(threads).imbalance);
            if imbalance < -1.2 {
                let times = -imbalance;
                problems
                    .push(format!("{machine} {isa}, {name}: {threads} threads, the slowest {times:.2} times the mean"));
            }
            let (efficiency, name) = worst(&large, |layer| layer.efficiency(threads));
            let wanted = if threads == 16 { 0.8 } else { 0.75 };
            if efficiency < wanted {
                let percent = 100.0 * efficiency;
                problems.push(format!("{machine} {isa}, {name}: {percent:.1} % with {threads} threads"));
            }
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// The layer for which `good` is least.
fn worst<'a>(layers: &[&'a Simulated], good: impl Fn(&Simulated) -> f64) -> (f64, &'a str) {
    let goods = layers.iter().map(|layer| (good(layer), &*layer.name));
    goods.min_by(|a, b| a.0.total_cmp(&b.0)).expect("there are layers")
}

/// How many times as long as with one thread the layers of the other tables take: the worst.
#[test]
fn what_the_others_gain_is_said() {
    for (machine, isa) in machines() {
        let mut longer: Vec<(f64, usize, String)> = Vec::new();
        for_each_layer(&TABLES[USUAL.len()..], (machine, isa), |layer, name| {
            let one = predict(layer, 1).expect(&name).seconds;
            for threads in [2, 4, 16] {
                let seconds = predict(layer, threads).expect(&name).seconds;
                assert!(
                    seconds.is_finite() && seconds > 0.0,
                    "{machine} {isa}, {name}, {threads} threads: {seconds} s"
                );
                longer.push((seconds / one, threads, name.clone()));
            }
        });
        longer.sort_by(|a, b| b.0.total_cmp(&a.0));
        let losses = longer.iter().filter(|(times, ..)| *times > 1.0).count();
        println!("\n{machine} {isa}: of {}, {losses} take longer than with one thread. The worst:", longer.len());
        for (times, threads, name) in &longer[..5] {
            println!("{times:.2} times as long, {threads} threads: {name}");
        }
    }
}

fn print(machine: &Machine, isa: Isa, large: &[&Simulated]) {
    println!(
        "\n{machine} {isa}. Predicted speed-up, and of it per thread. Then, of 16 threads: passes, slowest over mean, serial µs.\n"
    );
    println!("{:<42} {:>6}  {:>11} {:>11} {:>11} {:>11}", "above 1 ms", "µs", 2, 4, 16, 128);
    for layer in large {
        print!("{:<42} {:>6.0} ", layer.name, 1e6 * layer.with(1).seconds);
        for threads in [2, 4, 16, 128] {
            print!(" {:>5.2}, {:>3.0} %", layer.speed_up(threads), 100.0 * layer.efficiency(threads));
        }
        let at_16 = layer.with(16);
        println!(" {:>3} {:>5.2} {:>4.1}", at_16.passes, at_16.imbalance, 1e6 * at_16.serial);
    }
    println!("\nThe worst of these:");
    for threads in (1..=8).chain([12, 16, 24, 32, 48, 64, 96, MOST]) {
        let (efficiency, name) = worst(large, |layer| layer.efficiency(threads));
        println!("{threads:>4} threads: {:>3.0} %, {name}", 100.0 * efficiency);
    }
}
