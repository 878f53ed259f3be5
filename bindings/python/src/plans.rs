//! The classes: a plan of each operation, built from arrays.

use depthwise::{
    AnyConv2dBuilder, Convolution, DepthwiseConv2dBuilder, Error, Layout, Padding, Parallelism, PointwiseConv2dBuilder,
    SeparableConv2dBuilder, bf16, f16,
};
use pyo3::prelude::*;

use crate::arguments::{Floats, Norm, activation, count, dtype_name, fusion, isa, layout, padding, pair};
use crate::run::{Arguments, Typed, each, extents, shape};
use crate::threads::pool;
use crate::value_error;

/// A builder that ends in a plan for one of the types of elements.
trait Build {
    type As<E: depthwise::Element>: Convolution<E> + 'static;

    fn build_as<E: depthwise::Element>(&self) -> Result<Self::As<E>, Error>;
}

macro_rules! build {
    ($($builder:ident => $plan:ident),*) => {
        $(impl Build for $builder<'_> {
            type As<E: depthwise::Element> = depthwise::$plan<E>;

            fn build_as<E: depthwise::Element>(&self) -> Result<Self::As<E>, Error> {
                $builder::build_as(self)
            }
        })*
    };
}
build! {
    AnyConv2dBuilder => AnyConv2d,
    DepthwiseConv2dBuilder => DepthwiseConv2d,
    PointwiseConv2dBuilder => PointwiseConv2d,
    SeparableConv2dBuilder => SeparableConv2d
}

/// The plan for elements of that type, packed without the interpreter's lock.
fn built(
    py: Python<'_>,
    builder: &(impl Build + Sync),
    dtype: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyClassInitializer<Plan>> {
    let name = dtype.map_or(Ok("float32".into()), dtype_name)?;
    if name == "bfloat16" {
        py.import("ml_dtypes")
            .map_err(|error| value_error(format_args!("arrays of bfloat16 need the package ml_dtypes: {error}")))?;
    }
    let typed = py.detach(|| {
        Ok(Some(match &*name {
            "float32" => Typed::F32(Box::new(builder.build_as::<f32>()?)),
            "float16" => Typed::F16(Box::new(builder.build_as::<f16>()?)),
            "bfloat16" => Typed::Bf16(Box::new(builder.build_as::<bf16>()?)),
            _ => return Ok(None),
        }))
    });
    match typed.map_err(|error: Error| value_error(error))? {
        Some(typed) => Ok(PyClassInitializer::from(Plan { typed })),
        None => Err(value_error(format_args!(
            "there is no plan for elements of {name}: use \"float32\", \"float16\" or \"bfloat16\""
        ))),
    }
}

/// A convolution with its weights, ready to run.
#[pyclass(module = "depthwise", frozen, subclass)]
pub(crate) struct Plan {
    typed: Typed,
}

#[pymethods]
impl Plan {
    #[pyo3(signature = (input, /, *, residual = None, out = None, threads = None))]
    fn __call__<'py>(
        &self,
        input: &Bound<'py, PyAny>,
        residual: Option<&Bound<'py, PyAny>>,
        out: Option<&Bound<'py, PyAny>>,
        threads: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let threads = threads.map_or(Ok(1), |threads| count(threads, "threads"))?;
        self.typed.run(&Arguments { input, residual, output: out, threads, axes: self.layout_value() })
    }

    /// As a call, of arrays whose axes are in the order of NCHW, wherever their elements lie: tensors of PyTorch.
    #[pyo3(signature = (input, residual, output, threads))]
    fn _run_nchw<'py>(
        &self,
        input: &Bound<'py, PyAny>,
        residual: Option<&Bound<'py, PyAny>>,
        output: &Bound<'py, PyAny>,
        threads: usize,
    ) -> PyResult<()> {
        let output = Some(output);
        self.typed.run(&Arguments { input, residual, output, threads, axes: Layout::Nchw }).map(drop)
    }

    /// As `output_shape`, likewise.
    fn _output_nchw(&self, input_shape: Extents) -> PyResult<Extents> {
        let output = each!(&self.typed, plan => plan.output_shape(shape(input_shape, Layout::Nchw)));
        Ok(extents(output.map_err(value_error)?, Layout::Nchw))
    }

    /// The shape of the output's array for an input's.
    #[pyo3(signature = (input_shape, /))]
    fn output_shape(&self, input_shape: Extents) -> PyResult<Extents> {
        let layout = self.layout_value();
        let output = each!(&self.typed, plan => plan.output_shape(shape(input_shape, layout)));
        Ok(extents(output.map_err(value_error)?, layout))
    }

    /// What runs on inputs of that shape do: kernels, passes, blocks, tasks.
    #[pyo3(signature = (input_shape, /, *, threads = None))]
    fn describe(&self, py: Python<'_>, input_shape: Extents, threads: Option<&Bound<'_, PyAny>>) -> PyResult<String> {
        let threads = threads.map_or(Ok(1), |threads| count(threads, "threads"))?;
        let (pool, shape) = (pool(py, threads)?, shape(input_shape, self.layout_value()));
        let choice = py.detach(|| {
            let parallelism = match &pool {
                Some(pool) => Parallelism::Executor(&**pool),
                None => Parallelism::Serial,
            };
            each!(&self.typed, plan => plan.prepare(shape, parallelism))
        });
        Ok(choice.map_err(value_error)?.to_string())
    }

    #[getter]
    fn layout(&self) -> &'static str {
        self.layout_value().name()
    }

    #[getter]
    fn isa(&self) -> &'static str {
        each!(&self.typed, plan => plan.isa()).name()
    }

    #[getter]
    fn dtype(&self) -> &'static str {
        self.typed.dtype()
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
        Err(cannot_be_pickled())
    }
}

