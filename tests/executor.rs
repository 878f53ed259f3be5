//! Runs on the threads of an executor give the bits of a serial run, and one that does not keep its promises is an error.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use depthwise::{
    Activation, Axis, Element, Error, Executor, Fusion, Layout, Machine, OutputRange, Parallelism, Run, Shape,
    Workspace,
};
use depthwise_testkit::cases::{Case, Epilogue};
use depthwise_testkit::memory::{Arrangement, Buffer};
use depthwise_testkit::plan::{Arguments, Choice, Operation, Plan};

const OPERATIONS: [Operation; 4] =
    [Operation::Depthwise, Operation::Pointwise, Operation::Separable, Operation::Conv2d];
const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];

/// A pool of `rayon`, as an engine may own one.
#[cfg(feature = "rayon")]
struct Pool(rayon::ThreadPool);

#[cfg(feature = "rayon")]
impl Executor for Pool {
    fn threads(&self) -> usize {
        self.0.current_num_threads()
    }

    fn execute(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
        self.0.install(|| (0..tasks).into_par_iter().with_max_len(1).for_each(task));
    }
}

/// A thread of the standard library for each task but the first.
struct Spawning(usize);

impl Executor for Spawning {
    fn threads(&self) -> usize {
        self.0
    }

    fn execute(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for i in 1..tasks {
                scope.spawn(move || task(i));
            }
            task(0);
        });
    }
}

/// An executor of that many threads that does what it is told to.
struct Odd<F>(usize, F);

impl<F: Fn(usize, &(dyn Fn(usize) + Sync)) + Sync> Executor for Odd<F> {
    fn threads(&self) -> usize {
        self.0
    }

    fn execute(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        self.1(tasks, task);
    }
}

/// Of that type, so that the closure may be of any lifetime.
fn odd<F: Fn(usize, &(dyn Fn(usize) + Sync)) + Sync>(threads: usize, execute: F) -> Odd<F> {
    Odd(threads, execute)
}

/// Enough work to be split, with rows that no number of threads divides, and all parts of an epilogue.
fn large() -> Case {
    let epilogue = Epilogue { bias: true, batch_norm: true, activation: Activation::Silu };
    let (depthwise, pointwise) = (epilogue, epilogue);
    let input = Shape::new(2, 40, 59, 56);
    Case { input, outputs: 48, residual: true, depthwise, pointwise, ..Case::default() }
}

/// A plan with its tensors.
struct Call<E = f32> {
    plan: Plan<E>,
    input: Buffer<E>,
    residual: Option<Buffer<E>>,
    output: Buffer<E>,
    whole: Shape,
}

impl<E: Element> Call<E> {
    fn new(operation: Operation, case: &Case, layout: Layout, fusion: Fusion) -> Self {
        let arguments = Arguments::new(operation, case).with_tensors_of::<E>();
        let isa = *depthwise_testkit::isas().last().expect("an instruction set");
        let choice = Choice { fusion, ..Choice::new(Machine::detect(), isa, layout) };
        let plan = Plan::of(operation, case, &arguments, choice).expect("a plan");
        let buffer = |tensor: &depthwise_testkit::oracle::Tensor| {
            Buffer::of(&tensor.map(E::from_f32), layout, Arrangement::Contiguous)
        };
        let (input, residual) = (buffer(&arguments.input), arguments.residual.as_ref().map(buffer));
        let output = Buffer::blank(arguments.output, layout, Arrangement::Contiguous);
        Call { plan, input, residual, output, whole: arguments.output }
    }

    /// The output's elements, all of them or those of a range of rows.
    fn run(&mut self, parallelism: Parallelism, rows: Option<OutputRange>) -> Result<Vec<E>, Error> {
        self.output.clear();
        let mut workspace = depthwise_testkit::dirty_workspace();
        let mut output = self.output.view_mut();
        let mut residual = self.residual.as_ref().map(Buffer::view);
        if let Some(range) = &rows {
            output = output.narrow(Axis::H, range.h.clone())?;
            residual = residual.map(|residual| residual.narrow(Axis::H, range.h.clone())).transpose()?;
        }
        let run = Run::new(self.input.view(), output, &mut workspace).maybe_residual(residual).maybe_range(rows);
        self.plan.run(run.parallelism(parallelism))?;
        Ok(self.output.data().to_vec())
    }
}

