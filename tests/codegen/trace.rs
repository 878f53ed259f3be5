//! Which instructions of a kernel run, one after the other, on a small layer: this program starts itself once more, to run that layer
//! alone. On x86-64 it is stepped through by `ptrace`. There the instruction sets that the CPU lacks are traced, too: the child
//! is told that it has them, and instructions that the CPU refuses are skipped. So sums are wrong, but the way through the code,
//! which no sum decides, is right. On AArch64 QEMU writes the trace, where it runs the tests.

use depthwise::{Activation, Convolution, DepthwiseConv2d, KernelInfo, Layout, Operation, Padding, PointwiseConv2d};
use depthwise::{Run, Shape, TensorView, TensorViewMut, Workspace};

use super::program::Program;

/// Input channels of the pointwise layer.
pub const DEPTH: usize = 64;

/// Names the kernel that the child runs.
const TRACED: &str = "DEPTHWISE_TRACED";

/// The addresses in the file of the instructions of `code` that ran, or why it is not known.
pub fn trace(program: &Program, kernel: &KernelInfo, code: *const ()) -> Result<Vec<u64>, &'static str> {
    let mut command = depthwise_testkit::emulation::this_program();
    command.args(["--exact", "trace::layer", "--ignored", "--nocapture", "--test-threads=1"]).env(TRACED, kernel.name);
    system::trace(program, command, code)
}

/// One layer of whole tiles without padding, some of them along each axis.
#[test]
#[ignore = "what `tiles` traces: it starts this by itself"]
fn layer() {
    println!("\nanchor {:x}", super::program::anchor_in_memory());
    let name = std::env::var(TRACED).expect("a kernel's name in DEPTHWISE_TRACED");
    let kernel = depthwise::kernels().find(|kernel| kernel.name == name).expect("a kernel");
    let [rows, columns] = kernel.tile;
    let mut workspace = Workspace::new();
    let (taps, strides) = (kernel.kernel_size.unwrap_or([3, 3]), kernel.stride.unwrap_or([1, 1]));
    let (plan, input): (Box<dyn Convolution>, Shape) = match kernel.operation {
        Operation::Depthwise => {
            let (channels, outputs) = match kernel.layout {
                Layout::Nhwc => (8 * kernel.lanes, [4 * rows.max(2), 3 * columns]),
                // Rows of pairs are half a vector; others have a vector more than tiles, lest all be the first or the last.
                Layout::Nchw if columns < kernel.lanes => (8, [4 * rows, columns]),
                Layout::Nchw => (4, [4 * rows, 4 * columns]),
            };
            let [h, w] = core::array::from_fn(|i| (outputs[i] - 1) * strides[i] + taps[i]);
            let spare = if kernel.layout == Layout::Nchw && columns >= kernel.lanes { 2 * kernel.lanes } else { 0 };
            let input = Shape::new(1, channels, h, w + spare);
            let plan = DepthwiseConv2d::builder(channels)
                .isa(kernel.isa)
                .kernel(kernel.name)
                .layout(kernel.layout)
                .kernel_size(taps)
                .stride(strides)
                .padding(Padding::valid())
                .weights(&vec![0.25; channels * taps[0] * taps[1]])
                .activation(Activation::Relu6)
                .build()
                .expect("a plan");
            (Box::new(plan), input)
        }
        _ => {
            // Half a vector is joined but once.
            let outputs = if kernel.form == depthwise::Form::Joined { columns } else { 4 * columns };
            let pixels = 8 * rows;
            let input = Shape::new(1, DEPTH, 1, pixels);
            let plan = PointwiseConv2d::builder(DEPTH, outputs)
                .isa(kernel.isa)
                .kernel(kernel.name)
                .layout(kernel.layout)
                .weights(&vec![0.25; DEPTH * outputs])
                .activation(Activation::Relu6)
                .build()
                .expect("a plan");
            (Box::new(plan), input)
        }
    };
    let shape = plan.output_shape(input).expect("a shape");
    let (x, mut y) = (vec![0.5; input.len().expect("few")], vec![0.0; shape.len().expect("few")]);
    let x = TensorView::new(&x, input, kernel.layout).expect("a view");
    let y = TensorViewMut::new(&mut y, shape, kernel.layout).expect("a view");
    plan.run(Run::new(x, y, &mut workspace)).expect("a run");
}

/// QEMU writes down each instruction of the function that runs.
#[cfg(target_arch = "aarch64")]
mod system {
    use std::process::Command;
    use std::sync::OnceLock;

    use super::Program;

