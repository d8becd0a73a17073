//! The server under test: our own, a command, or one that is already running.

use std::time::Duration;

use nix::sys::signal::Signal;
use strum::{EnumString, IntoStaticStr, VariantNames};

use super::{
    keys,
    model::{Network, Protocol, Transport},
    server::Server,
    settings::Settings,
};

/// The server under test.
#[derive(Debug, Clone, PartialEq)]
pub enum UnderTest {
    /// Our own server.
    Own,
    /// A program that each trial starts.
    Command(ServerCommand),
    /// A server that is already listening on this machine.
    Running,
}

/// The kind of server under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum SubjectName {
    /// [`UnderTest::Own`].
    Own,
    /// [`UnderTest::Command`].
    Command,
    /// [`UnderTest::Running`].
    Running,
}

/// How a trial starts and stops a server.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerCommand {
    /// The command as the scenario writes it.
    pub text: String,
    /// The program and its arguments, before substitution.
    pub words: Vec<String>,
    /// What its folder contains when it starts, before substitution.
    pub files: Vec<ServerFile>,
    /// The longest until it must listen.
    pub ready_within: Duration,
    /// What asks it to end.
    pub stop_signal: Signal,
    /// Our own server behind it, if it is a proxy.
    pub backend: Option<Box<Server>>,
    /// Whether the proxy begins its connections with PROXY protocol headers.
    pub backend_headers: bool,
}

/// A file in a server's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFile {
    /// Its path below the folder.
    pub name: String,
    /// Its contents.
    pub contents: String,
}

/// A command line, as written and split into words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The text as written.
    pub text: String,
    /// The program and its arguments; at least one.
    pub words: Vec<String>,
}

/// What is put into commands and files in place of a name in braces.
const WORKERS: &str = "{workers}";
/// See [`WORKERS`].
const BACKEND: &str = "{backend}";

impl UnderTest {
    /// Reads the subject, and what loaders exchange with it.
    pub(super) fn read(settings: &Settings<'_>, protocol: Protocol, network: Network) -> (Self, Server) {
        let name = settings.get(keys::SERVER_SUBJECT);
        if name == SubjectName::Own {
            let server = Server::read(settings, protocol, settings.get(keys::SERVER_WORKERS));
            return (Self::Own, server.limited(settings, protocol).certified(settings));
        }
        if protocol.has(Transport::Udp) {
            let problem = "datagrams require server.subject = \"own\": nothing counts what another server receives";
            settings.conflict(keys::PROTOCOL, &[keys::SERVER_SUBJECT], problem);
        }
        if name == SubjectName::Running {
            if network != Network::Host {
                let problem = "\"running\" is a server in this machine's network: set network = \"host\"";
                settings.conflict(keys::SERVER_SUBJECT, &[keys::NETWORK], problem);
            }
            return (Self::Running, Server::of_others(settings, protocol, keys::SERVER_WORKERS.default()));
        }
        let command = ServerCommand::read(settings, protocol);
        let workers =
            if command.mentions(WORKERS) { settings.get(keys::SERVER_WORKERS) } else { keys::SERVER_WORKERS.default() };
        let server = match &command.backend {
            Some(backend) => Server { workers, app: backend.app.at_proxy(settings), ..(**backend).clone() },
            None => Server::of_others(settings, protocol, workers),
        };
        (Self::Command(command), server.limited(settings, protocol))
    }

    /// Our own server that runs, given the one under test: that one, or the one behind it.
    pub(super) fn ours<'a>(&'a mut self, under_test: &'a mut Server) -> Option<&'a mut Server> {
        match self {
            Self::Own => Some(under_test),
            Self::Command(command) => command.backend.as_deref_mut(),
            Self::Running => None,
        }
    }

    /// Whether it is our own server.
    pub fn is_own(&self) -> bool {
        *self == Self::Own
    }

    /// Whether our own server runs, under test or behind the one under test.
    pub(super) fn runs_ours(&self) -> bool {
        match self {
            Self::Own => true,
            Self::Command(command) => command.backend.is_some(),
            Self::Running => false,
        }
    }
}

impl ServerCommand {
    fn read(settings: &Settings<'_>, protocol: Protocol) -> Self {
        let line = settings.get(keys::SERVER_COMMAND);
        if line.is_none() {
            let problem = "is missing: set the command that starts the server, e.g. \"nginx -p {dir} -c nginx.conf\"";
            settings.conflict(keys::SERVER_COMMAND, &[keys::SERVER_SUBJECT], problem);
        }
        let CommandLine { text, words } = line.unwrap_or(CommandLine { text: String::new(), words: Vec::new() });
        let mut command = Self {
            text,
            words,
            files: settings.get(keys::SERVER_FILES),
            ready_within: settings.get(keys::SERVER_READY_WITHIN),
            stop_signal: settings.get(keys::SERVER_STOP_SIGNAL),
            backend: None,
            backend_headers: false,
        };
        let (backend, named) = (settings.get(keys::SERVER_BACKEND), command.mentions(BACKEND));
        if backend {
            let server = Server::read(settings, protocol, settings.get(keys::SERVER_BACKEND_WORKERS));
            command.backend = Some(Box::new(Server { app: server.app.behind_proxy(), ..server }));
            command.backend_headers = settings.get(keys::SERVER_BACKEND_PROXY_PROTOCOL);
        }
        let in_command = command.words.iter().any(|word| word.contains(BACKEND));
        let others: [&dyn keys::AnyKey; 2] = [keys::SERVER_COMMAND, keys::SERVER_FILES];
        let others = if in_command { &others[..1] } else { &[others[1], others[0]] };
        if backend && !named && !command.words.is_empty() {
            let problem = "neither server.command nor a file of server.files says {backend}, where the server finds it";
            settings.conflict(keys::SERVER_BACKEND, others, problem);
        } else if named && !backend {
            let problem = "{backend} in server.command or server.files requires server.backend = true";
            settings.conflict(keys::SERVER_BACKEND, others, problem);
        }
        command
    }

    /// Whether the command or a file contains a text.
    pub(super) fn mentions(&self, text: &str) -> bool {
        let contents = self.files.iter().map(|file| &file.contents);
        self.words.iter().chain(contents).any(|written| written.contains(text))
    }
}
