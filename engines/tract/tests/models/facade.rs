//! The facade `tract`, which gives decluttered models.

use depthwise_models::{Random, efficientnet_lite0};
use depthwise_tract as _;
use tract::prelude::*;
use tract_onnx::prelude::TractResult;

#[test]
fn the_facade_finds_runtime_and_transform_by_name() -> TractResult<()> {
    let file = efficientnet_lite0([1, 3, 224, 224]).to_bytes();
    let model = || -> TractResult<tract::Model> { tract::onnx()?.load_buffer(&file)?.into_model() };
    let values = Random(5).floats(3 * 224 * 224);
    let input = || tract::Tensor::from_slice(&[1, 3, 224, 224], &values);
    let expected = tract::runtime_for_name("cpu")?.prepare(model()?)?.run([input()?])?;
    let found = tract::runtime_for_name("depthwise")?.prepare(model()?)?.run([input()?])?;
    let mut transformed = model()?;
    transformed.transform("depthwise")?;
    let name = transformed.output_name(0)?;
    assert_eq!(name, model()?.output_name(0)?);
    let transformed = transformed.into_runnable()?.run([input()?])?;
    for found in [found, transformed] {
        let (expected, found) = (expected[0].as_slice::<f32>()?, found[0].as_slice::<f32>()?);
        let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        assert!(expected.iter().zip(found).all(|(a, b)| (a - b).abs() <= 1e-4 * largest));
    }
    Ok(())
}
