//! Slices of any elements as `f32`, and back.

use alloc::vec;
use alloc::vec::Vec;

use depthwise_kernels::{Converter, Element, Isa};

/// The same numbers in `f32`: weights that are stored as `f16` or `bf16`, for a builder.
#[cfg_attr(
    feature = "half",
    doc = "
```
use depthwise::{PointwiseConv2d, bf16, narrow, widen};

let stored: Vec<bf16> = narrow(&[0.5, 0.3]);
let weights = widen(&stored);
assert_eq!(weights, [0.5, 0.30078125]);
let plan = PointwiseConv2d::builder(2, 1).weights(&weights).build_as::<bf16>()?;
# Ok::<(), depthwise::Error>(())
```
"
)]
pub fn widen<E: Element>(data: &[E]) -> Vec<f32> {
    let mut wide = vec![0.0; data.len()];
    match Converter::new(Isa::detect()) {
        Some(converter) => converter.widen(data, &mut wide),
        None => wide.iter_mut().zip(data).for_each(|(wide, x)| *wide = x.to_f32()),
    }
    wide
}

/// The numbers, each rounded once to the nearest that an element holds, of two equally near to the even one.
pub fn narrow<E: Element>(data: &[f32]) -> Vec<E> {
    let mut narrow = vec![E::ZERO; data.len()];
    match Converter::new(Isa::detect()) {
        Some(converter) => converter.narrow(data, &mut narrow),
        None => narrow.iter_mut().zip(data).for_each(|(narrow, x)| *narrow = E::from_f32(*x)),
    }
    narrow
}
