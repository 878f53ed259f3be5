//! This crate: plans built once, workspace and output used again. Networks run in the engine of `examples/network`.

use depthwise::{
    Activation, DepthwiseConv2d, Fusion, Layout, Padding, Parallelism, PointwiseConv2d, SeparableConv2d, TensorView,
    TensorViewMut, Workspace,
};
use network::arch::{ConvKind, Op};
use network::engine::{Network, Options};

use crate::model::{self, Model};
use crate::{Result, Run};

pub fn serve(threads: usize) -> Result<()> {
    let parallelism = if threads == 1 { Parallelism::Serial } else { Parallelism::Rayon };
    let variants = ["nhwc", "nchw", "nhwc two-pass", "nchw two-pass"];
    crate::serve(&variants, &["lines", "vec"], |model, variant, placement| {
        prepare(&model, variant, placement, parallelism)
    })
}

fn prepare(model: &Model, variant: &str, placement: &str, parallelism: Parallelism<'static>) -> Result<Run> {
    let layout: Layout = variant[..4].parse()?;
    let fusion = if variant.ends_with("two-pass") { Fusion::TwoPass } else { Fusion::Auto };
    if model.arch.layers.len() > 2 {
        return network(model, layout, placement, parallelism);
    }
    let mut convs = Vec::new();
    for layer in &model.arch.layers {
        let Op::Conv(conv) = &layer.op else { return Err("a block has convolutions only".into()) };
        let activation = if model::is_relu6(layer.activation)? { Activation::Relu6 } else { Activation::None };
        convs.push((conv, model.weights(conv)?, activation));
    }
    let (conv, (weights, bias), activation) = &convs[0];
    let (window, pad) = (conv.window, conv.window.pad);
    let padding = Padding::explicit(pad.top, pad.left, pad.bottom, pad.right);
    let (input, from) = model.input(layout)?;
    let [read_at, written_at] = offsets(placement)?;
    let input = Placed::new(&input, read_at);
    let mut workspace = Workspace::new();
    macro_rules! run {
        ($plan:expr) => {{
            let plan = $plan;
            let to = plan.output_shape(from)?;
            let mut output = Placed::new(&vec![0.0; to.len().ok_or("its size overflows")?], written_at);
            Ok(Box::new(move |copy| {
                let (read, written) = (TensorView::new(input.get(), from, layout)?, output.get_mut());
                plan.run(
                    depthwise::Run::new(read, TensorViewMut::new(written, to, layout)?, &mut workspace)
                        .parallelism(parallelism),
                )?;
                copy.into_iter().for_each(|copy| *copy = output.get().to_vec());
                Ok(())
            }))
        }};
    }
    match (conv.kind, convs.get(1)) {
        (ConvKind::Depthwise, Some((second, (second_weights, second_bias), second_activation))) => run!(
            SeparableConv2d::builder(conv.in_channels, second.out_channels)
                .layout(layout)
                .fusion(fusion)
                .kernel_size(window.kernel)
                .stride(window.stride)
                .dilation(window.dilation)
                .padding(padding)
                .depthwise_weights(weights)
                .depthwise_bias(bias)
                .depthwise_activation(*activation)
                .pointwise_weights(second_weights)
                .bias(second_bias)
                .activation(*second_activation)
                .build()?
        ),
        (ConvKind::Depthwise, None) => run!(
            DepthwiseConv2d::builder(conv.in_channels)
                .layout(layout)
                .kernel_size(window.kernel)
                .stride(window.stride)
                .dilation(window.dilation)
                .padding(padding)
                .weights(weights)
                .bias(bias)
                .activation(*activation)
                .build()?
        ),
        _ => run!(
            PointwiseConv2d::builder(conv.in_channels, conv.out_channels)
                .layout(layout)
                .weights(weights)
                .bias(bias)
                .activation(*activation)
                .build()?
        ),
    }
}

fn network(model: &Model, layout: Layout, placement: &str, parallelism: Parallelism<'static>) -> Result<Run> {
    let network = Network::load(&model.folder, Options { layout, isa: None })?;
    let mut scratch = network.scratch()?;
    let input = Placed::new(&model.input(layout)?.0, offsets(placement)?[0]);
    Ok(Box::new(move |copy| {
        let output = network.run(&mut scratch, input.get(), parallelism, |_, _| ())?;
        copy.into_iter().for_each(|copy| *copy = output.to_vec());
        Ok(())
    }))
}

/// A common size of pages.
const PAGE: usize = 4096;

/// Where input and output lie, in bytes from the start of a page: `lines` on cache lines, half a page apart, as the allocators of the
/// other libraries place theirs; `vec` as glibc places every large `Vec`, 16 bytes behind the start of a page. `examples/blocks` has
/// the same.
fn offsets(placement: &str) -> Result<[usize; 2]> {
    match placement {
        "lines" => Ok([64, 64 + PAGE / 2]),
        "vec" => Ok([16; 2]),
        _ => Err(format!("there is no placement `{placement}`: use lines or vec").into()),
    }
}

/// Values so many bytes behind the start of a page.
struct Placed {
    data: Vec<f32>,
    start: usize,
}

impl Placed {
    fn new(values: &[f32], offset: usize) -> Self {
        let mut data = vec![0.0; values.len() + (PAGE + offset) / size_of::<f32>()];
        let start = data.as_ptr().align_offset(PAGE) + offset / size_of::<f32>();
        data[start..][..values.len()].copy_from_slice(values);
        data.truncate(start + values.len());
        Self { data, start }
    }

    fn get(&self) -> &[f32] {
        &self.data[self.start..]
    }

    fn get_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..]
    }
}