    pub fn trace(program: &Program, mut command: Command, code: *const ()) -> Result<Vec<u64>, &'static str> {
        let emulator = std::env::var("DEPTHWISE_EMULATED").unwrap_or_default();
        if !emulator.contains("qemu") {
            return Err("instructions are counted in QEMU: .ci/emulated aarch64-unknown-linux-gnu cortex-a53");
        }
        // With so many addresses reserved, QEMU puts a program at the same one each time.
        command.env("QEMU_RESERVED_VA", "0x8000000000");
        static OFFSET: OnceLock<u64> = OnceLock::new();
        let offset = *OFFSET.get_or_init(|| {
            let output = command.output().expect("the emulator");
            let text = String::from_utf8_lossy(&output.stdout);
            let anchor = text.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("anchor ")?, 16).ok());
            anchor.unwrap_or_else(|| panic!("where the program lies is not in its output: {text}")) - program.anchor
        });
        let function = program.function(code);
        let (first, last) = (function[0].address, function[function.len() - 1].address);
        let log = std::env::temp_dir().join(format!("depthwise-trace-{}", std::process::id()));
        let output = command
            .env("QEMU_LOG", "exec,nochain")
            .env("QEMU_ONE_INSN_PER_TB", "1")
            .env("QEMU_DFILTER", format!("{:#x}..{:#x}", first + offset, last + offset))
            .env("QEMU_LOG_FILENAME", &log)
            .output()
            .expect("the emulator");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let text = std::fs::read_to_string(&log).expect("QEMU's log");
        std::fs::remove_file(&log).expect("QEMU's log");
        // `Trace 0: 0x7f… [00000000/0000005500123456/00000051/00000000] name`
        let address = |line: &str| u64::from_str_radix(line.split_once('[')?.1.split('/').nth(1)?, 16).ok();
        let trace: Vec<u64> = text.lines().filter_map(address).map(|address| address - offset).collect();
        assert!(!trace.is_empty(), "QEMU's log names no instruction of the kernel");
        Ok(trace)
    }
}

/// The child is stepped through from each entry to the function on.
#[cfg(target_arch = "x86_64")]
mod system {
    use std::collections::HashMap;
    use std::io::Error;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use libc::{c_long, pid_t};

    use super::Program;

    /// So many instructions are enough.
    const MOST: usize = 25_000;
    /// An instruction that stops the child.
    const BREAKPOINT: u64 = 0xcc;

    /// One request of `ptrace`.
    ///
    /// # Safety
    /// 1. `data` is what the request takes.
    unsafe fn request(request: libc::c_uint, pid: pid_t, address: u64, data: u64) -> c_long {
        // SAFETY: 1. The caller's.
        let result = unsafe { libc::ptrace(request, pid, address, data) };
        let read = request == libc::PTRACE_PEEKTEXT;
        assert!(read || result >= 0, "ptrace {request}: {}", Error::last_os_error());
        result
    }

    fn registers(pid: pid_t) -> libc::user_regs_struct {
        let mut registers = core::mem::MaybeUninit::uninit();
        // SAFETY: it writes to the structure that it takes.
        unsafe {
            request(libc::PTRACE_GETREGS, pid, 0, registers.as_mut_ptr() as u64);
            registers.assume_init()
        }
    }

    fn set_registers(pid: pid_t, registers: &libc::user_regs_struct) {
        // SAFETY: it reads the structure.
        unsafe { request(libc::PTRACE_SETREGS, pid, 0, &raw const *registers as u64) };
    }

    fn proceed(how: libc::c_uint, pid: pid_t, signal: i32) {
        // SAFETY: it takes a signal.
        unsafe { request(how, pid, 0, signal as u64) };
    }

    /// Waits for any thread of the child: which, and its status.
    fn wait() -> (pid_t, i32) {
        let mut status = 0;
        // SAFETY: it writes the status.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::__WALL) };
        assert!(pid > 0, "waitpid: {}", Error::last_os_error());
        (pid, status)
    }

    /// Writes the lowest byte at an address of the child; what was there.
    fn swap(pid: pid_t, address: u64, byte: u64) -> u64 {
        // SAFETY: both take a word of the child's memory, which is its code.
        unsafe {
            let word = request(libc::PTRACE_PEEKTEXT, pid, address, 0) as u64;
            request(libc::PTRACE_POKETEXT, pid, address, word & !0xff | byte);
            word & 0xff
        }
    }

    /// Where the child lies: what to add to an address in the file.
    fn base(pid: pid_t) -> u64 {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the child's maps");
        let program = std::env::current_exe().expect("the path of this program");
        let of_program = |line: &&str| line.ends_with(program.to_str().expect("a path of text"));
        let first = maps.lines().find(of_program).and_then(|line| line.split('-').next()).expect("its code");
        u64::from_str_radix(first, 16).expect("an address")
    }

