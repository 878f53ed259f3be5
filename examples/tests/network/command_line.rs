//! The command line: what it prints, what it reports, and whether it says that all went well.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Parser;
use depthwise::Isa;
use safetensors::tensor::{Dtype, TensorView};

use crate::errors::small;
use network::command::{self, Args};
use network::files::{self, Tensors};

/// An empty folder of that name for one test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Writes a network of five classes for photographs of 9x8 pixels, and returns the options that choose it.
fn model(folder: &Path) -> [String; 2] {
    let net = small();
    std::fs::write(folder.join("arch.json"), net.arch("007.fc").to_string()).unwrap();
    std::fs::write(folder.join("model.safetensors"), net.weights()).unwrap();
    ["--model".into(), folder.to_str().unwrap().into()]
}

/// What a command line writes to standard output and to standard error, and whether all went well.
struct Outcome {
    out: String,
    errors: String,
    fine: bool,
}

fn run<A: AsRef<str>>(args: &[A]) -> Outcome {
    let args = Args::try_parse_from(["network"].into_iter().chain(args.iter().map(AsRef::as_ref))).unwrap();
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let fine = command::run(&args, &mut out, &mut errors);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { out: text(out), errors: text(errors), fine }
}

#[test]
fn a_bad_photograph_does_not_end_the_run() {
    let folder = folder("network_bad_photographs");
    let model = model(&folder);
    let photo = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    for name in ["first.png", "last.png"] {
        image::RgbImage::from_pixel(20, 10, image::Rgb([9, 99, 199])).save(photo(name)).unwrap();
    }
    std::fs::write(photo("cut.png"), &std::fs::read(photo("first.png")).unwrap()[..50]).unwrap();

    let names = ["missing.png", "first.png", "cut.png", "last.png"].map(photo);
    let Outcome { out, errors, fine } = run(&[&model[..], &names].concat());
    assert!(!fine);
    assert!(out.contains("first.png  ") && out.contains("last.png  "), "{out}");
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(lines.len(), 2, "{errors}");
    for (line, name) in lines.iter().zip(["missing.png", "cut.png"]) {
        assert!(line.starts_with("error: ") && line.contains(name), "{line}");
    }

    let good = run(&[&model[..], &["first.png", "last.png"].map(photo)].concat());
    assert!(good.fine && good.errors.is_empty(), "{}", good.errors);
}

#[test]
fn the_first_line_says_what_runs() {
    let folder = folder("network_first_line");
    let model = model(&folder);
    let photo = folder.join("photo.png");
    image::RgbImage::new(9, 9).save(&photo).unwrap();
    let first_line = |args: &[&str]| {
        let Outcome { out, errors, fine } = run(&[&[&model[0], &model[1], photo.to_str().unwrap()], args].concat());
        assert!(fine, "{errors}");
        out.lines().next().unwrap().to_owned()
    };
    // Names of layouts and instruction sets are taken in any case.
    let line = first_line(&["--isa", "PORTABLE", "--layout", "Nchw"]);
    assert!(line.ends_with("8 layers in 6 steps, nchw, portable, 1 thread"), "{line}");
    let line = first_line(&["--isa", "portable", "--threads", "2"]);
    assert!(line.ends_with("nhwc, portable, 2 threads"), "{line}");
}

/// An instruction set that cannot be had is no fault of the network, nor of its first layer.
#[test]
fn a_wrong_instruction_set_blames_no_layer() {
    let folder = folder("network_wrong_instruction_set");
    let model = model(&folder);
    let blames = |errors: &str| errors.contains("layer") || errors.contains("stem") || errors.contains(&model[1]);
    for isa in [Isa::Avx2, Isa::Avx512, Isa::Neon].into_iter().filter(|isa| !isa.is_available()) {
        let Outcome { out, errors, fine } = run(&[&model[..], &["--isa".into(), isa.name().into()]].concat());
        assert!(!fine && out.is_empty(), "{out}");
        assert!(errors.contains(isa.name()) && errors.lines().count() == 1 && !blames(&errors), "{errors}");
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "command_line::child", "--ignored", "--nocapture"]).env("DEPTHWISE_ISA", "sse9");
    let output = child.env("NETWORK_MODEL", &model[1]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("no error: {text}"));
    assert!(line.contains("sse9") && !blames(line), "{line}");
}

