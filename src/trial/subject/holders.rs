//! The processes that hold the listeners of a server that is not listenbench's own.
//!
//! To read all descriptors of a process takes long, of all processes even longer, and in a group of n sockets each of n processes may have
//! all of them. So the server's own processes come first, if it is known which those are, and what a process held when it was last looked at,
//! or may have inherited, it is only asked about.

use std::{
    collections::{BTreeMap, HashSet},
    rc::Rc,
};

use crate::{
    observe::{
        holder,
        processes::{self, Task},
    },
    sys::process,
};

/// A process that holds listeners.
pub(super) struct Holder {
    pub comm: String,
    pub parent: i32,
    /// The same for all processes that hold the same.
    pub held: Rc<Held>,
}

/// Listeners that a process holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Ascending.
    pub inodes: Vec<u32>,
    /// A descriptor of each.
    descriptors: Vec<i32>,
}

/// All processes that hold listeners, by id.
#[derive(Default)]
pub(super) struct Holders {
    listeners: HashSet<u64>,
    of: BTreeMap<i32, Holder>,
}

impl Holders {
    /// Looks which processes hold these listeners: those that are `known` to be the server's and, unless they hold them all, all others but
    /// its `clients`.
    pub fn find(&mut self, listeners: HashSet<u64>, known: &[i32], clients: &[i32]) {
        let mut before = std::mem::take(&mut self.of);
        if self.listeners != listeners {
            before.clear();
            self.listeners = listeners;
        }
        self.look_at(known.iter().copied(), &before);
        if !self.have_all() {
            let looked_at: HashSet<i32> = known.iter().chain(clients).copied().collect();
            self.look_at(processes::all().into_iter().filter(|pid| !looked_at.contains(pid)), &before);
        }
        if !self.have_all() {
            // Some may have more than what they were asked about.
            let pids: Vec<i32> = self.of.keys().copied().collect();
            self.of.clear();
            pids.into_iter().for_each(|pid| self.add(pid, |holders, _| holders.listed(pid)));
        }
    }

    /// Parents come before their children.
    fn look_at(&mut self, pids: impl Iterator<Item = i32>, before: &BTreeMap<i32, Holder>) {
        for pid in pids {
            self.add(pid, |holders, parent| {
                let known = holders.kept(pid, before).or_else(|| holders.inherited(pid, parent));
                known.unwrap_or_else(|| holders.listed(pid))
            });
        }
    }

    fn add(&mut self, pid: i32, held: impl FnOnce(&Self, i32) -> Rc<Held>) {
        let Some(Task { comm, parent, .. }) = Task::read(pid, pid) else { return };
        let held = held(self, parent);
        if !held.inodes.is_empty() {
            self.of.insert(pid, Holder { comm, parent, held });
        }
    }

    /// What a process held before, if it still does: it is asked for the first and the last, as one that has let go of what it inherited
    /// keeps one, as a rule.
    fn kept(&self, pid: i32, before: &BTreeMap<i32, Holder>) -> Option<Rc<Held>> {
        let held = &before.get(&pid)?.held;
        let has = |place: usize| holder::has(pid, (u64::from(held.inodes[place]), held.descriptors[place]));
        let last = held.inodes.len().checked_sub(1)?;
        (has(0) && has(last)).then(|| Rc::clone(held))
    }

    /// What the parent of a process holds, if it has all of that too.
    fn inherited(&self, pid: i32, parent: i32) -> Option<Rc<Held>> {
        let held = &self.of.get(&parent)?.held;
        let has = |descriptor: &i32| process::share_file(parent, pid, *descriptor) == Some(true);
        held.descriptors.iter().all(has).then(|| Rc::clone(held))
    }

    /// What a process holds, by all its descriptors.
    fn listed(&self, pid: i32) -> Rc<Held> {
        let listed = holder::held_by(pid, &self.listeners);
        let (inodes, descriptors) = listed.into_iter().map(|(inode, descriptor)| (inode as u32, descriptor)).unzip();
        let held = Held { inodes, descriptors };
        let same = self.of.values().find(|other| *other.held == held);
        same.map_or_else(|| Rc::new(held), |other| Rc::clone(&other.held))
    }

    /// Whether each listener is held by somebody.
    fn have_all(&self) -> bool {
        let mut lists: Vec<&Rc<Held>> = self.of.values().map(|holder| &holder.held).collect();
        lists.dedup_by(|one, other| Rc::ptr_eq(one, other));
        let held: HashSet<u32> = lists.iter().flat_map(|held| &held.inodes).copied().collect();
        held.len() == self.listeners.len()
    }

    pub fn get(&self, pid: i32) -> Option<&Holder> {
        self.of.get(&pid)
    }

    /// By process id.
    pub fn iter(&self) -> impl Iterator<Item = (i32, &Holder)> {
        self.of.iter().map(|(pid, holder)| (*pid, holder))
    }

    pub fn pids(&self) -> Vec<i32> {
        self.of.keys().copied().collect()
    }

    /// Holders that have started others.
    pub fn parents(&self) -> HashSet<i32> {
        self.of.values().map(|holder| holder.parent).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::TcpListener,
        os::fd::AsFd,
        process::{Command, Stdio},
    };

    use nix::{
        fcntl::{FcntlArg, FdFlag, fcntl},
        sys::stat::fstat,
    };

    use super::*;

    fn inode(listener: &TcpListener) -> u64 {
        fstat(listener.as_fd()).unwrap().st_ino
    }

    #[test]
    fn who_inherits_listeners_holds_them_and_who_does_not_is_no_holder() {
        let [inherited, own] = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        fcntl(&inherited, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        // The shell has inherited one of them, and so has its child.
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 100 & echo $!; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 16];
        let length = shell.stdout.as_mut().unwrap().read(&mut line).unwrap();
        let sleep: i32 = std::str::from_utf8(&line[..length]).unwrap().trim().parse().unwrap();
        let (this, shell_pid) = (std::process::id() as i32, shell.id() as i32);
        let listeners: HashSet<u64> = [inode(&inherited), inode(&own)].into();
        let mut holders = Holders::default();
        // Again, all of them are only asked.
        for _ in 0..2 {
            holders.find(listeners.clone(), &[this, shell_pid, sleep], &[]);
            let held: Vec<(i32, usize)> = holders.iter().map(|(pid, holder)| (pid, holder.held.inodes.len())).collect();
            let mut expected = [(this, 2), (shell_pid, 1), (sleep, 1)];
            expected.sort_unstable();
            assert_eq!(held, expected);
            assert!(holders.parents().contains(&this) && holders.parents().contains(&shell_pid));
            let [shell, sleep] = [shell_pid, sleep].map(|pid| Rc::as_ptr(&holders.get(pid).unwrap().held));
            assert_eq!(shell, sleep);
        }
        // Nobody known has it: all are looked at.
        holders.find([inode(&own)].into(), &[shell_pid], &[]);
        assert_eq!(holders.pids(), [this]);
        holders.find([inode(&own)].into(), &[shell_pid], &[this]);
        assert_eq!(holders.pids(), [0; 0]);
        // Who lets go of one is not taken for holding both still.
        holders.find(listeners.clone(), &[this], &[]);
        drop(inherited);
        holders.find(listeners, &[this], &[]);
        assert_eq!(holders.get(this).unwrap().held.inodes, [inode(&own) as u32]);
        process::send_signal(nix::unistd::Pid::from_raw(sleep), nix::sys::signal::Signal::SIGKILL);
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }
}
