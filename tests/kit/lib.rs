//! What the suites share: the oracle, the cases, and [`check`], which runs a case on every kernel
//! in every way there is to call it.

pub mod activation;
pub mod cases;
pub mod emulation;
pub mod int8;
pub mod memory;
pub mod oracle;
pub mod plan;
pub mod shapes;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use depthwise::{
    Axis, Element, ElementType, Error, Fusion, Isa, KernelInfo, Layout, Machine, OutputRange, Parallelism, Run, Shape,
    TensorView, TensorViewMut, Workspace,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use cases::Case;
use memory::{Arrangement, Buffer};
use oracle::{Exact, Fused, Separate, Tensor};
use plan::{Arguments, Choice, Operation, Plan, expected_of};

/// A file or folder of `tests/data`.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data").join(name)
}

/// The instruction sets to test: those of this machine. Fails where `DEPTHWISE_REQUIRE_ISA` (names between commas) asks
/// for another, so that no job is green without having run what it is for.
pub fn isas() -> Vec<Isa> {
    let isas: Vec<Isa> = Isa::all().iter().copied().filter(|isa| isa.is_available()).collect();
    let required = std::env::var("DEPTHWISE_REQUIRE_ISA").unwrap_or_default();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        assert!(isas.iter().any(|isa| isa.name() == name), "required: {name}; this machine runs {isas:?}");
    }
    isas
}

/// Every machine with each of its instruction sets that are tested here. What is chosen for any machine runs on this one, so no test
/// asks which CPU this is.
pub fn machines() -> Vec<(&'static Machine, Isa)> {
    isas().into_iter().flat_map(|isa| Choice::machines(isa).map(move |machine| (machine, isa))).collect()
}

/// The kernels of the table that compute with `f32`: those of 8 bits have plans, and tests, of their own.
pub fn float_kernels() -> impl Iterator<Item = KernelInfo> {
    depthwise::kernels().filter(|kernel| kernel.element != ElementType::I8)
}

/// How many cases each kernel ran.
#[derive(Default)]
pub struct Tally {
    cases: usize,
    runs: BTreeMap<&'static str, usize>,
}

impl Tally {
    /// Counts a case that ran on these kernels.
    pub fn add(&mut self, kernels: impl IntoIterator<Item = &'static str>) {
        self.cases += 1;
        for kernel in kernels {
            *self.runs.entry(kernel).or_default() += 1;
        }
    }

    /// Prints kernel × cases; fails if a kernel that `is_due` here ran fewer than `least`. Adds the same, the kernels that
    /// ran none included, to the file that `DEPTHWISE_TALLY` names, for `.ci/tally` to sum over all suites.
    pub fn finish(self, suite: &str, least: usize, is_due: impl Fn(&KernelInfo) -> bool) {
        assert!(self.cases > 0, "{suite}: no cases");
        println!("{suite}: {} cases on {:?}", self.cases, isas());
        let kernels = || depthwise::kernels().filter(|kernel| kernel.isa.is_available());
        let runs = |kernel: KernelInfo| self.runs.get(kernel.name).copied().unwrap_or(0);
        let lines: String = kernels().map(|kernel| format!("{:<40} {:>5}\n", kernel.name, runs(kernel))).collect();
        print!("{lines}");
        if let Some(path) = std::env::var_os("DEPTHWISE_TALLY") {
            // A single write at the end: other tests add their own lines meanwhile.
            let file = std::fs::File::options().append(true).create(true).open(&path);
            file.and_then(|mut file| file.write_all(lines.as_bytes())).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        }
        for kernel in kernels().filter(is_due) {
            assert!(runs(kernel) >= least, "{suite}: {} ran {} cases of {}", kernel.name, runs(kernel), self.cases);
        }
    }
}

/// Runs `case` on every kernel that fits it, in every layout and on every instruction set, in
/// every way to call it, and panics unless each gives the oracle's bits. That they also agree with
/// each other (layouts, thread counts, splits, fused or not) follows.
pub fn check(operation: Operation, case: &Case, tally: &mut Tally) {
    check_of::<f32>(operation, case, tally);
}

/// The same with tensors of that type.
pub fn check_of<E: Element>(operation: Operation, case: &Case, tally: &mut Tally) {
    tally.cases += 1;
    if let Err(problem) = try_check::<E>(operation, case, tally) {
        panic!("{operation:?} of {}: {problem}\nin {case:#?}", E::TYPE);
    }
}

