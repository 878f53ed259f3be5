//! No kernel touches a byte outside of its tensors, packed weights and workspace: each of them lies flush against a
//! page that kills whoever touches it, after its end in one test and before its start in the other.
//!
//! What the kernels compute is the other suites' business; here they survive.
#![cfg(unix)]

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ptr::{null_mut, read_volatile, write_volatile};

use depthwise::{
    Activation, Element, ElementType, Error, Isa, KernelInfo, Layout, OutputRange, Parallelism, Run, Shape, Taps,
    Workspace, bf16, f16, packed_channels,
};
use depthwise_testkit::cases::{self, Case, Epilogue, Values};
use depthwise_testkit::emulation;
use depthwise_testkit::memory::{Arrangement, Buffer};
use depthwise_testkit::oracle::Tensor;
use depthwise_testkit::plan::{Arguments, Choice, Operation, Plan};

/// Where memory meets the inaccessible page.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Start,
    End,
}

thread_local! {
    /// Of this thread's allocations.
    static SIDE: Cell<Side> = const { Cell::new(Side::End) };
    /// The size of this thread's latest allocation on cache lines.
    static LINES: Cell<usize> = const { Cell::new(0) };
    /// What this thread runs.
    static RUNNING: Cell<*const [u8]> = const { Cell::new(&[]) };
    /// For each number of pages, the latest that was freed, in which lies the address of the one before: to map and to
    /// unmap takes longer than most kernels do.
    static SPARE: [Cell<*mut u8>; 64] = const { [const { Cell::new(null_mut()) }; 64] };
}

/// Places each allocation that kernels compute with (`f32`, cache lines of them, and elements of 16 bits) between two inaccessible pages.
struct Guarded;

fn is_guarded(memory: Memory) -> bool {
    [align_of::<f32>(), align_of::<u16>()].contains(&memory.align()) || memory.align() >= 64
}

fn page_size() -> usize {
    // SAFETY: it takes no pointer.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// So many new bytes of whole pages, one more inaccessible page on either side of them; null if there are none.
fn map(len: usize) -> *mut u8 {
    let page = page_size();
    // SAFETY: the mapping is new, and what is opened lies within it.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON;
        let map = libc::mmap(null_mut(), len + 2 * page, libc::PROT_NONE, flags, -1, 0);
        let start = map.wrapping_byte_add(page);
        if map == libc::MAP_FAILED || libc::mprotect(start, len, libc::PROT_READ | libc::PROT_WRITE) != 0 {
            return null_mut();
        }
        start.cast()
    }
}

// SAFETY: pages that were mapped or spared are nobody else's and hold what was asked for; page boundaries are as aligned
// as any layout here asks, at the start, and at the end as sizes are multiples of the alignment. The rest is the system
// allocator's.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        if !is_guarded(memory) {
            // SAFETY: the caller's.
            return unsafe { System.alloc(memory) };
        }
        if memory.align() >= 64 {
            LINES.set(memory.size());
        }
        let pages = memory.size().div_ceil(page_size());
        let mut start = SPARE.with(|spare| spare.get(pages).map_or(null_mut(), Cell::get));
        if start.is_null() {
            start = map(pages * page_size());
        } else {
            // SAFETY: `dealloc` wrote it there.
            SPARE.with(|spare| spare[pages].set(unsafe { start.cast::<*mut u8>().read() }));
        }
        match SIDE.get() {
            _ if start.is_null() => start,
            Side::Start => start,
            Side::End => start.wrapping_add((pages * page_size() - memory.size()) & !(memory.align() - 1)),
        }
    }

    unsafe fn dealloc(&self, p: *mut u8, memory: Memory) {
        if !is_guarded(memory) {
            // SAFETY: the caller's.
            return unsafe { System.dealloc(p, memory) };
        }
        // On either side, it begins in the first page.
        let start = p.wrapping_sub(p.addr() % page_size());
        let pages = memory.size().div_ceil(page_size());
        SPARE.with(|spare| match spare.get(pages) {
            // SAFETY: the pages hold an address, and are nobody's now.
            Some(latest) => unsafe { start.cast::<*mut u8>().write(latest.replace(start)) },
            // SAFETY: `map` gave them, with a page on either side.
            None => unsafe {
                libc::munmap(start.wrapping_sub(page_size()).cast(), (pages + 2) * page_size());
            },
        });
    }
}

#[global_allocator]
static ALLOCATOR: Guarded = Guarded;

#[test]
fn a_page_after_the_end() {
    every_kernel(Side::End);
}

