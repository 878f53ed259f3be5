//! A network that is described and computed at once, naively and in f64.

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::{check, ways};
use network::arch::Arch;
use network::engine::{Network, Options};
use network::files::Tensors;

/// A tensor in NCHW order.
#[derive(Clone)]
pub struct Tensor {
    pub shape: [usize; 4],
    pub data: Vec<f64>,
}

impl Tensor {
    fn from_fn(shape: [usize; 4], value: impl Fn([usize; 4]) -> f64) -> Self {
        let [n_len, c_len, h_len, w_len] = shape;
        let mut data = Vec::new();
        for n in 0..n_len {
            for c in 0..c_len {
                for h in 0..h_len {
                    data.extend((0..w_len).map(|w| value([n, c, h, w])));
                }
            }
        }
        Self { shape, data }
    }

    /// An axis of length 1 stretches.
    fn at(&self, index: [usize; 4]) -> f64 {
        let offset = index.iter().zip(self.shape).fold(0, |offset, (&index, len)| offset * len + index.min(len - 1));
        self.data[offset]
    }

    /// The values of a window at (h, w); `None` on padding.
    fn window(&self, layer: &Value, n: usize, c: usize, h: usize, w: usize) -> Vec<Option<f64>> {
        let axis = |axis: usize, edge: &str, at: usize, tap: usize| {
            let start = at * number(&layer["stride"][axis], 1) + tap * number(&layer["dilation"][axis], 1);
            start.checked_sub(number(&layer["pad"][edge], 0)).filter(|&at| at < self.shape[2 + axis])
        };
        let mut values = Vec::new();
        for ky in 0..number(&layer["kernel"][0], 1) {
            for kx in 0..number(&layer["kernel"][1], 1) {
                let place = axis(0, "top", h, ky).zip(axis(1, "left", w, kx));
                values.push(place.map(|(h, w)| self.at([n, c, h, w])));
            }
        }
        values
    }
}

fn number(value: &Value, absent: usize) -> usize {
    value.as_u64().map_or(absent, |value| value as usize)
}

/// Numbers from −1 to 1, the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// A network that is computed, naively and in f64, while it is described.
pub struct Net {
    input: [usize; 4],
    pub image: Vec<f32>,
    layers: Vec<Value>,
    weights: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    pub values: BTreeMap<String, Tensor>,
    random: Random,
}

impl Net {
    pub fn new(c: usize, h: usize, w: usize) -> Self {
        Self::of_image([1, c, h, w], Random(7).take(c * h * w))
    }

    pub fn of_image(input: [usize; 4], image: Vec<f32>) -> Self {
        let random = Random(8);
        let data = image.iter().map(|&value| f64::from(value)).collect();
        let values = BTreeMap::from([("input".into(), Tensor { shape: input, data })]);
        Self { input, image, layers: Vec::new(), weights: BTreeMap::new(), values, random }
    }

    /// Adds a convolution, a fully connected layer included, with weights of its own.
    fn conv(&mut self, mut layer: Value, shape: &[usize], bias: bool) -> String {
        let name = format!("weights of {}", self.layers.len());
        let taps: usize = shape[1..].iter().product();
        let scale = 1.5 / (taps as f32).sqrt();
        let weights = self.random.take(shape[0] * taps).into_iter().map(|value| scale * value).collect();
        self.weights.insert(name.clone(), (shape.to_vec(), weights));
        layer["weight"] = name.into();
        if bias {
            let name = format!("bias of {}", self.layers.len());
            let values = self.random.take(shape[0]);
            self.weights.insert(name.clone(), (vec![shape[0]], values));
            layer["bias"] = name.into();
        }
        self.layer(layer)
    }

    pub fn depthwise(&mut self, input: &str, multiplier: usize, kernel: usize, more: Value) -> String {
        let channels = self.values[input].shape[1];
        let out = channels * multiplier;
        let layer = json!({"op": "dwconv", "input": input, "in_channels": channels, "out_channels": out,
            "groups": channels, "kernel": [kernel, kernel]});
        self.conv(merged(layer, more), &[out, 1, kernel, kernel], true)
    }

