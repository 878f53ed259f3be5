//! A plan of `depthwise`, run on tensors of burn-flex.

use std::sync::Arc;

use burn_flex::{Flex, FlexTensor};
use burn_tensor::{Tensor, TensorData};
use depthwise::{
    Activation, AnyConv2d, Convolution, Layout, Parallelism, SeparableConv2d, Shape, Strides, TensorView, Workspace,
};

use crate::error::Error;
use crate::layer::{Layer, Parameters, primitive};

/// A plan of any kind.
#[derive(Clone, Debug)]
pub(crate) struct Plan(Arc<dyn Convolution>);

impl Plan {
    pub(crate) fn new(layer: Layer<'_>, layout: Layout) -> Result<Self, Error> {
        let p = layer.read()?;
        let builder = AnyConv2d::builder(p.inputs, p.outputs, p.groups).layout(layout).padding(p.padding);
        let builder = builder.kernel_size(p.kernel_size).stride(p.stride).dilation(p.dilation).weights(&p.weights);
        let builder = builder.maybe_bias(p.bias.as_deref()).maybe_batch_norm(p.batch_norm());
        Ok(Self(Arc::new(builder.activation(layer.activation).build()?)))
    }

    pub(crate) fn pair(depthwise: Layer<'_>, pointwise: Layer<'_>, layout: Layout) -> Result<Self, Error> {
        let (first, second) = (depthwise.read()?, pointwise.read()?);
        let why = if first.groups != first.inputs {
            format!("the first has {} groups of {} channels, not one for each", first.groups, first.inputs)
        } else if !second.is_pointwise() {
            let [kh, kw] = second.kernel_size;
            format!(
                "the second is {kh}x{kw} with {} groups, and pointwise is 1x1 without stride or padding",
                second.groups
            )
        } else if first.outputs != second.inputs {
            format!("the first gives {} channels, the second takes {}", first.outputs, second.inputs)
        } else {
            return Self::separable([&first, &second], [depthwise.activation, pointwise.activation], layout);
        };
        Err(Error::Pair { why })
    }

    fn separable([p, q]: [&Parameters; 2], [between, after]: [Activation; 2], layout: Layout) -> Result<Self, Error> {
        let builder = SeparableConv2d::builder(p.inputs, q.outputs).layout(layout);
        let builder = builder.channel_multiplier(p.outputs.checked_div(p.inputs).unwrap_or(0)).padding(p.padding);
        let builder = builder.kernel_size(p.kernel_size).stride(p.stride).dilation(p.dilation);
        let builder = builder.depthwise_weights(&p.weights).maybe_depthwise_bias(p.bias.as_deref());
        let builder = builder.maybe_depthwise_batch_norm(p.batch_norm()).depthwise_activation(between);
        let builder = builder.pointwise_weights(&q.weights).maybe_bias(q.bias.as_deref());
        Ok(Self(Arc::new(builder.maybe_batch_norm(q.batch_norm()).activation(after).build()?)))
    }

    pub(crate) fn run(&self, x: Tensor<4>, residual: Option<Tensor<4>>) -> Result<Tensor<4>, Error> {
        let layout = self.0.layout();
        let x = arranged(primitive("input", x)?, layout);
        let residual = residual.map(|residual| primitive("residual", residual)).transpose()?;
        let residual = residual.map(|residual| arranged(residual, layout));
        let (input, residual) = (view(&x)?, residual.as_ref().map(view).transpose()?);
        let Shape { n, c, h, w } = self.0.output_shape(input.shape())?;
        let run = |workspace: &mut Workspace| self.0.run_to_vec(input, residual, workspace, Parallelism::Rayon);
        let data = Workspace::with_thread(run)?;
        let y = match layout {
            Layout::Nchw => FlexTensor::from_data(TensorData::new(data, [n, c, h, w])),
            Layout::Nhwc => permuted(FlexTensor::from_data(TensorData::new(data, [n, h, w, c])), [0, 3, 1, 2]),
        };
        Ok(Tensor::from_primitive::<Flex>(y))
    }
}

/// The same elements with their axes in another order.
fn permuted(x: FlexTensor, axes: [usize; 4]) -> FlexTensor {
    let layout = x.layout().permute(&axes);
    x.with_layout(layout)
}

/// The tensor with neighbours along the layout's last axis, and none mirrored: itself, if it is so.
fn arranged(x: FlexTensor, layout: Layout) -> FlexTensor {
    let last = match layout {
        Layout::Nchw => 3,
        Layout::Nhwc => 1,
    };
    let strides = x.layout().strides();
    let lies = x.layout().shape()[last] <= 1 || strides[last] == 1;
    if lies && strides.iter().all(|&stride| stride >= 0) {
        return x;
    }
    match layout {
        Layout::Nchw => x.to_contiguous(),
        Layout::Nhwc => permuted(permuted(x, [0, 2, 3, 1]).to_contiguous(), [0, 3, 1, 2]),
    }
}

fn view(x: &FlexTensor) -> Result<TensorView<'_>, Error> {
    let data = x.storage::<f32>().get(x.layout().start_offset()..).unwrap_or_default();
    let (shape, strides) = (x.layout().shape(), x.layout().strides());
    let [n, c, h, w] = [0, 1, 2, 3].map(|axis| strides[axis].unsigned_abs());
    let shape = Shape::new(shape[0], shape[1], shape[2], shape[3]);
    Ok(TensorView::strided(data, shape, Strides { n, c, h, w })?)
}
