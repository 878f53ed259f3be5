//! A network with trained weights: EfficientNet-Lite0, from the files of the repository's example.

use std::path::PathBuf;

use safetensors::SafeTensors;
use serde_json::Value;

use crate::Conv;

/// A network, layer by layer.
pub struct Trained {
    pub layers: Vec<Layer>,
}

pub struct Layer {
    pub op: Op,
    /// Numbers of layers: 0 is the network's input, `i + 1` the output of layer `i`.
    pub inputs: Vec<usize>,
    pub relu6: bool,
}

pub enum Op {
    Conv(Weights),
    /// A fully connected layer: a convolution of one pixel.
    Dense(Weights),
    /// The mean of each map.
    Mean,
    Add,
}

/// A convolution and its parameters, in the order of ONNX.
pub struct Weights {
    pub conv: Conv,
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
}

/// What computes a layer, where convolutions add the residuals that follow them: numbers of layers, and of a tensor to add.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// The layer belongs to another step.
    Nothing,
    Mean,
    Conv(usize, Option<usize>),
    /// A depthwise convolution and the pointwise one after it.
    Pair([usize; 2], Option<usize>),
}

/// # Panics
/// If the file is not there: this crate runs in a checkout.
fn read(file: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/efficientnet_lite0");
    let path = folder.join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn tensors(file: &[u8]) -> SafeTensors<'_> {
    SafeTensors::deserialize(file).unwrap_or_else(|error| panic!("{error}"))
}

/// The first images of the example, normalised, as `[count, 224, 224, 3]`, and the outputs that belong to them, computed in `f64`.
pub fn reference(count: usize) -> (Vec<f32>, Vec<f64>) {
    let (inputs, outputs) = (read("inputs_u8.safetensors"), read("reference.safetensors"));
    let (inputs, outputs) = (tensors(&inputs), tensors(&outputs));
    let images = inputs.tensor("images_u8").expect("images").data();
    let pixels = images[..count * 224 * 224 * 3].iter().map(|&value| (f32::from(value) - 127.0) / 128.0);
    let outputs = outputs.tensor("output0_f64_folded").expect("outputs").data().as_chunks().0;
    (pixels.collect(), outputs[..count * 1000].iter().map(|&bytes| f64::from_le_bytes(bytes)).collect())
}

impl Trained {
    /// # Panics
    /// If its files are not there: this crate runs in a checkout.
    pub fn efficientnet_lite0() -> Self {
        let arch: Value = serde_json::from_slice(&read("arch.json")).expect("arch.json is JSON");
        let file = read("model.safetensors");
        let tensors = tensors(&file);
        let mut names = vec!["input"];
        let mut layers = Vec::new();
        for layer in arch["layers"].as_array().expect("a list of layers") {
            let text = |key: &str| layer[key].as_str().unwrap_or_default();
            let number = |key: &str| layer[key].as_u64().unwrap_or(1) as usize;
            let pair = |key: &str| [0, 1].map(|axis| layer[key][axis].as_u64().unwrap_or(1) as usize).to_vec();
            let floats = |key: &str| -> Vec<f32> {
                let tensor = tensors.tensor(text(key)).unwrap_or_else(|error| panic!("{}: {error}", text(key)));
                tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
            };
            let weights = |conv| Weights { conv, weights: floats("weight"), bias: floats("bias") };
            let op = match text("op") {
                "conv" | "dwconv" | "pwconv" => {
                    let pad = |side: &str| layer["pad"][side].as_u64().unwrap_or(0) as usize;
                    Op::Conv(weights(Conv {
                        inputs: number("in_channels"),
                        outputs: number("out_channels"),
                        groups: number("groups"),
                        kernel: pair("kernel"),
                        stride: pair("stride"),
                        dilation: pair("dilation"),
                        pads: Some(["top", "left", "bottom", "right"].map(pad).to_vec()),
                        bias: true,
                    }))
                }
                "fc" => Op::Dense(weights(Conv::pointwise(number("in_features"), number("out_features")))),
                "add" => Op::Add,
                "global_avg_pool" => Op::Mean,
                op => panic!("a layer `{op}`, which is not known here"),
            };
            let find =
                |name: &str| names.iter().position(|&known| known == name).unwrap_or_else(|| panic!("no value {name}"));
            let inputs = match layer["inputs"].as_array() {
                Some(names) => names.iter().map(|name| find(name.as_str().unwrap_or_default())).collect(),
                None => vec![find(text("input"))],
            };
            let relu6 = match text("activation") {
                "" | "none" => false,
                "relu6" => true,
                activation => panic!("an activation `{activation}`, which is not known here"),
            };
            names.push(text("output"));
            layers.push(Layer { op, inputs, relu6 });
        }
        Self { layers }
    }

    /// The steps of an adapter, one for each layer; with depthwise and pointwise convolutions as pairs if that is asked for.
    pub fn steps(&self, pairs: bool) -> Vec<Step> {
        let mut waiting = None;
        let step = |(index, layer): (usize, &Layer)| {
            let (Op::Conv(weights) | Op::Dense(weights)) = &layer.op else {
                // The convolution before a sum has added it already.
                return if matches!(layer.op, Op::Add) { Step::Nothing } else { Step::Mean };
            };
            let residual = self.layers.get(index + 1).filter(|next| matches!(next.op, Op::Add)).map(|next| {
                assert!(!next.relu6 && next.inputs.contains(&(index + 1)), "a sum after layer {index}");
                next.inputs.iter().copied().find(|&input| input != index + 1).expect("another input")
            });
            match waiting.take() {
                Some(first) => Step::Pair([first, index], residual),
                None if pairs && weights.conv.groups > 1 => {
                    waiting = Some(index);
                    Step::Nothing
                }
                None => Step::Conv(index, residual),
            }
        };
        self.layers.iter().enumerate().map(step).collect()
    }
}
