//! Every instruction set of this CPU on every block, in both layouts, one thread: `cargo bench --bench kernels`.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use depthwise::{Isa, Layout, Parallelism};

mod shapes;

use shapes::Part;

fn blocks(criterion: &mut Criterion) {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/shapes/blocks.json"));
    let blocks = shapes::load(file).expect("the shapes that ship with the crate");
    for (part, operation) in
        [(Part::Depthwise, "depthwise"), (Part::Pointwise, "pointwise"), (Part::Block, "separable")]
    {
        for &isa in Isa::all().iter().filter(|isa| isa.is_available()) {
            for layout in [Layout::Nchw, Layout::Nhwc] {
                let mut group = criterion.benchmark_group(format!("{operation}/{isa}/{layout}"));
                group.sample_size(20).warm_up_time(Duration::from_millis(100));
                group.measurement_time(Duration::from_millis(400));
                for block in &blocks {
                    let run = shapes::prepare(block, part, layout, isa, Parallelism::Serial);
                    let mut run = run.expect("a block that ships with the crate");
                    // Elements are floating-point operations: the rate is in FLOP/s.
                    group.throughput(Throughput::Elements(block.operations(part)));
                    group.bench_function(&block.name, |bencher| bencher.iter(|| black_box(run())));
                }
            }
        }
    }
}

criterion_group!(benches, blocks);
criterion_main!(benches);
