//! The oracle on cases worked by hand, and proof that the comparisons of the other suites can fail.

use depthwise::{Activation, BatchNorm, Element, Layout, Padding, Shape, bf16, f16};
use depthwise_testkit::cases::{Epilogue, Values, by_hand};
use depthwise_testkit::memory::{Arrangement, Buffer};
use depthwise_testkit::oracle::{
    Exact, Fused, Number, Separate, Tensor, Window, conv2d, depthwise, finish, fold, pointwise, stored,
};
use depthwise_testkit::plan::{Arguments, Operation, expected, expected_of};

fn tensor(c: usize, h: usize, w: usize, data: &[f32]) -> Tensor<Fused> {
    let shape = Shape::new(1, c, h, w);
    assert_eq!(Some(data.len()), shape.len());
    Tensor { shape, data: data.to_vec() }.map(Fused)
}

fn values(tensor: &Tensor<Fused>) -> Vec<f32> {
    tensor.data.iter().map(|x| x.0).collect()
}

fn window(kernel: [usize; 2], stride: [usize; 2], dilation: [usize; 2], padding: Padding) -> Window {
    Window { kernel, stride, dilation, padding }
}

fn valid(kernel: [usize; 2]) -> Window {
    window(kernel, [1, 1], [1, 1], Padding::valid())
}

const COUNT: [f32; 12] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0];
/// Two by two taps that leave a digit for each pixel.
const DIGITS: [f32; 4] = [1.0, 10.0, 100.0, 1000.0];

#[test]
fn three_by_three() {
    // 1 2 3        1 2 3
    // 4 5 6  under 4 5 6: the centre is 1·1 + 2·2 + … + 9·9 = 285, the first 5·1 + 6·2 + 8·4 + 9·5 = 94.
    // 7 8 9        7 8 9
    let padded = window([3, 3], [1, 1], [1, 1], Padding::symmetric(1, 1));
    let output = depthwise(&tensor(1, 3, 3, &COUNT[..9]), &COUNT[..9], None, &padded, 1);
    assert_eq!(values(&output), [94.0, 154.0, 106.0, 186.0, 285.0, 186.0, 106.0, 154.0, 94.0]);
    let output = depthwise(&tensor(1, 3, 3, &COUNT[..9]), &COUNT[..9], Some(&[0.5]), &valid([3, 3]), 1);
    assert_eq!(values(&output), [285.5]);
}

#[test]
fn stride() {
    //  1  2  3
    //  4  5  6
    //  7  8  9
    // 10 11 12
    let window = window([2, 2], [2, 1], [1, 1], Padding::valid());
    let output = depthwise(&tensor(1, 4, 3, &COUNT), &DIGITS, None, &window, 1);
    assert_eq!(output.shape, Shape::new(1, 1, 2, 2));
    // 1 + 20 + 400 + 5000, …, 8 + 90 + 1100 + 12000
    assert_eq!(values(&output), [5421.0, 6532.0, 12087.0, 13198.0]);
}

#[test]
fn dilation() {
    let across = window([1, 2], [1, 1], [5, 2], Padding::valid());
    let output = depthwise(&tensor(1, 1, 4, &COUNT[..4]), &DIGITS[..2], None, &across, 1);
    assert_eq!(values(&output), [1.0 + 30.0, 2.0 + 40.0]);
    let down = window([2, 1], [1, 1], [2, 5], Padding::valid());
    let output = depthwise(&tensor(1, 3, 1, &COUNT[..3]), &DIGITS[..2], None, &down, 1);
    assert_eq!(values(&output), [1.0 + 30.0]);
}

#[test]
fn asymmetric_padding() {
    // 0 0 1 2
    // 0 0 3 4
    // 0 0 0 0
    let window = window([2, 2], [1, 1], [1, 1], Padding::explicit(0, 2, 1, 0));
    let output = depthwise(&tensor(1, 2, 2, &COUNT[..4]), &DIGITS, None, &window, 1);
    assert_eq!(output.shape, Shape::new(1, 1, 2, 3));
    assert_eq!(values(&output), [0.0, 3010.0, 4321.0, 0.0, 30.0, 43.0]);
}

