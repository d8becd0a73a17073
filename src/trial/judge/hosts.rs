//! Whether all hosts stayed until the end.

use crate::record::{Grounds, HostRow};

/// The hosts that were lost.
pub(super) fn lost(hosts: &[HostRow]) -> impl Iterator<Item = Grounds> {
    hosts.iter().filter_map(|HostRow { rank, name, exit, lost_after_s, .. }| {
        Some(Grounds::HostDied { rank: *rank, name: name.clone(), how: exit.clone(), after_s: (*lost_after_s)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Exit;

    #[test]
    fn a_host_that_was_lost_is_named() {
        let row = |rank, lost_after_s, exit| HostRow {
            rank,
            name: format!("client{rank}"),
            lost_after_s,
            exit,
            ..HostRow::default()
        };
        let gone = Exit::Other("its connection ended".to_owned());
        let hosts = [row(0, None, Exit::Ok), row(1, None, Exit::Status(1)), row(2, Some(1.25), gone)];
        let verdicts: Vec<String> = lost(&hosts).map(|grounds| grounds.to_string()).collect();
        assert_eq!(verdicts, ["client2 (rank 2) left the trial after 1.2 s: its connection ended"]);
    }
}