#[test]
fn a_page_before_the_start() {
    every_kernel(Side::Start);
}

#[test]
fn narrow_tensors() {
    for side in [Side::Start, Side::End] {
        every_operation_of::<f16>(side);
        every_operation_of::<bf16>(side);
    }
}

/// Bytes that end, or start, where their memory does, which is of pairs of them.
struct Bytes {
    pairs: Vec<u16>,
    len: usize,
}

impl Bytes {
    fn new(len: usize) -> Self {
        Bytes { pairs: vec![0x4b37; len.div_ceil(2)], len }
    }

    fn get(&mut self) -> &mut [u8] {
        // SAFETY: as many bytes as the pairs have, borrowed alone.
        let all = unsafe { std::slice::from_raw_parts_mut(self.pairs.as_mut_ptr().cast(), 2 * self.pairs.len()) };
        let start = if SIDE.get() == Side::End { all.len() - self.len } else { 0 };
        &mut all[start..][..self.len]
    }
}

#[test]
fn tensors_of_8_bits() {
    use depthwise::int8::{DepthwiseConv2d, On, PointwiseConv2d, Quantized, Table, Weights};
    use depthwise::{Padding, TensorView, TensorViewMut};
    let layouts = [Layout::Nhwc, Layout::Nchw];
    let channels = if emulation::is_on() { vec![17] } else { vec![1, 3, 15, 16, 17, 31, 63, 64, 65, 67] };
    let kernels: Vec<KernelInfo> =
        depthwise::kernels().filter(|kernel| kernel.element == ElementType::I8 && kernel.isa.is_available()).collect();
    let quantized = Quantized::u8(0.1, 3);
    let table = Table::new(quantized, quantized, |q| q / 2).expect("a table");
    let (weights, scales) = ([1i8; 67 * 67], [0.1]);
    listen();
    for side in [Side::Start, Side::End] {
        SIDE.set(side);
        let mut plans = 0;
        for (kernel, &c) in kernels.iter().flat_map(|kernel| channels.iter().map(move |c| (kernel, c))) {
            for (layout, [h, w]) in
                layouts.iter().flat_map(|layout| [[3, 7], [1, 1], [4, 5]].map(|extent| (*layout, extent)))
            {
                let running = format!("{}, {c} channels, {h}x{w}, {layout}, left its memory\n", kernel.name);
                RUNNING.set(running.as_bytes());
                let shape = Shape::new(1, c, h, w);
                macro_rules! run {
                    ($plan:expr) => {{
                        let plan = $plan.expect(&running);
                        let output = plan.output_shape(shape).expect(&running);
                        let len = plan.workspace_len(shape, Parallelism::Serial).expect(&running);
                        let (mut x, mut y) = (Bytes::new(c * h * w), Bytes::new(output.len().expect(&running)));
                        let input = TensorView::new(&*x.get(), shape, layout).expect(&running);
                        let output = TensorViewMut::new(y.get(), output, layout).expect(&running);
                        let mut workspace = Workspace::with_len(len).expect(&running);
                        plan.run(Run::new(input, output, &mut workspace)).expect(&running);
                        plans += 1;
                    }};
                }
                if kernel.operation == depthwise::Operation::Pointwise {
                    for outputs in [c, 1, 67] {
                        let builder =
                            PointwiseConv2d::builder(c, outputs).weights(Weights::i8(&weights[..outputs * c], &scales));
                        let builder = builder.input(quantized).output(quantized).layout(layout).isa(kernel.isa);
                        let builder = builder.kernel(kernel.name);
                        run!(builder.build());
                        if h == 3 {
                            run!(builder.output_table(table.clone()).build());
                        }
                    }
                } else {
                    for stride in [1, 2] {
                        if kernel.stride.is_some_and(|own| own != [stride; 2]) {
                            continue;
                        }
                        let builder = DepthwiseConv2d::builder(c).weights(Weights::i8(&weights[..9 * c], &scales));
                        let builder = builder.input(quantized).output(quantized).layout(layout).isa(kernel.isa);
                        let builder = builder.padding(Padding::symmetric(1, 1)).stride([stride; 2]);
                        let builder = builder.kernel(kernel.name);
                        run!(builder.build());
                        if h == 3 {
                            run!(builder.output_table(table.clone()).build());
                        }
                    }
                }
            }
        }
        for isa in Isa::EVERY.into_iter().filter(|isa| isa.is_available()) {
            RUNNING.set(b"looking up left its memory\n");
            for len in 0..200 {
                let (mut x, mut y) = (Bytes::new(len), Bytes::new(len));
                On(isa).look_up(&table, &*x.get(), y.get()).expect("numbers");
            }
        }
        println!("8 bits, a page at the {side:?}: {plans} plans");
    }
}