fn try_check<E: Element>(operation: Operation, case: &Case, tally: &mut Tally) -> Result<(), String> {
    let arguments = Arguments::new(operation, case).with_tensors_of::<E>();
    let exact = expected_of::<E, Exact>(operation, case, &arguments);
    let fused = expected_of::<E, Fused>(operation, case, &arguments).map(|y| y.0);
    let separate = expected_of::<E, Separate>(operation, case, &arguments).map(|y| y.0);
    // What equals the oracle's bits is within the bound because the oracle is.
    within_bound(&fused, &exact).map_err(|e| format!("the fused oracle, {e}"))?;
    within_bound(&separate, &exact).map_err(|e| format!("the unfused oracle, {e}"))?;

    // They were rounded.
    let [fused, separate] = [fused, separate].map(|wide| wide.map(E::from_f32));
    let mut ran = BTreeSet::new();
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let mut calls = Calls::new(case, &arguments, layout);
        for isa in isas() {
            let want = if isa.is_fused() { &fused } else { &separate };
            for choice in Choice::all_of::<E>(operation, isa, layout) {
                let plan = match Plan::of(operation, case, &arguments, choice) {
                    Ok(plan) => plan,
                    Err(Error::KernelDoesNotFit { .. }) if choice.kernel.is_some() => continue,
                    Err(error) => return Err(format!("{choice:?}: {error}")),
                };
                let kernels = plan.kernels(case.input).map_err(|e| format!("{choice:?}: {e}"))?;
                if choice.kernel.is_some_and(|kernel| !kernels.contains(&kernel)) {
                    return Err(format!("{choice:?} runs on {kernels:?}"));
                }
                let run = calls.every_way(&plan, want, choice);
                run.map_err(|e| format!("{choice:?} on {kernels:?}, {e}"))?;
                ran.extend(kernels);
            }
        }
    }
    for kernel in ran {
        *tally.runs.entry(kernel).or_default() += 1;
    }
    Ok(())
}

pub fn within_bound(got: &Tensor, exact: &Tensor<Exact>) -> Result<(), String> {
    for (i, (got, exact)) in got.data.iter().zip(&exact.data).enumerate() {
        let error = (f64::from(*got) - exact.value).abs();
        let within = error <= exact.error(); // A NaN is not.
        if exact.is_bounded() && !within {
            return Err(format!(
                "element {i}: {got:e} is off {:e} by {error:e}, over {:e}",
                exact.value,
                exact.error()
            ));
        }
    }
    Ok(())
}

/// How input, residual and output of a call lie: all alike once, then each in its own way.
const ARRANGEMENTS: [[Arrangement; 3]; 4] = {
    use Arrangement::{Contiguous, Gaps, Permuted};
    [
        [Contiguous, Contiguous, Contiguous],
        [Gaps, Permuted, Contiguous],
        [Permuted, Contiguous, Gaps],
        [Contiguous, Gaps, Permuted],
    ]
};

/// Input, residual and output.
type Buffers<E> = (Buffer<E>, Option<Buffer<E>>, Buffer<E>);

/// The tensors of one case in one layout, to call its plans with.
struct Calls<'a, E> {
    arguments: &'a Arguments,
    buffers: Vec<Buffers<E>>,
    /// Of the splits, and of the turns.
    rng: StdRng,
}

