//! What was measured as a picture: one for a number of threads.

use std::error::Error;
use std::path::Path;

use depthwise::Layout;
use plotters::coord::Shift;
use plotters::element::{Drawable, PointCollection};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use depthwise_benches::report::{OPERATIONS, Report, Row, alone, threads};
use depthwise_benches::roof::Roofs;

const SIZE: (u32, u32) = (1280, 800);
/// The axes, in pixels: left, right, top, bottom. Right of them is the legend.
const FRAME: [i32; 4] = [80, 1010, 60, 730];
const GREY: RGBColor = RGBColor(90, 90, 90);
const COLOURS: [RGBColor; 5] = [
    RGBColor(31, 119, 180),
    RGBColor(230, 126, 20),
    RGBColor(30, 140, 60),
    RGBColor(148, 80, 190),
    RGBColor(110, 110, 110),
];

/// A range of values on a logarithmic axis, and where it lies.
struct Axis {
    values: [f64; 2],
    pixels: [i32; 2],
}

impl Axis {
    fn at(&self, value: f64) -> i32 {
        let [from, to] = self.values.map(f64::ln);
        let share = (value.ln() - from) / (to - from);
        self.pixels[0] + (share * f64::from(self.pixels[1] - self.pixels[0])).round() as i32
    }

    /// 1, 2 and 5 of every power of ten within.
    fn ticks(&self) -> impl Iterator<Item = f64> {
        let ticks = (-3..9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
        ticks.filter(|tick| (self.values[0]..=self.values[1]).contains(tick))
    }
}

struct Plot<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    x: Axis,
    y: Axis,
}

pub fn draw(report: &Report, roofs: &Roofs, path: &Path) -> Result<(), Box<dyn Error>> {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.threads == roofs.threads).collect();
    let extremes = |values: &mut dyn Iterator<Item = f64>| {
        values.fold([f64::INFINITY, 0.0f64], |[least, most], value| [least.min(value), most.max(value)])
    };
    // All roofs and their ridges are in the picture, whatever the layers.
    let peaks = roofs.peaks.iter().map(|peak| peak.1);
    let ridges = roofs.levels.iter().map(|level| 1.5 * roofs.peak(report.isa) / level.bandwidth);
    let x = extremes(&mut rows.iter().map(|row| row.work.intensity()).chain(ridges));
    let y = extremes(&mut rows.iter().map(|row| row.gflops()).chain(peaks));
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let [left, right, upper, lower] = FRAME;
    let plot = Plot {
        area,
        x: Axis { values: [x[0] / 2.2, x[1] * 1.3], pixels: [left, right] },
        y: Axis { values: [y[0] / 1.5, y[1] * 1.5], pixels: [lower, upper] },
    };
    let title = format!("{}, {}, {}, {}", report.head("cpu"), report.isa, threads(roofs.threads), report.head("date"));
    plot.text(&title, [(left + right) / 2, 30], 18, &BLACK, (HPos::Center, VPos::Center))?;
    plot.axes()?;
    plot.roofs(report, roofs)?;
    let blocks = alone(&rows);
    plot.points(&rows)?;
    plot.numbers(&rows, &blocks, plot.y.at(roofs.peak(report.isa)))?;
    plot.legend(&rows, &blocks)?;
    plot.area.present()?;
    Ok(())
}

fn colour(operation: &str) -> RGBColor {
    OPERATIONS.iter().position(|&name| name == operation).map_or(BLACK, |i| COLOURS[i])
}

