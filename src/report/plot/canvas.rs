//! A figure as SVG elements.

use maud::{Markup, html};

use super::{
    Form,
    figure::{Figure, Line, Mark},
    style::{Ink, dashes},
};

/// Right of the plot area: room for half of the last label, pixels.
pub(super) const RIGHT: i32 = 20;
/// Approximate width of a letter, with some room, as a part of the font size.
const LETTER: f64 = 0.68;
/// Height of a line of the legend, pixels.
const LEGEND_LINE: i32 = 20;
/// From a mark's centre to its edge, pixels.
const MARK: f64 = 5.0;

/// A figure's plot area in a picture of a given form, in pixels.
pub(super) struct Canvas<'a> {
    form: Form,
    figure: &'a Figure,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// Where a text's anchor is: horizontally as `text-anchor` says, vertically as the shift to its baseline.
struct Anchor {
    horizontal: &'static str,
    baseline: &'static str,
}

const LEFT_MIDDLE: Anchor = Anchor { horizontal: "start", baseline: "0.5ex" };
const RIGHT_MIDDLE: Anchor = Anchor { horizontal: "end", baseline: "0.5ex" };
const LEFT_TOP: Anchor = Anchor { horizontal: "start", baseline: "0.76em" };
const CENTRE_TOP: Anchor = Anchor { horizontal: "middle", baseline: "0.76em" };
const RIGHT_TOP: Anchor = Anchor { horizontal: "end", baseline: "0.76em" };

impl<'a> Canvas<'a> {
    pub(super) fn new(figure: &'a Figure, form: Form) -> Self {
        let legend = if form.alone { LEGEND_LINE * (figure.lines.len() as i32 + 1) } else { 0 };
        let title = if figure.y.label.is_empty() { 8 } else { form.letters * 9 / 4 };
        let labels = form.letters * if figure.x.label.is_empty() { 4 } else { 7 } / 2;
        Self {
            form,
            figure,
            left: f64::from(form.left),
            right: f64::from(form.width - RIGHT),
            top: f64::from(title + legend),
            bottom: f64::from(form.height - labels),
        }
    }

    /// All elements, from the back to the front.
    pub(super) fn elements(&self) -> Markup {
        html! {
            @if self.form.alone {
                rect width="100%" height="100%" fill=(self.paint(Ink::Paper)) {}
                (self.legend())
            }
            (self.spans())
            (self.axes())
            @for line in &self.figure.lines { (self.band(line)) }
            @for line in &self.figure.lines { (self.line(line)) }
        }
    }

    fn x(&self, value: f64) -> f64 {
        self.left + (self.right - self.left) * self.figure.x.position(value)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * self.figure.y.position(value)
    }

    fn paint(&self, ink: Ink) -> String {
        ink.paint(self.form.alone)
    }

    fn text(&self, text: &str, (x, y): (f64, f64), anchor: &Anchor) -> Markup {
        html! {
            text x=(pixels(x)) y=(pixels(y)) dy=(anchor.baseline) text-anchor=(anchor.horizontal)
                font-family="sans-serif" font-size=(self.form.letters) fill=(self.paint(Ink::Text)) { (text) }
        }
    }

    /// A thin straight line.
    fn rule(&self, from: (f64, f64), to: (f64, f64), ink: Ink) -> Markup {
        html! { line x1=(pixels(from.0)) y1=(pixels(from.1)) x2=(pixels(to.0)) y2=(pixels(to.1)) stroke=(self.paint(ink)) {} }
    }

    fn spans(&self) -> Markup {
        html! {
            @for span in &self.figure.spans {
                @let (from, to) = (self.x(span.from), self.x(span.to));
                @let ink = if span.event { Ink::Event } else { Ink::Warmup };
                rect x=(pixels(from)) y=(pixels(self.top)) width=(pixels(to - from)) height=(pixels(self.bottom - self.top))
                    fill=(self.paint(ink)) {}
                @if span.event { (self.text(&span.label, (from + 3.0, self.top + 3.0), &LEFT_TOP)) }
            }
        }
    }

