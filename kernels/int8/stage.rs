//! A convolution's packed weights of 8 bits with the kernel that they were packed for, and the one place where a kernel is called.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::depthwise::Args as DepthwiseArgs;
use super::elementwise::Reals;
use super::finish::{Ends, Factors, Scaling};
use super::interleaved::{Sharing, meets, strip_columns};
use super::pointwise::{Args as PointwiseArgs, scratch_len};
use super::{SIGN, simd::SimdInt, simd::SimdWide};
use crate::info::{Form, KernelInfo};
use crate::memory::{AlignedBuf, TensorView, TensorViewMut};
use crate::table::{Available, Entry};
use crate::types::{Axis, ElementType, Error, MAX_POSITION, MAX_STRIDE, Shape, Strides, Taps};

/// An instruction set's packing, which depends on the order of its lanes.
#[derive(Clone, Copy)]
pub(crate) struct Packing {
    lanes: usize,
    groups: usize,
    group: usize,
    wide: bool,
    channel: fn(usize, usize) -> usize,
    /// Of pointwise weights.
    weight: fn(usize, usize) -> usize,
    /// Of weights of two taps, in a panel.
    tap_weight: fn(usize, usize) -> usize,
}

/// What no kernel of an instruction set asks for.
fn none(_: usize, _: usize) -> usize {
    unreachable!("no kernel packs so")
}

impl Packing {
    pub(crate) const fn of<S: SimdInt>() -> Self {
        Packing {
            lanes: S::LANES,
            groups: S::GROUPS,
            group: S::GROUP,
            wide: S::WIDE,
            channel: S::channel,
            weight: S::weight,
            tap_weight: none,
        }
    }

    pub(crate) const fn with_taps<S: SimdWide>(self) -> Self {
        Packing { tap_weight: S::tap_weight, ..self }
    }

    /// Outputs of a panel.
    fn channels(&self) -> usize {
        self.lanes * self.groups
    }

    /// The channel of each place of the tables.
    fn order(&self, channels: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        let Packing { lanes, channel, .. } = *self;
        let panel = self.channels();
        (0..channels.next_multiple_of(panel))
            .map(move |place| place / panel * panel + channel(place % panel / lanes, place % lanes))
    }
}

/// Bytes on cache lines.
#[derive(Default)]
struct Bytes {
    buf: AlignedBuf,
}

impl Bytes {
    fn zeroed(len: usize) -> Result<Self, Error> {
        Ok(Self { buf: AlignedBuf::zeroed(len.div_ceil(4))? })
    }

    fn write(&mut self, at: usize, weight: i16, wide: bool) {
        let bytes = bytes_of(self.buf.as_mut_slice());
        if wide {
            bytes[2 * at..2 * at + 2].copy_from_slice(&weight.to_ne_bytes());
        } else {
            let narrow = i8::try_from(weight).unwrap_or_else(|_| panic!("a weight of {weight} for a kernel of bytes"));
            bytes[at] = narrow as u8;
        }
    }

    fn as_ptr(&self) -> *const u8 {
        self.buf.as_slice().as_ptr().cast()
    }
}

/// Memory of `f32` as bytes, whatever they hold.
#[doc(hidden)]
pub fn bytes_of(data: &mut [f32]) -> &mut [u8] {
    // SAFETY: these are the slice's bytes, borrowed alone. Any bits are an `f32`, and a byte.
    unsafe { core::slice::from_raw_parts_mut(data.as_mut_ptr().cast(), size_of_val(data)) }
}

/// Memory of `f32` as whole numbers, whatever they hold.
#[doc(hidden)]
pub fn sums_of(data: &mut [f32]) -> &mut [i32] {
    // SAFETY: as above; both are four bytes, aligned alike.
    unsafe { core::slice::from_raw_parts_mut(data.as_mut_ptr().cast(), data.len()) }
}

/// A number that tensors of plans of 8 bits hold: an [`Integer`], or where they are the outputs, [`f32`].
///
/// Sealed: kernels rely on how these types lie in memory.
pub trait Output: sealed::Sealed + Copy + Default + PartialEq + core::fmt::Debug + Send + Sync + 'static {
    /// Which of the types it is.
    const TYPE: ElementType;
    /// What kernels take it for: `u8` and `i8` are bytes, and `f32` is made of a sum where it lies.
    #[doc(hidden)]
    type Stored: Stored;
}