pub(crate) fn cannot_be_pickled() -> PyErr {
    pyo3::exceptions::PyTypeError::new_err(
        "a plan cannot be pickled, as it is packed for this CPU: send the weights, and build the plan where it runs",
    )
}

/// The shape of an array.
pub(crate) type Extents = (usize, usize, usize, usize);

impl Plan {
    fn layout_value(&self) -> Layout {
        each!(&self.typed, plan => plan.layout())
    }
}

/// How a kernel slides, as keywords give it.
pub(crate) struct Window {
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) padding: Option<Padding>,
}

impl Window {
    pub(crate) fn new(
        stride: Option<&Bound<'_, PyAny>>,
        padding: Option<&Bound<'_, PyAny>>,
        dilation: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self {
            stride: stride.map_or(Ok([1; 2]), |stride| pair(stride, "the stride"))?,
            dilation: dilation.map_or(Ok([1; 2]), |dilation| pair(dilation, "the dilation"))?,
            padding: self::padding(padding)?,
        })
    }
}

/// Any convolution over height and width: standard, depthwise or pointwise.
#[pyclass(module = "depthwise", extends = Plan, frozen)]
pub(crate) struct Conv2d;

#[pymethods]
impl Conv2d {
    #[new]
    #[pyo3(signature = (weights, /, *, groups = None, stride = None, padding = None, dilation = None, bias = None, batch_norm = None, activation = None, layout = "nchw", dtype = None, isa = None))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords")]
    fn new(
        py: Python<'_>,
        weights: &Bound<'_, PyAny>,
        groups: Option<&Bound<'_, PyAny>>,
        stride: Option<&Bound<'_, PyAny>>,
        padding: Option<&Bound<'_, PyAny>>,
        dilation: Option<&Bound<'_, PyAny>>,
        bias: Option<&Bound<'_, PyAny>>,
        batch_norm: Option<&Bound<'_, PyAny>>,
        activation: Option<&Bound<'_, PyAny>>,
        layout: &str,
        dtype: Option<&Bound<'_, PyAny>>,
        isa: Option<&str>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let weights = Floats::new(weights, "the weights")?;
        let bias = Floats::maybe(bias, "the bias")?;
        let batch_norm = Norm::maybe(batch_norm, "the batch norm")?;
        let [outputs, group, kh, kw] = standard(weights.shape(), "the weights")?;
        let groups = groups.map_or(Ok(1), |groups| count(groups, "the number of groups"))?;
        let inputs =
            group.checked_mul(groups).ok_or_else(|| value_error("the number of input channels is too large"))?;
        let window = Window::new(stride, padding, dilation)?;
        let builder = depthwise::AnyConv2d::builder(inputs, outputs, groups)
            .layout(self::layout(layout)?)
            .maybe_isa(self::isa(isa)?)
            .weights(weights.slice()?)
            .maybe_bias(bias.as_ref().map(Floats::slice).transpose()?)
            .activation(self::activation(activation)?)
            .maybe_batch_norm(batch_norm.as_ref().map(Norm::get).transpose()?)
            .kernel_size([kh, kw])
            .stride(window.stride)
            .dilation(window.dilation)
            .maybe_padding(window.padding);
        Ok(built(py, &builder, dtype)?.add_subclass(Self))
    }
}

/// A filter for each channel.
#[pyclass(module = "depthwise", extends = Plan, frozen)]
pub(crate) struct DepthwiseConv2d;

