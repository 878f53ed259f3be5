//! Networks, and how outputs are compared.
#![allow(dead_code, reason = "each test uses some of it")]

pub mod efficientnet;
pub mod mobilenet_v1;
pub mod mobilenet_v3;
pub mod random;

use candle_core::{DType, Result, Tensor};

/// Fails if the outputs differ by more than `tolerance` of the largest one.
#[track_caller]
pub fn assert_close(ours: &Tensor, theirs: &Tensor, tolerance: f64, what: &str) -> Result<()> {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    assert_eq!(ours.dtype(), theirs.dtype(), "{what}");
    let floats = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (ours, theirs) = (floats(ours)?, floats(theirs)?);
    assert!(!theirs.is_empty() && theirs.iter().all(|value| value.is_finite()), "{what}");
    let largest = theirs.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    for (index, (ours, theirs)) in ours.into_iter().zip(theirs).enumerate() {
        // Not `>`, which a NaN would pass.
        assert!((ours - theirs).abs() <= tolerance * largest, "{what}: output {index} is {ours}, candle's {theirs}");
    }
    Ok(())
}
