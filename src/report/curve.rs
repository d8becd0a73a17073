//! What a connect costs as the ports fill, as a picture: `ports-curve.svg`. One line a cell, logarithmic, knee and wall marked.

use std::error::Error;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::{
    record::{Outcome, Ports, Record},
    scenario::label,
};

const SIZE: (u32, u32) = (960, 540);
/// Colours that people with the common kinds of colour blindness tell apart (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// The picture; `None` where no trial filled ports. Of each cell it shows the first valid trial.
pub fn render(record: &Record) -> Result<Option<String>> {
    let mut lines: Vec<(String, &Ports)> = Vec::new();
    for trial in record.trials.iter().filter(|trial| trial.outcome == Outcome::Valid) {
        let name = label(&trial.cell);
        if let (Some(ports), false) = (&trial.ports, lines.iter().any(|(known, _)| *known == name)) {
            lines.push((name, ports));
        }
    }
    lines.retain(|(_, ports)| !ports.curve.is_empty());
    if lines.is_empty() {
        return Ok(None);
    }
    lines.sort_by(|one, other| one.0.cmp(&other.0));
    let mut svg = String::new();
    draw(&lines, &mut svg).map_err(|error| anyhow!("drawing the curve: {error}"))?;
    Ok(Some(svg))
}

fn draw(lines: &[(String, &Ports)], svg: &mut String) -> Result<(), Box<dyn Error>> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let steps = || lines.iter().flat_map(|(_, ports)| &ports.curve);
    let microseconds = |ns: u64| ns as f64 / 1e3;
    let most = steps().map(|step| step.connections).max().unwrap_or(1);
    let low = steps().map(|step| step.connect_p50_ns).min().map_or(1.0, microseconds);
    let high = steps().map(|step| step.connect_p50_ns).max().map_or(10.0, microseconds);
    let mut chart = ChartBuilder::on(&area)
        .caption("What a connect costs as the ports fill (medians)", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(0..most + most / 40, (low / 2.0..high * 3.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("connections open")
        .y_desc("connect, bind included (µs)")
        .y_label_formatter(&|value| format!("{value:.0}"))
        .light_line_style(BLACK.mix(0.05))
        .draw()?;
    for (number, (name, ports)) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let points = ports.curve.iter().map(|step| (step.connections, microseconds(step.connect_p50_ns)));
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
            .label(marks(name, ports))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
        let at = |connections: u64| points.clone().find(move |(x, _)| *x >= connections);
        if let Some(knee) = ports.knee.and_then(at) {
            chart.draw_series([Circle::new(knee, 5, colour.filled())])?;
        }
        if let (Some(_), Some(last)) = (ports.wall, points.clone().next_back()) {
            chart.draw_series([Cross::new(last, 6, colour.stroke_width(3))])?;
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.9))
        .border_style(BLACK.mix(0.2))
        .draw()?;
    area.present()?;
    Ok(())
}

/// The line's name, with where its knee (a dot) and its wall (a cross) are.
fn marks(name: &str, ports: &Ports) -> String {
    let knee = ports.knee.map_or_else(|| "no knee".to_owned(), |knee| format!("knee ● {knee}"));
    let wall = ports.wall.map_or_else(|| "no wall met".to_owned(), |wall| format!("wall × {wall}"));
    format!("{name}: {knee}, {wall}")
}
