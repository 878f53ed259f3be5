//! Standard against depthwise separable convolution: parameters, multiply-adds, bytes and measured time.
//!
//! ```text
//! cargo run --release --example compare                        # 8×32×56×56 to 64, 128 and 256 channels
//! cargo run --release --example compare -- --batch 1 --channels 512 --height 14 --width 14 --out-channels 512
//! ```

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use depthwise::{
    Comparison, Conv2d, Cost, DepthwiseConv2d, Isa, Layout, Padding, Parallelism, PointwiseConv2d, Run,
    SeparableConv2d, Shape, TensorView, TensorViewMut, Workspace, compare,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Compares standard, depthwise, pointwise and separable convolution: parameters, multiply-adds, bytes, time.
#[derive(Parser)]
struct Args {
    /// Images in the batch
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,
    /// Input channels
    #[arg(long, value_name = "N", default_value_t = 32)]
    channels: usize,
    /// Rows of an image
    #[arg(long, value_name = "N", default_value_t = 56)]
    height: usize,
    /// Columns of an image
    #[arg(long, value_name = "N", default_value_t = 56)]
    width: usize,
    /// Output channels; one table for each number
    #[arg(long, value_name = "N", num_args = 1.., value_delimiter = ',', default_values_t = [64, 128, 256])]
    out_channels: Vec<usize>,
    /// Kernel size: 3, or 3x5 for three rows of five
    #[arg(long, value_name = "K", default_value = "3", value_parser = pair)]
    kernel: [usize; 2],
    /// Stride: 2, or 2x1
    #[arg(long, value_name = "S", default_value = "1", value_parser = pair)]
    stride: [usize; 2],
    /// Dilation: 2, or 2x1
    #[arg(long, value_name = "D", default_value = "1", value_parser = pair)]
    dilation: [usize; 2],
    /// Zeros around the input: 1, 1x2, same or valid
    #[arg(long, value_name = "P", default_value = "1", value_parser = padding)]
    padding: Padding,
    /// Order of the values in memory: nchw or nhwc
    #[arg(long, default_value_t = Layout::Nhwc)]
    layout: Layout,
    /// Instruction set: portable, avx2, avx512 or neon [default: the best of this CPU]
    #[arg(long, value_name = "NAME")]
    isa: Option<Isa>,
    /// Threads to compute with
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = threads)]
    threads: usize,
    /// Measuring time for each operation, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    budget: u64,
}

fn pair(text: &str) -> Result<[usize; 2], String> {
    let number = |text: &str| text.parse().map_err(|_| "give a whole number, or two with an x between".to_owned());
    match text.split_once('x') {
        Some((rows, columns)) => Ok([number(rows)?, number(columns)?]),
        None => Ok([number(text)?; 2]),
    }
}

fn padding(text: &str) -> Result<Padding, String> {
    match text {
        "same" => Ok(Padding::same_upper()),
        "valid" => Ok(Padding::valid()),
        _ => match pair(text) {
            Ok([rows, columns]) => Ok(Padding::symmetric(rows, columns)),
            Err(error) => Err(format!("{error}, or same or valid")),
        },
    }
}

