//! MobileNetV1 1.0/224 with random weights, by candle alone and with the modules of this crate, taking turns:
//! `cargo run --release --example compare -- [--threads N] [--seconds S]`.

mod mobilenet_v1;

use std::process::ExitCode;

use candle_core::{Device, Tensor};
use depthwise_candle::Layout;
use depthwise_models::{Case, Level, Random, Result, compare};

use mobilenet_v1::MobileNetV1;

fn main() -> ExitCode {
    compare("MobileNetV1 1.0/224, random weights", || Ok(MobileNetV1::new()?), cases)
}

fn cases(network: &MobileNetV1) -> Result<Vec<Case<'_>>> {
    let mut cases = vec![case("candle", network.by_candle()?)?];
    for (name, level, nhwc) in Level::MEASURED {
        let layout = if nhwc { Layout::Nhwc } else { Layout::Nchw };
        cases.push(case(name, network.with(level, layout)?)?);
    }
    Ok(cases)
}

fn case<'a>(name: &'static str, run: impl Fn(&Tensor) -> candle_core::Result<Tensor> + 'a) -> Result<Case<'a>> {
    let image = Tensor::from_vec(Random(1).floats(3 * 224 * 224), (1, 3, 224, 224), &Device::Cpu)?;
    Ok(Case { name, run: Box::new(move || Ok(run(&image)?.flatten_all()?.to_vec1()?)) })
}
