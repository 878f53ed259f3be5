//! Extents up to the largest numbers there are: what cannot be counted or addressed is an error, and all else runs.

use depthwise::{
    Conv2d, DepthwiseConv2d, Layout, Padding, Parallelism, PointwiseConv2d, Run, SeparableConv2d, Shape, TensorView,
    TensorViewMut, Workspace, compare,
};

use super::{LARGEST_STRIDE, LAYOUTS, Report, depthwise, run};

#[test]
fn overflow() {
    let mut report = Report::default();
    let few = [0.5; 36];
    // XNNPACK's convolution-nchw.cc.
    for channels in [usize::MAX / 4 + 17, usize::MAX, 1 << (usize::BITS - 4), u32::MAX as usize] {
        let name = |of: &str| format!("{of} of {channels} channels");
        report.error(&name("depthwise"), &[], || DepthwiseConv2d::builder(channels).weights(&few).build());
        report.error(&name("pointwise from"), &[], || PointwiseConv2d::builder(channels, 3).weights(&few).build());
        report.error(&name("pointwise to"), &[], || PointwiseConv2d::builder(3, channels).weights(&few).build());
        report.error(&name("pointwise from and to"), &[], || {
            PointwiseConv2d::builder(channels, channels).weights(&few).build()
        });
        report.error(&name("conv2d"), &[], || Conv2d::builder(channels, channels).weights(&few).build());
        report.error(&name("separable"), &[], || {
            let builder = SeparableConv2d::builder(channels, channels).depthwise_weights(&few).pointwise_weights(&few);
            builder.build()
        });
        report.error(&name("multiplier"), &[], || {
            DepthwiseConv2d::builder(4).channel_multiplier(channels).weights(&few).build()
        });
        report.error(&name("tails multiplied"), &[], || {
            let builder = SeparableConv2d::builder(4, 9).channel_multiplier(channels);
            builder.depthwise_weights(&few).pointwise_weights(&few).build()
        });
    }
    let base = || DepthwiseConv2d::builder(4).weights(&few);
    report.error("kernel 65536x65536", &[], || base().kernel_size([65536, 65536]).build());
    let root = 1 << (usize::BITS / 2);
    report.error("kernel whose taps overflow", &[], || base().kernel_size([root, root]).build());
    report.error("kernel of usize::MAX", &[], || base().kernel_size([usize::MAX, usize::MAX]).build());
    // LiteRT's security test: 46341² just exceeds an i32. It is half of all that 32 bits can number, in bytes too much.
    let says = if usize::BITS == 32 { "address space" } else { "2147488281" };
    report.error("a filter of 46341 x 46341", &[says], || {
        DepthwiseConv2d::builder(46341).kernel_size([46341, 1]).weights(&few).build()
    });
    report.error("an input of 46341 x 46341", &["2147488281", "36"], || {
        TensorView::new(&few, Shape::new(46341, 46341, 1, 1), Layout::Nhwc)
    });
    // PyTorch's test_conv3d_overflow_values, and whatever else overflows a position.
    let input = Shape::new(1, 4, 5, 5);
    for huge in [1 << (usize::BITS - 2), usize::MAX / 2, usize::MAX] {
        for (name, padding) in [
            ("top", Padding::explicit(huge, 0, 0, 0)),
            ("left", Padding::explicit(0, huge, 0, 0)),
            ("bottom", Padding::explicit(1, 1, huge, 1)),
            ("right", Padding::explicit(1, 1, 1, huge)),
            ("all sides", Padding::symmetric(huge, huge)),
        ] {
            report.error(&format!("padding {huge}, {name}"), &[], || {
                run(&base().padding(padding).build()?, input, Shape::new(1, 4, 1, 1))
            });
        }
        report.error(&format!("stride {huge}"), &[&huge.to_string()], || base().stride([1, huge]).build());
        report.error(&format!("dilation {huge}"), &[], || {
            run(&base().dilation([huge, huge]).build()?, input, Shape::new(1, 4, 1, 1))
        });
        let plan = depthwise(Layout::Nchw);
        for shape in [
            Shape::new(1, 4, huge, 1),
            Shape::new(1, 4, 1, huge),
            Shape::new(1, 4, huge, huge),
            Shape::new(huge, 4, huge, 3),
        ] {
            report.error(&format!("workspace_len of {shape}"), &[], || {
                let shape = plan.output_shape(shape)?;
                plan.workspace_len(shape, Parallelism::Serial)?;
                TensorView::new(&few, shape, Layout::Nchw)
            });
        }
    }
    // More elements than can be addressed as bytes, though they can be counted: of both tensors, of the input, of the output.
    let tall = |n: usize, c: usize| Shape::new(1 << n, c, 1 << (usize::BITS - 10), 1);
    report.error("two tensors of too many elements", &["elements"], || base().build()?.output_shape(tall(7, 4)));
    report.error("an input of too many elements", &["elements"], || {
        base().stride([16, 1]).build()?.output_shape(tall(7, 4))
    });
    report.fine("an output of fewer", || base().build()?.output_shape(tall(3, 4)));
    report.error("an output of too many elements", &["elements"], || {
        PointwiseConv2d::builder(1, 4).weights(&few[..4]).build()?.output_shape(tall(6, 1))
    });
    // The largest stride is fine, and one more is not.
    let largest = LARGEST_STRIDE;
    for stride in [[largest, 1], [1, largest]] {
        report.fine(&format!("stride {stride:?}"), || base().stride(stride).build());
        let beyond = stride.map(|step| if step == largest { largest + 1 } else { step });
        report.error(&format!("stride {beyond:?}"), &["134217728", "134217727"], || base().stride(beyond).build());
    }
    report.error("a workspace of all memory", &[], || Workspace::with_len(usize::MAX));
    report.error("a workspace of half of all memory", &[], || Workspace::with_len(usize::MAX / 8));
    report.finish();
}