    fn axes(&self) -> Markup {
        let letters = f64::from(self.form.letters);
        let labels = self.bottom + 9.0;
        html! {
            @for (value, label) in &self.figure.y.ticks {
                @let y = self.y(*value);
                (self.rule((self.left, y), (self.right, y), Ink::Grid))
                (self.text(label, (self.left - 6.0, y), &RIGHT_MIDDLE))
            }
            @for (value, _) in &self.figure.x.ticks {
                @let x = self.x(*value);
                (self.rule((x, self.bottom), (x, self.bottom + 4.0), Ink::Axis))
            }
            @for (x, label) in self.labels_with_room() { (self.text(label, (x, labels), &CENTRE_TOP)) }
            (self.rule((self.left, self.bottom), (self.right, self.bottom), Ink::Axis))
            @if !self.figure.y.label.is_empty() {
                (self.text(&self.figure.y.label, (4.0, self.top - 1.5 * letters), &LEFT_MIDDLE))
            }
            @if !self.figure.x.label.is_empty() {
                (self.text(&self.figure.x.label, (self.right, labels + 1.25 * letters), &RIGHT_TOP))
            }
        }
    }

    /// Labels of the horizontal axis and their places, without those that would overlap the one before.
    fn labels_with_room(&self) -> Vec<(f64, &str)> {
        let mut free = f64::NEG_INFINITY;
        let mut labels = Vec::new();
        for (value, label) in &self.figure.x.ticks {
            let x = self.x(*value);
            let half = label.chars().count() as f64 * LETTER * f64::from(self.form.letters) / 2.0;
            if x - half > free {
                labels.push((x, label.as_str()));
                free = x + half;
            }
        }
        labels
    }

    fn band(&self, line: &Line) -> Markup {
        let upper = line.band.iter().map(|(x, _, high)| (self.x(*x), self.y(*high)));
        let lower = line.band.iter().rev().map(|(x, low, _)| (self.x(*x), self.y(*low)));
        // Many bands on top of each other would hide the lines.
        let opacity = match self.figure.lines.len() {
            0..=2 => "0.18",
            3..=4 => "0.1",
            _ => "0.05",
        };
        html! {
            @if line.band.len() > 1 {
                polygon.{ "s band s" (line.style) } points=(points(upper.chain(lower))) fill=(self.paint(Ink::Line(line.style)))
                    opacity=(opacity) {}
            }
        }
    }

    fn line(&self, line: &Line) -> Markup {
        let drawn = line.points.iter().map(|(x, y)| (self.x(*x), self.y(*y)));
        html! {
            (self.stroke(line, drawn, "1.75"))
            @for (x, y, mark) in &line.marks { (self.mark((self.x(*x), self.y(*y)), *mark, line.style)) }
        }
    }

    fn stroke(&self, line: &Line, through: impl Iterator<Item = (f64, f64)>, width: &str) -> Markup {
        html! {
            polyline.{ "s s" (line.style) } points=(points(through)) fill="none" stroke=(self.paint(Ink::Line(line.style)))
                stroke-width=(width) stroke-dasharray=[dashes(line.style, line.bound)] stroke-linejoin="round" {}
        }
    }

    fn mark(&self, (x, y): (f64, f64), mark: Mark, style: usize) -> Markup {
        let colour = self.paint(Ink::Line(style));
        let [left, right, top, bottom] = [x - MARK, x + MARK, y - MARK, y + MARK].map(pixels);
        html! {
            @match mark {
                Mark::Dot => circle.{ "s s" (style) } cx=(pixels(x)) cy=(pixels(y)) r=(MARK) fill=(colour) {},
                Mark::Cross => path.{ "s s" (style) } d={ "M" (left) "," (top) "L" (right) "," (bottom) "M" (left) "," (bottom) "L" (right) "," (top) }
                    stroke=(colour) stroke-width="3" {},
            }
        }
    }

    fn legend(&self) -> Markup {
        html! {
            @for (number, line) in self.figure.lines.iter().enumerate() {
                @let y = f64::from(LEGEND_LINE) * (number as f64 + 0.75);
                (self.stroke(line, [(self.left, y), (self.left + 28.0, y)].into_iter(), "2"))
                (self.text(&line.name, (self.left + 36.0, y), &LEFT_MIDDLE))
            }
        }
    }
}

/// A length or place, to a tenth of a pixel.
fn pixels(value: f64) -> f64 {
    (10.0 * value).round() / 10.0
}

fn points(points: impl Iterator<Item = (f64, f64)>) -> String {
    points.map(|(x, y)| format!("{},{}", pixels(x), pixels(y))).collect::<Vec<_>>().join(" ")
}
