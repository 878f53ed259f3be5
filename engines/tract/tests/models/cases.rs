//! One convolution or two, and what surrounds them.

use depthwise_models::{Conv, Dim, Graph, Random};
use depthwise_tract::Report;

use crate::kit::{check, left};

/// A graph over an image of 8 channels, 9×11 pixels, in a batch of that size.
fn case(batch: usize, what: &str, build: impl FnOnce(&mut Graph, &mut Random, &str) -> Vec<String>) -> Vec<Report> {
    let (mut graph, mut random) = (Graph::new(), Random(11));
    let x = graph.input("input", &["batch".into(), 8.into(), 9.into(), 11.into()]);
    for output in build(&mut graph, &mut random, &x) {
        graph.output(&output);
    }
    check(&graph, &[&[batch, 8, 9, 11]], what)
}

/// All of it runs in that many plans.
fn replaced_by(reports: &[Report], plans: usize) {
    for report in reports {
        assert_eq!(report.replaced.len(), plans, "{report}");
        assert!(left(report).is_empty(), "{report}");
    }
}

type Tail = fn(&mut Graph, &mut Random, &str) -> String;

/// What a convolution to 8 channels absorbs whole.
const ABSORBED: &[(&str, Tail)] = &[
    ("nothing", |_, _, y| y.to_string()),
    ("ReLU", |g, _, y| g.relu(y)),
    ("ReLU6", |g, _, y| g.clip(y, 0.0, 6.0)),
    ("clip", |g, _, y| g.clip(y, -0.5, 0.75)),
    ("hard-swish", |g, _, y| g.hard_swish(y)),
    ("hard-swish in words", |g, _, y| g.hard_swish_in_words(y)),
    ("hard-sigmoid", |g, _, y| g.hard_sigmoid(y)),
    ("x · hard-sigmoid(x)", |g, _, y| {
        let gate = g.hard_sigmoid(y);
        g.node("Mul", &[&gate, y], &[])
    }),
    ("hard-swish divided first", |g, _, y| {
        let (three, sixth) = (g.scalar(3.0), g.scalar(1.0 / 6.0));
        let gate = g.node("Add", &[&three, y], &[]);
        let gate = g.clip(&gate, 0.0, 6.0);
        let gate = g.node("Mul", &[&gate, &sixth], &[]);
        g.node("Mul", &[y, &gate], &[])
    }),
    ("SiLU", |g, _, y| g.silu(y)),
    ("sigmoid", |g, _, y| g.node("Sigmoid", &[y], &[])),
    ("tanh", |g, _, y| g.node("Tanh", &[y], &[])),
    ("leaky ReLU", |g, _, y| g.node("LeakyRelu", &[y], &[("alpha", 0.1.into())])),
    ("batch norm", |g, r, y| g.batch_norm(r, y, 8)),
    ("batch norm, hard-swish", |g, r, y| {
        let y = g.batch_norm(r, y, 8);
        g.hard_swish(&y)
    }),
    ("batch norm, batch norm, ReLU", |g, r, y| {
        let y = g.batch_norm(r, y, 8);
        let y = g.batch_norm(r, &y, 8);
        g.relu(&y)
    }),
    ("ReLU, scaled and shifted", |g, _, y| {
        let (scale, shift) = (g.scalar(0.7), g.scalar(-0.2));
        let y = g.relu(y);
        let y = g.node("Mul", &[&y, &scale], &[]);
        g.node("Add", &[&y, &shift], &[])
    }),
    ("scaled, hard-swish, scaled and shifted", |g, _, y| {
        let [a, b, c, d] = [1.3, 0.1, -0.7, 0.2].map(|value| g.scalar(value));
        let y = g.node("Mul", &[&a, y], &[]);
        let y = g.node("Add", &[&y, &b], &[]);
        let y = g.hard_swish_in_words(&y);
        let y = g.node("Mul", &[&y, &c], &[]);
        g.node("Add", &[&y, &d], &[])
    }),
    ("a constant minus it, ReLU", |g, _, y| {
        let one = g.scalar(1.0);
        let y = g.node("Sub", &[&one, y], &[]);
        g.relu(&y)
    }),
];

