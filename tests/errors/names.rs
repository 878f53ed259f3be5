//! Names of instruction sets, machines, kernels and layouts, in the program and in the environment.

use depthwise::{DepthwiseConv2d, ElementType, Error, Isa, Layout, Machine, Parallelism, SeparableConv2d, Shape};

use super::Report;

#[test]
fn names() {
    let mut report = Report::default();
    report
        .error("an unknown instruction set", &["sse9", "portable", "avx2", "avx512", "neon"], || "sse9".parse::<Isa>());
    let unknown = "sse9".parse::<Isa>().expect_err("no such instruction set");
    assert_eq!(unknown, Error::UnknownIsa { name: "sse9".into(), from_environment: false });
    assert!(!unknown.to_string().contains("DEPTHWISE_ISA"), "{unknown}");
    report.error("an empty instruction set", &["avx2"], || "".parse::<Isa>());
    report.error("an unknown layout", &["chwn", "nchw", "nhwc"], || "chwn".parse::<Layout>());
    let plain = || DepthwiseConv2d::builder(4).weights(&[0.5; 36]);
    for name in ["portable", "avx2", "avx512", "neon"] {
        let build = || plain().isa(name.parse()?).build();
        match name.parse::<Isa>().expect(name) {
            isa if isa.is_available() => report.fine(name, build),
            // It must say what there is instead, and that it was not the environment that asked.
            isa => {
                report.error(name, &[name, "in the program", "portable"], build);
                assert_eq!(build().unwrap_err(), Error::UnavailableIsa { isa, from_environment: false });
            }
        }
        assert_eq!(name.parse::<Isa>().expect(name).to_string(), name);
    }
    assert!(Isa::detect().is_available());
    assert!(Isa::all().contains(&Isa::detect()));

    report.error("an unknown kernel", &["dw_f64"], || plain().kernel("dw_f64").build());
    for kernel in depthwise::kernels() {
        let build = |layout, isa| plain().layout(layout).isa(isa).kernel(kernel.name).build();
        if !kernel.isa.is_available() {
            report.error("a kernel that this CPU cannot run", &[], || build(kernel.layout, kernel.isa));
            continue;
        }
        let other = if kernel.layout == Layout::Nchw { Layout::Nhwc } else { Layout::Nchw };
        report.error("a kernel of the other layout", &[kernel.name], || build(other, kernel.isa));
        if kernel.isa != Isa::Portable {
            report.error("of another instruction set", &[kernel.name], || build(kernel.layout, Isa::Portable));
        }
        if kernel.operation != depthwise::Operation::Depthwise {
            report.error("of another operation", &[kernel.name], || build(kernel.layout, kernel.isa));
        } else if kernel.kernel_size.is_some_and(|size| size != [3, 3]) || kernel.stride.is_some_and(|s| s != [1, 1]) {
            report.error("of other taps", &[kernel.name], || build(kernel.layout, kernel.isa));
        } else if kernel.element != ElementType::F32 {
            report.error("of other elements", &[kernel.name, "f32"], || build(kernel.layout, kernel.isa));
        } else {
            report.fine("a kernel that fits", || build(kernel.layout, kernel.isa));
        }
    }
    report.finish();
}

/// A plan can be built again from the description of a choice, whichever instruction sets its kernels are of.
#[test]
fn what_a_choice_describes_can_be_asked_for() {
    for &machine in Machine::all() {
        for (channels, kernel) in [8, 16, 24, 33, 40].into_iter().flat_map(|channels| [(channels, 3), (channels, 5)]) {
            let (depthwise, pointwise) = (vec![0.5; channels * kernel * kernel], vec![0.5; channels * channels]);
            let builder = || {
                let builder = SeparableConv2d::builder(channels, channels).layout(Layout::Nhwc);
                let builder = builder.machine(machine).kernel_size([kernel; 2]);
                builder.depthwise_weights(&depthwise).pointwise_weights(&pointwise)
            };
            let shape = Shape::new(1, channels, 20, 20);
            let describe =
                |plan: SeparableConv2d| plan.prepare(shape, Parallelism::Serial).expect("a choice").describe();
            let first = describe(builder().build().expect("a plan"));
            let names = [first.depthwise, first.pointwise].map(|name| name.expect("a kernel"));
            let again = builder().isa(first.isa).kernel(names[0]).kernel(names[1]).build().expect("the same plan");
            assert_eq!(describe(again), first, "{machine}, {channels} channels, {kernel}x{kernel}");
        }
    }
}