    pub fn pointwise(&mut self, input: &str, out: usize, activation: &str) -> String {
        let channels = self.values[input].shape[1];
        let layer = json!({"op": "pwconv", "input": input, "in_channels": channels, "out_channels": out,
            "groups": 1, "kernel": [1, 1], "stride": [1, 1], "activation": activation});
        self.conv(layer, &[out, channels, 1, 1], true)
    }

    pub fn standard(&mut self, input: &str, out: usize, groups: usize, kernel: [usize; 2], more: Value) -> String {
        let channels = self.values[input].shape[1];
        let layer = json!({"op": "conv", "input": input, "in_channels": channels, "out_channels": out,
            "groups": groups, "kernel": kernel});
        self.conv(merged(layer, more), &[out, channels / groups, kernel[0], kernel[1]], false)
    }

    pub fn fully_connected(&mut self, input: &str, out: usize, activation: &str) -> String {
        let features = self.values[input].shape.iter().product::<usize>();
        let layer = json!({"op": "fc", "input": input, "in_features": features, "out_features": out,
            "activation": activation});
        self.conv(layer, &[out, features], true)
    }

    /// Adds a layer, computes it, and returns the name of its output.
    pub fn layer(&mut self, mut layer: Value) -> String {
        let output = format!("{:03}.{}", self.layers.len(), layer["op"].as_str().unwrap());
        let value = self.compute(&layer);
        // One of the two ways to write a vector's shape.
        layer["out_shape"] = if layer["op"] == "fc" { json!(value.shape[..2]) } else { json!(value.shape) };
        layer["output"] = output.clone().into();
        self.layers.push(layer);
        self.values.insert(output.clone(), value);
        output
    }

