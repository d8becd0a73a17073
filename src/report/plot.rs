//! Draws figures as SVG, by plotters' SVG backend: for pages, in colours that follow the page's, and to stand alone.

use std::error::Error;

use anyhow::{Result, anyhow};
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::charts::figure::{Figure, Line, Mark};

/// plotters draws on whole numbers: each pixel of a picture is so many of them, lest lines be jagged.
const FINE: i32 = 4;
/// What plotters divides a font's size by when it writes SVG.
const FONT: f64 = 1.24;
/// Colours of lines, before dashes tell the next ones apart.
pub const COLOURS: usize = 7;
/// Dashes of the lines of each round of colours; lines beyond all of them are grey.
pub const DASHES: [&str; 3] = ["", "7 3", "2 3"];
/// Dashes of lines that show bounds.
pub const BOUND: &str = "1 3";

/// A picture's size and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Width, pixels.
    pub width: i32,
    /// Height, pixels.
    pub height: i32,
    /// Left of the plot area: room for the vertical axis' labels, pixels.
    pub left: i32,
    /// Size of letters, pixels.
    pub letters: i32,
    /// Whether it stands alone: with a legend, on white, in colours of its own.
    pub alone: bool,
}

/// Over the whole width of a screen.
pub const WIDE: Form = Form { width: 1_000, height: 420, left: 64, letters: 13, alone: false };
/// Over the width of a telephone, or one of several beside each other.
pub const NARROW: Form = Form { width: 360, height: 300, left: 52, letters: 12, alone: false };
/// One of many.
pub const SMALL: Form = Form { width: 340, height: 160, left: 48, letters: 12, alone: false };
/// A file of its own.
pub const FILE: Form = Form { width: 960, height: 540, left: 72, letters: 14, alone: true };

const RIGHT: i32 = 20;
const LEGEND_LINE: i32 = 20;

impl Form {
    /// Begin and end of the plot area, as parts of the width.
    pub fn plot_area(self) -> (f64, f64) {
        let part = |x: i32| f64::from(x) / f64::from(self.width);
        (part(self.left), part(self.width - RIGHT))
    }
}

/// What is drawn, by what it means. Each has a colour of its own on plotters' canvas, which is replaced afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ink {
    Paper,
    Text,
    Grid,
    Axis,
    Warmup,
    Fault,
    Series(usize),
    Bound(usize),
    Band(usize),
    Mark(usize),
}

impl Ink {
    fn stand_in(self) -> RGBColor {
        let (kind, number) = match self {
            Self::Paper => (0, 0),
            Self::Text => (1, 0),
            Self::Grid => (2, 0),
            Self::Axis => (3, 0),
            Self::Warmup => (4, 0),
            Self::Fault => (5, 0),
            Self::Series(number) => (6, number),
            Self::Bound(number) => (7, number),
            Self::Band(number) => (8, number),
            Self::Mark(number) => (9, number),
        };
        RGBColor(0xF0 + kind, 0x5A, number.min(255) as u8)
    }

    fn of(colour: &str) -> Option<Self> {
        let number = usize::from_str_radix(colour.get(4..6)?, 16).ok()?;
        (colour.get(2..4)? == "5A").then_some(())?;
        Some(match colour.get(0..2)? {
            "F0" => Self::Paper,
            "F1" => Self::Text,
            "F2" => Self::Grid,
            "F3" => Self::Axis,
            "F4" => Self::Warmup,
            "F5" => Self::Fault,
            "F6" => Self::Series(number),
            "F7" => Self::Bound(number),
            "F8" => Self::Band(number),
            "F9" => Self::Mark(number),
            _ => return None,
        })
    }

    /// The name of the page's CSS variable.
    fn variable(self) -> String {
        match self {
            Self::Paper => "paper".to_owned(),
            Self::Text => "muted".to_owned(),
            Self::Grid => "grid".to_owned(),
            Self::Axis => "axis".to_owned(),
            Self::Warmup => "warmup".to_owned(),
            Self::Fault => "fault".to_owned(),
            Self::Series(number) | Self::Bound(number) | Self::Band(number) | Self::Mark(number) => colour_name(number),
        }
    }

