//! Runs: shapes that disagree, choices of other runs, and threads that do not do their work.

use depthwise::{
    Choice, DepthwiseConv2d, Executor, Layout, OutputRange, Parallelism, Run, Shape, Strides, TensorView,
    TensorViewMut, Workspace,
};

use super::{LAYOUTS, Report, depthwise, run};

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
    command.args(["--exact", "runs::child_without_threads", "--ignored", "--nocapture", "--test-threads=1"]);
    // A stack for each thread that no address space has room for.
    let stack = if usize::BITS == 32 { 15u64 << 28 } else { 1 << 56 };
    let output = command.env("RUST_MIN_STACK", stack.to_string()).output().expect("a child");
    let [text, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    for expected in ["<threads start: false>", "<3: the same>", "<300: the same>"] {
        assert!(text.contains(expected), "{expected} is missing in: {text}\n{errors}");
    }
}