/// By bits: no value is NaN but the sentinel outside of a range.
fn same<E: Element>(want: &[E], got: &[E]) -> bool {
    let bits = |x: E| x.to_f32().to_bits();
    want.len() == got.len() && want.iter().zip(got).all(|(&want, &got)| bits(want) == bits(got))
}

/// Whole runs and parts of them, on executors of several kinds and sizes.
fn every_way<E: Element>(operation: Operation, case: &Case, fusion: Fusion) {
    for layout in LAYOUTS {
        let mut call = Call::<E>::new(operation, case, layout, fusion);
        let rows = OutputRange { h: 3..call.whole.h - 2, ..OutputRange::all(call.whole) };
        for range in [None, Some(rows)] {
            let want = call.run(Parallelism::Serial, range.clone()).expect("a serial run");
            let mut check = |executor: &dyn Executor, what: &str| {
                let got = call.run(Parallelism::Executor(executor), range.clone());
                let got = got.unwrap_or_else(|error| panic!("{operation:?}, {layout}, {what}: {error}"));
                assert!(same(&want, &got), "{operation:?}, {layout}, {fusion:?}, {range:?}, {what}");
            };
            for threads in [0, 1, 2, 3, 16] {
                check(&Spawning(threads), "threads of the standard library");
            }
            #[cfg(feature = "rayon")]
            for threads in [1, 4] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
                check(&Pool(pool), "a pool of `rayon`");
            }
            // One after the other, in any order; one thread alone does all; with indices of its own.
            check(&odd(4, |tasks, task| (0..tasks).for_each(task)), "in order");
            check(&odd(4, |tasks, task| (0..tasks).rev().for_each(task)), "backwards");
            check(&odd(3, |tasks, task| (0..tasks).for_each(|_| task(usize::MAX))), "other indices");
            check(&odd(3, |tasks, task| (0..3 * tasks).for_each(|i| task(i / 3))), "each of them three times");
        }
    }
}

#[test]
fn the_bits_are_those_of_a_serial_run() {
    for operation in OPERATIONS {
        every_way::<f32>(operation, &large(), Fusion::Auto);
    }
    every_way::<f32>(Operation::Separable, &large(), Fusion::TwoPass);
    every_way::<f32>(Operation::Separable, &large(), Fusion::Fused);
    let strided = Case { stride: [2, 1], kernel: [5, 3], multiplier: 2, residual: false, ..large() };
    every_way::<f32>(Operation::Separable, &strided, Fusion::TwoPass);
    every_way::<f32>(Operation::Depthwise, &strided, Fusion::Auto);
}

#[cfg(feature = "half")]
#[test]
fn elements_of_16_bits_too() {
    for operation in OPERATIONS {
        every_way::<depthwise::bf16>(operation, &large(), Fusion::Auto);
    }
    every_way::<depthwise::f16>(Operation::Separable, &large(), Fusion::TwoPass);
}

