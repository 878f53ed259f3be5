//! Bad arguments: each is an `Err` whose message names the numbers that disagree. None may panic.

use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};

use depthwise::{
    Activation, AnyConv2d, Axis, BatchNorm, Choice, Conv2d, DepthwiseConv2d, ElementType, Error, Executor, Isa, Layout,
    Machine, OutputRange, Padding, Parallelism, PointwiseConv2d, Run, SeparableConv2d, Shape, Strides, TensorView,
    TensorViewMut, Workspace, compare,
};

/// Collects what went wrong, so that one run tells of all.
#[derive(Default)]
struct Report(Vec<String>);

impl Report {
    /// `call` must be an error whose message contains each of `says`.
    fn error<T>(&mut self, name: &str, says: &[&str], call: impl FnOnce() -> Result<T, Error>) {
        match catch_unwind(AssertUnwindSafe(|| call().map(drop))) {
            Err(_) => self.0.push(format!("{name}: panicked")),
            Ok(Ok(())) => self.0.push(format!("{name}: no error")),
            Ok(Err(error)) => {
                let message = error.to_string();
                for part in says {
                    if !message.contains(part) {
                        self.0.push(format!("{name}: `{message}` does not mention {part}"));
                    }
                }
            }
        }
    }

    /// `call` must be fine.
    fn fine<T>(&mut self, name: &str, call: impl FnOnce() -> Result<T, Error>) {
        match catch_unwind(AssertUnwindSafe(|| call().map(drop))) {
            Err(_) => self.0.push(format!("{name}: panicked")),
            Ok(Err(error)) => self.0.push(format!("{name}: {error}")),
            Ok(Ok(())) => {}
        }
    }

