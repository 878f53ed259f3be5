//! Blocks of MobileNetV3 (Howard and others, 2019): squeeze-and-excite, hard-swish, kernels of 3×3 and 5×5, batch norms unfolded.

use burn_nn::BatchNorm;
use burn_nn::conv::Conv2d;
use burn_tensor::Tensor;
use burn_tensor::activation::{hard_sigmoid, hard_swish, relu};
use depthwise_burn::{Activation, Error, Layer, Layout, SeparableConv2d};

use super::{conv, norm};

/// Kernel, expanded channels, output channels, squeeze-and-excite, activation, stride.
const BLOCKS: [(usize, usize, usize, bool, Activation, usize); 6] = [
    (3, 16, 16, true, Activation::Relu, 2),
    (3, 72, 24, false, Activation::Relu, 2),
    (3, 88, 24, false, Activation::Relu, 1),
    (5, 96, 40, true, Activation::HardSwish, 2),
    (5, 240, 40, true, Activation::HardSwish, 1),
    (5, 120, 48, true, Activation::HardSwish, 1),
];

struct Unit {
    conv: Conv2d,
    norm: BatchNorm,
    activation: Activation,
}

impl Unit {
    fn new(channels: [usize; 2], kernel: usize, stride: usize, groups: usize, activation: Activation) -> Self {
        let conv = conv(channels, [kernel; 2], [stride; 2], groups, groups > 1);
        Self { conv, norm: norm(channels[1]), activation }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.norm.forward(self.conv.forward(x));
        match self.activation {
            Activation::Relu => relu(y),
            Activation::HardSwish => hard_swish(y),
            _ => y,
        }
    }

    fn layer(&self) -> Layer<'_> {
        Layer::new(&self.conv).batch_norm(&self.norm).activation(self.activation)
    }
}

struct Block {
    expand: Unit,
    depthwise: Unit,
    /// Two convolutions of one pixel.
    excite: Option<[Conv2d; 2]>,
    project: Unit,
    residual: bool,
}

pub struct MobileNetV3 {
    stem: Unit,
    blocks: Vec<Block>,
}

impl MobileNetV3 {
    pub fn new() -> Self {
        let (mut blocks, mut inputs) = (Vec::new(), 16);
        for (kernel, middle, outputs, excite, activation, stride) in BLOCKS {
            let narrow = middle.div_ceil(4);
            blocks.push(Block {
                expand: Unit::new([inputs, middle], 1, 1, 1, activation),
                depthwise: Unit::new([middle, middle], kernel, stride, middle, activation),
                excite: excite
                    .then(|| [[middle, narrow], [narrow, middle]].map(|pair| conv(pair, [1, 1], [1, 1], 1, true))),
                project: Unit::new([middle, outputs], 1, 1, 1, Activation::None),
                residual: stride == 1 && inputs == outputs,
            });
            inputs = outputs;
        }
        Self { stem: Unit::new([3, 16], 3, 2, 1, Activation::HardSwish), blocks }
    }

    pub fn by_burn(&self, x: Tensor<4>) -> Tensor<4> {
        self.blocks.iter().fold(self.stem.forward(x), |x, block| {
            let mut y = block.depthwise.forward(block.expand.forward(x.clone()));
            if let Some([reduce, expand]) = &block.excite {
                let scale = relu(reduce.forward(y.clone().mean_dim(3).mean_dim(2)));
                y = y * hard_sigmoid(expand.forward(scale), 1.0 / 6.0, 0.5);
            }
            let y = block.project.forward(y);
            if block.residual { y + x } else { y }
        })
    }

    pub fn with(&self, layout: Layout) -> Result<impl Fn(Tensor<4>) -> Tensor<4>, Error> {
        let replaced = |unit: &Unit| depthwise_burn::Conv2d::new(unit.layer(), layout);
        let small = |conv, activation| depthwise_burn::Conv2d::new(Layer::new(conv).activation(activation), layout);
        let stem = replaced(&self.stem)?;
        let blocks = self.blocks.iter().map(|block| {
            let expand = replaced(&block.expand)?;
            let tail = match &block.excite {
                None => Tail::Pair(SeparableConv2d::new(block.depthwise.layer(), block.project.layer(), layout)?),
                Some([first, second]) => Tail::Excite(Box::new([
                    replaced(&block.depthwise)?,
                    small(first, Activation::Relu)?,
                    small(second, Activation::HardSigmoid)?,
                    replaced(&block.project)?,
                ])),
            };
            Ok((expand, tail, block.residual))
        });
        let blocks = blocks.collect::<Result<Vec<_>, Error>>()?;
        Ok(move |x| {
            blocks.iter().fold(stem.forward(x), |x, (expand, tail, residual)| {
                let y = expand.forward(x.clone());
                match tail {
                    Tail::Pair(pair) if *residual => pair.forward_with_residual(y, x),
                    Tail::Pair(pair) => pair.forward(y),
                    Tail::Excite(layers) => {
                        let [depthwise, reduce, expand, project] = &**layers;
                        let y = depthwise.forward(y);
                        let scale = expand.forward(reduce.forward(y.clone().mean_dim(3).mean_dim(2)));
                        let y = y * scale;
                        if *residual { project.forward_with_residual(y, x) } else { project.forward(y) }
                    }
                }
            })
        })
    }
}

enum Tail {
    Pair(SeparableConv2d),
    /// Depthwise, the two of one pixel, pointwise.
    Excite(Box<[depthwise_burn::Conv2d; 4]>),
}