/// As many tasks as threads work are asked for, and none for work that is too small to be shared.
#[test]
fn the_executor_is_asked_for_as_many_tasks_as_the_choice_has() {
    for layout in LAYOUTS {
        let mut call = Call::<f32>::new(Operation::Conv2d, &large(), layout, Fusion::Auto);
        for threads in [2, 3] {
            let asked = AtomicUsize::new(0);
            let executor = odd(threads, |tasks, task| {
                asked.store(tasks, Ordering::Relaxed);
                (0..tasks).for_each(task);
            });
            let parallelism = Parallelism::Executor(&executor);
            assert_eq!(format!("{parallelism:?}"), format!("Executor({threads} threads)"));
            let choice = call.plan.prepare(call.input.view().shape(), parallelism).expect("a choice");
            call.run(parallelism, None).expect("a run");
            assert_eq!(asked.load(Ordering::Relaxed), threads);
            assert_eq!(choice.describe().tasks, threads);
            let len = call.plan.workspace_len(call.input.view().shape(), parallelism).expect("a length");
            assert_eq!(len, choice.workspace_len());
            // The choice is good for another executor of as many threads.
            let mut workspace = Workspace::with_len(len).expect("memory");
            let room = workspace.len();
            let other = Spawning(threads);
            let run = Run::new(call.input.view(), call.output.view_mut(), &mut workspace)
                .maybe_residual(call.residual.as_ref().map(Buffer::view))
                .parallelism(Parallelism::Executor(&other));
            call.plan.run(run.choice(&choice)).expect("a run");
            assert_eq!(workspace.len(), room, "no more was needed");
        }
        let small = Case { input: Shape::new(1, 5, 6, 7), outputs: 3, ..Case::default() };
        let nobody = odd(8, |_, _| panic!("so little work is not shared"));
        let mut call = Call::<f32>::new(Operation::Pointwise, &small, layout, Fusion::Auto);
        call.run(Parallelism::Executor(&nobody), None).expect("a run");
    }
}

#[test]
fn a_choice_can_be_tuned_on_an_executor() {
    let mut call = Call::<f32>::new(Operation::Separable, &large(), Layout::Nhwc, Fusion::Auto);
    let want = call.run(Parallelism::Serial, None).expect("a serial run");
    let (executor, shape) = (Spawning(2), call.input.view().shape());
    let parallelism = Parallelism::Executor(&executor);
    let choice = call.plan.tune(shape, parallelism, Duration::from_millis(20)).expect("a choice");
    let again = call.plan.choice_from_text(&choice.to_text()).expect("its text");
    call.output.clear();
    let mut workspace = Workspace::new();
    let residual = call.residual.as_ref().map(Buffer::view);
    let run = Run::new(call.input.view(), call.output.view_mut(), &mut workspace).maybe_residual(residual);
    call.plan.run(run.parallelism(parallelism).choice(&again)).expect("a run");
    assert!(same(&want, call.output.data()));
}

/// Whatever it does, nothing is unsound and nobody waits for ever.
#[test]
fn an_executor_that_does_not_keep_its_promises() {
    for (operation, fusion) in OPERATIONS
        .map(|operation| (operation, Fusion::Auto))
        .into_iter()
        .chain([(Operation::Separable, Fusion::TwoPass)])
    {
        for layout in LAYOUTS {
            let mut call = Call::<f32>::new(operation, &large(), layout, fusion);
            let want = call.run(Parallelism::Serial, None).expect("a serial run");

            let mut error = |executor: &dyn Executor, expected: Error| {
                assert_eq!(call.run(Parallelism::Executor(executor), None), Err(expected), "{operation:?}, {layout}");
            };
            error(&odd(2, |_, _| ()), Error::Executor { tasks: 2, ended: 0 });
            error(&odd(2, |_, task| task(0)), Error::Executor { tasks: 2, ended: 1 });
            error(&odd(3, |tasks, task| (1..tasks).for_each(task)), Error::Executor { tasks: 3, ended: 2 });

            // A panic of its own before a task, after one, and between two is the caller's.
            for before in 0..3 {
                let executor = odd(2, |_, task| {
                    (0..before).for_each(task);
                    panic!("an executor of the test");
                });
                let panics = std::panic::AssertUnwindSafe(|| call.run(Parallelism::Executor(&executor), None));
                let panic = std::panic::catch_unwind(panics).expect_err("a panic");
                assert_eq!(panic.downcast_ref(), Some(&"an executor of the test"));
            }
            // The plan is as good as before.
            let got = call.run(Parallelism::Executor(&Spawning(2)), None).expect("a run");
            assert!(same(&want, &got), "{operation:?}, {layout}");
        }
    }
}