#[test]
fn same_padding() {
    let resolve = |padding, kernel, stride, dilation, input| {
        window([1, kernel], [1, stride], [1, dilation], padding).resolve(1, input)
    };
    // Five in at stride 2 are three out, which reach over 2·2 + 3 = 7.
    assert_eq!(resolve(Padding::same_upper(), 3, 2, 1, 5), (3, [1, 1]));
    // Six in are three out as well, which leave one to pad: after in upper, before in lower.
    assert_eq!(resolve(Padding::same_upper(), 3, 2, 1, 6), (3, [0, 1]));
    assert_eq!(resolve(Padding::same_lower(), 3, 2, 1, 6), (3, [1, 0]));
    // Three taps at dilation 4 span 9.
    assert_eq!(resolve(Padding::same_upper(), 3, 1, 4, 6), (6, [4, 4]));
    // The stride skips more than the kernel reaches: nothing to pad.
    assert_eq!(resolve(Padding::same_upper(), 1, 3, 1, 5), (2, [0, 0]));
}

#[test]
fn multiplier() {
    // Output channels 0 and 1 read input channel 0, and 2 and 3 read channel 1.
    let output = depthwise(&tensor(2, 1, 1, &[1.0, 2.0]), &[10.0, 20.0, 30.0, 40.0], None, &valid([1, 1]), 2);
    assert_eq!(output.shape, Shape::new(1, 4, 1, 1));
    assert_eq!(values(&output), [10.0, 20.0, 60.0, 80.0]);
}

#[test]
fn two_channels_pointwise() {
    let input = tensor(2, 1, 2, &[1.0, 2.0, 3.0, 4.0]);
    let output = pointwise(&input, &[1.0, 10.0, 100.0, 1000.0, -1.0, 0.5], Some(&[0.5, 0.0, 0.0]), 3);
    assert_eq!(output.shape, Shape::new(1, 3, 1, 2));
    assert_eq!(values(&output), [31.5, 42.5, 3100.0, 4200.0, 0.5, 0.0]);
}

#[test]
fn standard_convolution() {
    // Two channels of one row, one by two taps: weights 1, 10 of the first and 100, 1000 of the second.
    let output = conv2d(&tensor(2, 1, 2, &[1.0, 2.0, 3.0, 4.0]), &DIGITS, None, &valid([1, 2]), 1);
    assert_eq!(values(&output), [4321.0]);
}

#[test]
fn separable() {
    // −1, 2 → ·2 and ReLU → 0, 4 → ·3 − 1 → −1, 11, plus a residual of 2, −20 and ReLU → 1, 0.
    let middle = depthwise(&tensor(1, 1, 2, &[-1.0, 2.0]), &[2.0], None, &valid([1, 1]), 1);
    let middle = finish(middle, None, Activation::Relu);
    let output = pointwise(&middle, &[3.0], Some(&[-1.0]), 1);
    assert_eq!(values(&output), [-1.0, 11.0]);
    let residual = Tensor { shape: output.shape, data: vec![2.0, -20.0] };
    assert_eq!(values(&finish(output, Some(&residual), Activation::Relu)), [1.0, 0.0]);
}

/// 10⁸ swallows a 1 that is added to it, so what is left of these sums tells their order.
#[test]
fn order_of_the_terms() {
    const BIG: f32 = 1e8;
    let ones = tensor(1, 2, 2, &[1.0; 4]);
    // Row by row: 10⁸ − 10⁸ + 1 + 1. Column by column it would be 1.
    let output = depthwise(&ones, &[BIG, -BIG, 1.0, 1.0], None, &valid([2, 2]), 1);
    assert_eq!(values(&output), [2.0]);
    // The bias comes first: at the end it would be 1.
    let output = depthwise(&ones, &[BIG, -BIG, 0.0, 0.0], Some(&[1.0]), &valid([2, 2]), 1);
    assert_eq!(values(&output), [0.0]);
    // Channels ascending: descending it would be 0.
    let output = pointwise(&tensor(3, 1, 1, &[1.0; 3]), &[BIG, -BIG, 1.0], None, 1);
    assert_eq!(values(&output), [1.0]);
    // Taps, then channels: 10⁸ − 10⁸ + 1 + 1. Channels, then taps, it would be 1.
    let output = conv2d(&tensor(2, 1, 2, &[1.0; 4]), &[BIG, 1.0, -BIG, 1.0], None, &valid([1, 2]), 1);
    assert_eq!(values(&output), [2.0]);
}

