//! What the command lines of the benches share.

use std::error::Error;
use std::process::ExitCode;

use depthwise::Isa;

/// An instruction set by its name, if this CPU has it.
pub fn isa(name: &str) -> Result<Isa, String> {
    let isa: Isa = name.parse().map_err(|error: depthwise::Error| error.to_string())?;
    if isa.is_available() {
        return Ok(isa);
    }
    Err(format!("this CPU does not have {isa}: leave out --isa, or name another"))
}

/// Says what went wrong, if something did.
pub fn end(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
