//! What goes element by element of 8 bits equals the oracle bit for bit, on every instruction set: quantising, dequantising, sums of two
//! tensors, tables.

use depthwise::int8::{Integer, On, Quantized, Rounding, Table, add, dequantize, quantize};
use depthwise::{Error, Isa};
use depthwise_testkit::emulation;
use depthwise_testkit::int8::oracle::{self, Kind, Target};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const RULES: [(Rounding, oracle::Rounding); 2] =
    [(Rounding::NearestEven, oracle::Rounding::NearestEven), (Rounding::Tflite, oracle::Rounding::Tflite)];

fn isas() -> impl Iterator<Item = Isa> {
    Isa::EVERY.into_iter().filter(|isa| isa.is_available())
}

/// A type of 8 bits.
trait Number: Integer<Stored = u8> + TryFrom<i64> + Into<i64> {
    const KIND: Kind;

    fn of(scale: f32, zero_point: i64) -> (Quantized, oracle::Quantized) {
        let of = match Self::KIND {
            Kind::U8 => Quantized::u8(scale, zero_point as i32),
            Kind::I8 => Quantized::i8(scale, zero_point as i32),
        };
        (of, oracle::Quantized { kind: Self::KIND, scale, zero_point })
    }

    fn all() -> Vec<Self> {
        let (low, high) = Self::KIND.range();
        (low..=high).filter_map(|q| Self::try_from(q).ok()).collect()
    }

    /// Zero points at both ends and between.
    fn zero_points() -> [i64; 3] {
        let (low, high) = Self::KIND.range();
        [low, low + 131, high]
    }
}

impl Number for u8 {
    const KIND: Kind = Kind::U8;
}

impl Number for i8 {
    const KIND: Kind = Kind::I8;
}

fn wide<T: Number>(numbers: &[T]) -> Vec<i64> {
    numbers.iter().map(|&q| q.into()).collect()
}

fn quantizes<T: Number>() {
    let mut rng = StdRng::seed_from_u64(1);
    for scale in [0.5, 0.1, 1.0, 3e38, 1e-40, 0.02] {
        let ties = (-600..=600).map(|i| i as f32 / 2.0);
        // Ties, their neighbours, and what else there is.
        let mut x: Vec<f32> = ties.flat_map(|steps| [steps, steps.next_up(), steps.next_down()]).collect();
        x.extend((0..500).map(|_| rng.random_range(-300f32..300.0)));
        x.iter_mut().for_each(|x| *x *= scale);
        x.extend([f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 0.0, -0.0, 1e-45]);
        x.extend((0..500).map(|_| f32::from_bits(rng.random())));
        for zero_point in T::zero_points() {
            let (of, of_oracle) = T::of(scale, zero_point);
            for (rule, by) in RULES {
                let want: Vec<i64> = x.iter().map(|&x| oracle::quantize(x, of_oracle, by)).collect();
                for isa in isas() {
                    let mut q = vec![T::default(); x.len()];
                    On(isa).quantize(&x, (&mut q, of), rule).expect("numbers");
                    let what = |i: usize| format!("{:?} by {rule:?} on {isa}, {of:?}", x[i]);
                    for (i, (got, want)) in wide(&q).into_iter().zip(&want).enumerate() {
                        assert_eq!(got, *want, "{}", what(i));
                    }
                }
            }
            let q = T::all();
            let want: Vec<u32> = wide(&q).iter().map(|&q| oracle::dequantize(q, of_oracle).to_bits()).collect();
            for isa in isas() {
                let mut x = vec![0.0; q.len()];
                On(isa).dequantize((&q, of), &mut x).expect("numbers");
                assert_eq!(x.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), want, "{of:?} on {isa}");
            }
        }
    }
}

#[test]
fn quantizing() {
    quantizes::<u8>();
    quantizes::<i8>();
}

