//! How many threads work is worth.

use crate::machine::Sharing;

/// The threads that may work on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Workers {
    pub(crate) threads: usize,
    /// The one that calls is not among them.
    pub(crate) outside: bool,
}

/// The most parts: beyond, choosing them takes too long.
pub(crate) const MOST_TASKS: usize = 1024;

impl Workers {
    /// The thread that calls.
    pub(crate) const ONE: Workers = Workers { threads: 1, outside: false };

    /// That many threads, one of which calls.
    pub(crate) fn called_within(threads: usize) -> Self {
        Self { threads, outside: false }
    }

    /// How many of them work of that price is worth.
    pub(crate) fn worthwhile(self, price: f64, sharing: &Sharing) -> usize {
        if self.outside && price < sharing.least_outside {
            return 1;
        }
        self.threads.min((price / sharing.least) as usize).clamp(1, MOST_TASKS)
    }
}
