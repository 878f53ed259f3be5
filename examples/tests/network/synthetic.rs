//! Networks of made-up weights: every op of the format.

use serde_json::json;

use crate::net::{Net, pad};

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
