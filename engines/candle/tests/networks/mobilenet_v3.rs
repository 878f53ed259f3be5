//! Blocks of MobileNetV3 (Howard and others, 2019): squeeze-and-excite, hard-swish, kernels of 3×3 and 5×5, batch norms unfolded.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Activation, BatchNorm, BatchNormConfig, Conv2d, Conv2dConfig, ModuleT, VarBuilder};
use depthwise_candle::{Layout, SeparableConv2d};

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
    activation: Option<Activation>,
}

struct Excite {
    reduce: Conv2d,
    expand: Conv2d,
}

struct Block {
    expand: Unit,
    depthwise: Unit,
    excite: Option<Excite>,
    project: Unit,
    residual: bool,
}

pub struct MobileNetV3 {
    stem: Unit,
    blocks: Vec<Block>,
}

fn unit(
    channels: [usize; 2],
    kernel: usize,
    [stride, groups]: [usize; 2],
    activation: Option<Activation>,
    vb: VarBuilder,
) -> Result<Unit> {
    let config = Conv2dConfig { padding: kernel / 2, stride, groups, ..Default::default() };
    let conv = candle_nn::conv2d_no_bias(channels[0], channels[1], kernel, config, vb.pp("conv"))?;
    // A batch norm without γ and β too.
    let norm = BatchNormConfig { affine: activation.is_some(), ..BatchNormConfig::from(1e-3) };
    Ok(Unit { conv, norm: candle_nn::batch_norm(channels[1], norm, vb.pp("norm"))?, activation })
}

impl Module for Unit {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.norm.forward_t(&self.conv.forward(x)?, false)?;
        match self.activation {
            None => Ok(y),
            Some(activation) => activation.forward(&y),
        }
    }
}

impl MobileNetV3 {
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let stem = unit([3, 16], 3, [2, 1], Some(Activation::HardSwish), vb.pp("stem"))?;
        let (mut blocks, mut inputs) = (Vec::new(), 16);
        for (index, (kernel, middle, outputs, excite, activation, stride)) in BLOCKS.into_iter().enumerate() {
            let vb = vb.pp(format!("block{index}"));
            let (activation, narrow) = (Some(activation), middle.div_ceil(4));
            let conv = |inputs, outputs, name| candle_nn::conv2d(inputs, outputs, 1, Default::default(), vb.pp(name));
            blocks.push(Block {
                expand: unit([inputs, middle], 1, [1, 1], activation, vb.pp("expand"))?,
                depthwise: unit([middle, middle], kernel, [stride, middle], activation, vb.pp("depthwise"))?,
                excite: match excite {
                    true => Some(Excite {
                        reduce: conv(middle, narrow, "reduce")?,
                        expand: conv(narrow, middle, "excite")?,
                    }),
                    false => None,
                },
                project: unit([middle, outputs], 1, [1, 1], None, vb.pp("project"))?,
                residual: stride == 1 && inputs == outputs,
            });
            inputs = outputs;
        }
        Ok(Self { stem, blocks })
    }

    pub fn by_candle(&self, x: &Tensor) -> Result<Tensor> {
        self.blocks.iter().try_fold(self.stem.forward(x)?, |x, block| {
            let y = block.depthwise.forward(&block.expand.forward(&x)?)?;
            let y = match &block.excite {
                None => y,
                Some(Excite { reduce, expand }) => {
                    let scale = Activation::Relu.forward(&reduce.forward(&y.mean_keepdim((2, 3))?)?)?;
                    y.broadcast_mul(&Activation::HardSigmoid.forward(&expand.forward(&scale)?)?)?
                }
            };
            let y = block.project.forward(&y)?;
            if block.residual { y + x } else { Ok(y) }
        })
    }

    pub fn with(&self, layout: Layout) -> Result<impl Fn(&Tensor) -> Result<Tensor>> {
        let replaced = |unit: &Unit| -> Result<depthwise_candle::Conv2d> {
            let conv = depthwise_candle::Conv2d::from(&unit.conv).with_layout(layout).absorb_bn(&unit.norm)?;
            assert_eq!(conv.fallback(), None);
            Ok(match unit.activation {
                None => conv,
                Some(activation) => conv.with_activation(activation),
            })
        };
        let stem = replaced(&self.stem)?;
        let blocks = self.blocks.iter().map(|block| {
            let (expand, depthwise) = (replaced(&block.expand)?, replaced(&block.depthwise)?);
            let project = replaced(&block.project)?;
            let tail = match &block.excite {
                None => Tail::Pair(Box::new(SeparableConv2d::new(depthwise, project))),
                Some(excite) => {
                    let reduce = depthwise_candle::Conv2d::from(&excite.reduce).with_activation(Activation::Relu);
                    let expand =
                        depthwise_candle::Conv2d::from(&excite.expand).with_activation(Activation::HardSigmoid);
                    Tail::Excite(Box::new([depthwise, reduce, expand, project]))
                }
            };
            Ok((expand, tail, block.residual))
        });
        let blocks = blocks.collect::<Result<Vec<_>>>()?;
        Ok(move |x: &Tensor| {
            blocks.iter().try_fold(stem.forward(x)?, |x, (first, tail, residual)| {
                let y = first.forward(&x)?;
                match tail {
                    Tail::Pair(pair) if *residual => pair.forward_with_residual(&y, &x),
                    Tail::Pair(pair) => pair.forward(&y),
                    Tail::Excite(layers) => {
                        let [depthwise, reduce, expand, project] = &**layers;
                        let y = depthwise.forward(&y)?;
                        let scale = expand.forward(&reduce.forward(&y.mean_keepdim((2, 3))?)?)?;
                        let y = y.broadcast_mul(&scale)?;
                        if *residual { project.forward_with_residual(&y, &x) } else { project.forward(&y) }
                    }
                }
            })
        })
    }
}

enum Tail {
    Pair(Box<SeparableConv2d>),
    /// Depthwise, the two of one pixel, pointwise.
    Excite(Box<[depthwise_candle::Conv2d; 4]>),
}
