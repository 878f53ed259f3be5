//! Parameters for networks that nobody trained: any tensor that is asked for, the same each time.

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

/// A builder that has every tensor.
pub fn parameters() -> VarBuilder<'static> {
    VarBuilder::from_backend(Box::new(Random), DType::F32, Device::Cpu)
}

/// Values between -1 and 1, which depend on the name alone (xorshift, seeded by FNV-1a of the name).
pub fn values(name: &str, len: usize) -> Vec<f32> {
    let mut state = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

pub fn tensor(name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
    let shape = shape.into();
    Tensor::from_vec(values(name, shape.elem_count()), shape, &Device::Cpu)
}

struct Random;

impl SimpleBackend for Random {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let values = tensor(name, shape.clone())?;
        let values = if name.ends_with("running_var") {
            values.affine(0.4, 1.0)?
        } else if name.ends_with("weight") && shape.rank() == 1 {
            values.affine(0.3, 1.0)?
        } else if name.ends_with("weight") {
            // The variance of outputs is about that of inputs, if every other one is cut off by a ReLU.
            let terms = shape.elem_count() / shape.dims()[0].max(1);
            (values * (6.0 / terms.max(1) as f64).sqrt())?
        } else {
            (values * 0.2)?
        };
        values.to_dtype(dtype)?.to_device(device)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("the shape of {name} must be given")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}