/// What it must not absorb, or only in part. The results are right, whatever is absorbed.
const KEPT: &[(&str, Tail)] = &[
    ("ReLU, then a vector", |g, r, y| {
        let values = r.floats(8);
        let vector = g.constant(&[1, 8, 1, 1], &values);
        let y = g.relu(y);
        let y = g.node("Mul", &[&y, &vector], &[]);
        g.relu(&y)
    }),
    ("ReLU, negated, ReLU6", |g, _, y| {
        let minus = g.scalar(-2.0);
        let y = g.relu(y);
        let y = g.node("Mul", &[&y, &minus], &[]);
        g.clip(&y, -1.5, 6.0)
    }),
    ("its square", |g, _, y| g.node("Mul", &[y, y], &[])),
    ("twice", |g, _, y| g.node("Add", &[y, y], &[])),
    ("a gate that is no hard-swish", |g, _, y| {
        let two = g.scalar(2.0);
        let gate = g.node("Add", &[y, &two], &[]);
        let gate = g.clip(&gate, 0.0, 6.0);
        g.node("Mul", &[y, &gate], &[])
    }),
    ("sigmoid of a multiple", |g, _, y| {
        let scale = g.scalar(1.702);
        let gate = g.node("Mul", &[y, &scale], &[]);
        let gate = g.node("Sigmoid", &[&gate], &[]);
        g.node("Mul", &[y, &gate], &[])
    }),
    ("a constant for each pixel", |g, r, y| {
        let values = r.floats(8 * 9 * 11);
        let map = g.constant(&[1, 8, 9, 11], &values);
        g.node("Add", &[y, &map], &[])
    }),
    ("a constant for each column", |g, r, y| {
        let values = r.floats(11);
        let row = g.constant(&[11], &values);
        g.node("Mul", &[y, &row], &[])
    }),
    ("a constant that has more axes", |g, r, y| {
        let values = r.floats(2);
        let two = g.constant(&[2, 1, 1, 1, 1], &values);
        g.node("Mul", &[y, &two], &[])
    }),
    ("squeeze-and-excite", |g, r, y| g.squeeze_excite(r, y, 8)),
    ("its channels one by one, divided by", |g, _, y| {
        let one = g.scalar(1.0);
        let y = g.hard_sigmoid(y);
        let y = g.node("Add", &[&y, &one], &[]);
        g.node("Div", &[&one, &y], &[])
    }),
    ("PReLU", |g, r, y| {
        let values = r.floats(8);
        let slope = g.constant(&[8, 1, 1], &values);
        g.node("PRelu", &[y, &slope], &[])
    }),
    ("softmax over channels", |g, _, y| g.node("Softmax", &[y], &[("axis", 1.into())])),
    ("pooled and resized", |g, _, y| {
        let y = g.node(
            "MaxPool",
            &[y],
            &[("kernel_shape", [2, 2].into()), ("strides", [1, 1].into()), ("pads", [0, 0, 1, 1].into())],
        );
        let scales = g.constant(&[4], &[1.0, 1.0, 2.0, 2.0]);
        g.node(
            "Resize",
            &[&y, "", &scales],
            &[
                ("mode", "nearest".into()),
                ("coordinate_transformation_mode", "asymmetric".into()),
                ("nearest_mode", "floor".into()),
            ],
        )
    }),
    ("mean of all", |g, _, y| g.node("ReduceMean", &[y], &[("axes", [2, 3].into()), ("keepdims", 0.into())])),
    ("transposed", |g, _, y| g.node("Transpose", &[y], &[("perm", [0, 2, 3, 1].into())])),
];

fn convolutions() -> Vec<(&'static str, Conv)> {
    vec![
        ("depthwise", Conv::depthwise(8, 3, 1)),
        ("pointwise", Conv::pointwise(8, 8)),
        ("standard", Conv::new(8, 8, 3, 1)),
        ("depthwise without bias", Conv { bias: false, ..Conv::depthwise(8, 5, 1) }),
    ]
}

