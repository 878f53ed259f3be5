//! Bad descriptions, files and images, and the sentences that they must bring up.

use std::path::Path;

use depthwise::{Isa, Layout, Parallelism, Shape};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::net::{Net, build, pad};
use network::arch::Arch;
use network::engine::{Network, Options};
use network::files::{self, Tensors};
use network::photo;

const PORTABLE: Options = Options { layout: Layout::Nhwc, isa: Some(Isa::Portable) };

/// A correct network, to be spoilt: stem, depthwise, project, residual, pool, classifier.
pub fn small() -> Net {
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
                accepted += usize::from(network.run(&mut scratch, image, Parallelism::Serial, |_, _| ()).is_ok());
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
    let message = network.run(&mut scratch, &[0.0; 7], Parallelism::Serial, |_, _| ()).unwrap_err();
    assert!(message.contains("7 elements") && message.contains("216"), "{message}");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let message = photo::load(&folder.join("no such photo.png"), input).unwrap_err();
    assert!(message.contains("no such photo.png"), "{message}");
    std::fs::write(folder.join("text.png"), "not a photograph").unwrap();
    let message = photo::load(&folder.join("text.png"), input).unwrap_err();
    assert!(message.contains("text.png"), "{message}");
}

/// The description of the format: its example builds and runs, and it has every op and activation that errors name.
#[test]
fn the_format_is_described() {
    let text = include_str!("../../models/README.md");
    let (_, rest) = text.split_once("```json\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let shapes = [("edges.weight", vec![4, 1, 3, 3]), ("scores.weight", vec![2, 4]), ("scores.bias", vec![2])];
    let bytes = [0; 4 * 4 * 9];
    let views = shapes.map(|(name, shape)| {
        let length = 4 * shape.iter().product::<usize>();
        (name, TensorView::new(Dtype::F32, shape, &bytes[..length]).unwrap())
    });
    let network = build(example, &safetensors::serialize(views, None).unwrap(), PORTABLE).unwrap();
    let mut scratch = network.scratch().unwrap();
    assert_eq!(network.run(&mut scratch, &[1.0; 64], Parallelism::Serial, |_, _| ()).unwrap(), [0.0; 2]);
    assert_eq!(network.arch.classes, ["night", "day"]);

    for (pointer, what) in [("/layers/0/op", "op"), ("/layers/0/activation", "activation")] {
        let mut spoilt: Value = serde_json::from_str(example).unwrap();
        *spoilt.pointer_mut(pointer).unwrap() = "unheard of".into();
        let message = Arch::parse(&spoilt.to_string()).unwrap_err();
        let (_, known) = message.split_once("known are ").unwrap_or_else(|| panic!("{message}"));
        for name in known.split(", ") {
            assert!(text.contains(&format!("`{name}`")), "the {what} {name} is not described");
        }
    }
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
