//! Views from `ndarray`'s: the same numbers, whatever their order in memory.

#![cfg(feature = "ndarray")]

use depthwise::{Error, Layout, PointwiseConv2d, Run, TensorView, TensorViewMut, Workspace};
use ndarray::{Array4, s};

fn numbered(shape: (usize, usize, usize, usize)) -> Array4<f32> {
    let mut next = 0.0;
    Array4::from_shape_simple_fn(shape, || {
        next += 1.0;
        next
    })
}

#[test]
fn axes_are_in_the_order_of_the_layout() {
    let array = numbered((2, 3, 4, 5));
    let nchw = TensorView::from_ndarray(array.view(), Layout::Nchw).expect("a plain array");
    // The same memory with its axes permuted to n, h, w, c is the same tensor.
    let permuted = array.view().permuted_axes([0, 2, 3, 1]);
    let nhwc = TensorView::from_ndarray(permuted, Layout::Nhwc).expect("a permuted array");
    assert_eq!((nchw.shape(), nchw.strides()), (nhwc.shape(), nhwc.strides()));
    for ((n, c, h, w), &x) in array.indexed_iter() {
        assert_eq!(nchw.get(n, c, h, w), Some(x));
    }
}

#[test]
fn a_run_between_strided_arrays() {
    let wide = numbered((1, 4, 6, 8));
    let plan = PointwiseConv2d::builder(2, 3).weights(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]).build().expect("a plain plan");
    // Every second channel and row, some columns.
    let input = wide.slice(s![.., ..;2, 1..;2, 2..7]);
    let mut output = Array4::from_elem((1, 3, 6, 9), -1.0);
    let target = output.slice_mut(s![.., .., ..3, 4..]);
    plan.run(Run::new(
        TensorView::from_ndarray(input, Layout::Nchw).expect("a strided array"),
        TensorViewMut::from_ndarray(target, Layout::Nchw).expect("a strided array"),
        &mut Workspace::new(),
    ))
    .expect("a plain run");
    for ((_, c, h, w), &y) in output.indexed_iter() {
        let inside = h < 3 && w >= 4;
        let [a, b] = if inside { [0, 1].map(|c| input[[0, c, h, w - 4]]) } else { [0.0; 2] };
        let want = if inside { [a, b, a + b][c] } else { -1.0 };
        assert_eq!(y, want, "channel {c}, row {h}, column {w}");
    }
}

#[test]
fn an_axis_that_runs_backwards_is_an_error() {
    let array = numbered((1, 2, 3, 4));
    let error = TensorView::from_ndarray(array.slice(s![.., .., ..;-1, ..]), Layout::Nchw).expect_err("a stride of -4");
    assert_eq!(error, Error::NegativeStride { stride: -4 });
    assert!(error.to_string().contains("-4"), "{error}");
}

#[test]
fn an_empty_array_is_a_view() {
    let array = Array4::<f32>::zeros((0, 2, 3, 4));
    let view = TensorView::from_ndarray(array.view(), Layout::Nchw).expect("no images");
    assert_eq!(view.shape().len(), Some(0));
    // An empty batch is run as any other, whatever its strides.
    let (input, mut output) = (Array4::<f32>::zeros((0, 2, 3, 4)), Array4::<f32>::zeros((0, 3, 3, 4)));
    let plan = PointwiseConv2d::builder(2, 3).weights(&[1.0; 6]).build().expect("a plain plan");
    plan.run(Run::new(
        TensorView::from_ndarray(input.view(), Layout::Nchw).expect("an empty array"),
        TensorViewMut::from_ndarray(output.view_mut(), Layout::Nchw).expect("an empty array"),
        &mut Workspace::new(),
    ))
    .expect("a run of nothing");
}
