//! How long trials take: by their plan until a trial of the cell has ended, and then by what such trials took.

use std::time::Duration;

/// What a trial takes besides its plan, for set-up and counting, until the first has ended.
const OVERHEAD: Duration = Duration::from_millis(60);
/// The least part of a trial from which the rest of it is extrapolated.
const LEAST_PART: f64 = 0.05;

/// How far the running trial is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Progressed {
    /// Since it was begun.
    pub elapsed: Duration,
    /// Since its load began; `None` during set-up.
    pub loaded: Option<Duration>,
    /// The part of its load that is done, if that is counted in something other than time.
    pub part: Option<f64>,
}

/// Planned and true times of trials, by cell.
#[derive(Debug)]
pub(super) struct Forecast {
    cells: Vec<Times>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Times {
    /// What the plan fixes of each trial.
    planned: Option<Duration>,
    ended: u32,
    took: Duration,
}

impl Times {
    fn mean(&self) -> Option<Duration> {
        (self.ended > 0).then(|| self.took / self.ended)
    }
}

impl Forecast {
    /// `planned` is what each cell's plan fixes of a trial.
    pub(super) fn new(planned: impl IntoIterator<Item = Option<Duration>>) -> Self {
        Self { cells: planned.into_iter().map(|planned| Times { planned, ..Times::default() }).collect() }
    }

    /// Takes in the time of a trial that has ended.
    pub(super) fn ended(&mut self, cell: usize, took: Duration) {
        self.cells[cell].ended += 1;
        self.cells[cell].took += took;
    }

    /// The length of a cell's next trial; `None` while nothing is known of its like.
    pub(super) fn trial(&self, cell: usize) -> Option<Duration> {
        let known = self.cells[cell].mean();
        known.or_else(|| Some(self.cells[cell].planned? + self.overhead())).or_else(|| self.of_others())
    }

    /// What remains of a cell's running trial.
    pub(super) fn rest(&self, cell: usize, now: Progressed) -> Option<Duration> {
        let planned = self.cells[cell].planned;
        // However long the set-up takes, the load begins after it.
        let by_plan = planned.map(|planned| planned.saturating_sub(now.loaded.unwrap_or_default()));
        let by_part = now.part.filter(|part| *part >= LEAST_PART).zip(now.loaded);
        let by_part = by_part.map(|(part, loaded)| loaded.mul_f64((1.0 - part.min(1.0)) / part));
        let by_others = self.trial(cell).map(|whole| whole.saturating_sub(now.elapsed));
        match (by_plan, by_part) {
            (None, Some(rest)) => Some(rest),
            (plan, _) => by_others.max(plan),
        }
    }

    /// What trials take besides their plan.
    fn overhead(&self) -> Duration {
        let (mut count, mut sum) = (0, Duration::ZERO);
        for times in &self.cells {
            if let Some(planned) = times.planned {
                count += times.ended;
                sum += times.took.saturating_sub(planned * times.ended);
            }
        }
        if count == 0 { OVERHEAD } else { sum / count }
    }

    /// The mean of all trials without a plan that have ended.
    fn of_others(&self) -> Option<Duration> {
        let others = self.cells.iter().filter(|times| times.planned.is_none());
        let (count, sum) = others.fold((0, Duration::ZERO), |(count, sum), one| (count + one.ended, sum + one.took));
        (count > 0).then(|| sum / count)
    }
}

/// The length of a trial of which the plan fixes so much.
pub fn whole(planned: Duration) -> Duration {
    planned + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_plan_holds_until_a_trial_of_the_cell_has_ended() {
        let mut forecast = Forecast::new([Some(ms(1_000)), Some(ms(60_000)), None, None]);
        assert_eq!((forecast.trial(0), forecast.trial(2)), (Some(ms(1_000) + OVERHEAD), None));
        forecast.ended(0, ms(1_500));
        forecast.ended(0, ms(1_700));
        // The others' overhead is what this one's was.
        assert_eq!((forecast.trial(0), forecast.trial(1)), (Some(ms(1_600)), Some(ms(60_600))));
        forecast.ended(2, ms(300));
        assert_eq!((forecast.trial(2), forecast.trial(3)), (Some(ms(300)), Some(ms(300))));
    }

    #[test]
    fn a_long_set_up_delays_the_load() {
        let forecast = Forecast::new([Some(ms(1_000))]);
        let rest = |elapsed, loaded| forecast.rest(0, Progressed { elapsed, loaded, part: None }).unwrap();
        assert_eq!(rest(ms(0), None), ms(1_000) + OVERHEAD);
        assert_eq!(rest(ms(5_000), None), ms(1_000));
        assert_eq!(rest(ms(5_400), Some(ms(400))), ms(600));
        assert_eq!(rest(ms(9_000), Some(ms(4_000))), ms(0));
    }

    #[test]
    fn a_count_is_extrapolated() {
        let mut forecast = Forecast::new([None]);
        let rest = |forecast: &Forecast, part| {
            forecast.rest(0, Progressed { elapsed: ms(1_200), loaded: Some(ms(1_000)), part })
        };
        assert_eq!(rest(&forecast, Some(0.01)), None);
        assert_eq!(rest(&forecast, Some(0.25)), Some(ms(3_000)));
        assert_eq!(rest(&forecast, Some(1.0)), Some(ms(0)));
        forecast.ended(0, ms(2_000));
        assert_eq!(rest(&forecast, None), Some(ms(800)));
        assert_eq!(rest(&forecast, Some(0.01)), Some(ms(800)));
    }
}
