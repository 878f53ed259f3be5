//! The four operations: their builders, their weights, their plans.

pub(crate) mod builder;
pub(crate) mod elements;
pub(crate) mod plan;
mod sqrt;
pub(crate) mod weights;