    /// The colour on white.
    fn plain(self) -> &'static str {
        /// Okabe and Ito's colours (2008), which people with the common kinds of colour blindness tell apart; those too
        /// light for lines on white are darker.
        const SERIES: [&str; COLOURS] = ["#0072B2", "#D55E00", "#009E73", "#BC5A93", "#B27D00", "#1A1A1A", "#3FA3DE"];
        match self {
            Self::Paper => "#FFFFFF",
            Self::Text => "#555555",
            Self::Grid => "#E6E6E6",
            Self::Axis => "#999999",
            Self::Warmup => "#EEEEEE",
            Self::Fault => "#F6D9D0",
            Self::Series(number) | Self::Bound(number) | Self::Band(number) | Self::Mark(number)
                if is_told_apart(number) =>
            {
                SERIES[number % COLOURS]
            }
            _ => "#8A8A8A",
        }
    }
}

fn is_told_apart(style: usize) -> bool {
    style < TOLD_APART
}

/// The page's CSS variable for the colour of a line.
pub fn colour_name(style: usize) -> String {
    if is_told_apart(style) { format!("c{}", style % COLOURS) } else { "other".to_owned() }
}

/// The dashes of a line, as `stroke-dasharray` has them; empty for none.
pub fn dashes(style: usize, bound: bool) -> &'static str {
    if bound { BOUND } else { DASHES.get(style / COLOURS).copied().unwrap_or_default() }
}

/// Lines that have colour and dashes that no other has.
pub const TOLD_APART: usize = COLOURS * DASHES.len();

/// Draws a figure as an `<svg>` element.
pub fn draw(figure: &Figure, form: Form) -> Result<String> {
    let mut svg = String::new();
    Canvas::paint(figure, form, &mut svg).map_err(|error| anyhow!("drawing a chart: {error}"))?;
    Ok(finish(&svg, figure, form))
}

type Drawn = Result<(), Box<dyn Error>>;

/// A picture in the making, in fine units.
struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, plotters::coord::Shift>,
    form: Form,
    figure: &'a Figure,
    /// Plot area.
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
}

impl<'a> Canvas<'a> {
    fn paint(figure: &'a Figure, form: Form, svg: &'a mut String) -> Drawn {
        let size = ((form.width * FINE) as u32, (form.height * FINE) as u32);
        let legend = if form.alone { LEGEND_LINE * figure.lines.len() as i32 } else { 0 };
        let title = if figure.y.label.is_empty() { 8 } else { form.letters * 9 / 4 };
        let canvas = Self {
            area: SVGBackend::with_string(svg, size).into_drawing_area(),
            form,
            figure,
            left: form.left * FINE,
            right: (form.width - RIGHT) * FINE,
            top: (title + legend) * FINE,
            bottom: (form.height - form.letters * if figure.x.label.is_empty() { 4 } else { 7 } / 2) * FINE,
        };
        if form.alone {
            canvas.area.fill(&Ink::Paper.stand_in())?;
            canvas.legend()?;
        }
        canvas.spans()?;
        canvas.axes()?;
        for line in &figure.lines {
            canvas.band(line)?;
        }
        for line in &figure.lines {
            canvas.line(line)?;
        }
        canvas.area.present()?;
        Ok(())
    }

    fn x(&self, value: f64) -> i32 {
        self.left + (f64::from(self.right - self.left) * self.figure.x.position(value)).round() as i32
    }

    fn y(&self, value: f64) -> i32 {
        self.bottom - (f64::from(self.bottom - self.top) * self.figure.y.position(value)).round() as i32
    }

    fn text(&self, text: &str, at: (i32, i32), horizontal: HPos, vertical: VPos) -> Drawn {
        let size = f64::from(self.form.letters * FINE) * FONT;
        let style = ("sans-serif", size).into_font().color(&Ink::Text.stand_in()).pos(Pos::new(horizontal, vertical));
        self.area.draw(&Text::new(text.to_owned(), at, style))?;
        Ok(())
    }

