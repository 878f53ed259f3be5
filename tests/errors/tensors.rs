//! Views of slices: shapes, strides, ranges and parts.

use std::mem::MaybeUninit;

use depthwise::{Axis, Layout, OutputRange, Shape, Strides, TensorView, TensorViewMut};

use super::{LAYOUTS, Report};

#[test]
fn tensors() {
    let mut report = Report::default();
    let data = [1.0; 100];
    let shape = Shape::new(1, 4, 5, 5);
    for layout in LAYOUTS {
        report.error("short slice", &["100", "99"], || TensorView::new(&data[..99], shape, layout));
        report.error("short output", &["100", "99"], || TensorViewMut::new(&mut [0.0; 99], shape, layout).map(drop));
        report.error("no slice", &["100", "0"], || TensorView::<f32>::new(&[], shape, layout));
        report.fine("exact slice", || TensorView::new(&data, shape, layout));
        let says = ["100", "101", "strided"];
        report.error("long slice", &says, || TensorView::new(&[1.0; 101], shape, layout));
        report.error("long output", &says, || TensorViewMut::new(&mut [1.0; 101], shape, layout).map(drop));
        report.error("long output to be", &says, || {
            TensorViewMut::<f32>::uninit(&mut [const { MaybeUninit::uninit() }; 101], shape, layout).map(drop)
        });
        report
            .error("a slice for no images", &["0", "100"], || TensorView::new(&data, Shape { n: 0, ..shape }, layout));
        report.fine("long slice, strided", || TensorView::strided(&[1.0; 101], shape, layout.strides(shape)?));
    }
    let strides = |n, c, h, w| Strides { n, c, h, w };
    report.error("strides beyond the slice", &["100"], || TensorView::strided(&data, shape, strides(0, 26, 5, 1)));
    report.fine("strides up to its end", || TensorView::strided(&data, shape, strides(0, 25, 5, 1)));
    for at in 0..4 {
        let mut all = [100, 25, 5, 1];
        all[at] = usize::MAX;
        let [n, c, h, w] = all;
        let shape = Shape::new(2, 4, 5, 5);
        report.error(&format!("stride {at} overflows"), &[], || TensorView::strided(&data, shape, strides(n, c, h, w)));
        let mut all = [2, 4, 5, 5];
        all[at] = usize::MAX;
        let [n, c, h, w] = all;
        let shape = Shape::new(n, c, h, w);
        report.error(&format!("extent {at} overflows"), &[], || {
            assert_eq!(shape.len(), None);
            TensorView::new(&data, shape, Layout::Nhwc)
        });
        report.error(&format!("extent {at} overflows, strided"), &[], || {
            TensorView::strided(&data, shape, strides(100, 25, 5, 1))
        });
    }

    // Where two elements of an output would meet; an input may be read twice.
    for (name, strides) in [
        ("all in one place", strides(0, 0, 0, 0)),
        ("channels on top of each other", strides(0, 0, 5, 1)),
        ("rows overlap by one column", strides(0, 25, 4, 1)),
        ("channels begin in the last row", strides(0, 24, 5, 1)),
        ("rows and columns alike", strides(0, 25, 1, 1)),
    ] {
        report.error(name, &["4", "5"], || TensorViewMut::strided(&mut [0.0; 200], shape, strides).map(drop));
        report.fine(name, || TensorView::strided(&data, shape, strides));
    }
    report.fine("overlap in an axis of one", || {
        TensorViewMut::strided(&mut [0.0; 100], shape, strides(0, 25, 5, 1)).map(drop)
    });
    // Two positions along one axis are the fewest that can meet, here with those of an axis of four.
    for (two, four) in (0..4).flat_map(|two| (0..4).map(move |four| (two, four))).filter(|(two, four)| two != four) {
        let of = |others: usize, two_has: usize, four_has: usize| {
            let mut all = [others; 4];
            (all[two], all[four]) = (two_has, four_has);
            all
        };
        let [n, c, h, w] = of(1, 2, 4);
        let shape = Shape::new(n, c, h, w);
        for (step_of_two, step_of_four, meet) in
            [(0, 1, true), (1, 1, true), (3, 1, true), (4, 1, false), (1, 2, false)]
        {
            let [n, c, h, w] = of(4, step_of_two, step_of_four);
            let name =
                format!("axis {two} of two in steps of {step_of_two}, {four} of four in steps of {step_of_four}");
            let call = || TensorViewMut::strided(&mut [0.0; 8], shape, strides(n, c, h, w)).map(drop);
            if meet { report.error(&name, &["2", "4"], call) } else { report.fine(&name, call) }
        }
    }

    let view = TensorView::new(&data, shape, Layout::Nchw).expect("a view");
    report.error("range beyond the axis", &["3", "6", "5"], || view.narrow(Axis::H, 3..6));
    #[allow(clippy::reversed_empty_ranges, reason = "what is tested")]
    report.error("range backwards", &["4", "2"], || view.narrow(Axis::H, 4..2));
    report.error("range of all numbers", &["5"], || view.narrow(Axis::W, 0..usize::MAX));
    report.error("split beyond the axis", &["6", "5"], || {
        TensorViewMut::new(&mut [0.0; 100], shape, Layout::Nchw)?.split_at(Axis::H, 6).map(drop)
    });
    report.error("range of an output", &["5", "4"], || {
        TensorViewMut::new(&mut [0.0; 100], shape, Layout::Nchw)?.narrow(Axis::C, 0..5).map(drop)
    });
    let part = |c: std::ops::Range<usize>, h: std::ops::Range<usize>| OutputRange { n: 0..1, c, h, w: 0..5 };
    let split =
        |parts: &[OutputRange]| TensorViewMut::new(&mut [0.0; 100], shape, Layout::Nchw)?.split(parts).map(|v| v.len());
    report.error("parts that share a row", &["0..3", "2..5"], || split(&[part(0..4, 0..3), part(0..4, 2..5)]));
    report.error("parts that share an element", &["0..1", "4..5"], || split(&[part(0..1, 0..5), part(0..4, 4..5)]));
    report.error("a part beyond the rows", &["6", "5"], || split(&[part(0..4, 3..6)]));
    report.error("a part beyond the channels", &["5", "4"], || split(&[part(4..5, 0..5)]));
    report.fine("parts that share nothing", || {
        assert_eq!(split(&[part(0..4, 0..2), part(0..2, 2..5), part(2..4, 2..5), part(2..2, 0..5)])?, 4);
        Ok(())
    });
    let half = |w: std::ops::Range<usize>| OutputRange { w, ..part(0..4, 0..5) };
    report.error("parts that share a column", &["0..3", "2..5"], || split(&[half(0..3), half(2..5)]));
    report.error("a part beyond the columns", &["6", "5"], || split(&[half(3..6)]));
    report.fine("parts of columns", || split(&[half(0..3), half(3..5)]));
    report.error("a part of an input beyond it", &["6", "5"], || view.part(&part(0..4, 3..6)));
    assert_eq!(view.part(&part(1..3, 2..5)).map(|part| part.shape()), Ok(Shape::new(1, 2, 3, 5)));
    report.fine("the empty range at the end", || view.narrow(Axis::H, 5..5));
    // A part of a larger tensor, so that what lies beyond it is there to be read.
    let part = [Axis::N, Axis::C, Axis::H, Axis::W]
        .into_iter()
        .try_fold(TensorView::new(&data, Shape::new(2, 2, 5, 5), Layout::Nchw).expect("a view"), |view, axis| {
            view.narrow(axis, 0..view.shape()[axis] - 1)
        });
    let part = part.expect("a part");
    assert_eq!((part.shape(), part.get(0, 0, 3, 3)), (Shape::new(1, 1, 4, 4), Some(1.0)));
    for beyond in [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 4, 0], [0, 0, 0, 4]] {
        for [n, c, h, w] in [beyond, beyond.map(|i| i * (usize::MAX / 4))] {
            assert_eq!(part.get(n, c, h, w), None, "n={n} c={c} h={h} w={w} of {}", part.shape());
        }
    }
    report.finish();
}