    fn finish(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];
/// Sixteen of which 32 bits count.
const LARGEST_STRIDE: usize = i32::MAX as usize / 16;

/// Four channels, 3×3 taps, padding 1.
fn depthwise(layout: Layout) -> DepthwiseConv2d {
    DepthwiseConv2d::builder(4).weights(&[0.5; 36]).layout(layout).build().expect("a plain plan")
}

/// Runs `plan` on contiguous tensors of these shapes, each slice as long as its shape asks for.
fn run(plan: &DepthwiseConv2d, input: Shape, output: Shape) -> Result<(), Error> {
    let len = |shape: Shape| shape.len().expect("a small shape");
    let (source, mut target) = (vec![1.0; len(input)], vec![0.0; len(output)]);
    let input = TensorView::new(&source, input, plan.layout())?;
    let output = TensorViewMut::new(&mut target, output, plan.layout())?;
    plan.run(Run::new(input, output, &mut Workspace::new()))
}

#[test]
fn zeros() {
    let mut report = Report::default();
    let weights = [0.5; 36];
    let base = || DepthwiseConv2d::builder(4).weights(&weights);
    report.error("no channels", &["0"], || DepthwiseConv2d::builder(0).weights(&[]).build());
    report.error("kernel of no rows", &["kernel", "0"], || base().kernel_size([0, 3]).build());
    report.error("kernel of no columns", &["kernel", "0"], || base().kernel_size([3, 0]).build());
    report.error("stride 0 down", &["stride", "0"], || base().stride([0, 1]).build());
    report.error("stride 0 across", &["stride", "0"], || base().stride([1, 0]).build());
    report.error("dilation 0 down", &["dilation", "0"], || base().dilation([0, 1]).build());
    report.error("dilation 0 across", &["dilation", "0"], || base().dilation([1, 0]).build());
    report.error("multiplier 0", &["multiplier", "0"], || base().channel_multiplier(0).build());
    report.error("pointwise from nothing", &["0"], || PointwiseConv2d::builder(0, 4).weights(&[]).build());
    report.error("pointwise to nothing", &["0"], || PointwiseConv2d::builder(4, 0).weights(&[]).build());
    report.error("conv2d from nothing", &["0"], || Conv2d::builder(0, 4).weights(&[]).build());
    report.error("conv2d to nothing", &["0"], || Conv2d::builder(4, 0).weights(&[]).build());
    let separable = |inputs, outputs| {
        let builder = SeparableConv2d::builder(inputs, outputs).depthwise_weights(&weights).pointwise_weights(&weights);
        builder.build()
    };
    report.error("separable from nothing", &["0"], || separable(0, 9));
    report.error("separable to nothing", &["0"], || separable(4, 0));
    for layout in LAYOUTS {
        let plan = depthwise(layout);
        report.error("input of no rows", &["height", "0"], || plan.output_shape(Shape::new(1, 4, 0, 5)));
        report.error("input of no columns", &["width", "0"], || plan.output_shape(Shape::new(1, 4, 5, 0)));
        report.error("input of no channels", &["0", "4"], || plan.output_shape(Shape::new(1, 0, 5, 5)));
        let (shape, output) = (Shape::new(1, 4, 0, 5), Shape::new(1, 4, 0, 5));
        report.error("a run without rows", &["height", "0"], || run(&plan, shape, output));
    }
    report.finish();
}

#[test]
fn empty_batch_is_fine() {
    let mut report = Report::default();
    for layout in LAYOUTS {
        let plan = depthwise(layout);
        let none = Shape::new(0, 4, 7, 8);
        report.fine("output_shape", || {
            assert_eq!(plan.output_shape(none)?, none);
            Ok(())
        });
        report.fine("workspace_len", || plan.workspace_len(none, Parallelism::Serial));
        report.fine("parts", || {
            assert_eq!(plan.parts(none, 3)?, [[]]);
            Ok(())
        });
        report.fine("serial", || run(&plan, none, none));
        #[cfg(feature = "rayon")]
        report.fine("rayon", || {
            let output = TensorViewMut::new(&mut [], none, layout)?;
            let input = TensorView::new(&[], none, layout)?;
            plan.run(Run::new(input, output, &mut Workspace::new()).parallelism(Parallelism::Rayon))
        });
        // More than the batch needs stays as it is.
        report.fine("untouched", || {
            let (mut target, strides) = ([7.0; 9], layout.strides(none)?);
            let output = TensorViewMut::strided(&mut target, none, strides)?;
            let input = TensorView::strided(&[1.0; 9], none, strides)?;
            plan.run(Run::new(input, output, &mut Workspace::new()))?;
            assert_eq!(target, [7.0; 9]);
            Ok(())
        });
    }
    report.finish();
}

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

/// A padding that nobody gave keeps the size at stride 1, or is an error.
#[test]
fn default_padding() {
    let mut report = Report::default();
    let few = [0.5; 400];
    macro_rules! each {
        ($kernel:expr, $dilation:expr, $stride:expr, $call:expr) => {
            let taps: usize = $kernel.iter().product();
            let window = ($kernel, $stride, $dilation);
            let name = |of: &str| format!("{of} {window:?}");
            let builder = DepthwiseConv2d::builder(2).weights(&few[..2 * taps]);
            $call(name("depthwise"), &|| {
                builder
                    .clone()
                    .kernel_size($kernel)
                    .stride($stride)
                    .dilation($dilation)
                    .build()?
                    .output_shape(Shape::new(1, 2, 9, 11))
            });
            let builder = Conv2d::builder(2, 3).weights(&few[..6 * taps]);
            $call(name("conv2d"), &|| {
                builder
                    .clone()
                    .kernel_size($kernel)
                    .stride($stride)
                    .dilation($dilation)
                    .build()?
                    .output_shape(Shape::new(1, 2, 9, 11))
            });
            let builder = SeparableConv2d::builder(2, 3)
                .depthwise_weights(&few[..2 * taps])
                .pointwise_weights(&few[..6])
                .bias(&few[..3]);
            $call(name("separable"), &|| {
                builder
                    .clone()
                    .kernel_size($kernel)
                    .stride($stride)
                    .dilation($dilation)
                    .build()?
                    .output_shape(Shape::new(1, 2, 9, 11))
            });
        };
    }
    type Call<'a> = &'a dyn Fn() -> Result<Shape, Error>;
    for (kernel, dilation) in [([3, 3], [1, 1]), ([5, 5], [1, 1]), ([1, 7], [1, 1]), ([3, 5], [4, 3]), ([2, 4], [2, 4])]
    {
        for (stride, extent) in [([1, 1], [9, 11]), ([2, 2], [5, 6]), ([1, 3], [9, 4])] {
            each!(kernel, dilation, stride, |name: String, call: Call<'_>| report.fine(&name, || {
                let shape = call()?;
                assert_eq!([shape.h, shape.w], extent);
                Ok(())
            }));
        }
    }
    for (kernel, dilation, says) in [
        ([2, 3], [1, 1], ["height", "kernel of 2", "dilation 1"]),
        ([3, 4], [2, 3], ["width", "kernel of 4", "dilation 3"]),
        ([6, 6], [5, 5], ["height", "kernel of 6", "dilation 5"]),
    ] {
        each!(kernel, dilation, [1, 1], |name: String, call: Call<'_>| report.error(&name, &says, call));
        each!(kernel, dilation, [1, 1], |name: String, call: Call<'_>| report.error(&name, &[".padding("], call));
    }
    report.fine("an even kernel, told", || {
        let builder =
            DepthwiseConv2d::builder(2).kernel_size([2, 4]).padding(Padding::same_lower()).weights(&few[..16]);
        let shape = Shape::new(1, 2, 9, 11);
        assert_eq!(builder.build()?.output_shape(shape)?, shape);
        Ok(())
    });
    report.finish();
}

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

#[test]
fn parameters() {
    let mut report = Report::default();
    let few = [0.5; 200];
    // XNNPACK#11118: read past the filter.
    report.error("too few weights", &["35", "36"], || DepthwiseConv2d::builder(4).weights(&few[..35]).build());
    report.error("too many weights", &["37", "36"], || DepthwiseConv2d::builder(4).weights(&few[..37]).build());
    report.error("multiplied", &["36", "72"], || {
        DepthwiseConv2d::builder(4).channel_multiplier(2).weights(&few[..36]).build()
    });
    // LiteRT: three filters for two channels.
    report.error("three filters for two channels", &["3", "2"], || {
        DepthwiseConv2d::builder(2).kernel_size([1, 1]).weights(&few[..3]).build()
    });
    report.error("pointwise weights", &["14", "15"], || PointwiseConv2d::builder(3, 5).weights(&few[..14]).build());
    report.error("conv2d weights", &["134", "135"], || Conv2d::builder(3, 5).weights(&few[..134]).build());
    let separable = |depthwise: usize, pointwise: usize| {
        let builder = SeparableConv2d::builder(3, 5).depthwise_weights(&few[..depthwise]);
        builder.pointwise_weights(&few[..pointwise])
    };
    report.error("depthwise weights", &["26", "27"], || separable(26, 15).build());
    report.error("pointwise weights of the pair", &["16", "15"], || separable(27, 16).build());
    report.error("weights for another multiplier", &["15", "30"], || separable(54, 15).channel_multiplier(2).build());
    report.fine("the pair as it should be", || separable(27, 15).build());
    report.error("no weights, depthwise", &["weights"], || DepthwiseConv2d::builder(4).build());
    report.error("no weights, pointwise", &["weights"], || PointwiseConv2d::builder(4, 4).build());
    report.error("no weights, conv2d", &["weights"], || Conv2d::builder(4, 4).build());
    report.error("no weights, separable", &["weights"], || SeparableConv2d::builder(4, 4).build());
    report.error("no pointwise weights", &["pointwise"], || {
        SeparableConv2d::builder(4, 4).depthwise_weights(&few[..36]).build()
    });
    report.error("bias", &["3", "4"], || DepthwiseConv2d::builder(4).weights(&few[..36]).bias(&few[..3]).build());
    report.error("an empty bias", &["0", "4"], || DepthwiseConv2d::builder(4).weights(&few[..36]).bias(&[]).build());
    report.error("depthwise bias", &["4", "3"], || separable(27, 15).depthwise_bias(&few[..4]).build());
    report.error("pointwise bias", &["3", "5"], || separable(27, 15).bias(&few[..3]).build());
    let right = [1.0; 4];
    for wrong in 0..4 {
        let of = |i: usize| if i == wrong { &few[..7] } else { &right[..] };
        let norm = BatchNorm { gamma: of(0), beta: of(1), mean: of(2), variance: of(3), epsilon: 1e-5 };
        let name = ["gamma", "beta", "mean", "variance"][wrong];
        report.error(name, &[name, "7", "4"], || {
            DepthwiseConv2d::builder(4).weights(&few[..36]).batch_norm(norm).build()
        });
    }
    let infinity = f32::INFINITY;
    for (min, max) in [
        (1.0, -1.0),
        (f32::NAN, 1.0),
        (-1.0, f32::NAN),
        (f32::NAN, f32::NAN),
        (infinity, infinity),
        (-infinity, -infinity),
        (infinity, -infinity),
    ] {
        let clamp = Activation::Clamp { min, max };
        let says = [&format!("{min}")[..], &format!("{max}")];
        report.error(&format!("depthwise {clamp:?}"), &says, || {
            DepthwiseConv2d::builder(4).weights(&few[..36]).activation(clamp).build()
        });
        report.error(&format!("pointwise {clamp:?}"), &says, || {
            PointwiseConv2d::builder(3, 5).weights(&few[..15]).activation(clamp).build()
        });
        report.error(&format!("separable, depthwise {clamp:?}"), &says, || {
            separable(27, 15).depthwise_activation(clamp).build()
        });
        report.error(&format!("separable {clamp:?}"), &says, || separable(27, 15).activation(clamp).build());
    }
    for (min, max) in [(-infinity, infinity), (0.5, 0.5), (-0.0, 0.0), (2.0, infinity), (-infinity, -2.0)] {
        let clamp = Activation::Clamp { min, max };
        report.fine(&format!("{clamp:?}"), || {
            PointwiseConv2d::builder(3, 5).weights(&few[..15]).activation(clamp).build()
        });
    }
    for slope in [f32::NAN, infinity, -infinity] {
        let leaky = Activation::LeakyRelu { slope };
        let says = ["slope", &format!("{slope}")[..]];
        report.error(&format!("{leaky:?}"), &says, || {
            PointwiseConv2d::builder(3, 5).weights(&few[..15]).activation(leaky).build()
        });
        report.error(&format!("separable, depthwise {leaky:?}"), &says, || {
            separable(27, 15).depthwise_activation(leaky).build()
        });
    }
    report.finish();
}

/// A batch norm that has no scale, or that folds finite numbers to what is none.
#[test]
fn batch_norms() {
    let mut report = Report::default();
    let [gamma, beta, mean, variance] = [[0.5; 4], [0.25; 4], [-1.0; 4], [2.0; 4]];
    let plain = BatchNorm { gamma: &gamma, beta: &beta, mean: &mean, variance: &variance, epsilon: 1e-3 };
    let with = |array: [f32; 4], x: f32| [array[0], array[1], x, array[3]];
    let weights = [0.5; 36];
    let build = |norm: BatchNorm<'_>| DepthwiseConv2d::builder(4).weights(&weights).batch_norm(norm).build();
    report.fine("plain", || build(plain));
    for epsilon in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e-3, -f32::from_bits(1)] {
        let says = ["epsilon", &format!("{epsilon}")[..]];
        report.error(&format!("epsilon {epsilon}"), &says, || build(BatchNorm { epsilon, ..plain }));
    }
    report.fine("no epsilon", || build(BatchNorm { epsilon: 0.0, ..plain }));
    report.fine("an epsilon of -0", || build(BatchNorm { epsilon: -0.0, ..plain }));
    for (x, epsilon) in [(f32::NAN, 1e-3), (f32::INFINITY, 1e-3), (-1.0, 1e-3), (-1e-3, 1e-3), (0.0, 0.0), (-0.0, 0.0)]
    {
        let variance = with(variance, x);
        let norm = BatchNorm { variance: &variance, epsilon, ..plain };
        let says = ["variance", "channel 2", &format!("{x}")[..], &format!("{epsilon}")];
        report.error(&format!("variance {x}"), &says, || build(norm));
        let (pointwise, square) = ([0.5; 16], [0.5; 144]);
        report.error(&format!("pointwise, variance {x}"), &says, || {
            PointwiseConv2d::builder(4, 4).weights(&pointwise).batch_norm(norm).build()
        });
        report.error(&format!("conv2d, variance {x}"), &says, || {
            Conv2d::builder(4, 4).weights(&square).batch_norm(norm).build()
        });
        let separable = || SeparableConv2d::builder(4, 4).depthwise_weights(&weights).pointwise_weights(&pointwise);
        report.error(&format!("separable, variance {x}"), &says, || separable().batch_norm(norm).build());
        report.error(&format!("separable, depthwise variance {x}"), &says, || {
            separable().depthwise_batch_norm(norm).batch_norm(plain).build()
        });
    }
    report.fine("a variance below 0 by less than epsilon", || {
        let variance = with(variance, -1e-9);
        build(BatchNorm { variance: &variance, ..plain })
    });

    // What finite numbers fold to. A frozen model's dead channel has a variance of 0 and a small epsilon.
    let [large, tiny] = [with(gamma, 1e30), with(variance, 1e-30)];
    let norm = BatchNorm { gamma: &large, variance: &tiny, epsilon: 0.0, ..plain };
    report.error("weights beyond f32", &["the depthwise weights", "channel 2", "5.000e44"], || build(norm));
    let none = [0.0; 36];
    let dead = |norm: BatchNorm<'_>| DepthwiseConv2d::builder(4).weights(&none).batch_norm(norm).build();
    report.error("a bias beyond f32", &["the depthwise bias", "channel 2", "1.000e45"], || dead(norm));
    let shift = with(beta, f32::MAX);
    report.error("a shift beyond f32", &["the depthwise bias", "channel 2"], || {
        let mean = with(mean, -f32::MAX);
        dead(BatchNorm { beta: &shift, mean: &mean, ..plain })
    });
    report.fine("a shift up to f32's end", || dead(BatchNorm { beta: &shift, mean: &[0.0; 4], ..plain }));
    // What is given as NaN or infinite stays so.
    for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let [gamma, beta, mean, bias] = [gamma, beta, mean, [0.5; 4]].map(|array| with(array, x));
        report.fine(&format!("gamma {x}"), || build(BatchNorm { gamma: &gamma, ..plain }));
        report.fine(&format!("beta {x}"), || build(BatchNorm { beta: &beta, ..plain }));
        report.fine(&format!("mean {x}"), || build(BatchNorm { mean: &mean, ..plain }));
        let build = |norm: Option<BatchNorm<'_>>| {
            let mut weights = weights;
            weights[18] = x;
            let builder = DepthwiseConv2d::builder(4).weights(&weights).bias(&bias);
            norm.into_iter().fold(builder, |builder, norm| builder.batch_norm(norm)).build()
        };
        report.fine(&format!("weight and bias {x}"), || build(None));
        report.fine(&format!("weight and bias {x}, normalised"), || build(Some(plain)));
    }
    report.finish();
}

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

