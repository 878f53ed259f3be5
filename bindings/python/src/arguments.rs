//! What Python gives constructors, as what the builders take.

use depthwise::{Activation, BatchNorm, Fusion, Isa, Layout, Padding};
use numpy::{Element, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::value_error;

/// A parameter array, as C-contiguous `f32`: the caller's own memory if it is that already, else a copy.
pub(crate) struct Floats<'py>(PyReadonlyArrayDyn<'py, f32>);

impl<'py> Floats<'py> {
    pub(crate) fn new(value: &Bound<'py, PyAny>, what: &str) -> PyResult<Self> {
        let py = value.py();
        let numpy = py.import(intern!(py, "numpy"))?;
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "dtype"), f32::get_dtype(py))?;
        keywords.set_item(intern!(py, "requirements"), ("C", "A"))?;
        let array = numpy
            .call_method(intern!(py, "require"), (value,), Some(&keywords))
            .map_err(|error| value_error(format_args!("{what} must be an array of numbers: {}", error.value(py))))?;
        let array: Bound<'py, PyArrayDyn<f32>> = array.cast_into().map_err(PyErr::from)?;
        let readonly = array.try_readonly().map_err(|_| {
            value_error(format_args!("{what} are being written by a run: build the plan before or after it"))
        })?;
        Ok(Self(readonly))
    }

    pub(crate) fn maybe(value: Option<&Bound<'py, PyAny>>, what: &str) -> PyResult<Option<Self>> {
        value.map(|value| Self::new(value, what)).transpose()
    }

    pub(crate) fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    pub(crate) fn slice(&self) -> PyResult<&[f32]> {
        self.0.as_slice().map_err(value_error)
    }
}

/// The name of a type of elements, given as that, as numpy's type or as a scalar's class.
pub(crate) fn dtype_name(dtype: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(name) = dtype.extract() {
        return Ok(name);
    }
    let name = dtype.getattr("name").or_else(|_| dtype.getattr("__name__"));
    name.and_then(|name| name.extract())
        .map_err(|_| value_error("the dtype must be a name, such as \"float32\", or a dtype of numpy"))
}

/// Gamma, beta, mean, variance and epsilon.
pub(crate) struct Norm<'py>([Floats<'py>; 4], f32);

impl<'py> Norm<'py> {
    pub(crate) fn maybe(value: Option<&Bound<'py, PyAny>>, what: &str) -> PyResult<Option<Self>> {
        type Five<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>, f32);
        let Some(value) = value else { return Ok(None) };
        let (gamma, beta, mean, variance, epsilon): Five<'py> = value.extract().map_err(|_| {
            value_error(format_args!(
                "{what} must be (gamma, beta, mean, variance, epsilon), as `depthwise.BatchNorm` is"
            ))
        })?;
        let arrays = [
            Floats::new(&gamma, "the batch norm's gamma")?,
            Floats::new(&beta, "the batch norm's beta")?,
            Floats::new(&mean, "the batch norm's mean")?,
            Floats::new(&variance, "the batch norm's variance")?,
        ];
        Ok(Some(Self(arrays, epsilon)))
    }

    pub(crate) fn get(&self) -> PyResult<BatchNorm<'_>> {
        let Self([gamma, beta, mean, variance], epsilon) = self;
        Ok(BatchNorm {
            gamma: gamma.slice()?,
            beta: beta.slice()?,
            mean: mean.slice()?,
            variance: variance.slice()?,
            epsilon: *epsilon,
        })
    }
}

/// A number of things, which is not negative.
pub(crate) fn count(value: &Bound<'_, PyAny>, what: &str) -> PyResult<usize> {
    value.extract().map_err(|_| {
        let found = value.repr().map_or_else(|_| "no number".into(), |text| text.to_string());
        value_error(format_args!("{what} is {found}: it must be a whole number, 0 or above"))
    })
}

