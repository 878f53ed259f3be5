//! Scratch memory that runs share.

#[cfg(feature = "std")]
use core::cell::Cell;

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

    /// Calls `work` with a workspace of the calling thread, which keeps it for the next call: for engines whose operators have no
    /// place of their own for one.
    ///
    /// While `work` lasts, the workspace is not the thread's. A call within the call gets another one, and of the two the thread keeps
    /// the larger. So this is safe with [`Parallelism::Rayon`](crate::Parallelism::Rayon), whose threads may run other work while they
    /// wait, and where `work` panics.
    ///
    /// ```
    /// use depthwise::{Parallelism, PointwiseConv2d, Shape, TensorView, Workspace};
    ///
    /// let plan = PointwiseConv2d::builder(1, 2).weights(&[2.0, 3.0]).build()?;
    /// let input = TensorView::new(&[1.0, 10.0], Shape::new(1, 1, 1, 2), plan.layout())?;
    /// let y = Workspace::with_thread(|workspace| plan.run_to_vec(input, None, workspace, Parallelism::Serial))?;
    /// assert_eq!(y, [2.0, 20.0, 3.0, 30.0]);
    /// # Ok::<(), depthwise::Error>(())
    /// ```
    #[cfg(feature = "std")]
    pub fn with_thread<T>(work: impl FnOnce(&mut Workspace) -> T) -> T {
        let mut lent = Lent(KEPT.try_with(Cell::take).unwrap_or_default());
        work(&mut lent.0)
    }

    /// The first `len` elements, whatever they hold.
    pub(crate) fn take(&mut self, len: usize) -> Result<&mut [f32], Error> {
        self.buf.grow(len)?;
        Ok(&mut self.buf.as_mut_slice()[..len])
    }
}

#[cfg(feature = "std")]
std::thread_local! {
    /// The workspace of the thread.
    static KEPT: Cell<Workspace> = Cell::default();
}

/// A thread's workspace, which it has back when this is dropped. When the thread ends, there is nobody to have it.
#[cfg(feature = "std")]
struct Lent(Workspace);

#[cfg(feature = "std")]
impl Drop for Lent {
    fn drop(&mut self) {
        let mut larger = core::mem::take(&mut self.0);
        let _ = KEPT.try_with(|kept| {
            let other = kept.take();
            if other.len() > larger.len() {
                larger = other;
            }
            kept.set(larger);
        });
    }
}

impl core::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Workspace({} f32)", self.len())
    }
}
