//! Models run by tract with depthwise, against tract's own results.

mod cases;
mod facade;
mod interface;
mod kit;
mod networks;
mod random;
