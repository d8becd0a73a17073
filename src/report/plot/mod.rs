//! Line charts as SVG: for the report's page, in colours that follow it, and as files of their own.

mod canvas;
pub mod figure;
mod style;

use maud::{Markup, html};

use self::{
    canvas::{Canvas, RIGHT},
    figure::Figure,
};

pub use style::{COLOURS, DISTINCT, colour_name, dashes, variable};

/// Size and purpose of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Width, pixels.
    pub width: i32,
    /// Height, pixels.
    pub height: i32,
    /// Left of the plot area: room for the vertical axis' labels, pixels.
    pub left: i32,
    /// Font size, pixels.
    pub letters: i32,
    /// Whether it is a file of its own: with a legend, on white, in fixed colours.
    pub alone: bool,
}

/// As wide as a screen.
pub const WIDE: Form = Form { width: 1_000, height: 420, left: 64, letters: 13, alone: false };
/// As wide as a phone, or one of several side by side.
pub const NARROW: Form = Form { width: 360, height: 300, left: 52, letters: 12, alone: false };
/// One of many.
pub const SMALL: Form = Form { width: 340, height: 160, left: 48, letters: 12, alone: false };
/// A file of its own.
pub const FILE: Form = Form { width: 960, height: 540, left: 72, letters: 14, alone: true };

impl Form {
    /// Left and right end of the plot area, as parts of the width.
    pub fn plot_area(self) -> (f64, f64) {
        let part = |x: i32| f64::from(x) / f64::from(self.width);
        (part(self.left), part(self.width - RIGHT))
    }
}

/// Draws a figure as an `<svg>` element, which scales with the page unless it is a file of its own.
pub fn draw(figure: &Figure, form: Form) -> Markup {
    let Form { width, height, alone, .. } = form;
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=[alone.then_some(width)] height=[alone.then_some(height)]
            viewBox={ "0 0 " (width) " " (height) } role="img" aria-label=(description(figure)) {
            (Canvas::new(figure, form).elements())
        }
    }
}

/// What the picture shows, for those who cannot see it.
fn description(figure: &Figure) -> String {
    let heading = if figure.heading.is_empty() { String::new() } else { format!("{}: ", figure.heading) };
    let over = if figure.y.label.is_empty() { String::new() } else { format!("{} over ", figure.y.label) };
    let x = if figure.x.label.is_empty() { "time" } else { &figure.x.label };
    format!("{heading}{over}{x}, lines: {}; the numbers are in the table", figure.lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::figure::{Axis, Line, Mark};

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
    fn pictures_are_xml() {
        for form in [WIDE, NARROW, SMALL, FILE] {
            let svg = draw(&figure("a <b> & \"c\"", false), form).into_string();
            let document = roxmltree::Document::parse(&svg).unwrap_or_else(|error| panic!("{error}: {svg}"));
            assert!(document.descendants().filter(|node| node.has_tag_name("polyline")).count() >= 3);
        }
    }

    #[test]
    fn colours_follow_the_page_or_stand_alone() {
        let page = draw(&figure("n", false), NARROW).into_string();
        assert!(page.contains("stroke=\"var(--c0)\"") && page.contains("var(--other)") && !page.contains("\"#"));
        assert!(page.contains("stroke-dasharray=\"7 3\""), "the second round is dashed");
        assert!(draw(&figure("n", true), NARROW).into_string().contains("stroke-dasharray=\"1 3\""));
        let file = draw(&figure("n", false), FILE).into_string();
        assert!(file.contains("#0072B2") && !file.contains("var(") && file.contains("width=\"960\""));
    }
}
