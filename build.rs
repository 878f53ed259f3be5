//! Names the kernel families that this target carries: `cfg(isa = "…")`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(isa, values(\"avx2\", \"avx512\", \"neon\"))");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        println!("cargo::rustc-cfg=isa=\"avx2\"");
        println!("cargo::rustc-cfg=isa=\"avx512\"");
    }
}
