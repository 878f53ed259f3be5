//! What the adapters of engines are tested and measured on: networks, a writer of ONNX files, and the measuring itself.

#![forbid(unsafe_code)]

mod compare;
mod layers;
mod networks;
mod onnx;
mod page;
mod parts;
mod random;
mod trained;

pub use compare::{Case, Result, Timer, assert_close, compare};
pub use layers::{BatchNorm, Conv};
pub use networks::{efficientnet_lite0, mobilenet_v1, mobilenet_v1_layers, mobilenet_v3_like};
pub use onnx::{Attribute, Dim, Graph};
pub use page::page;
pub use parts::{Level, Part};
pub use random::Random;
pub use trained::{Layer, Op, Step, Trained, Weights, reference};
