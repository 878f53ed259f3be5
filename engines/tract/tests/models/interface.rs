//! Names, threads, shapes that change, the log.

use std::sync::Mutex;

use depthwise_models::{Conv, Graph, Random, mobilenet_v3_like};
use depthwise_tract::DepthwiseTransform;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::tract_linalg::multithread::Executor;
use tract_onnx::tract_core::transform::get_transform;

use crate::kit::{assert_close, floats, inputs, load, run};

#[test]
fn the_bits_do_not_depend_on_threads() {
    let file = mobilenet_v3_like([1, 3, 224, 224]).to_bytes();
    let inputs = inputs(&[vec![1, 3, 224, 224]]);
    let outputs: Vec<_> =
        [Executor::SingleThread, Executor::multithread(2), Executor::multithread(3), Executor::RayonGlobal]
            .into_iter()
            .map(|executor| {
                let options = RunOptions { executor: Some(executor), ..RunOptions::default() };
                let runtime = runtime_for_name("depthwise").unwrap().unwrap();
                let runnable = runtime.prepare_with_options(load(&file, false), &options).unwrap();
                floats(&runnable.run(inputs.clone()).unwrap()[0])
            })
            .collect();
    assert!(outputs.iter().all(|output| *output == outputs[0]));
}

/// A plan within tract's pool takes the thread's workspace; so does another that runs on this thread while it waits.
#[test]
fn several_runs_share_a_pool() {
    let file = mobilenet_v3_like([1, 3, 160, 160]).to_bytes();
    let inputs = inputs(&[vec![1, 3, 160, 160]]);
    let executor = Executor::multithread(2);
    let options = RunOptions { executor: Some(executor), ..RunOptions::default() };
    let runtime = runtime_for_name("depthwise").unwrap().unwrap();
    let runnable = runtime.prepare_with_options(load(&file, false), &options).unwrap();
    let expected = floats(&runnable.run(inputs.clone()).unwrap()[0]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    assert_eq!(floats(&runnable.run(inputs.clone()).unwrap()[0]), expected);
                }
            });
        }
    });
}

#[test]
fn one_runnable_takes_images_of_several_sizes() {
    let file =
        mobilenet_v3_like(["batch".into(), 3.into(), "height".into(), "width".into()] as [depthwise_models::Dim; 4])
            .to_bytes();
    let model = load(&file, false);
    let runnable = runtime_for_name("depthwise").unwrap().unwrap().prepare(model.clone()).unwrap();
    for shape in [vec![1, 3, 64, 64], vec![2, 3, 40, 100], vec![1, 3, 33, 65]] {
        let inputs = inputs(std::slice::from_ref(&shape));
        assert_close(&run("cpu", &model, &inputs), &runnable.run(inputs.clone()).unwrap(), &format!("{shape:?}"));
    }
}

#[test]
fn what_is_no_f32_stays_as_it_is() {
    let (mut graph, mut random) = (Graph::new(), Random(1));
    let x = graph.input("input", &[1.into(), 4.into(), 8.into(), 8.into()]);
    let y = Conv::new(4, 6, 3, 1).add(&mut graph, &mut random, &x);
    graph.output(&y);
    let mut model = load(&graph.to_bytes(), false);
    get_transform("f32_to_f16").unwrap().expect("tract's").transform(&mut model).unwrap();
    let report = DepthwiseTransform.transform_and_report(&mut model).unwrap();
    assert!(report.replaced.is_empty());
    let why: Vec<_> = report.left_convolutions().filter_map(|left| left.why.clone()).collect();
    assert_eq!(why, ["its elements are F16, and only F32 is computed"]);
}

struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl log::Log for Lines {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.target().starts_with("depthwise_tract") && metadata.level() == log::Level::Debug
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[test]
fn the_log_names_what_is_left_to_tract() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    let (mut graph, mut random) = (Graph::new(), Random(1));
    let x = graph.input("input", &[1.into(), 6.into(), 8.into(), 8.into()]);
    let y = Conv { groups: 3, ..Conv::new(6, 12, 3, 1) }.add(&mut graph, &mut random, &x);
    let z = graph.node("Sin", &[&y], &[]);
    graph.output(&z);
    let mut model = load(&graph.to_bytes(), false);
    model.transform(&DepthwiseTransform).unwrap();
    let lines = LINES.0.lock().unwrap();
    let grouped = "groups 3 of 6 inputs and 12 outputs: a plan computes 1 group, or as many as there are";
    assert!(lines.iter().any(|line| line.contains(&y) && line.contains(grouped)), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains(&z) && line.contains("Sin")), "{lines:#?}");
}
