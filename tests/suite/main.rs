//! Drives the real binary as a user would: one module for each thing that it is to do.
//!
//! Each module lists its tests under what they require; a test that cannot run here is reported as ignored, never as passed. One
//! that is not listed is dead code, and an error.

#![deny(dead_code)]

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

mod adaptive;
mod calibrate;
mod common;
mod compare;
mod datagrams;
mod engines;
mod exports;
mod failures;
mod faults;
mod halves;
mod held;
mod help;
mod known_answers;
mod layers;
mod live;
mod network;
mod options;
mod pacing;
mod ports;
mod ports_command;
mod record;
mod requires;
mod scheduling;
mod stamps;
mod strategies;

fn main() {
    let modules = [
        adaptive::tests(),
        calibrate::tests(),
        compare::tests(),
        datagrams::tests(),
        engines::tests(),
        exports::tests(),
        failures::tests(),
        faults::tests(),
        halves::tests(),
        held::tests(),
        help::tests(),
        known_answers::tests(),
        layers::tests(),
        live::tests(),
        network::tests(),
        options::tests(),
        pacing::tests(),
        ports::tests(),
        ports_command::tests(),
        record::tests(),
        scheduling::tests(),
        stamps::tests(),
        strategies::tests(),
    ];
    libtest_mimic::run(&Arguments::from_args(), modules.into_iter().flatten().collect()).exit();
}

fn trial(path: &str, required: &str, met: bool, test: fn()) -> Trial {
    let name = path.strip_prefix("suite::").unwrap_or(path);
    let kind = if required == "nothing" { "" } else { required };
    let run = move || {
        test();
        Ok(())
    };
    Trial::test(name, run).with_kind(kind).with_ignored_flag(!met)
}
