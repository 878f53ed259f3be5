//! Blocks as plain data, and how to run one.

use std::error::Error;
use std::path::Path;

use depthwise::{
    Activation, DepthwiseConv2d, Isa, Layout, Padding, Parallelism, PointwiseConv2d, SeparableConv2d, Shape,
    TensorView, TensorViewMut, Workspace,
};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde::Deserialize;

/// What of a block is run.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    Block,
    Depthwise,
    Pointwise,
}

#[derive(Deserialize)]
struct Shapes {
    blocks: Vec<Block>,
}

/// A depthwise separable block: k×k depthwise on n×c×h×w, then pointwise to m channels.
#[derive(Deserialize)]
pub struct Block {
    pub name: String,
    n: usize,
    c: usize,
    h: usize,
    w: usize,
    k: usize,
    stride: usize,
    pad: usize,
    dilation: usize,
    m: usize,
    act: String,
}

/// A slice of a `Vec` that starts on a cache line, as engines' allocators give them.
struct Aligned {
    data: Vec<f32>,
    start: usize,
}

impl Aligned {
    fn random(len: usize, rng: &mut impl Rng) -> Self {
        let data: Vec<f32> = (0..len + 16).map(|_| rng.random_range(-1.0..1.0)).collect();
        let start = data.as_ptr().align_offset(64).min(16);
        Self { data, start }
    }

    fn get(&self) -> &[f32] {
        &self.data[self.start..]
    }

    fn get_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..]
    }
}

/// Runs a block once.
pub type Run = Box<dyn FnMut() -> Result<(), depthwise::Error> + Send>;

/// The blocks of a shapes file.
pub fn load(path: &Path) -> Result<Vec<Block>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let shapes: Shapes = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(shapes.blocks)
}

impl Block {
    /// The floating-point operations of a part, two a multiply-add.
    #[allow(dead_code, reason = "the benches count, the example prints times")]
    pub fn operations(&self, part: Part) -> u64 {
        let extent = |size: usize| (size + 2 * self.pad - (self.k - 1) * self.dilation - 1) / self.stride + 1;
        let depth = match part {
            Part::Block => self.k * self.k + self.m,
            Part::Depthwise => self.k * self.k,
            Part::Pointwise => self.m,
        };
        2 * (self.n * extent(self.h) * extent(self.w) * self.c * depth) as u64
    }
}

/// Builds a part of a block, with random weights and input.
pub fn prepare(
    block: &Block,
    part: Part,
    layout: Layout,
    isa: Isa,
    parallelism: Parallelism,
) -> Result<Run, Box<dyn Error>> {
    let mut rng = StdRng::seed_from_u64(1);
    let activation = match block.act.as_str() {
        "none" => Activation::None,
        "relu6" => Activation::Relu6,
        other => {
            return Err(format!("block {}: there is no activation `{other}`: use none or relu6", block.name).into());
        }
    };
    let depthwise_weights = Aligned::random(block.c * block.k * block.k, &mut rng);
    let depthwise_weights = &depthwise_weights.get()[..block.c * block.k * block.k];
    let pointwise_weights = Aligned::random(block.m * block.c, &mut rng);
    let pointwise_weights = &pointwise_weights.get()[..block.m * block.c];
    let depthwise_bias = vec![0.1; block.c];
    let bias = vec![0.2; block.m];
    let mut workspace = Workspace::new();
    let shape = Shape::new(block.n, block.c, block.h, block.w);
    macro_rules! run {
        ($plan:expr, $input:expr) => {{
            let (plan, shape) = ($plan, $input);
            let to = plan.output_shape(shape)?;
            let len = |shape: Shape| shape.len().ok_or("a tensor's size overflows");
            let input = Aligned::random(len(shape)?, &mut rng);
            let mut output = Aligned::random(len(to)?, &mut rng);
            Ok(Box::new(move || {
                plan.run(
                    TensorView::new(input.get(), shape, layout)?,
                    TensorViewMut::new(output.get_mut(), to, layout)?,
                    &mut workspace,
                    parallelism,
                )
            }))
        }};
    }
    let depthwise = || {
        DepthwiseConv2d::builder(block.c)
            .kernel_size([block.k; 2])
            .stride([block.stride; 2])
            .dilation([block.dilation; 2])
            .padding(Padding::symmetric(block.pad, block.pad))
            .layout(layout)
            .isa(isa)
            .weights(depthwise_weights)
            .bias(&depthwise_bias)
            .activation(activation)
            .build()
    };
    match part {
        Part::Depthwise => run!(depthwise()?, shape),
        Part::Pointwise => {
            let between = depthwise()?.output_shape(shape)?;
            let plan = PointwiseConv2d::builder(block.c, block.m)
                .layout(layout)
                .isa(isa)
                .weights(pointwise_weights)
                .bias(&bias)
                .activation(activation)
                .build()?;
            run!(plan, between)
        }
        Part::Block => {
            let plan = SeparableConv2d::builder(block.c, block.m)
                .kernel_size([block.k; 2])
                .stride([block.stride; 2])
                .dilation([block.dilation; 2])
                .padding(Padding::symmetric(block.pad, block.pad))
                .layout(layout)
                .isa(isa)
                .depthwise_weights(depthwise_weights)
                .depthwise_bias(&depthwise_bias)
                .depthwise_activation(activation)
                .pointwise_weights(pointwise_weights)
                .bias(&bias)
                .activation(activation)
                .build()?;
            run!(plan, shape)
        }
    }
}
