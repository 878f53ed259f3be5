//! Whole networks.

use std::path::Path;

use safetensors::SafeTensors;
use serde_json::Value;

use crate::{Conv, Dim, Graph, Random};

/// MobileNetV1 (Howard et al., 2017) with random weights and batch norm folded, from images of that shape, in NCHW.
pub fn mobilenet_v1<D: Into<Dim>>(input: [D; 4]) -> Graph {
    let (mut graph, mut random) = (Graph::new(), Random(1));
    let x = graph.input("input", &input.map(Into::into));
    let x = Conv::new(3, 32, 3, 2).add(&mut graph, &mut random, &x);
    let mut x = graph.clip(&x, 0.0, 6.0);
    let mut channels = 32;
    let wide = [(512, 1); 5];
    for (outputs, stride) in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
        .into_iter()
        .chain(wide)
        .chain([(1024, 2), (1024, 1)])
    {
        x = Conv::depthwise(channels, 3, stride).add(&mut graph, &mut random, &x);
        x = graph.clip(&x, 0.0, 6.0);
        x = Conv::pointwise(channels, outputs).add(&mut graph, &mut random, &x);
        x = graph.clip(&x, 0.0, 6.0);
        channels = outputs;
    }
    let scores = graph.classifier(&mut random, &x, channels, 1000);
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
    bundled("efficientnet_lite0", input)
}

fn bundled<D: Into<Dim>>(name: &str, input: [D; 4]) -> Graph {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models").join(name);
    let read = |file: &str| {
        let path = folder.join(file);
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let arch: Value = serde_json::from_slice(&read("arch.json")).expect("arch.json is JSON");
    let file = read("model.safetensors");
    let tensors = SafeTensors::deserialize(&file).expect("model.safetensors is such a file");
    let mut graph = Graph::new();
    graph.input("input", &input.map(Into::into));
    // From the names of the description to those of the graph.
    let mut values = vec![("input".to_string(), "input".to_string())];
    let find = |values: &[(String, String)], name: &str| {
        values
            .iter()
            .find(|value| value.0 == name)
            .map(|value| value.1.clone())
            .unwrap_or_else(|| panic!("no value {name}"))
    };
    for layer in arch["layers"].as_array().expect("a list of layers") {
        let text = |key: &str| layer[key].as_str().unwrap_or_default();
        let number = |key: &str| layer[key].as_u64().unwrap_or(1) as usize;
        let numbers = |key: &str| -> Vec<usize> {
            layer[key]
                .as_array()
                .map_or(vec![1, 1], |list| list.iter().filter_map(Value::as_u64).map(|n| n as usize).collect())
        };
        let mut weights = |key: &str, shape: &[usize]| {
            let tensor = tensors.tensor(text(key)).unwrap_or_else(|error| panic!("{}: {error}", text(key)));
            let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
            graph.constant(shape, &values)
        };
        let inputs: Vec<String> = match layer["inputs"].as_array() {
            Some(names) => names.iter().map(|name| find(&values, name.as_str().unwrap_or_default())).collect(),
            None => vec![find(&values, text("input"))],
        };
        let x = &inputs[0];
        let mut y = match text("op") {
            "conv" | "dwconv" | "pwconv" => {
                let pad = |side: &str| layer["pad"][side].as_u64().unwrap_or(0) as usize;
                let inputs = number("in_channels");
                let conv = Conv {
                    inputs,
                    outputs: number("out_channels"),
                    groups: if text("op") == "dwconv" { inputs } else { number("groups") },
                    kernel: numbers("kernel"),
                    stride: numbers("stride"),
                    dilation: numbers("dilation"),
                    pads: Some(["top", "left", "bottom", "right"].map(pad).to_vec()),
                    bias: true,
                };
                let shape = [&[conv.outputs, conv.inputs / conv.groups], &conv.kernel[..]].concat();
                let (filters, bias) = (weights("weight", &shape), weights("bias", &[conv.outputs]));
                conv.add_with("Conv", &mut graph, x, &filters, Some(&bias))
            }
            "add" => graph.node("Add", &[x, &inputs[1]], &[]),
            "global_avg_pool" => graph.node("GlobalAveragePool", &[x], &[]),
            "fc" => {
                let [outputs, features] = [number("out_features"), number("in_features")];
                let (matrix, bias) = (weights("weight", &[outputs, features]), weights("bias", &[outputs]));
                let x = graph.node("Flatten", &[x], &[]);
                graph.node("Gemm", &[&x, &matrix, &bias], &[("transB", 1.into())])
            }
            op => panic!("{name} has a layer `{op}`, which is not written here"),
        };
        y = match text("activation") {
            "" | "none" => y,
            "relu" => graph.relu(&y),
            "relu6" => graph.clip(&y, 0.0, 6.0),
            activation => panic!("{name} has an activation `{activation}`, which is not written here"),
        };
        values.push((text("output").to_string(), y));
    }
    for output in arch["outputs"].as_array().expect("a list of outputs") {
        let name = find(&values, output.as_str().unwrap_or_default());
        graph.output(&name);
    }
    graph
}