#[test]
fn shapes_of_a_run() {
    let mut report = Report::default();
    let right = Shape::new(2, 4, 6, 5);
    for layout in LAYOUTS {
        let plan = depthwise(layout);
        report.fine("all right", || run(&plan, right, right));
        report.error("channels", &["5", "4"], || run(&plan, Shape { c: 5, ..right }, right));
        for (name, wrong) in [
            ("batch", Shape { n: 3, ..right }),
            ("channels", Shape { c: 3, ..right }),
            ("height", Shape { h: 7, ..right }),
            ("width", Shape { w: 4, ..right }),
            ("nothing", Shape { n: 0, ..right }),
        ] {
            let says = [format!("{wrong}"), format!("{right}")];
            report.error(&format!("output, {name}"), &[&says[0], &says[1]], || run(&plan, right, wrong));
            let with_residual = |residual: Shape| {
                let data = vec![1.0; 400];
                let mut target = vec![0.0; 240];
                let output = TensorViewMut::new(&mut target, right, layout)?;
                let input = TensorView::new(&data[..240], right, layout)?;
                let residual = TensorView::new(&data[..residual.len().expect("small")], residual, layout)?;
                plan.run(Run::new(input, output, &mut Workspace::new()).residual(residual))
            };
            report.fine("the right residual", || with_residual(right));
            report.error(&format!("residual, {name}"), &[&says[0], &says[1]], || with_residual(wrong));
        }

        // Each of the three tensors with gaps along the axis of the vectors.
        let [dense, gaps] = [1, 2].map(|step| {
            let mut strides = layout.strides(right).expect("small");
            strides = Strides { n: 2 * strides.n, c: 2 * strides.c, h: 2 * strides.h, w: 2 * strides.w };
            match layout {
                Layout::Nchw => strides.w = step,
                Layout::Nhwc => strides.c = step,
            }
            strides
        });
        for wrong in ["nothing", "input", "residual", "output"] {
            let strides = |what| if what == wrong { gaps } else { dense };
            let call = || {
                let data = vec![1.0; 600];
                let mut target = vec![0.0; 600];
                let output = TensorViewMut::strided(&mut target, right, strides("output"))?;
                let input = TensorView::strided(&data, right, strides("input"))?;
                let residual = TensorView::strided(&data, right, strides("residual"))?;
                plan.run(Run::new(input, output, &mut Workspace::new()).residual(residual))
            };
            match wrong {
                "nothing" => report.fine("dense along the vectors", call),
                _ => report.error(&format!("gaps in the {wrong}"), &[wrong, layout.name(), "1", "2"], call),
            }
        }

        // A part of the output.
        let range = |range: OutputRange, output: Shape| {
            let data = vec![1.0; 240];
            let mut target = vec![0.0; output.len().expect("small")];
            let output = TensorViewMut::new(&mut target, output, layout)?;
            let input = TensorView::new(&data, right, layout)?;
            plan.run(Run::new(input, output, &mut Workspace::new()).range(range))
        };
        let all = || OutputRange::all(right);
        report.fine("all rows", || range(all(), right));
        report.fine("two rows", || range(OutputRange { h: 1..3, ..all() }, Shape { h: 2, ..right }));
        report.error("rows beyond", &["7", "6"], || range(OutputRange { h: 5..7, ..all() }, Shape { h: 2, ..right }));
        report
            .error("channels beyond", &["5", "4"], || range(OutputRange { c: 4..5, ..all() }, Shape { c: 1, ..right }));
        report.fine("two columns", || range(OutputRange { w: 1..3, ..all() }, Shape { w: 2, ..right }));
        report
            .error("columns beyond", &["6", "5"], || range(OutputRange { w: 4..6, ..all() }, Shape { w: 2, ..right }));
        report.error("images beyond", &["3", "2"], || range(OutputRange { n: 0..3, ..all() }, Shape { n: 3, ..right }));
        report.error("all numbers", &["6"], || range(OutputRange { h: 0..usize::MAX, ..all() }, right));
        #[allow(clippy::reversed_empty_ranges, reason = "what is tested")]
        report.error("backwards", &["4", "2"], || range(OutputRange { h: 4..2, ..all() }, Shape { h: 0, ..right }));
        report
            .error("an output of another shape than the range", &[], || range(OutputRange { h: 1..3, ..all() }, right));
    }
    report.finish();
}

