//! Where the hosts of a job connect, and who is let in.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
};
use serde::de::IgnoredAny;
use socket2::{Domain, Socket, Type};

use super::{
    Guest,
    card::Card,
    frame::Frame,
    hello::{Hello, Refusal, Reply},
    link::Link,
};
use crate::{
    format::counted,
    ipc::family::Patience,
    sys::{addresses, limits, process::poll_timeout},
};

/// How long whoever connects may take to introduce itself.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of an introduction.
const HELLO_LIMIT: usize = 64 << 10;
/// How many may be about to introduce themselves at once; whoever has taken longest goes.
const STRANGERS: usize = 64;
/// Files that the process opens besides, at most.
const OTHER_FILES: usize = 256;
/// Connections that the kernel holds until they are accepted: all hosts of a large job connect at once.
const BACKLOG: i32 = 4_096;

/// A listening socket of the job. Whoever has no token, or stays silent, is not let in.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    card: Card,
}

/// Somebody who has connected and has not yet been let in.
struct Stranger {
    link: Link,
    since: Instant,
}

impl Door {
    /// Listens at a free port of all addresses of this host.
    pub fn open(token: String) -> Result<Self> {
        let listen = |domain, address: SocketAddr| -> std::io::Result<TcpListener> {
            let socket = Socket::new(domain, Type::STREAM.nonblocking().cloexec(), None)?;
            if domain == Domain::IPV6 {
                socket.set_only_v6(false)?;
            }
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        };
        let any = (Ipv6Addr::UNSPECIFIED, 0).into();
        // A kernel may have no IPv6.
        let listener = listen(Domain::IPV6, any).or_else(|_| listen(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, 0).into()));
        let listener = listener.context("listening for the other hosts of the job")?;
        let addresses = addresses::own().context("getifaddrs")?;
        let port = listener.local_addr().context("getsockname")?.port();
        Ok(Self { listener, card: Card::new(addresses, port, token) })
    }

    /// The invitation.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Lets in all of these ranks, and returns them in ascending order. Fails if one does not come, or runs another version.
    pub fn admit(&self, ranks: &[usize], patience: Patience<'_>) -> Result<Vec<Guest>> {
        let mut guests = Vec::with_capacity(ranks.len());
        self.admit_to(&mut guests, ranks, patience)?;
        Ok(guests)
    }

    /// The same; whoever has come is added to `guests` even if it fails.
    pub fn admit_to(&self, guests: &mut Vec<Guest>, ranks: &[usize], patience: Patience<'_>) -> Result<()> {
        make_room(ranks.len())?;
        let mut hall =
            Hall { token: &self.card.token, ranks, guests: BTreeMap::new(), strangers: Vec::new(), refused: 0 };
        let admitted = self.fill(&mut hall, patience);
        guests.extend(hall.guests.into_values());
        admitted
    }

    fn fill(&self, hall: &mut Hall<'_>, patience: Patience<'_>) -> Result<()> {
        let wait = patience.begin();
        loop {
            for _ in 0..STRANGERS {
                match self.listener.accept() {
                    // One whose peer is gone already cannot be set up.
                    Ok((stream, _)) => hall.strangers.extend(Link::over(stream).ok().map(Stranger::new)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                        // What the kernel says of a connection that is gone already.
                        None | Some(Errno::EINTR | Errno::ECONNABORTED | Errno::EPROTO) => {}
                        Some(errno) => return Err(limits::explained("accept4", errno).into()),
                    },
                }
            }
            hall.hear()?;
            if hall.guests.len() == hall.ranks.len() {
                return Ok(());
            }
            wait.check().with_context(|| hall.missing(&self.card))?;
            let fds = hall.strangers.iter().map(|stranger| stranger.link.as_fd()).chain([self.listener.as_fd()]);
            let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            // A signal ends it early.
            let _ = poll(&mut fds, poll_timeout(wait.nap()));
        }
    }
}

/// Raises the limit of open files if it has no room for the links to so many hosts.
fn make_room(hosts: usize) -> Result<()> {
    let needed = (hosts + STRANGERS + OTHER_FILES) as u64;
    if limits::open_files()?.soft < needed {
        let most = limits::raise_open_files().context("raising the limit of open files")?.soft;
        if most < needed {
            bail!(
                "links to {hosts} hosts need {needed} open files, and the limit is {most}: raise the hard limit (`ulimit -Hn`)"
            );
        }
    }
    Ok(())
}

impl Stranger {
    fn new(link: Link) -> Self {
        Self { link: link.limited(HELLO_LIMIT), since: Instant::now() }
    }
}

/// Those who have come through the door.
struct Hall<'a> {
    token: &'a str,
    /// Who is expected.
    ranks: &'a [usize],
    guests: BTreeMap<usize, Guest>,
    strangers: Vec<Stranger>,
    /// How many were not let in.
    refused: u64,
}

