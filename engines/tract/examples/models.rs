//! Writes the ONNX files that the README's table is measured on: `cargo run --release --example models -- FOLDER`.

use std::path::PathBuf;

use depthwise_models::{Dim, Graph, efficientnet_lite0, mobilenet_v1, mobilenet_v3_like};

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).expect("usage: models FOLDER"));
    std::fs::create_dir_all(&folder)?;
    let batch = || [Dim::from("batch"), 3.into(), 224.into(), 224.into()];
    let networks: [(&str, Graph); 3] = [
        ("mobilenet_v1", mobilenet_v1(batch())),
        ("efficientnet_lite0", efficientnet_lite0(batch())),
        ("mobilenet_v3_like", mobilenet_v3_like(batch())),
    ];
    for (name, graph) in networks {
        let path = folder.join(name).with_extension("onnx");
        std::fs::write(&path, graph.to_bytes())?;
        println!("{}", path.display());
    }
    Ok(())
}
