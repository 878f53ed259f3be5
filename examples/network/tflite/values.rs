//! The numbers of a tensor while a network runs.

use depthwise::Error;
use depthwise::int8::{self, Rounding};
use safetensors::tensor::Dtype;

use super::schema::Tensor;
use crate::arch::Result;

#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    F32(Vec<f32>),
    I8(Vec<i8>),
    U8(Vec<u8>),
}

/// A type of 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    I8,
    U8,
}

/// What the numbers of 8 bits in a tensor stand for: `scale` · (number − `zero_point`).
#[derive(Clone, Copy, Debug)]
pub struct Quantized {
    pub kind: Kind,
    pub scale: f32,
    pub zero_point: i32,
}

impl Kind {
    pub fn of(tensor: &Tensor) -> Result<Self> {
        match tensor.kind {
            "INT8" => Ok(Self::I8),
            "UINT8" => Ok(Self::U8),
            other => Err(format!("tensor `{}` is {other}, INT8 and UINT8 are supported here", tensor.name)),
        }
    }

    /// The smallest and the largest number.
    pub fn range(self) -> (i32, i32) {
        match self {
            Self::I8 => (-128, 127),
            Self::U8 => (0, 255),
        }
    }

    pub fn dtype(self) -> Dtype {
        match self {
            Self::I8 => Dtype::I8,
            Self::U8 => Dtype::U8,
        }
    }

    /// Values of numbers that are within the range.
    pub fn pack(self, numbers: impl Iterator<Item = i32>) -> Values {
        match self {
            Self::I8 => Values::I8(numbers.map(|number| number as i8).collect()),
            Self::U8 => Values::U8(numbers.map(|number| number as u8).collect()),
        }
    }
}

impl Quantized {
    /// Of a tensor with one scale.
    pub fn of(tensor: &Tensor) -> Result<Self> {
        let kind = Kind::of(tensor)?;
        let (scale, zero_point) = match (&tensor.scales[..], &tensor.zero_points[..]) {
            (&[scale], &[zero_point]) => (scale, zero_point),
            (&[scale], []) => (scale, 0),
            (scales, points) => {
                let (scales, points) = (scales.len(), points.len());
                return Err(format!(
                    "tensor `{}` has {scales} scales and {points} zero points, it must have one each",
                    tensor.name
                ));
            }
        };
        check_scale(tensor, scale)?;
        let (low, high) = kind.range();
        let zero_point = i32::try_from(zero_point).ok().filter(|point| (low..=high).contains(point));
        let zero_point = zero_point.ok_or_else(|| {
            let given = tensor.zero_points[0];
            format!("tensor `{}` has the zero point {given}, of {} it is {low} to {high}", tensor.name, tensor.kind)
        })?;
        Ok(Self { kind, scale, zero_point })
    }

    /// As the crate has it.
    pub fn described(self) -> int8::Quantized {
        match self.kind {
            Kind::I8 => int8::Quantized::i8(self.scale, self.zero_point),
            Kind::U8 => int8::Quantized::u8(self.scale, self.zero_point),
        }
    }

    /// The number nearest to a real value, in TFLite's f32 arithmetic, before it is clamped.
    pub fn nearest(self, value: f32) -> i32 {
        // As a cast saturates, so does the sum.
        ((value / self.scale).round() as i32).saturating_add(self.zero_point)
    }

    pub fn is_same(self, other: Self) -> bool {
        self.kind == other.kind && self.zero_point == other.zero_point && self.scale.to_bits() == other.scale.to_bits()
    }
}

pub fn check_scale(tensor: &Tensor, scale: f32) -> Result<()> {
    if scale.is_finite() && scale > 0.0 {
        return Ok(());
    }
    Err(format!("tensor `{}` has the scale {scale}, it must be finite and above 0", tensor.name))
}

impl Values {
    /// The numbers of a tensor that are in the file.
    pub fn read(tensor: &Tensor, bytes: &[u8]) -> Result<Self> {
        let size = if tensor.kind == "FLOAT32" { 4 } else { 1 };
        if bytes.len() != size * tensor.len() {
            return Err(format!(
                "tensor `{}` of {:?} {} has {} bytes",
                tensor.name,
                tensor.shape,
                tensor.kind,
                bytes.len()
            ));
        }
        let dtype = if tensor.kind == "FLOAT32" { Dtype::F32 } else { Kind::of(tensor)?.dtype() };
        Ok(Self::of(dtype, bytes))
    }

