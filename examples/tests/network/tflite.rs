//! Networks of 8 bits: each layer against TensorFlow Lite's reference kernels, by the example and by the testkit's oracle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Parser;
use depthwise::{Layout, Padding, Shape};
use depthwise_testkit::int8::oracle::{self, Quantized, Rounding, Target, Weights};
use depthwise_testkit::oracle::{Tensor, Window};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use crate::net::{Net, pad};
use network::arch::Arch;
use network::command::{self, Args};
use network::engine::Options;
use network::files::{self, Tensors};
use network::tflite::Network;
use network::tflite::quantize;
use network::tflite::schema::{self, Graph};

const NETWORKS: [(&str, &str); 3] = [
    ("person_detect_u8", "inputs_u8.safetensors"),
    ("visual_wake_words_i8", "inputs.safetensors"),
    ("keyword_spotting_dscnn_i8", "inputs.safetensors"),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name)
}

/// What the command line gives: standard output, or the errors.
fn run(args: &[&Path]) -> Result<String, String> {
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let args = Args::parse_from([Path::new("network")].iter().chain(args));
    let fine = command::run(&args, &mut out, &mut errors);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if fine { Ok(text(out)) } else { Err(text(errors)) }
}

#[test]
fn every_layer_gives_the_bits_of_the_reference() {
    for (name, inputs) in NETWORKS {
        let folder = folder(name);
        let written = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.safetensors"));
        let [model, inputs] = ["model.tflite", inputs].map(|file| folder.join(file));
        let flags = ["--model", "--inputs", "--all-layers"].map(Path::new);
        run(&[flags[0], &model, flags[1], &inputs, flags[2], &written]).unwrap();

        let (got, want) =
            (files::read(&written).unwrap(), files::read(&folder.join("reference_all_layers.safetensors")).unwrap());
        let (got, want) = (SafeTensors::deserialize(&got).unwrap(), SafeTensors::deserialize(&want).unwrap());
        let names = |tensors: &SafeTensors| {
            let mut names: Vec<String> = tensors.names().into_iter().map(String::from).collect();
            names.sort();
            names
        };
        assert_eq!(names(&got), names(&want), "{name}");
        let bytes = files::read(&model).unwrap();
        let operators = Graph::parse(&bytes).unwrap().operators;
        let mut softmax = BTreeMap::new();
        for layer in names(&want) {
            let (got, want) = (got.tensor(&layer).unwrap(), want.tensor(&layer).unwrap());
            assert_eq!((got.dtype(), got.shape()), (want.dtype(), want.shape()), "{name}, {layer}");
            let index: usize = layer.rsplit('.').next().unwrap().parse().unwrap();
            if operators[index].name == "SOFTMAX" {
                let furthest =
                    got.data().iter().zip(want.data()).map(|(&a, &b)| (a as i8).abs_diff(b as i8)).max().unwrap();
                assert!(furthest <= 1, "{name}, {layer}: off by {furthest}");
                softmax.insert(layer, furthest);
            } else {
                // What follows a SOFTMAX that is off is off, too.
                let example = layer.split('.').next().unwrap();
                let is_off = |(softmax, furthest): (&String, &u8)| *furthest > 0 && softmax.starts_with(example);
                let is_after = softmax.iter().any(is_off);
                let operator = &operators[index].name;
                assert!(is_after || got.data() == want.data(), "{name}, {layer} ({operator}): other bits");
            }
        }
        println!("{name}: {} layers; SOFTMAX is off by {softmax:?}", want.len());
    }
}

fn quantized(tensor: &schema::Tensor) -> Quantized {
    let kind = if tensor.kind == "UINT8" { oracle::Kind::U8 } else { oracle::Kind::I8 };
    Quantized { kind, scale: tensor.scales[0], zero_point: tensor.zero_points[0] }
}

fn numbers(bytes: &[u8], kind: &str) -> Vec<i64> {
    bytes.iter().map(|&byte| if kind == "UINT8" { i64::from(byte) } else { i64::from(byte as i8) }).collect()
}

