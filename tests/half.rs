//! Plans for tensors of `f16` and `bf16` equal the oracle bit for bit, in every operation and every way to call them: each number
//! that is read is widened, and each that is written is rounded once.

use depthwise::{Element, bf16, f16};
use depthwise_testkit::cases::{Values, by_hand, random};
use depthwise_testkit::emulation::chosen;
use depthwise_testkit::plan::Operation::{self, Conv2d, Depthwise, Pointwise, Separable};
use depthwise_testkit::{Tally, check_of};

/// `half`: of the cases of plain values, those with an odd number or those with an even one. The kernels were tested with `f32`.
fn checks<E: Element>(operation: Operation, half: usize) {
    let cases = by_hand().into_iter().chain((0..120).step_by(5).map(random)).enumerate();
    let cases = cases.filter(|(i, case)| case.values != Values::Plain || i % 2 == half).map(|(_, case)| case).collect();
    let (cases, _) = chosen(operation, cases, 0);
    let mut tally = Tally::default();
    for case in &cases {
        check_of::<E>(operation, case, &mut tally);
    }
    tally.finish(&format!("{operation:?} of {}", E::TYPE), 0, |_| false);
}

macro_rules! suites {
    ($($name:ident: $element:ident, $half:literal, $operation:ident;)*) => {
        $(#[test]
        fn $name() {
            checks::<$element>($operation, $half);
        })*
    };
}

suites! {
    depthwise_of_f16: f16, 0, Depthwise;
    depthwise_of_bf16: bf16, 1, Depthwise;
    pointwise_of_f16: f16, 0, Pointwise;
    pointwise_of_bf16: bf16, 1, Pointwise;
    separable_of_f16: f16, 0, Separable;
    separable_of_bf16: bf16, 1, Separable;
    conv2d_of_f16: f16, 0, Conv2d;
    conv2d_of_bf16: bf16, 1, Conv2d;
}