/// More threads than any machine has are a slip of the finger.
fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=1024) => Ok(threads),
        _ => Err("a number of threads is 1 to 1024".into()),
    }
}

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        // Help and version are no errors; of an error the first line says it all.
        Err(error) if !error.use_stderr() => error.exit(),
        Err(error) => {
            eprintln!("{}", error.to_string().lines().next().unwrap_or("error: bad arguments"));
            return ExitCode::FAILURE;
        }
    };
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Outcome<()> {
    if args.threads == 1 {
        return work(args, Parallelism::Serial);
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build()?;
    // The error of another thread travels as text.
    Ok(pool.install(|| work(args, Parallelism::Rayon).map_err(|error| error.to_string()))?)
}

fn work(args: &Args, parallelism: Parallelism<'static>) -> Outcome<()> {
    if args.batch == 0 {
        return Err("the batch is 0: there is nothing to measure".into());
    }
    let input = Shape::new(args.batch, args.channels, args.height, args.width);
    let mut out = std::io::stdout().lock();
    for (i, &out_channels) in args.out_channels.iter().enumerate() {
        // Before the memory for it is asked for.
        let compared = compare(input, out_channels, args.kernel, args.stride, args.dilation, args.padding)?;
        let mut operations = prepare(args, input, out_channels, parallelism)?;
        measure(&mut operations, Duration::from_millis(args.budget))?;
        if i == 0 {
            writeln!(out, "{}", heading(args, input, operations[0].isa))?;
        }
        writeln!(out, "\n{}", table(input, &operations, out_channels, args.kernel, &compared))?;
    }
    Ok(())
}

/// One of the four convolutions, ready to run.
struct Operation {
    name: &'static str,
    isa: Isa,
    output: Shape,
    cost: Cost,
    run: Box<dyn FnMut() -> Result<(), depthwise::Error>>,
    /// Of the fastest call.
    seconds: f64,
    calls: usize,
}

/// Standard, depthwise, pointwise and separable convolution, without bias, on random values.
fn prepare(
    args: &Args,
    input: Shape,
    out_channels: usize,
    parallelism: Parallelism<'static>,
) -> Outcome<Vec<Operation>> {
    let rng = &mut StdRng::seed_from_u64(1);
    let taps = overflowing(args.kernel[0].checked_mul(args.kernel[1]))?;
    let depthwise_len = overflowing(args.channels.checked_mul(taps))?;
    let pointwise_len = overflowing(args.channels.checked_mul(out_channels))?;
    let depthwise_weights = Buffer::random(depthwise_len, rng)?;
    let pointwise_weights = Buffer::random(pointwise_len, rng)?;
    let standard_weights = Buffer::random(overflowing(pointwise_len.checked_mul(taps))?, rng)?;

    // The same calls on builders of different types.
    macro_rules! built {
        ($builder:expr) => {{
            let builder = $builder.layout(args.layout);
            match args.isa {
                Some(isa) => builder.isa(isa).build()?,
                None => builder.build()?,
            }
        }};
        (window $builder:expr) => {{
            let builder = $builder.kernel_size(args.kernel).stride(args.stride).dilation(args.dilation);
            built!(builder.padding(args.padding))
        }};
    }
    macro_rules! operation {
        ($name:literal, $plan:expr, $input:expr) => {{
            let (plan, shape, layout) = ($plan, $input, args.layout);
            let output_shape = plan.output_shape(shape)?;
            let input = Buffer::random(overflowing(shape.len())?, rng)?;
            let mut output = Buffer::random(overflowing(output_shape.len())?, rng)?;
            let mut workspace = Workspace::with_len(plan.workspace_len(shape, parallelism)?)?;
            Operation {
                name: $name,
                isa: plan.isa(),
                output: output_shape,
                cost: plan.cost(shape)?,
                run: Box::new(move || {
                    let input = TensorView::new(input.get(), shape, layout)?;
                    let output = TensorViewMut::new(output.get_mut(), output_shape, layout)?;
                    plan.run(Run::new(input, output, &mut workspace).parallelism(parallelism))
                }),
                seconds: f64::INFINITY,
                calls: 0,
            }
        }};
    }

    let standard = built!(window Conv2d::builder(args.channels, out_channels).weights(standard_weights.get()));
    let depthwise = built!(window DepthwiseConv2d::builder(args.channels).weights(depthwise_weights.get()));
    let pointwise = built!(PointwiseConv2d::builder(args.channels, out_channels).weights(pointwise_weights.get()));
    let separable = built!(window
        SeparableConv2d::builder(args.channels, out_channels)
            .depthwise_weights(depthwise_weights.get())
            .pointwise_weights(pointwise_weights.get()));
    let between = depthwise.output_shape(input)?;
    Ok(vec![
        operation!("standard", standard, input),
        operation!("depthwise", depthwise, input),
        operation!("pointwise", pointwise, between),
        operation!("separable", separable, input),
    ])
}

fn overflowing(len: Option<usize>) -> Outcome<usize> {
    len.ok_or_else(|| "the sizes do not fit the address space".into())
}

/// Values that start on a cache line, as engines' allocators give them.
struct Buffer {
    data: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    fn random(len: usize, rng: &mut StdRng) -> Outcome<Self> {
        const LINE: usize = 16;
        let mut data = Vec::new();
        let room = overflowing(len.checked_add(LINE))?;
        data.try_reserve_exact(room).map_err(|_| format!("there is no memory for {room} f32"))?;
        data.extend((0..room).map(|_| rng.random_range(-1.0..1.0)));
        let start = data.as_ptr().align_offset(64).min(LINE);
        Ok(Self { data, start, len })
    }

    fn get(&self) -> &[f32] {
        &self.data[self.start..][..self.len]
    }

    fn get_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..][..self.len]
    }
}

