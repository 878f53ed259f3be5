//! Whole networks, against candle's own results.

mod networks;

use candle_core::{DType, Result};
use depthwise_candle::Layout;

use networks::efficientnet::{self, EfficientNet};
use networks::mobilenet_v3::MobileNetV3;
use networks::{assert_close, random};

const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];

/// Trained weights, padding that differs from side to side, residuals; and labels that the network gives to photographs.
#[test]
fn efficientnet_lite0() -> Result<()> {
    let network = EfficientNet::load()?;
    let (images, reference) = efficientnet::reference(2)?;
    let candle = network.by_candle(&images)?;
    assert_close(&candle.to_dtype(DType::F64)?, &reference, 1e-5, "candle itself")?;
    for layout in LAYOUTS {
        for pairs in [false, true] {
            let output = network.with(layout, pairs)?(&images)?;
            let what = format!("{layout:?}, pairs: {pairs}");
            assert_close(&output, &candle, 1e-5, &what)?;
            assert_close(&output.to_dtype(DType::F64)?, &reference, 1e-5, &what)?;
            let labels = |output: &candle_core::Tensor| output.argmax(1)?.to_vec1::<u32>();
            assert_eq!(labels(&output)?, labels(&reference)?, "{what}");
        }
    }
    Ok(())
}

/// Squeeze-and-excite, hard-swish, 5×5.
#[test]
fn mobilenet_v3() -> Result<()> {
    let network = MobileNetV3::new(random::parameters())?;
    let x = random::tensor("image", (2, 3, 96, 130))?;
    let candle = network.by_candle(&x)?;
    for layout in LAYOUTS {
        assert_close(&network.with(layout)?(&x)?, &candle, 1e-5, &format!("{layout:?}"))?;
    }
    Ok(())
}