#[test]
fn fused_and_separate_differ_in_the_last_bit() {
    // (1 + 2⁻¹²)² = 1 + 2⁻¹¹ + 2⁻²⁴, of which f32 keeps 1 + 2⁻¹¹ (a tie, to even). With another 2⁻²⁴ the sum is
    // 1 + 2⁻¹¹ + 2⁻²³, which f32 can hold, if the product was not rounded before; else again a tie to 1 + 2⁻¹¹.
    let x = 1.0 + 2f32.powi(-12);
    let bias = 2f32.powi(-24);
    let fused = Fused::mul_add(Fused(x), x, Fused(bias)).0;
    let separate = Separate::mul_add(Separate(x), x, Separate(bias)).0;
    assert_eq!(separate, 1.0 + 2f32.powi(-11));
    assert_eq!(fused.to_bits(), separate.to_bits() + 1);
}

#[test]
fn a_tap_on_padding_multiplies_by_plus_zero() {
    // The second tap of two lies on padding.
    let window = window([1, 2], [1, 2], [1, 1], Padding::explicit(0, 0, 0, 1));
    let of = |taps: [f32; 2], bias| values(&depthwise(&tensor(1, 1, 1, &[0.0]), &taps, Some(&[bias]), &window, 1))[0];
    assert!(of([1.0, f32::INFINITY], 0.0).is_nan());
    assert_eq!(of([-1.0, 1.0], -0.0).to_bits(), 0.0f32.to_bits());
    assert_eq!(of([-1.0, -1.0], -0.0).to_bits(), (-0.0f32).to_bits());
}

#[test]
fn sums_of_negative_zeros_are_negative_zeros() {
    let cases = by_hand().into_iter().filter(|case| {
        let bare = |epilogue: Epilogue| epilogue.activation == Activation::None;
        case.values == Values::NegativeZeros && bare(case.depthwise) && bare(case.pointwise)
    });
    let mut outputs = 0;
    for case in cases {
        for operation in [Operation::Depthwise, Operation::Pointwise, Operation::Separable, Operation::Conv2d] {
            let sums = values(&expected(operation, &case, &Arguments::new(operation, &case)));
            let plus = sums.iter().filter(|sum| sum.to_bits() != (-0.0f32).to_bits()).count();
            assert_eq!(plus, 0, "{operation:?}: not −0 in {}", case.name);
            outputs += sums.len();
        }
    }
    assert!(outputs > 0, "no case of −0 alone without an activation");
}

/// 257 lies halfway between two numbers of bf16, and goes down to 256. So does 256 + 1.
#[test]
fn what_lies_between_stages_is_rounded() {
    let x = tensor(1, 1, 1, &[257.0]);
    let middle = depthwise(&x, &[1.0], None, &valid([1, 1]), 1);
    let output = |middle: Tensor<Fused>| stored::<bf16, _>(pointwise(&middle, &[1.0], Some(&[1.0]), 1));
    assert_eq!(values(&output(stored::<bf16, _>(middle.clone()))), [256.0]);
    assert_eq!(values(&output(middle)), [258.0]);
}

fn narrow_results_are_within_bounds<E: Element>() {
    let (mut differ, mut bounded) = (0, 0);
    // Some of them: how a case is computed does not depend on the type.
    for case in by_hand().into_iter().step_by(7) {
        for operation in [Operation::Depthwise, Operation::Pointwise, Operation::Separable, Operation::Conv2d] {
            let arguments = Arguments::new(operation, &case).with_tensors_of::<E>().with_weights_of::<E>();
            let exact = expected_of::<E, Exact>(operation, &case, &arguments);
            let fused = expected_of::<E, Fused>(operation, &case, &arguments).map(|y| y.0);
            let separate = expected_of::<E, Separate>(operation, &case, &arguments).map(|y| y.0);
            for got in [&fused, &separate] {
                let within = depthwise_testkit::within_bound(got, &exact);
                within.unwrap_or_else(|e| panic!("{operation:?} of {}, {}: {e}", E::TYPE, case.name));
            }
            bounded += exact.data.iter().filter(|y| y.is_bounded()).count();
            let unrounded = values(&expected(operation, &case, &arguments));
            differ += unrounded.iter().zip(&fused.data).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        }
    }
    assert!(bounded > 1000 && differ > 1000, "{}: {bounded} results have a bound, {differ} were rounded", E::TYPE);
}

#[test]
fn results_of_16_bits_are_within_their_bounds() {
    narrow_results_are_within_bounds::<f16>();
    narrow_results_are_within_bounds::<bf16>();
}

