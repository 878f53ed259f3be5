//! ONNX models that the adapters of engines are tested and measured on: a writer of the format, layers, and whole networks.

#![forbid(unsafe_code)]

mod layers;
mod networks;
mod onnx;
mod random;

pub use layers::Conv;
pub use networks::{efficientnet_lite0, mobilenet_v1, mobilenet_v3_like};
pub use onnx::{Attribute, Dim, Graph};
pub use random::Random;
