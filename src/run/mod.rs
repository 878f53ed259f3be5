//! Running what was chosen: passes, blocks, threads, scratch.

pub(crate) mod arguments;
pub(crate) mod engine;
mod gather;
mod part;
pub(crate) mod threads;
pub(crate) mod workspace;