/// Maps `[n, h, w, c]`, or rows `[n, c]`, in the oracle's order.
fn tensor(shape: &[usize], values: &[i64]) -> Tensor<i64> {
    let &[n, ref map @ .., c] = shape else { panic!("{shape:?}") };
    let &[h, w] = map else { return tensor(&[n, 1, 1, c], values) };
    Tensor::from_fn(Shape::new(n, c, h, w), |n, channel, y, x| values[((n * h + y) * w + x) * c + channel])
}

/// The oracle of the rule `Tflite`, on each convolution of the networks with the reference's own inputs.
#[test]
fn the_oracle_gives_the_bits_of_the_reference() {
    for (name, inputs) in NETWORKS {
        let folder = folder(name);
        let [model, inputs, reference] = ["model.tflite", inputs, "reference_all_layers.safetensors"]
            .map(|file| files::read(&folder.join(file)).unwrap());
        let graph = Graph::parse(&model).unwrap();
        let (inputs, reference) =
            (SafeTensors::deserialize(&inputs).unwrap(), SafeTensors::deserialize(&reference).unwrap());
        let mut examples: Vec<&str> =
            reference.names().into_iter().map(|name| name.split_once('.').unwrap().0).collect();
        examples.sort_unstable();
        examples.dedup();
        let mut compared = 0;
        for (index, operator) in graph.operators.iter().enumerate() {
            if !["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"].contains(&operator.name.as_str()) {
                continue;
            }
            let [input, weights, bias] = [0, 1, 2].map(|input| &graph.tensors[operator.inputs[input].unwrap()]);
            let output = &graph.tensors[operator.outputs[0]];
            let before =
                graph.operators.iter().position(|before| before.outputs.first().copied() == operator.inputs[0]);
            for (number, example) in examples.iter().enumerate() {
                let values = match before {
                    Some(before) => {
                        numbers(reference.tensor(&format!("{example}.{before:03}")).unwrap().data(), input.kind)
                    }
                    None => {
                        // The names are sorted, the images of this one network are not.
                        let images = inputs.tensor("images_u8").unwrap().data();
                        numbers(images.chunks_exact(input.len()).nth(examples.len() - 1 - number).unwrap(), input.kind)
                    }
                };
                let got = by_oracle(operator, [input, weights, bias, output], &values);
                let want = numbers(reference.tensor(&format!("{example}.{index:03}")).unwrap().data(), output.kind);
                assert!(got.data == tensor(&output.shape, &want).data, "{name}, {example}.{index:03}");
                compared += want.len();
            }
        }
        println!("{name}: {compared} values of convolutions");
        assert!(compared > 10_000, "{name}: {compared}");
    }
}

fn by_oracle(
    operator: &schema::Operator,
    [input, weights, bias, output]: [&schema::Tensor; 4],
    values: &[i64],
) -> Tensor<i64> {
    let x = tensor(&input.shape, values);
    let is_fully_connected = operator.name == "FULLY_CONNECTED";
    let is_depthwise = operator.name == "DEPTHWISE_CONV_2D";
    let shape = if let [o, i] = weights.shape[..] { vec![o, 1, 1, i] } else { weights.shape.clone() };
    let [first, kh, kw, last] = shape[..] else { panic!("{shape:?}") };
    let raw = numbers(weights.data, weights.kind);
    let (outputs, depth) = if is_depthwise { (last, 1) } else { (first, last) };
    // Output, channel, row, column.
    let ordered = Tensor::from_fn(Shape::new(outputs, depth, kh, kw), |o, c, y, x| {
        if is_depthwise { raw[(y * kw + x) * outputs + o] } else { raw[((o * kh + y) * kw + x) * depth + c] }
    });
    let bias: Vec<i32> = bias.data.as_chunks().0.iter().map(|&bytes| i32::from_le_bytes(bytes)).collect();
    let weights =
        Weights { values: &ordered.data, scales: &weights.scales, zero_point: weights.zero_points[0], bias: &bias };
    let is_legacy = input.kind == "UINT8" || is_fully_connected;
    let target = Target::new(quantized(output), if is_legacy { Rounding::TfliteLegacy } else { Rounding::Tflite });
    let from = quantized(input);
    if is_fully_connected {
        return oracle::pointwise((&x, from), weights, outputs, target);
    }
    let options = operator.options;
    let stride = [options.count(2, "stride", 1).unwrap(), options.count(1, "stride", 1).unwrap()];
    let padding = if options.byte(0).unwrap() == 0 { Padding::SameUpper } else { Padding::Valid };
    let window = Window { kernel: [kh, kw], stride, dilation: [1, 1], padding };
    if is_depthwise {
        oracle::depthwise((&x, from), weights, &window, outputs / x.shape.c, target)
    } else {
        oracle::conv2d((&x, from), weights, &window, outputs, target)
    }
}