/// A choice is good for the plans that were built alike, for its shape, and for as many threads.
#[test]
fn choices_of_another_run() {
    let mut report = Report::default();
    let (right, serial) = (Shape::new(2, 4, 6, 5), Parallelism::Serial);
    let call = |plan: &DepthwiseConv2d, shape: Shape, parallelism: Parallelism, choice: &Choice| {
        let data = vec![1.0; shape.len().expect("small")];
        let mut target = data.clone();
        let input = TensorView::new(&data, shape, plan.layout())?;
        let output = TensorViewMut::new(&mut target, shape, plan.layout())?;
        let mut workspace = Workspace::new();
        plan.run(Run::new(input, output, &mut workspace).parallelism(parallelism).choice(choice))
    };
    for layout in LAYOUTS {
        let plan = depthwise(layout);
        let choice = plan.prepare(right, serial).expect("a choice");
        report.fine("all right", || call(&plan, right, serial, &choice));
        report.fine("of a plan that was built alike", || call(&depthwise(layout), right, serial, &choice));
        let wider = Shape { w: 7, ..right };
        report.error("of another shape", &[&right.to_string(), &wider.to_string(), "prepare"], || {
            call(&plan, wider, serial, &choice)
        });
        let strided = DepthwiseConv2d::builder(4).weights(&[1.0; 36]).layout(layout).stride([1, 2]).build();
        let strided = strided.expect("a plan").prepare(right, serial).expect("a choice");
        report.error("of another stride", &["stride: [1, 2]", "stride: [1, 1]", "prepare"], || {
            call(&plan, right, serial, &strided)
        });
        let other = if layout == Layout::Nchw { Layout::Nhwc } else { Layout::Nchw };
        let other = depthwise(other).prepare(right, serial).expect("a choice");
        report.error("of the other layout", &["Nchw", "Nhwc"], || call(&plan, right, serial, &other));
        report.error("for a shape with another number of channels", &["5", "4"], || {
            plan.prepare(Shape { c: 5, ..right }, serial)
        });

        #[cfg(feature = "rayon")]
        {
            let large = Shape::new(8, 4, 200, 200);
            let [two, three] =
                [2, 3].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool"));
            let choice = two.install(|| plan.prepare(large, Parallelism::Rayon)).expect("a choice");
            assert_eq!(choice.describe().tasks, 2, "{choice}");
            report.fine("as many threads", || two.install(|| call(&plan, large, Parallelism::Rayon, &choice)));
            report.error("more threads", &["2 threads", "3 threads", "prepare"], || {
                three.install(|| call(&plan, large, Parallelism::Rayon, &choice))
            });
            report.error("one thread", &["2 threads", "1 thread", "prepare"], || call(&plan, large, serial, &choice));
            // Work that is too small to be shared, whoever would.
            let small = two.install(|| plan.prepare(right, Parallelism::Rayon)).expect("a choice");
            report.fine("small work", || three.install(|| call(&plan, right, Parallelism::Rayon, &small)));
        }
    }
    report.finish();
}

