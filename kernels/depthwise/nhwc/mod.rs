//! Depthwise convolution, channels last: an algorithm a file.

mod any;
mod buffered;
mod grid;
#[cfg(isa = "avx2")]
mod rolling;
#[cfg(isa = "avx2")]
mod strip;
mod tile;
#[cfg(isa = "avx2")]
mod turns;

pub(crate) use any::Any;
pub(crate) use buffered::{Buffer, Buffered};
#[cfg(isa = "avx2")]
pub(crate) use rolling::{Rolling, RollingBehind};
pub(crate) use tile::Tile;
#[cfg(isa = "avx2")]
pub(crate) use turns::InTurns;

/// Columns of a tile's or a strip's patch at the most.
const PATCH: usize = 24;
