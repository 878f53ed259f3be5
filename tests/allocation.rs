//! `run` allocates nothing once the workspace is large enough: neither alone nor within a pool nor on an executor, neither with a
//! prepared choice nor without.

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use depthwise::{Element, Executor, Isa, Layout, OutputRange, Parallelism, Run, Shape, Workspace, bf16, f16};
use depthwise_testkit::cases::Case;
use depthwise_testkit::memory::{Arrangement, Buffer};
use depthwise_testkit::plan::{Arguments, Choice, Operation, Plan};

struct Counting;

/// Allocations of all threads.
static ALL: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Allocations of this thread.
    static OWN: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all work is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        ALL.fetch_add(1, Ordering::SeqCst);
        OWN.set(OWN.get() + 1);
        // SAFETY: the caller's.
        unsafe { System.alloc(memory) }
    }

    unsafe fn dealloc(&self, p: *mut u8, memory: Memory) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(p, memory) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How much `count` grows by.
fn grown(count: impl Fn() -> usize, work: impl FnOnce()) -> usize {
    let before = count();
    work();
    count() - before
}

#[test]
fn run_allocates_nothing() {
    assert_eq!(grown(|| OWN.get(), || drop(black_box(Box::new(1)))), 1, "the counter counts");
    // Enough work to be split, and every part of an epilogue.
    let large = Case { input: Shape::new(2, 40, 57, 56), outputs: 48, residual: true, ..Case::default() };
    let small = Case { input: Shape::new(1, 5, 6, 7), outputs: 3, ..Case::default() };
    for case in [small, large] {
        for operation in [Operation::Depthwise, Operation::Pointwise, Operation::Separable, Operation::Conv2d] {
            let arguments = Arguments::new(operation, &case);
            for isa in depthwise_testkit::isas() {
                for layout in [Layout::Nchw, Layout::Nhwc] {
                    for choice in Choice::all(operation, isa, layout) {
                        if let Ok(plan) = Plan::new(operation, &case, &arguments, choice) {
                            check(&plan, &arguments, layout, &format!("{operation:?}, {:?}, {choice:?}", case.input));
                        }
                    }
                    narrow::<f16>(operation, &case, isa, layout);
                    narrow::<bf16>(operation, &case, isa, layout);
                }
            }
        }
    }
}

/// Plans of a type that is converted, in many blocks and in few.
fn narrow<E: Element>(operation: Operation, case: &Case, isa: Isa, layout: Layout) {
    let arguments = Arguments::new(operation, case).with_tensors_of::<E>();
    for choice in Choice::all_of::<E>(operation, isa, layout).into_iter().filter(|choice| choice.kernel.is_none()) {
        let name = format!("{operation:?} of {}, {:?}, {choice:?}", E::TYPE, case.input);
        check(&Plan::<E>::of(operation, case, &arguments, choice).expect(&name), &arguments, layout, &name);
    }
}

fn check<E: Element>(plan: &Plan<E>, arguments: &Arguments, layout: Layout, name: &str) {
    let shape = plan.output_shape(arguments.input.shape).expect(name);
    let input = Buffer::of(&arguments.input.map(E::from_f32), layout, Arrangement::Contiguous);
    let residual =
        arguments.residual.as_ref().map(|r| Buffer::of(&r.map(E::from_f32), layout, Arrangement::Contiguous));
    let residual = residual.as_ref().map(Buffer::view);
    let mut output = Buffer::blank(shape, layout, Arrangement::Contiguous);
    let sized = |parallelism: Parallelism| {
        let len = plan.workspace_len(input.view().shape(), parallelism).expect(name);
        Workspace::with_len(len).expect(name)
    };

    let mut workspace = sized(Parallelism::Serial);
    let allocations = grown(
        || OWN.get(),
        || {
            let choice = plan.prepare(input.view().shape(), Parallelism::Serial).expect(name);
            let mut run = |range: Option<OutputRange>, choice: Option<&depthwise::Choice>| {
                let run = Run::new(input.view(), output.view_mut(), &mut workspace);
                let run = run.maybe_residual(residual).maybe_range(range).maybe_choice(choice);
                plan.run(run).expect(name);
            };
            run(None, None);
            run(Some(OutputRange::all(shape)), None);
            run(None, Some(&choice));
            run(Some(OutputRange::all(shape)), Some(&choice));
        },
    );
    assert_eq!(allocations, 0, "{name}, serial");

    let mut shared = |parallelism: Parallelism, count: fn() -> usize, times: usize| {
        // The thread's own workspace, which the first call makes.
        let len = sized(parallelism).len();
        Workspace::with_thread(|workspace| *workspace = Workspace::with_len(len.max(workspace.len())).expect(name));
        let choice = plan.prepare(input.view().shape(), parallelism).expect(name);
        let mut run = || {
            for choice in [None, Some(&choice)] {
                Workspace::with_thread(|workspace| {
                    let run = Run::new(input.view(), output.view_mut(), workspace).maybe_residual(residual);
                    plan.run(run.parallelism(parallelism).maybe_choice(choice)).expect(name);
                });
            }
        };
        // Other threads allocate at times on their own account: the pool's when they start and when their queues grow,
        // the test harness's. What a run does, each run does.
        let least = (0..times).map(|_| grown(count, &mut run)).min();
        assert_eq!(least, Some(0), "{name}, {parallelism:?}");
    };
    shared(Parallelism::Executor(&InTurns), || OWN.get(), 1);
    #[cfg(feature = "rayon")]
    POOL.install(|| shared(Parallelism::Rayon, || ALL.load(Ordering::SeqCst), 5));
}

/// Three tasks one after the other.
struct InTurns;

impl Executor for InTurns {
    fn threads(&self) -> usize {
        3
    }

    fn execute(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(task);
    }
}

#[cfg(feature = "rayon")]
static POOL: std::sync::LazyLock<rayon::ThreadPool> =
    std::sync::LazyLock::new(|| rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("a thread pool"));
