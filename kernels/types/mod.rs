//! The words that everything else is written in: shapes, layouts, elements, activations, errors, instruction sets. No `unsafe` here.

mod activation;
mod element;
mod error;
mod isa;
mod range;
mod shape;
mod taps;

pub use self::activation::Activation;
pub use self::element::{Element, ElementType};
pub use self::error::Error;
pub use self::isa::Isa;
pub use self::range::OutputRange;
pub use self::shape::{Axis, Layout, Shape, Strides};
pub(crate) use self::taps::gcd;
pub use self::taps::{MAX_POSITION, MAX_STRIDE, Taps, sub_grids, undilated_stride};
