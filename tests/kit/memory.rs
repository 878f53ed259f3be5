//! Tensors in memory as plans see them, with every element that is none of theirs under guard.

use depthwise::{Element, Layout, Shape, Strides, TensorView, TensorViewMut};

use super::oracle::Tensor;

/// What fills outputs before a run and the gaps between elements for good: a NaN with a payload,
/// so that reading a gap, leaving an output unwritten and writing a gap all show.
pub const SENTINEL: u32 = 0x7fc5_a5a5;

/// The sentinel as an element of that type holds it.
fn sentinel<E: Element>() -> E {
    E::from_f32(f32::from_bits(SENTINEL))
}

fn is_sentinel<E: Element>(x: E) -> bool {
    x.to_f32().to_bits() == sentinel::<E>().to_f32().to_bits()
}

/// Equal by bits, where any NaN equals any NaN but the sentinel.
pub fn same<E: Element>(want: E, got: E) -> bool {
    let (want, bits) = (want.to_f32(), got.to_f32());
    !is_sentinel(got) && (want.to_bits() == bits.to_bits() || (want.is_nan() && bits.is_nan()))
}

/// How the elements lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrangement {
    Contiguous,
    /// Gaps between pixels or channel planes, rows and images; an odd offset; and where the
    /// vectorised axis has one position only, a stride that nobody may take for 1.
    Gaps,
    /// Images innermost but for the vectorised axis, and the remaining two axes exchanged.
    Permuted,
}

impl Arrangement {
    pub const ALL: [Arrangement; 3] = [Arrangement::Contiguous, Arrangement::Gaps, Arrangement::Permuted];

    fn strides(self, shape: Shape, layout: Layout) -> Strides {
        let Shape { n, c, h, w } = shape;
        match (self, layout) {
            (Arrangement::Contiguous, Layout::Nchw) => Strides { w: 1, h: w, c: h * w, n: c * h * w },
            (Arrangement::Contiguous, Layout::Nhwc) => Strides { c: 1, w: c, h: w * c, n: h * w * c },
            (Arrangement::Gaps, Layout::Nchw) => {
                let row = w + 3;
                let plane = h * row + 5;
                Strides { w: if w == 1 { row } else { 1 }, h: row, c: plane, n: c * plane + 7 }
            }
            (Arrangement::Gaps, Layout::Nhwc) => {
                let pixel = c + 3;
                let row = w * pixel + 5;
                Strides { c: if c == 1 { pixel } else { 1 }, w: pixel, h: row, n: h * row + 7 }
            }
            (Arrangement::Permuted, Layout::Nchw) => Strides { w: 1, n: w, c: n * w, h: c * n * w },
            (Arrangement::Permuted, Layout::Nhwc) => Strides { c: 1, n: c, h: n * c, w: h * n * c },
        }
    }
}

/// A tensor somewhere in a vector.
pub struct Buffer<E = f32> {
    data: Vec<E>,
    offset: usize,
    shape: Shape,
    strides: Strides,
}

impl<E: Element> Buffer<E> {
    /// A buffer whose every element is the sentinel.
    pub fn blank(shape: Shape, layout: Layout, arrangement: Arrangement) -> Buffer<E> {
        let strides = arrangement.strides(shape, layout);
        let offset = if arrangement == Arrangement::Gaps { 5 } else { 0 };
        let Shape { n, c, h, w } = shape;
        let len = if n * c * h * w == 0 {
            0
        } else {
            (n - 1) * strides.n + (c - 1) * strides.c + (h - 1) * strides.h + (w - 1) * strides.w + 1
        };
        // The gap after the last element is guarded as well.
        let data = vec![sentinel(); offset + len + offset];
        Buffer { data, offset, shape, strides }
    }

    pub fn of(tensor: &Tensor<E>, layout: Layout, arrangement: Arrangement) -> Buffer<E> {
        let mut buffer = Buffer::blank(tensor.shape, layout, arrangement);
        Tensor::from_fn(tensor.shape, |n, c, h, w| {
            let at = buffer.index(n, c, h, w);
            buffer.data[at] = tensor.at(n, c, h, w);
        });
        buffer
    }

    pub fn data(&self) -> &[E] {
        &self.data
    }

    /// Makes every element the sentinel again.
    pub fn clear(&mut self) {
        self.data.fill(sentinel());
    }

    pub fn view(&self) -> TensorView<'_, E> {
        let end = self.data.len() - self.offset;
        TensorView::strided(&self.data[self.offset..end], self.shape, self.strides).expect("a view of a buffer")
    }

    pub fn view_mut(&mut self) -> TensorViewMut<'_, E> {
        let end = self.data.len() - self.offset;
        TensorViewMut::strided(&mut self.data[self.offset..end], self.shape, self.strides)
            .expect("a writable view of a buffer")
    }

    /// Does what a kernel must not.
    pub fn write_gap(&mut self, x: E) {
        let gap = self.data.iter().rposition(|x| is_sentinel(*x)).expect("a gap");
        self.data[gap] = x;
    }

    /// Fails at the first element that is not the one wanted, and where a gap was written.
    pub fn expect(&self, want: &Tensor<E>) -> Result<(), String> {
        first_difference(want, |n, c, h, w| self.data[self.index(n, c, h, w)])?;
        // Every element differs from the sentinel by now, so those that equal it are the gaps.
        let guards = self.data.iter().filter(|x| is_sentinel(**x)).count();
        if guards != self.data.len() - want.data.len() {
            return Err(format!("wrote outside of the view: shape {:?}, strides {:?}", self.shape, self.strides));
        }
        Ok(())
    }

    fn index(&self, n: usize, c: usize, h: usize, w: usize) -> usize {
        let Strides { n: sn, c: sc, h: sh, w: sw } = self.strides;
        self.offset + n * sn + c * sc + h * sh + w * sw
    }
}

/// Fails at the first element that is not the one wanted.
pub fn first_difference<E: Element>(
    want: &Tensor<E>,
    got: impl Fn(usize, usize, usize, usize) -> E,
) -> Result<(), String> {
    let want_len = want.data.len();
    let mut difference = None;
    let mut differences = 0;
    Tensor::from_fn(want.shape, |n, c, h, w| {
        let (want, got) = (want.at(n, c, h, w), got(n, c, h, w));
        if !same(want, got) {
            differences += 1;
            difference.get_or_insert((n, c, h, w, want, got));
        }
    });
    let Some((n, c, h, w, want, got)) = difference else {
        return Ok(());
    };
    let unwritten = if is_sentinel(got) { ", never written or made of a gap" } else { "" };
    let (want, got) = (want.to_f32(), got.to_f32());
    Err(format!(
        "element n={n} c={c} h={h} w={w}: want {want:e} ({:#010x}), got {got:e} ({:#010x}{unwritten}); \
         {differences} of {} elements differ",
        want.to_bits(),
        got.to_bits(),
        want_len,
    ))
}
