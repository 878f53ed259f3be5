//! Tensors of 8 bits, and of sums, in memory as plans see them.

use depthwise::int8::Output;
use depthwise::{Layout, Shape, Strides, TensorView, TensorViewMut};

use crate::oracle::Tensor;

/// A tensor with gaps between pixels, or rows of a plane.
pub struct Buffer<T> {
    data: Vec<T>,
    pub shape: Shape,
    strides: Strides,
}

/// Elements of a type, of a test's numbers; of `f32`, its bits.
pub trait Number: Output {
    fn of(x: i64) -> Self;
    fn wide(self) -> i64;
    const GAP: Self;
}

macro_rules! number {
    ($($type:ty)*) => {$(
        impl Number for $type {
            fn of(x: i64) -> Self {
                x as $type
            }
            fn wide(self) -> i64 {
                self.into()
            }
            const GAP: Self = 77;
        }
    )*};
}
number!(u8 i8 i32);

impl Number for f32 {
    fn of(bits: i64) -> f32 {
        f32::from_bits(bits as u32)
    }
    fn wide(self) -> i64 {
        self.to_bits().into()
    }
    const GAP: f32 = 77.0;
}

impl<T: Number> Buffer<T> {
    pub fn blank(shape: Shape, layout: Layout, gap: usize) -> Self {
        let Shape { n, c, h, w } = shape;
        let strides = match layout {
            Layout::Nhwc => Strides { c: 1, w: c + gap, h: w * (c + gap) + gap, n: h * (w * (c + gap) + gap) },
            Layout::Nchw => Strides { w: 1, h: w + gap, c: h * (w + gap) + gap, n: c * (h * (w + gap) + gap) },
        };
        Buffer { data: vec![T::GAP; n * strides.n], shape, strides }
    }

    pub fn of(tensor: &Tensor<i64>, layout: Layout, gap: usize) -> Self {
        let mut buffer = Self::blank(tensor.shape, layout, gap);
        Tensor::from_fn(tensor.shape, |n, c, h, w| {
            buffer.data[buffer.strides.offset(n, c, h, w)] = T::of(tensor.at(n, c, h, w));
        });
        buffer
    }

    pub fn view(&self) -> TensorView<'_, T> {
        TensorView::strided(&self.data, self.shape, self.strides).expect("a view")
    }

    pub fn view_mut(&mut self) -> TensorViewMut<'_, T> {
        TensorViewMut::strided(&mut self.data, self.shape, self.strides).expect("a view")
    }

    pub fn check(&self, want: &Tensor<i64>, what: &str) {
        let mut is_gap = vec![true; self.data.len()];
        Tensor::from_fn(want.shape, |n, c, h, w| {
            let at = self.strides.offset(n, c, h, w);
            is_gap[at] = false;
            let (want, got) = (want.at(n, c, h, w), self.data[at].wide());
            assert_eq!(got, want, "{what}: n={n} c={c} h={h} w={w}");
        });
        for (at, _) in is_gap.iter().enumerate().filter(|&(_, &gap)| gap) {
            assert_eq!(self.data[at], T::GAP, "{what}: wrote {at}, beside the output");
        }
    }
}
