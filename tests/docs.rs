//! What README.md promises: the errors that it quotes are those that the crate prints.

use std::collections::BTreeSet;

use depthwise::{
    DepthwiseConv2d, Error, Isa, Layout, Padding, Parallelism, Shape, TensorView, TensorViewMut, Workspace,
};

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
    plan.run(input, output, &mut Workspace::new(), Parallelism::Serial)
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
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let examples = README.split("--example ").skip(1);
    let examples: BTreeSet<&str> =
        examples.filter_map(|text| text.split(|c: char| !c.is_alphanumeric()).next()).collect();
    assert_eq!(examples.len(), 3, "{examples:?}");
    for example in examples {
        let there = [format!("{example}.rs"), format!("{example}/main.rs")].iter().any(|file| root.join(file).exists());
        assert!(there, "there is no example {example}");
    }
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

#[test]
fn the_links_of_the_readme_lead_somewhere() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let anchor = |heading: &str| heading.trim().to_lowercase().replace(' ', "-");
    let anchors: BTreeSet<_> =
        README.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect();
    let links = links(README);
    assert!(links.len() > 5, "{links:?}");
    for link in links.into_iter().filter(|link| !link.starts_with("https://")) {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        assert!(root.join(file).exists(), "README links to {link}, and there is no such file");
        assert!(!file.is_empty() || anchors.contains(anchor), "README links to {link}, and has no such heading");
    }
}
