//! Networks, and how outputs are compared.
#![allow(dead_code, reason = "each test uses some of it")]

pub mod efficientnet;
pub mod mobilenet_v3;
pub mod random;

use candle_core::{DType, Result, Tensor};

/// Fails if the outputs differ by more than `tolerance` of the largest one.
#[track_caller]
pub fn assert_close(ours: &Tensor, theirs: &Tensor, tolerance: f64, what: &str) -> Result<()> {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    assert_eq!(ours.dtype(), theirs.dtype(), "{what}");
    let floats = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    depthwise_models::assert_close(&floats(ours)?, &floats(theirs)?, tolerance, what);
    Ok(())
}