/// Names are told apart by their letters, not by their case, and nothing is trimmed.
#[test]
fn names_in_any_case() {
    for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Neon] {
        let name = isa.name();
        let capital = name[..1].to_uppercase() + &name[1..];
        for name in [name, &name.to_uppercase(), &capital] {
            assert_eq!(name.parse(), Ok(isa), "{name}");
        }
    }
    for (name, layout) in [("nchw", Layout::Nchw), ("NHWC", Layout::Nhwc), ("Nhwc", Layout::Nhwc)] {
        assert_eq!(name.parse(), Ok(layout), "{name}");
    }
    // The message quotes what was written.
    for (name, error) in [
        ("AVX3", "AVX3".parse::<Isa>().map(drop)),
        ("AVX2 ", "AVX2 ".parse::<Isa>().map(drop)),
        ("NHCW", "NHCW".parse::<Layout>().map(drop)),
    ] {
        let message = error.expect_err(name).to_string();
        assert!(message.contains(&format!("`{name}`")), "{message}");
    }
}

/// The name of the plan's instruction set, or the error: what [`environment`] sees of another process.
#[cfg(feature = "std")]
#[test]
#[ignore = "run by `environment`, with DEPTHWISE_ISA set"]
fn child() {
    match DepthwiseConv2d::builder(4).weights(&[0.5; 36]).build() {
        Ok(plan) => println!("<built for {}>", plan.isa()),
        Err(error) => println!("<{error}>"),
    }
    let chosen = DepthwiseConv2d::builder(4).weights(&[0.5; 36]).isa(Isa::Portable).build();
    println!("<chosen: {:?}>", chosen.map(|plan| plan.isa().name()));
}

#[cfg(feature = "std")]
#[test]
#[cfg_attr(target_family = "wasm", ignore = "WASI has no processes")]
fn environment() {
    let run = |variable: Option<(&str, &str)>| {
        let mut command = depthwise_testkit::emulation::this_program();
        command.args(["--exact", "names::child", "--ignored", "--nocapture"]);
        command.env_remove("DEPTHWISE_ISA").env_remove("DEPTHWISE_MACHINE");
        let output = command.envs(variable).output().expect("a child");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{variable:?}: {text}");
        text
    };
    let expect = |variable: Option<(&str, &str)>, says: &[&str]| {
        let text = run(variable);
        for part in says {
            assert!(text.contains(part), "{variable:?}: {text}\ndoes not mention {part}");
        }
    };
    let (isa, machine) = (|name| Some(("DEPTHWISE_ISA", name)), |name| Some(("DEPTHWISE_MACHINE", name)));
    let detected = format!("<built for {}>", Isa::detect());
    expect(None, &[&detected]);
    for name in ["portable", "avx2", "avx512", "neon"] {
        if name.parse::<Isa>().expect(name).is_available() {
            expect(isa(name), &[&format!("<built for {name}>")]);
        } else {
            expect(isa(name), &["<the instruction set", name, "environment variable DEPTHWISE_ISA", "portable"]);
        }
    }
    for &known in Machine::all() {
        expect(machine(known.name()), &[&detected]);
        assert_eq!(Machine::named(&known.name().to_uppercase()), Ok(known));
    }
    let says = ["<there is no machine `zen99` (from the environment variable DEPTHWISE_MACHINE)", "zen4", "generic"];
    expect(machine("zen99"), &says);
    // Never a silent fallback.
    let says = ["sse9", "environment variable DEPTHWISE_ISA", "portable, avx2, avx512, avx512vnni or neon"];
    expect(isa("sse9"), &says);
    assert!(!run(isa("sse9")).contains("<built"));
    assert!(!run(isa("AVX2 ")).contains("<built"));
}