    fn stroke(&self, points: Vec<(i32, i32)>, ink: Ink, width: i32) -> Drawn {
        self.area.draw(&PathElement::new(points, ink.stand_in().stroke_width((width * FINE / 4) as u32)))?;
        Ok(())
    }

    fn spans(&self) -> Drawn {
        for span in &self.figure.spans {
            let (from, to) = (self.x(span.from), self.x(span.to));
            let ink = if span.fault { Ink::Fault } else { Ink::Warmup };
            self.area.draw(&Rectangle::new([(from, self.top), (to, self.bottom)], ink.stand_in().filled()))?;
            if span.fault {
                self.text(&span.label, (from + 3 * FINE, self.top + 3 * FINE), HPos::Left, VPos::Top)?;
            }
        }
        Ok(())
    }

    fn axes(&self) -> Drawn {
        let (gap, below) = (6 * FINE, 9 * FINE);
        for (value, label) in &self.figure.y.ticks {
            let y = self.y(*value);
            self.stroke(vec![(self.left, y), (self.right, y)], Ink::Grid, 4)?;
            self.text(label, (self.left - gap, y), HPos::Right, VPos::Center)?;
        }
        for (value, label) in &self.figure.x.ticks {
            let x = self.x(*value);
            self.stroke(vec![(x, self.bottom), (x, self.bottom + 4 * FINE)], Ink::Axis, 4)?;
            self.text(label, (x, self.bottom + below), HPos::Center, VPos::Top)?;
        }
        self.stroke(vec![(self.left, self.bottom), (self.right, self.bottom)], Ink::Axis, 4)?;
        let title = self.top - self.form.letters * FINE * 3 / 2;
        self.text(&self.figure.y.label, (4 * FINE, title), HPos::Left, VPos::Center)?;
        let below = self.bottom + below + self.form.letters * FINE * 5 / 4;
        self.text(&self.figure.x.label, (self.right, below), HPos::Right, VPos::Top)
    }

    fn band(&self, line: &Line) -> Drawn {
        if line.band.len() < 2 {
            return Ok(());
        }
        let upper = line.band.iter().map(|(x, _, high)| (self.x(*x), self.y(*high)));
        let lower = line.band.iter().rev().map(|(x, low, _)| (self.x(*x), self.y(*low)));
        let outline: Vec<(i32, i32)> = upper.chain(lower).collect();
        // Many bands on top of each other would hide the lines.
        let opacity = match self.figure.lines.len() {
            0..=2 => 0.18,
            3..=4 => 0.1,
            _ => 0.05,
        };
        self.area.draw(&Polygon::new(outline, Ink::Band(line.style).stand_in().mix(opacity).filled()))?;
        Ok(())
    }

    fn line(&self, line: &Line) -> Drawn {
        let ink = if line.bound { Ink::Bound(line.style) } else { Ink::Series(line.style) };
        self.stroke(line.points.iter().map(|(x, y)| (self.x(*x), self.y(*y))).collect(), ink, 7)?;
        for (x, y, mark) in &line.marks {
            let at = (self.x(*x), self.y(*y));
            let solid = Ink::Mark(line.style).stand_in();
            match mark {
                Mark::Dot => self.area.draw(&Circle::new(at, 5 * FINE, solid.filled()))?,
                Mark::Cross => self.area.draw(&Cross::new(at, 5 * FINE, solid.stroke_width((3 * FINE) as u32)))?,
            }
        }
        Ok(())
    }

    fn legend(&self) -> Drawn {
        for (number, line) in self.figure.lines.iter().enumerate() {
            let y = (LEGEND_LINE * number as i32 + LEGEND_LINE * 3 / 4) * FINE;
            let ink = if line.bound { Ink::Bound(line.style) } else { Ink::Series(line.style) };
            self.stroke(vec![(self.left, y), (self.left + 28 * FINE, y)], ink, 8)?;
            self.text(&line.name, (self.left + 36 * FINE, y), HPos::Left, VPos::Center)?;
        }
        Ok(())
    }
}

