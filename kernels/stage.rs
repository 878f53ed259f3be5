//! A convolution's packed weights with the kernel that they were packed for, and the one place where
//! a kernel is called: everything that a kernel relies on is asserted here.

use alloc::vec::Vec;

use crate::depthwise::nchw::{self, fits_copy};
use crate::depthwise::nhwc::Buffer;
use crate::depthwise::{DepthwiseArgs, DepthwiseTuning, MOST_STRIP_ROWS};
use crate::epilogue::Epilogue;
use crate::info::{Form, KernelInfo};
use crate::memory::{AlignedBuf, TensorView, TensorViewMut};
use crate::pointwise::PointwiseArgs;
use crate::pointwise::nhwc::{packed_width, panel_width};
use crate::table::{Available, Entry, available, table};
use crate::types::{Activation, Axis, Element, Error, Layout, MAX_POSITION, MAX_STRIDE, Shape, Taps, undilated_stride};

/// A depthwise convolution, ready to run.
pub struct DepthwiseStage {
    /// The kernels that may run it: they compute these taps, and take this packing.
    kernels: Vec<Available>,
    taps: Taps,
    /// Input channels.
    channels: usize,
    multiplier: usize,
    packed: AlignedBuf,
    /// What a kernel reads in place of padding, channels last. Apart from the weights: what reads past the end of those
    /// must not find them.
    zeros: AlignedBuf,
    epilogue: Epilogue,
}

/// A pointwise convolution, ready to run.
pub struct PointwiseStage {
    /// The kernels that may run it, that which it was packed for first: they take this packing.
    kernels: Vec<Available>,
    in_channels: usize,
    out_channels: usize,
    packed: AlignedBuf,
    epilogue: Epilogue,
    prefetches_outputs: bool,
}

/// Applies what of an activation is more than a clamp to an output that a kernel has just written.
fn sweep(kernel: &Available, epilogue: &Epilogue, output: &mut TensorViewMut<'_>) {
    let Some(curve) = epilogue.curve else { return };
    let (shape, strides) = (output.shape(), output.strides());
    let (long, axes) = match kernel.info().layout {
        Layout::Nchw => (Axis::W, [Axis::H, Axis::C, Axis::N]),
        Layout::Nhwc => (Axis::C, [Axis::W, Axis::H, Axis::N]),
    };
    // Runs that follow each other without a gap are one.
    let (mut run, mut runs) = (shape[long], axes.map(|axis| shape[axis]));
    for (runs, axis) in runs.iter_mut().zip(axes) {
        if *runs > 1 && strides[axis] != run {
            break;
        }
        run *= core::mem::replace(runs, 1);
    }
    for outer in 0..runs[2] {
        for middle in 0..runs[1] {
            for inner in 0..runs[0] {
                let steps = [inner, middle, outer].into_iter().zip(axes).map(|(i, axis)| i * strides[axis]);
                let p = output.as_mut_ptr().wrapping_add(steps.sum());
                // SAFETY: the view holds these elements, contiguous along `long` (asserted before the
                // kernel ran) and where runs are one, which the kernel has just written; the CPU has the instruction set.
                unsafe { (kernel.family.activate)(curve, p, run) }
            }
        }
    }
}

fn assert_contiguous(kernel: &KernelInfo, shape: Shape, strides: crate::types::Strides) {
    let axis = kernel.layout.vector_axis();
    assert!(shape[axis] <= 1 || strides[axis] == 1, "a tensor with gaps along the {axis} reached a kernel");
}

