//! MobileNetV1 1.0/224 with random weights, by burn alone (burn-flex) and with the modules of this crate, taking turns:
//! `cargo run --release --example compare -- [--threads N] [--seconds S]`.

mod mobilenet_v1;

use std::process::ExitCode;

use burn_tensor::{Device, Tensor, TensorData};
use depthwise_burn::Layout;
use depthwise_models::{Case, Level, Random, Result, compare};

use mobilenet_v1::MobileNetV1;

fn main() -> ExitCode {
    compare("MobileNetV1 1.0/224, random weights", || Ok(MobileNetV1::new()), cases)
}

fn cases(network: &MobileNetV1) -> Result<Vec<Case<'_>>> {
    let mut cases = vec![case("burn", network.by_burn())];
    for (name, level, nhwc) in Level::MEASURED {
        let layout = if nhwc { Layout::Nhwc } else { Layout::Nchw };
        cases.push(case(name, network.with(level, layout)?));
    }
    Ok(cases)
}

fn case<'a>(name: &'static str, run: impl Fn(Tensor<4>) -> Vec<f32> + 'a) -> Case<'a> {
    let image = TensorData::new(Random(1).floats(3 * 224 * 224), [1, 3, 224, 224]);
    let image = Tensor::<4>::from_data(image, &Device::flex());
    Case { name, run: Box::new(move || Ok(run(image.clone()))) }
}
