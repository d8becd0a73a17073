//! The words used in records. Code that measures, judges or reports uses these enums, never their text.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumCount, EnumString, IntoStaticStr, VariantArray, VariantNames};

/// Defines an enum whose variants serde and strum spell alike.
macro_rules! words {
    ($(#[$attribute:meta])* $name:ident in $case:literal { $($(#[$variant_attribute:meta])* $variant:ident,)+ }) => {
        $(#[$attribute])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, Display,
            EnumCount, EnumString, IntoStaticStr, VariantArray, VariantNames,
        )]
        #[serde(rename_all = $case)]
        #[strum(serialize_all = $case)]
        pub enum $name { $($(#[$variant_attribute])* $variant,)+ }

        impl $name {
            /// The name used in records.
            pub fn name(self) -> &'static str {
                self.into()
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
    /// How an accept wait was measured.
    WaitMethod in "kebab-case" {
        /// Exactly: from the kernel's ESTABLISHED, stamped by a sock_ops program.
        #[serde(rename = "sock_ops")]
        #[strum(serialize = "sock_ops")]
        SockOps,
        /// As an upper bound: from the client's connect call.
        ConnectCall,
    }
}

words! {
    /// What ends an accept wait. Waits that end differently are never compared.
    WaitEnd in "kebab-case" {
        /// The worker that serves the connection has it.
        Serving,
        /// accept(2) has returned in a thread or process that hands the connection over.
        Accept,
        /// The ring has completed an accept; the worker may notice later.
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
        /// Intended instant of the follow-up to the last byte of its reply.
        FollowUp,
        /// `response` of datagram flows, in a trial that also has connections.
        UdpResponse,
        /// `service` of datagram flows, in a trial that also has connections.
        UdpService,
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
        /// ESTABLISHED to the wake-up in which the worker accepted it.
        Queue,
        /// Connect call to that wake-up.
        HandshakeAndQueue,
        /// That wake-up, or ESTABLISHED if it came later, to accept's return.
        Accept,
        /// accept's return to the first byte read.
        Read,
        /// First byte read to the write of the reply.
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
    /// What happens to a worker during a trial.
    #[derive(Default)]
    EventKind in "kebab-case" {
        /// It is stopped (SIGSTOP), for a while or until the trial's end.
        #[default]
        Stall,
        /// It burns CPU and serves nobody.
        Burn,
        /// It is killed (SIGKILL).
        Kill,
    }
}

words! {
    /// What kind of server the subject is.
    #[derive(Default)]
    SubjectKind in "kebab-case" {
        /// listenbench's own workers.
        #[default]
        Own,
    }
}

words! {
    /// Who counted what a member accepted.
    CountedBy in "kebab-case" {
        /// The member itself: one of listenbench's own workers.
        Own,
    }
}

words! {
    /// What counts as one draw when testing how evenly work spread over members.
    Draws in "kebab-case" {
        /// Each accepted connection.
        Connections,
        /// Each answered datagram flow.
        Flows,
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
    fn serde_and_strum_spell_alike() {
        spelled_alike::<Outcome>(&["valid", "invalid", "failed"]);
        spelled_alike::<WaitMethod>(&["sock_ops", "connect-call"]);
        spelled_alike::<WaitEnd>(&["serving", "accept", "completion"]);
        spelled_alike::<Latency>(&[
            "connect",
            "connect_from_intended",
            "response",
            "service",
            "send_lag",
            "follow_up",
            "udp_response",
            "udp_service",
        ]);
        spelled_alike::<Stage>(&[
            "lag",
            "handshake",
            "queue",
            "handshake_and_queue",
            "accept",
            "read",
            "serve",
            "return",
            "close",
        ]);
        spelled_alike::<EventKind>(&["stall", "burn", "kill"]);
        spelled_alike::<SubjectKind>(&["own"]);
        spelled_alike::<CountedBy>(&["own"]);
        spelled_alike::<Draws>(&["connections", "flows"]);
    }
}
