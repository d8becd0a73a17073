//! The hosts of a job: a launcher (Open MPI's mpirun, `srun --mpi=pmix`, prterun) starts one coordinator on each, and rank 0 leads.
//!
//! PMIx introduces them and then leaves: it carries one short text, rank 0's [`Card`], and a short-lived child has all of its state and
//! threads. Everything else travels over one TCP connection per host, made once: [`Link`].
//!
//! ```text
//! meet ─┬─ rank 0:  Team  { guests: rank, facts, link }
//!       └─ others:  Agent { rank, link }
//! ```
//!
//! The token on the card keeps out whoever does not belong to the job. It travels in clear text, as everything does: whoever can read the
//! network of a benchmark can disturb it in simpler ways.
//!
//! A process forked by a coordinator uses its parent's links while the parent waits. If it dies within a message, rank 0 calls
//! [`Team::reconnect`]; the other hosts see the end of their link, and call [`Agent::reconnect`].

mod card;
pub mod clock;
mod door;
pub mod frame;
pub mod hello;
pub mod inbox;
mod launcher;
mod link;

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

pub use self::{
    card::Card,
    door::Door,
    frame::Frame,
    hello::Hello,
    inbox::Broken,
    launcher::{Launched, launched},
    link::Link,
};
use self::{card::Failed, hello::VERSION};
use crate::{
    ipc::family::{self, Cut, Patience},
    json,
    record::HostFacts,
    sys::pmix,
};

/// Between two attempts to reach rank 0 again.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one of them may take.
const ATTEMPT: Duration = Duration::from_secs(2);

/// This process's place in the job.
#[derive(Debug)]
pub enum Place {
    /// Rank 0, which leads.
    First(Team),
    /// Any other.
    Other(Agent),
}

/// Rank 0's view of the job.
#[derive(Debug)]
pub struct Team {
    /// What started the job, such as `Slurm`.
    pub launcher: &'static str,
    /// All other hosts, by rank.
    pub guests: Vec<Guest>,
    door: Door,
}

/// A host that has connected.
#[derive(Debug)]
pub struct Guest {
    pub rank: usize,
    /// What it says of itself.
    pub facts: HostFacts,
    pub link: Link,
}

/// A host's view of the job, other than rank 0.
#[derive(Debug)]
pub struct Agent {
    pub rank: usize,
    /// To rank 0.
    pub link: Link,
    hello: Hello,
}

/// What the child that speaks PMIx returns.
#[derive(Serialize, Deserialize)]
struct Introduced {
    rank: usize,
    size: usize,
    card: String,
}

/// Meets the other hosts of the job, if a launcher started this process in one: `facts` are those of this host, of which it has this rank.
/// `None` without a launcher, and in a job of one.
pub fn meet(patience: Patience<'_>, facts: impl FnOnce(usize) -> HostFacts) -> Result<Option<Place>> {
    let Some(Launched { launcher, rank, .. }) = launched()? else { return Ok(None) };
    let door = if rank == 0 { Some(Door::open(card::token()?)?) } else { None };
    let card = door.as_ref().map_or_else(|| Ok(String::new()), |door| json::line(door.card()))?;
    let ours = rank;
    let Introduced { rank, size, card } = family::ask("lb:pmix", patience, || {
        let pmix::Introduced { rank, size, card } = pmix::introduce(&card)?;
        Ok(Introduced { rank: rank as usize, size: size as usize, card })
    })
    .with_context(|| {
        format!(
            "meeting the other hosts of the job that {launcher} started, which need listenbench to start on each of them (see what else the \
             launcher printed)"
        )
    })?;
    if rank != ours {
        bail!("the environment says that this is rank {ours} of the job, and PMIx says {rank}: set no PMIX_RANK");
    }
    if size <= 1 {
        return Ok(None);
    }
    Ok(Some(match door {
        Some(door) => {
            let guests = door.admit(&(1..size).collect::<Vec<_>>(), patience)?;
            Place::First(Team { launcher, guests, door })
        }
        None => {
            let card: Card = json::read(card.as_bytes()).context("reading where rank 0 can be reached")?;
            let facts = serde_json::to_value(facts(rank))?;
            let hello = Hello { token: card.token.clone(), rank, version: VERSION.to_owned(), facts };
            let link = card.connect(&hello, patience)?;
            Place::Other(Agent { rank, link, hello })
        }
    }))
}

impl Team {
    /// Gives up all links and waits for the same hosts to connect again: whoever used the links last may have left half a message. If
    /// it fails, those that did connect remain.
    pub fn reconnect(&mut self, patience: Patience<'_>) -> Result<()> {
        let known: Vec<(usize, String)> =
            self.guests.drain(..).map(|Guest { rank, facts, .. }| (rank, facts.name)).collect();
        let ranks: Vec<usize> = known.iter().map(|(rank, _)| *rank).collect();
        let admitted = self.door.admit_to(&mut self.guests, &ranks, patience);
        admitted.map_err(|error| match error.downcast_ref::<Cut>() {
            None => error,
            Some(cut) => {
                let is_there = |rank| self.guests.iter().any(|guest| guest.rank == rank);
                let missing = known.iter().filter(|(rank, _)| !is_there(*rank));
                let missing: Vec<String> = missing.map(|(rank, name)| format!("{name} (rank {rank})")).collect();
                let words = "did not connect again: listenbench hangs or has ended there, or the network is cut";
                anyhow!(*cut).context(format!("{} {words}", missing.join(", ")))
            }
        })
    }
}