#[pymethods]
impl DepthwiseConv2d {
    #[new]
    #[pyo3(signature = (weights, /, *, channel_multiplier = None, stride = None, padding = None, dilation = None, bias = None, batch_norm = None, activation = None, layout = "nchw", dtype = None, isa = None))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords")]
    fn new(
        py: Python<'_>,
        weights: &Bound<'_, PyAny>,
        channel_multiplier: Option<&Bound<'_, PyAny>>,
        stride: Option<&Bound<'_, PyAny>>,
        padding: Option<&Bound<'_, PyAny>>,
        dilation: Option<&Bound<'_, PyAny>>,
        bias: Option<&Bound<'_, PyAny>>,
        batch_norm: Option<&Bound<'_, PyAny>>,
        activation: Option<&Bound<'_, PyAny>>,
        layout: &str,
        dtype: Option<&Bound<'_, PyAny>>,
        isa: Option<&str>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let weights = Floats::new(weights, "the weights")?;
        let bias = Floats::maybe(bias, "the bias")?;
        let batch_norm = Norm::maybe(batch_norm, "the batch norm")?;
        let [outputs, kh, kw] = filters(weights.shape())?;
        let (channels, multiplier) = divided(outputs, channel_multiplier)?;
        let window = Window::new(stride, padding, dilation)?;
        let builder = depthwise::DepthwiseConv2d::builder(channels)
            .channel_multiplier(multiplier)
            .layout(self::layout(layout)?)
            .maybe_isa(self::isa(isa)?)
            .weights(weights.slice()?)
            .maybe_bias(bias.as_ref().map(Floats::slice).transpose()?)
            .activation(self::activation(activation)?)
            .maybe_batch_norm(batch_norm.as_ref().map(Norm::get).transpose()?)
            .kernel_size([kh, kw])
            .stride(window.stride)
            .dilation(window.dilation)
            .maybe_padding(window.padding);
        Ok(built(py, &builder, dtype)?.add_subclass(Self))
    }
}

/// A mix of channels at each pixel.
#[pyclass(module = "depthwise", extends = Plan, frozen)]
pub(crate) struct PointwiseConv2d;

#[pymethods]
impl PointwiseConv2d {
    #[new]
    #[pyo3(signature = (weights, /, *, bias = None, batch_norm = None, activation = None, layout = "nchw", dtype = None, isa = None))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords")]
    fn new(
        py: Python<'_>,
        weights: &Bound<'_, PyAny>,
        bias: Option<&Bound<'_, PyAny>>,
        batch_norm: Option<&Bound<'_, PyAny>>,
        activation: Option<&Bound<'_, PyAny>>,
        layout: &str,
        dtype: Option<&Bound<'_, PyAny>>,
        isa: Option<&str>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let weights = Floats::new(weights, "the weights")?;
        let bias = Floats::maybe(bias, "the bias")?;
        let batch_norm = Norm::maybe(batch_norm, "the batch norm")?;
        let [outputs, inputs] = matrix(weights.shape())?;
        let builder = depthwise::PointwiseConv2d::builder(inputs, outputs)
            .layout(self::layout(layout)?)
            .maybe_isa(self::isa(isa)?)
            .weights(weights.slice()?)
            .maybe_bias(bias.as_ref().map(Floats::slice).transpose()?)
            .activation(self::activation(activation)?)
            .maybe_batch_norm(batch_norm.as_ref().map(Norm::get).transpose()?);
        Ok(built(py, &builder, dtype)?.add_subclass(Self))
    }
}

/// A depthwise and then a pointwise convolution, in one pass where that pays.
#[pyclass(module = "depthwise", extends = Plan, frozen)]
pub(crate) struct SeparableConv2d;