/// Puts the real colours in, dashes lines, and makes the picture scale.
fn finish(svg: &str, figure: &Figure, form: Form) -> String {
    let mut parts = svg.split("\"#");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_stroke = text.ends_with("stroke=");
        match Ink::of(part) {
            Some(ink) => {
                let colour = if form.alone { ink.plain().to_owned() } else { format!("var(--{})", ink.variable()) };
                text += &format!("\"{colour}\"");
                match ink {
                    Ink::Series(style) | Ink::Bound(style) if is_stroke => {
                        let dashes = scaled(dashes(style, matches!(ink, Ink::Bound(_))));
                        if !dashes.is_empty() {
                            text += &format!(" stroke-dasharray=\"{dashes}\"");
                        }
                        text += &format!(" stroke-linejoin=\"round\" class=\"s s{style}\"");
                    }
                    Ink::Band(style) => text += &format!(" class=\"s band s{style}\""),
                    Ink::Mark(style) => text += &format!(" class=\"s s{style}\""),
                    _ => {}
                }
                text += part.get(7..).unwrap_or_default();
            }
            None => text += &format!("\"#{part}"),
        }
    }
    let (width, height) = (form.width * FINE, form.height * FINE);
    let given = format!("<svg width=\"{width}\" height=\"{height}\"");
    let sized = if form.alone {
        format!("<svg width=\"{}\" height=\"{}\"", form.width, form.height)
    } else {
        "<svg".to_owned()
    };
    let name = format!("{sized} role=\"img\" aria-label=\"{}\"", described(figure));
    text.replacen(&given, &name, 1)
}

fn scaled(dashes: &str) -> String {
    dashes
        .split_whitespace()
        .filter_map(|part| part.parse::<i32>().ok())
        .map(|part| (part * FINE).to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

/// What a picture is of, for those who cannot see it, as XML.
fn described(figure: &Figure) -> String {
    let heading = if figure.heading.is_empty() { String::new() } else { format!("{}: ", figure.heading) };
    let over = if figure.y.label.is_empty() { String::new() } else { format!("{} over ", figure.y.label) };
    let text = format!("{heading}{over}{}, {} lines; the numbers are in the table", figure.x.label, figure.lines.len());
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::charts::figure::Axis;

    fn figure(name: &str, bound: bool) -> Figure {
        let line = |style: usize| Line {
            name: name.to_owned(),
            style,
            bound,
            points: vec![(0.0, 1.0), (5.0, 9.0), (10.0, 4.0)],
            band: vec![(0.0, 1.0, 2.0), (10.0, 3.0, 4.0)],
            marks: vec![(5.0, 9.0, Mark::Dot), (10.0, 4.0, Mark::Cross)],
        };
        Figure {
            heading: name.to_owned(),
            x: Axis::from_zero("x", 10.0, |value| value.to_string()),
            y: Axis::from_zero("y", 10.0, |value| value.to_string()),
            lines: [0, 8, 30].map(line).to_vec(),
            spans: Vec::new(),
            stops: Vec::new(),
        }
    }

    #[test]
    fn pictures_are_xml_and_hold_no_stand_in() {
        for form in [WIDE, NARROW, SMALL, FILE] {
            let svg = draw(&figure("a <b> & \"c\"", false), form).unwrap();
            let document = roxmltree::Document::parse(&svg).unwrap_or_else(|error| panic!("{error}: {svg}"));
            assert!(document.descendants().filter(|node| node.has_tag_name("polyline")).count() >= 3);
            assert!(!svg.contains("5A0"), "{svg}");
        }
    }

    #[test]
    fn colours_follow_the_page_or_stand_alone() {
        let page = draw(&figure("n", false), NARROW).unwrap();
        assert!(page.contains("stroke=\"var(--c0)\"") && page.contains("var(--other)") && !page.contains("\"#"));
        assert!(page.contains("stroke-dasharray=\"28 12\""), "the second round is dashed");
        assert!(draw(&figure("n", true), NARROW).unwrap().contains("stroke-dasharray=\"4 12\""));
        let file = draw(&figure("n", false), FILE).unwrap();
        assert!(file.contains("#0072B2") && !file.contains("var(") && file.contains("width=\"960\""));
    }
}
