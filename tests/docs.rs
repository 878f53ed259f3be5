//! What the documents promise: the errors that they quote are those that the crate prints, and their links lead to files that the
//! package has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use depthwise::{DepthwiseConv2d, Error, Isa, Layout, Padding, Run, Shape, TensorView, TensorViewMut, Workspace};

const README: &str = include_str!("../README.md");

const TROUBLESHOOTING: &str = include_str!("../docs/troubleshooting.md");

/// The texts in backticks that start the items of a section's list.
fn quoted(section: &str) -> Vec<String> {
    let (_, text) = TROUBLESHOOTING.split_once(&format!("\n## {section}\n")).expect("the section");
    let text = text.split("\n## ").next().unwrap_or(text);
    let items = text.lines().filter_map(|line| line.strip_prefix("* `"));
    items.map(|item| item.trim_matches('`').trim().to_owned()).collect()
}

/// Runs a plan for four channels, 3×3, on views of zeros.
fn run(layout: Layout, input: Shape, output: Shape) -> Result<(), Error> {
    let [zeros, mut target] = [input, output].map(|shape| vec![0.0; shape.len().expect("a small shape")]);
    let plan = DepthwiseConv2d::builder(4).weights(&[0.5; 36]).build()?;
    let input = TensorView::new(&zeros, input, layout)?;
    let output = TensorViewMut::new(&mut target, output, layout)?;
    plan.run(Run::new(input, output, &mut Workspace::new()))
}

/// An error for each item of "Errors".
fn errors() -> Vec<Error> {
    let shape = Shape::new(1, 4, 5, 5);
    let depthwise = || DepthwiseConv2d::builder(4);
    let one = Padding::symmetric(1, 1);
    let errors = [
        depthwise().weights(&[0.5; 9]).build().map(drop),
        run(Layout::Nchw, Shape { c: 5, ..shape }, shape),
        run(Layout::Nchw, shape, Shape { h: 7, w: 7, ..shape }),
        TensorView::new(&[0.0; 99], shape, Layout::Nchw).map(drop),
        TensorView::new(&[0.0; 101], shape, Layout::Nchw).map(drop),
        run(Layout::Nhwc, shape, shape),
        depthwise()
            .weights(&[0.5; 36])
            .dilation([4, 1])
            .padding(one)
            .build()
            .and_then(|plan| plan.output_shape(shape))
            .map(drop),
        depthwise().weights(&[0.5; 48]).kernel_size([4, 3]).build().map(drop),
        // Where the CPU has it, building would be fine.
        Err(Error::UnavailableIsa { isa: Isa::Neon, from_environment: true }),
        "sse9".parse::<Isa>().map(drop),
    ];
    errors.into_iter().map(|result| result.expect_err("an error")).collect()
}

#[test]
fn errors_are_quoted_word_for_word() {
    let printed: Vec<String> = errors().iter().map(Error::to_string).collect();
    let quoted = quoted("Errors");
    assert_eq!(quoted.len(), printed.len(), "{quoted:#?}");
    for (quoted, printed) in quoted.iter().zip(&printed) {
        match quoted.strip_suffix('…') {
            Some(start) => assert!(printed.starts_with(start), "`{printed}` does not start with `{start}`"),
            None => assert_eq!(quoted, printed),
        }
    }
}

#[test]
fn the_readme_names_the_instruction_sets_and_what_there_is_to_run() {
    for isa in Isa::all() {
        assert!(README.contains(&format!("`{isa}`")), "{isa}");
    }
    let root = root().join("examples");
    let examples = README.split("--example ").skip(1);
    let examples: BTreeSet<&str> =
        examples.filter_map(|text| text.split(|c: char| !c.is_alphanumeric()).next()).collect();
    assert_eq!(examples.len(), 3, "{examples:?}");
    for example in examples {
        let there = [format!("{example}.rs"), format!("{example}/main.rs")].iter().any(|file| root.join(file).exists());
        assert!(there, "there is no example {example}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The targets of the links, pictures included, of a text in Markdown, code left out.
fn links(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    let targets = prose.flat_map(|prose| prose.split("](").skip(1));
    targets.filter_map(|rest| rest.split(')').next()).collect()
}

/// On docs.rs there is nothing beside the documentation, and so nothing for a relative link to lead to.
#[test]
fn the_documentation_of_the_crate_has_no_relative_link() {
    let source = include_str!("../src/lib.rs");
    assert!(!source.contains("#![doc = include_str!"), "a file, with its relative links, is part of the documentation");
    let text: String =
        source.lines().filter_map(|line| line.strip_prefix("//!")).map(|line| format!("{line}\n")).collect();
    assert!(text.lines().count() > 20, "{text}");
    for link in links(&text) {
        // Anchors, and paths of Rust.
        let is_absolute = link.starts_with("https://") || link.starts_with('#');
        assert!(is_absolute || !link.contains(['/', '.']), "{link}");
    }
}

/// The documents of the package, by their paths.
fn documents() -> Vec<PathBuf> {
    let pages = std::fs::read_dir(root().join("docs")).expect("the folder docs");
    let pages = pages.map(|page| Path::new("docs").join(page.expect("a page").file_name()));
    let pages = pages.filter(|page| page.extension().is_some_and(|extension| extension == "md"));
    ["README.md", "CHANGELOG.md", "SECURITY.md"].map(PathBuf::from).into_iter().chain(pages).collect()
}

/// What a file of the package matches: the patterns of `include` in Cargo.toml, a path or a folder's `/*.extension` each.
fn included() -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    let (_, list) = manifest.split_once("\ninclude = [").expect("the list of the package's files");
    let (list, _) = list.split_once(']').expect("the end of the list");
    list.split('"').skip(1).step_by(2).map(|pattern| pattern.trim_start_matches('/').to_owned()).collect()
}

fn is_included(file: &Path, patterns: &[String]) -> bool {
    patterns.iter().any(|pattern| match pattern.split_once("/*.") {
        Some((folder, extension)) => {
            file.parent() == Some(Path::new(folder)) && file.extension().is_some_and(|found| found == extension)
        }
        None => file.starts_with(pattern),
    })
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = text.split("```").step_by(2);
    let headings = prose.flat_map(str::lines).filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    headings
        .map(|heading| heading.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>())
        .map(|heading| heading.replace(' ', "-"))
        .collect()
}

/// There is no public address that links could lead to, so each must lead to a file beside it: in a checkout and in the package.
#[test]
fn the_links_of_the_documents_lead_into_the_package() {
    let (patterns, mut checked) = (included(), 0);
    for document in documents() {
        let name = document.display();
        assert!(is_included(&document, &patterns), "{name} is not in the package");
        let text = std::fs::read_to_string(root().join(&document)).expect("a document");
        for link in links(&text).into_iter().filter(|link| !link.starts_with("https://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                document.clone()
            } else {
                let folder = document.parent().expect("a folder");
                // As far as the documents go: a folder up, no further.
                file.strip_prefix("../").map_or_else(|| folder.join(file), PathBuf::from)
            };
            let there = std::fs::read_to_string(root().join(&target));
            let there = there.unwrap_or_else(|error| panic!("{name} links to {link}: {error}"));
            assert!(is_included(&target, &patterns), "{name} links to {link}, which is not in the package");
            assert!(anchor.is_empty() || anchors(&there).contains(anchor), "{name} links to {link}: no such heading");
            checked += 1;
        }
    }
    assert!(checked > 15, "{checked} links");
}

/// A newcomer reads it in five minutes.
#[test]
fn the_readme_is_short() {
    let lines = README.lines().count();
    assert!(lines <= 180, "{lines} lines");
}
