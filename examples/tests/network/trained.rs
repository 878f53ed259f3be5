//! Trained networks against their references, and photographs against the classes that must win.

use std::path::{Path, PathBuf};

use depthwise::{Layout, Parallelism, bf16, f16};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::{check, run, ways};
use network::arch::Arch;
use network::engine::{Network, Options, Stored};
use network::files::{self, Tensors};
use network::photo;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
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

/// With narrow tensors between the layers, the same class wins of every image.
fn narrow_tensors_agree<E: Stored>(layout: Layout) {
    let folder = models().join("efficientnet_lite0");
    let network = Network::<E>::load_as(&folder, Options { layout, isa: None }).unwrap();
    let (images, expected) = (images(&folder, &network.arch), reference(&folder));
    let mut scratch = network.scratch().unwrap();
    for (image, expected) in images.iter().zip(&expected) {
        let output = network.run(&mut scratch, &network.arrange(image), Parallelism::Serial, |_, _| ()).unwrap();
        let output = network.nchw_output(output);
        assert_eq!(strongest(&output), strongest(expected), "{}, {layout}: another class wins", E::TYPE);
    }
    println!("{}, {layout}: the same class wins of {} images", E::TYPE, images.len());
}

#[test]
fn efficientnet_lite0_of_narrow_tensors_sees_the_same() {
    for layout in [Layout::Nhwc, Layout::Nchw] {
        narrow_tensors_agree::<f16>(layout);
        narrow_tensors_agree::<bf16>(layout);
    }
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