impl<'a, E: Element> Calls<'a, E> {
    fn new(case: &Case, arguments: &'a Arguments, layout: Layout) -> Calls<'a, E> {
        let buffers = ARRANGEMENTS.map(|[input, residual, output]| {
            let residual = arguments.residual.as_ref().map(|r| Buffer::of(&r.map(E::from_f32), layout, residual));
            let output = Buffer::blank(arguments.output, layout, output);
            (Buffer::of(&arguments.input.map(E::from_f32), layout, input), residual, output)
        });
        Calls { arguments, buffers: buffers.into(), rng: StdRng::seed_from_u64(case.seed) }
    }

    fn every_way(&mut self, plan: &Plan<E>, want: &Tensor<E>, choice: Choice) -> Result<(), String> {
        let shape = plan.output_shape(self.arguments.input.shape).map_err(|e| format!("output_shape: {e}"))?;
        if shape != want.shape {
            return Err(format!("output_shape: want {:?}, got {shape:?}", want.shape));
        }
        // In every arrangement, or if that would take long in one of them by turns.
        let in_all = choice.in_every_arrangement() && want.data.len() <= 1 << 14 && !emulation::is_on();
        let turn = self.rng.random_range(0..self.buffers.len());
        let chosen = if in_all { 0..self.buffers.len() } else { turn..turn + 1 };
        // Not for each call, which would take longer than the calls.
        let mut serial = dirty_workspace();
        #[cfg(feature = "rayon")]
        let mut threads = dirty_workspace();
        for i in chosen {
            let (input, residual, output) = &mut self.buffers[i];
            let input = input.view();
            let residual = residual.as_ref().map(Buffer::view);
            let verdict = |run: Result<(), Error>, output: &Buffer<E>, way: &str| {
                let result = run.map_err(|e| e.to_string()).and_then(|()| output.expect(want));
                result.map_err(|e| format!("{:?}, {way}: {e}", ARRANGEMENTS[i]))
            };

            output.clear();
            let run = plan.run(Run::new(input, output.view_mut(), &mut serial).maybe_residual(residual));
            verdict(run, output, "serial")?;

            let prepared = plan.prepare(input.shape(), Parallelism::Serial).map_err(|e| format!("prepare: {e}"))?;
            let kept = self.rng.random::<bool>().then_some(&prepared);

            output.clear();
            let mut parts = Parts { plan, input, choice: kept, rng: &mut self.rng, workspace: &mut Workspace::new() };
            // Most of what Miri does is to start runs.
            let depth = if cfg!(miri) { 1 } else { 3 };
            let run = parts.run(residual, output.view_mut(), OutputRange::all(shape), depth);
            verdict(run, output, if kept.is_some() { "in parts with a choice" } else { "in parts" })?;

            #[cfg(feature = "rayon")]
            {
                let turn = self.rng.random_range(0..POOLS.len());
                // On every thread count, or on one by turns.
                let all_pools = choice.is_first() && !emulation::is_on();
                for pool in if all_pools { &POOLS[..] } else { &POOLS[turn..=turn] } {
                    output.clear();
                    let view = output.view_mut();
                    let prepares = self.rng.random::<bool>();
                    let run = pool.install(|| {
                        let run = Run::new(input, view, &mut threads).maybe_residual(residual);
                        let run = run.parallelism(Parallelism::Rayon);
                        if prepares {
                            return plan.run(run.choice(&plan.prepare(input.shape(), Parallelism::Rayon)?));
                        }
                        plan.run(run)
                    });
                    verdict(run, output, &format!("{} threads", pool.current_num_threads()))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(feature = "rayon")]
pub static POOLS: LazyLock<Vec<rayon::ThreadPool>> = LazyLock::new(|| {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    [1, 2, 3, 7].map(|threads| pool(threads).expect("a thread pool")).into()
});

/// A run that an engine's own scheduler would have split.
struct Parts<'a, E> {
    plan: &'a Plan<E>,
    input: TensorView<'a, E>,
    choice: Option<&'a depthwise::Choice>,
    rng: &'a mut StdRng,
    workspace: &'a mut Workspace,
}

impl<E: Element> Parts<'_, E> {
    /// Cuts `range` in two along a random axis, `depth` times over, and runs what is left.
    fn run(
        &mut self,
        residual: Option<TensorView<E>>,
        output: TensorViewMut<E>,
        range: OutputRange,
        depth: usize,
    ) -> Result<(), Error> {
        let axis = Axis::ALL[self.rng.random_range(0..4)];
        let (start, len) = (range[axis].start, range[axis].len());
        if depth == 0 {
            let run = Run::new(self.input, output, self.workspace).maybe_residual(residual).range(range);
            return self.plan.run(run.maybe_choice(self.choice));
        }
        if len < 2 {
            return self.run(residual, output, range, depth - 1);
        }
        let at = self.rng.random_range(1..len);
        let (first, second) = output.split_at(axis, at)?;
        for (output, part) in [(first, 0..at), (second, at..len)] {
            let residual = residual.map(|r| r.narrow(axis, part.clone())).transpose()?;
            let mut range = range.clone();
            range[axis] = start + part.start..start + part.end;
            self.run(residual, output, range, depth - 1)?;
        }
        Ok(())
    }
}

/// A workspace after a run that needed much of it and computed nothing but NaN.
pub fn dirty_workspace() -> Workspace {
    /// Of its rows and columns. Miri's runs are small themselves.
    const LARGE: usize = if cfg!(miri) { 2 } else { 16 };
    static LARGER_RUN: LazyLock<(Plan, Buffer, Shape)> = LazyLock::new(|| {
        let case = Case { input: Shape::new(1, 16, LARGE, LARGE), outputs: 16, ..Case::default() };
        let mut arguments = Arguments::new(Operation::Separable, &case);
        arguments.input.data.fill(f32::NAN);
        let choice = Choice { fusion: Fusion::TwoPass, ..Choice::new(Machine::all()[0], Isa::Portable, Layout::Nhwc) };
        let plan = Plan::new(Operation::Separable, &case, &arguments, choice).expect("a plain plan");
        (plan, Buffer::of(&arguments.input, Layout::Nhwc, Arrangement::Contiguous), arguments.output)
    });
    let (plan, input, shape) = &*LARGER_RUN;
    let mut output = Buffer::blank(*shape, Layout::Nhwc, Arrangement::Contiguous);
    let mut workspace = Workspace::new();
    plan.run(Run::new(input.view(), output.view_mut(), &mut workspace)).expect("a plain run");
    assert!(workspace.len() >= 16 * LARGE * LARGE, "so much lies between the stages");
    workspace
}
