//! Runs a trained network on photographs, on the public API of `depthwise` alone.
//!
//! A network is a folder with `arch.json` (format `dwx-arch/1`) and `model.safetensors`. The modules, in
//! the order in which data flows: `command` is the command line and does what it asks for, `arch` reads the
//! description, `engine` builds the plans and runs them, `ops` has the layers that are not convolutions,
//! `photo` and `files` read and write, `profile` measures. `tflite` runs 8-bit networks from TFLite files.

pub mod arch;
pub mod command;
pub mod engine;
pub mod files;
pub mod ops;
pub mod photo;
pub mod profile;
pub mod tflite;