/// Of the bundled photographs, the astronaut alone is a person.
#[test]
fn photographs_of_persons_are_told_from_others() {
    let model = folder("visual_wake_words_i8").join("model.tflite");
    let out = run(&[Path::new("--model"), &model]).unwrap();
    for (photo, label) in
        [("astronaut", "person"), ("chelsea", "non_person"), ("coffee", "non_person"), ("rocket", "non_person")]
    {
        let line = out.lines().find(|line| line.starts_with(photo)).unwrap_or_else(|| panic!("{out}"));
        assert!(line.ends_with(&format!("%  {label}")), "{line}");
    }
}

/// EfficientNet-Lite0 in 8 bits tells the same of the bundled photographs as in f32, and runs from its folder.
#[test]
fn a_network_of_f32_becomes_one_of_8_bits() {
    let written = Path::new(env!("CARGO_TARGET_TMPDIR")).join("efficientnet_lite0_i8");
    let _ = std::fs::remove_dir_all(&written);
    let out = run(&[Path::new("--quantize"), &written]).unwrap();
    println!("{out}");
    let labels = |kind: &str| -> Vec<String> {
        let lines = out.lines().filter_map(|line| line.strip_prefix(&format!("  {kind} ")));
        lines.map(|line| line.split_once("ms  ").unwrap().1.to_owned()).collect()
    };
    let (of_f32, of_8_bits) = (labels("f32"), labels("8 bits"));
    assert_eq!([of_f32.len(), of_8_bits.len()], [4; 2]);
    let photos = ["astronaut", "chelsea", "coffee", "rocket"];
    let f32_folder = folder("efficientnet_lite0");
    let alone = run(&[Path::new("--model"), &f32_folder]).unwrap();
    let in_folder = run(&[Path::new("--model"), &written]).unwrap();
    let mut equal = 0;
    for (i, photo) in photos.iter().enumerate() {
        let classes: Vec<&str> = alone.lines().skip_while(|line| !line.starts_with(photo)).skip(1).take(2).collect();
        assert!(classes[0].ends_with(&format!("%  {}", of_f32[i])), "{photo}: {classes:?}");
        let line = in_folder.lines().find(|line| line.starts_with(photo)).unwrap_or_else(|| panic!("{in_folder}"));
        assert!(line.ends_with(&format!("%  {}", of_8_bits[i])), "{photo}: {line}");
        equal += usize::from(of_f32[i] == of_8_bits[i]);
    }
    assert!(equal >= 3, "the same class of {equal} photographs:\n{out}");
    assert!(out.contains(&format!("the same class of {equal} of 4 photographs")), "{out}");

    let error = run(&[Path::new("--quantize"), &f32_folder]).unwrap_err();
    assert!(error.contains("it is the folder of a network of f32"), "{error}");
    let error = run(&[Path::new("--model"), &written, Path::new("--quantize"), &written]).unwrap_err();
    assert!(error.contains("it is of 8 bits already"), "{error}");
}

