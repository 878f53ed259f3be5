//! Whole networks, against burn's own results.

mod networks;

use depthwise_burn::{Error, Layout};

use networks::efficientnet::{self, EfficientNet};
use networks::mobilenet_v3::MobileNetV3;
use networks::{assert_close, assert_values_close, random, values};

const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];

/// Trained weights, padding that differs from side to side, residuals; and labels that the network gives to photographs.
#[test]
fn efficientnet_lite0() -> Result<(), Error> {
    let network = EfficientNet::load();
    let (images, reference) = efficientnet::reference(2);
    let burn = values(network.by_burn(images.clone()));
    assert_values_close(&burn, &reference, 1e-5, "burn itself");
    for layout in LAYOUTS {
        for pairs in [false, true] {
            let output = values(network.with(layout, pairs)?(images.clone()));
            let what = format!("{layout:?}, pairs: {pairs}");
            assert_values_close(&output, &burn, 1e-5, &what);
            assert_values_close(&output, &reference, 1e-5, &what);
            for (output, reference) in output.chunks(1000).zip(reference.chunks(1000)) {
                let label =
                    |output: &[f32]| output.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|best| best.0);
                assert_eq!(label(output), label(reference), "{what}");
            }
        }
    }
    Ok(())
}

/// Squeeze-and-excite, hard-swish, 5×5.
#[test]
fn mobilenet_v3() -> Result<(), Error> {
    let network = MobileNetV3::new();
    let x = random([2, 3, 96, 130]);
    let burn = network.by_burn(x.clone());
    for layout in LAYOUTS {
        assert_close(network.with(layout)?(x.clone()), burn.clone(), 1e-5, &format!("{layout:?}"));
    }
    Ok(())
}