/// A whole number that tensors hold: `u8` and `i8`, with scale and zero point, and `i32`, sums of products of these.
pub trait Integer: Output {}

/// What kernels store.
#[doc(hidden)]
pub trait Stored: Integer<Stored = Self> {
    /// Memory of `f32` as such numbers, whatever they hold.
    fn of(memory: &mut [f32]) -> &mut [Self];
    /// Elements as bytes, where they are.
    fn as_bytes(data: &mut [Self]) -> Option<&mut [u8]>;
    /// Elements as sums, where they are.
    fn as_sums(data: &mut [Self]) -> Option<&mut [i32]>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for i8 {}
    impl Sealed for i32 {}
    impl Sealed for f32 {}
}

macro_rules! outputs {
    ($($type:ty: $name:ident, $stored:ty;)*) => {$(
        impl Output for $type {
            const TYPE: ElementType = ElementType::$name;
            type Stored = $stored;
        }
    )*};
}
outputs! {
    u8: U8, u8;
    i8: I8, u8;
    i32: I32, i32;
    f32: F32, i32;
}

impl Integer for u8 {}
impl Integer for i8 {}
impl Integer for i32 {}

impl Stored for u8 {
    fn of(memory: &mut [f32]) -> &mut [u8] {
        bytes_of(memory)
    }
    fn as_bytes(data: &mut [u8]) -> Option<&mut [u8]> {
        Some(data)
    }
    fn as_sums(_: &mut [u8]) -> Option<&mut [i32]> {
        None
    }
}

impl Stored for i32 {
    fn of(memory: &mut [f32]) -> &mut [i32] {
        sums_of(memory)
    }
    fn as_bytes(_: &mut [i32]) -> Option<&mut [u8]> {
        None
    }
    fn as_sums(data: &mut [i32]) -> Option<&mut [i32]> {
        Some(data)
    }
}

impl<'a, T: Output> TensorView<'a, T> {
    /// The same elements as kernels take them.
    #[doc(hidden)]
    pub fn stored(self) -> TensorView<'a, T::Stored> {
        // `T` and what it is stored as are as large, and any bits are either.
        self.cast()
    }
}

impl<'a, T: Output> TensorViewMut<'a, T> {
    /// The same elements as kernels take them.
    #[doc(hidden)]
    pub fn stored(self) -> TensorViewMut<'a, T::Stored> {
        self.cast()
    }
}

/// Parameters of a stage, of so many output channels.
pub struct Parameters<'a> {
    /// Weights less their zero point.
    pub weights: &'a [i16],
    /// Any numbers.
    pub bias: &'a [i32],
    /// What the inputs stand for.
    pub input: Input,
    /// Whether inputs are `i8`: then their highest bits are flipped.
    pub signed: bool,
    /// Factors of the sums.
    pub scaling: &'a Scaling,
    /// What of scaled sums is stored.
    pub ends: Ends,
    /// What numbers of 8 bits become after all, for each one's bits.
    pub table: Option<&'a [u8; 256]>,
}

/// What the numbers of an input stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input {
    /// The step from a number to the next.
    pub scale: f32,
    /// The zero point, as `u8`.
    pub zero_point: u8,
}

/// What becomes of numbers that a kernel has stored.
enum After {
    Nothing,
    /// Each becomes another one.
    Table(Box<[u8; 256]>),
    /// They are sums without what zero points add, and become `f32`.
    Real {
        weights: Vec<i32>,
        scales: Vec<f32>,
        bias: Vec<f32>,
    },
}

impl Parameters<'_> {
    /// Whether the weights are those of a kernel that multiplies bytes.
    pub fn weights_are_bytes(&self) -> bool {
        self.weights.iter().all(|&weight| i8::try_from(weight).is_ok())
    }
}

