//! What a scenario fixes of its trials' length.

use std::time::Duration;

use super::{
    load::CloseHow,
    model::{Network, Scenario},
    schedule::Bound,
};

/// How long TIME_WAIT keeps a port (TCP_TIMEWAIT_LEN).
const TIME_WAIT: Duration = Duration::from_secs(60);
/// The same where `tcp_tw_reuse` lets a client take it again.
const REUSE: Duration = Duration::from_secs(1);

impl Scenario {
    /// About how long a trial takes besides its set-up and counting, if that can be known before.
    pub fn expected_length(&self) -> Option<Duration> {
        if self.fill.is_some() {
            return self.recovery();
        }
        self.length().or_else(|| self.length_by_rate())
    }

    /// Until so many connections have been started at a load's rate.
    fn length_by_rate(&self) -> Option<Duration> {
        let (Bound::Connections(count), Some(load)) = (self.span.bound, self.only_load()) else { return None };
        let length = count as f64 / load.mode.starts_per_second()?;
        Some(self.span.warmup + Duration::try_from_secs_f64(length).ok()? + load.hold)
    }

    /// Until ports that were filled are free again; `None` without recovery.
    fn recovery(&self) -> Option<Duration> {
        let fill = self.fill.as_ref().filter(|fill| fill.recover_permille.is_some())?;
        let on_loopback = match self.network {
            Network::Namespace => true,
            Network::Veth => false,
            Network::Host => fill.destinations.iter().all(|one| one.ip().to_canonical().is_loopback()),
        };
        // The kernel's default, 2, reuses on loopback only.
        let reuse = self.sysctls.iter().find(|(name, _)| name == "tcp_tw_reuse").map_or("2", |(_, value)| value.trim());
        let rests = match (self.loads[0].close_how, reuse) {
            (CloseHow::Rst, _) => Duration::ZERO,
            (CloseHow::Fin, "1") => REUSE,
            (CloseHow::Fin, "2") if on_loopback => REUSE,
            (CloseHow::Fin, _) => TIME_WAIT,
        };
        Some(rests.min(fill.recover_within))
    }
}

#[cfg(test)]
mod tests {

    use crate::scenario::{Plan, Source};

    fn lengths(text: &str) -> Vec<Option<u64>> {
        let plan = Plan::read(&Source { name: "test.toml", text }, &[]).unwrap();
        let lengths = plan.cells.iter().map(|cell| cell.scenario.expected_length());
        lengths.map(|length| length.map(|length| length.as_millis() as u64)).collect()
    }

    #[test]
    fn rates_counts_and_holds_make_a_length() {
        let open = "[load]\nmode = \"open\"\narrivals = \"constant\"\n";
        assert_eq!(lengths(&format!("{open}rate = 50.0\nconnections = 100\nhold = \"3s\"")), [Some(5_000)]);
        assert_eq!(lengths(&format!("{open}rate = 50.0\nwarmup = \"1s\"\nduration = \"2s\"")), [Some(3_000)]);
        assert_eq!(lengths("load.connections = 5"), [None]);
    }

    #[test]
    fn ports_recover_after_time_wait() {
        let recovers = "kind = \"ports\"\nports.recover = 0.5\n";
        let reuse = "matrix.sysctl.tcp_tw_reuse = [0, 1, 2]\n";
        assert_eq!(lengths(&format!("{recovers}{reuse}")), [Some(60_000), Some(1_000), Some(1_000)]);
        let veth = format!("network = \"veth\"\naddress = \"198.18.0.1\"\n{recovers}{reuse}");
        assert_eq!(lengths(&veth), [Some(60_000), Some(1_000), Some(60_000)]);
        assert_eq!(lengths(&format!("{recovers}load.close_how = \"rst\"")), [Some(0)]);
        assert_eq!(
            lengths(&format!("{recovers}ports.recover_within = \"7s\"\nsysctl.tcp_tw_reuse = 0")),
            [Some(7_000)]
        );
        assert_eq!(lengths("kind = \"ports\""), [None]);
    }
}
