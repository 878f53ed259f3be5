//! The oracle of 8 bits on cases worked by hand: ties, negative sums, saturation, zero points at both ends, biases near ±2³¹.

use depthwise::{Padding, Shape};
use depthwise_testkit::int8::oracle::{
    Fixed, Kind, Quantized, Rounding, Target, Weights, add, conv2d, depthwise, dequantize, pointwise, quantize,
    separable, tflite,
};
use depthwise_testkit::oracle::{Tensor, Window};

use Kind::{I8, U8};
use Rounding::{NearestEven, Tflite, TfliteLegacy};

const BOTH: [Rounding; 2] = [NearestEven, Tflite];

fn of(kind: Kind, scale: f32, zero_point: i64) -> Quantized {
    Quantized { kind, scale, zero_point }
}

/// Sums times `scale`, with zero point 0.
fn requantized(rounding: Rounding, scale: f32, sums: &[i32]) -> Vec<i64> {
    let target = Target::new(of(I8, 1.0, 0), rounding);
    sums.iter().map(|&sum| target.requantize(sum, scale, 1.0)).collect()
}

fn tensor(c: usize, h: usize, w: usize, data: &[i64]) -> Tensor<i64> {
    Tensor { shape: Shape::new(1, c, h, w), data: data.to_vec() }
}

fn window(kernel: [usize; 2], stride: [usize; 2], dilation: [usize; 2], padding: Padding) -> Window {
    Window { kernel, stride, dilation, padding }
}

#[test]
fn fixed_point_factors() {
    // 1 = ½ · 2¹, ¾ = ¾ · 2⁰, 3 = ¾ · 2².
    assert_eq!(Fixed::of(1.0), Fixed { q: 1 << 30, e: 1 });
    assert_eq!(Fixed::of(0.75), Fixed { q: 3 << 29, e: 0 });
    assert_eq!(Fixed::of(3.0), Fixed { q: 3 << 29, e: 2 });
    // ⅓ = ⅔ · 2⁻¹, and ⅔ · 2³¹ = 1431655765.33.
    assert_eq!(Fixed::of(1.0 / 3.0), Fixed { q: 1_431_655_765, e: -1 });
    // ½ + 2⁻³² is a half above 2³⁰, which goes up; a little less goes down.
    assert_eq!(Fixed::of(0.5 + 2f64.powi(-32)), Fixed { q: (1 << 30) + 1, e: 0 });
    assert_eq!(Fixed::of(0.5 + 2f64.powi(-32) - 2f64.powi(-53)), Fixed { q: 1 << 30, e: 0 });
    // What rounds to 2³¹ is ½ · 2.
    assert_eq!(Fixed::of(1.0 - 2f64.powi(-33)), Fixed { q: 1 << 30, e: 1 });
    // The least exponent is −31; below, all is 0, but for what rounds up to it.
    assert_eq!(Fixed::of(2f64.powi(-32)), Fixed { q: 1 << 30, e: -31 });
    assert_eq!(Fixed::of(2f64.powi(-33)), Fixed { q: 0, e: 0 });
    assert_eq!(Fixed::of(2f64.powi(-32) * (1.0 - 2f64.powi(-40))), Fixed { q: 1 << 30, e: -31 });
    assert_eq!(Fixed::of(0.0), Fixed { q: 0, e: 0 });
}

#[test]
fn ties() {
    // Halves: 0.5, 1.5, 2.5 and their negatives go to the even neighbour, or away from 0.
    let sums = [1, 3, 5, 7, -1, -3, -5, -7];
    assert_eq!(requantized(NearestEven, 0.5, &sums), [0, 2, 2, 4, 0, -2, -2, -4]);
    // ½ is 2³⁰ with e = 0, so the first rounding makes the result: a half goes up.
    assert_eq!(requantized(Tflite, 0.5, &sums), [1, 2, 3, 4, 0, -1, -2, -3]);
    // ¼ has e = −1: the first rounding gives 0.5 · sum, a half up, the second half of that, a half away from 0.
    // 1: 0.5 → 1 → 0.5 → 1. 2: 1 → 0.5 → 1. 3: 1.5 → 2 → 1. 6: 3 → 1.5 → 2.
    // −1: −0.5 → 0 → 0. −2: −1 → −0.5 → −1. −3: −1.5 → −1 → −0.5 → −1. −6: −3 → −1.5 → −2.
    let sums = [1, 2, 3, 6, -1, -2, -3, -6];
    assert_eq!(requantized(Tflite, 0.25, &sums), [1, 1, 1, 2, 0, -1, -1, -2]);
    // 0.25, 0.5, 0.75, 1.5.
    assert_eq!(requantized(NearestEven, 0.25, &sums), [0, 0, 1, 2, 0, 0, -1, -2]);
}