impl DepthwiseStage {
    /// Packs `weights` of shape `[channels * multiplier][kernel height][kernel width]` and `bias` of
    /// `[channels * multiplier]` for a depthwise kernel that computes these taps, and for all others that do and take the same
    /// [packing](KernelInfo::packs_as).
    ///
    /// # Errors
    /// If a product of extents overflows, or there is no memory.
    ///
    /// # Panics
    /// If an extent is 0 or a stride too long, if the slices have other lengths, or if the kernel does not compute it.
    ///
    /// ```
    /// use depthwise_kernels::*;
    ///
    /// let info = table().find(|info| info.operation == Operation::Depthwise && info.kernel_size.is_none());
    /// let kernel = info.and_then(available).expect("portable kernels run anywhere");
    /// let stage = |kernel_size, channels, multiplier| {
    ///     let taps = Taps { kernel_size, stride: [1, 1], dilation: [1, 1] };
    ///     DepthwiseStage::new(kernel, taps, channels, multiplier, [&[], &[]], Activation::None).map(|_| ())
    /// };
    /// assert!(matches!(stage([3, 3], 1 << (usize::BITS - 1), 2), Err(Error::Overflow { .. })));
    /// assert!(matches!(stage([1 << (usize::BITS - 1), 2], 0, 1), Err(Error::Overflow { .. })));
    /// assert_eq!(stage([3, 3], 0, 1), Ok(()));
    /// ```
    pub fn new(
        kernel: Available,
        taps: Taps,
        channels: usize,
        multiplier: usize,
        [weights, bias]: [&[f32]; 2],
        activation: Activation,
    ) -> Result<Self, Error> {
        let info = kernel.info();
        let [kh, kw] = taps.kernel_size;
        assert!([taps.kernel_size, taps.dilation].as_flattened().iter().all(|&n| n >= 1) && multiplier >= 1);
        assert!(taps.stride.iter().all(|stride| (1..=MAX_STRIDE).contains(stride)));
        let overflow = Error::Overflow { what: "the number of weights" };
        let Some((outputs, size)) = channels.checked_mul(multiplier).zip(kh.checked_mul(kw)) else {
            return Err(overflow);
        };
        assert_eq!((Some(weights.len()), bias.len()), (outputs.checked_mul(size), outputs));
        assert!(fits(info, taps, multiplier), "{} does not compute {taps:?}", info.name);
        let (lanes, zeros) = match info.layout {
            Layout::Nhwc => (info.lanes, outputs.next_multiple_of(info.lanes)),
            Layout::Nchw => (1, 0),
        };
        let with_repeats = packed_channels(info, taps, outputs);
        let zeros = AlignedBuf::zeroed(zeros)?;
        let panel = size.checked_add(1).and_then(|rows| rows.checked_mul(lanes)).ok_or(overflow.clone())?;
        let len = with_repeats.div_ceil(lanes).checked_mul(panel).ok_or(overflow)?;
        let mut packed = AlignedBuf::zeroed(len)?;
        // Per vector of channels: the bias, then the taps row by row, each a vector.
        let panels = packed.as_mut_slice().chunks_exact_mut(panel);
        for (panel, first) in panels.zip((0..with_repeats).step_by(lanes)) {
            for lane in 0..lanes.min(with_repeats - first) {
                let channel = (first + lane) % outputs;
                panel[lane] = bias[channel];
                for (tap, &weight) in weights[channel * size..][..size].iter().enumerate() {
                    panel[(1 + tap) * lanes + lane] = weight;
                }
            }
        }
        let epilogue = Epilogue::of(activation);
        let others = table().filter(|other| other.packs_as(info) && fits(other, taps, multiplier));
        // Kernels of other tiles may repeat few channels otherwise.
        let others = others.filter(|other| packed_channels(other, taps, outputs) == with_repeats);
        let kernels = others.filter_map(available).collect();
        Ok(Self { kernels, taps, channels, multiplier, packed, zeros, epilogue })
    }