/// One number for both axes, or `(vertical, horizontal)`.
pub(crate) fn pair(value: &Bound<'_, PyAny>, what: &str) -> PyResult<[usize; 2]> {
    if let Ok((vertical, horizontal)) = value.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>() {
        return Ok([count(&vertical, what)?, count(&horizontal, what)?]);
    }
    count(value, what).map(|both| [both; 2])
}

/// The zeros around the input; `None` leaves the crate's default.
pub(crate) fn padding(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Padding>> {
    let Some(value) = value else { return Ok(None) };
    if let Ok(name) = value.cast::<PyString>() {
        return match &*name.to_string_lossy() {
            "same" | "same_upper" => Ok(Some(Padding::same_upper())),
            "same_lower" => Ok(Some(Padding::same_lower())),
            "valid" => Ok(Some(Padding::valid())),
            other => Err(value_error(format_args!(
                "there is no padding {other:?}: use \"same\", \"same_upper\", \"same_lower\", \"valid\", a number, \
                 (vertical, horizontal) or (top, left, bottom, right)"
            ))),
        };
    }
    type Four<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>);
    if let Ok((top, left, bottom, right)) = value.extract::<Four<'_>>() {
        let [top, left, bottom, right] = [
            count(&top, "the padding at the top")?,
            count(&left, "the padding at the left")?,
            count(&bottom, "the padding at the bottom")?,
            count(&right, "the padding at the right")?,
        ];
        return Ok(Some(Padding::explicit(top, left, bottom, right)));
    }
    let [rows, columns] = pair(value, "the padding")?;
    Ok(Some(Padding::symmetric(rows, columns)))
}

/// A name, or a name with numbers.
pub(crate) fn activation(value: Option<&Bound<'_, PyAny>>) -> PyResult<Activation> {
    let Some(value) = value else { return Ok(Activation::None) };
    if let Ok(name) = value.cast::<PyString>() {
        match &*name.to_string_lossy() {
            "none" => return Ok(Activation::None),
            "relu" => return Ok(Activation::Relu),
            "relu6" => return Ok(Activation::Relu6),
            "hardswish" => return Ok(Activation::HardSwish),
            "hardsigmoid" => return Ok(Activation::HardSigmoid),
            "sigmoid" => return Ok(Activation::Sigmoid),
            "silu" => return Ok(Activation::Silu),
            "gelu" => return Ok(Activation::Gelu),
            "mish" => return Ok(Activation::Mish),
            "tanh" => return Ok(Activation::Tanh),
            _ => {}
        }
    }
    if let Ok((name, min, max)) = value.extract::<(String, f32, f32)>()
        && name == "clamp"
    {
        return Ok(Activation::Clamp { min, max });
    }
    if let Ok((name, slope)) = value.extract::<(String, f32)>()
        && name == "leaky_relu"
    {
        return Ok(Activation::LeakyRelu { slope });
    }
    Err(value_error(format_args!(
        "there is no activation {}: use \"none\", \"relu\", \"relu6\", \"hardswish\", \"hardsigmoid\", \"sigmoid\", \"silu\", \
         \"gelu\", \"mish\", \"tanh\", (\"clamp\", min, max) or (\"leaky_relu\", slope)",
        value.repr()?
    )))
}

pub(crate) fn layout(name: &str) -> PyResult<Layout> {
    name.parse().map_err(value_error)
}

pub(crate) fn isa(name: Option<&str>) -> PyResult<Option<Isa>> {
    name.map(|name| name.parse().map_err(value_error)).transpose()
}

pub(crate) fn fusion(name: &str) -> PyResult<Fusion> {
    match name {
        "auto" => Ok(Fusion::Auto),
        "fused" => Ok(Fusion::Fused),
        "two_pass" => Ok(Fusion::TwoPass),
        other => {
            Err(value_error(format_args!("there is no fusion {other:?}: use \"auto\", \"fused\" or \"two_pass\"")))
        }
    }
}