#[test]
#[ignore = "run by `a_wrong_instruction_set_blames_no_layer`, with DEPTHWISE_ISA and NETWORK_MODEL set"]
fn child() {
    print!("\n{}", run(&["--model".into(), std::env::var("NETWORK_MODEL").unwrap()]).errors);
}

/// Tensors in without tensors out: the classes are printed, the same that win in the tensor.
#[test]
fn inputs_without_outputs_are_classified() {
    let folder = folder("network_inputs");
    let model = model(&folder);
    let (inputs, outputs) = (folder.join("inputs.safetensors"), folder.join("outputs.safetensors"));
    let pixels: Vec<u8> = (0..2 * 9 * 8 * 3).map(|index| (index * index % 251) as u8).collect();
    let images = TensorView::new(Dtype::U8, vec![2, 9, 8, 3], &pixels).unwrap();
    std::fs::write(&inputs, safetensors::serialize([("images_u8", images)], None).unwrap()).unwrap();
    let paths = [&inputs, &outputs].map(|path| path.to_str().unwrap().to_owned());

    let args = [&model[..], &["--inputs".into(), paths[0].clone()]].concat();
    let Outcome { out: classified, errors, fine } = run(&args);
    assert!(fine, "{errors}");
    let written = run(&[&args[..], &["--outputs".into(), paths[1].clone()]].concat());
    assert!(written.fine && written.out.ends_with("output0 of 2 images\n"), "{}{}", written.out, written.errors);

    let bytes = files::read(&outputs).unwrap();
    let rows = Tensors::parse(&bytes).unwrap().weights("output0", &[2, 5]).unwrap();
    for (index, row) in rows.chunks_exact(5).enumerate() {
        let (_, image) = classified.split_once(&format!("image {index}  ")).unwrap_or_else(|| panic!("{classified}"));
        let lines: Vec<_> = image.lines().skip(1).take_while(|line| line.starts_with(' ')).collect();
        assert_eq!(lines.len(), 5, "{classified}");
        let winner = (0..5).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
        assert!(lines[0].ends_with(&format!("class {winner}")), "{row:?}: {classified}");
    }
}

/// What a newcomer takes for a fault: ImageNet has no class for one of the bundled photographs.
#[test]
fn the_bundled_photographs_explain_the_astronaut() {
    let Outcome { out, errors, fine } = run::<&str>(&[]);
    assert!(fine, "{errors}");
    let (classes, note) = out.rsplit_once("ImageNet's 1000 classes").unwrap_or_else(|| panic!("{out}"));
    assert!(classes.contains("espresso") && note.contains("no astronaut"), "{out}");
}

/// The legend below the table has every kind of tile of the kernels' names, and the note every layer of one pixel.
#[test]
fn the_profile_explains_names_and_weights() {
    let folder = folder("network_profile");
    let model = model(&folder);
    let photo = folder.join("photo.png");
    image::RgbImage::new(9, 9).save(&photo).unwrap();
    let args = [&model[..], &["--profile".into(), photo.to_str().unwrap().into()]].concat();
    let Outcome { out, errors, fine } = run(&args);
    assert!(fine, "{errors}");
    let (table, legend) = out.split_once("kernels are named").unwrap_or_else(|| panic!("{out}"));
    let note = table.lines().find(|line| line.contains("uses each weight once")).unwrap_or_else(|| panic!("{out}"));
    assert!(note.starts_with("007.fc: "), "{note}");
    assert!(table.contains("on 1 thread\n"), "{table}");

    let explained: BTreeSet<&str> = legend.split(|c: char| !c.is_alphanumeric() && c != '.').collect();
    for kernel in depthwise::kernels() {
        let parts: Vec<_> = kernel.name.split('_').collect();
        let [operation, .., tile, _] = parts[..] else { panic!("{}", kernel.name) };
        assert!(explained.contains(operation), "{operation} of {}: {legend}", kernel.name);
        // What the tile's last number counts, or does: nothing, or a letter.
        let kind = tile.trim_start_matches(|c: char| c.is_ascii_digit() || c == 'x' || c == '.');
        let is_explained = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.ends_with(kind);
        assert!(explained.iter().any(is_explained), "{tile} of {}: {legend}", kernel.name);
    }
    assert!(["any", "3x3s1", "2.5v"].iter().all(|word| explained.contains(word)), "{legend}");
}
