//! Names the kernel families that this target carries: `cfg(isa = "…")`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(isa, values(\"avx2\", \"avx512\", \"neon\"))");
    let target = |key: &str| std::env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    let families: &[&str] = match (&*target("ARCH"), &*target("ENDIAN")) {
        ("x86_64", _) => &["avx2", "avx512"],
        ("aarch64", "little") => &["neon"],
        _ => &[],
    };
    for family in families {
        println!("cargo::rustc-cfg=isa=\"{family}\"");
    }
}