#[test]
fn batch_norm() {
    let norm =
        BatchNorm { gamma: &[2.0, 8.0], beta: &[0.5, 0.0], mean: &[3.0, 1.0], variance: &[3.0, 15.0], epsilon: 1.0 };
    // Deviations of 2 and 4: the weights stay and double; 0.5 + (7 − 3), (3 − 1)·2.
    let (weights, bias) = fold(&[5.0, -6.0, 1.0, 2.0], Some(&[7.0, 3.0]), norm);
    assert_eq!(weights, [5.0, -6.0, 2.0, 4.0]);
    assert_eq!(bias, [4.5, 4.0]);
    assert_eq!(fold(&[5.0, 1.0], None, norm).1, [-2.5, -2.0]);
}

#[test]
fn bound() {
    // 1 + 3·2 + 5·(−4) = −13, |1| + |6| + |20| = 27, three terms.
    let exact =
        [(3.0, 2.0), (5.0, -4.0)].iter().fold(Exact::new(1.0), |acc, &(x, w)| Exact::mul_add(Exact::new(x), w, acc));
    assert_eq!(exact.value, -13.0);
    let ulps = |error: f64| error / 2f64.powi(-24);
    assert!((ulps(exact.error()) - 5.0 * 27.0).abs() < 1e-6, "{}", ulps(exact.error()));
    // Twice that sum: its own error comes in twice, and 26 grows by as much.
    let twice = Exact::mul_add(exact.activate(Activation::Clamp { min: -99.0, max: 99.0 }), 2.0, Exact::new(0.0));
    assert_eq!(twice.value, -26.0);
    assert!((ulps(twice.error()) - (2.0 * 135.0 + 4.0 * 26.0)).abs() < 1e-3, "{}", ulps(twice.error()));

    // 2¹²⁷ + 2¹²⁷ − 2¹²⁷ is a number, but infinite in f32: no bound, and none on what follows from it.
    let terms = [1.0, 1.0, -1.0];
    let huge = terms.iter().fold(Exact::new(0.0), |acc, &w| Exact::mul_add(Exact::new(2f32.powi(127)), w, acc));
    assert!(huge.value.is_finite() && !huge.is_bounded());
    assert!(!Exact::mul_add(huge, 0.5, Exact::new(0.0)).is_bounded());
    assert!(!Exact::mul_add(huge.activate(Activation::Relu6), 0.5, Exact::new(0.0)).is_bounded());

    let shape = Shape::new(1, 1, 1, 1);
    let exact = Tensor { shape, data: vec![exact] };
    let off = |by: f32| Tensor { shape, data: vec![-13.0 + by] };
    assert!(depthwise_testkit::within_bound(&off(7e-6), &exact).is_ok());
    assert!(depthwise_testkit::within_bound(&off(9e-6), &exact).is_err());
    assert!(depthwise_testkit::within_bound(&off(f32::NAN), &exact).is_err());
}

/// One bit, one element left out, one element too many: each fails.
#[test]
fn comparisons_can_fail() {
    let want = Tensor::from_fn(Shape::new(2, 3, 2, 3), |n, c, h, w| (n + c + h + w) as f32 - 3.0);
    for layout in [Layout::Nchw, Layout::Nhwc] {
        for arrangement in Arrangement::ALL {
            let buffer = Buffer::of(&want, layout, arrangement);
            assert_eq!(buffer.expect(&want), Ok(()));
            let mut other = want.clone();
            other.data[7] = f32::from_bits(other.data[7].to_bits() ^ 1);
            assert!(buffer.expect(&other).is_err_and(|e| e.contains("n=0 c=1 h=0 w=1")));
            let zero = want.data.iter().position(|&x| x == 0.0).expect("a zero");
            other = want.clone();
            other.data[zero] = -0.0;
            assert!(buffer.expect(&other).is_err());
            // A NaN is fine where one is wanted, an element never written is not.
            let nan = want.map(|_| f32::NAN);
            assert_eq!(Buffer::of(&nan, layout, arrangement).expect(&nan), Ok(()));
            assert!(Buffer::blank(want.shape, layout, arrangement).expect(&nan).is_err());
        }
        let mut buffer = Buffer::of(&want, layout, Arrangement::Gaps);
        buffer.write_gap(0.0);
        assert!(buffer.expect(&want).is_err_and(|e| e.contains("outside")));
    }
}
