//! burn's backend for CPUs, `burn-flex`, in NCHW, called as burn's tensors and modules call it.

use burn_backend::ops::{ConvOptions, FloatTensorOps, ModuleOps};
use burn_backend::{Scalar, TensorData};
use burn_flex::Flex;
use depthwise::Layout;
use network::arch::Op;

use crate::model::{self, Model};
use crate::{Result, Run};

pub fn prepare(model: Model, _variant: &str) -> Result<Run> {
    let tensor =
        |values, shape: &[usize]| Flex::float_from_data(TensorData::new(values, shape.to_vec()), &Default::default());
    let (input, shape) = model.input(Layout::Nchw)?;
    let input = tensor(input, &[shape.n, shape.c, shape.h, shape.w]);
    let weights = model.convolutions(|conv, kernel, bias| {
        let ([kh, kw], window) = (conv.window.kernel, conv.window);
        let pad = model::even_pad(window.pad).ok_or("its convolution pads all sides alike")?;
        let kernel = tensor(kernel, &[conv.out_channels, conv.in_channels / conv.groups, kh, kw]);
        let options = ConvOptions::new(window.stride, [pad; 2], window.dilation, conv.groups);
        Ok((kernel, tensor(bias, &[conv.out_channels]), options))
    })?;
    let call = move || {
        model.evaluate(input.clone(), |index, inputs| {
            let layer = &model.arch.layers[index];
            let output = match (&layer.op, &weights[index], inputs) {
                (Op::Conv(_), Some((kernel, bias, options)), [input]) => {
                    Flex::conv2d(input.clone(), kernel.clone(), Some(bias.clone()), options.clone())
                }
                (Op::GlobalAvgPool, _, [input]) => Flex::float_mean_dim(Flex::float_mean_dim(input.clone(), 3), 2),
                (Op::Add, _, [a, b]) => Flex::float_add(a.clone(), b.clone()),
                (op, ..) => return Err(format!("no {op:?}").into()),
            };
            let relu6 = model::is_relu6(layer.activation)?;
            Ok(if relu6 { Flex::float_clamp(output, Scalar::Float(0.0), Scalar::Float(6.0)) } else { output })
        })
    };
    Ok(model::run(call, |output| {
        let mut data = std::pin::pin!(Flex::float_into_data(output));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match Future::poll(data.as_mut(), &mut context) {
            std::task::Poll::Ready(data) => Ok(data?.try_to_vec()?),
            std::task::Poll::Pending => Err("the tensor was not ready".into()),
        }
    }))
}
