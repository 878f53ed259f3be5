//! What C gives, as Rust has it: pointers, buffers and texts, checked.

use core::ffi::c_char;
use core::mem::MaybeUninit;
use core::ops::Range;

use depthwise_core::{BatchNorm, TensorView};

use crate::failure::{Failure, guarded};
use crate::plan::{self, Number};
use crate::types::{dw_array, dw_batch_norm, dw_shape, dw_strides, dw_tensor};

pub(super) fn check_pointer<T>(pointer: *const T, what: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::null(what));
    }
    if !pointer.is_aligned() {
        let (address, align) = (pointer.addr(), align_of::<T>());
        return Err(Failure::invalid(format!("{what} is at {address:#x}: it must be aligned to {align} bytes")));
    }
    Ok(())
}

/// # Safety
/// 1, and 2 of a handle, as long as the reference lives.
pub(super) unsafe fn shared<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Failure> {
    check_pointer(pointer, what)?;
    // SAFETY: it is neither NULL nor misaligned, and the caller promises the rest.
    Ok(unsafe { &*pointer })
}

/// What may be NULL.
///
/// # Safety
/// As of [`shared`].
pub(super) unsafe fn optional<'a, T>(pointer: *const T, what: &str) -> Result<Option<&'a T>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller promises it.
    unsafe { shared(pointer, what) }.map(Some)
}

/// Writes a result, whatever the place held.
///
/// # Safety
/// 1.
pub(super) unsafe fn put<T>(place: *mut T, value: T, what: &str) -> Result<(), Failure> {
    check_pointer(place, what)?;
    // SAFETY: it is neither NULL nor misaligned, and the caller promises the rest.
    unsafe { place.write(value) };
    Ok(())
}

/// Fails unless a struct that begins with its size has the size that it has here.
pub(super) fn check_size<T>(size: usize, what: &str) -> Result<(), Failure> {
    let here = size_of::<T>();
    if size == here {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "a {what} of {size} bytes was given, but this library's has {here}: fill it in by {what}_init with its sizeof, and compile \
         with the header of the library's version"
    )))
}

/// A struct that begins with its size.
///
/// # Safety
/// 1: at least the size is there, and as much as it says.
pub(super) unsafe fn sized<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller promises that the size is there.
    let size = *unsafe { shared(pointer.cast::<usize>(), what) }?;
    check_size::<T>(size, what)?;
    // SAFETY: the caller promises as many bytes as that.
    unsafe { shared(pointer, what) }
}

/// Fails unless a buffer of so many elements can be a slice.
pub(super) fn check_buffer<T>(data: *const T, len: usize, what: &str) -> Result<(), Failure> {
    if len.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(Failure::invalid(format!("{what} has {len} elements: that does not fit the address space")));
    }
    if len == 0 { Ok(()) } else { check_pointer(data, what) }
}

/// # Safety
/// 3, as long as the slice lives.
pub(super) unsafe fn elements<'a, T>(data: *const T, len: usize, what: &str) -> Result<&'a [T], Failure> {
    check_buffer(data, len, what)?;
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: it is neither NULL nor misaligned, its bytes fit an isize, and the caller promises the rest.
    Ok(unsafe { core::slice::from_raw_parts(data, len) })
}

/// # Safety
/// 3, as long as the slice lives.
pub(super) unsafe fn places<'a, T>(data: *mut T, len: usize, what: &str) -> Result<&'a mut [MaybeUninit<T>], Failure> {
    check_buffer(data, len, what)?;
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: it is neither NULL nor misaligned, its bytes fit an isize, and the caller promises the rest.
    Ok(unsafe { core::slice::from_raw_parts_mut(data.cast(), len) })
}

/// Numbers, or `None` where there are none.
///
/// # Safety
/// 3, as long as the slice lives.
pub(super) unsafe fn numbers<'a>(array: dw_array, what: &str) -> Result<Option<&'a [f32]>, Failure> {
    // SAFETY: the caller promises it.
    unsafe { present(array.data, array.len, what) }
}

/// The elements of a buffer, or `None` of one that is NULL and empty.
///
/// # Safety
/// 3, as long as the slice lives.
pub(super) unsafe fn present<'a, T>(data: *const T, len: usize, what: &str) -> Result<Option<&'a [T]>, Failure> {
    if data.is_null() && len == 0 {
        return Ok(None);
    }
    check_pointer(data, what)?;
    // SAFETY: the caller promises it.
    unsafe { elements(data, len, what) }.map(Some)
}

