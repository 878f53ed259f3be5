//! Depthwise convolution, channels last: vectors run across channels.

#[cfg(isa = "avx2")]
pub(crate) mod rolling;
pub(crate) mod tile;
#[cfg(isa = "avx2")]
pub(crate) mod turns;
