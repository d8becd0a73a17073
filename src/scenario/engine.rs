//! What moves bytes: those of loaders, and those of workers' connections.

use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{
    keys,
    model::{Protocol, Transport},
    server::Server,
    settings::Settings,
    strategy::{Strategy, Trigger, Wake},
};

/// What moves bytes. `load::engine` and `server::worker::mover` have a file for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// mio's epoll.
    Mio,
    /// io_uring.
    Uring,
    /// io_uring where possible, else epoll.
    Auto {
        /// Whether io_uring can do what the scenario requires.
        ring: bool,
    },
}

/// The name of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum EngineName {
    /// [`Engine::Mio`].
    Mio,
    /// [`Engine::Uring`].
    Uring,
    /// [`Engine::Auto`].
    Auto,
}

impl Engine {
    /// What moves the bytes of loaders.
    pub(super) fn of_loaders(settings: &Settings<'_>, protocol: Protocol, server: &Server) -> Self {
        let unable = if protocol.has(Transport::Udp) {
            Some("\"uring\" moves connections only, no datagrams (`protocol`): use \"mio\"")
        } else if settings.has_messages() {
            Some(
                "\"uring\" receives into buffers of its own, which may be shorter than a message of `unixpacket:` (`address`): use \"mio\"",
            )
        } else if server.listen.fastopen > 0 {
            Some("\"uring\" connects before it sends, without TCP_FASTOPEN (`server.fastopen`): use \"mio\"")
        } else {
            None
        };
        match (settings.get(keys::LOAD_ENGINE), unable) {
            (EngineName::Mio, _) => Self::Mio,
            (EngineName::Auto, unable) => Self::Auto { ring: unable.is_none() },
            (EngineName::Uring, None) => Self::Uring,
            (EngineName::Uring, Some(why)) => {
                settings.conflict(keys::LOAD_ENGINE, &[keys::PROTOCOL, keys::ADDRESS, keys::SERVER_FASTOPEN], why);
                Self::Uring
            }
        }
    }

    /// What moves the bytes of our own workers' connections. Datagrams are read from epoll.
    pub(super) fn of_workers(settings: &Settings<'_>, protocol: Protocol, strategy: &Strategy) -> Self {
        if !protocol.has(Transport::Tcp) {
            return Self::Mio;
        }
        // EPOLLEXCLUSIVE does not count a ring that polls an epoll instance as a waiter: the kernel moves on to the next instance, and
        // ends up waking them all.
        let is_exclusive = strategy.wake == Wake::Epoll(Trigger::Exclusive);
        match settings.get(keys::SERVER_ENGINE) {
            EngineName::Mio => Self::Mio,
            EngineName::Auto => Self::Auto { ring: !is_exclusive },
            EngineName::Uring => {
                if is_exclusive {
                    settings.conflict(
                        keys::SERVER_ENGINE,
                        &[keys::SERVER_STRATEGY, keys::SERVER_WAKE],
                        "\"uring\" waits in a ring, and EPOLLEXCLUSIVE passes over workers that do not wait in epoll: use \"mio\"",
                    );
                }
                Self::Uring
            }
        }
    }
}
