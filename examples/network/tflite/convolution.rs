//! Convolutions, on the crate's plans of 8 bits.

use depthwise::int8::{Conv2d, DepthwiseConv2d, Integer, PointwiseConv2d, Rounding, Weights};
use depthwise::{Axis, Error, Layout, Padding, Run, Shape, TensorView, TensorViewMut, WeightOrder, Workspace};

use super::values::{Quantized, Values};

/// Which of TFLite's operators.
#[derive(Clone, Copy, PartialEq)]
pub enum Form {
    Standard,
    Depthwise,
    FullyConnected,
}

/// A convolution as the file describes it.
pub struct Described<'a> {
    pub form: Form,
    pub from: Quantized,
    pub to: Quantized,
    pub input: Shape,
    /// Output channels.
    pub outputs: usize,
    /// Input channels of a group.
    pub depth: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Top, left, bottom, right.
    pub padding: [usize; 4],
    /// In TFLite's order: outputs last of a depthwise convolution, and first of others.
    pub weights: &'a Values,
    /// One, or one for each output.
    pub scales: &'a [f32],
    pub zero_point: i32,
    pub bias: &'a [i32],
    pub clamp: (i32, i32),
    /// Whether the product of the scales is formed in f32.
    pub legacy: bool,
}

enum Plan {
    Depthwise(DepthwiseConv2d),
    Pointwise(PointwiseConv2d),
    Standard(Conv2d),
}

/// A convolution ready to run: a plan, or one for each group of channels.
pub struct Convolution {
    plans: Vec<Plan>,
    input: Shape,
    output: Shape,
}

impl Described<'_> {
    pub fn build(&self) -> Result<Convolution, Error> {
        let groups = self.input.c / self.depth;
        let plans = if self.form == Form::FullyConnected || (groups > 1 && self.depth == 1) {
            vec![self.plan(0..self.outputs)?]
        } else {
            let share = self.outputs / groups;
            (0..groups).map(|group| self.plan(group * share..(group + 1) * share)).collect::<Result<_, _>>()?
        };
        let output = match &plans[0] {
            Plan::Depthwise(plan) => plan.output_shape(self.input)?,
            Plan::Pointwise(plan) => plan.output_shape(self.input)?,
            Plan::Standard(plan) => {
                Shape { c: self.outputs, ..plan.output_shape(Shape { c: self.depth, ..self.input })? }
            }
        };
        Ok(Convolution { plans, input: self.input, output })
    }

    fn plan(&self, outputs: std::ops::Range<usize>) -> Result<Plan, Error> {
        let (kernel, each) = (self.kernel[0] * self.kernel[1], outputs.len());
        let is_depthwise = self.form == Form::Depthwise || (self.depth == 1 && self.input.c > 1);
        // Of others, input channels come last, and PyTorch has them before the taps.
        let place = |i: usize| {
            let (output, rest) = (i / (self.depth * kernel), i % (self.depth * kernel));
            ((outputs.start + output) * kernel + rest % kernel) * self.depth + rest / kernel
        };
        let len = if is_depthwise { 0 } else { each * self.depth * kernel };
        let (ordered_i8, ordered_u8): (Vec<i8>, Vec<u8>);
        let scales = if self.scales.len() == 1 { self.scales } else { &self.scales[outputs.clone()] };
        let weights = match self.weights {
            Values::I8(values) if is_depthwise => Weights::i8(values, scales),
            Values::U8(values) if is_depthwise => Weights::u8(values, scales, self.zero_point),
            Values::I8(values) => {
                ordered_i8 = (0..len).map(|i| values[place(i)]).collect();
                Weights::i8(&ordered_i8, scales)
            }
            Values::U8(values) => {
                ordered_u8 = (0..len).map(|i| values[place(i)]).collect();
                Weights::u8(&ordered_u8, scales, self.zero_point)
            }
            Values::F32(_) => unreachable!("weights of 8 bits were asked for"),
        };
        let bias = &self.bias[outputs.clone()];
        let rounding = if self.legacy { Rounding::TfliteLegacy } else { Rounding::Tflite };
        let [from, to] = [self.from, self.to].map(Quantized::described);
        let (low, high) = self.clamp;
        let [top, left, bottom, right] = self.padding;
        let padding = Padding::explicit(top, left, bottom, right);
        macro_rules! common {
            ($builder:expr) => {{
                let builder = $builder.layout(Layout::Nhwc).rounding(rounding).input(from).output(to);
                builder.clamp(low, high).weights(weights).bias(bias)
            }};
        }
        macro_rules! window {
            ($builder:expr) => {
                $builder.kernel_size(self.kernel).stride(self.stride).dilation(self.dilation).padding(padding)
            };
        }
        Ok(if is_depthwise {
            // A file may say so of channels that it has not.
            let multiplier = self.outputs / self.input.c;
            let order = if self.form == Form::Depthwise { WeightOrder::Tflite } else { WeightOrder::Pytorch };
            let builder = DepthwiseConv2d::builder(self.input.c).channel_multiplier(multiplier).weight_order(order);
            Plan::Depthwise(window!(common!(builder)).build()?)
        } else if self.form == Form::FullyConnected {
            Plan::Pointwise(common!(PointwiseConv2d::builder(self.depth, each)).build()?)
        } else {
            Plan::Standard(window!(common!(Conv2d::builder(self.depth, each))).build()?)
        })
    }
}

impl Convolution {
    /// Of maps, channels last: height, width and channels.
    pub fn output(&self) -> [usize; 4] {
        [self.output.n, self.output.h, self.output.w, self.output.c]
    }

    pub fn run(&self, input: &Values) -> Values {
        let result = match input {
            Values::I8(values) => self.run_as(values).map(Values::I8),
            Values::U8(values) => self.run_as(values).map(Values::U8),
            Values::F32(_) => panic!("a convolution of 8 bits was given f32"),
        };
        result.expect("checked when it was built")
    }

    fn run_as<T: Integer<Stored = u8>>(&self, values: &[T]) -> Result<Vec<T>, Error> {
        let layout = Layout::Nhwc;
        let (input, groups) = (TensorView::new(values, self.input, layout)?, self.plans.len());
        let mut outputs = vec![T::default(); self.output.n * self.output.c * self.output.h * self.output.w];
        let group = |channels: usize, group: usize| group * (channels / groups)..(group + 1) * (channels / groups);
        Workspace::with_thread(|workspace| {
            for (i, plan) in self.plans.iter().enumerate() {
                let output = TensorViewMut::new(&mut outputs, self.output, layout)?;
                let output = output.narrow(Axis::C, group(self.output.c, i))?;
                let run = Run::new(input.narrow(Axis::C, group(self.input.c, i))?, output, workspace);
                match plan {
                    Plan::Depthwise(plan) => plan.run(run)?,
                    Plan::Pointwise(plan) => plan.run(run)?,
                    Plan::Standard(plan) => plan.run(run)?,
                }
            }
            Ok(())
        })?;
        Ok(outputs)
    }
}