/// Vectors and what is left over.
#[test]
fn every_length() {
    let x: Vec<f32> = (0..200).map(|i| i as f32 * 0.3 - 30.0).collect();
    let ((of, of_oracle), (rule, by)) = (i8::of(0.25, 3), RULES[0]);
    for (isa, len) in isas().flat_map(|isa| (0..200).map(move |len| (isa, len))) {
        let (mut q, mut sums, mut back) = (vec![99i8; 201], vec![99i8; 201], vec![99.0; 201]);
        On(isa).quantize(&x[..len], (&mut q[..len], of), rule).expect("numbers");
        On(isa).add([(&q[..len], of), (&q[..len], of)], (&mut sums[..len], of), Rounding::Tflite, None).expect("sums");
        On(isa).dequantize((&q[..len], of), &mut back[..len]).expect("numbers");
        for i in 0..len {
            let want = oracle::quantize(x[i], of_oracle, by);
            assert_eq!(i64::from(q[i]), want, "{isa}, {i} of {len}");
            let target = Target::new(of_oracle, oracle::Rounding::Tflite);
            assert_eq!(i64::from(sums[i]), oracle::add((want, of_oracle), (want, of_oracle), target));
            assert_eq!(back[i], oracle::dequantize(want, of_oracle));
        }
        assert_eq!((q[len], sums[len], back[len]), (99, 99, 99.0), "{isa}: wrote beyond {len}");
    }
}

fn adds<T: Number>() {
    let all = T::all();
    let step = if emulation::is_on() { 7 } else { 1 };
    let pairs: Vec<(T, T)> = all.iter().flat_map(|&a| all.iter().map(move |&b| (a, b))).step_by(step).collect();
    let (a, b): (Vec<T>, Vec<T>) = pairs.iter().copied().unzip();
    let [low, middle, high] = T::zero_points();
    let cases = [
        ([0.5, 0.25, 0.5], [low, middle, high]),
        ([0.25, 0.5, 0.3], [middle, middle, middle]),
        ([0.1, 0.1, 0.2], [high, high, low]),
        ([0.037, 0.0411, 0.0523], [low, low, low]),
        // One counts for nothing, or for all.
        ([1e-20, 0.1, 0.15], [middle, high, low]),
        ([0.1, 3e-11, 0.05], [middle, high, low]),
        // Near the finest scale that there may be, and far from it.
        ([1.0, 0.7, 2f32.powi(-19).next_up()], [low, high, middle]),
        ([0.01, 0.02, 1e6], [low, high, middle]),
        ([0.01, 0.02, 1e9], [low, high, middle]),
        // Beyond f32 between.
        ([3e38, 3e38, 3e38], [low, high, middle]),
        ([1e-40, 2e-40, 3e-40], [low, high, middle]),
    ];
    for (case, (scales, points)) in cases.into_iter().enumerate() {
        let [a_is, b_is, y_is] = [0, 1, 2].map(|i| T::of(scales[i], points[i]));
        for (rule, by) in RULES {
            let (least, greatest) = T::KIND.range();
            for clamp in [None, Some([least as i32 + 40, greatest as i32 + 90])] {
                let mut target = Target::new(y_is.1, by);
                if let Some([low, high]) = clamp {
                    target.clamp = (low.into(), high.into());
                }
                let want: Vec<i64> =
                    pairs.iter().map(|&(a, b)| oracle::add((a.into(), a_is.1), (b.into(), b_is.1), target)).collect();
                for isa in isas() {
                    let mut y = vec![T::default(); a.len()];
                    let inputs = [(&a[..], a_is.0), (&b[..], b_is.0)];
                    On(isa).add(inputs, (&mut y, y_is.0), rule, clamp).expect("sums");
                    if let Some(i) = wide(&y).iter().zip(&want).position(|(got, want)| got != want) {
                        let (a, b) = pairs[i];
                        panic!("{a:?} + {b:?}, case {case} by {rule:?} on {isa}: {:?}, not {}", y[i], want[i]);
                    }
                }
            }
        }
    }
}

#[test]
fn adding() {
    adds::<u8>();
    adds::<i8>();
}

