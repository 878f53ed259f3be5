//! The classes of `depthwise.int8`: plans over arrays of 8 bits.

use depthwise::int8::{self, Integer, Quantized, Rounding, Weights};
use depthwise::{ElementType, Error, Layout, Run};
use numpy::{Element, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::{Floats, count, dtype_name, isa, layout};
use crate::plans::{Extents, Window, divided, filters, matrix, standard};
use crate::run::{self, Arguments, extents, shape};
use crate::value_error;

/// A plan of any operation.
enum Typed {
    Depthwise(int8::DepthwiseConv2d),
    Pointwise(int8::PointwiseConv2d),
    Separable(int8::SeparableConv2d),
    Standard(int8::Conv2d),
}

/// Does the same with a plan of whichever operation.
macro_rules! each {
    ($typed:expr, $plan:ident => $result:expr) => {
        match $typed {
            Typed::Depthwise($plan) => $result,
            Typed::Pointwise($plan) => $result,
            Typed::Separable($plan) => $result,
            Typed::Standard($plan) => $result,
        }
    };
}

/// numpy's name of a type of whole numbers.
fn name(element: ElementType) -> &'static str {
    match element {
        ElementType::U8 => "uint8",
        ElementType::I8 => "int8",
        _ => "int32",
    }
}

/// A convolution of arrays of 8 bits with its weights, ready to run.
#[pyclass(module = "depthwise.int8", frozen, subclass)]
pub(crate) struct Plan {
    typed: Typed,
}

#[pymethods]
impl Plan {
    #[pyo3(signature = (input, /, *, out = None, threads = None))]
    fn __call__<'py>(
        &self,
        input: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        threads: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let threads = threads.map_or(Ok(1), |threads| count(threads, "threads"))?;
        let arguments = Arguments { input, residual: None, output: out, threads, axes: self.layout_value() };
        match [self.input_dtype(), self.dtype()] {
            ["uint8", "uint8"] => self.run::<u8, u8>(&arguments),
            ["uint8", "int8"] => self.run::<u8, i8>(&arguments),
            ["uint8", _] => self.run::<u8, i32>(&arguments),
            [_, "uint8"] => self.run::<i8, u8>(&arguments),
            [_, "int8"] => self.run::<i8, i8>(&arguments),
            _ => self.run::<i8, i32>(&arguments),
        }
    }

    /// The shape of the output's array for an input's.
    #[pyo3(signature = (input_shape, /))]
    fn output_shape(&self, input_shape: Extents) -> PyResult<Extents> {
        let layout = self.layout_value();
        let output = each!(&self.typed, plan => plan.output_shape(shape(input_shape, layout)));
        Ok(extents(output.map_err(value_error)?, layout))
    }

    #[getter]
    fn layout(&self) -> &'static str {
        self.layout_value().name()
    }

    #[getter]
    fn isa(&self) -> &'static str {
        each!(&self.typed, plan => plan.isa()).name()
    }

    /// The type of the elements of outputs.
    #[getter]
    fn dtype(&self) -> &'static str {
        name(each!(&self.typed, plan => plan.output_element()))
    }

    #[getter]
    fn input_dtype(&self) -> &'static str {
        name(each!(&self.typed, plan => plan.input_element()))
    }

    fn __repr__(&self) -> String {
        each!(&self.typed, plan => format!("<depthwise {plan:?}>"))
    }

    /// Itself: a plan never changes.
    fn __copy__(plan: Py<Self>) -> Py<Self> {
        plan
    }

    #[pyo3(signature = (memo, /))]
    #[expect(unused_variables, reason = "Python passes it")]
    fn __deepcopy__(plan: Py<Self>, memo: &Bound<'_, PyAny>) -> Py<Self> {
        plan
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(crate::plans::cannot_be_pickled())
    }
}

impl Plan {
    fn layout_value(&self) -> Layout {
        each!(&self.typed, plan => plan.layout())
    }

