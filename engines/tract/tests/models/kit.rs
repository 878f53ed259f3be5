//! Runs a model by tract alone and with depthwise, and compares what comes out.

use depthwise_models::{Graph, Random};
use depthwise_tract::{DepthwiseTransform, Report};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{DimFact, Factoid, InferenceFact, ShapeFactoid};

/// The typed model of a file, as it is loaded or decluttered. Extents that the file gives neither number nor name get a name.
pub fn load(file: &[u8], declutter: bool) -> TypedModel {
    let mut model = tract_onnx::onnx().model_for_read(&mut &file[..]).expect("tract reads the file");
    for k in 0..model.inputs.len() {
        let fact = model.input_fact(k).expect("an input").clone();
        let dims = fact.shape.dims().map(|dim| match dim.concretize() {
            Some(dim) => DimFact::Only(dim),
            None => DimFact::Only(model.symbols.new_with_prefix("extent").into()),
        });
        let shape = ShapeFactoid::closed(dims.collect());
        model.set_input_fact(k, InferenceFact { shape, ..fact.clone() }).expect("an input");
    }
    let model = model.into_typed().expect("tract infers its shapes");
    if declutter { model.into_decluttered().expect("tract declutters it") } else { model }
}

/// As `load`, with inputs of those shapes.
pub fn load_with(file: &[u8], shapes: &[Vec<usize>], declutter: bool) -> TypedModel {
    let mut model = tract_onnx::onnx().model_for_read(&mut &file[..]).expect("tract reads the file");
    for (k, shape) in shapes.iter().enumerate() {
        model.set_input_fact(k, f32::fact(shape.iter().copied()).into()).expect("an input");
    }
    let model = model.into_typed().expect("tract infers its shapes");
    if declutter { model.into_decluttered().expect("tract declutters it") } else { model }
}

pub fn inputs(shapes: &[Vec<usize>]) -> TVec<TValue> {
    let mut random = Random(7);
    let tensor = |shape: &Vec<usize>| {
        Tensor::from_shape(shape, &random.floats(shape.iter().product())).expect("a tensor").into()
    };
    shapes.iter().map(tensor).collect()
}

pub fn run(runtime: &str, model: &TypedModel, inputs: &TVec<TValue>) -> TVec<TValue> {
    let runtime = runtime_for_name(runtime).expect("a runtime").expect("it is linked");
    let runnable = runtime.prepare(model.clone()).unwrap_or_else(|error| panic!("{error:?}"));
    runnable.run(inputs.clone()).unwrap_or_else(|error| panic!("{error:?}"))
}

pub fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.try_as_plain_ram().expect("plain").as_slice::<f32>().expect("f32").to_vec()
}

/// Fails if outputs differ by more than 1e-4 of the largest.
pub fn assert_close(expected: &TVec<TValue>, found: &TVec<TValue>, what: &str) {
    assert_eq!(expected.len(), found.len(), "{what}");
    for (expected, found) in expected.iter().zip(found) {
        assert_eq!(expected.shape(), found.shape(), "{what}");
        let (expected, found) = (floats(expected), floats(found));
        let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        assert!(largest.is_finite(), "{what}: the largest output is {largest}");
        // Where all is cut to 0, there is nothing to be relative to.
        let largest = largest.max(1e-2);
        for (i, (expected, found)) in expected.iter().zip(&found).enumerate() {
            assert!((expected - found).abs() <= 1e-4 * largest, "{what}, output {i}: {found} instead of {expected}");
        }
    }
}

/// Compares a graph in all forms: as loaded and decluttered, with the shapes as they are in the file and as they are in the inputs.
/// Gives what became of its nodes in each.
pub fn check_file(file: &[u8], shapes: &[Vec<usize>], what: &str) -> Vec<Report> {
    check_forms(file, shapes, &[(false, false), (false, true), (true, false), (true, true)], what)
}

/// As `check_file`, in these forms: whether shapes are those of the inputs, and whether the model is decluttered.
pub fn check_forms(file: &[u8], shapes: &[Vec<usize>], forms: &[(bool, bool)], what: &str) -> Vec<Report> {
    let inputs = inputs(shapes);
    let expected = run("cpu", &load_with(file, shapes, false), &inputs);
    let mut reports = Vec::new();
    for &(fixed, declutter) in forms {
        let mut model = if fixed { load_with(file, shapes, declutter) } else { load(file, declutter) };
        let what = format!(
            "{what}, {} shapes, {}",
            if fixed { "fixed" } else { "the file's" },
            if declutter { "decluttered" } else { "as loaded" }
        );
        assert_close(&expected, &run("depthwise", &model, &inputs), &what);
        let report = DepthwiseTransform.transform_and_report(&mut model).expect("a consistent model");
        println!("{what}\n{report}");
        reports.push(report);
    }
    reports
}

pub fn check(graph: &Graph, shapes: &[&[usize]], what: &str) -> Vec<Report> {
    let shapes: Vec<_> = shapes.iter().map(|shape| shape.to_vec()).collect();
    check_file(&graph.to_bytes(), &shapes, what)
}

/// The nodes that stay tract's, without those that only reshape.
pub fn left(report: &Report) -> Vec<&str> {
    let shapes = ["Cast", "Const", "Downsample", "MultiBroadcastTo"];
    report.left.iter().map(|left| &*left.op).filter(|op| !shapes.contains(op)).collect()
}