#[test]
fn what_follows_is_absorbed() {
    for (tail, build) in ABSORBED {
        for (name, conv) in convolutions() {
            let reports = case(2, &format!("{name}, {tail}"), |g, r, x| {
                let y = conv.add(g, r, x);
                vec![build(g, r, &y)]
            });
            replaced_by(&reports, 1);
        }
    }
}

#[test]
fn what_is_not_absorbed_stays_right() {
    for (tail, build) in KEPT {
        for (batch, (name, conv)) in
            [1, 2].into_iter().flat_map(|batch| convolutions().into_iter().map(move |conv| (batch, conv)))
        {
            let reports = case(batch, &format!("{name}, {tail}"), |g, r, x| {
                let y = conv.add(g, r, x);
                vec![build(g, r, &y)]
            });
            for report in reports {
                assert_eq!(report.left_convolutions().count(), 0, "{report}");
            }
        }
    }
}

#[test]
fn a_depthwise_and_a_pointwise_convolution_are_one_plan() {
    for (tail, build) in ABSORBED {
        let reports = case(1, &format!("separable, {tail}"), |g, r, x| {
            let y = Conv::depthwise(8, 3, 2).add(g, r, x);
            let y = build(g, r, &y);
            let y = Conv::pointwise(8, 8).add(g, r, &y);
            vec![build(g, r, &y)]
        });
        replaced_by(&reports, 1);
        assert!(reports[0].replaced[0].plan.starts_with("SeparableConv2d"), "{}", reports[0]);
    }
}

/// Of depthwise ones alone: tract 0.23.9 itself forgets the sign of the weights where it folds this into a standard convolution.
#[test]
fn a_vector_minus_a_depthwise_convolution_is_absorbed() {
    let reports = case(2, "a vector minus it", |g, r, x| {
        let y = Conv::depthwise(8, 3, 1).add(g, r, x);
        let values = r.floats(8);
        let vector = g.constant(&[1, 8, 1, 1], &values);
        let y = g.node("Sub", &[&vector, &y], &[]);
        vec![g.relu(&y)]
    });
    replaced_by(&reports, 1);
}

#[test]
fn residuals_are_absorbed() {
    for (what, swapped) in [("y + x", false), ("x + y", true)] {
        let reports = case(2, what, |g, r, x| {
            let y = Conv::depthwise(8, 3, 1).add(g, r, x);
            let y = g.clip(&y, 0.0, 6.0);
            let y = Conv::pointwise(8, 8).add(g, r, &y);
            let y = g.batch_norm(r, &y, 8);
            let y = if swapped { g.node("Add", &[x, &y], &[]) } else { g.node("Add", &[&y, x], &[]) };
            vec![g.hard_swish(&y)]
        });
        replaced_by(&reports, 1);
    }
    // Two convolutions into one sum, and a value that is scaled after it.
    let reports = case(1, "two branches", |g, r, x| {
        let a = Conv::depthwise(8, 3, 1).add(g, r, x);
        let b = Conv::new(8, 8, 3, 1).add(g, r, x);
        let b = g.relu(&b);
        let y = g.node("Add", &[&a, &b], &[]);
        let half = g.scalar(0.5);
        vec![g.node("Mul", &[&y, &half], &[])]
    });
    replaced_by(&reports, 2);
    let reports = case(1, "a residual of one pixel", |g, r, x| {
        let mean = g.node("GlobalAveragePool", &[x], &[]);
        let y = Conv::depthwise(8, 3, 1).add(g, r, x);
        let y = g.node("Add", &[&y, &mean], &[]);
        vec![g.relu(&y)]
    });
    assert!(reports.iter().all(|report| report.replaced.len() == 1));
}