    pub fn trace(program: &Program, mut command: Command, code: *const ()) -> Result<Vec<u64>, &'static str> {
        if depthwise_testkit::emulation::is_on() {
            return Err("instructions are counted where no emulator runs the tests");
        }
        command.stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: the child asks to be traced, and nothing else.
        unsafe {
            command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
                0 => Ok(()),
                _ => Err(Error::last_os_error()),
            });
        }
        let child = command.spawn().map_err(|_| "this system does not let programs be traced")?;
        let child = child.id() as pid_t;
        wait();
        let follow = libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
        // SAFETY: it takes options.
        unsafe { request(libc::PTRACE_SETOPTIONS, child, 0, follow as u64) };
        let base = base(child);

        let function = program.function(code);
        let (first, last) = (function[0].address, function[function.len() - 1].address);
        let asks: HashMap<u64, bool> = program.that_ask_for_the_cpu().collect();
        for &address in asks.keys() {
            swap(child, base + address, BREAKPOINT);
        }
        let entry = swap(child, base + first, BREAKPOINT);

        let mut trace = Vec::new();
        proceed(libc::PTRACE_CONT, child, 0);
        while trace.len() < MOST {
            let (pid, status) = wait();
            if !libc::WIFSTOPPED(status) {
                if pid == child {
                    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "the traced program failed");
                    return Ok(trace);
                }
                continue;
            }
            let signal = libc::WSTOPSIG(status);
            let mut r = registers(pid);
            let at = r.rip.wrapping_sub(base + 1);
            if signal == libc::SIGTRAP && status >> 16 == 0 && asks.contains_key(&at) {
                answer(&mut r, asks[&at]);
                set_registers(pid, &r);
                proceed(libc::PTRACE_CONT, pid, 0);
            } else if signal == libc::SIGTRAP && status >> 16 == 0 && at == first {
                swap(pid, base + first, entry);
                r.rip = base + first;
                set_registers(pid, &r);
                step_through(program, pid, base, first..=last, &mut trace);
                swap(pid, base + first, BREAKPOINT);
                proceed(libc::PTRACE_CONT, pid, 0);
            } else if signal == libc::SIGILL {
                r.rip = base + program.next(r.rip - base);
                set_registers(pid, &r);
                proceed(libc::PTRACE_CONT, pid, 0);
            } else {
                // A new thread and its start stop both.
                let own = signal == libc::SIGTRAP || signal == libc::SIGSTOP;
                proceed(libc::PTRACE_CONT, pid, if own { 0 } else { signal });
            }
        }
        // SAFETY: it takes a process, which is the child.
        unsafe { libc::kill(child, libc::SIGKILL) };
        while wait().0 != child {}
        Ok(trace)
    }

    /// Runs to the end of the function, one instruction at a time; others that it calls are not written down.
    fn step_through(
        program: &Program,
        pid: pid_t,
        base: u64,
        function: std::ops::RangeInclusive<u64>,
        trace: &mut Vec<u64>,
    ) {
        let top = registers(pid).rsp;
        let mut r = registers(pid);
        while r.rsp <= top && trace.len() < MOST {
            let at = r.rip - base;
            if function.contains(&at) && trace.last() != Some(&at) {
                trace.push(at);
            }
            proceed(libc::PTRACE_SINGLESTEP, pid, 0);
            let (stopped, status) = wait();
            assert!(stopped == pid && libc::WIFSTOPPED(status), "the traced program ended");
            r = registers(pid);
            match libc::WSTOPSIG(status) {
                libc::SIGTRAP => {}
                libc::SIGILL => {
                    r.rip = base + program.next(r.rip - base);
                    set_registers(pid, &r);
                }
                signal => panic!("the traced program stopped by signal {signal} at {:#x}", r.rip - base),
            }
        }
    }

    /// Does what `cpuid`, or else `xgetbv`, would, for a CPU and a system with AVX-512, whose vectors AVX2's are a part of.
    fn answer(r: &mut libc::user_regs_struct, is_cpuid: bool) {
        if is_cpuid {
            let (leaf, sub_leaf) = (r.rax as u32, r.rcx as u32);
            let real = core::arch::x86_64::__cpuid_count(leaf, sub_leaf);
            let bits = |bits: &[u32]| bits.iter().fold(0, |all, bit| all | 1 << bit);
            let [fma, osxsave, avx, avx2, avx512] = [12, 27, 28, 5, 16];
            let (mut ebx, mut ecx) = (real.ebx, real.ecx);
            match (leaf, sub_leaf) {
                (1, _) => ecx |= bits(&[fma, 26, osxsave, avx]),
                // F, DQ, CD, BW and VL.
                (7, 0) => ebx |= bits(&[avx2, avx512, 17, 28, 30, 31]),
                _ => {}
            }
            (r.rax, r.rbx, r.rcx, r.rdx) = (real.eax.into(), ebx.into(), ecx.into(), real.edx.into());
            r.rip += 1;
        } else {
            // The state of all vectors and masks is kept.
            (r.rax, r.rdx) = (0xe7, 0);
            r.rip += 2;
        }
    }
}