#[pymethods]
impl SeparableConv2d {
    #[new]
    #[pyo3(signature = (depthwise_weights, pointwise_weights, /, *, channel_multiplier = None, stride = None, padding = None, dilation = None, depthwise_bias = None, depthwise_batch_norm = None, depthwise_activation = None, bias = None, batch_norm = None, activation = None, layout = "nchw", dtype = None, isa = None, fusion = "auto"))]
    #[allow(clippy::too_many_arguments, reason = "they are keywords")]
    fn new(
        py: Python<'_>,
        depthwise_weights: &Bound<'_, PyAny>,
        pointwise_weights: &Bound<'_, PyAny>,
        channel_multiplier: Option<&Bound<'_, PyAny>>,
        stride: Option<&Bound<'_, PyAny>>,
        padding: Option<&Bound<'_, PyAny>>,
        dilation: Option<&Bound<'_, PyAny>>,
        depthwise_bias: Option<&Bound<'_, PyAny>>,
        depthwise_batch_norm: Option<&Bound<'_, PyAny>>,
        depthwise_activation: Option<&Bound<'_, PyAny>>,
        bias: Option<&Bound<'_, PyAny>>,
        batch_norm: Option<&Bound<'_, PyAny>>,
        activation: Option<&Bound<'_, PyAny>>,
        layout: &str,
        dtype: Option<&Bound<'_, PyAny>>,
        isa: Option<&str>,
        fusion: &str,
    ) -> PyResult<PyClassInitializer<Self>> {
        let depthwise_weights = Floats::new(depthwise_weights, "the depthwise weights")?;
        let weights = Floats::new(pointwise_weights, "the pointwise weights")?;
        let depthwise_bias = Floats::maybe(depthwise_bias, "the depthwise bias")?;
        let depthwise_batch_norm = Norm::maybe(depthwise_batch_norm, "the depthwise batch norm")?;
        let bias = Floats::maybe(bias, "the bias")?;
        let batch_norm = Norm::maybe(batch_norm, "the batch norm")?;
        let [outputs, middle] = matrix(weights.shape())?;
        let [outputs_of_first, kh, kw] = filters(depthwise_weights.shape())?;
        if outputs_of_first != middle {
            return Err(value_error(format_args!(
                "the depthwise weights have {outputs_of_first} outputs, but the pointwise weights {middle} inputs"
            )));
        }
        let (channels, multiplier) = divided(middle, channel_multiplier)?;
        let window = Window::new(stride, padding, dilation)?;
        let builder = depthwise::SeparableConv2d::builder(channels, outputs)
            .channel_multiplier(multiplier)
            .depthwise_weights(depthwise_weights.slice()?)
            .maybe_depthwise_bias(depthwise_bias.as_ref().map(Floats::slice).transpose()?)
            .maybe_depthwise_batch_norm(depthwise_batch_norm.as_ref().map(Norm::get).transpose()?)
            .depthwise_activation(self::activation(depthwise_activation)?)
            .fusion(self::fusion(fusion)?)
            .layout(self::layout(layout)?)
            .maybe_isa(self::isa(isa)?)
            .pointwise_weights(weights.slice()?)
            .maybe_bias(bias.as_ref().map(Floats::slice).transpose()?)
            .activation(self::activation(activation)?)
            .maybe_batch_norm(batch_norm.as_ref().map(Norm::get).transpose()?)
            .kernel_size([kh, kw])
            .stride(window.stride)
            .dilation(window.dilation)
            .maybe_padding(window.padding);
        Ok(built(py, &builder, dtype)?.add_subclass(Self))
    }
}

/// The shape of weights, which must have four axes.
pub(crate) fn standard(weights: &[usize], what: &str) -> PyResult<[usize; 4]> {
    weights.try_into().map_err(|_| {
        value_error(format_args!(
            "{what} have shape {weights:?}, but four axes are needed: outputs, inputs of a group, height and width of the kernel"
        ))
    })
}

/// The shape of the weights of a pointwise convolution: outputs and inputs.
pub(crate) fn matrix(weights: &[usize]) -> PyResult<[usize; 2]> {
    match *weights {
        [outputs, inputs] | [outputs, inputs, 1, 1] => Ok([outputs, inputs]),
        _ => Err(value_error(format_args!(
            "the pointwise weights have shape {weights:?}, but (outputs, inputs) or (outputs, inputs, 1, 1) is needed"
        ))),
    }
}

/// Outputs, height and width of the kernel of a depthwise convolution.
pub(crate) fn filters(weights: &[usize]) -> PyResult<[usize; 3]> {
    match standard(weights, "the depthwise weights")? {
        [outputs, 1, kh, kw] => Ok([outputs, kh, kw]),
        shape => Err(value_error(format_args!(
            "the depthwise weights have shape {shape:?}, but the second axis must be 1: each output reads one channel"
        ))),
    }
}

/// The channels of a depthwise convolution, and how many outputs each has.
pub(crate) fn divided(outputs: usize, multiplier: Option<&Bound<'_, PyAny>>) -> PyResult<(usize, usize)> {
    let multiplier = multiplier.map_or(Ok(1), |value| count(value, "the channel multiplier"))?;
    match outputs.checked_rem(multiplier) {
        Some(0) => Ok((outputs / multiplier, multiplier)),
        _ => Err(value_error(format_args!(
            "the depthwise weights have {outputs} outputs, which is no multiple of the channel multiplier, {multiplier}"
        ))),
    }
}
