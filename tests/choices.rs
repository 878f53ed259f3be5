//! What each machine chooses for every layer of `benches/shapes/`, as text in `tests/data/choices/`: a changed price or preference
//! shows as a diff. `DEPTHWISE_BLESS=1 cargo test --test choices` writes the text anew.
//!
//! A line is a layer, each once, under the first of its names: its kernels, then the parts of two threads, images × rows × channels,
//! and after `/` its columns if it has not all, a step after `;` and a pass after `|`.

use std::collections::BTreeSet;
use std::fmt::Write;

use depthwise::{Fusion, Isa, Layout, Machine};
use depthwise_testkit::shapes::{self, Part};

/// Each machine with its best instruction sets.
const MACHINES: [(&str, Isa); 7] = [
    ("generic", Isa::Avx2),
    ("generic", Isa::Neon),
    ("zen3", Isa::Avx2),
    ("zen4", Isa::Avx512),
    ("zen4", Isa::Avx2),
    ("zen5", Isa::Avx512),
    ("emerald-rapids", Isa::Avx512),
];

fn choices(machine: &'static Machine, isa: Isa) -> String {
    let (mut text, mut seen) = (String::new(), BTreeSet::new());
    for name in shapes::TABLES {
        for block in shapes::load(&shapes::table(name)).expect(name) {
            let part = if block.m.is_some() { Part::Separable(Fusion::Auto) } else { Part::Depthwise };
            if !seen.insert(block.layer(part)) {
                continue;
            }
            for layout in [Layout::Nhwc, Layout::Nchw] {
                let layer = shapes::layer(&block, part, layout, isa, machine).expect(&block.name);
                let choice = layer.schedule.prepare(layer.input, 2).expect(&block.name);
                write!(text, "{name}/{} {layout}: {},", block.name, choice.describe()).expect("a string");
                for (i, pass) in layer.schedule.steps(layer.input, 2).expect(&block.name).iter().enumerate() {
                    for (j, step) in pass.iter().enumerate() {
                        let before = if j > 0 { ";" } else { ["", " |"][i.min(1)] };
                        text += before;
                        for part in step {
                            let [n, h, c] = [&part.n, &part.h, &part.c].map(ExactSizeIterator::len);
                            write!(text, " {n}x{h}x{c}").expect("a string");
                            if part.w.len() < layer.output.w {
                                write!(text, "/{}w", part.w.len()).expect("a string");
                            }
                        }
                    }
                }
                text.push('\n');
            }
        }
    }
    text
}

#[test]
fn choices_are_those_of_the_text() {
    let folder = depthwise_testkit::data("choices");
    let bless = std::env::var_os("DEPTHWISE_BLESS").is_some();
    let mut problems = String::new();
    for (name, isa) in MACHINES {
        if !Isa::all().contains(&isa) {
            println!("NOT TESTED HERE: {name} with {isa}, whose kernels this target does not have");
            continue;
        }
        let file = folder.join(format!("{name}-{isa}.txt"));
        let chosen = choices(Machine::named(name).expect(name), isa);
        if bless {
            std::fs::write(&file, &chosen).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        }
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert_eq!(text.lines().count(), chosen.lines().count(), "{}: layers", file.display());
        let changed = text.lines().zip(chosen.lines()).filter(|(text, chosen)| text != chosen);
        for (text, chosen) in changed.take(10) {
            write!(problems, "{name} with {isa}\n  the text has {text}\n  chosen is   {chosen}\n").expect("a string");
        }
    }
    assert!(problems.is_empty(), "{problems}`DEPTHWISE_BLESS=1 cargo test --test choices` takes these into the text.");
}