/// What stages share.
struct Common {
    kernel: Available,
    packing: Packing,
    weights: Bytes,
    /// Biases less what zero points add, in the order of lanes.
    bias: AlignedBuf,
    factors: Factors,
    ends: Ends,
    after: After,
    input: Input,
    flip: u8,
}

impl Common {
    /// `weights`: those of an output channel.
    fn new<'a>(kernel: Available, parameters: &'a Parameters<'a>, of: usize) -> Result<Self, Error> {
        let packing = kernel.family.int8.packing;
        let channels = parameters.bias.len();
        assert_eq!(channels.checked_mul(of), Some(parameters.weights.len()));
        match parameters.scaling {
            Scaling::NearestEven(factors) => {
                assert_eq!(factors.len(), channels);
                assert!(factors.iter().all(|factor| factor.is_finite()));
            }
            Scaling::Tflite(factors) => {
                assert_eq!(factors.len(), channels);
                assert!(factors.iter().all(|factor| factor.q >= 0 && (-31..=31).contains(&factor.e)));
            }
            Scaling::Sums => {}
            Scaling::Real { scales, bias } => assert_eq!([scales.len(), bias.len()], [channels; 2]),
        }
        assert!((0..=255).contains(&parameters.ends.zero_point));
        let order = packing.order(channels);
        let sum = |channel: usize| {
            let weights = parameters.weights[channel * of..][..of].iter();
            weights.fold(0i32, |sum, &weight| sum.wrapping_add(weight.into()))
        };
        let Parameters { ends, input, signed, .. } = *parameters;
        let after = match (parameters.scaling, parameters.table) {
            (Scaling::Real { scales, bias }, _) => {
                let (scales, bias) = (scales.clone(), bias.clone());
                After::Real { weights: (0..channels).map(sum).collect(), scales, bias }
            }
            (_, Some(table)) => After::Table(Box::new(*table)),
            (_, None) => After::Nothing,
        };
        // That of a run is known when there is one.
        let zero_point = if let After::Real { .. } = after { 0 } else { i32::from(input.zero_point) };
        let mut bias = AlignedBuf::zeroed(order.clone().count())?;
        for (place, channel) in order.clone().enumerate().filter(|&(_, channel)| channel < channels) {
            let moved = parameters.bias[channel].wrapping_sub(sum(channel).wrapping_mul(zero_point));
            sums_of(bias.as_mut_slice())[place] = moved;
        }
        let most = i64::from(input.zero_point.max(255 - input.zero_point));
        let bounds = parameters.bias.iter().enumerate().map(|(channel, &bias)| {
            let weights = parameters.weights[channel * of..][..of].iter();
            i64::from(bias).abs() + most * weights.map(|&weight| i64::from(weight).abs()).sum::<i64>()
        });
        let factors = Factors::new(parameters.scaling, bounds, order)?;
        let flip = if signed { SIGN } else { 0 };
        Ok(Self { kernel, packing, weights: Bytes::default(), bias, factors, ends, after, input, flip })
    }

    /// What a run's input stands for.
    fn input(&self, of_run: Option<Input>) -> Input {
        assert!(
            of_run.is_none() || matches!(self.after, After::Real { .. }),
            "the input's zero point is in the biases"
        );
        of_run.unwrap_or(self.input)
    }

    /// A channel's scale, of those that go beyond `f32` with that of an input.
    fn infinite_factor(&self, input_scale: f32) -> Option<(usize, f32)> {
        let After::Real { scales, .. } = &self.after else { return None };
        let factors = scales.iter().map(|scale| input_scale * scale).enumerate();
        factors.into_iter().find(|(_, factor)| !factor.is_finite())
    }

    /// Makes outputs of what a kernel stored: of an image, from that channel on.
    fn finish<O: Stored>(&self, output: *mut O, shape: Shape, strides: Strides, channel: usize, input: Input) {
        if let After::Nothing = self.after {
            return;
        }
        let row = if strides.w == shape.c || shape.w == 1 { shape.w * shape.c } else { shape.c };
        for y in 0..shape.h {
            for x in (0..shape.w).step_by(row / shape.c) {
                // SAFETY: so many elements lie there, which the kernel has written, and a view has them alone.
                let row =
                    unsafe { core::slice::from_raw_parts_mut(output.wrapping_add(y * strides.h + x * strides.w), row) };
                match &self.after {
                    After::Nothing => {}
                    After::Table(table) => {
                        let Some(numbers) = O::as_bytes(row) else { return };
                        // SAFETY: `Available` proves the instruction set.
                        unsafe { (self.kernel.family.elementwise.look_up)(numbers, table) }
                    }
                    After::Real { weights, scales, bias } => {
                        let range = channel..channel + shape.c;
                        let Some(sums) = O::as_sums(row) else { return };
                        let of = Reals {
                            weights: &weights[range.clone()],
                            scales: &scales[range.clone()],
                            bias: &bias[range],
                            input_scale: input.scale,
                            zero_point: input.zero_point,
                        };
                        // SAFETY: `Available` proves the instruction set.
                        unsafe { (self.kernel.family.elementwise.reals)(sums, of) }
                    }
                }
            }
        }
    }

    fn check<O: Stored>(&self, shape: Shape, channel: usize) {
        let channels = self.factors_channels();
        assert_eq!(O::TYPE == ElementType::I32, self.factors.is_of_sums(), "outputs are of another type");
        assert!(channel.is_multiple_of(self.packing.channels()), "channel {channel} starts no panel");
        assert!(channel.checked_add(shape.c).is_some_and(|end| end <= channels));
    }

    fn factors_channels(&self) -> usize {
        self.bias.as_slice().len()
    }

    fn bias(&self) -> *const i32 {
        self.bias.as_slice().as_ptr().cast()
    }

    /// Output channels that are never cut.
    fn grain(&self) -> usize {
        self.packing.channels()
    }
}