/// Finds each operation's fastest call, in rounds over all of them, so that they share the machine's moods.
fn measure(operations: &mut [Operation], budget: Duration) -> Outcome<()> {
    // Page faults and cold caches are nobody's.
    for operation in operations.iter_mut() {
        (operation.run)()?;
    }
    let slice = (budget / 20).min(Duration::from_millis(20));
    let total = budget.saturating_mul(operations.len() as u32);
    let start = Instant::now();
    while start.elapsed() < total {
        for operation in operations.iter_mut() {
            let turn = Instant::now();
            // At least one call each.
            loop {
                let call = Instant::now();
                (operation.run)()?;
                operation.seconds = operation.seconds.min(call.elapsed().as_secs_f64());
                operation.calls += 1;
                if turn.elapsed() >= slice {
                    break;
                }
            }
        }
    }
    Ok(())
}

fn heading(args: &Args, input: Shape, isa: Isa) -> String {
    let by = |[rows, columns]: [usize; 2]| format!("{rows}x{columns}");
    let padding = match args.padding {
        Padding::Explicit { top, left, .. } => by([top, left]),
        Padding::Valid => "valid".into(),
        _ => "same".into(),
    };
    format!(
        "input {input}, kernel {}, stride {}, dilation {}, padding {padding}; no bias, no activation\n\
         layout {}, instruction set {isa}, {} thread(s)\n\
         time: the fastest call, in interleaved rounds of {} ms per operation after a warm-up\n\
         multiply-adds: those on padding included; GFLOP/s at two operations each\n\
         bytes: input, parameters and output in f32, which must move at least once\n\
         separable: both stages in one plan, what lies between them not counted",
        by(args.kernel),
        by(args.stride),
        by(args.dilation),
        args.layout,
        args.threads,
        args.budget,
    )
}

fn table(
    input: Shape,
    operations: &[Operation],
    out_channels: usize,
    [kh, kw]: [usize; 2],
    compared: &Comparison,
) -> String {
    let mut text = format!("from {} to {out_channels} channels\n", input.c);
    let output = operations.last().map(|operation| operation.output).unwrap_or_default();
    let _ = writeln!(text, "output {output}");
    let _ = writeln!(
        text,
        "{:<10} {:>13} {:>18} {:>15} {:>13} {:>9} {:>9}",
        "operation", "parameters", "multiply-adds", "bytes", "µs", "GFLOP/s", "calls"
    );
    for Operation { name, cost, seconds, calls, .. } in operations {
        let _ = writeln!(
            text,
            "{name:<10} {:>13} {:>18} {:>15} {:>13.2} {:>9.1} {calls:>9}",
            grouped(cost.parameters),
            grouped(cost.multiply_adds),
            grouped(cost.bytes),
            seconds * 1e6,
            2e-9 * cost.multiply_adds as f64 / seconds,
        );
    }
    let named = |name: &str| operations.iter().find(|operation| operation.name == name);
    if let (Some(standard), Some(separable)) = (named("standard"), named("separable")) {
        let counted = separable.cost.multiply_adds as f64 / standard.cost.multiply_adds as f64;
        let parameters = separable.cost.parameters as f64 / standard.cost.parameters as f64;
        let _ = writeln!(text, "separable / standard");
        let _ = writeln!(text, "  formula 1/M + 1/K²: 1/{out_channels} + 1/({kh}·{kw}) = {:.4}", compared.ratio);
        let _ = writeln!(text, "  multiply-adds: {counted:.4}");
        let _ = writeln!(text, "  parameters: {parameters:.4}");
        let _ = write!(text, "  time: {:.4}", separable.seconds / standard.seconds);
    }
    text
}

/// With a comma before every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
