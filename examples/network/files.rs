//! Files: bytes, text, and the tensors in `.safetensors`. Every error names the file or the tensor.

use std::path::Path;

use depthwise::Shape;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::arch::{Input, Result};

pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).map_err(|error| format!("{}: not UTF-8 text: {error}", path.display()))
}

/// The lines of `labels.txt`, if the network has that file.
pub fn read_labels(path: &Path) -> Result<Vec<String>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    Ok(read_text(path)?.lines().map(String::from).collect())
}

/// The tensors of one file, whose bytes the caller keeps.
pub struct Tensors<'a>(SafeTensors<'a>);

impl<'a> Tensors<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let tensors = SafeTensors::deserialize(bytes);
        tensors.map(Self).map_err(|error| format!("not a safetensors file: {error}"))
    }

    /// The f32 weights of that name and shape. Trailing dimensions of 1 say nothing: `[O, I]` and
    /// `[O, I, 1, 1]` are the same weights.
    pub fn weights(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = self.0.tensor(name).map_err(|_| format!("model.safetensors has no tensor `{name}`"))?;
        if trim_ones(tensor.shape()) != trim_ones(shape) {
            return Err(format!("tensor `{name}` has the shape {:?}, the layer needs {shape:?}", tensor.shape()));
        }
        floats(name, &tensor)
    }

    /// Inputs for a network, as many as the file has, normalised and in NCHW order: from `images_u8`
    /// `[n, h, w, c]` or, already normalised, from `images_f32` `[n, c, h, w]`.
    pub fn images(&self, input: &Input) -> Result<Vec<Vec<f32>>> {
        let Shape { c, h, w, .. } = input.shape;
        match (self.0.tensor("images_u8"), self.0.tensor("images_f32")) {
            (Ok(tensor), Err(_)) => {
                expect_dtype("images_u8", &tensor, Dtype::U8)?;
                expect_images("images_u8", &tensor, [h, w, c])?;
                Ok(tensor.data().chunks_exact(c * h * w).map(|pixels| input.normalise(pixels)).collect())
            }
            (Err(_), Ok(tensor)) => {
                expect_images("images_f32", &tensor, [c, h, w])?;
                let values = floats("images_f32", &tensor)?;
                Ok(values.chunks_exact(c * h * w).map(<[f32]>::to_vec).collect())
            }
            (Ok(_), Ok(_)) => Err("it has both images_u8 and images_f32: leave one out".into()),
            (Err(_), Err(_)) => Err("it has neither a tensor images_u8 nor images_f32".into()),
        }
    }
}

/// A tensor to write: name, type, shape, bytes.
pub type Entry = (String, Dtype, Vec<usize>, Vec<u8>);

pub fn write_tensors(path: &Path, entries: &[Entry]) -> Result<()> {
    let views = entries.iter().map(|(name, dtype, shape, bytes)| {
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.clone(), view))
    });
    let views: std::result::Result<Vec<_>, _> = views.collect();
    views
        .and_then(|views| safetensors::serialize(views, None))
        .map_err(|error| error.to_string())
        .and_then(|file| std::fs::write(path, file).map_err(|error| error.to_string()))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes the outputs, one row of `dims` per image, as the tensor `output0`.
pub fn write_outputs(path: &Path, dims: &[usize], rows: &[Vec<f32>]) -> Result<()> {
    let bytes: Vec<u8> = rows.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    write_tensors(path, &[("output0".into(), Dtype::F32, [&[rows.len()], dims].concat(), bytes)])
}

fn floats(name: &str, tensor: &TensorView) -> Result<Vec<f32>> {
    expect_dtype(name, tensor, Dtype::F32)?;
    let values = tensor.data().as_chunks().0.iter();
    Ok(values.map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

fn expect_dtype(name: &str, tensor: &TensorView, dtype: Dtype) -> Result<()> {
    if tensor.dtype() == dtype {
        return Ok(());
    }
    Err(format!("tensor `{name}` is {}, only {dtype} is supported", tensor.dtype()))
}

fn expect_images(name: &str, tensor: &TensorView, image: [usize; 3]) -> Result<()> {
    match tensor.shape() {
        [_, rest @ ..] if rest == image => Ok(()),
        shape => Err(format!("tensor `{name}` has the shape {shape:?}, the network reads images of {image:?}")),
    }
}

fn trim_ones(shape: &[usize]) -> &[usize] {
    let end = shape.iter().rposition(|&length| length != 1).map_or(0, |last| last + 1);
    &shape[..end]
}
