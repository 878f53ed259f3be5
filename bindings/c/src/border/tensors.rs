//! Tensors, and the conversion of their elements.

use core::ffi::c_void;

use depthwise_core::{Element, Layout, Shape, Strides, bf16, f16};

use super::given::{bytes, check_apart, elements, places, put};
use crate::failure::{Failure, guarded};
use crate::plan;
use crate::types::{dw_element, dw_shape, dw_status, dw_strides, dw_tensor, dw_tensor_mut};
use crate::value;

/// Fills in a tensor without gaps, which is all of a buffer of `len` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_tensor_init(
    tensor: *mut dw_tensor,
    data: *const c_void,
    len: usize,
    element: value::dw_element,
    shape: dw_shape,
    layout: value::dw_layout,
) -> dw_status {
    guarded(|| {
        dw_element::try_from(element)?;
        let strides = contiguous(len, shape, plan::layout(layout)?)?;
        // SAFETY: 1.
        unsafe { put(tensor, dw_tensor { data, len, element, shape, strides }, "tensor") }
    })
}

/// Fills in a tensor without gaps, which is all of a buffer of `len` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_tensor_mut_init(
    tensor: *mut dw_tensor_mut,
    data: *mut c_void,
    len: usize,
    element: value::dw_element,
    shape: dw_shape,
    layout: value::dw_layout,
) -> dw_status {
    guarded(|| {
        dw_element::try_from(element)?;
        let strides = contiguous(len, shape, plan::layout(layout)?)?;
        // SAFETY: 1.
        unsafe { put(tensor, dw_tensor_mut { data, len, element, shape, strides }, "tensor") }
    })
}

/// The strides of a tensor without gaps, if it has so many elements.
fn contiguous(len: usize, shape: dw_shape, layout: Layout) -> Result<dw_strides, Failure> {
    let shape = Shape::from(shape);
    let strides: Strides = layout.strides(shape)?;
    match shape.len() {
        Some(elements) if elements == len => Ok(strides.into()),
        elements => {
            let elements = elements.unwrap_or(usize::MAX);
            let way = "check the shape, or set the strides of a tensor that is not all of its buffer";
            Err(Failure::invalid(format!(
                "a tensor of shape {shape} has {elements} elements, but the buffer has {len}: {way}"
            )))
        }
    }
}

/// Converts `len` elements of that type to `float`. `to` may not overlap `from`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_widen(
    from: *const c_void,
    element: value::dw_element,
    to: *mut f32,
    len: usize,
) -> dw_status {
    guarded(|| match dw_element::try_from(element)? {
        // SAFETY: 3.
        dw_element::F32 => unsafe { convert(from.cast::<f32>(), to, len, |x| x) },
        // SAFETY: 3.
        dw_element::F16 => unsafe { convert(from.cast::<f16>(), to, len, Element::to_f32) },
        // SAFETY: 3.
        dw_element::Bf16 => unsafe { convert(from.cast::<bf16>(), to, len, Element::to_f32) },
        whole => Err(no_conversion(whole)),
    })
}

/// Converts `len` `float` to elements of that type, each rounded to the nearest. `to` may not overlap `from`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_narrow(
    from: *const f32,
    to: *mut c_void,
    element: value::dw_element,
    len: usize,
) -> dw_status {
    guarded(|| match dw_element::try_from(element)? {
        // SAFETY: 3.
        dw_element::F32 => unsafe { convert(from, to.cast::<f32>(), len, |x| x) },
        // SAFETY: 3.
        dw_element::F16 => unsafe { convert(from, to.cast::<f16>(), len, Element::from_f32) },
        // SAFETY: 3.
        dw_element::Bf16 => unsafe { convert(from, to.cast::<bf16>(), len, Element::from_f32) },
        whole => Err(no_conversion(whole)),
    })
}

fn no_conversion(element: dw_element) -> Failure {
    let way = "a whole number stands for scale * (number - zero point), which this function does not know";
    Failure::invalid(format!("elements of {element:?} were asked for: {way}"))
}

/// # Safety
/// 3.
unsafe fn convert<T: Copy, U>(from: *const T, to: *mut U, len: usize, one: impl Fn(T) -> U) -> Result<(), Failure> {
    check_apart(bytes(from, len), bytes(to, len), "`from` and `to`")?;
    // SAFETY: the caller promises it.
    let from = unsafe { elements(from, len, "from") }?;
    // SAFETY: the caller promises it.
    let to = unsafe { places(to, len, "to") }?;
    for (to, &from) in to.iter_mut().zip(from) {
        to.write(one(from));
    }
    Ok(())
}
