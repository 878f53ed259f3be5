//! Who does the work of a run.

use core::fmt;

use depthwise_kernels::Error;

#[cfg(feature = "std")]
use super::executor::Executor;
use crate::choose::split::Both;
use crate::choose::workers::Workers;
use crate::machine::Sharing;

/// Who does the work of a run.
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub enum Parallelism<'a> {
    /// The calling thread. This is the default.
    ///
    /// The run uses the floating-point environment of that thread. Results are as promised under the default environment, which
    /// rounds to nearest and flushes no denormals.
    #[default]
    Serial,
    /// The current `rayon` pool. Call from inside the pool (`ThreadPool::install`): a call from outside may allocate. Runs that
    /// are too short to be worth sharing stay on one thread.
    ///
    /// A call from outside of any pool uses the global pool. To hand it the work takes time, so then longer runs, too, stay on the
    /// calling thread.
    ///
    /// Hold no lock, and no borrow of a thread-local, across such a run. A thread of the pool that waits for others runs other tasks
    /// of the pool meanwhile. If such a task takes the same lock, the thread waits for itself. If it borrows the same thread-local,
    /// it panics. A workspace for each thread is what [`Workspace::with_thread`](crate::Workspace::with_thread) is for.
    ///
    /// The pool's threads have a floating-point environment of their own. A rounding mode or the flushing of denormals that the
    /// caller has set for itself is not theirs.
    #[cfg(feature = "rayon")]
    Rayon,
    /// The threads of an [`Executor`]: of an engine's pool, or of one's own. Short runs stay on the calling thread, as with a `rayon` pool
    /// that is called from outside.
    ///
    /// A run asks for as many tasks as its [`Choice`](crate::Choice) has, at most one for each thread, once for each pass. Each task
    /// takes the next part of the output until there is none: see [`Executor::threads`] for cores of unequal speed. The bits are those of
    /// any other run. `prepare` and `tune` take it as well, and a choice that was made with one executor is good for each with as many
    /// threads.
    ///
    /// What is said above of locks and thread-locals holds for executors whose threads run other tasks while they wait. A run fails if
    /// the executor leaves out tasks, and panics if the executor does.
    #[cfg(feature = "std")]
    Executor(&'a dyn Executor),
    /// Nobody: without `std` nothing is borrowed.
    #[cfg(not(feature = "std"))]
    #[doc(hidden)]
    Nobody(core::convert::Infallible, core::marker::PhantomData<&'a ()>),
}

impl Parallelism<'_> {
    /// Who may do work of that price, or `None` if it is not worth several threads: then nobody asks for them. Where there are none,
    /// the calling thread does the work.
    #[cfg_attr(not(feature = "std"), expect(unused_variables, reason = "then there are no threads"))]
    pub(crate) fn workers(self, price: impl Fn() -> f64, sharing: &Sharing) -> Option<Workers> {
        match self {
            Parallelism::Serial => Some(Workers::ONE),
            #[cfg(feature = "std")]
            _ => {
                let outside = self.is_outside();
                let least = if outside { sharing.least_outside } else { 2.0 * sharing.least };
                if price() < least {
                    return None;
                }
                Some(Workers { outside, ..Workers::called_within(self.threads()) })
            }
            #[cfg(not(feature = "std"))]
            Parallelism::Nobody(nobody, _) => match nobody {},
        }
    }

    /// Whether the thread that calls is none of those that work.
    #[cfg(feature = "std")]
    fn is_outside(self) -> bool {
        match self {
            Parallelism::Serial => false,
            #[cfg(feature = "rayon")]
            Parallelism::Rayon => rayon::current_thread_index().is_none(),
            // It may be, or not. To wait for other threads costs more than a little work on one takes longer.
            Parallelism::Executor(_) => true,
        }
    }

    /// The threads that there are.
    pub(crate) fn threads(self) -> usize {
        match self {
            Parallelism::Serial => 1,
            #[cfg(feature = "rayon")]
            Parallelism::Rayon if self.is_outside() && !global_pool_runs() => 1,
            #[cfg(feature = "rayon")]
            Parallelism::Rayon => rayon::current_num_threads(),
            #[cfg(feature = "std")]
            Parallelism::Executor(executor) => executor.threads().max(1),
            #[cfg(not(feature = "std"))]
            Parallelism::Nobody(nobody, _) => match nobody {},
        }
    }
}

impl fmt::Debug for Parallelism<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Parallelism::Serial => f.write_str("Serial"),
            #[cfg(feature = "rayon")]
            Parallelism::Rayon => f.write_str("Rayon"),
            #[cfg(feature = "std")]
            Parallelism::Executor(executor) => write!(f, "Executor({} threads)", executor.threads()),
            #[cfg(not(feature = "std"))]
            Parallelism::Nobody(nobody, _) => match *nobody {},
        }
    }
}

impl Both for Parallelism<'_> {
    fn both(
        self,
        a: impl FnOnce() -> Result<(), Error> + Send,
        b: impl FnOnce() -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        match self {
            #[cfg(feature = "rayon")]
            Parallelism::Rayon => {
                let (a, b) = rayon::join(a, b);
                a.and(b)
            }
            // An executor takes what is shared.
            _ => a().and_then(|()| b()),
        }
    }
}

/// Whether `rayon`'s global pool runs, which the first call starts. Where its threads cannot be started, `rayon` would panic,
/// except on WebAssembly: there its pool is the calling thread.
#[cfg(feature = "rayon")]
fn global_pool_runs() -> bool {
    if cfg!(target_family = "wasm") {
        return true;
    }
    static RUNS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *RUNS.get_or_init(|| match rayon::ThreadPoolBuilder::new().build_global() {
        Ok(()) => true,
        // It was tried before, by somebody else. Whether it failed then, only a panic tells.
        Err(error) if std::error::Error::source(&error).is_none() => {
            std::panic::catch_unwind(rayon::current_num_threads).is_ok()
        }
        Err(_) => false,
    })
}
