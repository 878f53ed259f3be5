//! How many threads work is worth.

/// The threads that may work on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Workers {
    pub(crate) threads: usize,
    /// The one that calls is not among them.
    pub(crate) outside: bool,
}

/// The least price of a part that is worth a thread of its own: 4 µs at 4 GHz. Of a `rayon::join` on two cores, the halves
/// wait for each other 0.7 µs if both threads are awake, but some 20 µs and more if one was asleep. Layers follow each other
/// faster than threads fall asleep, so this asks for less than that. (Zen 4, depthwise layers of 9 to 16 µs: 6 to 11 µs.)
pub(crate) const LEAST: f64 = (1 << 15) as f64;
/// The least price of work that is worth handing to a pool from outside, 24 µs: the call then waits some 5 µs longer. (Zen 4, two
/// threads, depthwise, alone and handed over: 14×14×512 at stride 2 9.8 µs and 12 to 16 µs, at stride 1 17 and 19 µs, 28×28×256
/// at stride 2 15 and 22 to 25 µs.)
pub(crate) const LEAST_OUTSIDE: f64 = 6.0 * LEAST;
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
    pub(crate) fn worthwhile(self, price: f64) -> usize {
        if self.outside && price < LEAST_OUTSIDE {
            return 1;
        }
        self.threads.min((price / LEAST) as usize).clamp(1, MOST_TASKS)
    }
}