fn overflow() -> Error {
    Error::Overflow { what: "the number of weights" }
}

fn assert_contiguous(shape: Shape, strides: Strides) {
    assert!(shape.c <= 1 || strides.c == 1, "a tensor with gaps along the channels reached a kernel");
}

/// Whether a kernel of the table computes a depthwise convolution of 8 bits. `bytes`: whether its weights are bytes.
pub fn fits_int8(info: &KernelInfo, taps: Taps, bytes: bool) -> bool {
    let window = match (info.kernel_size, info.stride) {
        (Some(kernel_size), Some(stride)) => {
            (kernel_size, stride) == (taps.kernel_size, taps.stride) && taps.dilation == [1, 1]
        }
        _ => true,
    };
    let strip = info.form != Form::Interleaved
        || crate::table::available(info).is_some_and(|kernel| {
            let packing = kernel.family.int8.packing;
            let bytes = packing.channels() * packing.group * if packing.wide { 2 } else { 1 };
            let column = Sharing::of(taps, info.tile[0], packing.group).bundles.saturating_mul(bytes);
            // It meets rows beyond the window, whose places must be numbers, too.
            taps.dilation[0] <= MAX_STRIDE && strip_columns(taps, column) >= info.tile[1]
        });
    window && strip && (bytes || multiplies_wide(info))
}

/// What a kernel that [`fits`](fits_int8) does for a vector of outputs: the products that it adds, and the vectors of inputs that it copies to where
/// they lie side by side.
pub fn int8_steps(info: &KernelInfo, taps: Taps) -> [f64; 2] {
    let [kh, kw] = taps.kernel_size;
    let bundle = crate::table::available(info).map_or(4, |kernel| kernel.family.int8.packing.group);
    match info.form {
        Form::Interleaved => {
            let rows = info.tile[0];
            let Sharing { bundles, kept, shift, .. } = Sharing::of(taps, rows, bundle);
            let met = |b: usize| {
                (0..rows)
                    .filter(|&row| info.kernel_size.is_none() || meets(bundle, b, row, shift, taps.kernel_size[0]))
                    .count()
            };
            let products: usize = (0..bundles).map(met).sum();
            [products as f64 * kw as f64 / rows as f64, ((bundles - kept) * taps.stride[1]) as f64 / rows as f64]
        }
        _ => [kh as f64 * kw.div_ceil(2) as f64, 0.0],
    }
}

