//! How far apart the threads of a pool are.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Laps in a slice, and slices: 1 ms together for two threads that share a cache.
const LAPS: usize = 100;
const SLICES: usize = 100;

/// A line that nothing else is on; two, as some CPUs fetch them in pairs.
#[repr(align(128))]
struct Line(AtomicUsize);

/// The nanoseconds that a cache line takes from each thread of the current `rayon` pool to the next, on average over the pool, in the
/// shortest of many slices. Nothing of a single thread, nor of more than there are CPUs: a line then waits for its thread to get one.
///
/// A virtual machine's CPUs move: the same two may share a cache at one time, and at another time not.
pub fn hand_over() -> Option<f64> {
    let threads = rayon::current_num_threads();
    if threads < 2 || threads > std::thread::available_parallelism().ok()?.get() {
        return None;
    }
    let turn = Line(AtomicUsize::new(0));
    let shortest = rayon::broadcast(|thread| {
        let (mut mine, mut shortest) = (thread.index(), f64::INFINITY);
        for _ in 0..SLICES {
            let start = Instant::now();
            for _ in 0..LAPS {
                while turn.0.load(Ordering::Acquire) != mine {
                    spin_loop();
                }
                turn.0.store(mine + 1, Ordering::Release);
                mine += threads;
            }
            shortest = start.elapsed().as_secs_f64().min(shortest);
        }
        shortest
    });
    let shortest = shortest.into_iter().fold(f64::INFINITY, f64::min);
    Some(shortest / (LAPS * threads) as f64 * 1e9)
}
