//! Cases read from `tests/data`: those of other libraries.

use depthwise::{Activation, Padding, Shape};

use super::{Case, Epilogue};

/// The tables in `tests/data`; says what it leaves out.
pub fn tables() -> Vec<Case> {
    let files = [
        ("pytorch", include_str!("../../data/pytorch.json")),
        ("tflite", include_str!("../../data/tflite.json")),
        ("xnnpack", include_str!("../../data/xnnpack.json")),
        ("ncnn", include_str!("../../data/ncnn_networks.json")),
    ];
    files.into_iter().flat_map(|(file, text)| table(file, text)).collect()
}

type Row = (
    String,     // name
    [usize; 4], // input n, c, h, w
    [usize; 2], // kernel
    [usize; 2], // stride
    [usize; 2], // dilation
    [usize; 4], // padding: top, left, bottom, right
    usize,      // multiplier
    bool,       // bias
    String,     // activation
    [usize; 2], // output h, w
);

fn table(file: &str, text: &str) -> Vec<Case> {
    let table: serde_json::Value = serde_json::from_str(text).expect(file);
    let rows: Vec<Row> = serde_json::from_value(table["rows"].clone()).expect(file);
    let skipped = table["three_dimensional"].as_array().map_or(0, Vec::len);
    println!("{file}: {} cases; {skipped} left out, being three-dimensional", rows.len());

    let cases = rows.into_iter().map(|row| {
        let (name, [n, c, h, w], kernel, stride, dilation, padding, multiplier, bias, activation, output) = row;
        let [top, left, bottom, right] = padding;
        let activation = match activation.as_str() {
            "none" => Activation::None,
            "relu" => Activation::Relu,
            "relu6" => Activation::Relu6,
            "relu_n1_to_1" => Activation::Clamp { min: -1.0, max: 1.0 },
            "leaky_relu" => Activation::LeakyRelu { slope: 0.1 },
            other => panic!("{file}: {name}: unknown activation {other}"),
        };
        // Of many channels all but the last vectors compute alike: keep one vector of 16 and the
        // tail, so that all tables together take seconds.
        let channels = if c < 32 { c } else { 16 + c % 16 };
        let epilogue = Epilogue { bias, batch_norm: false, activation };
        let case = Case {
            name: format!("{file}: {name}"),
            input: Shape::new(n, channels, h, w),
            kernel,
            stride,
            dilation,
            padding: Padding::explicit(top, left, bottom, right),
            multiplier,
            outputs: channels / 2 + 1,
            depthwise: epilogue,
            pointwise: Epilogue { bias, ..Case::default().pointwise },
            ..Case::default()
        };
        let resolved = case.window().output(case.input, channels);
        assert_eq!([resolved.h, resolved.w], output, "the table's output size, {case:?}");
        case
    });
    cases.collect()
}