/// Every combination of small and absurd extents along one axis: an answer or an error, but no panic.
#[test]
fn absurd_extents() {
    let extents = [1, 2, 3, 7, 65536, u32::MAX as usize, 1 << (usize::BITS - 2), usize::MAX / 2, usize::MAX];
    let mut report = Report::default();
    for stride in extents {
        for dilation in extents {
            for padding in extents {
                let plan = |padding: Padding, layout| {
                    let builder = SeparableConv2d::builder(2, 3).depthwise_weights(&[0.5; 18]).stride([1, stride]);
                    let builder = builder.pointwise_weights(&[0.5; 6]).dilation([1, dilation]);
                    builder.padding(padding).layout(layout).build()
                };
                for padding in [Padding::explicit(1, padding, 1, padding), Padding::same_lower()] {
                    for input in extents {
                        let name = format!("stride {stride}, dilation {dilation}, {padding:?}, width {input}");
                        report.fine(&name, || {
                            for layout in LAYOUTS {
                                if let Ok(plan) = plan(padding, layout) {
                                    for shape in [Shape::new(1, 2, 3, input), Shape::new(input, 2, 3, input)] {
                                        let _ = plan.output_shape(shape);
                                        let _ = plan.workspace_len(shape, Parallelism::Serial);
                                        let _ = plan.parts(shape, 3);
                                        let _ = plan.cost(shape);
                                    }
                                }
                            }
                            Ok(())
                        });
                    }
                }
            }
        }
    }
    report.finish();
}

/// Along one axis: kernel, stride, dilation, and the padding before and after.
type Axial = (usize, usize, usize, [usize; 2]);

/// Of an input of that extent, how many taps of each output lie on it, or `None` if that is no convolution. It counts in 128 bits.
fn taps_on(extent: usize, (kernel, stride, dilation, [before, after]): Axial) -> Option<Vec<u64>> {
    let [extent, kernel, stride, dilation, before, after] =
        [extent, kernel, stride, dilation, before, after].map(|x| x as i128);
    let last = extent + before + after - (kernel - 1) * dilation - 1;
    // Enough for more than one tile of any kernel.
    let outputs = if last < 0 { 0 } else { last / stride + 1 };
    let lies_on = |o: i128, k: i128| (0..extent).contains(&(o * stride + k * dilation - before));
    let count = |o: i128| (0..kernel).filter(|&k| lies_on(o, k)).count() as u64;
    (1..=40).contains(&outputs).then(|| (0..outputs).map(count).collect())
}

