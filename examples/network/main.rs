//! Runs a trained network on photographs, on the public API of `depthwise` alone.
//!
//! ```text
//! cargo run --release --example network                       # EfficientNet-Lite0, the bundled photographs
//! cargo run --release --example network -- cat.jpg dog.png    # your own
//! cargo run --release --example network -- --profile          # what each layer costs
//! ```
//!
//! A network is a folder with `arch.json` (format `dwx-arch/1`) and `model.safetensors`. The modules, in
//! the order in which data flows: `command` is the command line and does what it asks for, `arch` reads the
//! description, `engine` builds the plans and runs them, `ops` has the layers that are not convolutions,
//! `photo` and `files` read and write, `profile` measures.

mod arch;
mod command;
mod engine;
mod files;
mod ops;
mod photo;
mod profile;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = command::Args::parse();
    if command::run(&args, &mut std::io::stdout(), &mut std::io::stderr()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