/// Executors that leave out tasks.
#[test]
#[cfg_attr(miri, ignore = "so much work is not interpreted, and less is not shared")]
fn executors() {
    struct Lazy(usize);
    impl Executor for Lazy {
        fn threads(&self) -> usize {
            3
        }

        fn execute(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
            (0..tasks).take(self.0).for_each(task);
        }
    }
    let mut report = Report::default();
    for layout in LAYOUTS {
        let (plan, shape) = (depthwise(layout), Shape::new(8, 4, 200, 200));
        let x = vec![1.0; shape.len().expect("it fits in memory")];
        let input = TensorView::new(&x, shape, layout).expect("a view");
        let run =
            |executor: &Lazy| plan.run_to_vec(input, None, &mut Workspace::new(), Parallelism::Executor(executor));
        report.fine("all tasks", || run(&Lazy(3)));
        report.error("no task", &["3 tasks", "ended 0", "execute"], || run(&Lazy(0)));
        report.error("not all tasks", &["3 tasks", "ended 2", "execute"], || run(&Lazy(2)));
        report.error("a choice for an executor", &["3 threads", "1 thread", "prepare"], || {
            let choice = plan.prepare(shape, Parallelism::Executor(&Lazy(3)))?;
            let mut target = x.clone();
            let output = TensorViewMut::new(&mut target, shape, layout)?;
            plan.run(Run::new(input, output, &mut Workspace::new()).choice(&choice))
        });
    }
    report.finish();
}

