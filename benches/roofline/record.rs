//! A report as CSV, and back: `# key: value` lines that say what was measured, a header, then a layer a line.

use std::fmt::{self, Display, Write};

use depthwise::{Isa, Layout};

use crate::report::{OPERATIONS, Report, Row};
use crate::roof::{Bound, Level, Roofs, Work};

const COLUMNS: &str = "threads,operation,layout,layer,network,count,flop,bytes,footprint_bytes,flop_per_byte,\
    microseconds,predicted_microseconds,gflop_per_s,gb_per_s,level,roof,roof_gflop_per_s,percent_of_roof";

/// What binds a layer: the names that `Bound` and `Level` have.
const NAMES: [&str; 5] = ["peak", "L1", "L2", "L3", "memory"];

const HAND_OVER: &str = "a cache line to another thread, ns";

pub fn write(report: &Report) -> Result<String, fmt::Error> {
    let mut out = String::new();
    for (key, value) in &report.head {
        writeln!(out, "# {key}: {value}")?;
    }
    // A roof a line, its values by threads.
    let mut line = |key: &str, value: &dyn Fn(&Roofs) -> String| {
        let values: Vec<String> = report.roofs.iter().map(value).collect();
        writeln!(out, "# {key}: {}", values.join(", "))
    };
    line("threads", &|roofs| roofs.threads.to_string())?;
    let first = report.roofs.first();
    for (i, (isa, _)) in first.iter().flat_map(|roofs| roofs.peaks.iter().enumerate()) {
        line(&format!("multiply-adds, {isa}, GFLOP/s"), &|roofs| format!("{:.3}", roofs.peaks[i].1))?;
    }
    for (i, level) in first.iter().flat_map(|roofs| roofs.levels.iter().enumerate()) {
        line(&format!("reading {}, GB/s", level.name), &|roofs| format!("{:.3}", roofs.levels[i].bandwidth))?;
    }
    line(HAND_OVER, &|roofs| {
        roofs.hand_over.map_or("none".into(), |[least, most]| format!("{least:.1} to {most:.1}"))
    })?;
    writeln!(out, "{COLUMNS}")?;
    for row in &report.rows {
        let Row { bound, work, .. } = row;
        let network = row.network.as_deref().unwrap_or_default();
        write!(out, "{},{},{},{},{network},", row.threads, row.operation, row.layout, row.layer)?;
        write!(out, "{},{},{},{},", row.count, work.operations, work.bytes, work.footprint)?;
        write!(out, "{:.4},{:.3},{:.3},", work.intensity(), row.seconds * 1e6, row.predicted * 1e6)?;
        write!(out, "{:.3},{:.3},", row.gflops(), work.bytes / row.seconds * 1e-9)?;
        writeln!(out, "{},{},{:.3},{:.2}", bound.level, bound.name, bound.gflops, row.percent())?;
    }
    Ok(out)
}

/// Reads what `write` wrote. An error says what is wrong, but not in which file.
pub fn read(text: &str) -> Result<Report, String> {
    let mut report = Report { head: Vec::new(), isa: Isa::Portable, roofs: Vec::new(), rows: Vec::new() };
    let mut lines = (1..).zip(text.lines());
    for (number, line) in lines.by_ref() {
        let Some(line) = line.strip_prefix("# ") else {
            let same = line == COLUMNS;
            same.then_some(())
                .ok_or_else(|| format!("line {number} does not have the columns of a roofline report"))?;
            break;
        };
        let (key, value) = line.split_once(": ").ok_or_else(|| format!("line {number} has no `key: value`"))?;
        if !roof(&mut report.roofs, key, value).map_err(|error| format!("line {number}: {error}"))? {
            report.head.push((key.to_owned(), value.to_owned()));
        }
    }
    report.isa = report.head("isa").parse().map_err(|_| "the head does not say which `isa` was measured")?;
    for (number, line) in lines {
        report.rows.push(row(line).map_err(|error| format!("line {number}: {error}"))?);
    }
    let known = |row: &Row| report.roofs.iter().any(|roofs| roofs.threads == row.threads);
    if report.rows.is_empty() || !report.rows.iter().all(known) {
        return Err("it has no layers, or layers of other numbers of threads than its head".into());
    }
    Ok(report)
}

/// Whether a line of the head is of roofs, which it then adds.
fn roof(all: &mut Vec<Roofs>, key: &str, value: &str) -> Result<bool, String> {
    let values: Vec<&str> = value.split(", ").collect();
    if key == "threads" {
        for threads in values {
            let threads = number(threads)? as usize;
            all.push(Roofs { threads, peaks: Vec::new(), levels: Vec::new(), hand_over: None });
        }
        return Ok(true);
    }
    let between = |start: &str, end: &str| key.strip_prefix(start).and_then(|key| key.strip_suffix(end));
    let (isa, level) = (between("multiply-adds, ", ", GFLOP/s"), between("reading ", ", GB/s"));
    if isa.is_none() && level.is_none() && key != HAND_OVER {
        return Ok(false);
    }
    if values.len() != all.len() {
        return Err(format!("`{key}` does not have a value for each number of threads"));
    }
    for (roofs, value) in all.iter_mut().zip(values) {
        if let Some(isa) = isa {
            roofs.peaks.push((isa.parse().map_err(text)?, number(value)?));
        } else if let Some(level) = level {
            // What a level holds has done its part: each layer says what binds it.
            let name = one_of(&NAMES, level)?;
            roofs.levels.push(Level { name, capacity: f64::NAN, read_by_thread: 0, bandwidth: number(value)? });
        } else if value != "none" {
            let (least, most) = value.split_once(" to ").unwrap_or((value, value));
            roofs.hand_over = Some([number(least)?, number(most)?]);
        }
    }
    Ok(true)
}

fn row(line: &str) -> Result<Row, String> {
    let fields: Vec<&str> = line.split(',').collect();
    let columns: Vec<&str> = COLUMNS.split(',').collect();
    if fields.len() != columns.len() {
        return Err(format!("{} fields instead of {}", fields.len(), columns.len()));
    }
    let field = |name| columns.iter().position(|column| *column == name).map_or("", |i| fields[i]);
    let value = |name| number(field(name)).map_err(|error| format!("{name}: {error}"));
    let (operations, microseconds, gflops) = (value("flop")?, value("microseconds")?, value("gflop_per_s")?);
    Ok(Row {
        operation: one_of(&OPERATIONS, field("operation"))?,
        layout: field("layout").parse::<Layout>().map_err(text)?,
        layer: field("layer").to_owned(),
        network: (!field("network").is_empty()).then(|| field("network").to_owned()),
        count: value("count")? as usize,
        threads: value("threads")? as usize,
        work: Work { operations, bytes: value("bytes")?, footprint: value("footprint_bytes")? },
        // Of the column that has more digits: a layer of a microsecond has few.
        seconds: if microseconds > gflops { microseconds * 1e-6 } else { operations / gflops * 1e-9 },
        predicted: value("predicted_microseconds")? * 1e-6,
        bound: Bound {
            name: one_of(&NAMES, field("roof"))?,
            gflops: value("roof_gflop_per_s")?,
            level: one_of(&NAMES, field("level"))?,
        },
    })
}

fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

fn one_of(names: &[&'static str], text: &str) -> Result<&'static str, String> {
    names.iter().find(|name| **name == text).copied().ok_or_else(|| format!("`{text}` is none of {}", names.join(", ")))
}

fn text(error: impl Display) -> String {
    error.to_string()
}
