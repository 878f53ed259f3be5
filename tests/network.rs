//! The example `network`: trained networks against their references, every op of its format against a
//! naive one in f64, and bad files against the sentence that they must bring up.

#![cfg(feature = "rayon")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use depthwise::{Isa, Layout, Parallelism, Shape};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

#[allow(dead_code, reason = "the example uses all of it")]
#[path = "../examples/network/arch.rs"]
mod arch;
#[allow(dead_code, reason = "the example uses all of it")]
#[path = "../examples/network/engine.rs"]
mod engine;
#[allow(dead_code, reason = "the example uses all of it")]
#[path = "../examples/network/files.rs"]
mod files;
#[path = "../examples/network/ops.rs"]
mod ops;
#[path = "../examples/network/photo.rs"]
mod photo;

use arch::Arch;
use engine::{Network, Options};
use files::Tensors;

/// Errors are compared with this share of the largest output.
const TOLERANCE: f64 = 1e-4;

// ---------------------------------------------------------------- the ways to run a network

#[derive(Clone, Copy, Debug)]
struct Way {
    isa: Isa,
    layout: Layout,
    threads: usize,
}

/// Every instruction set of this CPU, both layouts, one thread and two.
fn ways() -> Vec<Way> {
    let (here, absent): (Vec<_>, Vec<_>) = Isa::all().iter().copied().partition(|isa| isa.is_available());
    println!("ran on {here:?}; not available on this CPU: {absent:?}");
    let layouts = [Layout::Nchw, Layout::Nhwc];
    let all = here.into_iter().flat_map(|isa| layouts.map(|layout| [1, 2].map(|threads| Way { isa, layout, threads })));
    all.flatten().collect()
}

/// The outputs, in NCHW order, of some images in NCHW order.
fn run(network: &Network, images: &[Vec<f32>], threads: usize) -> Vec<Vec<f32>> {
    let run = |parallelism| {
        let mut scratch = network.scratch().unwrap();
        let outputs = images.iter().map(|image| {
            let output = network.run(&mut scratch, &network.arrange(image), parallelism, |_| ()).unwrap();
            network.nchw_output(output)
        });
        outputs.collect()
    };
    match threads {
        1 => run(Parallelism::Serial),
        _ => rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| run(Parallelism::Rayon)),
    }
}

/// Runs a network in every way: each output must be near the expected one, and all the ways of fused
/// multiply-adds must agree to the bit, as must all those without.
fn check(name: &str, ways: &[Way], build: impl Fn(Options) -> Network, images: &[Vec<f32>], expected: &[Vec<f64>]) {
    let mut seen: BTreeMap<bool, Vec<Vec<u32>>> = BTreeMap::new();
    for way in ways {
        let network = build(Options { layout: way.layout, isa: Some(way.isa) });
        let outputs = run(&network, images, way.threads);
        assert_eq!(outputs.len(), expected.len());
        for (image, (output, expected)) in outputs.iter().zip(expected).enumerate() {
            assert_eq!(output.len(), expected.len(), "{name}, image {image}, {way:?}");
            let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
            for (index, (&value, &expected)) in output.iter().zip(expected).enumerate() {
                let error = (f64::from(value) - expected).abs();
                // Written so that a NaN fails.
                assert!(
                    error <= TOLERANCE * largest,
                    "{name}, image {image}, element {index}, {way:?}: {value} instead of {expected}"
                );
            }
        }
        let bits: Vec<Vec<u32>> =
            outputs.iter().map(|output| output.iter().map(|value| value.to_bits()).collect()).collect();
        let first = seen.entry(way.isa.is_fused()).or_insert_with(|| bits.clone());
        assert!(*first == bits, "{name}: {way:?} gives other bits than the ways before it");
    }
}

// ---------------------------------------------------------------- trained networks

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/models")
}

fn images(folder: &Path, arch: &Arch) -> Vec<Vec<f32>> {
    let bytes = files::read(&folder.join("inputs_u8.safetensors")).unwrap();
    Tensors::parse(&bytes).unwrap().images(&arch.input).unwrap()
}