/// Groups that no plan has, and weights for other groups.
#[test]
fn groups() {
    let mut report = Report::default();
    for layout in LAYOUTS {
        let any = |inputs, outputs, groups, weights: usize| {
            AnyConv2d::builder(inputs, outputs, groups).layout(layout).weights(&vec![0.5; weights]).build()
        };
        report.fine("one group", || any(8, 6, 1, 432));
        report.fine("a group for each input", || any(8, 16, 8, 144));
        report.error("some groups", &["groups 4", "8 inputs", "16 outputs"], || any(8, 16, 4, 288));
        report.error("groups that do not divide", &["8 input", "12 output", "8 groups"], || any(8, 12, 8, 108));
        report.error("more groups than inputs", &["4 input", "8 output", "8 groups"], || any(4, 8, 8, 72));
        report.error("no group", &["groups", "0"], || any(4, 8, 0, 72));
        report.error("too few weights", &["143", "144", "16 output channels of 1 x 3 x 3"], || any(8, 16, 8, 143));
        report.error("too many weights", &["433", "432", "6 output channels of 8 x 3 x 3"], || any(8, 6, 1, 433));
    }
    report.finish();
}

#[test]
fn names() {
    let mut report = Report::default();
    report
        .error("an unknown instruction set", &["sse9", "portable", "avx2", "avx512", "neon"], || "sse9".parse::<Isa>());
    let unknown = "sse9".parse::<Isa>().expect_err("no such instruction set");
    assert_eq!(unknown, Error::UnknownIsa { name: "sse9".into(), from_environment: false });
    assert!(!unknown.to_string().contains("DEPTHWISE_ISA"), "{unknown}");
    report.error("an empty instruction set", &["avx2"], || "".parse::<Isa>());
    report.error("an unknown layout", &["chwn", "nchw", "nhwc"], || "chwn".parse::<Layout>());
    let plain = || DepthwiseConv2d::builder(4).weights(&[0.5; 36]);
    for name in ["portable", "avx2", "avx512", "neon"] {
        let build = || plain().isa(name.parse()?).build();
        match name.parse::<Isa>().expect(name) {
            isa if isa.is_available() => report.fine(name, build),
            // It must say what there is instead, and that it was not the environment that asked.
            isa => {
                report.error(name, &[name, "in the program", "portable"], build);
                assert_eq!(build().unwrap_err(), Error::UnavailableIsa { isa, from_environment: false });
            }
        }
        assert_eq!(name.parse::<Isa>().expect(name).to_string(), name);
    }
    assert!(Isa::detect().is_available());
    assert!(Isa::all().contains(&Isa::detect()));

    report.error("an unknown kernel", &["dw_f64"], || plain().kernel("dw_f64").build());
    for kernel in depthwise::kernels() {
        let build = |layout, isa| plain().layout(layout).isa(isa).kernel(kernel.name).build();
        if !kernel.isa.is_available() {
            report.error("a kernel that this CPU cannot run", &[], || build(kernel.layout, kernel.isa));
            continue;
        }
        let other = if kernel.layout == Layout::Nchw { Layout::Nhwc } else { Layout::Nchw };
        report.error("a kernel of the other layout", &[kernel.name], || build(other, kernel.isa));
        if kernel.isa != Isa::Portable {
            report.error("of another instruction set", &[kernel.name], || build(kernel.layout, Isa::Portable));
        }
        if kernel.operation != depthwise::Operation::Depthwise {
            report.error("of another operation", &[kernel.name], || build(kernel.layout, kernel.isa));
        } else if kernel.kernel_size.is_some_and(|size| size != [3, 3]) || kernel.stride.is_some_and(|s| s != [1, 1]) {
            report.error("of other taps", &[kernel.name], || build(kernel.layout, kernel.isa));
        } else if kernel.element != ElementType::F32 {
            report.error("of other elements", &[kernel.name, "f32"], || build(kernel.layout, kernel.isa));
        } else {
            report.fine("a kernel that fits", || build(kernel.layout, kernel.isa));
        }
    }
    report.finish();
}

