//! Scratch memory that runs share.

use depthwise_kernels::{AlignedBuf, Error};

/// Scratch memory for runs: grows to what the largest of them needs and is kept for the next.
///
/// Once it has the `workspace_len` of a plan and input shape, that run allocates nothing. Any
/// workspace serves any plan; two runs at the same time need one each.
#[derive(Clone, Default)]
pub struct Workspace {
    buf: AlignedBuf,
}

impl Workspace {
    /// An empty workspace, which the first run grows.
    pub fn new() -> Self {
        Self::default()
    }

    /// A workspace of `len` `f32`.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn with_len(len: usize) -> Result<Self, Error> {
        Ok(Self { buf: AlignedBuf::zeroed(len)? })
    }

    /// The `f32` it holds.
    pub fn len(&self) -> usize {
        self.buf.as_slice().len()
    }

    /// Whether it holds nothing yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `len` elements, whatever they hold.
    pub(crate) fn take(&mut self, len: usize) -> Result<&mut [f32], Error> {
        self.buf.grow(len)?;
        Ok(&mut self.buf.as_mut_slice()[..len])
    }
}

impl core::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Workspace({} f32)", self.len())
    }
}