impl Plot<'_> {
    fn put<E>(&self, element: E) -> Result<(), Box<dyn Error>>
    where
        for<'e> &'e E: PointCollection<'e, (i32, i32)>,
        for<'a> E: Drawable<SVGBackend<'a>>,
    {
        Ok(self.area.draw(&element)?)
    }

    fn text(
        &self,
        text: &str,
        [x, y]: [i32; 2],
        size: u32,
        colour: &RGBColor,
        (horizontal, vertical): (HPos, VPos),
    ) -> Result<(), Box<dyn Error>> {
        let style = ("sans-serif", size).into_font().color(colour).pos(Pos::new(horizontal, vertical));
        self.put(Text::new(text.to_owned(), (x, y), style))
    }

    fn line(&self, points: [(i32, i32); 2], style: impl Into<ShapeStyle>) -> Result<(), Box<dyn Error>> {
        self.put(PathElement::new(points.to_vec(), style))
    }

    fn axes(&self) -> Result<(), Box<dyn Error>> {
        let [left, right, top, bottom] = FRAME;
        let grid = RGBColor(228, 228, 228);
        for tick in self.x.ticks() {
            let x = self.x.at(tick);
            self.line([(x, top), (x, bottom)], grid)?;
            self.text(&tick.to_string(), [x, bottom + 8], 13, &BLACK, (HPos::Center, VPos::Top))?;
        }
        for tick in self.y.ticks() {
            let y = self.y.at(tick);
            self.line([(left, y), (right, y)], grid)?;
            self.text(&tick.to_string(), [left - 8, y], 13, &BLACK, (HPos::Right, VPos::Center))?;
        }
        self.put(Rectangle::new([(left, top), (right, bottom)], BLACK))?;
        let middle = [(left + right) / 2, bottom + 45];
        self.text("arithmetic intensity, FLOP/byte", middle, 15, &BLACK, (HPos::Center, VPos::Center))?;
        let style = ("sans-serif", 15).into_font().transform(FontTransform::Rotate270).color(&BLACK);
        let style = style.pos(Pos::new(HPos::Center, VPos::Center));
        self.put(Text::new("GFLOP/s", (left - 55, (top + bottom) / 2), style))
    }

    fn roofs(&self, report: &Report, roofs: &Roofs) -> Result<(), Box<dyn Error>> {
        let fastest = roofs.levels.iter().fold(0.0f64, |most, level| most.max(level.bandwidth));
        for &(isa, peak) in &roofs.peaks {
            let (from, to, y) = (self.x.at((peak / fastest).max(self.x.values[0])), FRAME[1], self.y.at(peak));
            let (width, colour) = if isa == report.isa { (2, BLACK) } else { (1, GREY) };
            self.line([(from, y), (to, y)], colour.stroke_width(width))?;
            let text = format!("{isa} {peak:.0} GFLOP/s");
            self.text(&text, [to - 6, y - 3], 13, &colour, (HPos::Right, VPos::Bottom))?;
        }
        let peak = roofs.peak(report.isa);
        for level in &roofs.levels {
            // From where the line enters the frame, at the left or from below, to the ridge.
            let from = self.x.values[0].max(self.y.values[0] / level.bandwidth);
            let to = peak / level.bandwidth;
            let end = |x: f64| (self.x.at(x), self.y.at(x * level.bandwidth));
            self.line([end(from), end(to)], BLACK.stroke_width(2))?;
            let (x, y) = end(from * 1.05);
            let text = format!("{} {:.0} GB/s", level.name, level.bandwidth);
            self.text(&text, [x + 8, y], 13, &BLACK, (HPos::Left, VPos::Center))?;
        }
        Ok(())
    }

    fn point(&self, at: (i32, i32), layout: Layout, colour: RGBColor, clear: bool) -> Result<(), Box<dyn Error>> {
        let style = if clear { colour.mix(0.9).filled() } else { colour.mix(0.3).filled() };
        match layout {
            Layout::Nchw => self.put(TriangleMarker::new(at, if clear { 5 } else { 4 }, style)),
            _ => self.put(Circle::new(at, if clear { 4 } else { 3 }, style)),
        }
    }

    fn at(&self, row: &Row) -> (i32, i32) {
        (self.x.at(row.work.intensity()), self.y.at(row.gflops()))
    }

    /// The layers of whole networks stay in the background.
    fn points(&self, rows: &[&Row]) -> Result<(), Box<dyn Error>> {
        for clear in [false, true] {
            for row in rows.iter().filter(|row| row.network.is_none() == clear) {
                self.point(self.at(row), row.layout, colour(row.operation), clear)?;
            }
        }
        Ok(())
    }

    /// Beside the points of the depthwise stage and of both stages fused, in the faster layout, where there is room.
    fn numbers(&self, rows: &[&Row], blocks: &[&str], peak: i32) -> Result<(), Box<dyn Error>> {
        let around = |(x, y), width: i32, height: i32| [x - width, y - height, x + width, y + height];
        let overlap = |a: &[i32; 4], b: &[i32; 4]| a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
        let points = rows.iter().map(|row| around(self.at(row), 4, 4));
        let mut taken: Vec<[i32; 4]> = points.chain([[FRAME[0], peak - 1, FRAME[1], peak + 1]]).collect();
        let directions = [(0, -1), (0, 1), (1, 0), (-1, 0), (1, -1), (-1, -1), (1, 1), (-1, 1)];
        for operation in ["depthwise", "fused"] {
            for (number, name) in (1..).zip(blocks) {
                let its = rows.iter().filter(|row| row.operation == operation && row.layer == *name);
                let Some(row) = its.min_by(|a, b| a.seconds.total_cmp(&b.seconds)) else { continue };
                let (x, y) = self.at(row);
                let width = if number < 10 { 4 } else { 8 };
                let spots =
                    [11, 18, 27, 38, 50].iter().flat_map(|far| directions.map(|(i, j)| (x + i * far, y + j * far)));
                let free = |&spot: &(i32, i32)| !taken.iter().any(|other| overlap(&around(spot, width, 6), other));
                let Some(spot) = spots.into_iter().find(free) else { continue };
                taken.push(around(spot, width, 6));
                let colour = colour(operation);
                if (spot.0 - x).abs().max((spot.1 - y).abs()) > 11 {
                    let towards = (spot.0 + (x - spot.0).signum() * width, spot.1 + (y - spot.1).signum() * 6);
                    self.line([(x, y), towards], colour.mix(0.5))?;
                }
                self.text(&number.to_string(), spot.into(), 12, &colour, (HPos::Center, VPos::Center))?;
            }
        }
        Ok(())
    }

    fn legend(&self, rows: &[&Row], blocks: &[&str]) -> Result<(), Box<dyn Error>> {
        let left = FRAME[1] + 25;
        let mut y = FRAME[2] + 10;
        let mut entry = |text: &str| {
            y += 19;
            self.text(text, [left + 16, y], 13, &BLACK, (HPos::Left, VPos::Center)).map(|()| (left + 4, y))
        };
        for operation in OPERATIONS.iter().filter(|name| rows.iter().any(|row| row.operation == **name)) {
            let at = entry(operation)?;
            self.point(at, Layout::Nhwc, colour(operation), true)?;
        }
        entry("")?;
        for (layout, text) in [(Layout::Nhwc, "NHWC"), (Layout::Nchw, "NCHW")] {
            let at = entry(text)?;
            self.point(at, layout, GREY, true)?;
        }
        if rows.iter().any(|row| row.network.is_some()) {
            let at = entry("a layer of a whole network")?;
            self.point(at, Layout::Nhwc, GREY, false)?;
        }
        entry("")?;
        for (number, name) in (1..).zip(blocks) {
            let (x, y) = entry(name)?;
            self.text(&number.to_string(), [x + 6, y], 12, &GREY, (HPos::Right, VPos::Center))?;
        }
        Ok(())
    }
}