/// What converts elements, in many blocks: the kernels themselves have tensors of `f32`.
fn every_operation_of<E: Element>(side: Side) {
    use Operation::{Conv2d, Depthwise, Pointwise, Separable};
    SIDE.set(side);
    listen();
    let (mut runs, layouts) = (0, [Layout::Nchw, Layout::Nhwc]);
    for operation in [Depthwise, Pointwise, Separable, Conv2d] {
        let cases = cases::by_hand().into_iter().filter(|case| case.values == Values::Plain).collect();
        for case in emulation::chosen(operation, cases, 0).0 {
            let case = &Case { residual: true, ..case };
            let arguments = Arguments::new(operation, case).with_tensors_of::<E>();
            let all = depthwise_testkit::isas().into_iter().flat_map(|isa| layouts.map(|layout| (isa, layout)));
            for (isa, layout) in all {
                let narrow = |tensor: &Tensor| Buffer::of(&tensor.map(E::from_f32), layout, Arrangement::Contiguous);
                let input = narrow(&arguments.input);
                let residual = narrow(arguments.residual.as_ref().expect("a residual"));
                let mut output = Buffer::blank(arguments.output, layout, Arrangement::Contiguous);
                let choices = Choice::all_of::<E>(operation, isa, layout);
                for choice in choices.into_iter().filter(|choice| choice.kernel.is_none()) {
                    let running =
                        format!("{operation:?} of {}, {choice:?}, left its memory in: {}\n", E::TYPE, case.name);
                    RUNNING.set(running.as_bytes());
                    let plan = Plan::<E>::of(operation, case, &arguments, choice).expect(&running);
                    let len = plan.workspace_len(case.input, Parallelism::Serial).expect(&running);
                    let mut workspace = Workspace::with_len(len).expect(&running);
                    let run = Run::new(input.view(), output.view_mut(), &mut workspace).residual(residual.view());
                    plan.run(run).expect(&running);
                    runs += 1;
                }
            }
        }
    }
    println!("{}, a page at the {side:?}: {runs} runs", E::TYPE);
}

/// How many plans a kernel ran in, and in how many of them its packed weights end where their allocation does: it is
/// rounded up to a cache line, within which the page catches nothing.
#[derive(Default)]
struct Count {
    plans: usize,
    flush: usize,
}

fn every_kernel(side: Side) {
    SIDE.set(side);
    listen();
    for &isa in Isa::all().iter().filter(|isa| isa.is_available()) {
        for len in 0..500 {
            RUNNING.set("Isa::read left its slice\n".as_bytes());
            assert_eq!(isa.read(&vec![1.0; len], 1), Ok(len as f32), "{isa}");
        }
    }
    let mut counts = BTreeMap::new();
    for (operation, cases) in suites() {
        let (cases, _) = emulation::chosen(operation, cases, 0);
        for case in cases {
            run(operation, &case, &mut counts);
        }
    }
    println!("a page at the {side:?}: kernel, plans, of which with weights that end at the page");
    let ran_here = |kernel: &KernelInfo| kernel.isa.is_available() && kernel.element == ElementType::F32;
    for kernel in depthwise::kernels().filter(ran_here) {
        let Count { plans, flush } = counts.remove(kernel.name).unwrap_or_default();
        println!("  {:<40} {plans:>5} {flush:>5}", kernel.name);
        let least = if emulation::is_on() { [1, 1] } else { [50, 10] };
        assert!(plans >= least[0] && flush >= least[1], "{} ran in {plans} plans only, flush in {flush}", kernel.name);
    }
}

/// Has it said which run touched a page.
fn listen() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the handler does only what a handler may.
        unsafe { libc::signal(signal, say_who_died as *const () as libc::sighandler_t) };
    }
}

/// Says which run touched a page, and lets it die.
extern "C" fn say_who_died(signal: libc::c_int) {
    let run = RUNNING.get();
    // SAFETY: the text lives as long as what it names; on return, the access faults again.
    unsafe {
        libc::write(2, run.cast(), run.len());
        libc::signal(signal, libc::SIG_DFL);
    }
}

