//! A figure on plotters' canvas.

use std::error::Error;

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{FINE, Form, RIGHT, ink::Ink};
use crate::report::charts::figure::{Figure, Line, Mark};

/// What plotters divides a font's size by when it writes SVG.
const FONT: f64 = 1.24;
/// A letter's width ÷ the font's size, about, a little room included.
const LETTER: f64 = 0.68;
/// Height of a line of the legend, pixels.
const LEGEND_LINE: i32 = 20;

pub(super) type Drawn = Result<(), Box<dyn Error>>;

/// A picture in the making, in fine units.
pub(super) struct Canvas<'a> {
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
    pub(super) fn paint(figure: &'a Figure, form: Form, svg: &'a mut String) -> Drawn {
        let size = ((form.width * FINE) as u32, (form.height * FINE) as u32);
        let legend = if form.alone { LEGEND_LINE * (figure.lines.len() as i32 + 1) } else { 0 };
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
        let mut free = i32::MIN;
        for (value, label) in &self.figure.x.ticks {
            let x = self.x(*value);
            self.stroke(vec![(x, self.bottom), (x, self.bottom + 4 * FINE)], Ink::Axis, 4)?;
            // Where there is no room for a label beside the last one, its tick stands alone.
            let half = (label.chars().count() as f64 * LETTER * f64::from(self.form.letters * FINE) / 2.0) as i32;
            if x - half > free {
                self.text(label, (x, self.bottom + below), HPos::Center, VPos::Top)?;
                free = x + half;
            }
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