/// A table has for each number what its curve gives.
#[test]
fn tables() {
    fn check<A: Number, B: Number>(curve: fn(f32) -> f32) {
        for (rule, by) in RULES {
            for (from, to) in A::zero_points().into_iter().zip(B::zero_points()) {
                let ((from, from_oracle), (to, to_oracle)) = (A::of(0.05, from), B::of(0.03, to));
                let table = Table::of_curve(from, to, rule, curve).expect("a table");
                assert_eq!((table.input(), table.output()), (from, to));
                let (x, mut y) = (A::all(), vec![B::default(); 256]);
                table.look_up(&x, &mut y).expect("numbers");
                for (x, y) in wide(&x).into_iter().zip(wide(&y)) {
                    let real = curve(oracle::dequantize(x, from_oracle));
                    assert_eq!(y, oracle::quantize(real, to_oracle, by), "{x} in {table:?} by {rule:?}");
                }
                let (low, high) = B::KIND.range();
                let moved = Table::new(from, to, |q| 2 * q - 30).expect("a table");
                moved.look_up(&x, &mut y).expect("numbers");
                for (x, y) in wide(&x).into_iter().zip(wide(&y)) {
                    assert_eq!(y, (2 * x - 30).clamp(low, high));
                }
                // Vectors, and what is left over.
                let x = [&x[..], &x].concat();
                for (isa, len) in isas().flat_map(|isa| [3, 16, 47, 64, 256, 301].map(|len| (isa, len))) {
                    let (x, mut y) = (&x[512 - len..], vec![B::default(); len]);
                    On(isa).look_up(&moved, x, &mut y).expect("numbers");
                    let want: Vec<i64> = wide(x).iter().map(|x| (2 * x - 30).clamp(low, high)).collect();
                    assert_eq!(wide(&y), want, "{len} on {isa}");
                }
            }
        }
    }
    fn sigmoid(x: f32) -> f32 {
        1.0 / (1.0 + (-x).exp())
    }
    fn hard_swish(x: f32) -> f32 {
        x * (x + 3.0).clamp(0.0, 6.0) / 6.0
    }
    check::<u8, u8>(sigmoid);
    check::<u8, i8>(hard_swish);
    check::<i8, u8>(hard_swish);
    check::<i8, i8>(|x| if x > 1.0 { f32::NAN } else { -x });
}

/// ONNX's DynamicQuantizeLinear, worked by hand.
#[test]
fn quantized_by_what_there_is() {
    let dynamic = |x: &[f32]| Quantized::dynamic(x);
    // 255 steps from −1 to 50; 5 of them up to 0.
    assert_eq!(dynamic(&[-1.0, 3.0, 50.0]), Ok(Quantized::u8(0.2, 5)));
    // The range holds 0.
    assert_eq!(dynamic(&[51.0, 25.5]), Ok(Quantized::u8(0.2, 0)));
    assert_eq!(dynamic(&[-51.0, -25.5]), Ok(Quantized::u8(0.2, 255)));
    // 2.5 and 3.5 steps of 2 below 0 go to the even neighbour.
    assert_eq!(dynamic(&[-5.0, 505.0]), Ok(Quantized::u8(2.0, 2)));
    assert_eq!(dynamic(&[-7.0, 503.0]), Ok(Quantized::u8(2.0, 4)));
    // Nothing, and next to nothing.
    for x in [&[][..], &[0.0, -0.0], &[1e-45, f32::NAN]] {
        assert_eq!(dynamic(x), Ok(Quantized::u8(1.0, 0)), "{x:?}");
    }
    // Each place counts, a NaN nowhere.
    for (len, at) in (1..100).flat_map(|len| [0, len / 2, len - 1].map(|at| (len, at))) {
        let mut x = vec![f32::NAN; len];
        x[at] = -25.5;
        assert_eq!(dynamic(&x), Ok(Quantized::u8(0.1, 255)));
    }
    for x in [[f32::INFINITY, 0.0], [f32::MAX, f32::MIN]] {
        let error = dynamic(&x).expect_err("no scale").to_string();
        assert_eq!(error, "the range of what is to be quantised is inf: it must be a finite number");
    }
}

