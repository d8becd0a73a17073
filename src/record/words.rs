//! The words used in records. Code that measures, judges or reports uses these enums, never their text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumCount, EnumMessage, EnumString, IntoStaticStr, VariantArray, VariantNames};

/// Defines an enum whose variants serde and strum spell alike.
macro_rules! words {
    ($(#[$attribute:meta])* $name:ident in $case:literal { $($(#[$variant_attribute:meta])* $variant:ident,)+ }) => {
        $(#[$attribute])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Display,
            EnumCount, EnumMessage, EnumString, IntoStaticStr, VariantArray, VariantNames,
        )]
        #[serde(rename_all = $case)]
        #[strum(serialize_all = $case)]
        pub enum $name { $($(#[$variant_attribute])* $variant,)+ }

        impl $name {
            /// The name used in records.
            pub fn name(self) -> &'static str {
                self.into()
            }

            /// All words, each with what it means.
            pub fn explained() -> impl Iterator<Item = (&'static str, &'static str)> {
                <Self as VariantArray>::VARIANTS.iter().map(|word| (word.name(), word.get_documentation().unwrap_or_default()))
            }
        }
    };
}

words! {
    /// Whether a trial's figures may be used.
    #[derive(Default)]
    Outcome in "kebab-case" {
        /// The figures may be used.
        Valid,
        /// The trial ran, but a verdict rules out using its figures.
        Invalid,
        /// The trial did not run to its end.
        #[default]
        Failed,
    }
}

words! {
    /// What a run's kernel ran on.
    #[derive(Default)]
    Virtualization in "kebab-case" {
        /// The machine itself, or a hypervisor that does not show itself.
        None,
        /// A processor that QEMU's TCG emulates: counts hold, and times and rates are the emulator's.
        Emulated,
        /// A virtual machine of KVM.
        Kvm,
        /// A virtual machine of Hyper-V.
        HyperV,
        /// A virtual machine of VMware.
        Vmware,
        /// A virtual machine of Xen.
        Xen,
        /// A virtual machine of another hypervisor.
        Other,
        /// Only x86_64 processors say what they are.
        #[default]
        Unknown,
    }
}

impl Virtualization {
    /// By the signature of a hypervisor on x86_64, if one shows itself.
    pub fn of_signature(signature: Option<&str>) -> Self {
        match signature {
            None => Self::None,
            Some("TCGTCGTCGTCG") => Self::Emulated,
            Some("KVMKVMKVM" | "Linux KVM Hv") => Self::Kvm,
            Some("Microsoft Hv") => Self::HyperV,
            Some("VMwareVMware") => Self::Vmware,
            Some("XenVMMXenVMM") => Self::Xen,
            Some(_) => Self::Other,
        }
    }
}

words! {
    /// How an accept wait was measured.
    WaitMethod in "kebab-case" {
        /// Exactly: from the kernel's ESTABLISHED, stamped by a sock_ops program.
        #[serde(rename = "sock_ops")]
        #[strum(serialize = "sock_ops")]
        SockOps,
        /// Exactly, from outside the server: kernel tracepoints stamp ESTABLISHED and the end of the wait.
        Tracepoint,
        /// As an upper bound: from the client's connect call.
        ConnectCall,
    }
}

impl WaitMethod {
    /// Whether it measures the wait itself rather than an upper bound.
    pub fn is_exact(self) -> bool {
        self != Self::ConnectCall
    }
}

words! {
    /// What ends an accept wait. Waits that end differently are never compared.
    WaitEnd in "kebab-case" {
        /// The worker that serves the connection has it.
        Serving,
        /// accept(2) has returned somewhere in the subject: all that can be known of another server.
        Accept,
        /// A ring has completed an accept; the member may notice later.
        Completion,
    }
}

words! {
    /// The latencies that a loader measures for each connection, besides its accept wait.
    Latency in "snake_case" {
        /// The connect call to writable.
        Connect,
        /// Intended start to writable.
        ConnectFromIntended,
        /// Intended start to the last byte of the reply.
        Response,
        /// Actual start to the last byte of the reply.
        Service,
        /// Intended to actual start.
        SendLag,
        /// The same of starts that were due before the one before them had been made.
        QueuedLag,
        /// The same of all others.
        TimerLag,
        /// Intended instant of the follow-up to the last byte of its reply.
        FollowUp,
        /// `response` of datagram flows, in a trial that also has connections.
        UdpResponse,
        /// `service` of datagram flows, in a trial that also has connections.
        UdpService,
        /// Established to the end of the TLS handshake at the client.
        Tls,
        /// The connect call to its failure.
        FailedConnect,
    }
}

words! {
    /// Where a connection's time goes, in order: each stage ends where the next begins. Without exact stamps, the boundary between
    /// handshake and queue is unknown, and `handshake_and_queue` replaces both.
    Stage in "snake_case" {
        /// Intended start to connect call.
        Lag,
        /// Connect call to ESTABLISHED on the server's side.
        Handshake,
        /// ESTABLISHED to the wake-up in which it was accepted: by the worker, or by the thread or process that hands it over. With
        /// io_uring, the completion of its accept or, if its time is unknown, the wake-up in which the worker took it from the ring.
        Queue,
        /// Connect call to that wake-up.
        HandshakeAndQueue,
        /// That wake-up, or ESTABLISHED if it came later, to accept's return.
        Accept,
        /// accept's return in a thread or process that hands connections over, or its completion in an io_uring, until the worker has
        /// it; only there, and only if that time is known.
        HandOver,
        /// From when the worker has it, to the first byte read.
        Read,
        /// First byte read to the end of the TLS handshake at the client; only with app `https`.
        Tls,
        /// First byte read, or the end of the TLS handshake at the client, to the write of the reply.
        Serve,
        /// The write of the reply to its last byte at the client.
        Return,
        /// The last byte of the last reply, or the end of the hold, to the end of the connection.
        Close,
    }
}

impl Stage {
    /// Whether the stage is part of the response, as every stage up to the reply is.
    pub fn is_of_response(self) -> bool {
        self != Self::Close
    }
}

words! {
    /// What happens to the server during a trial.
    #[derive(Default)]
    EventKind in "kebab-case" {
        /// A worker is stopped (SIGSTOP), for a while or until the trial's end.
        #[default]
        Stall,
        /// A worker burns CPU and serves nobody.
        Burn,
        /// A worker is killed (SIGKILL).
        Kill,
        /// Another worker starts to accept.
        Join,
        /// A worker stops accepting, serves what it has open, and exits.
        Leave,
        /// New workers replace all workers.
        Reload,
        /// The server gets a signal.
        Signal,
        /// A command runs.
        Exec,
    }
}

words! {
    /// How a reload's new workers get their listeners.
    #[derive(Default)]
    ReloadHow in "kebab-case" {
        /// They accept from the listeners that there are.
        #[default]
        Inherit,
        /// New listeners join the SO_REUSEPORT group of the old ones, which are closed then.
        Reopen,
        /// The old listeners are closed, and the new ones opened after a gap.
        Restart,
    }
}

words! {
    /// What kind of server the subject is.
    #[derive(Default)]
    SubjectKind in "kebab-case" {
        /// listenbench's own workers.
        #[default]
        Own,
        /// A program that the trial started.
        Command,
        /// A server that was already running.
        Running,
    }
}

words! {
    /// Which of a trial's networks something is in.
    #[derive(Default)]
    Whose in "kebab-case" {
        /// Server and loaders share it.
        #[default]
        Shared,
        /// The server's, if loaders have another.
        Server,
        /// The loaders', if the server has another.
        Loaders,
    }
}

words! {
    /// What a host of a job does.
    #[derive(Default)]
    HostRole in "kebab-case" {
        /// It has the server under test.
        Server,
        /// It generates load.
        #[default]
        Load,
    }
}

words! {
    /// Who counted what a member accepted.
    #[derive(Default)]
    CountedBy in "kebab-case" {
        /// The member itself: one of listenbench's own workers.
        Own,
        /// A BPF program at the kernel's tracepoints.
        Tracepoint,
        /// Nobody could: what the member accepted is unknown.
        #[default]
        None,
    }
}

words! {
    /// How accepts are seen from outside the server.
    #[derive(Default)]
    ProbeLevel in "kebab-case" {
        /// Tracepoints with the kernel's type information: every accept and its exact wait, io_uring's included.
        Btf,
        /// Plain tracepoints, which tell connections apart by the peer address that accept4 returned.
        Tracepoints,
        /// Plain tracepoints that count accepts; waits are unknown.
        Counts,
        /// They are not.
        #[default]
        Off,
    }
}

words! {
    /// What falls on a random member each time, where chance decides.
    Draws in "kebab-case" {
        /// Each distinct 4-tuple: the kernel hashes it, and it lands on the same member whenever it occurs.
        Tuples,
        /// Each accepted connection, or answered datagram flow: a program draws for every one of them.
        Connections,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;

    use super::*;

    fn spelled_alike<T>(names: &[&str])
    where
        T: VariantArray + Copy + Debug + PartialEq + Into<&'static str> + Serialize + DeserializeOwned,
    {
        let spelled: Vec<&'static str> = T::VARIANTS.iter().map(|word| (*word).into()).collect();
        assert_eq!(spelled, names);
        for (word, name) in T::VARIANTS.iter().zip(names) {
            assert_eq!(serde_json::to_value(word).unwrap(), *name);
            assert_eq!(serde_json::from_value::<T>((*name).into()).unwrap(), *word);
        }
    }

    #[test]
    fn hypervisors_are_known_by_their_signatures() {
        let of = Virtualization::of_signature;
        assert_eq!([of(None), of(Some("TCGTCGTCGTCG"))], [Virtualization::None, Virtualization::Emulated]);
        assert_eq!([of(Some("KVMKVMKVM")), of(Some(""))], [Virtualization::Kvm, Virtualization::Other]);
    }

    #[test]
    fn serde_and_strum_spell_alike() {
        spelled_alike::<Outcome>(&["valid", "invalid", "failed"]);
        spelled_alike::<WaitMethod>(&["sock_ops", "tracepoint", "connect-call"]);
        spelled_alike::<Virtualization>(&["none", "emulated", "kvm", "hyper-v", "vmware", "xen", "other", "unknown"]);
        spelled_alike::<WaitEnd>(&["serving", "accept", "completion"]);
        spelled_alike::<Latency>(&[
            "connect",
            "connect_from_intended",
            "response",
            "service",
            "send_lag",
            "queued_lag",
            "timer_lag",
            "follow_up",
            "udp_response",
            "udp_service",
            "tls",
            "failed_connect",
        ]);
        spelled_alike::<Stage>(&[
            "lag",
            "handshake",
            "queue",
            "handshake_and_queue",
            "accept",
            "hand_over",
            "read",
            "tls",
            "serve",
            "return",
            "close",
        ]);
        spelled_alike::<EventKind>(&["stall", "burn", "kill", "join", "leave", "reload", "signal", "exec"]);
        spelled_alike::<ReloadHow>(&["inherit", "reopen", "restart"]);
        spelled_alike::<SubjectKind>(&["own", "command", "running"]);
        spelled_alike::<HostRole>(&["server", "load"]);
        spelled_alike::<Whose>(&["shared", "server", "loaders"]);
        spelled_alike::<CountedBy>(&["own", "tracepoint", "none"]);
        spelled_alike::<ProbeLevel>(&["btf", "tracepoints", "counts", "off"]);
        spelled_alike::<Draws>(&["tuples", "connections"]);
    }
}