impl Agent {
    /// Connects to rank 0 again, after the link has ended without a word. Fails at once if rank 0 no longer listens.
    pub fn reconnect(&mut self, patience: Patience<'_>) -> Result<()> {
        self.link = reach(self.link.peer(), &self.hello, patience)?;
        Ok(())
    }

    /// Leads other hosts of the job for a while: opens a door with the job's token, has `invite` tell rank 0 of it, and lets in these ranks.
    pub fn lead(
        &mut self,
        ranks: &[usize],
        patience: Patience<'_>,
        invite: impl FnOnce(&mut Link, Card) -> Result<()>,
    ) -> Result<Team> {
        let door = Door::open(self.hello.token.clone())?;
        invite(&mut self.link, door.card().clone())?;
        let launcher = launched()?.map_or("a launcher", |launched| launched.launcher);
        Ok(Team { launcher, guests: door.admit(ranks, patience)?, door })
    }

    /// This host's view of the job while another one leads it, which has sent its card.
    pub fn visit(&self, card: &Card, patience: Patience<'_>) -> Result<Self> {
        let (rank, hello) = (self.rank, self.hello.clone());
        Ok(Self { rank, link: card.connect(&hello, patience)?, hello })
    }
}

/// Connects to where rank 0 was reached before.
fn reach(address: SocketAddr, hello: &Hello, patience: Patience<'_>) -> Result<Link> {
    let wait = patience.begin();
    loop {
        match card::attempt(address, ATTEMPT.min(wait.left()), hello) {
            Ok(link) => return Ok(link),
            Err(Failed::Refused(reason)) => bail!("rank 0 at {address} refused this host: {reason}"),
            Err(Failed::Elsewhere(error)) if is_refused(&error) => bail!("rank 0 at {address} is gone"),
            Err(Failed::Elsewhere(error)) => {
                wait.check().with_context(|| format!("connecting again to rank 0 at {address}: {error}"))?;
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Whether nobody listens there.
fn is_refused(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::atomic::{AtomicBool, Ordering::Relaxed},
    };

    use super::{link::tests::SOON, *};

    #[test]
    fn hosts_connect_again_and_one_that_does_not_is_named() {
        let door = Door::open(card::token().unwrap()).unwrap();
        let at = (Ipv4Addr::LOCALHOST, door.card().port).into();
        let hello = |rank: usize| {
            let facts = HostFacts { name: format!("host{rank}"), ..HostFacts::default() };
            let token = door.card().token.clone();
            Hello { token, rank, version: VERSION.to_owned(), facts: serde_json::to_value(facts).unwrap() }
        };
        let hellos = [hello(1), hello(2)];
        let agent = |hello: &Hello| {
            let (link, hello) = (reach(at, hello, Patience::of(SOON)).unwrap(), hello.clone());
            Agent { rank: hello.rank, link, hello }
        };
        let ended = |agent: &mut Agent| agent.link.receive::<u32>(Patience::of(SOON)).unwrap_err().to_string();
        let interrupted = AtomicBool::new(false);
        thread::scope(|scope| {
            let agents = hellos.each_ref().map(|hello| scope.spawn(|| agent(hello)));
            let guests = door.admit(&[1, 2], Patience::of(SOON)).unwrap();
            let [mut first, mut second] = agents.map(|agent| agent.join().unwrap());
            let mut team = Team { launcher: "a test", guests, door };
            let coming = scope.spawn(|| {
                assert_eq!(ended(&mut first), "it closed its connection");
                first.reconnect(Patience::of(SOON)).unwrap();
                interrupted.store(true, Relaxed);
                first
            });
            let error = team.reconnect(Patience::of(SOON).unless(&interrupted)).unwrap_err();
            assert_eq!(error.downcast_ref(), Some(&Cut::Interrupted));
            assert!(error.to_string().starts_with("host2 (rank 2) did not connect again: "), "{error}");
            // Whoever came hears what is said.
            let mut first = coming.join().unwrap();
            team.guests[0].link.send(&7).unwrap();
            assert!(matches!(first.link.receive(Patience::of(SOON)), Ok(Frame::Value(7))));
            drop(team);
            assert_eq!(ended(&mut second), "it closed its connection");
            let error = second.reconnect(Patience::of(SOON)).unwrap_err().to_string();
            assert!(error.starts_with("rank 0 at 127.0.0.1:") && error.ends_with(" is gone"), "{error}");
        });
    }
}
