//! Draws figures as SVG, by plotters' SVG backend: for pages, in colours that follow the page's, and to stand alone.

mod canvas;
mod ink;

use anyhow::{Result, anyhow};

use self::{canvas::Canvas, ink::Ink};
use super::charts::figure::Figure;

pub use ink::{TOLD_APART, colour_name, dashes};

/// plotters draws on whole numbers: each pixel of a picture is so many of them, lest lines be jagged.
const FINE: i32 = 4;
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

/// Right of the plot area: room for half of the last label, pixels.
const RIGHT: i32 = 20;

impl Form {
    /// Begin and end of the plot area, as parts of the width.
    pub fn plot_area(self) -> (f64, f64) {
        let part = |x: i32| f64::from(x) / f64::from(self.width);
        (part(self.left), part(self.width - RIGHT))
    }
}

/// Draws a figure as an `<svg>` element.
pub fn draw(figure: &Figure, form: Form) -> Result<String> {
    let mut svg = String::new();
    Canvas::paint(figure, form, &mut svg).map_err(|error| anyhow!("drawing a chart: {error}"))?;
    Ok(finish(&svg, figure, form))
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
    let x = if figure.x.label.is_empty() { "time" } else { &figure.x.label };
    let text = format!("{heading}{over}{x}, lines: {}; the numbers are in the table", figure.lines.len());
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::charts::figure::{Axis, Line, Mark};

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