/// Each bad argument is an error that names it, and nothing is written.
#[test]
fn errors_name_what_is_wrong() {
    let good = Quantized::i8(0.5, 0);
    let (x, q) = ([7f32; 3], [7i8; 3]);
    let (mut to, mut other, mut real) = ([9i8; 3], [9u8; 3], [9f32; 3]);
    let rule = Rounding::Tflite;
    let mut all = vec![
        (quantize(&x, (&mut to, Quantized::i8(f32::NAN, 0)), rule), "the scale of the output is NaN"),
        (quantize(&x, (&mut to, Quantized::i8(1.0, 128)), rule), "the zero point of the output is 128: of i8"),
        (
            quantize(&x, (&mut to, Quantized::u8(1.0, 0)), rule),
            "the output has elements of i8, but was described as u8: give what was described, or describe it so",
        ),
        (
            quantize(&x[..2], (&mut to, good), rule),
            "3 elements were given for the output, but 2 are needed (one for each of the input)",
        ),
        (dequantize((&q, Quantized::i8(-1.0, 0)), &mut real), "the scale of the input is -1.0"),
        (dequantize((&q, Quantized::u8(1.0, 0)), &mut real), "the input has elements of i8, but was described as u8"),
        (dequantize((&q[..1], good), &mut real), "3 elements were given for the output, but 1 are needed"),
    ];
    let sum = |a: (&[i8], Quantized), b: (&[i8], Quantized), of: Quantized, clamp, y: &mut [i8]| {
        add([a, b], (y, of), rule, clamp)
    };
    let y = &mut to;
    let bad = Quantized::i8(0.0, 0);
    all.extend([
        (sum((&q, bad), (&q, good), good, None, y), "the scale of the first input is 0.0"),
        (sum((&q, good), (&q, Quantized::i8(1.0, -129)), good, None, y), "the zero point of the second input is -129"),
        (sum((&q, good), (&q, good), bad, None, y), "the scale of the output is 0.0"),
        (sum((&q, Quantized::u8(1.0, 0)), (&q, good), good, None, y), "the first input has elements of i8, but was"),
        (sum((&q, good), (&q[..2], good), good, None, y), "2 elements were given for the second input, but 3 are needed"),
        (sum((&q[..2], good), (&q[..2], good), good, None, y), "3 elements were given for the output, but 2 are"),
        (sum((&q, good), (&q, good), good, Some([128, 200]), y), "an output of i8 cannot be clamped to 128 ..= 200"),
        (
            sum((&q, Quantized::i8(1.0, 0)), (&q, good), Quantized::i8(1.0 / (1 << 19) as f32, 0), None, y),
            "a sum of scale 1.9073486e-6 is too fine for inputs of scale 1.0 and 0.5: TensorFlow Lite's rule adds at 2^-19",
        ),
        (Table::new(bad, good, |q| q).map(drop), "the scale of the input of a table is 0.0"),
        (Table::of_curve(good, bad, rule, |x| x).map(drop), "the scale of the output"),
    ]);
    let table = Table::new(good, Quantized::u8(1.0, 0), |q| q).expect("a table");
    all.push((table.look_up(&q, y), "the output has elements of i8, but was described as u8"));
    all.push((table.look_up(&other.clone(), &mut other), "the input has elements of u8, but was described as i8"));
    all.push((table.look_up(&q[..1], &mut other), "3 elements were given for the output, but 1 are needed"));
    for (result, sentence) in all {
        let error: Error = result.expect_err(sentence);
        assert!(error.to_string().contains(sentence), "`{error}` does not say `{sentence}`");
    }
    assert_eq!((to, other, real), ([9; 3], [9; 3], [9.0; 3]));
    // By the other rule any scale will do.
    let fine = Quantized::i8(1e-30, 0);
    assert_eq!(add([(&q, good), (&q, good)], (&mut to, fine), Rounding::NearestEven, None), Ok(()));
    assert_eq!(to, [127; 3]);
}
