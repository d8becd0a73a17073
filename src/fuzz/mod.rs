//! What fuzzers feed to parsers, and what they assert. `scripts/fuzz` builds them, guided by coverage; the inputs in `tests/corpus` are
//! tried by every run of the tests.

mod datagrams;
mod histograms;
mod hosts;
mod http;
mod json;
mod kernel;
mod messages;
mod proxy_header;
mod reports;
mod scenario;
mod tls;
mod trace;
mod words;

use rand_chacha::ChaCha8Rng;

/// What a fuzzer tries.
struct Target {
    /// Its name, and that of its folder of inputs in `tests/corpus`.
    name: &'static str,
    /// Panics if an input breaks a promise.
    run: fn(&[u8]),
    /// Changes an input where bytes at random would rarely make one that is accepted.
    #[cfg_attr(test, expect(dead_code, reason = "tests only replay"))]
    mutate: Option<fn(&mut Vec<u8>, &mut ChaCha8Rng)>,
}

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run, mutate: None }
}

const fn guided(name: &'static str, run: fn(&[u8]), mutate: fn(&mut Vec<u8>, &mut ChaCha8Rng)) -> Target {
    Target { name, run, mutate: Some(mutate) }
}

/// Every target.
const TARGETS: &[Target] = &[
    guided("scenario", scenario::file, scenario::mutate),
    guided("set", scenario::overrides, scenario::mutate),
    target("fail-if", words::fail_if),
    target("server", words::server),
    guided("trial", json::trial, json::mutate),
    guided("host", json::host, json::mutate),
    guided("calibration", json::calibration, json::mutate),
    target("histogram-log", histograms::log),
    target("messages", messages::from_child),
    target("hosts", hosts::arriving),
    target("datagrams", datagrams::requests),
    target("http-request", http::requests),
    target("http-response", http::responses),
    target("proxy-header", proxy_header::header),
    target("tls", tls::wire),
    target("trace", trace::any),
    target("log-format", trace::layout),
    target("sock-diag", kernel::sock_diag),
    target("rtnetlink", kernel::rtnetlink),
    target("nfnetlink", kernel::nfnetlink),
    target("kernel-files", kernel::files),
    target("nftables", kernel::nftables),
    guided("report", reports::report, json::mutate),
    guided("compare", reports::compare, json::mutate),
];

/// Cuts bytes into pieces whose lengths follow from a seed: 0 leaves them whole.
fn pieces(bytes: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    let (mut rest, mut state) = (bytes, u32::from(seed));
    std::iter::from_fn(move || {
        // Numerical Recipes' generator; most pieces are short, and some are not.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = if seed == 0 { rest.len() } else { 1 + (state >> 24) as usize % (1 << (state >> 16 & 7)) };
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(fuzzing)]
mod driver {
    use std::{env, sync::LazyLock};

    use libfuzzer_sys::fuzzer_mutate;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::{TARGETS, Target};
    use crate::sys::{allocation, clock};

    /// The most processor time that an input may take.
    const LIMIT_NS: u64 = 10_000_000_000;

    /// The environment variable that names the target.
    const CHOICE: &str = "LISTENBENCH_FUZZ_TARGET";

    static CHOSEN: LazyLock<&'static Target> = LazyLock::new(|| {
        let name = env::var(CHOICE).unwrap_or_default();
        TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| {
            TARGETS.iter().for_each(|target| println!("{}", target.name));
            std::process::exit(2)
        })
    });

    libfuzzer_sys::fuzz_target!(init: LazyLock::force(&CHOSEN), |input: &[u8]| {
        let target = *CHOSEN;
        allocation::begin();
        let begun_ns = clock::thread_cpu_ns();
        (target.run)(input);
        let took_ns = clock::thread_cpu_ns() - begun_ns;
        assert!(took_ns <= LIMIT_NS, "an input took {took_ns} ns of processor time, more than {LIMIT_NS}");
    });

    libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, room: usize, seed: u32| {
        let mut random = ChaCha8Rng::seed_from_u64(u64::from(seed));
        if let Some(mutate) = CHOSEN.mutate.filter(|_| random.random_ratio(2, 3)) {
            let mut input = data[..size].to_vec();
            mutate(&mut input, &mut random);
            if !input.is_empty() && input.len() <= room {
                data[..input.len()].copy_from_slice(&input);
                return input.len();
            }
        }
        fuzzer_mutate(data, size, room)
    });
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_target_has_inputs_and_keeps_its_promises_with_them() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
        let folders = fs::read_dir(&corpus).unwrap().map(|folder| folder.unwrap().file_name().into_string().unwrap());
        let names = TARGETS.iter().map(|target| target.name.to_owned());
        assert_eq!(folders.collect::<BTreeSet<_>>(), names.collect::<BTreeSet<_>>(), "a folder for each target");
        for target in TARGETS {
            let inputs = fs::read_dir(corpus.join(target.name)).unwrap().map(|input| input.unwrap().path());
            let tried = inputs.map(|path| (target.run)(&fs::read(path).unwrap())).count();
            assert!(tried > 0, "{} has no input", target.name);
        }
    }

    #[test]
    fn all_inputs_together_stay_small() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
        let targets = fs::read_dir(corpus).unwrap();
        let inputs = targets.flat_map(|target| fs::read_dir(target.unwrap().path()).unwrap());
        let bytes: u64 = inputs.map(|input| input.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes < 200_000, "{bytes} bytes: remove inputs that reach nothing that others do not");
    }

    #[test]
    fn pieces_are_the_whole_in_order() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1_000).collect();
        for seed in 0..=u8::MAX {
            let cut: Vec<&[u8]> = pieces(&bytes, seed).collect();
            assert_eq!((cut.concat() == bytes, cut.len() == 1), (true, seed == 0));
        }
    }
}