/// Whether a kernel's weights may be any differences of two numbers of 8 bits.
pub fn multiplies_wide(info: &KernelInfo) -> bool {
    crate::table::available(info).is_some_and(|kernel| kernel.family.int8.packing.wide)
}

/// A depthwise convolution of 8 bits, with as many outputs as inputs, ready to run.
pub struct Int8DepthwiseStage {
    common: Common,
    /// Of what the kernel sees.
    taps: Taps,
    turned: bool,
    channels: usize,
}

impl Int8DepthwiseStage {
    /// Packs `weights` of shape `[channels][kernel height][kernel width]`. `turned`: the kernel sees rows as columns, and columns as
    /// rows.
    ///
    /// # Errors
    /// If there is no memory.
    ///
    /// # Panics
    /// If lengths disagree, or the kernel does not compute it.
    pub fn new(kernel: Available, taps: Taps, turned: bool, parameters: &Parameters<'_>) -> Result<Self, Error> {
        let info = kernel.info();
        let taps = if turned { taps.turned() } else { taps };
        let [kh, kw] = taps.kernel_size;
        assert!([taps.kernel_size, taps.dilation].as_flattened().iter().all(|&n| n >= 1));
        assert!(taps.stride.iter().all(|stride| (1..=MAX_STRIDE).contains(stride)));
        assert!(fits_int8(info, taps, parameters.weights_are_bytes()), "{} does not compute {taps:?}", info.name);
        let of = kh.checked_mul(kw).ok_or_else(overflow)?;
        let mut common = Common::new(kernel, parameters, of)?;
        let packing = common.packing;
        let (channels, panel, lanes) = (parameters.bias.len(), packing.channels(), packing.lanes);
        let size = if packing.wide { 2 } else { 1 };
        let panels = channels.div_ceil(panel);
        let weight = |channel: usize, ky: usize, kx: usize| {
            let tap = if turned { kx * kh + ky } else { ky * kw + kx };
            parameters.weights[channel * of + tap]
        };
        if info.form == Form::Interleaved {
            let (rows, bundle) = (info.tile[0], packing.group);
            let (sharing, vector) = (Sharing::of(taps, rows, bundle), lanes * bundle);
            let of_vector = sharing.bundles.checked_mul(kw).and_then(|n| n.checked_mul(rows * vector));
            let of_vector = of_vector.ok_or_else(overflow)?;
            let len = of_vector.checked_mul(packing.groups * panels * size).ok_or_else(overflow)?;
            common.weights = Bytes::zeroed(len)?;
            for (place, channel) in packing.order(channels).enumerate().filter(|&(_, channel)| channel < channels) {
                let (first, lane) = (place / lanes * of_vector, place % lanes);
                for row in 0..rows {
                    for ky in 0..kh {
                        // Rows of outputs that follow meet their taps further down.
                        let at = ky + row * sharing.shift;
                        for kx in 0..kw {
                            let at_tap = first + ((at / bundle * kw + kx) * rows + row) * vector;
                            let at = at_tap + (packing.weight)(lane, at % bundle);
                            common.weights.write(at, weight(channel, ky, kx), packing.wide);
                        }
                    }
                }
            }
        } else {
            let pairs = kw.div_ceil(2);
            let of_panel = kh.checked_mul(pairs).and_then(|n| n.checked_mul(2 * panel)).ok_or_else(overflow)?;
            let len = of_panel.checked_mul(panels).and_then(|n| n.checked_mul(2)).ok_or_else(overflow)?;
            common.weights = Bytes::zeroed(len)?;
            for channel in 0..channels {
                for ky in 0..kh {
                    for kx in 0..kw {
                        let first = channel / panel * of_panel + (ky * pairs + kx / 2) * 2 * panel;
                        let at = first + (packing.tap_weight)(channel % panel, kx % 2);
                        common.weights.write(at, weight(channel, ky, kx), true);
                    }
                }
            }
        }
        Ok(Self { common, taps, turned, channels })
    }

    /// A channel, and its factor from sums to `f32`, which is not finite for inputs of that scale.
    pub fn infinite_factor(&self, input_scale: f32) -> Option<(usize, f32)> {
        self.common.infinite_factor(input_scale)
    }