    /// Computes the part of the output that `output` views, which starts at image 0 and at channel, row
    /// and column `origin` of the whole. `pad`: at the top and at the left.
    /// `residual` is shaped as the part. `way`: the kernel, a row of the table, and how it goes about its work.
    ///
    /// # Panics
    /// If the weights are not packed for that kernel, if it does not compute these taps, if shapes disagree, if the part does not lie within the whole's channels, if positions overflow, or if there are gaps along
    /// the kernel's vectors.
    ///
    /// ```should_panic
    /// use depthwise_kernels::*;
    ///
    /// let info = table().find(|info| info.operation == Operation::Depthwise && info.kernel_size.is_none());
    /// let kernel = info.and_then(available).expect("portable kernels run anywhere");
    /// let taps = Taps { kernel_size: [1, 1], stride: [1, 1], dilation: [1, 1] };
    /// let Ok(stage) = DepthwiseStage::new(kernel, taps, 1, 1, [&[1.0], &[0.0]], Activation::None) else { return };
    /// let (shape, mut y) = (Shape::new(1, 1, 1, 1), [0.0]);
    /// let Ok(input) = TensorView::new(&[1.0], shape, info.unwrap().layout) else { return };
    /// let Ok(output) = TensorViewMut::new(&mut y, shape, info.unwrap().layout) else { return };
    /// // The end of these channels overflows.
    /// stage.run((info.unwrap(), DepthwiseTuning::default()), input, None, output, Shape::new(0, usize::MAX, 0, 0), [0, 0]);
    /// ```
    pub fn run(
        &self,
        way: (&'static KernelInfo, DepthwiseTuning),
        input: TensorView<'_>,
        residual: Option<TensorView<'_>>,
        mut output: TensorViewMut<'_>,
        origin: Shape,
        pad: [usize; 2],
    ) {
        let kernel = self.compute(way, input, residual, &mut output, origin, pad);
        sweep(kernel, &self.epilogue, &mut output);
    }

    /// As [`run`](Self::run), on elements of a kernel's own type, which are rounded once.
    ///
    /// # Panics
    /// As [`run`](Self::run), and if the activation [takes a sweep](Self::sweeps), which would be a second rounding.
    pub fn run_on<E: Element>(
        &self,
        way: (&'static KernelInfo, DepthwiseTuning),
        input: TensorView<'_, E>,
        residual: Option<TensorView<'_, E>>,
        mut output: TensorViewMut<'_, E>,
        origin: Shape,
        pad: [usize; 2],
    ) {
        assert!(!self.sweeps(), "an activation that takes a sweep rounds twice");
        self.compute(way, input, residual, &mut output, origin, pad);
    }

    /// Whether the activation is more than a clamp, and so a sweep over the output.
    pub fn sweeps(&self) -> bool {
        self.epilogue.curve.is_some()
    }

    /// What a kernel computes; the kernel.
    fn compute<E: Element>(
        &self,
        (info, tuning): (&'static KernelInfo, DepthwiseTuning),
        input: TensorView<'_, E>,
        residual: Option<TensorView<'_, E>>,
        output: &mut TensorViewMut<'_, E>,
        origin: Shape,
        pad: [usize; 2],
    ) -> &Available {
        let kernel = self.kernels.iter().find(|kernel| core::ptr::eq(kernel.info(), info));
        let Some(kernel) = kernel else { panic!("{} does not run this stage", info.name) };
        assert_eq!(info.element, E::TYPE);
        let shape = output.shape();
        if shape.is_empty() {
            return kernel;
        }
        assert!((1..=MOST_STRIP_ROWS).contains(&tuning.strip_rows));
        assert_eq!((input.shape().n, input.shape().c), (shape.n, self.channels));
        let outputs = self.channels * self.multiplier;
        assert!(origin.n == 0 && origin.c.checked_add(shape.c).is_some_and(|end| end <= outputs));
        assert_contiguous(info, input.shape(), input.strides());
        assert_contiguous(info, shape, output.strides());
        if let Some(residual) = residual {
            assert_eq!(residual.shape(), shape);
            assert_contiguous(info, shape, residual.strides());
        }
        // With positions this small, no index computation of a kernel overflows: a kernel goes at most a vector of strides beyond
        // the last output, which 32 bits hold too. Where an output's taps lie is then the kernel's own look-out: it reads the
        // input only inside of its extents.
        let reach = |axis: usize, origin: usize, extent: usize| {
            let last = (origin.checked_add(extent)? - 1).checked_mul(self.taps.stride[axis])?;
            let taps = (self.taps.kernel_size[axis] - 1).checked_mul(self.taps.dilation[axis])?;
            last.checked_add(taps)?.checked_add(1)?.checked_add(pad[axis])
        };
        let limit = MAX_POSITION;
        assert!(reach(0, origin.h, shape.h).is_some_and(|r| r < limit));
        assert!(reach(1, origin.w, shape.w).is_some_and(|r| r < limit));
        let args = DepthwiseArgs {
            input: input.as_ptr().cast(),
            input_shape: input.shape(),
            input_strides: input.strides(),
            output: output.as_mut_ptr().cast(),
            output_shape: shape,
            output_strides: output.strides(),
            residual: residual.map(|residual| residual.as_ptr().cast()),
            residual_strides: residual.map_or(output.strides(), |residual| residual.strides()),
            origin,
            kernel_size: self.taps.kernel_size,
            stride: self.taps.stride,
            dilation: self.taps.dilation,
            pad,
            multiplier: self.multiplier,
            weights: self.packed.as_slice().as_ptr(),
            zeros: self.zeros.as_slice().as_ptr(),
            tuning,
            bounds: [self.epilogue.min, self.epilogue.max],
        };
        let Entry::Depthwise(entry) = kernel.entry else { unreachable!("built from a depthwise kernel") };
        // SAFETY: `Available` proves the instruction set; the views hold their elements; channels, strides
        // and positions were asserted above, the taps and the packing when the stage was built.
        unsafe { entry(&args) }
        kernel
    }
}

/// How many channels' weights a depthwise kernel takes: all, or where they are few so many times all that they fill whole vectors.
pub fn packed_channels(info: &KernelInfo, taps: Taps, outputs: usize) -> usize {
    match info.form {
        Form::Buffered => {
            Buffer::new(info.lanes, info.tile, taps, outputs).filter(|b| b.gapless).map_or(outputs, |b| b.period)
        }
        _ => outputs,
    }
}

/// Whether a depthwise kernel's vectors run across channels, channels first, of so many of them and so many columns of outputs.
pub fn copies_beside(info: &KernelInfo, taps: Taps, multiplier: usize, channels: usize, width: usize) -> bool {
    info.form == Form::Copied && nchw::copies_beside(taps, multiplier, info.lanes, channels, width)
}

/// Whether a depthwise kernel computes a convolution.
pub fn fits(info: &KernelInfo, taps: Taps, multiplier: usize) -> bool {
    let Taps { kernel_size, stride, dilation } = taps;
    let undilated = [0, 1].map(|axis| undilated_stride(stride[axis], dilation[axis]));
    match (info.layout, info.kernel_size, info.stride) {
        (Layout::Nhwc, Some(size), Some(s)) => multiplier == 1 && size == kernel_size && s == undilated,
        // Channels first, columns are not split into sub-grids: the vector runs along them.
        (Layout::Nchw, Some(size), Some(s)) => {
            let reach = (size[1] - 1).checked_mul(dilation[1]);
            let in_vector = info.form != Form::Pairs || reach.is_some_and(|reach| reach < info.lanes);
            size == kernel_size && s == [undilated[0], stride[1]] && (s[1] == 1 || dilation[1] == 1) && in_vector
        }
        // A vector of channels at a time takes the least room.
        _ if info.form == Form::Buffered => Buffer::new(info.lanes, info.tile, taps, info.lanes).is_some(),
        (Layout::Nchw, None, _) if info.form == Form::Copied => fits_copy(taps, info.tile[0], info.lanes),
        _ => true,
    }
}

/// Input channels that are packed at a time: so few that their weights stay in a cache until all output channels of a panel are there.
const PACKED_ROWS: usize = 64;

impl PointwiseStage {
    /// Packs `weights` of shape `[out_channels][in_channels]` and `bias` of `[out_channels]`.
    ///
    /// # Errors
    /// If a product of extents overflows, or there is no memory.
    ///
    /// # Panics
    /// If the slices have other lengths.
    pub fn new(
        kernel: Available,
        in_channels: usize,
        out_channels: usize,
        [weights, bias]: [&[f32]; 2],
        activation: Activation,
        prefetches_outputs: bool,
    ) -> Result<Self, Error> {
        assert_eq!((Some(weights.len()), bias.len()), (in_channels.checked_mul(out_channels), out_channels));
        let row = |width: usize| match kernel.info().layout {
            Layout::Nhwc => packed_width(width, kernel.info().lanes),
            Layout::Nchw => width,
        };
        let len = panels(kernel, out_channels)
            .try_fold(0usize, |len, (_, width)| len.checked_add(row(width).checked_mul(in_channels.checked_add(1)?)?));
        let mut packed = AlignedBuf::zeroed(len.ok_or(Error::Overflow { what: "the number of weights" })?)?;
        // Per panel of output channels: the bias, then a row of weights for each input channel.
        let mut rest = packed.as_mut_slice();
        for (first, width) in panels(kernel, out_channels) {
            let row = row(width);
            let panel;
            (panel, rest) = rest.split_at_mut(row * (1 + in_channels));
            // The half vector of a joined panel is there twice.
            let columns = |i: usize| [i, i + if i >= 2 * width - row { row - width } else { 0 }];
            let channels = 0..width.min(out_channels - first);
            for i in channels.clone() {
                columns(i).into_iter().for_each(|column| panel[column] = bias[first + i]);
            }
            for (from, rows) in (0..in_channels).step_by(PACKED_ROWS).zip(panel[row..].chunks_mut(PACKED_ROWS * row)) {
                for i in channels.clone() {
                    let weights = &weights[(first + i) * in_channels + from..];
                    for column in columns(i) {
                        rows.iter_mut().skip(column).step_by(row).zip(weights).for_each(|(to, &weight)| *to = weight);
                    }
                }
            }
        }
        let epilogue = Epilogue::of(activation);
        let others = table().filter(|&other| other.packs_as(kernel.info()) && !core::ptr::eq(other, kernel.info()));
        let kernels = core::iter::once(kernel).chain(others.filter_map(available)).collect();
        Ok(Self { kernels, in_channels, out_channels, packed, epilogue, prefetches_outputs })
    }

    /// Computes the part of the output that `output` views, from channel `channel` of the whole on.
    /// `input` holds all input channels of the same pixels, `residual` is shaped as the part. `next` is what will be read
    /// after this, whole rows of an image. `info`: the kernel, a row of the table.
    ///
    /// # Panics
    /// If the weights are not packed for that kernel, if shapes disagree, if the part does not lie within the whole's channels, or if there are gaps along the kernel's vectors.
    pub fn run(
        &self,
        info: &'static KernelInfo,
        input: TensorView<'_>,
        residual: Option<TensorView<'_>>,
        mut output: TensorViewMut<'_>,
        channel: usize,
        next: Option<TensorView<'_>>,
    ) {
        let kernel = self.kernels.iter().find(|kernel| core::ptr::eq(kernel.info(), info));
        let Some(kernel) = kernel else { panic!("{} does not run this stage", info.name) };
        let shape = output.shape();
        if shape.is_empty() {
            return;
        }
        assert_eq!(input.shape(), Shape { c: self.in_channels, ..shape });
        assert!(channel.checked_add(shape.c).is_some_and(|end| end <= self.out_channels));
        assert_contiguous(info, input.shape(), input.strides());
        assert_contiguous(info, shape, output.strides());
        if let Some(residual) = residual {
            assert_eq!(residual.shape(), shape);
            assert_contiguous(info, shape, residual.strides());
        }
        let args = PointwiseArgs {
            input: input.as_ptr(),
            input_strides: input.strides(),
            depth: self.in_channels,
            output: output.as_mut_ptr(),
            shape,
            output_strides: output.strides(),
            residual: residual.map(|residual| residual.as_ptr()),
            residual_strides: residual.map_or(output.strides(), |residual| residual.strides()),
            channel,
            channels: self.out_channels,
            next: next.map_or(core::ptr::null(), |rows| rows.as_ptr()),
            next_len: next.map_or(0, |rows| rows.shape().h.saturating_mul(rows.strides().h)),
            prefetches_outputs: self.prefetches_outputs,
            weights: self.packed.as_slice().as_ptr(),
            bounds: [self.epilogue.min, self.epilogue.max],
        };
        let Entry::Pointwise(entry) = kernel.entry else { unreachable!("built from a pointwise kernel") };
        // SAFETY: `Available` proves the instruction set; the views hold their elements; shapes and strides
        // were asserted above, the packing when the stage was built.
        unsafe { entry(&args) }
        sweep(kernel, &self.epilogue, &mut output);
    }
}

/// The panels of a pointwise kernel: first output channel and width.
fn panels(kernel: Available, out_channels: usize) -> impl Iterator<Item = (usize, usize)> {
    let (info, half) = (kernel.info(), kernel.family.half_lanes);
    let width = move |first: usize| match info.layout {
        Layout::Nhwc => panel_width(out_channels - first, info.lanes, half, info.joins()),
        Layout::Nchw => info.tile[1],
    };
    let next = move |&(first, width): &(usize, usize)| Some(first + width).filter(|&first| first < out_channels);
    core::iter::successors(Some((0, width(0))), move |panel| next(panel).map(|first| (first, width(first))))
}
