//! rten on model.onnx, in NCHW, weights packed when it is loaded, run in its own kind of pool.

use std::sync::Arc;

use depthwise::Layout;
use rten::{ModelOptions, RunOptions, ThreadPool};
use rten_tensor::Tensor;
use rten_tensor::prelude::*;

use crate::model::{self, Model};
use crate::{Result, Run};

pub fn serve(threads: usize) -> Result<()> {
    let pool = Arc::new(ThreadPool::with_num_threads(threads));
    pool.run(|| crate::serve(&["nchw"], crate::OWN, |model, _, _| prepare(&model, pool.clone())))
}

fn prepare(model: &Model, pool: Arc<ThreadPool>) -> Result<Run> {
    let (input, shape) = model.input(Layout::Nchw)?;
    let input = Tensor::from_data(&[shape.n, shape.c, shape.h, shape.w], input);
    let network = ModelOptions::with_all_ops().prepack_weights(true).load_file(model.folder.join("model.onnx"))?;
    let (from, to) = (network.input_ids()[0], network.output_ids()[0]);
    let call = move || {
        let options = RunOptions::default().with_thread_pool(Some(pool.clone()));
        Ok(network.run(vec![(from, input.view().into())], &[to], Some(options))?.remove(0))
    };
    Ok(model::run(call, |output| {
        let output: Tensor<f32> = output.try_into()?;
        Ok(output.to_vec())
    }))
}
