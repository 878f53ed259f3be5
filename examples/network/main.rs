//! Runs a trained network on photographs, on the public API of `depthwise` alone.
//!
//! ```text
//! cargo run --release --example network                       # EfficientNet-Lite0, the bundled photographs
//! cargo run --release --example network -- cat.jpg dog.png    # your own
//! cargo run --release --example network -- --profile          # what each layer costs
//! ```

use std::process::ExitCode;

use clap::Parser;
use network::command;

fn main() -> ExitCode {
    let args = command::Args::parse();
    if command::run(&args, &mut std::io::stdout(), &mut std::io::stderr()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