/// A plan can be built again from the description of a choice, whichever instruction sets its kernels are of.
#[test]
fn what_a_choice_describes_can_be_asked_for() {
    for &machine in Machine::all() {
        for (channels, kernel) in [8, 16, 24, 33, 40].into_iter().flat_map(|channels| [(channels, 3), (channels, 5)]) {
            let (depthwise, pointwise) = (vec![0.5; channels * kernel * kernel], vec![0.5; channels * channels]);
            let builder = || {
                let builder = SeparableConv2d::builder(channels, channels).layout(Layout::Nhwc);
                let builder = builder.machine(machine).kernel_size([kernel; 2]);
                builder.depthwise_weights(&depthwise).pointwise_weights(&pointwise)
            };
            let shape = Shape::new(1, channels, 20, 20);
            let describe =
                |plan: SeparableConv2d| plan.prepare(shape, Parallelism::Serial).expect("a choice").describe();
            let first = describe(builder().build().expect("a plan"));
            let names = [first.depthwise, first.pointwise].map(|name| name.expect("a kernel"));
            let again = builder().isa(first.isa).kernel(names[0]).kernel(names[1]).build().expect("the same plan");
            assert_eq!(describe(again), first, "{machine}, {channels} channels, {kernel}x{kernel}");
        }
    }
}

/// Names are told apart by their letters, not by their case, and nothing is trimmed.
#[test]
fn names_in_any_case() {
    for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Neon] {
        let name = isa.name();
        let capital = name[..1].to_uppercase() + &name[1..];
        for name in [name, &name.to_uppercase(), &capital] {
            assert_eq!(name.parse(), Ok(isa), "{name}");
        }
    }
    for (name, layout) in [("nchw", Layout::Nchw), ("NHWC", Layout::Nhwc), ("Nhwc", Layout::Nhwc)] {
        assert_eq!(name.parse(), Ok(layout), "{name}");
    }
    // The message quotes what was written.
    for (name, error) in [
        ("AVX3", "AVX3".parse::<Isa>().map(drop)),
        ("AVX2 ", "AVX2 ".parse::<Isa>().map(drop)),
        ("NHCW", "NHCW".parse::<Layout>().map(drop)),
    ] {
        let message = error.expect_err(name).to_string();
        assert!(message.contains(&format!("`{name}`")), "{message}");
    }
}

/// What debug output shows of builders, plans and views: shapes and names, not each weight, which for a layer fill a screen.
#[test]
fn debug_output() {
    let (depthwise, pointwise, values) = ([0.5; 900], [0.25; 10_000], [0.125; 100]);
    let norm = BatchNorm { gamma: &values, beta: &values, mean: &values, variance: &values, epsilon: 1e-3 };
    let mut texts = vec![];
    macro_rules! texts {
        ($builder:expr) => {
            let builder = $builder.bias(&values).batch_norm(norm);
            let plan = builder.build().expect("a plan");
            texts.extend([(format!("{builder:?}"), vec!["[f32; 100]"]), (format!("{plan:?}"), vec![])]);
            let plan = format!("{plan:?}");
            assert!(plan.contains("packed_for: "), "{plan} does not say for which kernels");
        };
    }
    texts!(DepthwiseConv2d::builder(100).weights(&depthwise).stride([2, 1]));
    texts!(PointwiseConv2d::builder(100, 100).weights(&pointwise));
    texts!(Conv2d::builder(100, 100).kernel_size([1, 1]).weights(&pointwise));
    texts!(SeparableConv2d::builder(100, 100).depthwise_weights(&depthwise).pointwise_weights(&pointwise));
    texts[1].1.extend(["DepthwiseConv2d {", "kernel_size: [3, 3]", "stride: [2, 1]", "padding: Explicit"]);
    texts[2].1.extend(["[f32; 10000]", "PointwiseConv2dBuilder"]);
    texts[7].1.extend(["SeparableConv2d {", "multiplier: 1", "isa: ", "layout: Nchw", "fusion: Auto"]);
    let view = TensorView::new(&depthwise, Shape::new(1, 100, 3, 3), Layout::Nchw).expect("a view");
    texts.push((format!("{view:?}"), vec!["TensorView {", "c: 100", "h: 3", "n: 900"]));
    for (text, parts) in texts {
        assert!(text.len() < 1000, "{} characters: {text}", text.len());
        assert!(!text.contains("0.5,") && !text.contains("0.25") && !text.contains("Phantom"), "{text}");
        for part in parts.into_iter().chain(["100"]) {
            assert!(text.contains(part), "{text} does not mention {part}");
        }
    }
}

