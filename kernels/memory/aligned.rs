//! Memory that starts on a cache line.

use alloc::vec::Vec;

use crate::types::Error;

/// A cache line, which is also the widest vector.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A growable slice of `f32` whose first element is aligned to 64 bytes.
#[derive(Clone, Default)]
pub struct AlignedBuf {
    lines: Vec<Line>,
}

impl AlignedBuf {
    /// At least `len` zeros.
    pub fn zeroed(len: usize) -> Result<Self, Error> {
        let mut buf = Self::default();
        buf.grow(len)?;
        Ok(buf)
    }

    /// Makes room for at least `len` elements. New ones are zero.
    pub fn grow(&mut self, len: usize) -> Result<(), Error> {
        let lines = len.div_ceil(16);
        if lines > self.lines.len() {
            let more = lines - self.lines.len();
            self.lines.try_reserve_exact(more).map_err(|_| Error::OutOfMemory { elements: len })?;
            self.lines.resize(lines, Line([0.0; 16]));
        }
        Ok(())
    }

    /// All of them.
    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: a `Line` is sixteen `f32` without padding, and any bits are an `f32`.
        unsafe { core::slice::from_raw_parts(self.lines.as_ptr().cast(), self.lines.len() * 16) }
    }

    /// All of them.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the borrow is unique.
        unsafe { core::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.lines.len() * 16) }
    }
}

/// Has the caller's stack frame start on a cache line, and so every vector that LLVM spills there: of its own accord it aligns
/// frames to 16 bytes, and then, three times in four, spilled vectors straddle lines (experiment 033).
#[inline(always)]
pub(crate) fn align_frame() {
    let line = core::mem::MaybeUninit::<Line>::uninit();
    core::hint::black_box(&line);
}
