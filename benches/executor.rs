//! What it costs to share a run between two threads.
//!
//! `cargo bench --bench executor` prints a line for each layer: the time of a call on the calling thread, of one whose tasks run one after
//! the other there ("alone": what it takes to cut the parts), and of calls on two threads by `rayon`, by an executor on the same pool,
//! and by an executor that calls another pool from outside. Each is the least of many slices, in turns. In brackets stands what a call
//! takes beyond half of the serial time. It needs a machine that does nothing else.

use std::hint::black_box;
use std::time::{Duration, Instant};

use depthwise::{
    Convolution, DepthwiseConv2d, Executor, Layout, Parallelism, PointwiseConv2d, Run, SeparableConv2d, Shape,
    TensorView, TensorViewMut, Workspace,
};
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

/// The current pool of `rayon`.
struct Current;

impl Executor for Current {
    fn threads(&self) -> usize {
        rayon::current_num_threads()
    }

    fn execute(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).into_par_iter().with_max_len(1).for_each(task);
    }
}

/// A pool of `rayon` that is called from outside.
struct Pool(rayon::ThreadPool);

impl Executor for Pool {
    fn threads(&self) -> usize {
        self.0.current_num_threads()
    }

    fn execute(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        self.0.install(|| (0..tasks).into_par_iter().with_max_len(1).for_each(task));
    }
}

/// One after the other on the calling thread: what cutting and locking alone take.
struct Alone;

impl Executor for Alone {
    fn threads(&self) -> usize {
        2
    }

    fn execute(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}

struct Case {
    name: String,
    plan: Box<dyn Convolution>,
    shape: Shape,
    input: Vec<f32>,
    output: Vec<f32>,
    workspace: Workspace,
}

impl Case {
    fn new(name: &str, plan: impl Convolution + 'static, shape: Shape) -> Self {
        let output = plan.output_shape(shape).expect("a shape");
        let [input, output] = [shape, output].map(|shape| vec![0.5; shape.len().expect("small")]);
        Case { name: name.into(), plan: Box::new(plan), shape, input, output, workspace: Workspace::new() }
    }

    fn call(&mut self, parallelism: Parallelism) {
        let layout = self.plan.layout();
        let to = self.plan.output_shape(self.shape).expect("a shape");
        let input = TensorView::new(&self.input, self.shape, layout).expect("a view");
        let output = TensorViewMut::new(&mut self.output, to, layout).expect("a view");
        let run = Run::new(black_box(input), output, &mut self.workspace).parallelism(parallelism);
        self.plan.run(run).expect("a run");
    }

    /// Seconds of a call, the least of some slices.
    fn slice(&mut self, parallelism: Parallelism) -> f64 {
        self.call(parallelism);
        let (began, mut calls) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_millis(4) {
            (0..8).for_each(|_| self.call(parallelism));
            calls += 8;
        }
        began.elapsed().as_secs_f64() / f64::from(calls)
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (channels, side) in [(32, 28), (64, 28), (128, 28), (32, 112), (512, 14)] {
        let shape = Shape::new(1, channels, side, side);
        for layout in [Layout::Nhwc, Layout::Nchw] {
            let name = |what: &str| format!("{what} {side}x{side}x{channels} {layout}");
            let weights = vec![0.5; channels * 9];
            let depthwise = DepthwiseConv2d::builder(channels).layout(layout).weights(&weights);
            cases.push(Case::new(&name("depthwise"), depthwise.build().expect("a plan"), shape));
            let mixing = vec![0.5; channels * channels];
            let pointwise = PointwiseConv2d::builder(channels, channels).layout(layout).weights(&mixing);
            cases.push(Case::new(&name("pointwise"), pointwise.build().expect("a plan"), shape));
            let separable = SeparableConv2d::builder(channels, channels).layout(layout);
            let separable = separable.depthwise_weights(&weights).pointwise_weights(&mixing);
            cases.push(Case::new(&name("separable"), separable.build().expect("a plan"), shape));
        }
    }
    cases
}

fn main() {
    let pool = || rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
    let (inside, outside) = (pool(), Pool(pool()));
    println!("us a call; in brackets: beyond half of the serial time");
    println!("{:<32}{:>10}{:>10}{:>20}{:>20}{:>20}", "", "serial", "alone", "rayon", "executor", "from outside");
    let (mut ratios, mut count) = (0.0, 0.0);
    for mut case in cases() {
        let mut least = [f64::INFINITY; 5];
        for _ in 0..60 {
            let mut keep = |i: usize, seconds: f64| least[i] = least[i].min(seconds);
            keep(0, case.slice(Parallelism::Serial));
            keep(1, case.slice(Parallelism::Executor(&Alone)));
            keep(2, inside.install(|| case.slice(Parallelism::Rayon)));
            keep(3, inside.install(|| case.slice(Parallelism::Executor(&Current))));
            keep(4, case.slice(Parallelism::Executor(&outside)));
        }
        let [serial, alone, two @ ..] = least.map(|seconds| 1e6 * seconds);
        let two = two.map(|us| format!("{us:.1} ({:+.1})", us - serial / 2.0));
        println!("{:<32}{serial:>10.1}{alone:>10.1}{:>20}{:>20}{:>20}", case.name, two[0], two[1], two[2]);
        ratios += (least[3] / least[2]).ln();
        count += 1.0;
    }
    println!("executor over rayon, geometric mean: {:.3}", f64::exp(ratios / count));
}