/// 1 · ¼ is far from a tie, and still goes up: what two roundings do.
#[test]
fn two_roundings_are_not_one() {
    assert_eq!(tflite(1, Fixed::of(0.25)), 1);
    assert_eq!(tflite(1, Fixed::of(0.125)), 0);
    // 2³⁰ · ⅓: 715827882.5 of ⅔ · 2⁻¹, from q = 1431655765: 2³⁰ · q / 2³¹ = 715827882.5 → …883 → /2 = 357913941.5 → …942.
    assert_eq!(tflite(1 << 30, Fixed::of(1.0 / 3.0)), 357_913_942);
    assert_eq!(tflite(-(1 << 30), Fixed::of(1.0 / 3.0)), -357_913_941);
}

/// A sum of more than 24 bits is rounded when it becomes f32.
#[test]
fn sums_are_rounded_to_f32() {
    // 2²⁴ + 1 is a tie, to 2²⁴; times 3 · 2⁻²⁴ gives 3. f32 holds 2²⁴ + 2: times 2⁻²³ gives 2 + 2⁻²².
    let target = Target::new(of(I8, 1.0, 0), NearestEven);
    assert_eq!(target.requantize((1 << 24) + 1, 0.5, 2f32.powi(-23)), 1);
    // 5 · 2²³ + 1 with factor 2⁻²⁴: 2.5 + 2⁻²⁴ would go to 3, but the sum is 5 · 2²³ before, and 2.5 goes to 2.
    assert_eq!(target.requantize(5 * (1 << 23) + 1, 1.0, 2f32.powi(-24)), 2);
    let tflite = Target { rounding: Tflite, ..target };
    assert_eq!(tflite.requantize(5 * (1 << 23) + 1, 1.0, 2f32.powi(-24)), 3);
}

#[test]
fn saturation_and_zero_points_at_both_ends() {
    for rounding in BOTH {
        for (kind, zero_point, sum, want) in [
            (I8, 0, 1000, 127),
            (I8, 0, -1000, -128),
            (I8, -128, 100, -28),
            (I8, -128, -1, -128),
            (I8, -128, 255, 127),
            (I8, -128, 256, 127),
            (I8, 127, -255, -128),
            (I8, 127, 1, 127),
            (U8, 0, -1, 0),
            (U8, 0, 255, 255),
            (U8, 0, 256, 255),
            (U8, 255, -255, 0),
            (U8, 255, -256, 0),
            (U8, 255, 1, 255),
            (U8, 128, -28, 100),
        ] {
            let target = Target::new(of(kind, 1.0, zero_point), rounding);
            assert_eq!(
                target.requantize(sum, 1.0, 1.0),
                want,
                "{rounding:?}, {kind:?}, zero point {zero_point}, {sum}"
            );
        }
        // A clamp comes after all, and never widens the type.
        let target = Target { clamp: (-10, 300), ..Target::new(of(I8, 1.0, -5), rounding) };
        let clamped = [-100, 0, 20, 1000].map(|sum| target.requantize(sum, 1.0, 1.0));
        assert_eq!(clamped, [-10, -5, 15, 127], "{rounding:?}");
    }
}

/// Biases of the whole range, as dead channels of real networks have them.
#[test]
fn biases_near_the_ends_of_32_bits() {
    for rounding in BOTH {
        let target = Target::new(of(I8, 1.0, 3), rounding);
        // 2³¹ − 1 and −2³¹ times 2⁻²⁵ are just below 64 and −64.
        assert_eq!(target.requantize(i32::MAX, 1.0, 2f32.powi(-25)), 67, "{rounding:?}");
        assert_eq!(target.requantize(i32::MIN, 1.0, 2f32.powi(-25)), -61, "{rounding:?}");
        // At a scale where they leave the range, and the product leaves 32 bits of f32.
        assert_eq!(target.requantize(i32::MAX, 0.5, 0.5), 127, "{rounding:?}");
        assert_eq!(target.requantize(i32::MIN, 0.5, 0.5), -128, "{rounding:?}");
    }
    let target = Target::new(of(I8, 1.0, 3), NearestEven);
    assert_eq!([i32::MAX, i32::MIN].map(|sum| target.requantize(sum, 1024.0, 1.0)), [127, -128]);

    // In a convolution: 2³¹ − 1 − 127 · 127 + 127 · 127.
    let input = tensor(1, 1, 2, &[127, -127]);
    let values = [-127, -127];
    let weights = Weights { values: &values, scales: &[2f32.powi(-25)], zero_point: 0, bias: &[i32::MAX] };
    let pair = window([1, 2], [1, 1], [1, 1], Padding::valid());
    for rounding in BOTH {
        let target = Target::new(of(I8, 1.0, 0), rounding);
        assert_eq!(depthwise((&input, of(I8, 1.0, 0)), weights, &pair, 1, target).data, [64], "{rounding:?}");
    }
}

