//! Blocks of plans for narrow elements: what is converted at a time, so that kernels compute with `f32`.

use depthwise_kernels::{Axis, ElementType, Layout, Shape, Strides, sub_grids};

use super::descriptor::{Descriptor, Stages};
use super::passes::{Block, Decision, LEAST_PIXELS, SKEW};

/// Elements after a region that inputs are widened to: what is written after it starts at another place of a page, and so in other
/// cache sets.
const APART: usize = 256;

/// What a stage of a plan for narrow elements computes at a time. Its inputs are widened to scratch, and its outputs are narrowed
/// from there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wide {
    pub(crate) block: Block,
    /// The `f32` that inputs may take, if they are to be widened.
    pub(crate) inputs: usize,
    /// Those that outputs may take, if they are to be narrowed, and again those of a residual.
    pub(crate) outputs: usize,
}

impl Wide {
    /// The scratch it takes.
    fn len(&self) -> usize {
        self.inputs.saturating_add(self.outputs.saturating_mul(2))
    }
}

/// The blocks of both stages, or of the first or the second alone. Of `f32`, which is not converted, they are empty.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Widths {
    pub(crate) first: Wide,
    pub(crate) last: Wide,
}

impl Widths {
    /// The scratch of a task: stages follow each other, so they share it.
    pub(crate) fn len(&self) -> usize {
        self.first.len().max(self.last.len())
    }
}

impl Descriptor {
    /// How stages are computed where elements are narrow, for all of an output or for a part of it.
    pub(crate) fn widths(&self, decision: &Decision, input: Shape, whole: Shape) -> Widths {
        if self.element == ElementType::F32 {
            return Widths::default();
        }
        let one_pass = decision.first.is_none();
        let between = Shape { c: self.mid_channels, ..whole };
        match decision.rows {
            Stages::Depthwise(row) => {
                Widths { first: self.wide_depthwise(row.tile[0], input, whole, true), last: Wide::default() }
            }
            Stages::Pointwise(_) => Widths { first: Wide::default(), last: self.wide_pointwise(true, whole) },
            Stages::Separable(row, _) => Widths {
                first: self.wide_depthwise(row.tile[0], input, between, !one_pass),
                last: self.wide_pointwise(!one_pass, whole),
            },
            Stages::Gathered(_) => {
                Widths { first: self.wide_excerpt(decision.block, input), last: self.wide_pointwise(false, whole) }
            }
        }
    }

    /// The `f32` that are converted at a time: half of what a core's own cache holds.
    fn budget(&self) -> usize {
        self.machine.own_cache / 2 / size_of::<f32>()
    }

    /// Of a depthwise stage: rows that fill the budget, and as many more as it takes to read most inputs once. `narrows`: its outputs are
    /// to be converted, too.
    fn wide_depthwise(&self, tile: usize, input: Shape, output: Shape, narrows: bool) -> Wide {
        let (taps, budget) = (self.window.taps, self.budget());
        let reach = |i: usize| (taps.kernel_size[i] - 1) * taps.dilation[i] + 1;
        // Inputs that two neighbouring blocks both read.
        let shared = |i: usize| reach(i).saturating_sub(taps.stride[i]).min(input[[Axis::H, Axis::W][i]]);
        let out_channels = if narrows { output.c } else { 0 };
        // What a row of outputs takes, given those of its columns, and what the first of them takes more.
        let rows_within = |in_row: usize, out_row: usize| {
            let each = taps.stride[0].saturating_mul(in_row).saturating_add(out_row).max(1);
            budget.saturating_sub(shared(0).saturating_mul(in_row)) / each
        };
        let (in_row, out_row) = (input.w.saturating_mul(input.c), output.w.saturating_mul(out_channels));
        let fit = rows_within(in_row, out_row);
        let least = 2 * shared(0);
        let rows = fit.max(least).clamp(1, output.h.max(1));
        let columns = if fit > 0 {
            output.w
        } else {
            // Not even a row fits.
            let height = shared(0) + rows.saturating_mul(taps.stride[0]);
            let each = (height.saturating_mul(taps.stride[1]).saturating_mul(input.c))
                .saturating_add(rows.saturating_mul(out_channels));
            (budget / each.max(1)).max(2 * shared(1)).next_multiple_of(16).min(output.w)
        };
        let grids = sub_grids(taps.stride[0], taps.dilation[0]);
        let grain = if rows >= 2 * grids * tile { grids * tile } else { 1 };
        let block = Block { rows, grain, columns: columns.max(1) };
        let outputs = if narrows { self.region(Shape::new(1, output.c, rows, block.columns)) } else { 0 };
        Wide { outputs, ..self.wide_excerpt(block, input) }
    }

    /// Of the inputs of a block of outputs alone.
    fn wide_excerpt(&self, block: Block, input: Shape) -> Wide {
        let read = |i: usize, outputs: usize, extent: usize| {
            let reach = (self.window.taps.kernel_size[i] - 1) * self.window.taps.dilation[i] + 1;
            (outputs - 1).saturating_mul(self.window.taps.stride[i]).saturating_add(reach).min(extent)
        };
        let inputs = Shape::new(1, input.c, read(0, block.rows, input.h), read(1, block.columns, input.w));
        Wide { block, inputs: self.region(inputs).saturating_add(APART), outputs: 0 }
    }

    /// Of a pointwise stage: rows that fill the budget. `widens`: its inputs are narrow.
    fn wide_pointwise(&self, widens: bool, output: Shape) -> Wide {
        let in_channels = if widens { self.mid_channels } else { 0 };
        let pixels = (self.budget() / in_channels.saturating_add(output.c).max(1)).max(LEAST_PIXELS);
        let width = output.w.max(1);
        let (rows, columns) = if width <= pixels {
            ((pixels / width).min(output.h.max(1)), width)
        } else {
            (1, pixels.next_multiple_of(LEAST_PIXELS).min(width))
        };
        let region = |channels: usize| self.region(Shape::new(1, channels, rows, columns));
        Wide {
            block: Block { rows, grain: 1, columns },
            inputs: if widens { region(in_channels).saturating_add(APART) } else { 0 },
            outputs: region(output.c),
        }
    }

    /// The strides of one image's elements as `f32`. Channels last, they are all neighbours.
    pub(crate) fn wide_strides(&self, shape: Shape) -> Strides {
        match self.layout {
            Layout::Nhwc => Strides { n: 0, c: 1, h: shape.w * shape.c, w: shape.c },
            Layout::Nchw => self.block_strides(shape),
        }
    }

    /// The `f32` that they take, in whole cache lines.
    fn region(&self, Shape { c, h, w, .. }: Shape) -> usize {
        let pixels = h.saturating_mul(w);
        let len = match self.layout {
            Layout::Nhwc => pixels.saturating_mul(c),
            Layout::Nchw => pixels.saturating_add(15 + SKEW).saturating_mul(c),
        };
        len.saturating_add(15) / 16 * 16
    }
}