/// A workspace of the thread is there again for the next call, also after a panic; a call within the call has another one, and the
/// larger one is kept.
#[test]
fn a_thread_keeps_its_workspace() {
    let len = || Workspace::with_thread(|workspace| workspace.len());
    let grow = |len: usize| {
        Workspace::with_thread(|workspace| *workspace = Workspace::with_len(len).expect("memory"));
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            assert_eq!(len(), 0, "a thread starts with none");
            grow(160);
            assert_eq!(len(), 160);
            Workspace::with_thread(|outer| {
                assert_eq!((outer.len(), len()), (160, 0), "it is taken");
                grow(480);
                assert_eq!(len(), 480);
            });
            assert_eq!(len(), 480, "the inner one is kept");
            Workspace::with_thread(|_| grow(320));
            assert_eq!(len(), 480, "the outer one is kept");
            let panics = || {
                Workspace::with_thread(|workspace| {
                    *workspace = Workspace::with_len(640).expect("memory");
                    panic!("a caller of the test");
                })
            };
            let panic = std::panic::catch_unwind(panics).expect_err("a panic");
            assert_eq!(panic.downcast_ref(), Some(&"a caller of the test"));
            assert_eq!(len(), 640, "it is back after a panic");
        });
        thread.join().expect("no panic");
    });
    /// Asks for a workspace when its thread is ending, and maybe has none any more.
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            Workspace::with_thread(|workspace| *workspace = Workspace::with_len(10).expect("memory"));
        }
    }
    std::thread_local!(static LATE: Late = const { Late });
    let ending = std::thread::spawn(move || {
        LATE.with(|_| ());
        Workspace::with_thread(|workspace| workspace.len())
    });
    assert_eq!(ending.join().expect("no panic"), 0);
}

/// However many threads an executor says that it has, tasks are as many as can be chosen among.
#[test]
fn more_threads_than_there_are() {
    let case = Case { residual: false, ..large() };
    let mut call = Call::<f32>::new(Operation::Depthwise, &case, Layout::Nhwc, Fusion::Auto);
    let want = call.run(Parallelism::Serial, None).expect("a serial run");
    let most = AtomicUsize::new(0);
    let executor = Odd(usize::MAX, |tasks: usize, task: &(dyn Fn(usize) + Sync)| {
        most.fetch_max(tasks, Ordering::SeqCst);
        (0..tasks).for_each(task);
    });
    let parallelism = Parallelism::Executor(&executor);
    let tuned = call.plan.tune(case.input, parallelism, Duration::from_millis(1)).expect("a choice");
    assert_eq!(call.plan.choice_from_text(&tuned.to_text()).expect("its text").to_text(), tuned.to_text());
    assert!(same(&want, &call.run(parallelism, None).expect("a run")));
    let most = most.into_inner();
    assert!((2..=1024).contains(&most), "{most} tasks");
}

/// An engine that runs images at the same time, each shared on the same pool: a thread that waits for its image begins another.
#[cfg(feature = "rayon")]
#[test]
fn runs_on_rayon_within_rayon() {
    use rayon::iter::{IntoParallelIterator, ParallelIterator};

    /// The current pool.
    struct Current;
    impl Executor for Current {
        fn threads(&self) -> usize {
            rayon::current_num_threads()
        }

        fn execute(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
            (0..tasks).into_par_iter().for_each(task);
        }
    }

    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().expect("a pool");
    for (operation, fusion) in [(Operation::Separable, Fusion::TwoPass), (Operation::Conv2d, Fusion::Auto)] {
        let case = Case { residual: false, ..large() };
        let mut call = Call::<f32>::new(operation, &case, Layout::Nhwc, fusion);
        let want = call.run(Parallelism::Serial, None).expect("a serial run");
        let (plan, input) = (&call.plan, call.input.view());
        for parallelism in [Parallelism::Rayon, Parallelism::Executor(&Current)] {
            // Within a call, so that there are calls within calls.
            let image = |_| Workspace::with_thread(|workspace| plan.run_to_vec(input, None, workspace, parallelism));
            let images: Vec<_> = pool.install(|| (0..24).into_par_iter().map(image).collect());
            for image in images {
                assert!(same(&want, &image.expect("a run")), "{operation:?}, {parallelism:?}");
            }
        }
    }
}