#[test]
#[should_panic(expected = "does not fit in 32 bits")]
fn a_sum_that_leaves_32_bits_is_no_result() {
    let input = tensor(1, 1, 1, &[1]);
    let weights = Weights { values: &[1], scales: &[1.0], zero_point: 0, bias: &[i32::MAX] };
    pointwise((&input, of(I8, 1.0, 0)), weights, 1, Target::new(of(I8, 1.0, 0), Tflite));
}

/// Scales whose product f32 rounds: a legacy network may differ in a bit of the factor.
#[test]
fn legacy_networks_multiply_scales_in_f32() {
    // (1 + 2⁻¹²)² = 1 + 2⁻¹¹ + 2⁻²⁴, of which f32 keeps 1 + 2⁻¹¹.
    let scale = 1.0 + 2f32.powi(-12);
    let exact = f64::from(scale) * f64::from(scale);
    assert_eq!(Fixed::of(exact), Fixed { q: (1 << 30) + (1 << 19) + (1 << 6), e: 1 });
    assert_eq!(Fixed::of(f64::from(scale * scale)), Fixed { q: (1 << 30) + (1 << 19), e: 1 });
    // Half the sum times these is 536870914.5 and 536870882.5; the half of 2³⁰, by which it is divided, lies between.
    let output = of(I8, 2f32.powi(31), 0);
    assert_eq!(Target::new(output, Tflite).requantize(1_073_217_733, scale, scale), 1);
    assert_eq!(Target::new(output, TfliteLegacy).requantize(1_073_217_733, scale, scale), 0);
}

/// Numbers less their zero points, by weights less theirs.
#[test]
fn convolutions() {
    // 3 2 1
    // 0 1 2, less the zero point 1:
    //  2 1 0
    // −1 0 1
    let input = tensor(1, 2, 3, &[3, 2, 1, 0, 1, 2]);
    let from = of(U8, 0.5, 1);
    let target = Target::new(of(I8, 1.0, 0), Tflite);
    // Weights 5, 6, 7, 8 less 4: 1 2 3 4. Scales ½ · 2 = 1. Bias 10.
    let weights = Weights { values: &[5, 6, 7, 8], scales: &[2.0], zero_point: 4, bias: &[10] };
    let valid = window([2, 2], [1, 1], [1, 1], Padding::valid());
    // 10 + 2 + 2 − 3 + 0, 10 + 1 + 0 + 0 + 4
    assert_eq!(depthwise((&input, from), weights, &valid, 1, target).data, [11, 15]);
    assert_eq!(conv2d((&input, from), weights, &valid, 1, target).data, [11, 15]);
    // On padding a tap adds 0: one row above and one column to the left.
    let padded = window([2, 2], [2, 2], [1, 1], Padding::explicit(1, 1, 0, 0));
    // 10 + 4 · 2, 10 + 3 · 1 + 4 · 0
    assert_eq!(depthwise((&input, from), weights, &padded, 1, target).data, [18, 13]);
    // Dilated by 2 along the width: 10 + 2 + 0 − 3 + 4.
    let dilated = window([2, 2], [1, 1], [1, 2], Padding::valid());
    assert_eq!(depthwise((&input, from), weights, &dilated, 1, target).data, [13]);

    // Two outputs of one channel, each with its scale: 2 · 3 · ½ · 2, 2 · −4 · ½ · 1 + bias 1 · ½.
    let one = tensor(1, 1, 1, &[3]);
    let weights = Weights { values: &[3, -4], scales: &[2.0, 1.0], zero_point: 0, bias: &[0, 4] };
    let point = window([1, 1], [1, 1], [1, 1], Padding::valid());
    assert_eq!(depthwise((&one, from), weights, &point, 2, target).data, [6, -2]);
    assert_eq!(pointwise((&one, from), weights, 2, target).data, [6, -2]);

    // Two channels: 2 · 1 + −1 · 10.
    let two = tensor(2, 1, 1, &[3, 0]);
    let weights = Weights { values: &[1, 10], scales: &[2.0], zero_point: 0, bias: &[0] };
    assert_eq!(pointwise((&two, from), weights, 1, target).data, [-8]);
}