    /// # Panics
    /// Unless the type is F32, I8 or U8.
    pub fn of(dtype: Dtype, bytes: &[u8]) -> Self {
        match dtype {
            Dtype::F32 => Self::F32(bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()),
            Dtype::I8 => Self::I8(bytes.iter().map(|&byte| byte as i8).collect()),
            Dtype::U8 => Self::U8(bytes.to_vec()),
            other => panic!("no tensor of an operator is {other}"),
        }
    }

    pub fn empty(kind: Kind) -> Self {
        Self::of(kind.dtype(), &[])
    }

    /// The elements at these places.
    pub fn at(&self, places: &[usize]) -> Self {
        match self {
            Self::F32(values) => Self::F32(places.iter().map(|&place| values[place]).collect()),
            Self::I8(values) => Self::I8(places.iter().map(|&place| values[place]).collect()),
            Self::U8(values) => Self::U8(places.iter().map(|&place| values[place]).collect()),
        }
    }

    /// QUANTIZE.
    pub fn quantized(values: &[f32], to: Quantized) -> Self {
        let of = to.described();
        match to.kind {
            Kind::I8 => {
                let mut numbers = vec![0; values.len()];
                int8::quantize(values, (&mut numbers, of), Rounding::Tflite).map(|()| Self::I8(numbers))
            }
            Kind::U8 => {
                let mut numbers = vec![0; values.len()];
                int8::quantize(values, (&mut numbers, of), Rounding::Tflite).map(|()| Self::U8(numbers))
            }
        }
        .expect("scale and zero point were checked")
    }

    /// DEQUANTIZE.
    ///
    /// # Panics
    /// If they are of another type than is said.
    pub fn dequantized(&self, from: Quantized) -> Vec<f32> {
        let (mut real, of) = (vec![0.0; self.len()], from.described());
        match self {
            Self::F32(_) => panic!("DEQUANTIZE was given f32"),
            Self::I8(values) => int8::dequantize((values, of), &mut real),
            Self::U8(values) => int8::dequantize((values, of), &mut real),
        }
        .expect("scale and zero point were checked");
        real
    }

    /// ADD, of tensors of the same type.
    pub fn sum(
        [(a, of_a), (b, of_b)]: [(&Self, Quantized); 2],
        to: Quantized,
        clamp: [i32; 2],
    ) -> std::result::Result<Self, Error> {
        let (of_a, of_b, of) = (of_a.described(), of_b.described(), to.described());
        match (a, b) {
            (Self::I8(a), Self::I8(b)) => {
                let mut sums = vec![0; a.len()];
                int8::add([(a, of_a), (b, of_b)], (&mut sums, of), Rounding::Tflite, Some(clamp))?;
                Ok(Self::I8(sums))
            }
            (Self::U8(a), Self::U8(b)) => {
                let mut sums = vec![0; a.len()];
                int8::add([(a, of_a), (b, of_b)], (&mut sums, of), Rounding::Tflite, Some(clamp))?;
                Ok(Self::U8(sums))
            }
            _ => panic!("ADD of {} and {}", a.dtype(), b.dtype()),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I8(values) => values.len(),
            Self::U8(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::I8(_) => Dtype::I8,
            Self::U8(_) => Dtype::U8,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::I8(values) => values.iter().map(|&value| value as u8).collect(),
            Self::U8(values) => values.clone(),
        }
    }

    /// The numbers of 8 bits, less `zero_point`, which fit in 16 bits.
    ///
    /// # Panics
    /// If they are of f32: an operator is built for the types of its tensors.
    pub fn centred(&self, zero_point: i32) -> Vec<i16> {
        let zero_point = zero_point as i16;
        match self {
            Self::F32(_) => panic!("an operator of 8 bits was given f32"),
            Self::I8(values) => values.iter().map(|&value| i16::from(value) - zero_point).collect(),
            Self::U8(values) => values.iter().map(|&value| i16::from(value) - zero_point).collect(),
        }
    }
}