/// Strides, dilations and padding up to the largest: what `output_shape` takes runs, and computes what it should. 32 bits leave
/// the least room.
#[test]
fn far_positions() {
    // What a window may span.
    let limit = isize::MAX as usize / 256;
    let plain = (3, 1, 1, [1, 1]);
    let mut axes = vec![];
    for stride in [1, 2, 3, 1 << 20, 33_554_427, 50_000_000, 134_217_727] {
        for kernel in [1, 2, 3] {
            for dilation in [1, 2, 1 << 20, limit / kernel - 1] {
                let (half, all) = (limit / 2 - 10, limit - 20);
                for padding in [[0, 0], [1, 1], [1 << 20, 1 << 20], [half, half], [all, 0], [0, all]] {
                    axes.push((kernel, stride, dilation, padding));
                }
            }
        }
    }
    let mut report = Report::default();
    let mut ran = 0;
    for &axial in &axes {
        for [down, across] in [[axial, plain], [plain, axial], [axial, axial]] {
            let Some((rows, columns)) = taps_on(5, down).zip(taps_on(6, across)) else { continue };
            let padding = Padding::explicit(down.3[0], across.3[0], down.3[1], across.3[1]);
            let weights = vec![1.0; 12 * down.0 * across.0];
            macro_rules! window {
                ($builder:expr) => {
                    $builder
                        .kernel_size([down.0, across.0])
                        .stride([down.1, across.1])
                        .dilation([down.2, across.2])
                        .padding(padding)
                };
            }
            let taps = down.0 * across.0;
            for layout in LAYOUTS {
                // Of ones, each output is the number of taps that lie on the input.
                macro_rules! counts {
                    ($name:literal, $builder:expr, $times:literal) => {
                        report.fine(&format!("{}, {layout}, {down:?} {across:?}", $name), || {
                            let plan = window!($builder).layout(layout).build()?;
                            let input = Shape::new(1, 3, 5, 6);
                            // What does not fit is an error here, or runs.
                            let Ok(shape) = plan.output_shape(input) else { return Ok(()) };
                            assert_eq!((shape.h, shape.w), (rows.len(), columns.len()));
                            ran += 1;
                            let mut output = vec![f32::NAN; shape.len().expect("a few")];
                            let view = TensorViewMut::new(&mut output, shape, layout)?;
                            let input = TensorView::new(&[1.0; 90], input, layout)?;
                            plan.run(Run::new(input, view, &mut Workspace::new()))?;
                            let output = TensorView::new(&output, shape, layout)?;
                            for (y, row) in rows.iter().enumerate() {
                                for (x, column) in columns.iter().enumerate() {
                                    for c in 0..shape.c {
                                        assert_eq!(output.get(0, c, y, x), Some(($times * row * column) as f32));
                                    }
                                }
                            }
                            Ok(())
                        });
                    };
                }
                counts!("depthwise", DepthwiseConv2d::builder(3).weights(&weights[..3 * taps]), 1);
                counts!(
                    "multiplied",
                    DepthwiseConv2d::builder(3).channel_multiplier(2).weights(&weights[..6 * taps]),
                    1
                );
                counts!("conv2d", Conv2d::builder(3, 4).weights(&weights[..12 * taps]), 3);
                let separable = SeparableConv2d::builder(3, 4).depthwise_weights(&weights[..3 * taps]);
                counts!("separable", separable.pointwise_weights(&[1.0; 12]), 3);
            }
        }
    }
    // Pixels a stride apart would be further apart than memory is long.
    for layout in LAYOUTS {
        report.fine(&format!("conv2d of 64 channels, {layout}"), || {
            let stride = [1, 134_217_727];
            let builder = Conv2d::builder(64, 1).weights(&[1.0; 576]).padding(Padding::valid()).stride(stride);
            let (plan, mut output) = (builder.layout(layout).build()?, [0.0]);
            let input = TensorView::new(&[1.0; 576], Shape::new(1, 64, 3, 3), layout)?;
            let view = TensorViewMut::new(&mut output, Shape::new(1, 1, 1, 1), layout)?;
            plan.run(Run::new(input, view, &mut Workspace::new()))?;
            assert_eq!(output, [576.0]);
            Ok(())
        });
    }
    report.finish();
    assert!(ran > 1000, "{ran} runs");
}

/// Costs are counted, not indexed: what 32 bits cannot number is counted all the same.
#[test]
fn costs_beyond_the_address_space() {
    let mut report = Report::default();
    // 2^34 values between the stages.
    report.fine("separable 1 to 64 to 1", || {
        let builder = SeparableConv2d::builder(1, 1).channel_multiplier(64).depthwise_weights(&[0.5; 576]);
        let plan = builder.pointwise_weights(&[0.5; 64]).padding(Padding::symmetric(1, 1)).build()?;
        let cost = plan.cost(Shape::new(1, 1, 1 << 14, 1 << 14))?;
        assert_eq!((cost.parameters, cost.bytes), (640, 2_147_486_208));
        assert_eq!(cost.multiply_adds, 640 << 28);
        Ok(())
    });
    // 2^32 taps, and outputs of 4465 x 4465.
    report.fine("a kernel of 65536 x 65536", || {
        let shape = Shape::new(1, 1, 70_000, 70_000);
        let compared = compare(shape, 1, [65_536; 2], [1, 1], [1, 1], Padding::valid())?;
        assert_eq!(compared.standard.parameters, 1 << 32);
        assert_eq!(compared.standard.multiply_adds, (1 << 32) * 4465 * 4465);
        assert_eq!(compared.separable.parameters, (1 << 32) + 1);
        assert_eq!(compared.separable.bytes, 4 * (70_000 * 70_000 + 4465 * 4465 + (1 << 32) + 1));
        assert_eq!(compared.ratio, 1.0 + 2f64.powi(-32));
        Ok(())
    });
    report.error("more than 64 bits count", &["64 bits"], || {
        compare(Shape::new(usize::MAX, usize::MAX, 3, 3), usize::MAX, [3; 2], [1, 1], [1, 1], Padding::symmetric(1, 1))
    });
    report.finish();
}
