//! A model folder, as models.py writes it.

use std::path::{Path, PathBuf};

use depthwise::{Layout, Shape};
use network::arch::{Activation, Arch, Conv, Layer, Op, Pad};
use network::files::{self, Tensors};
use safetensors::SafeTensors;

use crate::{Result, Run};

pub struct Model {
    pub folder: PathBuf,
    pub arch: Arch,
    bytes: Vec<u8>,
}

impl Model {
    pub fn load(folder: &Path) -> Result<Self> {
        let arch = Arch::parse(&files::read_text(&folder.join("arch.json"))?)?;
        let bytes = files::read(&folder.join("model.safetensors"))?;
        Ok(Self { folder: folder.into(), arch, bytes })
    }

    /// The input, in either layout, and its shape; `arch` has the shape of one image.
    pub fn input(&self, layout: Layout) -> Result<(Vec<f32>, Shape)> {
        let name = format!("input.{}", layout.name());
        let file = SafeTensors::deserialize(&self.bytes)?;
        let dims = file.tensor(&name)?.shape().to_vec();
        let shape = Shape { n: dims[0], ..self.arch.input.shape };
        Ok((Tensors::parse(&self.bytes)?.weights(&name, &dims)?, shape))
    }

    /// The weights (PyTorch's order) and the bias.
    pub fn weights(&self, conv: &Conv) -> Result<(Vec<f32>, Vec<f32>)> {
        let tensors = Tensors::parse(&self.bytes)?;
        let bias = conv.bias.as_ref().ok_or("a convolution without bias")?;
        Ok((tensors.weights(&conv.weight, &conv.weight_shape)?, tensors.weights(bias, &[conv.out_channels])?))
    }

    /// What `build` makes of each convolution, its weights and its bias; nothing of other layers.
    pub fn convolutions<T>(&self, build: impl Fn(&Conv, Vec<f32>, Vec<f32>) -> Result<T>) -> Result<Vec<Option<T>>> {
        let layer = |layer: &Layer| match &layer.op {
            Op::Conv(conv) => {
                let (weights, bias) = self.weights(conv)?;
                build(conv, weights, bias).map(Some)
            }
            _ => Ok(None),
        };
        self.arch.layers.iter().map(layer).collect()
    }

    /// Computes the layers in turn on a library's own tensors, each dropped after its last use. `compute` is given a
    /// layer's index and its inputs.
    pub fn evaluate<T: Clone>(&self, input: T, mut compute: impl FnMut(usize, &[T]) -> Result<T>) -> Result<T> {
        let layers = &self.arch.layers;
        let mut values = vec![Some(input)];
        for (index, layer) in layers.iter().enumerate() {
            let operand = |&id: &usize| {
                let read_again = layers[index + 1..].iter().any(|later| later.inputs.contains(&id));
                let value = if read_again { values[id].clone() } else { values[id].take() };
                value.ok_or("a layer reads one tensor twice")
            };
            let operands = layer.inputs.iter().map(operand).collect::<std::result::Result<Vec<_>, _>>()?;
            values.push(Some(compute(index, &operands)?));
        }
        Ok(values.pop().flatten().ok_or("no layers")?)
    }
}

/// Whether it is ReLU6; the only other one here is none.
pub fn is_relu6(activation: Activation) -> Result<bool> {
    match activation {
        Activation::None => Ok(false),
        Activation::Relu6 => Ok(true),
        other => Err(format!("no activation {other:?}").into()),
    }
}

/// The padding of each side, if all are equal.
pub fn even_pad(pad: Pad) -> Option<usize> {
    let Pad { top, left, bottom, right } = pad;
    (top == left && left == bottom && bottom == right).then_some(top)
}

/// A run that returns what the library returns, and how to read that.
pub fn run<T: 'static>(
    mut call: impl FnMut() -> Result<T> + 'static,
    read: impl Fn(T) -> Result<Vec<f32>> + 'static,
) -> Run {
    Box::new(move |copy| {
        let output = std::hint::black_box(call()?);
        if let Some(copy) = copy {
            *copy = read(output)?;
        }
        Ok(())
    })
}
