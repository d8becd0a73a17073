//! The different set-ups of a plan's cells, each tried once.

use anyhow::Result;

use crate::{
    context::Role,
    ipc::family::Patience,
    observe::host::NetworkFacts,
    scenario::{Cell, Scenario, Server, UnderTest},
    trial::{self, Rehearsal},
};

/// The most set-ups tried before a run: most take a millisecond, those with a network of their own tens.
pub(super) const MOST: usize = 100;

/// The networks that cells need, and in each the cells that differ in what is tried there.
#[derive(Debug, Default)]
pub(super) struct SetUps<'a> {
    networks: Vec<Vec<&'a Cell>>,
}

/// A set-up: its network, and its number among those tried there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(usize, usize);

impl<'a> SetUps<'a> {
    /// The set-up that this cell needs, and whether no cell before needed it; `None` beyond [`MOST`].
    pub fn of(&mut self, cell: &'a Cell) -> Option<(Place, bool)> {
        let network = self.networks.iter().position(|cells| share_network(&cells[0].scenario, &cell.scenario));
        let network = network.unwrap_or(self.networks.len());
        let among = self.networks.get(network).map_or(&[][..], Vec::as_slice);
        if let Some(known) = among.iter().position(|known| ask_the_same(&known.scenario, &cell.scenario)) {
            return Some((Place(network, known), false));
        }
        if self.count() == MOST {
            return None;
        }
        let place = Place(network, among.len());
        if network == self.networks.len() {
            self.networks.push(Vec::new());
        }
        self.networks[network].push(cell);
        Some((place, true))
    }

    fn count(&self) -> usize {
        self.networks.iter().map(Vec::len).sum()
    }

    /// Tries all of them.
    pub fn rehearse(self, role: Role<'_>, patience: Patience<'_>) -> Result<Tried<'a>> {
        let mut tried = Tried { outcomes: Vec::new(), facts: None };
        for cells in &self.networks {
            let (facts, outcomes) = trial::rehearse_all(cells, role, patience)?;
            tried.facts.get_or_insert(facts);
            tried.outcomes.push(cells.iter().copied().zip(outcomes).collect());
        }
        Ok(tried)
    }
}

/// What came of the set-ups.
#[derive(Debug)]
pub(super) struct Tried<'a> {
    /// By network; a network's end with the first that was refused.
    outcomes: Vec<Vec<(&'a Cell, Rehearsal)>>,
    /// The facts of the first network.
    pub facts: Option<NetworkFacts>,
}

impl<'a> Tried<'a> {
    /// Every outcome, with the first cell that has the set-up.
    pub fn all(&self) -> impl Iterator<Item = &(&'a Cell, Rehearsal)> {
        self.outcomes.iter().flatten()
    }

    /// That of a set-up, if it was tried.
    pub fn get(&self, Place(network, among): Place) -> Option<&Rehearsal> {
        self.outcomes[network].get(among).map(|(_, outcome)| outcome)
    }
}

/// Whether the trials of both may be rehearsed in one network: all that outlasts an attempt is alike, or overwritten by the next.
fn share_network(one: &Scenario, other: &Scenario) -> bool {
    one.network == other.network
        && one.protocol == other.protocol
        && (one.address, &one.unix) == (other.address, &other.unix)
        && one.destinations() == other.destinations()
        && one.sources().addresses == other.sources().addresses
        && (&one.firewall, one.nat) == (&other.firewall, other.nat)
        && overwrites(&one.sysctls, &other.sysctls)
}

/// Whether one sysctl after the other leaves a network as the latter alone would. Of several, what the kernel takes for one can
/// depend on the others' values so far: `ip_local_port_range` may not begin below `ip_unprivileged_port_start`.
fn overwrites(former: &[(String, String)], latter: &[(String, String)]) -> bool {
    match (former, latter) {
        ([(former, _)], [(latter, _)]) => former == latter,
        _ => former == latter,
    }
}

/// Whether the trials of both ask the same of a network that they share.
fn ask_the_same(one: &Scenario, other: &Scenario) -> bool {
    one.sysctls == other.sysctls && one.server == other.server && ours(one) == ours(other)
}

/// The server of ours that a trial starts.
fn ours(scenario: &Scenario) -> Option<&Server> {
    match &scenario.subject {
        UnderTest::Own => Some(&scenario.server),
        UnderTest::Command(command) => command.backend.as_deref(),
        UnderTest::Running => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Plan, Source};

    /// How many networks the cells of a scenario need, how many set-ups in all, and how many cells have none.
    fn counts(text: &str) -> (usize, usize, usize) {
        let text = format!("name = \"x\"\n{text}\n[load]\nduration = \"1s\"\n");
        let plan = Plan::read(&Source { name: "test.toml", text: &text }, &[]).unwrap();
        let mut set_ups = SetUps::default();
        let untried = plan.cells.iter().filter(|cell| set_ups.of(cell).is_none()).count();
        (set_ups.networks.len(), set_ups.count(), untried)
    }

    #[test]
    fn set_ups_share_a_network_that_each_leaves_to_the_next() {
        assert_eq!(counts(""), (1, 1, 0));
        assert_eq!(counts("[matrix]\nload.concurrency = [1, 2, 3]"), (1, 1, 0));
        assert_eq!(counts("[matrix]\nserver.backlog = [1, 2, 3]\nload.concurrency = [1, 2]"), (1, 3, 0));
        assert_eq!(counts("[matrix]\nserver.strategy = [\"reuseport\", \"shared-epoll\"]"), (1, 2, 0));
        assert_eq!(counts("[matrix]\nnetwork = [\"netns\", \"veth\"]\nserver.backlog = [1, 2]"), (2, 4, 0));
        assert_eq!(counts("[matrix]\naddress = [\"127.0.0.1\", \"127.0.0.2\"]"), (2, 2, 0));
    }

    #[test]
    fn only_a_single_sysctl_is_overwritten() {
        let one = "[matrix]\nsysctl.somaxconn = [1, 2, 3]";
        assert_eq!(counts(one), (1, 3, 0));
        assert_eq!(counts(&format!("sysctl.tcp_tw_reuse = 0\n{one}")), (3, 3, 0));
        assert_eq!(counts("[matrix]\nserver.backlog = [1, 2]\nsysctl.somaxconn = [3, 4]"), (1, 4, 0));
    }

    #[test]
    fn no_more_are_tried_than_the_most() {
        let backlogs: Vec<String> = (1..=MOST + 2).map(|backlog| backlog.to_string()).collect();
        let text = format!("[matrix]\nserver.backlog = [{}]\nload.concurrency = [1, 2]", backlogs.join(","));
        assert_eq!(counts(&text), (1, MOST, 4));
    }
}