#[test]
fn values_that_others_read_stay() {
    let reports = case(1, "a convolution that is an output", |g, r, x| {
        let y = Conv::depthwise(8, 3, 1).add(g, r, x);
        let z = g.relu(&y);
        let z = Conv::pointwise(8, 4).add(g, r, &z);
        vec![y, z]
    });
    assert!(reports.iter().all(|report| report.replaced.len() == 2));
    case(1, "a separable pair whose middle is read", |g, r, x| {
        let y = Conv::depthwise(8, 3, 1).add(g, r, x);
        let y = g.relu(&y);
        let z = Conv::pointwise(8, 8).add(g, r, &y);
        let sum = g.node("Add", &[&y, &z], &[]);
        vec![sum, z]
    });
    case(1, "outputs in several forms", |g, r, x| {
        let y = Conv::new(8, 8, 3, 2).add(g, r, x);
        let relu = g.relu(&y);
        let swish = g.hard_swish_in_words(&y);
        let both = g.node("Concat", &[&relu, &swish], &[("axis", 1.into())]);
        let z = Conv::depthwise(16, 3, 1).add(g, r, &both);
        vec![relu, z, y]
    });
    case(1, "a gate that is an output", |g, r, x| {
        let y = Conv::pointwise(8, 8).add(g, r, x);
        let gate = g.node("Sigmoid", &[&y], &[]);
        let z = g.node("Mul", &[&y, &gate], &[]);
        vec![gate, z]
    });
}

#[test]
fn windows_of_all_kinds() {
    let two = |kernel: [usize; 2], stride: [usize; 2], dilation: [usize; 2], pads: Option<[usize; 4]>| Conv {
        kernel: kernel.into(),
        stride: stride.into(),
        dilation: dilation.into(),
        pads: pads.map(Into::into),
        ..Conv::new(8, 16, 3, 1)
    };
    for window in [
        two([3, 3], [2, 1], [1, 1], Some([1, 1, 1, 1])),
        two([3, 5], [1, 2], [1, 1], Some([0, 2, 1, 2])),
        two([1, 1], [2, 2], [1, 1], Some([0; 4])),
        two([1, 1], [1, 1], [1, 1], Some([1, 0, 0, 2])),
        two([2, 2], [2, 2], [1, 1], Some([0; 4])),
        two([3, 3], [1, 1], [2, 3], Some([2, 3, 2, 3])),
        two([3, 3], [2, 2], [1, 1], None),
        two([1, 7], [1, 1], [1, 1], Some([0, 3, 0, 3])),
        two([9, 11], [1, 1], [1, 1], Some([0; 4])),
    ] {
        for groups in [1, 8] {
            let conv = Conv { groups, ..window.clone() };
            replaced_by(&case(2, &format!("{conv:?}"), |g, r, x| vec![conv.add(g, r, x)]), 1);
        }
        // Groups between stay tract's.
        let conv = Conv { groups: 2, ..window };
        for report in case(2, &format!("{conv:?}"), |g, r, x| vec![conv.add(g, r, x)]) {
            assert_eq!((report.replaced.len(), report.left_convolutions().count()), (0, 1), "{report}");
        }
    }
}

