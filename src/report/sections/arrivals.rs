//! When connections and requests come, as far as a rate or a mean alone does not say it.

use super::{
    conditions::of_loads,
    effective::{Effective, OfTrial},
    in_cells::lines,
};
use crate::{
    format::{exact, rate},
    scenario::{Arrivals, Asking, Distribution, Load, Mode, Times},
    stats::Record,
};

/// `arrivals: mmpp, 100/s for 90 ms and 3,100/s for 10 ms on average; 400/s expected`, unless that is swept.
pub(super) fn conditions(record: &Record, effective: &Effective) -> Vec<String> {
    lines(record, |trial| {
        let of = effective.of_trial(trial)?;
        let what = of_loads(&of.scenario().loads, |load| what(&of, load));
        (!what.is_empty()).then(|| ("arrivals".to_owned(), what))
    })
}

fn what(of: &OfTrial<'_>, load: &Load) -> Option<String> {
    let unswept = |names: &[&str], what: String| (!names.iter().any(|name| of.sweeps(name))).then_some(what);
    match &load.mode {
        Mode::Open { arrivals, .. } => {
            let mean = rate(arrivals.per_second());
            match arrivals {
                Arrivals::Ramp(ramp) => {
                    let what = format!("ramp, from {}/s to {}/s over the load's time", rate(ramp.from), rate(ramp.to));
                    unswept(&["rate_from", "rate_to"], what)
                }
                Arrivals::Mmpp(mmpp) => {
                    let state = |per_second, dwell| format!("{}/s for {}", rate(per_second), exact(dwell));
                    let states = [state(mmpp.low, mmpp.dwell_low), state(mmpp.high, mmpp.dwell_high)].join(" and ");
                    let what = format!("mmpp, {states} on average; {mean}/s expected");
                    unswept(&["rate_low", "rate_high", "dwell_low", "dwell_high"], what)
                }
                Arrivals::Rates(rates) => {
                    let what = format!(
                        "rates of a table, up to {}/s; {mean}/s expected, warm-up included",
                        rate(rates.peak())
                    );
                    unswept(&["rates_speed"], what)
                }
                Arrivals::Constant { .. } | Arrivals::Poisson { .. } | Arrivals::Burst { .. } | Arrivals::Trace(_) => {
                    None
                }
            }
        }
        Mode::Kept { asking, lifetime, .. } => {
            let thinking = match asking {
                Asking::Thinking(times) => unswept(
                    &["think_time", "think_distribution", "think_shape"],
                    format!("clients think for {}", in_words(*times)),
                ),
                Asking::Scheduled { .. } => None,
            };
            let living = lifetime.and_then(|times| {
                let names = ["lifetime", "lifetime_distribution", "lifetime_shape"];
                unswept(&names, format!("connections live for {}", in_words(times)))
            });
            let parts: Vec<String> = [thinking, living].into_iter().flatten().collect();
            (!parts.is_empty()).then(|| parts.join(", "))
        }
        Mode::Closed { .. } => None,
    }
}

/// `100 ms (fixed)`, `2 s on average (lognormal, shape 1.5)`.
fn in_words(times: Times) -> String {
    let how = match times.distribution {
        Distribution::Fixed => return format!("{} (fixed)", exact(times.mean)),
        Distribution::Exponential => "exponential".to_owned(),
        Distribution::Lognormal { sigma } => format!("lognormal, shape {sigma}"),
        Distribution::Pareto { alpha } => format!("pareto, shape {alpha}"),
    };
    format!("{} on average ({how})", exact(times.mean))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Plan, Source};

    #[test]
    fn rates_that_change_and_times_that_differ_are_named() {
        let kept = "mode = \"kept\"\nthink_time = \"2s\"\nthink_distribution = \"lognormal\"\nlifetime = \"100ms\"\n\
                    lifetime_distribution = \"fixed\"";
        let open = "mode = \"open\"\narrivals = ";
        for (load, expected) in [
            (format!("{open}\"poisson\""), None),
            (format!("{open}\"ramp\"\nrate_to = 2500"), Some("ramp, from 0/s to 2,500/s over the load's time")),
            (
                format!(
                    "{open}\"mmpp\"\nrate_low = 100\nrate_high = 3100\ndwell_low = \"90ms\"\ndwell_high = \"10ms\""
                ),
                Some("mmpp, 100/s for 90ms and 3,100/s for 10ms on average; 400/s expected"),
            ),
            (
                format!("{open}\"rates\"\nrates = [[0, 100], [0.5, 300]]"),
                Some("rates of a table, up to 300/s; 200/s expected, warm-up included"),
            ),
            (format!("{open}\"ramp\"\n[matrix]\nload.rate_to = [1, 2]"), None),
            (
                kept.to_owned(),
                Some("clients think for 2s on average (lognormal, shape 1.5), connections live for 100ms (fixed)"),
            ),
        ] {
            let text = format!("[load]\n{load}");
            let plan = Plan::read(&Source { name: "t", text: &text }, &[]).unwrap();
            let of = OfTrial::of(&plan.cells[0]);
            assert_eq!(what(&of, &of.scenario().loads[0]).as_deref(), expected, "{load}");
        }
    }
}
