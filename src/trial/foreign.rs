//! Notices processes outside of the trial that share the server's address and port: the kernel gives them a part of the load.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use anyhow::Result;

use crate::{
    observe::{datagrams::GroupReader, holder},
    record::ForeignMember,
};

/// Watches for sockets on the server's address and port, in a network that others share, that are not the subject's.
pub(super) struct ForeignWatch {
    /// Reads the datagram sockets; `None` if the server has none.
    datagrams: Option<GroupReader>,
    /// By inode: who held the socket when it was first seen.
    found: BTreeMap<u32, Option<holder::Process>>,
    /// Sockets that processes of the subject have opened since the trial began.
    added: BTreeSet<u32>,
}

impl ForeignWatch {
    pub fn new(datagrams: Option<GroupReader>) -> Self {
        Self { datagrams, found: BTreeMap::new(), added: BTreeSet::new() }
    }

    /// Looks for datagram sockets besides the subject's own.
    pub fn look_at_datagrams(
        &mut self,
        own: impl FnOnce() -> BTreeSet<u32>,
        processes: impl FnOnce() -> Vec<i32>,
    ) -> Result<()> {
        let Some(reader) = &mut self.datagrams else { return Ok(()) };
        let members = reader.read()?;
        self.look(&members, own, processes);
        Ok(())
    }

    /// Finds out who holds sockets that are neither the subject's own nor known: at once, as the process may soon be gone. A server may
    /// open more while the trial runs, so those of its `processes` are its own too.
    pub fn look(&mut self, members: &[u32], own: impl FnOnce() -> BTreeSet<u32>, processes: impl FnOnce() -> Vec<i32>) {
        let own = own();
        let unknown =
            |inode: &&u32| !own.contains(inode) && !self.found.contains_key(inode) && !self.added.contains(inode);
        let fresh: HashSet<u64> = members.iter().filter(unknown).map(|inode| u64::from(*inode)).collect();
        if fresh.is_empty() {
            return;
        }
        let (mut holders, processes) = (holder::of_sockets(&fresh), processes());
        for inode in fresh {
            let held = holders.remove(&inode).unwrap_or_default();
            if held.iter().any(|holder| processes.contains(&holder.pid)) {
                self.added.insert(inode as u32);
            } else {
                self.found.insert(inode as u32, held.into_iter().next());
            }
        }
    }

    /// The processes found, each once. What they accepted is not known yet.
    pub fn members(self) -> Vec<ForeignMember> {
        let processes: BTreeSet<Option<holder::Process>> = self.found.into_values().collect();
        let member = |process: Option<holder::Process>| {
            let (pid, name) = process.map(|process| (process.pid, process.name)).unzip();
            ForeignMember { pid, name, accepted: None }
        };
        processes.into_iter().map(member).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsFd};

    use nix::sys::stat::fstat;

    use super::*;

    #[test]
    fn a_socket_that_is_not_the_subjects_has_a_name() {
        let inode = |listener: &TcpListener| fstat(listener.as_fd()).unwrap().st_ino as u32;
        let listeners = [0, 1, 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [own, foreign, another] = listeners.each_ref().map(inode);
        let mut watch = ForeignWatch::new(None);
        let mut look = |members: &[u32]| watch.look(members, || [own].into(), Vec::new);
        look(&[own]);
        look(&[own, foreign]);
        look(&[own, foreign, another]);
        // Gone before anybody could look.
        look(&[1]);
        let members = watch.members();
        let nobody = ForeignMember::default();
        let [hidden, this] = &members[..] else { panic!("{members:?}") };
        assert_eq!((hidden, this.pid), (&nobody, i32::try_from(std::process::id()).ok()));
        assert!(this.name.is_some());
    }

    #[test]
    fn a_socket_that_the_subject_opens_later_is_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = fstat(listener.as_fd()).unwrap().st_ino as u32;
        let this = i32::try_from(std::process::id()).unwrap();
        let mut watch = ForeignWatch::new(None);
        watch.look(&[inode], BTreeSet::new, || vec![this]);
        // It is not looked up again.
        watch.look(&[inode], BTreeSet::new, || panic!("its holder is known"));
        assert_eq!(watch.members(), []);
    }
}
