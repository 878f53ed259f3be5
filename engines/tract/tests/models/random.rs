//! Random graphs: whatever they are, tract's results come out.

use depthwise_models::{Conv, Dim, Graph, Random};

use crate::kit::check;

/// A value of the graph: its name, its channels, and how often its height and width were halved.
#[derive(Clone)]
struct Value {
    name: String,
    channels: usize,
    halved: usize,
}

/// A graph of that many steps, each of which reads values that are there.
fn graph(random: &mut Random, dims: [Dim; 4], channels: usize, steps: usize) -> Graph {
    let mut graph = Graph::new();
    // tract does not see that symbolic extents are the same after they were halved and doubled.
    let most = if dims[2..].iter().all(|dim| matches!(dim, Dim::Size(_))) { 2 } else { 0 };
    let input = graph.input("input", &dims);
    let mut values = vec![Value { name: input, channels, halved: 0 }];
    for _ in 0..steps {
        // Rather one of the last.
        let recent = values.len().saturating_sub(3);
        let x = if random.chance() { random.of(&values[recent..]) } else { random.of(&values) };
        let c = x.channels;
        let same = |name: String| Value { name, ..x.clone() };
        let g = &mut graph;
        values.push(match random.bits() % 18 {
            kind @ 0..8 => {
                let kernel = random.of(&[1, 3, 3, 5]);
                // Even extents are halved exactly by stride 2 with these pads.
                let stride = if x.halved < most { random.of(&[1, 1, 2]) } else { 1 };
                let groups = match kind {
                    0..3 => c,
                    3 => random.of(&[2, 4]),
                    _ => 1,
                };
                let outputs = match kind {
                    0..2 => c,
                    2 => 2 * c,
                    _ => random.of(&[8, 16, 24]),
                };
                let dilation = if kernel == 3 { random.of(&[1, 1, 2]) } else { 1 };
                let conv = Conv {
                    inputs: c,
                    outputs,
                    groups,
                    dilation: vec![dilation; 2],
                    pads: Some(vec![(kernel - 1) * dilation / 2; 4]),
                    bias: random.chance(),
                    ..Conv::new(c, outputs, kernel, stride)
                };
                Value { name: conv.add(g, random, &x.name), channels: outputs, halved: x.halved + stride - 1 }
            }
            8 => same(g.relu(&x.name)),
            9 => same(g.clip(&x.name, -0.5, 1.0)),
            10 => {
                let name = match random.bits() % 4 {
                    0 => g.hard_swish(&x.name),
                    1 => g.hard_swish_in_words(&x.name),
                    2 => g.silu(&x.name),
                    _ => g.hard_sigmoid(&x.name),
                };
                same(name)
            }
            11 => same(g.batch_norm(random, &x.name, c)),
            12 => {
                let value = g.scalar(random.of(&[0.5, -1.5, 2.0]));
                let op = random.of(&["Add", "Mul", "Sub", "Div"]);
                let inputs = if random.chance() && op != "Div" { [&*value, &x.name] } else { [&*x.name, &value] };
                same(g.node(op, &inputs, &[]))
            }
            13 | 14 => {
                let alike: Vec<_> =
                    values.iter().filter(|v| (v.channels, v.halved) == (c, x.halved)).cloned().collect();
                let other = random.of(&alike);
                same(g.node("Add", &[&x.name, &other.name], &[]))
            }
            15 => {
                let alike: Vec<_> =
                    values.iter().filter(|v| v.halved == x.halved && v.channels < 40).cloned().collect();
                let other = random.of(&alike);
                if c > 40 || alike.is_empty() {
                    same(g.relu(&x.name))
                } else {
                    let name = g.node("Concat", &[&x.name, &other.name], &[("axis", 1.into())]);
                    Value { name, channels: c + other.channels, ..x.clone() }
                }
            }
            16 => same(g.squeeze_excite(random, &x.name, c)),
            _ if x.halved > 0 => {
                let conv = Conv { pads: Some(vec![0; 4]), ..Conv::new(c, 8, 2, 2) };
                Value { name: conv.add_as("ConvTranspose", g, random, &x.name), channels: 8, halved: x.halved - 1 }
            }
            _ => {
                let attributes =
                    [("kernel_shape", [3, 3].into()), ("strides", [1, 1].into()), ("pads", [1, 1, 1, 1].into())];
                same(g.node("MaxPool", &[&x.name], &attributes))
            }
        });
    }
    // The last value, and others that may be read besides.
    let last = values.len() - 1;
    graph.output(&values[last].name);
    for (k, value) in values.iter().enumerate().skip(1) {
        if k != last && random.bits().is_multiple_of(6) {
            graph.output(&value.name);
        }
    }
    graph
}

#[test]
fn random_graphs_give_what_tract_gives() {
    let mut replaced = 0;
    for seed in 0..60 {
        let mut random = Random(seed);
        let [batch, channels] = [random.of(&[1, 2]), random.of(&[4, 8, 12])];
        let (height, width) = (random.of(&[4, 8, 12]), random.of(&[8, 16]));
        let dims = match seed % 3 {
            0 => [batch.into(), channels.into(), height.into(), width.into()],
            1 => [Dim::from("batch"), channels.into(), height.into(), width.into()],
            _ => [Dim::from("batch"), channels.into(), Dim::from("height"), Dim::from("width")],
        };
        let steps = 4 + (seed as usize % 12);
        let graph = graph(&mut random, dims, channels, steps);
        for report in check(&graph, &[&[batch, channels, height, width]], &format!("seed {seed}")) {
            replaced += report.replaced.len();
        }
    }
    assert!(replaced > 300, "{replaced} plans ran");
}