/// The name of the plan's instruction set, or the error: what [`environment`] sees of another process.
#[cfg(feature = "std")]
#[test]
#[ignore = "run by `environment`, with DEPTHWISE_ISA set"]
fn child() {
    match DepthwiseConv2d::builder(4).weights(&[0.5; 36]).build() {
        Ok(plan) => println!("<built for {}>", plan.isa()),
        Err(error) => println!("<{error}>"),
    }
    let chosen = DepthwiseConv2d::builder(4).weights(&[0.5; 36]).isa(Isa::Portable).build();
    println!("<chosen: {:?}>", chosen.map(|plan| plan.isa().name()));
}

#[cfg(feature = "std")]
#[test]
#[cfg_attr(target_family = "wasm", ignore = "WASI has no processes")]
fn environment() {
    let run = |value: Option<&str>| {
        let mut command = depthwise_testkit::emulation::this_program();
        command.args(["--exact", "child", "--ignored", "--nocapture"]);
        command.env_remove("DEPTHWISE_ISA").env_remove("DEPTHWISE_MACHINE");
        let output = command.envs(value.map(|value| ("DEPTHWISE_ISA", value))).output().expect("a child");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{value:?}: {text}");
        text
    };
    let expect = |value: Option<&str>, says: &[&str]| {
        let text = run(value);
        for part in says {
            assert!(text.contains(part), "DEPTHWISE_ISA={value:?}: {text}\ndoes not mention {part}");
        }
    };
    expect(None, &[&format!("<built for {}>", Isa::detect())]);
    for name in ["portable", "avx2", "avx512", "neon"] {
        let isa = name.parse::<Isa>().expect(name);
        if isa.is_available() {
            expect(Some(name), &[&format!("<built for {name}>")]);
        } else {
            expect(Some(name), &["<the instruction set", name, "environment variable DEPTHWISE_ISA", "portable"]);
        }
    }
    let machine = |value: &str| {
        let mut command = depthwise_testkit::emulation::this_program();
        command.args(["--exact", "child", "--ignored", "--nocapture"]);
        command.env_remove("DEPTHWISE_ISA").env_remove("DEPTHWISE_MACHINE");
        let output = command.env("DEPTHWISE_MACHINE", value).output().expect("a child");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for &known in Machine::all() {
        let text = machine(known.name());
        assert!(text.contains(&format!("<built for {}>", Isa::detect())), "{known}: {text}");
        assert_eq!(Machine::named(&known.name().to_uppercase()), Ok(known));
    }
    let text = machine("zen99");
    for part in ["<there is no machine `zen99` (from the environment variable DEPTHWISE_MACHINE)", "zen4", "generic"] {
        assert!(text.contains(part), "{text}\ndoes not mention {part}");
    }
    // Never a silent fallback.
    expect(Some("sse9"), &["sse9", "environment variable DEPTHWISE_ISA", "portable, avx2, avx512, avx512vnni or neon"]);
    assert!(!run(Some("sse9")).contains("<built"));
    assert!(!run(Some("AVX2 ")).contains("<built"));
}

/// Runs with `Parallelism::Rayon` in a process that cannot start threads: what [`no_threads`] sees of another process.
#[cfg(feature = "rayon")]
#[test]
#[ignore = "run by `no_threads`, where none can be started"]
fn child_without_threads() {
    println!("<threads start: {}>", std::thread::Builder::new().spawn(|| ()).is_ok());
    // Never split, and worth more than two threads.
    for side in [3, 300] {
        let shape = Shape::new(1, 4, side, side);
        let input: Vec<f32> = (0..4 * side * side).map(|i| i as f32).collect();
        let plan = depthwise(Layout::Nchw);
        let run = |parallelism| {
            let mut output = vec![0.0; input.len()];
            let view = TensorViewMut::new(&mut output, shape, Layout::Nchw)?;
            let input = TensorView::new(&input, shape, Layout::Nchw)?;
            plan.run(Run::new(input, view, &mut Workspace::new()).parallelism(parallelism)).map(|()| output)
        };
        let [serial, rayon] = [Parallelism::Serial, Parallelism::Rayon].map(run);
        println!("<{side}: {}>", if serial.is_ok() && serial == rayon { "the same" } else { "not the same" });
    }
}

/// Where `rayon` cannot start its threads, the calling thread does the work.
#[cfg(feature = "rayon")]
#[test]
#[cfg_attr(not(unix), ignore = "elsewhere a thread with a large stack may start")]
fn no_threads() {
    let mut command = depthwise_testkit::emulation::this_program();
    command.args(["--exact", "child_without_threads", "--ignored", "--nocapture", "--test-threads=1"]);
    // A stack for each thread that no address space has room for.
    let stack = if usize::BITS == 32 { 15u64 << 28 } else { 1 << 56 };
    let output = command.env("RUST_MIN_STACK", stack.to_string()).output().expect("a child");
    let [text, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    for expected in ["<threads start: false>", "<3: the same>", "<300: the same>"] {
        assert!(text.contains(expected), "{expected} is missing in: {text}\n{errors}");
    }
}
