//! candle's tensors, in NCHW; the calls are those of `candle_nn::Conv2d`.

use candle_core::{Device, Tensor};
use depthwise::Layout;
use network::arch::Op;

use crate::model::{self, Model};
use crate::{Result, Run};

pub fn prepare(model: Model, _variant: &str) -> Result<Run> {
    let (input, shape) = model.input(Layout::Nchw)?;
    let input = Tensor::from_vec(input, (shape.n, shape.c, shape.h, shape.w), &Device::Cpu)?;
    let weights = model.convolutions(|conv, kernel, bias| {
        let [kh, kw] = conv.window.kernel;
        let shape = (conv.out_channels, conv.in_channels / conv.groups, kh, kw);
        let bias = Tensor::from_vec(bias, (1, conv.out_channels, 1, 1), &Device::Cpu)?;
        Ok((Tensor::from_vec(kernel, shape, &Device::Cpu)?, bias))
    })?;
    let call = move || {
        model.evaluate(input.clone(), |index, inputs| {
            let layer = &model.arch.layers[index];
            let output = match (&layer.op, &weights[index], inputs) {
                (Op::Conv(conv), Some((kernel, bias)), [input]) => {
                    let (window, pad) = (conv.window, conv.window.pad);
                    let (input, even) = match model::even_pad(pad) {
                        Some(even) => (input.clone(), even),
                        None => {
                            let rows = input.pad_with_zeros(2, pad.top, pad.bottom)?;
                            (rows.pad_with_zeros(3, pad.left, pad.right)?, 0)
                        }
                    };
                    let sum = input.conv2d(kernel, even, window.stride[0], window.dilation[0], conv.groups)?;
                    sum.broadcast_add(bias)?
                }
                (Op::GlobalAvgPool, _, [input]) => input.mean_keepdim((2, 3))?,
                (Op::Add, _, [a, b]) => (a + b)?,
                (op, ..) => return Err(format!("no {op:?}").into()),
            };
            Ok(if model::is_relu6(layer.activation)? { output.clamp(0f32, 6f32)? } else { output })
        })
    };
    Ok(model::run(call, |output| Ok(output.flatten_all()?.to_vec1()?)))
}