/// Every size of a tail, with the operations whose tail it is.
fn suites() -> Vec<(Operation, Vec<Case>)> {
    use Operation::{Conv2d, Depthwise, Pointwise, Separable};
    // An activation that takes a sweep over the output after the kernel.
    let swept = Epilogue { activation: Activation::HardSwish, ..Case::default().depthwise };
    let swept = |case: Case| Case { depthwise: swept, pointwise: swept, ..case };
    let with_channels = |c: usize| move |case: Case| Case { input: Shape { c, ..case.input }, ..case };

    // Other values give no other addresses.
    let by_hand = cases::by_hand().into_iter().filter(|case| case.values == Values::Plain);
    let any: Vec<Case> = by_hand.chain(cases::tails().into_iter().map(swept)).collect();
    let tiles = cases::tiles().into_iter().map(swept);
    // Sixteen channels of any taps fill whole cache lines …
    let flush_tiles = tiles.clone().map(with_channels(16));
    // … and so do a bias and fifteen inputs of any outputs.
    let flush_panels = cases::pointwise().into_iter().map(swept).map(with_channels(15));
    let mut suites: Vec<_> = [Depthwise, Pointwise, Separable, Conv2d].map(|o| (o, any.clone())).into();
    suites.extend([
        (Depthwise, cases::strips()),
        (Depthwise, cases::left_over()),
        (Depthwise, tiles.clone().collect()),
        (Separable, tiles.collect()),
    ]);
    suites.extend([(Depthwise, flush_tiles.collect()), (Pointwise, flush_panels.collect())]);
    suites
}

/// Runs a case on every kernel that fits it, all of it and a part, with a residual and without.
fn run(operation: Operation, case: &Case, counts: &mut BTreeMap<&'static str, Count>) {
    let case = &Case { residual: true, ..case.clone() };
    let arguments = Arguments::new(operation, case);
    let whole = OutputRange::all(arguments.output);
    let but_first = |all: &std::ops::Range<usize>| 1.min(all.end - 1)..all.end;
    let [c, h, w] = [&whole.c, &whole.h, &whole.w].map(but_first);
    let part = OutputRange { c, h, w, ..whole };
    let part_shape = Shape { c: part.c.len(), h: part.h.len(), w: part.w.len(), ..arguments.output };
    for layout in [Layout::Nchw, Layout::Nhwc] {
        // These two have no gaps before or after the elements.
        let mut buffers = [Arrangement::Contiguous, Arrangement::Permuted].map(|arrangement| {
            let blank = |shape: Shape| Buffer::blank(shape, layout, arrangement);
            let input = Buffer::of(&arguments.input, layout, arrangement);
            (input, [arguments.output, part_shape].map(|shape| (blank(shape), blank(shape))))
        });
        for choice in depthwise_testkit::isas().into_iter().flat_map(|isa| Choice::all(operation, isa, layout)) {
            // The plan's own choice is one of those by name.
            let Some(name) = choice.kernel else { continue };
            let running = format!("{operation:?} on {name}, {:?}, left its memory in: {}\n", choice.fusion, case.name);
            RUNNING.set(running.as_bytes());
            let plan = match Plan::new(operation, case, &arguments, choice) {
                Err(Error::KernelDoesNotFit { .. }) => continue,
                plan => plan.expect(name),
            };
            let packed = LINES.get();
            let count: &mut Count = counts.entry(name).or_default();
            count.plans += 1;
            if let Operation::Depthwise | Operation::Pointwise = operation {
                let kernel = depthwise::kernels().find(|kernel| kernel.name == name).expect("a kernel of the table");
                let len = packed_len(&kernel, case);
                assert_eq!(packed, 4 * len.next_multiple_of(16), "{name} packs {len} f32, in {case:#?}");
                count.flush += usize::from(len.is_multiple_of(16));
            }

            let len = plan.workspace_len(case.input, Parallelism::Serial).expect(name);
            for (input, [(residual, output), (part_residual, part_output)]) in &mut buffers {
                // Anew for each run: a larger one would have room after its end.
                let workspace = || Workspace::with_len(len).expect(name);
                for residual in [None, Some(residual.view())] {
                    let output = output.view_mut();
                    plan.run(Run::new(input.view(), output, &mut workspace()).maybe_residual(residual)).expect(name);
                }
                let (residual, output) = (Some(part_residual.view()), part_output.view_mut());
                plan.run(Run::new(input.view(), output, &mut workspace()).maybe_residual(residual).range(part.clone()))
                    .expect(name);
            }
        }
    }
}

