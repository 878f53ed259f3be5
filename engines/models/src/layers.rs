//! Layers, as exporters write them.

use crate::{Attribute, Graph, Random};

/// A convolution with random weights, such that what comes out is about as large as what goes in.
#[derive(Clone, Debug)]
pub struct Conv {
    pub inputs: usize,
    pub outputs: usize,
    pub groups: usize,
    /// One number for each spatial axis.
    pub kernel: Vec<usize>,
    pub stride: Vec<usize>,
    pub dilation: Vec<usize>,
    /// Before each axis, then after each. Without it the attribute `auto_pad` is SAME_UPPER.
    pub pads: Option<Vec<usize>>,
    pub bias: bool,
}

impl Conv {
    /// Square, over two axes, with the padding that keeps the size at stride 1, and a bias.
    pub fn new(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Self {
        Self {
            inputs,
            outputs,
            groups: 1,
            kernel: vec![kernel; 2],
            stride: vec![stride; 2],
            dilation: vec![1; 2],
            pads: Some(vec![(kernel - 1) / 2; 4]),
            bias: true,
        }
    }

    pub fn depthwise(channels: usize, kernel: usize, stride: usize) -> Self {
        Self { groups: channels, ..Self::new(channels, channels, kernel, stride) }
    }

    pub fn pointwise(inputs: usize, outputs: usize) -> Self {
        Self::new(inputs, outputs, 1, 1)
    }

    /// Adds it to a graph.
    pub fn add(&self, graph: &mut Graph, random: &mut Random, x: &str) -> String {
        self.add_as("Conv", graph, random, x)
    }

    /// The shape of its weights.
    pub fn shape(&self) -> Vec<usize> {
        [&[self.outputs, self.inputs / self.groups], &self.kernel[..]].concat()
    }

    /// Random weights.
    pub fn weights(&self, random: &mut Random) -> Vec<f32> {
        let fan_in = self.inputs / self.groups * self.kernel.iter().product::<usize>();
        let bound = (4.5 / fan_in as f32).sqrt();
        random.floats(self.outputs * fan_in).into_iter().map(|value| value * bound).collect()
    }

    /// As [`add`](Self::add), by the ONNX operation `op`: `Conv` or `ConvTranspose`.
    pub fn add_as(&self, op: &str, graph: &mut Graph, random: &mut Random, x: &str) -> String {
        let shape = match op {
            "ConvTranspose" => [&[self.inputs, self.outputs / self.groups], &self.kernel[..]].concat(),
            _ => self.shape(),
        };
        let weights = graph.constant(&shape, &self.weights(random));
        let bias = self.bias.then(|| {
            let bias: Vec<f32> = random.floats(self.outputs).into_iter().map(|value| value * 0.3).collect();
            graph.constant(&[self.outputs], &bias)
        });
        self.add_with(op, graph, x, &weights, bias.as_deref())
    }

    /// As [`add_as`](Self::add_as), with weights and a bias that are in the graph already.
    pub fn add_with(&self, op: &str, graph: &mut Graph, x: &str, weights: &str, bias: Option<&str>) -> String {
        let mut attributes: Vec<(&str, Attribute)> = vec![
            ("kernel_shape", self.kernel.clone().into()),
            ("strides", self.stride.clone().into()),
            ("dilations", self.dilation.clone().into()),
            ("group", self.groups.into()),
        ];
        attributes.push(match &self.pads {
            Some(pads) => ("pads", pads.clone().into()),
            None => ("auto_pad", "SAME_UPPER".into()),
        });
        let inputs: Vec<&str> = [x, weights].into_iter().chain(bias).collect();
        graph.node(op, &inputs, &attributes)
    }
}

/// The parameters of a batch norm.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
}

impl BatchNorm {
    pub const EPSILON: f32 = 1e-3;

    pub fn new(random: &mut Random, channels: usize) -> Self {
        let mut vector = |from: f32, to: f32| -> Vec<f32> {
            random.floats(channels).iter().map(|v| from + (v + 1.0) / 2.0 * (to - from)).collect()
        };
        Self { gamma: vector(0.7, 1.3), beta: vector(-0.3, 0.3), mean: vector(-0.3, 0.3), variance: vector(0.5, 1.5) }
    }
}

/// What follows a convolution.
impl Graph {
    /// A batch norm with random parameters.
    pub fn batch_norm(&mut self, random: &mut Random, x: &str, channels: usize) -> String {
        let BatchNorm { gamma, beta, mean, variance } = BatchNorm::new(random, channels);
        let parameters = [gamma, beta, mean, variance].map(|values| self.constant(&[channels], &values));
        let [gamma, beta, mean, variance] = &parameters;
        let epsilon = [("epsilon", BatchNorm::EPSILON.into())];
        self.node("BatchNormalization", &[x, gamma, beta, mean, variance], &epsilon)
    }

    pub fn relu(&mut self, x: &str) -> String {
        self.node("Relu", &[x], &[])
    }

    pub fn clip(&mut self, x: &str, min: f32, max: f32) -> String {
        let (min, max) = (self.scalar(min), self.scalar(max));
        self.node("Clip", &[x, &min, &max], &[])
    }

    pub fn hard_swish(&mut self, x: &str) -> String {
        self.node("HardSwish", &[x], &[])
    }

    /// x · ReLU6(x + 3) / 6, operation by operation, as PaddlePaddle's exporter writes it.
    pub fn hard_swish_in_words(&mut self, x: &str) -> String {
        let (three, six) = (self.scalar(3.0), self.scalar(6.0));
        let gate = self.node("Add", &[x, &three], &[]);
        let gate = self.clip(&gate, 0.0, 6.0);
        let product = self.node("Mul", &[x, &gate], &[]);
        self.node("Div", &[&product, &six], &[])
    }

    pub fn hard_sigmoid(&mut self, x: &str) -> String {
        self.node("HardSigmoid", &[x], &[("alpha", (1.0f32 / 6.0).into()), ("beta", 0.5.into())])
    }

    /// x · sigmoid(x)
    pub fn silu(&mut self, x: &str) -> String {
        let gate = self.node("Sigmoid", &[x], &[]);
        self.node("Mul", &[x, &gate], &[])
    }

    /// Squeeze-and-excite (Hu et al., 2018), with the hard sigmoid of MobileNetV3.
    pub fn squeeze_excite(&mut self, random: &mut Random, x: &str, channels: usize) -> String {
        let reduced = channels.div_ceil(4);
        let mean = self.node("GlobalAveragePool", &[x], &[]);
        let mean = Conv::pointwise(channels, reduced).add(self, random, &mean);
        let mean = self.relu(&mean);
        let gate = Conv::pointwise(reduced, channels).add(self, random, &mean);
        let gate = self.hard_sigmoid(&gate);
        self.node("Mul", &[x, &gate], &[])
    }

    /// The mean of each map, and a fully connected layer over them.
    pub fn classifier(&mut self, random: &mut Random, x: &str, channels: usize, classes: usize) -> String {
        let mean = self.node("GlobalAveragePool", &[x], &[]);
        let mean = self.node("Flatten", &[&mean], &[]);
        let bound = (3.0 / channels as f32).sqrt();
        let weights: Vec<f32> = random.floats(classes * channels).into_iter().map(|value| value * bound).collect();
        let weights = self.constant(&[classes, channels], &weights);
        let bias = random.floats(classes);
        let bias = self.constant(&[classes], &bias);
        self.node("Gemm", &[&mean, &weights, &bias], &[("transB", 1.into())])
    }
}
