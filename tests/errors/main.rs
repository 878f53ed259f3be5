//! Bad arguments: each is an `Err` whose message names the numbers that disagree. None may panic.

mod debug;
mod names;
mod overflow;
mod parameters;
mod runs;
mod tensors;
mod windows;

use std::panic::{AssertUnwindSafe, catch_unwind};

use depthwise::{DepthwiseConv2d, Error, Layout, Run, Shape, TensorView, TensorViewMut, Workspace};

/// Collects what went wrong, so that one run tells of all.
#[derive(Default)]
struct Report(Vec<String>);

impl Report {
    /// `call` must be an error whose message contains each of `says`.
    fn error<T>(&mut self, name: &str, says: &[&str], call: impl FnOnce() -> Result<T, Error>) {
        match catch_unwind(AssertUnwindSafe(|| call().map(drop))) {
            Err(_) => self.0.push(format!("{name}: panicked")),
            Ok(Ok(())) => self.0.push(format!("{name}: no error")),
            Ok(Err(error)) => {
                let message = error.to_string();
                for part in says {
                    if !message.contains(part) {
                        self.0.push(format!("{name}: `{message}` does not mention {part}"));
                    }
                }
            }
        }
    }

    /// `call` must be fine.
    fn fine<T>(&mut self, name: &str, call: impl FnOnce() -> Result<T, Error>) {
        match catch_unwind(AssertUnwindSafe(|| call().map(drop))) {
            Err(_) => self.0.push(format!("{name}: panicked")),
            Ok(Err(error)) => self.0.push(format!("{name}: {error}")),
            Ok(Ok(())) => {}
        }
    }

    fn finish(self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];
/// Sixteen of which 32 bits count.
const LARGEST_STRIDE: usize = i32::MAX as usize / 16;

/// Four channels, 3×3 taps, padding 1.
fn depthwise(layout: Layout) -> DepthwiseConv2d {
    DepthwiseConv2d::builder(4).weights(&[0.5; 36]).layout(layout).build().expect("a plain plan")
}

/// Runs `plan` on contiguous tensors of these shapes, each slice as long as its shape asks for.
fn run(plan: &DepthwiseConv2d, input: Shape, output: Shape) -> Result<(), Error> {
    let len = |shape: Shape| shape.len().expect("a small shape");
    let (source, mut target) = (vec![1.0; len(input)], vec![0.0; len(output)]);
    let input = TensorView::new(&source, input, plan.layout())?;
    let output = TensorViewMut::new(&mut target, output, plan.layout())?;
    plan.run(Run::new(input, output, &mut Workspace::new()))
}