    fn compute(&self, layer: &Value) -> Tensor {
        let names: Vec<&Value> = match layer["inputs"].as_array() {
            Some(names) => names.iter().collect(),
            None => vec![&layer["input"]],
        };
        let inputs: Vec<&Tensor> = names.iter().map(|name| &self.values[name.as_str().unwrap()]).collect();
        let x = inputs[0];
        let [n, c, h, w] = x.shape;
        let slid = |channels: usize| {
            let axis = |axis: usize, length: usize, edges: [&str; 2]| {
                let padded = length + edges.iter().map(|edge| number(&layer["pad"][edge], 0)).sum::<usize>();
                let reach = (number(&layer["kernel"][axis], 1) - 1) * number(&layer["dilation"][axis], 1) + 1;
                (padded - reach) / number(&layer["stride"][axis], 1) + 1
            };
            [n, channels, axis(0, h, ["top", "bottom"]), axis(1, w, ["left", "right"])]
        };
        let result = match layer["op"].as_str().unwrap() {
            "conv" | "dwconv" | "pwconv" => {
                let (shape, weights) = &self.weights[layer["weight"].as_str().unwrap()];
                let groups = layer["groups"].as_u64().unwrap() as usize;
                let taps = shape[2] * shape[3];
                Tensor::from_fn(slid(shape[0]), |[n, o, h, w]| {
                    let first = o / (shape[0] / groups) * shape[1];
                    let products = (0..shape[1]).flat_map(|i| {
                        let weights = weights[(o * shape[1] + i) * taps..][..taps].iter();
                        x.window(layer, n, first + i, h, w).into_iter().zip(weights)
                    });
                    products.map(|(x, &weight)| x.unwrap_or(0.0) * f64::from(weight)).sum::<f64>() + self.bias(layer, o)
                })
            }
            "fc" => {
                let weights = &self.weights[layer["weight"].as_str().unwrap()].1;
                let out = weights.len() / x.data.len();
                Tensor::from_fn([1, out, 1, 1], |[_, o, _, _]| {
                    let weights = &weights[o * x.data.len()..][..x.data.len()];
                    let products = x.data.iter().zip(weights).map(|(x, &weight)| x * f64::from(weight));
                    products.sum::<f64>() + self.bias(layer, o)
                })
            }
            "max_pool" => Tensor::from_fn(slid(c), |[n, c, h, w]| {
                x.window(layer, n, c, h, w).into_iter().flatten().fold(f64::NEG_INFINITY, f64::max)
            }),
            "avg_pool" => Tensor::from_fn(slid(c), |[n, c, h, w]| {
                let values = x.window(layer, n, c, h, w);
                values.iter().flatten().sum::<f64>() / values.len() as f64
            }),
            "global_avg_pool" => Tensor::from_fn([n, c, 1, 1], |[n, c, _, _]| {
                let values = (0..h * w).map(|pixel| x.at([n, c, pixel / w, pixel % w]));
                values.sum::<f64>() / (h * w) as f64
            }),
            op @ ("add" | "mul") => {
                let y = inputs[1];
                let shape = std::array::from_fn(|axis| x.shape[axis].max(y.shape[axis]));
                let combine = |a: f64, b: f64| if op == "add" { a + b } else { a * b };
                Tensor::from_fn(shape, |index| combine(x.at(index), y.at(index)))
            }
            "concat_channels" => {
                let channels: usize = inputs.iter().map(|input| input.shape[1]).sum();
                Tensor::from_fn([n, channels, h, w], |[n, mut c, h, w]| {
                    let mut inputs = inputs.iter();
                    let mut input = inputs.next().unwrap();
                    while c >= input.shape[1] {
                        c -= input.shape[1];
                        input = inputs.next().unwrap();
                    }
                    input.at([n, c, h, w])
                })
            }
            "broadcast_hw" => {
                let extent = |axis: usize| layer["out_shape"][axis].as_u64().unwrap() as usize;
                Tensor::from_fn([n, c, extent(2), extent(3)], |index| x.at(index))
            }
            "softmax" => Tensor::from_fn(x.shape, |[n, c, h, w]| {
                let sum: f64 = (0..x.shape[1]).map(|c| x.at([n, c, h, w]).exp()).sum();
                x.at([n, c, h, w]).exp() / sum
            }),
            op => panic!("{op}"),
        };
        let gate = |value: f64| (value + 3.0).clamp(0.0, 6.0) / 6.0;
        let activation = |value: f64| match layer["activation"].as_str().unwrap_or("none") {
            "none" => value,
            "relu" => value.max(0.0),
            "relu6" => value.clamp(0.0, 6.0),
            "hardswish" => value * gate(value),
            "hardsigmoid" => gate(value),
            name => panic!("{name}"),
        };
        Tensor { data: result.data.into_iter().map(activation).collect(), ..result }
    }

    fn bias(&self, layer: &Value, channel: usize) -> f64 {
        layer["bias"].as_str().map_or(0.0, |name| f64::from(self.weights[name].1[channel]))
    }

    pub fn arch(&self, output: &str) -> Value {
        json!({"format": "dwx-arch/1", "name": "synthetic", "input": {"name": "input", "shape": self.input},
            "outputs": [output], "layers": self.layers})
    }

    pub fn weights(&self) -> Vec<u8> {
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        let tensors: Vec<_> = self.weights.iter().map(|(name, (shape, data))| (name, shape, bytes(data))).collect();
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    /// Checks every layer, each as the output in its turn (which also changes what can be fused).
    pub fn check(&self) {
        let (ways, weights) = (ways(), self.weights());
        for (output, expected) in self.values.iter().filter(|(name, _)| *name != "input") {
            let text = self.arch(output).to_string();
            let build = |options| build(&text, &weights, options).unwrap();
            check(output, &ways, build, std::slice::from_ref(&self.image), std::slice::from_ref(&expected.data));
        }
    }
}

fn merged(mut layer: Value, more: Value) -> Value {
    layer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    layer
}

pub fn pad(top: usize, left: usize, bottom: usize, right: usize) -> Value {
    json!({"top": top, "left": left, "bottom": bottom, "right": right})
}

pub fn build(arch: &str, weights: &[u8], options: Options) -> Result<Network, String> {
    Network::build(Arch::parse(arch)?, &Tensors::parse(weights)?, options)
}