/// What lies between the stages is of 8 bits, rounded and clamped.
#[test]
fn separable_convolutions_round_between_the_stages() {
    let input = tensor(1, 1, 1, &[5]);
    let from = of(I8, 1.0, 0);
    let point = window([1, 1], [1, 1], [1, 1], Padding::valid());
    let first = Weights { values: &[1], scales: &[0.5], zero_point: 0, bias: &[0] };
    let second = Weights { values: &[100], scales: &[0.01], zero_point: 0, bias: &[0] };
    let output = of(I8, 1.0, 0);
    let run = |rounding, clamp| {
        // 2.5 in units of 1 with zero point −3; 100 times that, times 0.01.
        let between = Target { clamp, ..Target::new(of(I8, 1.0, -3), rounding) };
        separable((&input, from), (first, &point, 1, between), (second, 1, Target::new(output, rounding))).data[0]
    };
    assert_eq!(run(NearestEven, (-128, 127)), 2);
    assert_eq!(run(Tflite, (-128, 127)), 3);
    // Clamped to −3 + 1.
    assert_eq!(run(Tflite, (-3, -2)), 1);
}

#[test]
fn quantizing() {
    let to = of(I8, 0.5, 10);
    // 0.25, 0.75, 1.25 and their negatives are ½, 1½ and 2½ steps.
    let numbers = [0.25, 0.75, 1.25, -0.25, -0.75, -1.25];
    assert_eq!(numbers.map(|x| quantize(x, to, NearestEven)), [10, 12, 12, 10, 8, 8]);
    assert_eq!(numbers.map(|x| quantize(x, to, Tflite)), [11, 12, 13, 9, 8, 7]);
    for rounding in BOTH {
        let special =
            [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e30, -1e30, -0.0].map(|x| quantize(x, to, rounding));
        assert_eq!(special, [127, -128, 10, 127, -128, 10], "{rounding:?}");
        // Each number of 8 bits comes back.
        for (kind, zero_point) in [(U8, 0), (U8, 255), (U8, 128), (I8, -128), (I8, 127), (I8, 0)] {
            let both = of(kind, 0.1, zero_point);
            let (low, high) = kind.range();
            for q in low..=high {
                assert_eq!(quantize(dequantize(q, both), both, rounding), q, "{rounding:?}, {both:?}");
            }
        }
    }
    assert_eq!(dequantize(-128, to), -69.0);
    assert_eq!(dequantize(255, of(U8, 0.25, 255)), 0.0);
}

#[test]
fn adding() {
    let (a, b) = (of(I8, 0.5, 1), of(I8, 0.25, -2));
    // 4 · 0.5 + 6 · 0.25 = 3.5.
    for rounding in BOTH {
        assert_eq!(add((5, a), (4, b), Target::new(of(I8, 0.5, -1), rounding)), 6, "{rounding:?}");
        // Both ways round, and saturated.
        assert_eq!(add((4, b), (5, a), Target::new(of(I8, 0.5, -1), rounding)), 6, "{rounding:?}");
        assert_eq!(add((127, a), (127, b), Target::new(of(I8, 0.25, 0), rounding)), 127, "{rounding:?}");
        assert_eq!(add((-128, a), (-128, b), Target::new(of(I8, 0.25, 0), rounding)), -128, "{rounding:?}");
        assert_eq!(add((-128, a), (5, a), Target { clamp: (-1, 50), ..Target::new(of(I8, 0.5, -1), rounding) }), -1);
    }
    // 3.5 and −3.5 in units of 1.
    assert_eq!(add((5, a), (4, b), Target::new(of(I8, 1.0, 0), NearestEven)), 4);
    assert_eq!(add((-3, a), (-8, b), Target::new(of(I8, 1.0, 0), NearestEven)), -4);
    assert_eq!(add((5, a), (4, b), Target::new(of(I8, 1.0, 0), Tflite)), 4);
    // Ties away from 0 at the last: 2.5 and −2.5 in units of 1 (4 · 0.5 + 2 · 0.25), −4 · 0.5 − 2 · 0.25.
    assert_eq!(add((5, a), (0, b), Target::new(of(I8, 1.0, 0), NearestEven)), 2);
    assert_eq!(add((5, a), (0, b), Target::new(of(I8, 1.0, 0), Tflite)), 3);
    assert_eq!(add((-3, a), (-4, b), Target::new(of(I8, 1.0, 0), Tflite)), -3);
}
