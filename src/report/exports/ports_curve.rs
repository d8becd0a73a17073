//! `ports-curve.svg`: the cost of a connect as the ports fill, as a stand-alone picture.

use super::{Exporter, Render};
use crate::report::{
    plot::{FILE, draw},
    sections::ports,
};

pub(super) const EXPORTER: Exporter = Exporter {
    name: "ports-curve.svg",
    render: Render::File(
        |report| Ok(ports::curve(&report.ranked).map(|curve| draw(&curve.figure, FILE).into_string())),
    ),
};
