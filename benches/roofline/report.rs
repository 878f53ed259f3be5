//! What was measured, and its tables in Markdown.

use std::fmt::{self, Write};

use depthwise::{Isa, Layout};

use crate::roof::{Bound, Roofs, Work};

/// The operations, in the order of the report's columns.
pub const OPERATIONS: [&str; 5] = ["depthwise", "pointwise", "fused", "two-pass", "standard"];

/// Keys of the head.
pub const NOTE: &str = "note";
/// What --quick left out, as it takes long.
pub const LEFT_OUT: &str = "left out";
/// The commit that added a record which does not say what it measured.
const RECORDED: &str = "recorded in";

/// How to read the tables.
const COUNTED: &str = "
Below: GFLOP/s, and per cent of the roof that binds. That is the peak, or, where one is named, the level that holds all
that the layer touches: its rate of reading times FLOP/byte. Bytes are those of input, weights and output, once; two
passes also write and read what lies between.
";

/// A layer, measured.
pub struct Row {
    pub operation: &'static str,
    pub layout: Layout,
    pub layer: String,
    /// The network that the layer is a part of, where the table of shapes has all of it.
    pub network: Option<String>,
    /// How often the network has it.
    pub count: usize,
    pub threads: usize,
    pub work: Work,
    pub seconds: f64,
    /// What the model of the split says.
    pub predicted: f64,
    pub bound: Bound,
}

impl Row {
    pub fn gflops(&self) -> f64 {
        self.work.operations / self.seconds * 1e-9
    }

    /// Of the roof that binds.
    pub fn percent(&self) -> f64 {
        100.0 * self.gflops() / self.bound.gflops
    }
}

pub struct Report {
    /// On what, with what and when it was measured, by keys: `date`, `cpu`, `commit`, …
    pub head: Vec<(String, String)>,
    pub isa: Isa,
    pub roofs: Vec<Roofs>,
    pub rows: Vec<Row>,
}

pub fn threads(n: usize) -> String {
    if n == 1 { "1 thread".into() } else { format!("{n} threads") }
}

/// The layers that are no part of a whole network, in their order.
pub fn alone<'a>(rows: &[&'a Row]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|row| row.network.is_none()) {
        if !names.contains(&&*row.layer) {
            names.push(&row.layer);
        }
    }
    names
}

impl Report {
    /// What the head says of it, if it does.
    fn said(&self, key: &str) -> Option<&str> {
        self.head.iter().find(|pair| pair.0 == key).map(|pair| &*pair.1)
    }

    pub fn head(&self, key: &str) -> &str {
        self.said(key).unwrap_or("unknown")
    }

    fn left_out(&self) -> String {
        self.said(LEFT_OUT)
            .map_or(String::new(), |names| format!("\nLeft out by --quick, as they take long: {names}.\n"))
    }

    /// The roofs, the layers that stand alone, and whole networks in one line each.
    pub fn markdown(&self) -> Result<String, fmt::Error> {
        let [cpu, date, compiler, commit] = ["cpu", "date", "compiler", "commit"].map(|key| self.head(key));
        let mut out = format!("{cpu}, {}, {date}. Each rate is that of the fastest calls.\n", self.isa);
        let recorded = self.said(RECORDED).map_or(String::new(), |recorded| format!(", recorded in {recorded}"));
        writeln!(out, "\nCompiler: {compiler}. Commit: {commit}{recorded}.")?;
        for (_, note) in self.head.iter().filter(|pair| pair.0 == NOTE) {
            writeln!(out, "\n{note}")?;
        }
        self.roofs_in_markdown(&mut out)?;
        for roofs in &self.roofs {
            for layout in [Layout::Nhwc, Layout::Nchw] {
                let here = |row: &&Row| row.threads == roofs.threads && row.layout == layout;
                let rows: Vec<&Row> = self.rows.iter().filter(here).collect();
                if rows.is_empty() {
                    continue;
                }
                writeln!(out, "\n### {}, {}", layout.name().to_uppercase(), threads(roofs.threads))?;
                self.layers(&mut out, &rows)?;
                self.networks(&mut out, &rows)?;
            }
        }
        self.speed_ups(&mut out)?;
        out.push_str(&self.left_out());
        Ok(out)
    }