/// A network of every layer that can be made 8 bits, of windows that TFLite has no name for, too; and its pixels `[h, w, c]`.
fn quantizable(mean: [f32; 3], std: [f32; 3]) -> (Net, Vec<u8>) {
    let (h, w) = (17, 14);
    let pixels: Vec<u8> = (0..h * w * 3).map(|i| (i * i * 7 + i / 5) as u8).collect();
    let image = (0..3).flat_map(|c| {
        let pixels = pixels.iter().skip(c).step_by(3);
        pixels.map(move |&pixel| (f32::from(pixel) - mean[c]) / std[c])
    });
    let mut net = Net::of_image([1, 3, h, w], image.collect());
    let same = json!({"stride": [2, 2], "pad": pad(1, 0, 1, 1), "activation": "relu6"});
    let stem = net.standard("input", 8, 1, [3, 3], same);
    let more = json!({"dilation": [2, 1], "pad": pad(1, 0, 2, 2), "activation": "relu"});
    let filtered = net.depthwise(&stem, 2, 3, more);
    let grouped = net.standard(&filtered, 8, 2, [3, 1], json!({"pad": pad(1, 0, 1, 0)}));
    let mixed = net.pointwise(&grouped, 8, "none");
    let sum = net.layer(json!({"op": "add", "inputs": [grouped, mixed], "activation": "relu"}));
    let largest = net.layer(json!({"op": "max_pool", "input": sum, "kernel": [3, 2], "stride": [2, 1]}));
    let means = net.layer(json!({"op": "avg_pool", "input": largest, "kernel": [2, 2], "stride": [1, 1]}));
    net.fully_connected(&means, 6, "relu");
    let mean = net.layer(json!({"op": "global_avg_pool", "input": means}));
    let scores = net.fully_connected(&mean, 5, "none");
    net.layer(json!({"op": "softmax", "input": scores, "axis": 1}));
    (net, pixels)
}

/// The file of 8 bits whose output is that layer's.
fn made(net: &Net, output: &str, mean: [f32; 3], std: [f32; 3]) -> Result<Vec<u8>, String> {
    let mut arch = net.arch(output);
    (arch["input"]["mean"], arch["input"]["std"]) = (json!(mean), json!(std));
    let (arch, bytes) = (Arch::parse(&arch.to_string()).unwrap(), net.weights());
    let weights = Tensors::parse(&bytes).unwrap();
    let options = Options { layout: Layout::Nhwc, isa: None };
    let ranges = quantize::ranges(&arch, &weights, std::slice::from_ref(&net.image), options)?;
    quantize::quantize(&arch, &weights, &ranges)
}

#[test]
fn every_layer_of_8_bits_is_near_that_of_f32() {
    for (mean, std) in [([127.0; 3], [128.0; 3]), ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])] {
        let (net, pixels) = quantizable(mean, std);
        for (output, want) in net.values.iter().filter(|(name, _)| *name != "input") {
            let network = Network::parse(&made(&net, output, mean, std).unwrap()).unwrap();
            let got = network.output.real(&network.run(network.input.pixels(&pixels), |_, _| ()));
            let [n, c, h, w] = want.shape;
            let got = network::ops::relayout(&got, Shape::new(n, c, h, w), Layout::Nhwc, Layout::Nchw);
            assert_eq!(got.len(), want.data.len(), "{output}");
            let largest = want.data.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
            let furthest = got.iter().zip(&want.data).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
            println!("mean {mean:?}, {output}: off by {:.2} % of the largest", 100.0 * furthest / largest);
            assert!(furthest <= 0.06 * largest, "{output}: off by {furthest} of {largest}");
        }
    }
}

#[test]
fn what_cannot_be_quantized_is_named() {
    let (mean, std) = ([127.0; 3], [128.0; 3]);
    let refused = |layer: Value, words: &str| {
        let (mut net, _) = quantizable(mean, std);
        let output = net.layer(layer);
        let error = made(&net, &output, mean, std).unwrap_err();
        assert!(error.starts_with("layer 11 (") && error.contains(words) && !error.contains('\n'), "{error}");
    };
    let input = "004.add";
    refused(json!({"op": "mul", "inputs": [input, input]}), "convolutions, pools, softmax and add are made 8 bits");
    refused(json!({"op": "add", "inputs": [input, input], "activation": "hardswish"}), "none, relu and relu6 are");
    let pool = json!({"op": "max_pool", "input": input, "kernel": [3, 3], "pad": pad(1, 1, 0, 0)});
    refused(pool, "is TensorFlow's, and its dilation 1");
}

