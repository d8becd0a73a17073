//! Rates of starts that change during the load: what their keys say, and the mathematics of each.
//!
//! `ramp`, `mmpp` and `rates` are the processes, `csv` the file that a table of rates may be in.

pub(super) mod csv;
mod mmpp;
mod ramp;
mod rates;

use std::time::Duration;

pub use self::{
    mmpp::Mmpp,
    ramp::Ramp,
    rates::{ROWS_LIMIT, Rates, Row, objection},
};
use super::{
    keys::{self, AnyKey},
    schedule::{ArrivalsName, ModeName, Span},
    settings::Settings,
};

impl Ramp {
    pub(super) fn read(settings: &Settings<'_>, span: Span) -> Self {
        let over = due_for(settings, span, ArrivalsName::Ramp);
        let ramp = Self { from: settings.get(keys::LOAD_RATE_FROM), to: settings.get(keys::LOAD_RATE_TO), over };
        if ramp.peak() == 0.0 {
            let problem = "is 0, as load.rate_from is, and nothing would start: raise one of the two";
            settings.conflict(keys::LOAD_RATE_TO, &[keys::LOAD_RATE_FROM], problem);
        }
        ramp
    }
}

impl Mmpp {
    pub(super) fn read(settings: &Settings<'_>) -> Self {
        let mmpp = Self {
            low: settings.get(keys::LOAD_RATE_LOW),
            high: settings.get(keys::LOAD_RATE_HIGH),
            dwell_low: settings.get(keys::LOAD_DWELL_LOW),
            dwell_high: settings.get(keys::LOAD_DWELL_HIGH),
        };
        if mmpp.low > mmpp.high {
            let problem = format!("is above load.rate_high, {}: exchange the two", mmpp.high);
            settings.conflict(keys::LOAD_RATE_LOW, &[keys::LOAD_RATE_HIGH], problem);
        }
        mmpp
    }
}

impl Rates {
    pub(super) fn read(settings: &Settings<'_>, span: Span) -> Self {
        let over = due_for(settings, span, ArrivalsName::Rates);
        let (rows, speed) = (settings.get(keys::LOAD_RATES), settings.get(keys::LOAD_RATES_SPEED));
        let rates = Self::new(&rows, speed, over);
        if rows.is_empty() {
            let problem =
                "is missing: name a CSV file of `time,rate` rows, or write rows, such as [[0, 100], [60, 200]]";
            settings.conflict(keys::LOAD_RATES, &[keys::LOAD_ARRIVALS], problem);
        } else if rates.peak() == 0.0 {
            let others: &[&dyn AnyKey] =
                &[keys::LOAD_RATES_SPEED, keys::LOAD_START, keys::LOAD_END, keys::LOAD_WARMUP, keys::LOAD_DURATION];
            let problem = "has no rate above 0 before the load ends: raise load.rates_speed, or lengthen the load";
            settings.conflict(keys::LOAD_RATES, others, problem);
        } else {
            let warmup = span.warmup.saturating_sub(settings.get(keys::LOAD_START));
            if warmup < over && rates.expected_by(warmup.as_secs_f64()) >= rates.expected_by(over.as_secs_f64()) {
                let problem =
                    "has no rate above 0 in the measured time: shorten load.warmup, or raise load.rates_speed";
                settings.conflict(keys::LOAD_RATES, &[keys::LOAD_RATES_SPEED, keys::LOAD_WARMUP], problem);
            }
        }
        rates
    }
}

/// How long starts are due, from the first to the end of the load, its warm-up included. Rejects a load whose length is not known.
fn due_for(settings: &Settings<'_>, span: Span, arrivals: ArrivalsName) -> Duration {
    // Where it is wrong, another problem says so.
    const ANY: Duration = Duration::from_secs(1);
    let Some(end) = settings.get(keys::LOAD_END).or(span.fixed()) else {
        let name: &str = arrivals.into();
        let (open, cause): (_, &dyn AnyKey) = if span.until_traces_end {
            ("the trace of another population leaves open: set load.duration", keys::LOAD_TRACE)
        } else {
            ("load.connections leaves open: set load.duration instead", keys::LOAD_CONNECTIONS)
        };
        let problem = format!("\"{name}\" is about rates over the load's time, which {open}");
        settings.conflict(keys::LOAD_ARRIVALS, &[cause], problem);
        return ANY;
    };
    let over = end.saturating_sub(settings.get(keys::LOAD_START));
    if over.is_zero() { ANY } else { over }
}

/// Rejects, for connections that are kept, what is about the starts of others.
pub(super) fn refuse_kept(settings: &Settings<'_>, arrivals: ArrivalsName) {
    let (name, kept): (&str, &str) = (arrivals.into(), ModeName::Kept.into());
    let problem = format!(
        "\"{name}\" is about when connections start, and those of load.mode = \"{kept}\" start once: use \"constant\", \"poisson\" or \
         \"burst\" for their requests, or load.mode = \"open\""
    );
    settings.conflict(keys::LOAD_ARRIVALS, &[keys::LOAD_MODE], problem);
}
