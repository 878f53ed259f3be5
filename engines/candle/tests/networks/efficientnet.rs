//! EfficientNet-Lite0 with the weights of `examples/models`, layer by layer as its `arch.json` says.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Module, Result, Tensor};
use candle_nn::{Activation, Conv2d, Conv2dConfig};
use depthwise_candle::{Layout, SeparableConv2d};
use serde_json::Value;

pub struct EfficientNet {
    layers: Vec<Layer>,
}

struct Layer {
    op: Op,
    /// Numbers of layers; 0 is the network's input, `i + 1` the output of layer `i`.
    inputs: Vec<usize>,
    relu6: bool,
}

enum Op {
    /// Zeros below and to the right beyond candle's, which pads all sides alike.
    Conv(Conv2d, usize),
    Mean,
    Add,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/efficientnet_lite0")
}

/// Six images, normalised, and the outputs that belong to them, computed in f64.
pub fn reference() -> Result<(Tensor, Tensor)> {
    let read = |file: &str, name: &str| -> Result<Tensor> {
        let tensors = candle_core::safetensors::load(folder().join(file), &Device::Cpu)?;
        tensors.get(name).cloned().ok_or_else(|| candle_core::Error::Msg(format!("{file} has no {name}")))
    };
    let images = read("inputs_u8.safetensors", "images_u8")?.to_dtype(DType::F32)?;
    let images = ((images - 127.0)? / 128.0)?.permute((0, 3, 1, 2))?.contiguous()?;
    Ok((images, read("reference.safetensors", "output0_f64_folded")?))
}

impl EfficientNet {
    pub fn load() -> Result<Self> {
        let text = std::fs::read_to_string(folder().join("arch.json"))?;
        let arch: Value = serde_json::from_str(&text).map_err(candle_core::Error::wrap)?;
        let tensors = candle_core::safetensors::load(folder().join("model.safetensors"), &Device::Cpu)?;
        let mut known = HashMap::from([(String::from("input"), 0)]);
        let mut layers = Vec::new();
        for layer in arch["layers"].as_array().expect("a list of layers") {
            let text = |key: &str| layer[key].as_str().unwrap_or_else(|| panic!("{layer} has no {key}")).to_string();
            let size = |key: &str, index: usize| layer[key][index].as_u64().expect("a number") as usize;
            let tensor = |key: &str| tensors[&text(key)].clone();
            let op = match &*text("op") {
                "conv" | "dwconv" | "pwconv" => {
                    let pad = |side: &str| layer["pad"][side].as_u64().expect("a number") as usize;
                    assert_eq!((pad("top"), pad("bottom")), (pad("left"), pad("right")));
                    let config = Conv2dConfig {
                        padding: pad("top"),
                        stride: size("stride", 0),
                        dilation: size("dilation", 0),
                        groups: layer["groups"].as_u64().expect("a number") as usize,
                        cudnn_fwd_algo: None,
                    };
                    Op::Conv(Conv2d::new(tensor("weight"), Some(tensor("bias")), config), pad("bottom") - pad("top"))
                }
                "fc" => {
                    let (outputs, inputs) = tensor("weight").dims2()?;
                    let weight = tensor("weight").reshape((outputs, inputs, 1, 1))?;
                    Op::Conv(Conv2d::new(weight, Some(tensor("bias")), Default::default()), 0)
                }
                "global_avg_pool" => Op::Mean,
                "add" => Op::Add,
                other => panic!("no {other}"),
            };
            let inputs = match layer["inputs"].as_array() {
                Some(names) => names.iter().map(|name| known[name.as_str().expect("a name")]).collect(),
                None => vec![known[&text("input")]],
            };
            known.insert(text("output"), layers.len() + 1);
            layers.push(Layer { op, inputs, relu6: text("activation") == "relu6" });
        }
        Ok(Self { layers })
    }

    /// By candle.
    pub fn by_candle(&self, x: &Tensor) -> Result<Tensor> {
        let mut values = vec![x.clone()];
        for layer in &self.layers {
            let x = &values[layer.inputs[0]];
            let y = match &layer.op {
                Op::Conv(conv, more) => conv.forward(&padded(x, *more)?)?,
                Op::Mean => x.mean_keepdim((2, 3))?,
                Op::Add => (x + &values[layer.inputs[1]])?,
            };
            values.push(if layer.relu6 { Activation::Relu6.forward(&y)? } else { y });
        }
        values.pop().expect("a layer").flatten_from(1)
    }

    /// With modules of this crate: sums in the plans of the convolutions before them, and depthwise with pointwise convolutions as
    /// pairs if that is asked for.
    pub fn with(&self, layout: Layout, pairs: bool) -> Result<impl Fn(&Tensor) -> Result<Tensor>> {
        let (mut steps, mut replaced) = (Vec::new(), 0);
        let mut waiting = None;
        for (index, layer) in self.layers.iter().enumerate() {
            let Op::Conv(conv, more) = &layer.op else {
                steps.push(match layer.op {
                    // The step of the convolution before it has added this already.
                    Op::Add => Step::None,
                    _ => Step::Mean,
                });
                continue;
            };
            replaced += 1;
            let relu6 = if layer.relu6 { depthwise::Activation::Relu6 } else { depthwise::Activation::None };
            let conv = depthwise_candle::Conv2d::from(conv).with_layout(layout).with_activation(relu6);
            assert_eq!(conv.fallback(), None);
            let residual = self.layers.get(index + 1).filter(|next| matches!(next.op, Op::Add)).map(|next| {
                assert!(!next.relu6 && next.inputs.contains(&(index + 1)));
                next.inputs.iter().copied().find(|&input| input != index + 1).expect("another one")
            });
            match waiting.take() {
                Some((first, more)) => {
                    let pair = SeparableConv2d::new(first, conv);
                    assert_eq!(pair.fallback(), None);
                    steps.push(Step::Pair(pair, more, residual));
                }
                None if pairs && conv.config().groups > 1 => {
                    waiting = Some((conv, *more));
                    steps.push(Step::None);
                }
                None => steps.push(Step::Conv(conv, *more, residual)),
            }
        }
        assert_eq!(replaced, 50);
        Ok(move |x: &Tensor| {
            let mut values = vec![x.clone()];
            let mut x = x.clone();
            for step in &steps {
                match step {
                    Step::None => {}
                    Step::Mean => x = x.mean_keepdim((2, 3))?,
                    Step::Conv(conv, more, None) => x = conv.forward(&padded(&x, *more)?)?,
                    Step::Conv(conv, more, Some(residual)) => {
                        x = conv.forward_with_residual(&padded(&x, *more)?, &values[*residual])?;
                    }
                    Step::Pair(pair, more, None) => x = pair.forward(&padded(&x, *more)?)?,
                    Step::Pair(pair, more, Some(residual)) => {
                        x = pair.forward_with_residual(&padded(&x, *more)?, &values[*residual])?;
                    }
                }
                values.push(x.clone());
            }
            x.flatten_from(1)
        })
    }
}

enum Step {
    None,
    Mean,
    Conv(depthwise_candle::Conv2d, usize, Option<usize>),
    Pair(SeparableConv2d, usize, Option<usize>),
}

fn padded(x: &Tensor, more: usize) -> Result<Tensor> {
    if more == 0 { Ok(x.clone()) } else { x.pad_with_zeros(2, 0, more)?.pad_with_zeros(3, 0, more) }
}
