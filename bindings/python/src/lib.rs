//! The extension module `depthwise._depthwise`: plans of the crate `depthwise` over arrays of numpy.
//!
//! What a user sees of it is described in `python/depthwise/__init__.pyi` and `int8.pyi`.

#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

mod arguments;
mod int8;
mod plans;
mod run;
mod threads;

use depthwise::{Isa, Machine};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The crate's error as Python's, with the crate's sentence.
fn value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// The instruction sets that this CPU has kernels for, the preferred one last, less those that are for arrays of 8 bits alone.
#[pyfunction]
fn isas() -> Vec<&'static str> {
    Isa::all().iter().filter(|isa| isa.is_available()).map(|isa| isa.name()).collect()
}

/// The name of the CPU's description, by which kernels are chosen.
#[pyfunction]
fn machine() -> &'static str {
    Machine::detect().name()
}

#[pymodule]
fn _depthwise(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<plans::Plan>()?;
    module.add_class::<plans::Conv2d>()?;
    module.add_class::<plans::DepthwiseConv2d>()?;
    module.add_class::<plans::PointwiseConv2d>()?;
    module.add_class::<plans::SeparableConv2d>()?;
    module.add_submodule(&int8::module(module.py())?)?;
    module.add_function(wrap_pyfunction!(isas, module)?)?;
    module.add_function(wrap_pyfunction!(machine, module)?)
}