    /// Both stages of the layers that stand alone: how many times as fast as one thread more of them are.
    fn speed_ups(&self, out: &mut String) -> fmt::Result {
        let separable = |row: &&Row| row.network.is_none() && ["fused", "two-pass"].contains(&row.operation);
        for roofs in self.roofs.iter().filter(|roofs| roofs.threads > 1) {
            let mut title = Some("\n| layer | layout | operation | measured | predicted |\n|---|---|---|--:|--:|\n");
            for row in self.rows.iter().filter(separable).filter(|row| row.threads == roofs.threads) {
                let alike = |one: &&Row| {
                    one.threads == 1
                        && (one.operation, one.layout, &one.layer) == (row.operation, row.layout, &row.layer)
                };
                let Some(one) = self.rows.iter().find(alike) else { continue };
                if let Some(title) = title.take() {
                    write!(out, "\n### Speed-up, {}\n{title}", threads(roofs.threads))?;
                }
                write!(out, "| `{}` | {} | {} |", row.layer, row.layout, row.operation)?;
                writeln!(out, " {:.2} | {:.2} |", one.seconds / row.seconds, one.predicted / row.predicted)?;
            }
        }
        Ok(())
    }

    fn roofs_in_markdown(&self, out: &mut String) -> fmt::Result {
        out.push_str("\n| roof |");
        self.roofs.iter().try_for_each(|roofs| write!(out, " {} |", threads(roofs.threads)))?;
        out.push_str("\n|---|");
        out.push_str(&"--:|".repeat(self.roofs.len()));
        out.push('\n');
        let Some(first) = self.roofs.first() else { return Ok(()) };
        for (i, (isa, _)) in first.peaks.iter().enumerate() {
            write!(out, "| multiply-adds, {isa}, GFLOP/s |")?;
            self.roofs.iter().try_for_each(|roofs| write!(out, " {:.1} |", roofs.peaks[i].1))?;
            out.push('\n');
        }
        for (i, level) in first.levels.iter().enumerate() {
            write!(out, "| reading {}, GB/s |", level.name)?;
            self.roofs.iter().try_for_each(|roofs| write!(out, " {:.1} |", roofs.levels[i].bandwidth))?;
            out.push('\n');
        }
        if self.roofs.iter().any(|roofs| roofs.hand_over.is_some()) {
            out.push_str("| a cache line to another thread, ns |");
            for roofs in &self.roofs {
                write!(out, " {} |", roofs.hand_over.map_or("–".into(), span))?;
            }
            out.push('\n');
        }
        writeln!(out, "\nCaches: {}.", self.head("caches"))?;
        out.push_str(COUNTED);
        Ok(())
    }

    /// A line for each layer that stands alone, a column for each operation.
    fn layers(&self, out: &mut String, rows: &[&Row]) -> fmt::Result {
        let names = alone(rows);
        if names.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n| layer | {} |\n|---|{}", OPERATIONS.join(" | "), "--:|".repeat(OPERATIONS.len()))?;
        for name in names {
            write!(out, "| `{name}` |")?;
            for operation in OPERATIONS {
                match rows.iter().find(|row| row.layer == name && row.operation == operation) {
                    None => out.push_str(" – |"),
                    Some(row) => {
                        let name = row.bound.name;
                        let of = if name == "peak" { String::new() } else { format!(" of {name}") };
                        write!(out, " {:.0}, {:.0} %{of} |", row.gflops(), row.percent())?;
                    }
                }
            }
            out.push('\n');
        }
        Ok(())
    }

    /// A line for a network and an operation: all of its layers, one after the other.
    fn networks(&self, out: &mut String, rows: &[&Row]) -> fmt::Result {
        let mut totals: Vec<(&str, &str, usize, [f64; 3])> = Vec::new();
        for row in rows {
            let Some(network) = &row.network else { continue };
            let known = totals.iter().position(|total| total.0 == network && total.1 == row.operation);
            let index = known.unwrap_or_else(|| {
                totals.push((network, row.operation, 0, [0.0; 3]));
                totals.len() - 1
            });
            let (_, _, layers, [operations, seconds, allowed]) = &mut totals[index];
            let count = row.count as f64;
            *layers += row.count;
            *operations += count * row.work.operations;
            *seconds += count * row.seconds;
            *allowed += count * row.work.operations / row.bound.gflops * 1e-9;
        }
        if totals.is_empty() {
            return Ok(());
        }
        out.push_str("\n| network | operation | layers | ms | GFLOP/s | of the layers' roofs |\n|---|---|");
        out.push_str("--:|--:|--:|--:|\n");
        for (network, operation, layers, [operations, seconds, allowed]) in totals {
            let (ms, gflops, percent) = (seconds * 1e3, operations / seconds * 1e-9, 100.0 * allowed / seconds);
            writeln!(out, "| {network} | {operation} | {layers} | {ms:.3} | {gflops:.1} | {percent:.0} % |")?;
        }
        Ok(())
    }
}

/// `31`, or `31 to 157` where they are far from each other.
fn span([least, most]: [f64; 2]) -> String {
    if most > 1.5 * least { format!("{least:.0} to {most:.0}") } else { format!("{least:.0}") }
}
