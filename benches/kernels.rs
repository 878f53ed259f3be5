//! Every operation on every instruction set of this CPU, in both layouts, for every block, one thread:
//! `cargo bench --bench kernels`. Rates are in GFLOP/s, two floating-point operations a multiply-add.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use depthwise::{Fusion, Isa, Layout, Parallelism};

use depthwise_testkit::shapes::{self, Part, Placement};

/// Wall time, and elements a second as GFLOP/s.
struct Flops;

impl Measurement for Flops {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        WallTime.start()
    }
    fn end(&self, start: Instant) -> Duration {
        WallTime.end(start)
    }
    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        WallTime.add(a, b)
    }
    fn zero(&self) -> Duration {
        WallTime.zero()
    }
    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Flops {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }
    fn scale_throughputs(&self, typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        let Throughput::Elements(operations) = *throughput else {
            return WallTime.formatter().scale_throughputs(typical, throughput, values);
        };
        // The values are in nanoseconds.
        values.iter_mut().for_each(|value| *value = operations as f64 / *value);
        "GFLOP/s"
    }
    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}

fn blocks(criterion: &mut Criterion<Flops>) {
    let file = shapes::table("blocks");
    let blocks = shapes::load(&file).expect("the shapes that ship with the crate");
    let operations = [
        (Part::Depthwise, "depthwise"),
        (Part::Pointwise, "pointwise"),
        (Part::Separable(Fusion::Auto), "separable"),
        (Part::Standard, "standard"),
    ];
    for (part, operation) in operations {
        for &isa in Isa::all().iter().filter(|isa| isa.is_available()) {
            for layout in [Layout::Nchw, Layout::Nhwc] {
                let mut group = criterion.benchmark_group(format!("{operation}/{isa}/{layout}"));
                group.sample_size(20).warm_up_time(Duration::from_millis(100));
                group.measurement_time(Duration::from_millis(400));
                for block in &blocks {
                    let prepared = shapes::prepare(block, part, layout, isa, Placement::Lines);
                    let mut prepared = prepared.expect("a block that ships with the crate");
                    group.throughput(Throughput::Elements(2 * prepared.cost.multiply_adds));
                    let mut run = || (prepared.run)(Parallelism::Serial);
                    group.bench_function(&block.name, |bencher| bencher.iter(|| black_box(run())));
                }
            }
        }
    }
}

criterion_group!(name = benches; config = Criterion::default().with_measurement(Flops); targets = blocks);
criterion_main!(benches);