/// The `f32` that a kernel's weights take, as `kernels/stage.rs` packs them: rows of outputs, rounded up to what the
/// kernel computes at a time, for the bias and for each weight.
fn packed_len(kernel: &KernelInfo, case: &Case) -> usize {
    let (outputs, rows) = match kernel.operation {
        depthwise::Operation::Depthwise => {
            let taps = Taps { kernel_size: case.kernel, stride: case.stride, dilation: case.dilation };
            (packed_channels(kernel, taps, case.input.c * case.multiplier), case.kernel[0] * case.kernel[1] + 1)
        }
        _ => (case.outputs, case.input.c + 1),
    };
    let at_a_time = match (kernel.layout, kernel.operation) {
        // The last channels may be half a vector.
        (Layout::Nhwc, depthwise::Operation::Pointwise) if kernel.isa == Isa::Avx512 => kernel.lanes / 2,
        (Layout::Nhwc, _) => kernel.lanes,
        (Layout::Nchw, depthwise::Operation::Depthwise) => 1,
        (Layout::Nchw, _) => kernel.tile[1],
    };
    // A kernel that joins packs half a vector twice, behind one or two whole ones.
    let again = kernel.joins() && outputs > at_a_time && outputs.next_multiple_of(at_a_time) % kernel.lanes != 0;
    (outputs.next_multiple_of(at_a_time) + if again { at_a_time } else { 0 }) * rows
}

/// What a kernel might do to so many bytes, and the side on which the page must notice.
type Deed = (&'static str, Option<Side>, unsafe fn(*mut u8, usize));

// SAFETY: the first keeps to the bytes. The others are the faults that must kill the child that they run in.
const DEEDS: [Deed; 6] = [
    ("keeps to its bytes", None, |p, len| unsafe {
        (0..len).for_each(|i| write_volatile(p.add(i), !read_volatile(p.add(i))));
    }),
    ("reads the byte after the end", Some(Side::End), |p, len| unsafe {
        read_volatile(p.wrapping_add(len));
    }),
    ("writes the byte after the end", Some(Side::End), |p, len| unsafe { write_volatile(p.wrapping_add(len), 0) }),
    ("reads the byte before the start", Some(Side::Start), |p, _| unsafe {
        read_volatile(p.wrapping_sub(1));
    }),
    ("writes the byte before the start", Some(Side::Start), |p, _| unsafe { write_volatile(p.wrapping_sub(1), 0) }),
    ("loads a vector past the end", Some(Side::End), |p, len| unsafe {
        for i in (0..=len).step_by(32) {
            read_volatile(p.wrapping_add(i).cast::<[u8; 32]>());
        }
    }),
];

#[test]
fn the_pages_kill_known_bad_kernels() {
    for side in [Side::Start, Side::End] {
        SIDE.set(side);
        for align in [align_of::<f32>(), 64] {
            for len in [4usize, 20, 64, 4092, 4096, 4100, 65536, 65540] {
                let memory = Memory::from_size_align(len.next_multiple_of(align), align).expect("a layout");
                // SAFETY: the size is not 0.
                let p = unsafe { std::alloc::alloc_zeroed(memory) };
                assert!(!p.is_null(), "no memory");
                for (what, noticed, deed) in DEEDS {
                    let end = end_of_child(deed, p, memory.size());
                    let name = format!("{what}, {memory:?}, a page at the {side:?}: {end:?}");
                    match noticed {
                        None => assert_eq!(end, Ok(0), "{name}"),
                        Some(noticed) if noticed == side => {
                            assert!(matches!(end, Err(libc::SIGSEGV | libc::SIGBUS)), "not killed: {name}");
                        }
                        // The rest of a page may hide it.
                        Some(_) => {}
                    }
                }
                // SAFETY: it was allocated above.
                unsafe { std::alloc::dealloc(p, memory) };
            }
        }
    }
}

/// How a child process ends that runs `deed`: its exit status, or the signal that killed it.
fn end_of_child(deed: unsafe fn(*mut u8, usize), p: *mut u8, len: usize) -> Result<i32, i32> {
    // SAFETY: the child calls only what may follow a fork: neither the allocator nor anything that locks.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            // Rust's handler, which looks out for stack overflows, would have to lock; and a core is of no use.
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
            libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 });
            deed(p, len);
            libc::_exit(0);
        }
        let mut status = 0;
        assert!(child > 0 && libc::waitpid(child, &mut status, 0) == child, "{}", std::io::Error::last_os_error());
        if libc::WIFSIGNALED(status) { Err(libc::WTERMSIG(status)) } else { Ok(libc::WEXITSTATUS(status)) }
    }
}
