//! The square root, with or without `std`.

pub(super) fn sqrt(x: f64) -> f64 {
    #[cfg(feature = "std")]
    return x.sqrt();
    #[cfg(not(feature = "std"))]
    return integer_sqrt(x);
}

/// The square root in integers, correctly rounded as the hardware's is: `core` has none.
#[cfg(any(test, not(feature = "std")))]
fn integer_sqrt(x: f64) -> f64 {
    if !(x > 0.0 && x < f64::INFINITY) {
        return if x == 0.0 || x == f64::INFINITY { x } else { f64::NAN };
    }
    // x = mantissa · 2^exponent, shifted so that the exponent is even and the root has 54 bits or more.
    let bits = x.to_bits();
    let (raw, fraction) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
    let (mantissa, exponent) = if raw == 0 { (fraction, -1074) } else { (fraction | 1 << 52, raw - 1075) };
    let mut shift = mantissa.leading_zeros() as i32 + 44;
    shift += (exponent - shift) & 1;
    let wide = u128::from(mantissa) << shift;
    let root = wide.isqrt();
    // What remains decides between neighbours as one bit below the last.
    let root = root << 2 | u128::from(root * root != wide);
    let half = (exponent - shift) / 2 - 2;
    root as f64 * f64::from_bits(((1023 + half) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_integer_square_root_rounds_as_the_hardware_does() {
        let mut bits = 1u64;
        for _ in 0..100_000 {
            // Any bits but a NaN's, whose payload is nobody's business.
            let x = Some(f64::from_bits(bits & !(1 << 63))).filter(|x| !x.is_nan()).unwrap_or(2.0);
            assert_eq!(integer_sqrt(x).to_bits(), x.sqrt().to_bits(), "of {x:e}");
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        }
        for x in [0.0, -0.0, 1.0, 2.0, 4.0, f64::MIN_POSITIVE, f64::from_bits(1), f64::MAX, f64::INFINITY] {
            assert_eq!(integer_sqrt(x).to_bits(), x.sqrt().to_bits(), "of {x:e}");
        }
        assert!(integer_sqrt(-1.0).is_nan() && integer_sqrt(f64::NAN).is_nan());
    }
}