/// # Safety
/// 1 and 3, as long as the slices live.
pub(super) unsafe fn batch_norm<'a>(norm: *const dw_batch_norm, what: &str) -> Result<Option<BatchNorm<'a>>, Failure> {
    // SAFETY: the caller promises it.
    let Some(norm) = (unsafe { optional(norm, what) })? else { return Ok(None) };
    let part = |array: dw_array, name: &str| {
        let what = format!("{what}.{name}");
        // SAFETY: the caller promises it.
        unsafe { numbers(array, &what) }?.ok_or_else(|| Failure::null(&what))
    };
    Ok(Some(BatchNorm {
        gamma: part(norm.gamma, "gamma")?,
        beta: part(norm.beta, "beta")?,
        mean: part(norm.mean, "mean")?,
        variance: part(norm.variance, "variance")?,
        epsilon: norm.epsilon,
    }))
}

/// Writes a text with a NUL, as much of it as there is place for, and its whole length without the NUL.
///
/// # Safety
/// 1 of `len`, 4 of `place`.
pub(super) unsafe fn put_text(text: &str, place: *mut c_char, capacity: usize, len: *mut usize) -> Result<(), Failure> {
    // SAFETY: the caller promises it.
    let place = unsafe { places(place.cast::<u8>(), capacity, "text") }?;
    if let Some(end) = place.len().checked_sub(1) {
        let fits = (0..=end.min(text.len())).rev().find(|&fits| text.is_char_boundary(fits)).unwrap_or(0);
        for (place, byte) in place.iter_mut().zip(text.bytes().take(fits).chain([0])) {
            place.write(byte);
        }
    }
    if len.is_null() {
        return Ok(());
    }
    // SAFETY: the caller promises it.
    unsafe { put(len, text.len(), "len") }
}

/// The bytes of a buffer.
pub(super) fn bytes<T>(data: *const T, len: usize) -> Range<usize> {
    data.addr()..data.addr().saturating_add(len.saturating_mul(size_of::<T>()))
}

/// Fails if what is written would be read too. `what` names both.
pub(super) fn check_apart(read: Range<usize>, written: Range<usize>, what: &str) -> Result<(), Failure> {
    if read.start.max(written.start) < read.end.min(written.end) {
        return Err(Failure::invalid(format!("{what} overlap: use memory of its own for what is written")));
    }
    Ok(())
}

/// The elements of the buffer up to the tensor's last. Where the tensor does not lie within, the whole buffer, which its view refuses.
pub(super) fn needed(len: usize, shape: dw_shape, strides: dw_strides) -> usize {
    let axes = [(shape.n, strides.n), (shape.c, strides.c), (shape.h, strides.h), (shape.w, strides.w)];
    if axes.iter().any(|&(extent, _)| extent == 0) {
        return 0;
    }
    let last =
        axes.iter().try_fold(0usize, |sum, &(extent, stride)| (extent - 1).checked_mul(stride)?.checked_add(sum));
    last.map_or(len, |last| len.min(last.saturating_add(1)))
}

/// # Safety
/// 3, as long as the view lives.
pub(super) unsafe fn view<'a, E: Number>(tensor: &dw_tensor, what: &str) -> Result<TensorView<'a, E>, Failure> {
    let dw_tensor { data, len, element, shape, strides } = *tensor;
    plan::check_element::<E>(element, what)?;
    // SAFETY: the caller promises it, and the elements have the type that is promised.
    let data = unsafe { elements(data.cast::<E>(), needed(len, shape, strides), what) }?;
    Ok(TensorView::strided(data, shape.into(), strides.into())?)
}

/// # Safety
/// NULL, or of this library, and not freed; no other call uses it.
pub(super) unsafe fn free<T>(handle: *mut T) {
    if handle.is_null() {
        return;
    }
    // What it holds frees memory, no more. There is no status to say that this went wrong.
    guarded(|| {
        // SAFETY: `Box::into_raw` made it, and the caller promises the rest.
        drop(unsafe { Box::from_raw(handle) });
        Ok(())
    });
}