/// One row per image.
fn reference(folder: &Path) -> Vec<Vec<f64>> {
    let bytes = files::read(&folder.join("reference.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor("output0_f64_folded").unwrap();
    let values: Vec<f64> = tensor.data().as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
    values.chunks_exact(values.len() / tensor.shape()[0]).map(<[f64]>::to_vec).collect()
}

fn strongest<T: PartialOrd + Copy>(values: &[T]) -> usize {
    (1..values.len()).fold(0, |best, index| if values[index] > values[best] { index } else { best })
}

fn trained(name: &str) {
    let folder = models().join(name);
    let load = |options| Network::load(&folder, options).unwrap();
    let network = load(Options { layout: Layout::Nhwc, isa: None });
    let (images, expected) = (images(&folder, &network.arch), reference(&folder));
    let outputs = run(&network, &images, 1);
    for (output, expected) in outputs.iter().zip(&expected) {
        assert_eq!(strongest(output), strongest(expected), "{name}: another class wins");
    }
    check(name, &ways(), load, &images, &expected);
}

#[test]
fn efficientnet_lite0_agrees_with_its_reference() {
    trained("efficientnet_lite0");
}

#[test]
fn mini_xception_agrees_with_its_reference() {
    trained("mini_xception");
}

/// Each depthwise convolution runs with the pointwise one behind it, and each addition in what it follows.
#[test]
fn layers_that_belong_together_run_as_one() {
    let folder = models().join("efficientnet_lite0");
    let network = Network::load(&folder, Options { layout: Layout::Nhwc, isa: None }).unwrap();
    let names: Vec<_> = network.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names.len(), 60 - 16 - 9, "{names:?}");
    assert_eq!(names[1], "block00.dw + block00.project");
    assert_eq!(names[5], "block02.dw + block02.project + block02.residual");
}

/// From the photographs themselves: the pixels are nearly Pillow's, and the same classes win.
#[test]
fn photographs_give_the_reference_labels() {
    let folder = models().join("efficientnet_lite0");
    let network = Network::load(&folder, Options { layout: Layout::Nhwc, isa: None }).unwrap();
    let input = &network.arch.input;
    let bytes = files::read(&folder.join("inputs_u8.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let pixels = tensors.tensor("images_u8").unwrap().data();
    let labels = files::read_labels(&folder.join("labels.txt")).unwrap();
    let report: Value = serde_json::from_str(&files::read_text(&folder.join("reference.json")).unwrap()).unwrap();
    // The bundled ones are the first of the reference's.
    let bundled = ["chelsea", "coffee", "rocket", "astronaut"];
    for ((name, expected), report) in
        bundled.iter().zip(pixels.chunks_exact(224 * 224 * 3)).zip(report["images"].as_array().unwrap())
    {
        assert_eq!(report["image"], *name);
        let photo = photo::load(&models().join(format!("images/{name}.png")), input).unwrap();
        let differences = photo.iter().zip(expected).map(|(a, b)| f64::from(a.abs_diff(*b)));
        let mean = differences.sum::<f64>() / expected.len() as f64;
        assert!(mean < 0.5, "{name}: the pixels are {mean} away from Pillow's in the mean");
        let output = &run(&network, &[input.normalise(&photo)], 1)[0];
        assert_eq!(labels[strongest(output)], report["top"][0]["label"].as_str().unwrap());
    }
}

/// A grey network reads luma by ITU-R 601, and without `central_crop` the whole photograph.
#[test]
fn photographs_become_grey() {
    let folder = models().join("mini_xception");
    let network = Network::load(&folder, Options { layout: Layout::Nchw, isa: None }).unwrap();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("red_left_blue_right.png");
    let colour = |x, _| image::Rgb(if x < 50 { [255, 0, 0] } else { [0, 0, 255] });
    image::RgbImage::from_fn(100, 60, colour).save(&path).unwrap();
    let pixels = photo::load(&path, &network.arch.input).unwrap();
    assert_eq!(pixels.len(), 64 * 64);
    assert_eq!((pixels[0], pixels[63]), (76, 29));
}

// ---------------------------------------------------------------- synthetic networks

/// A tensor in NCHW order.
#[derive(Clone)]
struct Tensor {
    shape: [usize; 4],
    data: Vec<f64>,
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
struct Net {
    input: [usize; 4],
    image: Vec<f32>,
    layers: Vec<Value>,
    weights: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    values: BTreeMap<String, Tensor>,
    random: Random,
}

impl Net {
    fn new(c: usize, h: usize, w: usize) -> Self {
        let (input, mut random) = ([1, c, h, w], Random(7));
        let image = random.take(c * h * w);
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

    fn depthwise(&mut self, input: &str, multiplier: usize, kernel: usize, more: Value) -> String {
        let channels = self.values[input].shape[1];
        let out = channels * multiplier;
        let layer = json!({"op": "dwconv", "input": input, "in_channels": channels, "out_channels": out,
            "groups": channels, "kernel": [kernel, kernel]});
        self.conv(merged(layer, more), &[out, 1, kernel, kernel], true)
    }

    fn pointwise(&mut self, input: &str, out: usize, activation: &str) -> String {
        let channels = self.values[input].shape[1];
        let layer = json!({"op": "pwconv", "input": input, "in_channels": channels, "out_channels": out,
            "groups": 1, "kernel": [1, 1], "stride": [1, 1], "activation": activation});
        self.conv(layer, &[out, channels, 1, 1], true)
    }

    fn standard(&mut self, input: &str, out: usize, groups: usize, kernel: [usize; 2], more: Value) -> String {
        let channels = self.values[input].shape[1];
        let layer = json!({"op": "conv", "input": input, "in_channels": channels, "out_channels": out,
            "groups": groups, "kernel": kernel});
        self.conv(merged(layer, more), &[out, channels / groups, kernel[0], kernel[1]], false)
    }

    fn fully_connected(&mut self, input: &str, out: usize, activation: &str) -> String {
        let features = self.values[input].shape.iter().product::<usize>();
        let layer = json!({"op": "fc", "input": input, "in_features": features, "out_features": out,
            "activation": activation});
        self.conv(layer, &[out, features], true)
    }

    /// Adds a layer, computes it, and returns the name of its output.
    fn layer(&mut self, mut layer: Value) -> String {
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

    fn arch(&self, output: &str) -> Value {
        json!({"format": "dwx-arch/1", "name": "synthetic", "input": {"name": "input", "shape": self.input},
            "outputs": [output], "layers": self.layers})
    }

    fn weights(&self) -> Vec<u8> {
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        let tensors: Vec<_> = self.weights.iter().map(|(name, (shape, data))| (name, shape, bytes(data))).collect();
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| (name.as_str(), TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    /// Checks every layer, each as the output in its turn (which also changes what can be fused).
    fn check(&self) {
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

fn pad(top: usize, left: usize, bottom: usize, right: usize) -> Value {
    json!({"top": top, "left": left, "bottom": bottom, "right": right})
}

fn build(arch: &str, weights: &[u8], options: Options) -> Result<Network, String> {
    Network::build(Arch::parse(arch)?, &Tensors::parse(weights)?, options)
}

/// Dilated convolutions, image pooling spread over the map again, concatenation; the output is a map.
#[test]
fn segmentation_with_dilation() {
    let mut net = Net::new(3, 33, 29);
    let stem =
        net.standard("input", 8, 1, [3, 3], json!({"stride": [2, 2], "pad": pad(1, 1, 1, 1), "activation": "relu6"}));
    let wide = net.pointwise(&stem, 24, "relu6");
    let dilated = json!({"dilation": [2, 2], "pad": pad(2, 2, 2, 2), "activation": "relu6"});
    let two = net.depthwise(&wide, 1, 3, dilated);
    let narrow = net.pointwise(&two, 8, "none");
    let sum = net.layer(json!({"op": "add", "inputs": [stem, narrow]}));
    let dilated = json!({"dilation": [4, 4], "pad": pad(4, 4, 4, 4), "activation": "relu"});
    let four = net.depthwise(&sum, 2, 3, dilated);
    let branch = net.pointwise(&four, 12, "relu");
    let mean = net.layer(json!({"op": "global_avg_pool", "input": sum}));
    let pooled = net.pointwise(&mean, 5, "relu");
    let shape = [&[1, 5], &net.values[&branch].shape[2..]].concat();
    let spread = net.layer(json!({"op": "broadcast_hw", "input": pooled, "out_shape": shape}));
    let all = net.layer(json!({"op": "concat_channels", "inputs": [spread, branch, spread]}));
    let scores = net.pointwise(&all, 7, "none");
    net.layer(json!({"op": "softmax", "input": scores, "axis": 1}));
    net.check();
}

/// Hard-swish, squeeze-excite with the gate on either side, odd sizes, asymmetric next to symmetric padding.
#[test]
fn squeeze_excite_with_hard_activations() {
    let mut net = Net::new(3, 31, 37);
    let more = json!({"stride": [2, 2], "pad": pad(0, 0, 1, 1), "activation": "hardswish"});
    let stem = net.standard("input", 8, 1, [3, 3], more);
    let block = |net: &mut Net, input: &str, kernel, more, gate_first: bool| {
        let wide = net.pointwise(input, 20, "hardswish");
        let filtered = net.depthwise(&wide, 1, kernel, more);
        let mean = net.layer(json!({"op": "global_avg_pool", "input": filtered}));
        let squeezed = net.pointwise(&mean, 6, "relu");
        let gate = net.pointwise(&squeezed, 20, "hardsigmoid");
        let factors = if gate_first { [gate, filtered] } else { [filtered, gate] };
        let gated = net.layer(json!({"op": "mul", "inputs": factors}));
        net.pointwise(&gated, 8, "none")
    };
    let more = json!({"stride": [2, 2], "pad": pad(1, 2, 2, 2), "activation": "hardswish"});
    let first = block(&mut net, &stem, 5, more, false);
    let more = json!({"pad": pad(1, 1, 1, 1), "activation": "relu"});
    let second = block(&mut net, &first, 3, more, true);
    let sum = net.layer(json!({"op": "add", "inputs": [second, first], "activation": "hardswish"}));
    let mean = net.layer(json!({"op": "global_avg_pool", "input": sum}));
    let hidden = net.fully_connected(&mean, 16, "hardswish");
    let hidden = net.layer(json!({"op": "mul", "inputs": [hidden, hidden], "activation": "hardsigmoid"}));
    let logits = net.fully_connected(&hidden, 10, "none");
    net.layer(json!({"op": "softmax", "input": logits, "axis": -1}));
    net.check();
}

/// What else the format allows: groups, multipliers, pooling, all ways to add, a classifier on a map.
#[test]
fn every_other_op() {
    let mut net = Net::new(1, 21, 18);
    let more = json!({"stride": [1, 2], "pad": pad(1, 0, 1, 1), "activation": "relu"});
    let first = net.depthwise("input", 6, 3, more);
    let grouped = net.standard(&first, 8, 2, [3, 1], json!({"pad": pad(1, 0, 1, 0)}));
    let one_each = net.standard(&grouped, 16, 8, [3, 3], json!({"pad": pad(1, 1, 1, 1), "activation": "relu6"}));
    let pooled = net.layer(json!({"op": "max_pool", "input": one_each, "kernel": [3, 3], "stride": [2, 2],
        "pad": pad(0, 0, 1, 1), "activation": "hardswish"}));
    // 1×1 but with a stride: no pointwise convolution.
    let strided =
        net.standard(&one_each, 16, 1, [1, 1], json!({"op": "pwconv", "stride": [2, 2], "pad": pad(0, 0, 0, 0)}));
    let rest = net.layer(json!({"op": "max_pool", "input": strided, "kernel": [3, 2], "stride": [1, 1],
        "dilation": [2, 1], "pad": pad(2, 0, 1, 0)}));
    let sum = net.layer(json!({"op": "add", "inputs": [pooled, rest], "activation": "relu6"}));
    // Both operands could take the addition over; only one can.
    let left = net.pointwise(&sum, 16, "none");
    let filtered = net.depthwise(&sum, 1, 3, json!({"pad": pad(1, 1, 1, 1)}));
    let right = net.pointwise(&filtered, 16, "none");
    let both = net.layer(json!({"op": "add", "inputs": [left, right], "activation": "hardsigmoid"}));
    // A grouped convolution with a residual, a depthwise one, and one whose own activation forbids it.
    let grouped = net.standard(&both, 16, 4, [1, 1], json!({}));
    let kept = net.layer(json!({"op": "add", "inputs": [both, grouped], "activation": "relu"}));
    let filtered = net.depthwise(&kept, 1, 3, json!({"pad": pad(1, 1, 1, 1)}));
    let kept = net.layer(json!({"op": "add", "inputs": [filtered, kept]}));
    let active = net.pointwise(&kept, 16, "relu");
    let kept = net.layer(json!({"op": "add", "inputs": [active, kept]}));
    let twice = net.layer(json!({"op": "add", "inputs": [kept, kept]}));
    // An addition that stretches: the pointwise result is one pixel.
    let mean = net.layer(json!({"op": "global_avg_pool", "input": twice}));
    let offset = net.pointwise(&mean, 16, "none");
    let moved = net.layer(json!({"op": "add", "inputs": [offset, twice]}));
    let product = net.layer(json!({"op": "mul", "inputs": [moved, twice], "activation": "relu6"}));
    let small = net.layer(json!({"op": "avg_pool", "input": product, "kernel": [3, 2], "stride": [3, 2]}));
    assert_eq!(net.values[&small].shape, [1, 16, 3, 2]);
    net.fully_connected(&small, 9, "none");
    net.check();
}

// ---------------------------------------------------------------- bad input

const PORTABLE: Options = Options { layout: Layout::Nhwc, isa: Some(Isa::Portable) };

/// A correct network, to be spoilt: stem, depthwise, project, residual, pool, classifier.
fn small() -> Net {
    let mut net = Net::new(3, 9, 8);
    let stem =
        net.standard("input", 4, 1, [3, 3], json!({"name": "stem", "pad": pad(1, 1, 1, 1), "activation": "relu"}));
    let filtered = net.depthwise(&stem, 1, 3, json!({"stride": [1, 1], "dilation": [1, 1], "pad": pad(1, 1, 1, 1)}));
    let projected = net.pointwise(&filtered, 4, "none");
    let sum = net.layer(json!({"op": "add", "inputs": [stem, projected]}));
    let pooled = net.layer(json!({"op": "max_pool", "input": sum, "kernel": [3, 3], "stride": [2, 2]}));
    let spread = net.layer(json!({"op": "softmax", "input": pooled, "axis": 1}));
    let mean = net.layer(json!({"op": "global_avg_pool", "input": spread}));
    net.fully_connected(&mean, 5, "none");
    net
}

/// The message of a network that must not build; it is one line and names every culprit.
fn refused(result: Result<Network, String>, culprits: &[&str]) {
    let Err(message) = result else { panic!("{culprits:?}: it was accepted") };
    assert!(!message.contains('\n'), "more than one line: {message}");
    for culprit in culprits {
        assert!(message.contains(culprit), "`{culprit}` is missing in: {message}");
    }
}

#[test]
fn bad_descriptions_are_named() {
    let net = small();
    let (arch, weights) = (net.arch("007.fc"), net.weights());
    assert!(build(&arch.to_string(), &weights, PORTABLE).is_ok());
    let cases: &[(&str, Value, &[&str])] = &[
        ("/format", json!("dwx-arch/9"), &["dwx-arch/9", "dwx-arch/1"]),
        ("/layers/0/op", json!("lstm"), &["layer 0 (stem)", "unknown op `lstm`"]),
        ("/layers/0/activation", json!("mish"), &["layer 0 (stem)", "unknown activation `mish`"]),
        ("/layers/1/input", json!("nowhere"), &["layer 1 (001.dwconv)", "`nowhere`"]),
        ("/layers/1/input", json!("001.dwconv"), &["layer 1 (001.dwconv)", "`001.dwconv`"]),
        ("/layers/1/input", json!("002.pwconv"), &["layer 1 (001.dwconv)", "`002.pwconv`"]),
        ("/layers/2/output", json!("001.dwconv"), &["layer 2", "`001.dwconv` is already taken"]),
        ("/layers/3/inputs", json!(["input", "002.pwconv"]), &["layer 3", "[1, 3, 9, 8]", "[1, 4, 9, 8]"]),
        ("/layers/3/inputs", json!(["000.conv"]), &["layer 3", "2 inputs, not 1"]),
        ("/layers/0/in_channels", json!(5), &["layer 0 (stem)", "in_channels is 5", "3 channels"]),
        ("/layers/0/groups", json!(0), &["layer 0 (stem)", "0 groups"]),
        ("/layers/0/groups", json!(2), &["layer 0 (stem)", "2 groups"]),
        ("/layers/1/groups", json!(2), &["layer 1", "4, not 2"]),
        ("/layers/0/kernel", json!([3, -1]), &["layer 0 (stem)", "-1"]),
        ("/layers/0/kernel", json!([30, 3]), &["layer 0 (stem)", "height 9", "30"]),
        ("/layers/2/kernel", json!([3, 3]), &["layer 2", "[3, 3]"]),
        ("/layers/1/stride", json!([0, 1]), &["layer 1", "stride 0"]),
        ("/layers/1/dilation", json!([1, u64::MAX]), &["layer 1", "too large"]),
        ("/layers/1/pad/left", json!(u64::MAX), &["layer 1", "too large"]),
        ("/layers/1/pad/left", json!(4_000_000_000u64), &["layer 1", "elements"]),
        ("/layers/1/out_shape", json!([1, 4, 9, 9]), &["layer 1", "[1, 4, 9, 9]", "[1, 4, 9, 8]"]),
        ("/layers/4/kernel", Value::Null, &["layer 4", "`kernel`"]),
        ("/layers/5/axis", json!(2), &["layer 5", "axis 2"]),
        ("/layers/7/in_features", json!(40), &["layer 7", "in_features is 40", "4 elements"]),
        ("/layers/7/weight", Value::Null, &["layer 7", "`weight`"]),
        ("/input/shape", json!([3, 9, 8]), &["input", "[3, 9, 8]"]),
        ("/input/shape", json!([2, 3, 9, 8]), &["input", "batch of 2"]),
        ("/input/shape", json!([1, 3, 0, 8]), &["input", "empty"]),
        ("/input/shape", json!([1, 3, 1u64 << 40, 1u64 << 40]), &["input", "elements"]),
        ("/outputs", json!([]), &["outputs is empty"]),
        ("/outputs", json!(["nothing"]), &["outputs", "`nothing`"]),
        ("/outputs", json!(["input"]), &["outputs", "input"]),
        ("/layers", json!(3), &["3"]),
        ("/layers/7/weight", json!("lost"), &["layer 7", "`lost`"]),
        ("/layers/7/bias", json!("weights of 0"), &["layer 7", "`weights of 0`", "[4, 3, 3, 3]", "[5]"]),
        ("/layers/2/weight", json!("weights of 0"), &["layer 2", "`weights of 0`", "[4, 3, 3, 3]", "[4, 4, 1, 1]"]),
    ];
    for (pointer, value, culprits) in cases {
        let mut spoilt = arch.clone();
        *spoilt.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} does not exist")) = value.clone();
        refused(build(&spoilt.to_string(), &weights, PORTABLE), culprits);
    }
    for (field, value, culprits) in [
        ("mean", json!([1.0]), ["mean", "1 values for 3"]),
        ("std", json!([1.0, 0.0, 1.0]), ["std", "zero"]),
        ("central_crop", json!(1.5), ["central_crop", "1.5"]),
    ] {
        let mut spoilt = arch.clone();
        spoilt["input"][field] = value;
        refused(build(&spoilt.to_string(), &weights, PORTABLE), &culprits);
    }
    refused(build("{", &weights, PORTABLE), &["line 1"]);
}

/// Whatever replaces whatever in a description: it is an error or another network, never a panic.
#[test]
fn hostile_descriptions_do_not_panic() {
    let net = small();
    let (arch, weights) = (net.arch("007.fc"), net.weights());
    let mut pointers = Vec::new();
    list_pointers(&arch, String::new(), &mut pointers);
    let values = [
        json!(0),
        json!(1),
        json!(7),
        json!(1_000_000),
        json!(u64::MAX),
        json!(-1),
        json!(1.5),
        json!("input"),
        Value::Null,
        json!([]),
        json!([1, 1]),
        json!({}),
    ];
    let image = &net.image;
    let mut accepted = 0;
    for pointer in &pointers {
        for value in &values {
            let mut spoilt = arch.clone();
            *spoilt.pointer_mut(pointer).unwrap() = value.clone();
            if let Ok(network) = build(&spoilt.to_string(), &weights, PORTABLE) {
                let mut scratch = network.scratch().unwrap();
                // An error where another input shape was accepted.
                accepted += usize::from(network.run(&mut scratch, image, Parallelism::Serial, |_| ()).is_ok());
            }
        }
    }
    println!("{} descriptions, {accepted} of them ran", pointers.len() * values.len());
}

fn list_pointers(value: &Value, pointer: String, pointers: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Array(values) => values.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in children {
        list_pointers(value, format!("{pointer}/{name}"), pointers);
    }
    if !pointer.is_empty() {
        pointers.push(pointer);
    }
}

#[test]
fn bad_files_are_named() {
    let net = small();
    let (arch, weights) = (net.arch("007.fc").to_string(), net.weights());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("network_bad_files");
    let _ = std::fs::remove_dir_all(&folder);
    refused(Network::load(&folder, PORTABLE), &["arch.json"]);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("arch.json"), b"\xff{}").unwrap();
    refused(Network::load(&folder, PORTABLE), &["arch.json", "not UTF-8"]);
    std::fs::write(folder.join("arch.json"), "[1]").unwrap();
    refused(Network::load(&folder, PORTABLE), &["arch.json"]);
    std::fs::write(folder.join("arch.json"), &arch).unwrap();
    refused(Network::load(&folder, PORTABLE), &["model.safetensors"]);
    for broken in [&weights[..weights.len() - 1], &weights[..100], &weights[..3], b"GIF89a; not a tensor"] {
        std::fs::write(folder.join("model.safetensors"), broken).unwrap();
        refused(Network::load(&folder, PORTABLE), &["model.safetensors", "not a safetensors file"]);
    }
    std::fs::write(folder.join("model.safetensors"), &weights).unwrap();
    assert!(Network::load(&folder, PORTABLE).is_ok());

    let halves = TensorView::new(Dtype::F16, vec![4, 3, 3, 3], &[0; 216]).unwrap();
    let halves = safetensors::serialize([("weights of 0", halves)], None).unwrap();
    refused(build(&arch, &halves, PORTABLE), &["layer 0 (stem)", "`weights of 0`", "F16", "F32"]);
    if let Some(&isa) = Isa::all().iter().find(|isa| !isa.is_available()) {
        refused(build(&arch, &weights, Options { isa: Some(isa), ..PORTABLE }), &["layer 0 (stem)", isa.name()]);
    }
}

/// Tensors of a file, all zeros: name, type, shape.
type Described<'a> = &'a [(&'a str, Dtype, &'a [usize])];

#[test]
fn bad_images_are_named() {
    let net = small();
    let network = build(&net.arch("007.fc").to_string(), &net.weights(), PORTABLE).unwrap();
    let input = &network.arch.input;
    let images = |tensors: Described| {
        let bytes = [0; 4096];
        let views = tensors.iter().map(|&(name, dtype, shape)| {
            let length = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            (name, TensorView::new(dtype, shape.to_vec(), &bytes[..length]).unwrap())
        });
        let file = safetensors::serialize(views, None).unwrap();
        Tensors::parse(&file).unwrap().images(input)
    };
    assert_eq!(images(&[("images_u8", Dtype::U8, &[2, 9, 8, 3])]).unwrap().len(), 2);
    assert_eq!(images(&[("images_f32", Dtype::F32, &[2, 3, 9, 8])]).unwrap().len(), 2);
    assert_eq!(images(&[("images_f32", Dtype::F32, &[0, 3, 9, 8])]).unwrap().len(), 0);
    let cases: &[(Described, &[&str])] = &[
        (&[("pictures", Dtype::U8, &[1])], &["neither", "images_u8", "images_f32"]),
        (&[("images_u8", Dtype::U8, &[1]), ("images_f32", Dtype::F32, &[1])], &["both"]),
        (&[("images_u8", Dtype::U8, &[1, 8, 9, 3])], &["`images_u8`", "[1, 8, 9, 3]", "[9, 8, 3]"]),
        (&[("images_u8", Dtype::F32, &[1, 9, 8, 3])], &["`images_u8`", "F32", "U8"]),
        (&[("images_f32", Dtype::F32, &[3, 9, 8])], &["`images_f32`", "[3, 9, 8]"]),
        (&[("images_f32", Dtype::F64, &[1, 3, 9, 8])], &["`images_f32`", "F64", "F32"]),
        (&[("images_f32", Dtype::F32, &[])], &["`images_f32`", "[]"]),
    ];
    for (tensors, culprits) in cases {
        let message = images(tensors).unwrap_err();
        assert!(culprits.iter().all(|culprit| message.contains(culprit)), "{culprits:?}: {message}");
    }

    let mut scratch = network.scratch().unwrap();
    let message = network.run(&mut scratch, &[0.0; 7], Parallelism::Serial, |_| ()).unwrap_err();
    assert!(message.contains("7 elements") && message.contains("216"), "{message}");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let message = photo::load(&folder.join("no such photo.png"), input).unwrap_err();
    assert!(message.contains("no such photo.png"), "{message}");
    std::fs::write(folder.join("text.png"), "not a photograph").unwrap();
    let message = photo::load(&folder.join("text.png"), input).unwrap_err();
    assert!(message.contains("text.png"), "{message}");
}

/// Pixels are normalised channel by channel, and what is written can be read.
#[test]
fn tensors_go_in_and_out() {
    let text = json!({"format": "dwx-arch/1", "outputs": ["same"],
        "input": {"shape": [1, 3, 1, 2], "mean": [1.0, 2.0, 3.0], "std": [2.0, 4.0, 8.0]},
        "layers": [{"op": "softmax", "input": "input", "output": "same"}]});
    let arch = Arch::parse(&text.to_string()).unwrap();
    assert_eq!(arch.input.shape, Shape::new(1, 3, 1, 2));
    assert_eq!(arch.input.normalise(&[1, 2, 3, 5, 6, 7]), [0.0, 2.0, 0.0, 1.0, 0.0, 0.5]);
    assert_eq!(arch.output_dims(), [3, 1, 2]);

    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outputs.safetensors");
    files::write_outputs(&path, &[3], &[vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0]]).unwrap();
    let bytes = files::read(&path).unwrap();
    let tensors = Tensors::parse(&bytes).unwrap();
    assert_eq!(tensors.weights("output0", &[2, 3]).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let message = files::write_outputs(&path.join("below a file"), &[1], &[]).unwrap_err();
    assert!(message.contains("below a file"), "{message}");
}
