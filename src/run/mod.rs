//! Running what was chosen: passes, blocks, threads, scratch.

pub(crate) mod arguments;
pub(crate) mod engine;
#[cfg(feature = "std")]
pub(crate) mod executor;
mod gather;
pub(crate) mod part;
pub(crate) mod threads;
#[cfg(feature = "std")]
pub(crate) mod tune;
pub(crate) mod twin;
pub(crate) mod wide;
pub(crate) mod workspace;
