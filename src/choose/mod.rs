//! What is chosen: kernels, one pass or two, blocks, the split over threads. All of it is a pure function of the machine, the kernels,
//! the shape and the number of threads, whether or not this CPU could run it.

pub(crate) mod choice;
pub(crate) mod descriptor;
pub(crate) mod kernel;
pub(crate) mod passes;
pub(crate) mod price;
pub(crate) mod split;
pub(crate) mod wide;
pub(crate) mod workers;