#[test]
fn convolutions_over_one_axis() {
    for groups in [1, 8, 4] {
        for (kernel, stride, dilation, pads) in
            [(3, 1, 1, [1, 1]), (5, 2, 1, [0, 4]), (1, 1, 1, [0, 0]), (3, 1, 4, [8, 0])]
        {
            for batch in [1, 3] {
                let conv = Conv {
                    groups,
                    kernel: vec![kernel],
                    stride: vec![stride],
                    dilation: vec![dilation],
                    pads: Some(pads.into()),
                    ..Conv::new(8, 8, 1, 1)
                };
                let (mut graph, mut random) = (Graph::new(), Random(3));
                let x = graph.input("input", &["batch".into(), 8.into(), "time".into()]);
                let y = conv.add(&mut graph, &mut random, &x);
                let y = graph.batch_norm(&mut random, &y, 8);
                let y = graph.relu(&y);
                graph.output(&y);
                let reports = check(&graph, &[&[batch, 8, 20]], &format!("{conv:?}"));
                // tract makes a matrix product of two axes of a pointwise one whose batch is 1.
                if kernel > 1 {
                    let expected = if groups == 4 { (0, 1) } else { (1, 0) };
                    for report in reports {
                        assert_eq!((report.replaced.len(), report.left_convolutions().count()), expected, "{report}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_no_convolution_of_images_stays() {
    let (mut graph, mut random) = (Graph::new(), Random(3));
    let x = graph.input("input", &[1.into(), 4.into(), 6.into(), 6.into(), 6.into()]);
    let conv = Conv {
        kernel: vec![3; 3],
        stride: vec![1; 3],
        dilation: vec![1; 3],
        pads: Some(vec![1; 6]),
        ..Conv::new(4, 4, 1, 1)
    };
    let y = conv.add(&mut graph, &mut random, &x);
    graph.output(&y);
    for report in check(&graph, &[&[1, 4, 6, 6, 6]], "three axes") {
        assert_eq!(report.replaced.len(), 0);
        assert_eq!(report.left_convolutions().count(), 1);
    }

    for report in case(2, "a transposed convolution between others", |g, r, x| {
        let y = Conv::depthwise(8, 3, 2).add(g, r, x);
        let y = g.relu(&y);
        let up = Conv { pads: Some(vec![0; 4]), ..Conv::new(8, 6, 2, 2) };
        let y = up.add_as("ConvTranspose", g, r, &y);
        let y = g.relu(&y);
        vec![Conv::new(6, 3, 3, 1).add(g, r, &y)]
    }) {
        assert_eq!((report.replaced.len(), report.left_convolutions().count()), (2, 1), "{report}");
    }

    // Weights that come from outside.
    let mut graph = Graph::new();
    let x = graph.input("input", &[1.into(), 4.into(), 6.into(), 6.into()]);
    let w = graph.input("weights", &[5.into(), 4.into(), 3.into(), 3.into()]);
    let y = Conv::new(4, 5, 3, 1).add_with("Conv", &mut graph, &x, &w, None);
    graph.output(&y);
    for report in check(&graph, &[&[1, 4, 6, 6], &[5, 4, 3, 3]], "weights that are an input") {
        assert_eq!((report.replaced.len(), report.left_convolutions().count()), (0, 1), "{report}");
    }

    // Matrix products as transformers have them.
    let mut graph = Graph::new();
    let x = graph.input("input", &["batch".into(), "tokens".into(), 8.into()]);
    let w = graph.constant(&[8, 12], &random.floats(96));
    let y = graph.node("MatMul", &[&x, &w], &[]);
    graph.output(&y);
    for report in check(&graph, &[&[2, 5, 8]], "a matrix product") {
        assert_eq!((report.replaced.len(), report.left_convolutions().count()), (0, 0), "{report}");
    }
}

#[test]
fn dilation_and_padding_in_nodes_of_their_own() {
    case(1, "padded before", |g, r, x| {
        let pads = g.ints(&[0, 0, 1, 1, 0, 0, 1, 2]);
        let x = g.node("Pad", &[x, &pads], &[]);
        let y = Conv { pads: Some(vec![0; 4]), ..Conv::depthwise(8, 3, 2) }.add(g, r, &x);
        vec![g.relu(&y)]
    });
}

#[test]
fn channels_last_between_transpositions() {
    let (mut graph, mut random) = (Graph::new(), Random(3));
    let dims: [Dim; 4] = ["batch".into(), 9.into(), 11.into(), 8.into()];
    let x = graph.input("input", &dims);
    let x = graph.node("Transpose", &[&x], &[("perm", [0, 3, 1, 2].into())]);
    let y = Conv::depthwise(8, 3, 1).add(&mut graph, &mut random, &x);
    let y = graph.clip(&y, 0.0, 6.0);
    let y = Conv::pointwise(8, 12).add(&mut graph, &mut random, &y);
    let y = graph.node("Transpose", &[&y], &[("perm", [0, 2, 3, 1].into())]);
    graph.output(&y);
    for batch in [1, 2] {
        for report in check(&graph, &[&[batch, 9, 11, 8]], "TensorFlow's layout") {
            assert_eq!(report.replaced.len(), 1, "{report}");
        }
    }
}
