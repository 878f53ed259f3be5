//! What convolutions cost, counted by hand.

use depthwise::{
    BatchNorm, Conv2d, Cost, DepthwiseConv2d, Error, Padding, PointwiseConv2d, SeparableConv2d, Shape, compare,
};

/// 240 values.
const INPUT: Shape = Shape::new(2, 3, 5, 8);
/// Of which 3×3 taps with one pixel of padding make 3×8 pixels of each image.
const STRIDE: [usize; 2] = [2, 1];

fn cost(parameters: u64, multiply_adds: u64, values: u64) -> Cost {
    Cost { parameters, multiply_adds, bytes: 4 * values }
}

#[test]
fn of_plans() -> Result<(), Error> {
    let few = [0.5; 108];
    let builder = DepthwiseConv2d::builder(3).channel_multiplier(2).stride(STRIDE).weights(&few[..54]);
    let outputs = 2 * 6 * 24;
    assert_eq!(builder.clone().build()?.cost(INPUT)?, cost(54, outputs * 9, 240 + 54 + outputs));
    let with_bias = cost(60, outputs * 9, 240 + 60 + outputs);
    assert_eq!(builder.clone().bias(&few[..6]).build()?.cost(INPUT)?, with_bias);
    // A batch norm is folded into weights and biases, of which there is one set.
    let six = &few[..6];
    let norm = BatchNorm { gamma: six, beta: six, mean: six, variance: six, epsilon: 1e-3 };
    assert_eq!(builder.clone().batch_norm(norm).build()?.cost(INPUT)?, with_bias);
    assert_eq!(builder.bias(six).batch_norm(norm).build()?.cost(INPUT)?, with_bias);

    let plan = PointwiseConv2d::builder(3, 4).weights(&few[..12]).bias(&few[..4]).build()?;
    assert_eq!(plan.cost(INPUT)?, cost(16, 2 * 40 * 12, 240 + 16 + 2 * 4 * 40));

    let outputs = 2 * 4 * 24;
    let plan = Conv2d::builder(3, 4).stride(STRIDE).weights(&few).bias(&few[..4]).build()?;
    assert_eq!(plan.cost(INPUT)?, cost(112, outputs * 27, 240 + 112 + outputs));

    // What lies between the stages does not count.
    let builder = SeparableConv2d::builder(3, 4).stride(STRIDE).depthwise_weights(&few[..27]);
    let builder = builder.pointwise_weights(&few[..12]).depthwise_bias(&few[..3]).bias(&few[..4]);
    let multiply_adds = 2 * 24 * (3 * 9 + 12);
    assert_eq!(builder.build()?.cost(INPUT)?, cost(27 + 3 + 12 + 4, multiply_adds, 240 + 46 + outputs));
    Ok(())
}

#[test]
fn compared() -> Result<(), Error> {
    let c = compare(INPUT, 4, [3, 3], STRIDE, [1, 1], Padding::symmetric(1, 1))?;
    let (between, outputs) = (2 * 3 * 24, 2 * 4 * 24);
    assert_eq!(c.standard, cost(108, outputs * 27, 240 + 108 + outputs));
    assert_eq!(c.depthwise, cost(27, between * 9, 240 + 27 + between));
    assert_eq!(c.pointwise, cost(12, outputs * 3, between + 12 + outputs));
    assert_eq!(c.separable, cost(39, between * 9 + outputs * 3, 240 + 39 + outputs));
    assert_eq!(c.ratio, 1.0 / 4.0 + 1.0 / 9.0);
    Ok(())
}

/// Fewer values than an address space of 64 bits holds, more multiply-adds than 64 bits count.
#[test]
#[cfg(target_pointer_width = "64")]
fn of_too_much() {
    for input in [Shape::new(1 << 40, 1, 1, 1), Shape::new(1, 1, 1 << 40, 1)] {
        let found = compare(input, 1 << 30, [1, 1], [1, 1], [1, 1], Padding::valid());
        assert!(matches!(found, Err(Error::CostOverflow)), "{input}: {found:?}");
    }
}
