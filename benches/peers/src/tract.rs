//! tract: on model.onnx (NCHW), or on a channel-last model (NHWC) built with tract-core.

use std::sync::Arc;

use depthwise::Layout;
use network::arch::Op;
use tract_core::internal::*;
use tract_core::ops::cnn::{self, KernelFormat, PaddingSpec, PoolSpec};
use tract_core::ops::math;
use tract_core::ops::nn::DataFormat;
use tract_linalg::multithread::{Executor, multithread_tract_scope};
use tract_onnx::prelude::{Framework, InferenceModelExt};

use crate::model::{self, Model};
use crate::{Result, Run};

pub fn serve(threads: usize, pool: rayon::ThreadPool) -> Result<()> {
    let executor = if threads == 1 { Executor::SingleThread } else { Executor::MultiThread(Arc::new(pool)) };
    multithread_tract_scope(executor, || {
        crate::serve(&["nchw", "nhwc"], crate::OWN, |model, variant, _| prepare(model, variant))
    })
}

fn prepare(model: Model, variant: &str) -> Result<Run> {
    let layout: Layout = variant.parse()?;
    let (input, shape) = model.input(layout)?;
    let (typed, dims) = match layout {
        Layout::Nchw => {
            let network = tract_onnx::onnx().model_for_path(model.folder.join("model.onnx"))?;
            (network.into_typed()?, [shape.n, shape.c, shape.h, shape.w])
        }
        Layout::Nhwc => {
            let dims = [shape.n, shape.h, shape.w, shape.c];
            (channel_last(&model, dims)?, dims)
        }
    };
    let mut state = typed.into_decluttered()?.into_optimized()?.into_runnable()?.spawn()?;
    let input = Tensor::from_shape(&dims, &input)?.into_tvalue();
    let call = move || Ok(state.run(tvec!(input.clone()))?.remove(0));
    Ok(model::run(call, |output| Ok(output.to_plain_array_view::<f32>()?.iter().copied().collect())))
}

/// Convolutions, as a user of tract with channel-last data would wire them.
fn channel_last(model: &Model, dims: [usize; 4]) -> Result<TypedModel> {
    let mut typed = TypedModel::default();
    let source = typed.add_source("input", f32::fact(dims))?;
    let output = model.evaluate(source, |index, inputs| {
        let (layer, pad) = (&model.arch.layers[index], |at: [usize; 2]| tvec!(at[0], at[1]));
        let Op::Conv(conv) = &layer.op else { return Err("its blocks only".into()) };
        let (window, (kernel, bias)) = (conv.window, model.weights(conv)?);
        let [kh, kw] = window.kernel;
        let shape = [conv.out_channels, conv.in_channels / conv.groups, kh, kw];
        let kernel = typed.add_const(format!("{index}.kernel"), Tensor::from_shape(&shape, &kernel)?)?;
        let bias = typed.add_const(format!("{index}.bias"), Tensor::from_shape(&[conv.out_channels], &bias)?)?;
        let sides = window.pad;
        let pool_spec = PoolSpec {
            data_format: DataFormat::NHWC,
            kernel_shape: pad(window.kernel),
            padding: PaddingSpec::Explicit(pad([sides.top, sides.left]), pad([sides.bottom, sides.right])),
            dilations: Some(pad(window.dilation)),
            strides: Some(pad(window.stride)),
            input_channels: conv.in_channels,
            output_channels: conv.out_channels,
        };
        let op = cnn::Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: conv.groups, q_params: None };
        let mut output = typed.wire_node(format!("{index}.conv"), op, &[inputs[0], kernel, bias])?[0];
        if model::is_relu6(layer.activation)? {
            for (name, limit, op) in [("max", 0f32, math::max()), ("min", 6.0, math::min())] {
                let limit = typed.add_const(format!("{index}.{name}.limit"), tensor0(limit).broadcast_into_rank(4)?)?;
                output = typed.wire_node(format!("{index}.{name}"), op, &[output, limit])?[0];
            }
        }
        Ok(output)
    })?;
    typed.select_output_outlets(&[output])?;
    Ok(typed)
}
