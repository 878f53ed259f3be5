//! Regret: the time of what was chosen over the time of the best that there was.

use std::fmt::{self, Write};

/// A layer whose best way takes fewer seconds is told apart: much of its time is that of a call.
pub const SHORT: f64 = 5e-6;
/// From where on a regret is counted.
const COUNTED: f64 = 1.10;
/// Layers that a group shows.
const SHOWN: usize = 10;

/// A way to run a layer.
pub struct Way {
    pub name: String,
    /// Of the fastest call.
    pub seconds: f64,
    /// Its weights are packed in another way than the plan's: neither prediction nor tuning may take it.
    pub apart: bool,
}

/// A layer, measured in every way.
pub struct Layer {
    pub name: String,
    pub ways: Vec<Way>,
    /// What each strategy takes.
    pub chosen: Vec<usize>,
}

impl Layer {
    pub fn best(&self) -> &Way {
        self.ways.iter().min_by(|a, b| a.seconds.total_cmp(&b.seconds)).expect("a layer has a way to run it")
    }

    pub fn regret(&self, strategy: usize) -> f64 {
        self.ways[self.chosen[strategy]].seconds / self.best().seconds
    }

    /// What is left of it when only the ways count that the plan's weights are packed for.
    pub fn regret_within(&self, strategy: usize) -> f64 {
        let within = self.ways.iter().filter(|way| !way.apart).map(|way| way.seconds);
        self.ways[self.chosen[strategy]].seconds / within.fold(f64::INFINITY, f64::min)
    }

    /// That of the strategy which chose worst.
    pub fn largest_regret(&self) -> f64 {
        (0..self.chosen.len()).map(|strategy| self.regret(strategy)).fold(1.0, f64::max)
    }

    pub fn is_short(&self) -> bool {
        self.best().seconds < SHORT
    }
}

/// What many regrets come to.
#[derive(Debug, PartialEq)]
pub struct Figures {
    pub layers: usize,
    pub geometric_mean: f64,
    pub worst: f64,
    pub above: usize,
}

impl Figures {
    pub fn of(regrets: impl Iterator<Item = f64>) -> Self {
        let (mut layers, mut logarithms, mut worst, mut above) = (0, 0.0, 1.0f64, 0);
        for regret in regrets {
            layers += 1;
            logarithms += regret.ln();
            worst = worst.max(regret);
            above += usize::from(regret > COUNTED);
        }
        Self { layers, geometric_mean: (logarithms / f64::max(layers as f64, 1.0)).exp(), worst, above }
    }
}

/// Layers that were measured alike.
pub struct Group {
    /// Operation, instruction set, layout, threads, placement.
    pub of: [String; 5],
    pub layers: Vec<Layer>,
}

impl Group {
    pub fn figures(&self, strategy: usize) -> Figures {
        Figures::of(self.counted().map(|layer| layer.regret(strategy)))
    }

    /// Those of the plan's packing alone.
    pub fn figures_within(&self, strategy: usize) -> Figures {
        Figures::of(self.counted().map(|layer| layer.regret_within(strategy)))
    }

    fn counted(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|layer| !layer.is_short())
    }

    /// Its layers with the largest regrets by a strategy of that name, above the limit.
    pub fn worst(&self, (strategy, by): (usize, &str), limit: f64) -> Result<String, fmt::Error> {
        let mut text = String::new();
        for (short, what) in [(false, ""), (true, ", below 5 µs")] {
            let layers = self.layers.iter().filter(|layer| layer.is_short() == short);
            let mut layers: Vec<&Layer> = layers.filter(|layer| layer.regret(strategy) > limit).collect();
            layers.sort_by(|a, b| b.regret(strategy).total_cmp(&a.regret(strategy)));
            if layers.is_empty() {
                continue;
            }
            writeln!(text, "\n| regret | {}{what} | chosen by {by} | µs | best | µs |", self.of.join(", "))?;
            writeln!(text, "|--:|---|---|--:|---|--:|")?;
            for layer in layers.iter().take(SHOWN) {
                let (chosen, best) = (&layer.ways[layer.chosen[strategy]], layer.best());
                write!(text, "| {:.3} | {} ", layer.regret(strategy), layer.name)?;
                for way in [chosen, best] {
                    write!(text, "| {} | {:.2} ", way.name, way.seconds * 1e6)?;
                }
                writeln!(text, "|")?;
            }
            if let Some(more @ 1..) = layers.len().checked_sub(SHOWN) {
                writeln!(text, "\nand {more} more above {limit}")?;
            }
        }
        Ok(text)
    }
}

/// The figures of every group: a line for each strategy.
pub fn summary(groups: &[Group], strategies: &[&str]) -> Result<String, fmt::Error> {
    let mut text = String::from(
        "| operation | isa | layout | threads | placement | choice | layers | geometric mean | worst | above 1.10 | of its packing: geometric mean | worst |\n",
    );
    text += "|---|---|---|--:|---|---|--:|--:|--:|--:|--:|--:|\n";
    for group in groups {
        for (strategy, name) in strategies.iter().enumerate() {
            let Figures { layers, geometric_mean, worst, above } = group.figures(strategy);
            let (of, within) = (group.of.join(" | "), group.figures_within(strategy));
            write!(text, "| {of} | {name} | {layers} | {geometric_mean:.3} | {worst:.2} | {above} ")?;
            writeln!(text, "| {:.3} | {:.2} |", within.geometric_mean, within.worst)?;
        }
    }
    Ok(text)
}

/// Every way of every layer, a line each.
pub fn csv(groups: &[Group], strategies: &[&str]) -> Result<String, fmt::Error> {
    let mut text = String::from("operation,isa,layout,threads,placement,layer,way,packing,us,chosen by\n");
    for group in groups {
        for layer in &group.layers {
            for (index, way) in layer.ways.iter().enumerate() {
                let by = strategies.iter().zip(&layer.chosen).filter(|(_, chosen)| **chosen == index);
                let by: Vec<&str> = by.map(|(name, _)| *name).collect();
                let (of, us) = (group.of.join(","), way.seconds * 1e6);
                let packing = if way.apart { "other" } else { "own" };
                writeln!(text, "{of},{},{},{packing},{us:.3},{}", layer.name, way.name, by.join(" "))?;
            }
        }
    }
    Ok(text)
}