    fn run<'py, I, O>(&self, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>>
    where
        I: Element + Integer<Stored = u8>,
        O: Element + Integer,
    {
        let output_shape = |input| each!(&self.typed, plan => plan.output_shape(input));
        let start = |run: Run<'_, I, O>| each!(&self.typed, plan => plan.run(run));
        run::run([self.input_dtype(), self.dtype()], output_shape, start, arguments)
    }
}

/// A builder of a plan.
trait Build {
    fn typed(&self) -> Result<Typed, Error>;
}

macro_rules! build {
    ($($builder:ident => $variant:ident),*) => {
        $(impl Build for int8::$builder<'_> {
            fn typed(&self) -> Result<Typed, Error> {
                self.build().map(Typed::$variant)
            }
        })*
    };
}
build! {
    DepthwiseConv2dBuilder => Depthwise,
    PointwiseConv2dBuilder => Pointwise,
    SeparableConv2dBuilder => Separable,
    Conv2dBuilder => Standard
}

/// The plan, packed without the interpreter's lock.
fn built(py: Python<'_>, builder: &(impl Build + Sync)) -> PyResult<PyClassInitializer<Plan>> {
    let typed = py.detach(|| builder.typed()).map_err(value_error)?;
    Ok(PyClassInitializer::from(Plan { typed }))
}

/// Weights of 8 bits: `depthwise.int8.Weights`.
struct Given<'py> {
    values: Values<'py>,
    scales: Floats<'py>,
    zero_point: i32,
}

enum Values<'py> {
    I8(PyReadonlyArrayDyn<'py, i8>),
    U8(PyReadonlyArrayDyn<'py, u8>),
}

impl<'py> Given<'py> {
    fn new(weights: &Bound<'py, PyAny>, what: &str) -> PyResult<Self> {
        let py = weights.py();
        type Three<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>);
        let (values, scales, zero_point): Three<'py> = weights.extract().map_err(|_| {
            value_error(format_args!("{what} must be (values, scales, zero_point), as `depthwise.int8.Weights` is"))
        })?;
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "requirements"), ("C", "A"))?;
        let array = py
            .import(intern!(py, "numpy"))?
            .call_method(intern!(py, "require"), (values,), Some(&keywords))
            .map_err(|error| value_error(format_args!("{what} must be an array: {}", error.value(py))))?;
        let written =
            |_| value_error(format_args!("{what} are being written by a run: build the plan before or after it"));
        let values = if let Ok(array) = array.cast::<PyArrayDyn<i8>>() {
            Values::I8(array.try_readonly().map_err(written)?)
        } else if let Ok(array) = array.cast::<PyArrayDyn<u8>>() {
            Values::U8(array.try_readonly().map_err(written)?)
        } else {
            let dtype = array.getattr(intern!(py, "dtype"))?;
            return Err(value_error(format_args!("{what} are {dtype}: they must be int8 or uint8")));
        };
        Ok(Self {
            values,
            scales: Floats::new(&scales, &format!("the scales of {what}"))?,
            zero_point: whole(&zero_point, &format!("the zero point of {what}"))?,
        })
    }

    fn shape(&self) -> &[usize] {
        match &self.values {
            Values::I8(values) => values.shape(),
            Values::U8(values) => values.shape(),
        }
    }

    fn get(&self) -> PyResult<Weights<'_>> {
        let scales = self.scales.slice()?;
        Ok(match &self.values {
            Values::I8(values) => {
                Weights::i8(values.as_slice().map_err(value_error)?, scales).with_zero_point(self.zero_point)
            }
            Values::U8(values) => Weights::u8(values.as_slice().map_err(value_error)?, scales, self.zero_point),
        })
    }
}

/// A whole number of 32 bits.
fn whole(value: &Bound<'_, PyAny>, what: &str) -> PyResult<i32> {
    value.extract().map_err(|_| {
        let found = value.repr().map_or_else(|_| "no number".into(), |text| text.to_string());
        value_error(format_args!("{what} is {found}: it must be a whole number of 32 bits"))
    })
}