    /// The kernel.
    pub fn kernel(&self) -> &'static KernelInfo {
        self.common.kernel.info()
    }

    /// The window as the kernel sees it.
    pub fn taps(&self) -> Taps {
        self.taps
    }

    /// Channels that are never cut.
    pub fn grain(&self) -> usize {
        self.common.grain()
    }

    /// Computes a part of the output: channels from `channel` on, of inputs that are given for these channels alone. `first`: where in
    /// the input the part's first output has its first tap. What lies outside of the input is padding. `of_run`: what the input stands
    /// for, if outputs are `f32` and it is not what the stage was built for.
    ///
    /// # Panics
    /// If shapes disagree, positions are too far, or channels have gaps or do not start where a panel does.
    pub fn run<O: Stored>(
        &self,
        input: TensorView<'_, u8>,
        mut output: TensorViewMut<'_, O>,
        first: [isize; 2],
        channel: usize,
        of_run: Option<Input>,
    ) {
        let (shape, from) = (output.shape(), input.shape());
        if shape.is_empty() {
            return;
        }
        self.common.check::<O>(shape, channel);
        assert!(channel + shape.c <= self.channels);
        assert_eq!((from.n, from.c), (shape.n, shape.c));
        assert_contiguous(from, input.strides());
        assert_contiguous(shape, output.strides());
        // Height and width as the kernel sees them.
        let [y, x] = if self.turned { [1, 0] } else { [0, 1] };
        let axes = [[Axis::H, Axis::W][y], [Axis::H, Axis::W][x]];
        let first = [first[y], first[x]];
        for (i, axis) in axes.into_iter().enumerate() {
            let reach = (self.taps.kernel_size[i] - 1).checked_mul(self.taps.dilation[i]);
            let last = (shape[axis] - 1).checked_mul(self.taps.stride[i]);
            let end = reach.zip(last).and_then(|(reach, last)| reach.checked_add(last));
            assert!(end.is_some_and(|end| end <= MAX_POSITION) && first[i].unsigned_abs() <= MAX_POSITION);
            assert!(from[axis] <= MAX_POSITION);
        }
        let Entry::Int8Depthwise(entry) = self.common.kernel.entry else {
            unreachable!("built from a depthwise kernel of 8 bits")
        };
        let (from_strides, to_strides) = (input.strides(), output.strides());
        let of_input = self.common.input(of_run);
        for n in 0..shape.n {
            let to = output.as_mut_ptr().wrapping_add(n * to_strides.n);
            let args = DepthwiseArgs {
                input: input.as_ptr().wrapping_add(n * from_strides.n),
                input_steps: axes.map(|axis| from_strides[axis]),
                input_extent: axes.map(|axis| from[axis]),
                flip: self.common.flip,
                first,
                taps: self.taps,
                output: to.cast(),
                output_steps: axes.map(|axis| to_strides[axis]),
                extent: axes.map(|axis| shape[axis]),
                channel,
                channels: shape.c,
                padding: [of_input.zero_point ^ self.common.flip; 64],
                weights: self.common.weights.as_ptr(),
                bias: self.common.bias(),
                finish: self.common.factors.args(self.common.ends),
            };
            // SAFETY: `Available` proves the instruction set; the views hold their elements; shapes, strides and positions were asserted
            // above, the packing is that of the kernel.
            unsafe { entry(&args) }
            self.common.finish(to, shape, to_strides, channel, of_input);
        }
    }
}

/// A pointwise convolution of 8 bits, ready to run.
pub struct Int8PointwiseStage {
    common: Common,
    depth: usize,
    channels: usize,
}

