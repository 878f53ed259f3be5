//! Who does the work of a run.

use depthwise_kernels::Error;

use crate::choose::split::Join;
use crate::choose::workers::Workers;
#[cfg(feature = "rayon")]
use crate::choose::workers::{LEAST, LEAST_OUTSIDE};

/// Who does the work of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Parallelism {
    /// The calling thread. This is the default.
    ///
    /// The run uses the floating-point environment of that thread. Results are as promised under the default environment, which
    /// rounds to nearest and flushes no denormals.
    #[default]
    Serial,
    /// The current `rayon` pool. Call from inside the pool (`ThreadPool::install`): a call from outside may allocate. Runs that take
    /// less than some 8 µs stay on one thread.
    ///
    /// A call from outside of any pool uses the global pool. It takes some 5 µs longer (Zen 4), so then runs of less than some
    /// 24 µs stay on the calling thread.
    ///
    /// Hold no lock, and no borrow of a thread-local, across such a run. A thread of the pool that waits for others runs other tasks
    /// of the pool meanwhile. If such a task takes the same lock, the thread waits for itself. If it borrows the same thread-local,
    /// it panics.
    ///
    /// The pool's threads have a floating-point environment of their own. A rounding mode or the flushing of denormals that the
    /// caller has set for itself is not theirs.
    #[cfg(feature = "rayon")]
    Rayon,
}

impl Parallelism {
    /// Who may do work of that price, or `None` if it is not worth several threads: then nobody asks for them. Where there are none,
    /// the calling thread does the work.
    #[cfg_attr(not(feature = "rayon"), expect(unused_variables, reason = "then there are no threads"))]
    pub(crate) fn workers(self, price: impl Fn() -> f64) -> Option<Workers> {
        match self {
            Parallelism::Serial => Some(Workers::ONE),
            #[cfg(feature = "rayon")]
            Parallelism::Rayon => {
                let outside = rayon::current_thread_index().is_none();
                let least = if outside { LEAST_OUTSIDE } else { 2.0 * LEAST };
                if price() < least {
                    return None;
                }
                Some(Workers { outside, ..Workers::called_within(self.threads()) })
            }
        }
    }

    /// The threads that there are.
    pub(crate) fn threads(self) -> usize {
        match self {
            Parallelism::Serial => 1,
            #[cfg(feature = "rayon")]
            Parallelism::Rayon if rayon::current_thread_index().is_none() && !global_pool_runs() => 1,
            #[cfg(feature = "rayon")]
            Parallelism::Rayon => rayon::current_num_threads(),
        }
    }
}

impl Join for Parallelism {
    fn join(
        self,
        a: impl FnOnce() -> Result<(), Error> + Send,
        b: impl FnOnce() -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        match self {
            Parallelism::Serial => a().and_then(|()| b()),
            #[cfg(feature = "rayon")]
            Parallelism::Rayon => {
                let (a, b) = rayon::join(a, b);
                a.and(b)
            }
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
