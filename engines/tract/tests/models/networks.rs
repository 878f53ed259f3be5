//! Whole networks.

use depthwise_models::{Dim, efficientnet_lite0, mobilenet_v1, mobilenet_v3_like};

use crate::kit::{check, check_forms};

fn images(height: impl Into<Dim>, width: impl Into<Dim>) -> [Dim; 4] {
    ["batch".into(), 3.into(), height.into(), width.into()]
}

#[test]
fn mobilenet_v1_runs_in_fourteen_plans_and_a_sum() {
    for report in check(&mobilenet_v1(images(96, 64)), &[&[2, 3, 96, 64]], "MobileNetV1") {
        assert_eq!(report.replaced.len(), 15); // the stem, thirteen separable convolutions, the sum of the last pooling
        assert_eq!(report.left_convolutions().count(), 0, "{report}");
    }
}

#[test]
fn mobilenet_v1_takes_images_of_any_size() {
    check(&mobilenet_v1(images("height", "width")), &[&[1, 3, 75, 50]], "MobileNetV1");
}

#[test]
fn efficientnet_lite0_keeps_nothing_but_pool_and_classifier() {
    for report in check(&efficientnet_lite0(images(224, 224)), &[&[1, 3, 224, 224]], "EfficientNet-Lite0") {
        // The stem, fifteen expansions, sixteen separable convolutions, the head, the sum of the last pooling.
        assert_eq!(report.replaced.len(), 34);
        assert_eq!(report.left_convolutions().count(), 0, "{report}");
        // Residuals and clips are absorbed.
        for left in &report.left {
            assert!(!["Add", "Max", "Min"].contains(&&*left.op) || left.node.contains("gemm"), "{left}");
        }
    }
}

#[test]
fn mobilenet_v3_with_batch_norm_unfolded_and_squeeze_excite() {
    let reports = check(&mobilenet_v3_like(images(64, 96)), &[&[1, 3, 64, 96]], "MobileNetV3");
    for (k, report) in reports.iter().enumerate() {
        assert_eq!(report.left_convolutions().count(), 0, "{report}");
        // Batch norm and activations are absorbed. Decluttered, the gates of squeeze-and-excite are products of a matrix and a vector.
        let absorbed = if k % 2 == 0 { &["HardSwish", "Sub", "Min", "Max"][..] } else { &["HardSwish"] };
        for left in &report.left {
            assert!(!absorbed.contains(&&*left.op), "{left}");
        }
    }
}

#[test]
fn ppocr_text_direction_classifier() {
    let file = include_bytes!("../../../models/onnx/ppocr_cls_mobile_v2.onnx");
    // tract does not infer its shapes for images of unknown size.
    for report in check_forms(file, &[vec![1, 3, 48, 192]], &[(true, false), (true, true)], "PP-OCR's classifier") {
        assert_eq!(report.left_convolutions().count(), 0, "{report}");
    }
}