#[test]
fn outputs_are_one_tensor() {
    let folder = folder("person_detect_u8");
    let written = Path::new(env!("CARGO_TARGET_TMPDIR")).join("person_outputs.safetensors");
    let [model, inputs] = ["model.tflite", "inputs_u8.safetensors"].map(|file| folder.join(file));
    let flags = ["--model", "--inputs", "--outputs"].map(Path::new);
    run(&[flags[0], &model, flags[1], &inputs, flags[2], &written]).unwrap();
    let bytes = files::read(&written).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let output = tensors.tensor("output0").unwrap();
    // As reference.json of this network's origin has them.
    assert_eq!((output.dtype(), output.shape()), (Dtype::U8, &[2, 1, 1, 3][..]));
    assert_eq!(output.data(), [43, 250, 44, 14, 107, 215]);
}

/// Each fault is one line that names the operator, the tensor or the option.
#[test]
fn faults_are_named() {
    let bytes = files::read(&folder("keyword_spotting_dscnn_i8").join("model.tflite")).unwrap();
    let fault = |change: &dyn Fn(&mut Graph)| {
        let mut graph = Graph::parse(&bytes).unwrap();
        change(&mut graph);
        let error = Network::build(&graph).err().expect("a fault");
        assert!(!error.contains('\n'), "{error}");
        error
    };
    let error = fault(&|graph| graph.operators[3].name = "CONCATENATION".into());
    assert!(error.starts_with("operator 3 (CONCATENATION): it is not supported; ADD, "), "{error}");
    let error = fault(&|graph| {
        let weights = graph.operators[2].inputs[1].unwrap();
        graph.tensors[weights].kind = "INT4";
    });
    assert!(
        error.starts_with("operator 2 (DEPTHWISE_CONV_2D): tensor") && error.contains("is INT4, INT8 and UINT8 are"),
        "{error}"
    );
    let of_input = |change: fn(&mut schema::Tensor)| {
        fault(&|graph| {
            let input = graph.operators[3].inputs[0].unwrap();
            change(&mut graph.tensors[input]);
        })
    };
    assert!(
        of_input(|tensor| tensor.scales[0] = f32::NAN).contains("has the scale NaN, it must be finite and above 0")
    );
    assert!(of_input(|tensor| tensor.scales[0] = -1.0).contains("has the scale -1, it must be"));
    assert!(
        of_input(|tensor| tensor.zero_points[0] = 128).contains("has the zero point 128, of INT8 it is -128 to 127")
    );
    assert!(of_input(|tensor| tensor.scales.clear()).contains("has 0 scales and 1 zero points"));
    let biases: Vec<u8> = [i32::MAX; 64].iter().flat_map(|bias| bias.to_le_bytes()).collect();
    let mut graph = Graph::parse(&bytes).unwrap();
    let bias = graph.operators[3].inputs[2].unwrap();
    graph.tensors[bias].data = &biases;
    let error = Network::build(&graph).err().expect("sums that overflow");
    assert!(
        error.starts_with("operator 3 (CONV_2D): a sum of channel 0 may reach ") && error.contains("below 2^31"),
        "{error}"
    );

    let model = folder("keyword_spotting_dscnn_i8").join("model.tflite");
    let flag = Path::new("--model");
    let error = run(&[flag, &model, Path::new("--profile")]).unwrap_err();
    assert_eq!(error, "error: --profile has no effect on a TFLite file: leave it out\n");
    let error = run(&[flag, &folder("person_detect_u8").join("labels.txt")]).unwrap_err();
    assert!(error.contains("labels.txt: not a TFLite file"), "{error}");
}

/// A file that is cut short or damaged is an error or another network, never a panic.
#[test]
fn damaged_files_do_not_panic() {
    let whole = files::read(&folder("keyword_spotting_dscnn_i8").join("model.tflite")).unwrap();
    let mut errors = 0;
    for length in (0..whole.len()).step_by(501) {
        errors += usize::from(Network::parse(&whole[..length]).is_err());
    }
    assert!(errors > 50, "{errors} of {} lengths were an error", whole.len() / 501);
    let mut damaged = whole.clone();
    for at in (0..whole.len()).step_by(67) {
        for value in [0, 0x7f, 0x80, 0xff] {
            damaged[at] = value;
            let _ = Network::parse(&damaged);
        }
        damaged[at] = whole[at];
    }
}
