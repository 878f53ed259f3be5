//! Windows on inputs of usual sizes: those that do not fit, and the padding that nobody gave.

use depthwise::{Conv2d, DepthwiseConv2d, Error, Padding, SeparableConv2d, Shape};

use super::{LARGEST_STRIDE, LAYOUTS, Report, run};

#[test]
fn windows() {
    let mut report = Report::default();
    for layout in LAYOUTS {
        let plan = |kernel: [usize; 2], dilation: [usize; 2], padding: Padding| {
            let weights = vec![0.5; 4 * kernel[0] * kernel[1]];
            let builder = DepthwiseConv2d::builder(4).kernel_size(kernel).dilation(dilation).padding(padding);
            builder.weights(&weights).layout(layout).build()
        };
        let none = Padding::valid();
        let square = |size| Shape::new(1, 4, size, size);
        // PyTorch's test_invalid_conv2d.
        report.error("3 taps at dilation 2 on 4", &["5", "4"], || plan([3, 3], [2, 2], none)?.output_shape(square(4)));
        report.error("10 taps on 1", &["10", "1"], || plan([10, 10], [1, 1], none)?.output_shape(square(1)));
        // XNNPACK#10453: gave a phantom output of one pixel.
        report.error("3x3 on 2x2", &["3", "2"], || plan([3, 3], [1, 1], none)?.output_shape(square(2)));
        report.error("3x3 on 2x2, run", &["3", "2"], || run(&plan([3, 3], [1, 1], none)?, square(2), square(1)));
        report.error("3x1 on 2x9: rows", &["3", "height", "2"], || {
            plan([3, 1], [1, 1], none)?.output_shape(Shape::new(1, 4, 2, 9))
        });
        report.error("1x4 on 9x1 with 1 + 1: columns", &["4", "width", "1"], || {
            plan([1, 4], [1, 1], Padding::explicit(0, 1, 0, 1))?.output_shape(Shape::new(1, 4, 9, 1))
        });
        // FBGEMM#395, LiteRT's limit of 32767: large, and fine.
        report.fine("input smaller than its padding", || {
            run(&plan([3, 3], [1, 1], Padding::symmetric(4, 4))?, square(1), square(7))
        });
        report.fine("a stride beyond the input", || {
            let builder = DepthwiseConv2d::builder(4).weights(&[0.5; 36]).stride([32768, 1 << 20]);
            run(&builder.layout(layout).build()?, square(5), square(1))
        });
        // Where positions are of 32 bits, it is longer than any of them may be.
        for stride in [[LARGEST_STRIDE, 1 << 20], [1 << 20, LARGEST_STRIDE]] {
            report.fine(&format!("stride {stride:?}"), || {
                let builder = DepthwiseConv2d::builder(4).weights(&[0.5; 36]).stride(stride);
                run(&builder.layout(layout).build()?, square(5), square(1))
            });
        }
        report.fine("a dilation beyond the input", || {
            run(&plan([3, 3], [32768, 40000], Padding::symmetric(32768, 40000))?, square(5), square(5))
        });
    }
    report.finish();
}

/// What each operation makes of 9×11 pixels where nobody gave a padding.
fn without_padding(
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
) -> [(&'static str, Result<Shape, Error>); 3] {
    let (few, taps) = ([0.5; 400], kernel.iter().product::<usize>());
    macro_rules! shape {
        ($builder:expr) => {
            $builder
                .kernel_size(kernel)
                .stride(stride)
                .dilation(dilation)
                .build()
                .and_then(|plan| plan.output_shape(Shape::new(1, 2, 9, 11)))
        };
    }
    let separable = SeparableConv2d::builder(2, 3).depthwise_weights(&few[..2 * taps]).pointwise_weights(&few[..6]);
    [
        ("depthwise", shape!(DepthwiseConv2d::builder(2).weights(&few[..2 * taps]))),
        ("conv2d", shape!(Conv2d::builder(2, 3).weights(&few[..6 * taps]))),
        ("separable", shape!(separable.bias(&few[..3]))),
    ]
}

/// A padding that nobody gave keeps the size at stride 1, or is an error.
#[test]
fn default_padding() {
    let mut report = Report::default();
    for (kernel, dilation) in [([3, 3], [1, 1]), ([5, 5], [1, 1]), ([1, 7], [1, 1]), ([3, 5], [4, 3]), ([2, 4], [2, 4])]
    {
        for (stride, extent) in [([1, 1], [9, 11]), ([2, 2], [5, 6]), ([1, 3], [9, 4])] {
            for (operation, shape) in without_padding(kernel, stride, dilation) {
                report.fine(&format!("{operation}, {kernel:?}, {stride:?}, {dilation:?}"), || {
                    let shape = shape?;
                    assert_eq!([shape.h, shape.w], extent);
                    Ok(())
                });
            }
        }
    }
    for (kernel, dilation, axis, size, spread) in [
        ([2, 3], [1, 1], "height", "kernel of 2", "dilation 1"),
        ([3, 4], [2, 3], "width", "kernel of 4", "dilation 3"),
        ([6, 6], [5, 5], "height", "kernel of 6", "dilation 5"),
    ] {
        for (operation, shape) in without_padding(kernel, [1, 1], dilation) {
            let name = format!("{operation}, {kernel:?}, {dilation:?}");
            report.error(&name, &[axis, size, spread, ".padding("], || shape);
        }
    }
    report.fine("an even kernel, told", || {
        let builder =
            DepthwiseConv2d::builder(2).kernel_size([2, 4]).padding(Padding::same_lower()).weights(&[0.5; 16]);
        let shape = Shape::new(1, 2, 9, 11);
        assert_eq!(builder.build()?.output_shape(shape)?, shape);
        Ok(())
    });
    report.finish();
}
