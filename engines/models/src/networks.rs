//! Whole networks.

use crate::trained::{Op, Trained, Weights};
use crate::{Conv, Dim, Graph, Random};

/// The convolutions of MobileNetV1 1.0 (Howard et al., 2017), one after the other: the stem, then thirteen depthwise ones, each with a
/// pointwise one. ReLU6 follows each.
pub fn mobilenet_v1_layers() -> Vec<Conv> {
    let mut layers = vec![Conv::new(3, 32, 3, 2)];
    let mut channels = 32;
    let wide = [(512, 1); 5];
    for (outputs, stride) in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
        .into_iter()
        .chain(wide)
        .chain([(1024, 2), (1024, 1)])
    {
        layers.push(Conv::depthwise(channels, 3, stride));
        layers.push(Conv::pointwise(channels, outputs));
        channels = outputs;
    }
    layers
}

/// MobileNetV1 with random weights and batch norm folded, from images of that shape, in NCHW.
pub fn mobilenet_v1<D: Into<Dim>>(input: [D; 4]) -> Graph {
    let (mut graph, mut random) = (Graph::new(), Random(1));
    let mut x = graph.input("input", &input.map(Into::into));
    for layer in mobilenet_v1_layers() {
        x = layer.add(&mut graph, &mut random, &x);
        x = graph.clip(&x, 0.0, 6.0);
    }
    let scores = graph.classifier(&mut random, &x, 1024, 1000);
    graph.output(&scores);
    graph
}

/// A small network of MobileNetV3's blocks (Howard et al., 2019) with random weights: batch norm that is not folded, squeeze-and-excite,
/// hard-swish in one operation and in several, residuals.
pub fn mobilenet_v3_like<D: Into<Dim>>(input: [D; 4]) -> Graph {
    let (mut graph, mut random) = (Graph::new(), Random(3));
    let unbiased = |conv: Conv| Conv { bias: false, ..conv };
    let x = graph.input("input", &input.map(Into::into));
    let x = unbiased(Conv::new(3, 16, 3, 2)).add(&mut graph, &mut random, &x);
    let x = graph.batch_norm(&mut random, &x, 16);
    let mut x = graph.hard_swish(&x);
    let mut channels = 16;
    // Expanded channels, channels, window, stride, whether with squeeze-and-excite, whether with hard-swish.
    for (expanded, outputs, kernel, stride, squeezed, swish) in [
        (16, 16, 3, 2, true, false),
        (72, 24, 3, 2, false, false),
        (88, 24, 3, 1, false, false),
        (96, 40, 5, 2, true, true),
        (240, 40, 5, 1, true, true),
    ] {
        let activate = |graph: &mut Graph, x: &str| match (swish, kernel) {
            (false, _) => graph.relu(x),
            (true, 5) if stride == 2 => graph.hard_swish_in_words(x),
            (true, _) => graph.hard_swish(x),
        };
        let mut y = unbiased(Conv::pointwise(channels, expanded)).add(&mut graph, &mut random, &x);
        y = graph.batch_norm(&mut random, &y, expanded);
        y = activate(&mut graph, &y);
        y = unbiased(Conv::depthwise(expanded, kernel, stride)).add(&mut graph, &mut random, &y);
        y = graph.batch_norm(&mut random, &y, expanded);
        y = activate(&mut graph, &y);
        if squeezed {
            y = graph.squeeze_excite(&mut random, &y, expanded);
        }
        y = unbiased(Conv::pointwise(expanded, outputs)).add(&mut graph, &mut random, &y);
        y = graph.batch_norm(&mut random, &y, outputs);
        x = if stride == 1 && channels == outputs { graph.node("Add", &[&x, &y], &[]) } else { y };
        channels = outputs;
    }
    let scores = graph.classifier(&mut random, &x, channels, 10);
    graph.output(&scores);
    graph
}

/// EfficientNet-Lite0 with the trained weights of the repository's example, from images of that shape, in NCHW.
///
/// # Panics
/// If the folder `examples/models/efficientnet_lite0` is not there: this crate runs in a checkout.
pub fn efficientnet_lite0<D: Into<Dim>>(input: [D; 4]) -> Graph {
    let mut graph = Graph::new();
    let mut values = vec![graph.input("input", &input.map(Into::into))];
    for layer in Trained::efficientnet_lite0().layers {
        let x = values[layer.inputs[0]].as_str();
        let y = match &layer.op {
            Op::Conv(Weights { conv, weights, bias }) => {
                let weights = graph.constant(&conv.shape(), weights);
                let bias = graph.constant(&[conv.outputs], bias);
                conv.add_with("Conv", &mut graph, x, &weights, Some(&bias))
            }
            Op::Dense(Weights { conv, weights, bias }) => {
                let matrix = graph.constant(&[conv.outputs, conv.inputs], weights);
                let bias = graph.constant(&[conv.outputs], bias);
                let x = graph.node("Flatten", &[x], &[]);
                graph.node("Gemm", &[&x, &matrix, &bias], &[("transB", 1.into())])
            }
            Op::Add => graph.node("Add", &[x, &values[layer.inputs[1]]], &[]),
            Op::Mean => graph.node("GlobalAveragePool", &[x], &[]),
        };
        values.push(if layer.relu6 { graph.clip(&y, 0.0, 6.0) } else { y });
    }
    graph.output(&values[values.len() - 1]);
    graph
}