impl Hall<'_> {
    /// Hears who has something to say, and parts with those who are gone, or silent for too long.
    fn hear(&mut self) -> Result<()> {
        for mut stranger in std::mem::take(&mut self.strangers) {
            match stranger.link.try_receive::<Hello>() {
                Ok(None) if stranger.since.elapsed() < HELLO_PATIENCE => self.strangers.push(stranger),
                Ok(Some(Frame::Value(hello))) => self.decide(hello, stranger.link)?,
                Ok(_) | Err(_) => self.refused += 1,
            }
        }
        // The list is in order of arrival.
        let too_many = self.strangers.len().saturating_sub(STRANGERS);
        self.refused += self.strangers.drain(..too_many).len() as u64;
        // Whoever gave up waiting for the reply comes again.
        self.guests.retain(|_, guest| matches!(guest.link.try_receive::<IgnoredAny>(), Ok(None)));
        Ok(())
    }

    fn decide(&mut self, hello: Hello, mut link: Link) -> Result<()> {
        let rank = hello.rank;
        match hello.check(self.token, |rank| self.ranks.contains(&rank)) {
            Ok(facts) => {
                // A host that comes again has given up its earlier connection.
                if link.send(&Reply::Welcome).is_ok() {
                    self.guests.insert(rank, Guest { rank, facts, link: link.trusted() });
                }
            }
            Err(Refusal::Token) => self.refused += 1,
            Err(refusal) => {
                let _ = link.send(&Reply::Refused(refusal.to_string()));
                match refusal {
                    Refusal::Rank(_) => self.refused += 1,
                    _ => bail!(refusal),
                }
            }
        }
        Ok(())
    }

    /// Who has not come, in words.
    fn missing(&self, card: &Card) -> String {
        let missing: Vec<String> =
            self.ranks.iter().filter(|rank| !self.guests.contains_key(rank)).map(ToString::to_string).collect();
        let addresses: Vec<String> = card.addresses.iter().map(ToString::to_string).collect();
        let refused = match self.refused {
            0 => String::new(),
            refused => format!(" ({} refused)", counted(refused, "other connection was", "other connections were")),
        };
        format!(
            "rank {} of the job did not connect to port {} of this host ({}){refused}: let the hosts' firewalls pass it",
            missing.join(", "),
            card.port,
            addresses.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
        sync::atomic::{AtomicBool, Ordering::Relaxed},
        thread::{self, JoinHandle},
    };

    use super::{
        super::{
            card::{Failed, attempt, token},
            hello::VERSION,
            link::tests::SOON,
        },
        *,
    };
    use crate::{ipc::family::Cut, record::HostFacts};

    fn door() -> (Door, SocketAddr) {
        let door = Door::open(token().unwrap()).unwrap();
        let at = (Ipv4Addr::LOCALHOST, door.card().port).into();
        (door, at)
    }

    fn hello(door: &Door, rank: usize) -> Hello {
        let facts = serde_json::to_value(HostFacts { rank, name: format!("host{rank}"), ..HostFacts::default() });
        Hello { token: door.card().token.clone(), rank, version: VERSION.to_owned(), facts: facts.unwrap() }
    }

    fn connect(at: SocketAddr, hello: Hello) -> JoinHandle<Result<Link, Failed>> {
        thread::spawn(move || attempt(at, SOON, &hello))
    }

    fn admit(door: &Door, ranks: &[usize]) -> Result<Vec<Guest>> {
        door.admit(ranks, Patience::of(SOON))
    }

    /// Why rank 1 is not let in by the time that this is over.
    fn admit_until(door: &Door, over: impl FnOnce() + Send) -> anyhow::Error {
        let interrupted = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                over();
                interrupted.store(true, Relaxed);
            });
            door.admit(&[1], Patience::of(SOON).unless(&interrupted)).unwrap_err()
        })
    }

    #[test]
    fn the_hosts_of_the_job_are_let_in() {
        let (door, at) = door();
        let connecting = [2, 1].map(|rank| connect(at, hello(&door, rank)));
        let mut guests = admit(&door, &[1, 2]).unwrap();
        let [second, first] = connecting.map(|connecting| connecting.join().unwrap().unwrap());
        assert_eq!(
            guests.iter().map(|guest| (guest.rank, &guest.facts.name[..])).collect::<Vec<_>>(),
            [(1, "host1"), (2, "host2")]
        );
        for (guest, mut link) in guests.iter_mut().zip([first, second]) {
            assert_eq!((guest.link.peer(), guest.link.local()), (link.local(), at));
            // More than an introduction may have.
            link.send(&"x".repeat(2 * HELLO_LIMIT)).unwrap();
            assert!(matches!(guest.link.receive::<String>(Patience::of(SOON)), Ok(Frame::Value(_))));
        }
    }

    #[test]
    fn whoever_comes_is_kept_though_another_stays_away() {
        let (door, at) = door();
        let hello = hello(&door, 2);
        let interrupted = AtomicBool::new(false);
        let mut guests = Vec::new();
        let link = thread::scope(|scope| {
            let coming = scope.spawn(|| {
                let link = attempt(at, SOON, &hello).unwrap();
                interrupted.store(true, Relaxed);
                link
            });
            let patience = Patience::of(SOON).unless(&interrupted);
            let error = door.admit_to(&mut guests, &[1, 2], patience).unwrap_err();
            assert!(error.to_string().starts_with("rank 1 of the job did not connect"), "{error}");
            coming.join().unwrap()
        });
        assert_eq!(guests.iter().map(|guest| guest.rank).collect::<Vec<_>>(), [2]);
        assert_eq!(guests[0].link.peer(), link.local());
    }

    #[test]
    fn whoever_lacks_the_token_gets_no_answer() {
        let (door, at) = door();
        let good = hello(&door, 1);
        let tokens = [String::new(), token().unwrap(), good.token[..31].to_owned(), format!("{}0", good.token)];
        let uninvited = tokens.map(|token| connect(at, Hello { token, ..good.clone() }));
        let mut stranger = TcpStream::connect(at).unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let error = admit_until(&door, move || {
            for connecting in uninvited {
                let failed = connecting.join().unwrap().unwrap_err();
                let Failed::Elsewhere(error) = failed else { panic!("{failed:?}") };
                assert!(error.to_string().contains("without a reply"), "{error}");
            }
            // An end, or a reset because of what was not read.
            assert_eq!(stranger.read(&mut [0; 8]).unwrap_or(0), 0);
        });
        assert_eq!(error.downcast_ref(), Some(&Cut::Interrupted), "{error:#}");
        assert!(error.to_string().starts_with("rank 1 of the job did not connect to port "), "{error}");
        assert!(error.to_string().contains("5 other connections were refused"), "{error}");
    }

    #[test]
    fn strangers_do_not_keep_the_hosts_out() {
        let (door, at) = door();
        let _silent: Vec<TcpStream> = (0..2 * STRANGERS).map(|_| TcpStream::connect(at).unwrap()).collect();
        let [other, expected] = [3, 1].map(|rank| hello(&door, rank));
        // Once the expected one is in, nobody is heard any more.
        let connecting = thread::spawn(move || (attempt(at, SOON, &other), attempt(at, SOON, &expected)));
        assert_eq!(admit(&door, &[1]).unwrap().len(), 1);
        let (refused, admitted) = connecting.join().unwrap();
        admitted.unwrap();
        assert!(matches!(&refused, Err(Failed::Refused(reason)) if reason == "rank 3 is not expected"), "{refused:?}");
    }

    #[test]
    fn more_hosts_than_open_files_are_refused() {
        make_room(1).unwrap();
        let hard = limits::open_files().unwrap().hard as usize;
        // Beyond the limit only by what else is open; without a limit there is nothing to refuse.
        if let Some(needed) = hard.checked_add(STRANGERS + OTHER_FILES) {
            let error = make_room(hard).unwrap_err().to_string();
            assert!(error.contains(&format!("need {needed} open files, and the limit is {hard}")), "{error}");
        }
    }

    #[test]
    fn an_introduction_has_its_limit() {
        let (door, at) = door();
        let facts = serde_json::json!("x".repeat(HELLO_LIMIT));
        let large = connect(at, Hello { facts, ..hello(&door, 1) });
        let error = admit_until(&door, || assert!(matches!(large.join().unwrap(), Err(Failed::Elsewhere(_)))));
        assert!(error.to_string().contains("1 other connection was refused"), "{error}");
    }

    #[test]
    fn another_version_is_an_error_for_both() {
        let (door, at) = door();
        let other = connect(at, Hello { version: "0.0.1 (other)".to_owned(), ..hello(&door, 1) });
        let error = admit(&door, &[1]).unwrap_err().to_string();
        assert!(
            error.contains("rank 1 runs listenbench 0.0.1 (other), and the host it came to ")
                && error.contains(VERSION),
            "{error}"
        );
        assert!(matches!(other.join().unwrap(), Err(Failed::Refused(reason)) if reason == error));
    }

    #[test]
    fn facts_that_cannot_be_read_are_an_error() {
        let (door, at) = door();
        let other = connect(at, Hello { facts: serde_json::json!(7), ..hello(&door, 1) });
        let error = admit(&door, &[1]).unwrap_err().to_string();
        assert!(error.starts_with("what rank 1 says of its host cannot be read"), "{error}");
        assert!(matches!(other.join().unwrap(), Err(Failed::Refused(_))));
    }

    #[test]
    fn a_host_that_comes_again_replaces_itself() {
        let (door, at) = door();
        // It gives up before the answer.
        let mut early = Link::over(TcpStream::connect(at).unwrap()).unwrap();
        early.send(&hello(&door, 1)).unwrap();
        drop(early);
        let connecting = connect(at, hello(&door, 1));
        let mut guests = admit(&door, &[1]).unwrap();
        let mut link = connecting.join().unwrap().unwrap();
        link.send(&5).unwrap();
        assert!(matches!(guests[0].link.receive::<u32>(Patience::of(SOON)), Ok(Frame::Value(5))));
    }
}
