//! `include/depthwise.h` is what cbindgen makes of the sources.
//!
//! ```sh
//! cargo run -p depthwise-c-header            # fails if it is not
//! cargo run -p depthwise-c-header -- write   # writes it anew
//! ```

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let types = cbindgen::Builder::new()
        .with_config(cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("a configuration"))
        .with_src(root.join("src/types.rs"))
        .with_src(root.join("src/types/int8.rs"));
    let functions = ["plans", "int8", "tensors", "runs", "choices"].map(|name| format!("src/border/{name}.rs"));
    let sources = functions.iter().fold(types, |sources, path| sources.with_src(root.join(path)));
    let bindings = sources.generate().expect("a header");
    let mut made = Vec::new();
    bindings.write(&mut made);
    let made = String::from_utf8(made).expect("UTF-8");
    let path = root.join("include/depthwise.h");
    if std::env::args().nth(1).as_deref() == Some("write") {
        std::fs::write(&path, made).expect("the header can be written");
        return ExitCode::SUCCESS;
    }
    // A checkout on Windows may have other ends of lines.
    let committed = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    if made == committed {
        println!("include/depthwise.h is that of the sources");
        return ExitCode::SUCCESS;
    }
    let mut lines = made.lines().zip(committed.lines()).enumerate();
    eprintln!("include/depthwise.h is not that of the sources: run `cargo run -p depthwise-c-header -- write`");
    match lines.find(|(_, (made, committed))| made != committed) {
        Some((i, (made, committed))) => eprintln!("line {}: `{committed}` would be `{made}`", i + 1),
        None => eprintln!("one ends before the other"),
    }
    ExitCode::FAILURE
}
