//! Threads that an engine brings.

use std::sync::{Mutex, MutexGuard, PoisonError};

use depthwise_kernels::Error;

use super::part::Part;
use crate::choose::split::Shares;

/// A pool of threads, an engine's or one's own, for [`Parallelism::Executor`](crate::Parallelism::Executor).
///
/// An executor that breaks its promises cannot do harm: a run that is not complete is an [`Error::Executor`], and a task that is called
/// too often finds nothing to do. For a pool of `rayon`, `execute` is
/// `pool.install(|| (0..tasks).into_par_iter().with_max_len(1).for_each(task))`.
///
/// ```
/// use depthwise::{DepthwiseConv2d, Executor, Parallelism, Shape, TensorView, Workspace};
///
/// /// Starts threads for each run. A pool keeps them instead.
/// struct Spawning(usize);
///
/// impl Executor for Spawning {
///     fn threads(&self) -> usize {
///         self.0
///     }
///
///     fn execute(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
///         std::thread::scope(|scope| {
///             for i in 1..tasks {
///                 scope.spawn(move || task(i));
///             }
///             task(0); // the calling thread works too
///         });
///     }
/// }
///
/// let plan = DepthwiseConv2d::builder(64).weights(&[0.5; 64 * 9]).build()?;
/// let (shape, x) = (Shape::new(1, 64, 56, 56), vec![1.0; 64 * 56 * 56]);
/// let input = TensorView::new(&x, shape, plan.layout())?;
/// let run = |parallelism| plan.run_to_vec(input, None, &mut Workspace::new(), parallelism);
/// assert_eq!(run(Parallelism::Executor(&Spawning(2)))?, run(Parallelism::Serial)?);
/// # Ok::<(), depthwise::Error>(())
/// ```
pub trait Executor: Sync {
    /// How many threads may work on a run at once. 0 counts as 1.
    ///
    /// A run is cut into about as many parts of equal work. Where cores differ in speed, the slowest one holds up the others: with a
    /// multiple of the threads here, parts are finer, and a fast core takes more of them. Each task has scratch of its own, so the
    /// workspace grows with it.
    fn threads(&self) -> usize;

    /// Calls `task(i)` once for each i in `0..tasks`, on any of its threads, and returns when all calls have returned.
    ///
    /// A task may take 128 KiB of its thread's stack. The tasks need not run at the same time: one after the other on one thread is fine, and gives the same bits. None waits for
    /// another.
    fn execute(&self, tasks: usize, task: &(dyn Fn(usize) + Sync));
}

/// What the tasks of a pass share.
struct Queue<'a, P> {
    /// Those that no task has taken.
    parts: P,
    /// That of tasks that have not begun.
    scratch: &'a mut [f32],
    begun: usize,
    ended: usize,
    error: Option<Error>,
}

/// Runs `leaf` over the parts of `whole`. Each task takes the next part until there is none: where a thread comes late or is slow, others
/// take more, as far as there are more parts than threads. Parts are cut off one by one, as a place for all of them would have to be
/// allocated. The queue is locked meanwhile, but not while a part is computed. Any task may take any part, so it does not matter which
/// index a task is called with.
pub(super) fn run<E: Copy + Send + Sync, O: Copy + Send + Sync>(
    executor: &dyn Executor,
    shares: &Shares,
    whole: Part<'_, E, O>,
    leaf: &(impl Fn(Part<'_, E, O>) -> Result<(), Error> + Sync),
) -> Result<(), Error> {
    let (tasks, per_task) = (shares.tasks(), whole.per_task);
    let Part { input, residual, output, origin, scratch, .. } = whole;
    let whole = Part { input, residual, output, origin, scratch: &mut [], per_task: 0 };
    let queue = Mutex::new(Queue { parts: shares.cuts(whole)?, scratch, begun: 0, ended: 0, error: None });
    executor.execute(tasks, &|_| {
        let mut state = lock(&queue);
        if state.begun == tasks {
            return;
        }
        state.begun += 1;
        let (scratch, others) = core::mem::take(&mut state.scratch).split_at_mut(per_task);
        state.scratch = others;
        while let Some(part) = state.parts.next() {
            drop(state);
            let result = part.and_then(|part| leaf(Part { scratch: &mut *scratch, per_task, ..part }));
            state = lock(&queue);
            if let Err(error) = result {
                state.error.get_or_insert(error);
            }
        }
        state.ended += 1;
    });
    let Queue { ended, error, .. } = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    match error {
        Some(error) => Err(error),
        None if ended < tasks => Err(Error::Executor { tasks, ended }),
        None => Ok(()),
    }
}

/// Nothing panics while it holds the lock.
fn lock<T>(queue: &Mutex<T>) -> MutexGuard<'_, T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
