//! EfficientNet-Lite0 with the weights of `examples/models`, layer by layer as its `arch.json` says.

use std::collections::HashMap;
use std::path::PathBuf;

use burn_core::module::Param;
use burn_nn::PaddingConfig2d;
use burn_nn::conv::{Conv2d, Conv2dConfig};
use burn_tensor::activation::relu6;
use burn_tensor::{Device, Tensor, TensorData};
use depthwise_burn::{Activation, Error, Layer, Layout, SeparableConv2d};
use serde_json::Value;

pub struct EfficientNet {
    layers: Vec<Described>,
}

struct Described {
    op: Op,
    /// Numbers of layers; 0 is the network's input, `i + 1` the output of layer `i`.
    inputs: Vec<usize>,
    relu6: bool,
}

enum Op {
    Conv(Box<Conv2d>),
    Mean,
    Add,
}

fn read(file: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/efficientnet_lite0");
    std::fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A file of the format safetensors: the length of a header as a `u64`, the header, which is JSON, and the data.
struct Tensors {
    header: Value,
    data: Vec<u8>,
}

impl Tensors {
    fn read(file: &str) -> Self {
        let bytes = read(file);
        let (length, rest) = bytes.split_first_chunk().expect("a length");
        let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
        Self { header: serde_json::from_slice(header).expect("a header"), data: data.to_vec() }
    }

    /// The bytes of a tensor of that type.
    fn tensor(&self, name: &str, dtype: &str) -> &[u8] {
        let tensor = &self.header[name];
        assert_eq!(tensor["dtype"], dtype, "{name}");
        let [start, end] = [0, 1].map(|end| tensor["data_offsets"][end].as_u64().expect("an offset") as usize);
        &self.data[start..end]
    }
}

/// `count` images, normalised, and the outputs that belong to them, computed in f64.
pub fn reference(count: usize) -> (Tensor<4>, Vec<f32>) {
    let inputs = Tensors::read("inputs_u8.safetensors");
    let pixels = &inputs.tensor("images_u8", "U8")[..count * 224 * 224 * 3];
    let pixels: Vec<f32> = pixels.iter().map(|&value| (f32::from(value) - 127.0) / 128.0).collect();
    let images = Tensor::<4>::from_data(TensorData::new(pixels, [count, 224, 224, 3]), &Device::flex());
    let outputs = Tensors::read("reference.safetensors");
    let outputs = outputs.tensor("output0_f64_folded", "F64").as_chunks().0[..count * 1000].iter();
    (images.permute([0, 3, 1, 2]), outputs.map(|&bytes| f64::from_le_bytes(bytes) as f32).collect())
}

impl EfficientNet {
    pub fn load() -> Self {
        let arch: Value = serde_json::from_slice(&read("arch.json")).expect("a description");
        let tensors = Tensors::read("model.safetensors");
        let floats = |name: &str| -> Vec<f32> {
            tensors.tensor(name, "F32").as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
        };
        let mut known = HashMap::from([(String::from("input"), 0)]);
        let mut layers = Vec::new();
        for layer in arch["layers"].as_array().expect("a list of layers") {
            let text = |key: &str| layer[key].as_str().unwrap_or_else(|| panic!("{layer} has no {key}")).to_string();
            let number = |value: &Value| value.as_u64().expect("a number") as usize;
            let op = match &*text("op") {
                "global_avg_pool" => Op::Mean,
                "add" => Op::Add,
                kind => {
                    let fc = kind == "fc";
                    let key = |fc_key: &str, key: &str| number(&layer[if fc { fc_key } else { key }]);
                    let channels = [key("in_features", "in_channels"), key("out_features", "out_channels")];
                    let pair = |key: &str| if fc { [1, 1] } else { [0, 1].map(|axis| number(&layer[key][axis])) };
                    let groups = if fc { 1 } else { number(&layer["groups"]) };
                    let side = |side: &str| if fc { 0 } else { number(&layer["pad"][side]) };
                    let padding = PaddingConfig2d::Explicit(side("top"), side("left"), side("bottom"), side("right"));
                    let config = Conv2dConfig::new(channels, pair("kernel")).with_stride(pair("stride"));
                    let config = config.with_groups(groups).with_padding(padding);
                    let mut conv = config.init(&Device::flex());
                    let [kh, kw] = pair("kernel");
                    let shape = [channels[1], channels[0] / groups, kh, kw];
                    let weight = TensorData::new(floats(&text("weight")), shape);
                    conv.weight = Param::from_tensor(Tensor::from_data(weight, &Device::flex()));
                    let bias = TensorData::new(floats(&text("bias")), [channels[1]]);
                    conv.bias = Some(Param::from_tensor(Tensor::from_data(bias, &Device::flex())));
                    Op::Conv(Box::new(conv))
                }
            };
            let inputs = match layer["inputs"].as_array() {
                Some(names) => names.iter().map(|name| known[name.as_str().expect("a name")]).collect(),
                None => vec![known[&text("input")]],
            };
            known.insert(text("output"), layers.len() + 1);
            layers.push(Described { op, inputs, relu6: text("activation") == "relu6" });
        }
        Self { layers }
    }

    /// By burn.
    pub fn by_burn(&self, x: Tensor<4>) -> Tensor<4> {
        let mut values = vec![x];
        for layer in &self.layers {
            let x = values[layer.inputs[0]].clone();
            let y = match &layer.op {
                Op::Conv(conv) => conv.forward(x),
                Op::Mean => x.mean_dim(3).mean_dim(2),
                Op::Add => x + values[layer.inputs[1]].clone(),
            };
            values.push(if layer.relu6 { relu6(y) } else { y });
        }
        values.pop().expect("a layer")
    }

    /// With modules of this crate: sums in the plans of the convolutions before them, and depthwise with pointwise convolutions as
    /// pairs if that is asked for.
    pub fn with(&self, layout: Layout, pairs: bool) -> Result<impl Fn(Tensor<4>) -> Tensor<4>, Error> {
        let mut steps = Vec::new();
        let mut waiting = None;
        for (index, layer) in self.layers.iter().enumerate() {
            let Op::Conv(conv) = &layer.op else {
                steps.push(match layer.op {
                    // The step of the convolution before it has added this already.
                    Op::Add => Step::None,
                    _ => Step::Mean,
                });
                continue;
            };
            let activation = if layer.relu6 { Activation::Relu6 } else { Activation::None };
            let described = Layer::new(conv).activation(activation);
            let residual = self.layers.get(index + 1).filter(|next| matches!(next.op, Op::Add)).map(|next| {
                assert!(!next.relu6 && next.inputs.contains(&(index + 1)));
                next.inputs.iter().copied().find(|&input| input != index + 1).expect("another one")
            });
            match waiting.take() {
                Some(first) => steps.push(Step::Pair(SeparableConv2d::new(first, described, layout)?, residual)),
                None if pairs && conv.groups > 1 => {
                    waiting = Some(described);
                    steps.push(Step::None);
                }
                None => steps.push(Step::Conv(depthwise_burn::Conv2d::new(described, layout)?, residual)),
            }
        }
        Ok(move |x: Tensor<4>| {
            let mut values = vec![x.clone()];
            let mut x = x;
            for step in &steps {
                let residual = |residual: &Option<usize>| residual.map(|index| values[index].clone());
                x = match step {
                    Step::None => x,
                    Step::Mean => x.mean_dim(3).mean_dim(2),
                    Step::Conv(conv, from) => conv.run(x, residual(from)).expect("it fits"),
                    Step::Pair(pair, from) => pair.run(x, residual(from)).expect("it fits"),
                };
                values.push(x.clone());
            }
            x
        })
    }
}

enum Step {
    None,
    Mean,
    Conv(depthwise_burn::Conv2d, Option<usize>),
    Pair(SeparableConv2d, Option<usize>),
}