/// Whole numbers of 32 bits, one for each output.
fn bias(value: Option<&Bound<'_, PyAny>>, what: &str) -> PyResult<Option<Vec<i32>>> {
    let Some(value) = value else { return Ok(None) };
    let numbers = value.extract().map_err(|error: PyErr| {
        let error = error.value(value.py());
        value_error(format_args!("{what} must be whole numbers of 32 bits, one for each output: {error}"))
    })?;
    Ok(Some(numbers))
}

/// `depthwise.int8.Quantized`.
fn quantized(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Quantized> {
    let (dtype, scale, zero_point): (Bound<'_, PyAny>, f32, Bound<'_, PyAny>) = value.extract().map_err(|_| {
        value_error(format_args!("`{what}` must be (dtype, scale, zero_point), as `depthwise.int8.Quantized` is"))
    })?;
    let zero_point = whole(&zero_point, &format!("the zero point of `{what}`"))?;
    match &*dtype_name(&dtype)? {
        "uint8" => Ok(Quantized::u8(scale, zero_point)),
        "int8" => Ok(Quantized::i8(scale, zero_point)),
        other => Err(value_error(format_args!("`{what}` has elements of {other}: they must be \"uint8\" or \"int8\""))),
    }
}

/// What outputs are; `None` of sums.
fn output(value: &Bound<'_, PyAny>) -> PyResult<Option<Quantized>> {
    if dtype_name(value).is_ok_and(|name| name == "int32") {
        return Ok(None);
    }
    quantized(value, "output")
        .map(Some)
        .map_err(|error| value_error(format_args!("{}; or output is \"int32\", for the sums", error.value(value.py()))))
}

/// Bounds of numbers.
fn clamp(value: Option<&Bound<'_, PyAny>>, what: &str) -> PyResult<Option<[i32; 2]>> {
    let Some(value) = value else { return Ok(None) };
    let bounds: (i32, i32) = value
        .extract()
        .map_err(|_| value_error(format_args!("{what} must be (low, high), of two whole numbers of 32 bits")))?;
    Ok(Some([bounds.0, bounds.1]))
}

fn rounding(name: &str) -> PyResult<Rounding> {
    match name {
        "nearest_even" => Ok(Rounding::NearestEven),
        "tflite" => Ok(Rounding::Tflite),
        "tflite_legacy" => Ok(Rounding::TfliteLegacy),
        other => Err(value_error(format_args!(
            "there is no rounding {other:?}: use \"nearest_even\", \"tflite\" or \"tflite_legacy\""
        ))),
    }
}

/// The setters that builders have in common.
macro_rules! with {
    (common: $builder:expr, $input:ident, $output:ident, $rounding:ident, $layout:ident, $isa:ident) => {{
        let builder = $builder
            .input(quantized($input, "input")?)
            .rounding(rounding($rounding)?)
            .layout(layout($layout)?)
            .maybe_isa(isa($isa)?);
        match output($output)? {
            Some(output) => builder.output(output),
            None => builder.output_sums(),
        }
    }};
    (stage: $builder:expr, $weights:ident = $given:expr, $set_bias:ident = $bias:expr, $set_clamp:ident = $clamp:expr) => {{
        let mut builder = $builder.$weights($given.get()?);
        if let Some(bias) = &$bias {
            builder = builder.$set_bias(bias);
        }
        if let Some([low, high]) = $clamp {
            builder = builder.$set_clamp(low, high);
        }
        builder
    }};
    (window: $builder:expr, $window:ident, $kernel:expr) => {
        $builder.kernel_size($kernel).stride($window.stride).dilation($window.dilation).maybe_padding($window.padding)
    };
}

/// A filter over all channels for each output channel.
#[pyclass(module = "depthwise.int8", extends = Plan, frozen)]
pub(crate) struct Conv2d;

#[pymethods]
impl Conv2d {
    #[new]
    #[pyo3(signature = (weights, /, *, input, output, rounding = "nearest_even", stride = None, padding = None, dilation = None, bias = None, clamp = None, layout = "nchw", isa = None))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords")]
    fn new(
        py: Python<'_>,
        weights: &Bound<'_, PyAny>,
        input: &Bound<'_, PyAny>,
        output: &Bound<'_, PyAny>,
        rounding: &str,
        stride: Option<&Bound<'_, PyAny>>,
        padding: Option<&Bound<'_, PyAny>>,
        dilation: Option<&Bound<'_, PyAny>>,
        bias: Option<&Bound<'_, PyAny>>,
        clamp: Option<&Bound<'_, PyAny>>,
        layout: &str,
        isa: Option<&str>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let weights = Given::new(weights, "the weights")?;
        let (bias, clamp) = (self::bias(bias, "the bias")?, self::clamp(clamp, "the clamp")?);
        let [outputs, inputs, kh, kw] = standard(weights.shape(), "the weights")?;
        let window = Window::new(stride, padding, dilation)?;
        let builder = with!(common: int8::Conv2d::builder(inputs, outputs), input, output, rounding, layout, isa);
        let builder = with!(window: builder, window, [kh, kw]);
        let builder = with!(stage: builder, weights = weights, bias = bias, clamp = clamp);
        Ok(built(py, &builder)?.add_subclass(Self))
    }
}

/// A filter for each channel.
#[pyclass(module = "depthwise.int8", extends = Plan, frozen)]
pub(crate) struct DepthwiseConv2d;

#[pymethods]
impl DepthwiseConv2d {
    #[new]
    #[pyo3(signature = (weights, /, *, input, output, rounding = "nearest_even", channel_multiplier = None, stride = None, padding = None, dilation = None, bias = None, clamp = None, layout = "nchw", isa = None))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords")]
    fn new(
        py: Python<'_>,
        weights: &Bound<'_, PyAny>,
        input: &Bound<'_, PyAny>,
        output: &Bound<'_, PyAny>,
        rounding: &str,
        channel_multiplier: Option<&Bound<'_, PyAny>>,
        stride: Option<&Bound<'_, PyAny>>,
        padding: Option<&Bound<'_, PyAny>>,
        dilation: Option<&Bound<'_, PyAny>>,
        bias: Option<&Bound<'_, PyAny>>,
        clamp: Option<&Bound<'_, PyAny>>,
        layout: &str,
        isa: Option<&str>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let weights = Given::new(weights, "the weights")?;
        let (bias, clamp) = (self::bias(bias, "the bias")?, self::clamp(clamp, "the clamp")?);
        let [outputs, kh, kw] = filters(weights.shape())?;
        let (channels, multiplier) = divided(outputs, channel_multiplier)?;
        let window = Window::new(stride, padding, dilation)?;
        let builder = int8::DepthwiseConv2d::builder(channels).channel_multiplier(multiplier);
        let builder = with!(common: builder, input, output, rounding, layout, isa);
        let builder = with!(window: builder, window, [kh, kw]);
        let builder = with!(stage: builder, weights = weights, bias = bias, clamp = clamp);
        Ok(built(py, &builder)?.add_subclass(Self))
    }
}

/// A mix of channels at each pixel.
#[pyclass(module = "depthwise.int8", extends = Plan, frozen)]
pub(crate) struct PointwiseConv2d;

#[pymethods]
impl PointwiseConv2d {
    #[new]
    #[pyo3(signature = (weights, /, *, input, output, rounding = "nearest_even", bias = None, clamp = None, layout = "nchw", isa = None))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords")]
    fn new(
        py: Python<'_>,
        weights: &Bound<'_, PyAny>,
        input: &Bound<'_, PyAny>,
        output: &Bound<'_, PyAny>,
        rounding: &str,
        bias: Option<&Bound<'_, PyAny>>,
        clamp: Option<&Bound<'_, PyAny>>,
        layout: &str,
        isa: Option<&str>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let weights = Given::new(weights, "the weights")?;
        let (bias, clamp) = (self::bias(bias, "the bias")?, self::clamp(clamp, "the clamp")?);
        let [outputs, inputs] = matrix(weights.shape())?;
        let builder = int8::PointwiseConv2d::builder(inputs, outputs);
        let builder = with!(common: builder, input, output, rounding, layout, isa);
        let builder = with!(stage: builder, weights = weights, bias = bias, clamp = clamp);
        Ok(built(py, &builder)?.add_subclass(Self))
    }
}

/// A depthwise and then a pointwise convolution, in one pass.
#[pyclass(module = "depthwise.int8", extends = Plan, frozen)]
pub(crate) struct SeparableConv2d;

#[pymethods]
impl SeparableConv2d {
    #[new]
    #[pyo3(signature = (depthwise_weights, pointwise_weights, /, *, input, between, output, rounding = "nearest_even", channel_multiplier = None, stride = None, padding = None, dilation = None, depthwise_bias = None, depthwise_clamp = None, bias = None, clamp = None, layout = "nchw", isa = None))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords")]
    fn new(
        py: Python<'_>,
        depthwise_weights: &Bound<'_, PyAny>,
        pointwise_weights: &Bound<'_, PyAny>,
        input: &Bound<'_, PyAny>,
        between: &Bound<'_, PyAny>,
        output: &Bound<'_, PyAny>,
        rounding: &str,
        channel_multiplier: Option<&Bound<'_, PyAny>>,
        stride: Option<&Bound<'_, PyAny>>,
        padding: Option<&Bound<'_, PyAny>>,
        dilation: Option<&Bound<'_, PyAny>>,
        depthwise_bias: Option<&Bound<'_, PyAny>>,
        depthwise_clamp: Option<&Bound<'_, PyAny>>,
        bias: Option<&Bound<'_, PyAny>>,
        clamp: Option<&Bound<'_, PyAny>>,
        layout: &str,
        isa: Option<&str>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let first = Given::new(depthwise_weights, "the depthwise weights")?;
        let second = Given::new(pointwise_weights, "the pointwise weights")?;
        let (bias, clamp) = (self::bias(bias, "the bias")?, self::clamp(clamp, "the clamp")?);
        let depthwise_bias = self::bias(depthwise_bias, "the depthwise bias")?;
        let depthwise_clamp = self::clamp(depthwise_clamp, "the depthwise clamp")?;
        let ([outputs, middle], [of_first, kh, kw]) = (matrix(second.shape())?, filters(first.shape())?);
        if of_first != middle {
            return Err(value_error(format_args!(
                "the depthwise weights have {of_first} outputs, but the pointwise weights {middle} inputs"
            )));
        }
        let (channels, multiplier) = divided(middle, channel_multiplier)?;
        let window = Window::new(stride, padding, dilation)?;
        let builder = int8::SeparableConv2d::builder(channels, outputs)
            .channel_multiplier(multiplier)
            .between(quantized(between, "between")?);
        let builder = with!(common: builder, input, output, rounding, layout, isa);
        let builder = with!(window: builder, window, [kh, kw]);
        let builder = with!(stage: builder, depthwise_weights = first, depthwise_bias = depthwise_bias, depthwise_clamp = depthwise_clamp);
        let builder = with!(stage: builder, pointwise_weights = second, bias = bias, clamp = clamp);
        Ok(built(py, &builder)?.add_subclass(Self))
    }
}

/// The module.
pub(crate) fn module(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    let module = PyModule::new(py, "int8")?;
    module.add_class::<Plan>()?;
    module.add_class::<Conv2d>()?;
    module.add_class::<DepthwiseConv2d>()?;
    module.add_class::<PointwiseConv2d>()?;
    module.add_class::<SeparableConv2d>()?;
    Ok(module)
}
