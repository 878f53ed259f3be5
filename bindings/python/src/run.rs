//! Runs of plans over arrays of numpy, whose memory is read and written where it is.

use depthwise::{Convolution, Error, Layout, Parallelism, Run, Shape, TensorView, TensorViewMut, Workspace, bf16, f16};
use numpy::ndarray::{ArrayView4, ArrayViewMut4};
use numpy::{
    BorrowError, Element, PyArray4, PyArrayMethods, PyReadonlyArray4, PyUntypedArray, PyUntypedArrayMethods,
    get_array_module,
};
use pyo3::intern;
use pyo3::prelude::*;

use crate::threads::pool;
use crate::value_error;

/// A plan for tensors of one of the types of elements.
pub(crate) enum Typed {
    F32(Box<dyn Convolution<f32>>),
    F16(Box<dyn Convolution<f16>>),
    Bf16(Box<dyn Convolution<bf16>>),
}

/// Does the same with a plan of whichever type.
macro_rules! each {
    ($typed:expr, $plan:ident => $result:expr) => {
        match $typed {
            Typed::F32($plan) => $result,
            Typed::F16($plan) => $result,
            Typed::Bf16($plan) => $result,
        }
    };
}
pub(crate) use each;

/// What a run is given.
pub(crate) struct Arguments<'a, 'py> {
    pub(crate) input: &'a Bound<'py, PyAny>,
    pub(crate) residual: Option<&'a Bound<'py, PyAny>>,
    pub(crate) output: Option<&'a Bound<'py, PyAny>>,
    pub(crate) threads: usize,
    /// The order of the arrays' axes, in memory or not.
    pub(crate) axes: Layout,
}

impl Typed {
    pub(crate) fn run<'py>(&self, arguments: &Arguments<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let dtypes = [self.dtype(); 2];
        each!(self, plan => run(dtypes, |input| plan.output_shape(input), |run| plan.run(run), arguments))
    }

    /// numpy's name of the type of elements.
    pub(crate) fn dtype(&self) -> &'static str {
        match self {
            Typed::F32(_) => "float32",
            Typed::F16(_) => "float16",
            Typed::Bf16(_) => "bfloat16",
        }
    }
}

/// The extents of a tensor in the order of an array's axes.
pub(crate) fn extents(shape: Shape, layout: Layout) -> (usize, usize, usize, usize) {
    match layout {
        Layout::Nchw => (shape.n, shape.c, shape.h, shape.w),
        Layout::Nhwc => (shape.n, shape.h, shape.w, shape.c),
    }
}

/// The reverse.
pub(crate) fn shape((n, a, b, c): (usize, usize, usize, usize), layout: Layout) -> Shape {
    match layout {
        Layout::Nchw => Shape::new(n, a, b, c),
        Layout::Nhwc => Shape::new(n, c, a, b),
    }
}

/// The array, if it is one that a plan for these elements takes.
fn array<'a, 'py, T: Element>(
    value: &'a Bound<'py, PyAny>,
    what: &str,
    dtype: &str,
    layout: Layout,
) -> PyResult<&'a Bound<'py, PyArray4<T>>> {
    let Ok(array) = value.cast::<PyArray4<T>>() else {
        let Ok(array) = value.cast::<PyUntypedArray>() else {
            return Err(value_error(format_args!(
                "the {what} is of type {}, but it must be an array of numpy",
                value.get_type().name()?
            )));
        };
        if array.ndim() != 4 {
            let axes = match layout {
                Layout::Nchw => "images, channels, rows, columns",
                Layout::Nhwc => "images, rows, columns, channels",
            };
            return Err(value_error(format_args!(
                "the {what} has {} axes, but a plan for {layout} takes four: {axes}",
                array.ndim()
            )));
        }
        return Err(value_error(format_args!(
            "the elements of the {what} are {}, but the plan takes {dtype}: convert them, or build the plan with their dtype",
            array.dtype()
        )));
    };
    if array.is_aligned() {
        return Ok(array);
    }
    let size = size_of::<T>();
    Err(value_error(format_args!("the elements of the {what} do not lie at multiples of {size} bytes: copy the array")))
}

/// Borrows an array that is read.
fn read<'py, T: Element>(array: &Bound<'py, PyArray4<T>>, what: &str) -> PyResult<PyReadonlyArray4<'py, T>> {
    array.try_readonly().map_err(|_| {
        value_error(format_args!("the {what} shares memory with an array that is being written: use another output"))
    })
}

/// The tensor that an array with axes of that order is.
fn view<'a, T: Element>(array: ArrayView4<'a, T>, layout: Layout) -> Result<TensorView<'a, T>, Error> {
    TensorView::from_ndarray(array, layout)
}

/// The tensor that is written.
fn view_mut<'a, T: Element>(array: ArrayViewMut4<'a, T>, layout: Layout) -> Result<TensorViewMut<'a, T>, Error> {
    TensorViewMut::from_ndarray(array, layout)
}

/// Runs a plan from elements of one type to another, whose names are `dtypes`.
pub(crate) fn run<'py, I: Element, O: Element>(
    [read_dtype, dtype]: [&str; 2],
    output_shape: impl FnOnce(Shape) -> Result<Shape, Error>,
    start: impl FnOnce(Run<'_, I, O>) -> Result<(), Error> + Send,
    arguments: &Arguments<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, layout) = (arguments.input.py(), arguments.axes);
    let pool = pool(py, arguments.threads)?;
    let input = read(array::<I>(arguments.input, "input", read_dtype, layout)?, "input")?;
    let input_view = view(input.as_array(), layout).map_err(value_error)?;
    let residual = match arguments.residual {
        Some(residual) => Some(read(array::<O>(residual, "residual", dtype, layout)?, "residual")?),
        None => None,
    };
    let residual_view = match &residual {
        Some(residual) => Some(view(residual.as_array(), layout).map_err(value_error)?),
        None => None,
    };
    let output = match arguments.output {
        Some(output) => output.clone(),
        None => {
            let shape = output_shape(input_view.shape()).map_err(value_error)?;
            let empty = get_array_module(py)?.getattr(intern!(py, "empty"))?;
            empty.call1((extents(shape, layout), O::get_dtype(py)))?
        }
    };
    let mut written = array::<O>(&output, "output", dtype, layout)?.try_readwrite().map_err(|error| {
        value_error(match error {
            BorrowError::NotWriteable => "the output is an array that may not be written: use another one",
            _ => "the output shares memory with the input, the residual or an array of another run: use another one",
        })
    })?;
    let view = view_mut(written.as_array_mut(), layout).map_err(value_error)?;
    let result = py.detach(|| {
        Workspace::with_thread(|workspace| {
            let run = Run::new(input_view, view, workspace).maybe_residual(residual_view);
            start(match &pool {
                Some(pool) => run.parallelism(Parallelism::Executor(&**pool)),
                None => run,
            })
        })
    });
    result.map_err(value_error)?;
    drop(written);
    Ok(output)
}