impl Int8PointwiseStage {
    /// Packs `weights` of shape `[outputs][inputs]`.
    ///
    /// # Errors
    /// If there is no memory.
    ///
    /// # Panics
    /// If lengths disagree, or the kernel does not multiply such weights.
    pub fn new(kernel: Available, depth: usize, parameters: &Parameters<'_>) -> Result<Self, Error> {
        let info = kernel.info();
        let mut common = Common::new(kernel, parameters, depth)?;
        let packing = common.packing;
        assert!(packing.wide || parameters.weights_are_bytes(), "{} multiplies bytes", info.name);
        let (channels, panel, lanes) = (parameters.bias.len(), packing.channels(), packing.lanes);
        let padded = depth.div_ceil(packing.group).checked_mul(packing.group).ok_or_else(overflow)?;
        let of_panel = padded.checked_mul(panel).ok_or_else(overflow)?;
        let size = if packing.wide { 2 } else { 1 };
        let len =
            of_panel.checked_mul(channels.div_ceil(panel)).and_then(|n| n.checked_mul(size)).ok_or_else(overflow)?;
        common.weights = Bytes::zeroed(len)?;
        for (place, channel) in packing.order(channels).enumerate().filter(|&(_, channel)| channel < channels) {
            let (group, lane) = (place % panel / lanes, place % lanes);
            for (k, &weight) in parameters.weights[channel * depth..][..depth].iter().enumerate() {
                let vector =
                    place / panel * of_panel + (k / packing.group * packing.groups + group) * lanes * packing.group;
                common.weights.write(vector + (packing.weight)(lane, k % packing.group), weight, packing.wide);
            }
        }
        Ok(Self { common, depth, channels })
    }

    /// A channel, and its factor from sums to `f32`, which is not finite for inputs of that scale.
    pub fn infinite_factor(&self, input_scale: f32) -> Option<(usize, f32)> {
        self.common.infinite_factor(input_scale)
    }

    /// The kernel.
    pub fn kernel(&self) -> &'static KernelInfo {
        self.common.kernel.info()
    }

    /// Channels that are never cut.
    pub fn grain(&self) -> usize {
        self.common.grain()
    }

    /// The bytes of scratch that a run takes.
    pub fn scratch_len(&self) -> usize {
        if self.common.packing.wide { scratch_len(self.depth) } else { 0 }
    }

    /// Computes a part of the output: channels from `channel` on, of pixels for which the input is given. `of_run`: as of a depthwise
    /// stage.
    ///
    /// # Panics
    /// If shapes disagree, the scratch is too short or not aligned to two bytes, or channels have gaps or do not start where a panel does.
    pub fn run<O: Stored>(
        &self,
        input: TensorView<'_, u8>,
        mut output: TensorViewMut<'_, O>,
        channel: usize,
        of_run: Option<Input>,
        scratch: &mut [u8],
    ) {
        let (shape, from) = (output.shape(), input.shape());
        if shape.is_empty() {
            return;
        }
        self.common.check::<O>(shape, channel);
        assert!(channel + shape.c <= self.channels);
        assert_eq!(from, Shape { c: self.depth, ..shape });
        assert_contiguous(from, input.strides());
        assert_contiguous(shape, output.strides());
        assert!(
            scratch.len() >= self.scratch_len() && (scratch.is_empty() || scratch.as_ptr().addr().is_multiple_of(2))
        );
        let Entry::Int8Pointwise(entry) = self.common.kernel.entry else {
            unreachable!("built from a pointwise kernel of 8 bits")
        };
        let (from_strides, to_strides) = (input.strides(), output.strides());
        let of_input = self.common.input(of_run);
        for n in 0..shape.n {
            let to = output.as_mut_ptr().wrapping_add(n * to_strides.n);
            let args = PointwiseArgs {
                input: input.as_ptr().wrapping_add(n * from_strides.n),
                input_steps: [from_strides.h, from_strides.w],
                depth: self.depth,
                flip: self.common.flip,
                output: to.cast(),
                output_steps: [to_strides.h, to_strides.w],
                extent: [shape.h, shape.w],
                channel,
                channels: shape.c,
                weights: self.common.weights.as_ptr(),
                bias: self.common.bias(),
                finish: self.common.factors.args(self.common.ends),
                scratch: scratch.as_mut_ptr(),
            };
            // SAFETY: `Available` proves the instruction set; the views hold their elements; shapes, strides and the scratch were asserted
            // above, the packing is that of the kernel.
            unsafe { entry(&args) }
            self.common.finish(to, shape, to_strides, channel, of_input);
        }
    }
}
