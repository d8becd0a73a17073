//! Drives the real binary as a user would: one module for each thing that it is to do.
//!
//! Each module lists its tests under what they require; a test that cannot run here is reported as ignored, never as passed. One
//! that is not listed is dead code, and an error.

#![deny(dead_code)]

use std::{panic, sync::Mutex};

use libtest_mimic::{Arguments, Trial};

/// A module's tests, each group under one of the functions in `requires`.
macro_rules! tests {
    ($($required:ident [$($test:ident),* $(,)?])*) => {
        pub fn tests() -> Vec<libtest_mimic::Trial> {
            vec![$($(crate::trial(
                concat!(module_path!(), "::", stringify!($test)),
                stringify!($required),
                crate::requires::$required(),
                $test,
            )),*),*]
        }
    };
}

mod accounting;
mod adaptive;
mod apps;
mod arrivals;
mod balance;
mod bind;
mod calibrate;
mod ci;
mod command;
mod common;
mod compare;
mod connection_ids;
mod datagrams;
mod descriptors;
mod doctor;
mod documents;
mod engines;
mod events;
mod examples;
mod explain;
mod exports;
mod failures;
mod firewall;
mod habits;
mod halves;
mod held;
mod help;
mod hosts;
mod hosts_answers;
mod hosts_deaths;
mod hosts_documents;
mod hosts_refusals;
mod http;
mod interleave;
mod known_answers;
mod layers;
mod limits;
mod live;
mod mixed;
mod mptcp;
mod network;
mod observe;
mod odd;
mod options;
mod pacing;
mod populations;
mod ports;
mod ports_command;
mod probe;
mod proxy_protocol;
mod rates;
mod real;
mod record;
mod reloads;
mod remains;
mod requires;
mod scheduling;
mod server_engines;
mod shards;
mod shipped;
mod spread;
mod stamps;
mod strategies;
mod strays;
mod tls;
mod trace;
mod tracking;
mod unix;
mod untrusted;
mod upstream;
mod variants;
mod version;

/// Tests that failed. Most measure, and a machine that is busy with other tests may keep them from it: these are run again, alone.
static FAILED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// More failures than these are not put down to a busy machine.
const FEW: usize = 5;

fn main() {
    // They mostly wait: for the ends of trials, which last as long as they are told to, however many processors there are.
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2 * requires::processors());
    let conclusion = libtest_mimic::run(&arguments, tests());
    let failed = std::mem::take(&mut *FAILED.lock().unwrap());
    if failed.is_empty() || failed.len() > FEW {
        conclusion.exit();
    }
    println!("Failed beside others, and run again alone: {}", failed.join(", "));
    arguments.test_threads = Some(1);
    let again = tests().into_iter().filter(|test| failed.iter().any(|name| test.name() == name)).collect();
    libtest_mimic::run(&arguments, again).exit();
}

fn tests() -> Vec<Trial> {
    [
        accounting::tests(),
        adaptive::tests(),
        apps::tests(),
        arrivals::tests(),
        balance::tests(),
        bind::tests(),
        calibrate::tests(),
        ci::tests(),
        command::tests(),
        compare::tests(),
        connection_ids::tests(),
        datagrams::tests(),
        descriptors::tests(),
        doctor::tests(),
        documents::tests(),
        engines::tests(),
        exports::tests(),
        failures::tests(),
        firewall::tests(),
        events::tests(),
        examples::tests(),
        explain::tests(),
        habits::tests(),
        halves::tests(),
        held::tests(),
        help::tests(),
        hosts::tests(),
        hosts_answers::tests(),
        hosts_deaths::tests(),
        hosts_documents::tests(),
        hosts_refusals::tests(),
        http::tests(),
        known_answers::tests(),
        interleave::tests(),
        layers::tests(),
        limits::tests(),
        live::tests(),
        mixed::tests(),
        mptcp::tests(),
        network::tests(),
        observe::tests(),
        odd::tests(),
        options::tests(),
        pacing::tests(),
        populations::tests(),
        ports::tests(),
        ports_command::tests(),
        probe::tests(),
        proxy_protocol::tests(),
        rates::tests(),
        real::tests(),
        reloads::tests(),
        record::tests(),
        remains::tests(),
        scheduling::tests(),
        server_engines::tests(),
        shards::tests(),
        shipped::tests(),
        spread::tests(),
        stamps::tests(),
        strategies::tests(),
        strays::tests(),
        tls::tests(),
        trace::tests(),
        tracking::tests(),
        unix::tests(),
        untrusted::tests(),
        upstream::tests(),
        variants::tests(),
        version::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn trial(path: &str, required: &str, met: bool, test: fn()) -> Trial {
    let name = path.strip_prefix("suite::").unwrap_or(path).to_owned();
    let kind = if required == "nothing" { "" } else { required };
    let run = {
        let name = name.clone();
        move || {
            if let Err(panic) = panic::catch_unwind(test) {
                FAILED.lock().unwrap().push(name);
                panic::resume_unwind(panic);
            }
            Ok(())
        }
    };
    Trial::test(name, run).with_kind(kind).with_ignored_flag(!met)
}
