//! Threads that an engine brings.

use std::sync::{Mutex, MutexGuard, PoisonError};

use depthwise_kernels::{Element, Error};

use super::part::Part;
use crate::choose::split::Shares;

/// A pool of threads that is not `rayon`'s current one: an engine's, or one's own. [`Parallelism::Executor`] runs on it.
///
/// [`Parallelism::Executor`]: crate::Parallelism::Executor
pub trait Executor: Sync {
    /// How many threads may work at once, those that wait in [`execute`](Self::execute) not counted.
    fn threads(&self) -> usize;

    /// Calls `task(i)` once for each i in `0..tasks`, on any of its threads, and returns when all calls have returned.
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

/// Runs `leaf` over the parts of `whole`. Each task takes the next part until there is none: where threads differ in speed, the faster
/// ones take more. The queue is locked while a part is cut off, not while it is computed. Which task takes which part does not matter,
/// so neither does it which index it is called with, nor how often.
pub(super) fn run<E: Element>(
    executor: &dyn Executor,
    shares: &Shares,
    whole: Part<'_, E>,
    leaf: &(impl Fn(Part<'_, E>) -> Result<(), Error> + Sync),
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
