//! Whether a launcher has started this process, or could: runs over several hosts need one, and the library through which it introduces
//! them.

use std::{env, path::Path};

use anyhow::Result;

use super::{About, Check, Status};
use crate::{
    format,
    hosts::{self, Launched},
    ipc::family::{self, Patience},
    sys::pmix,
    trial,
};

/// Commands that start jobs with PMIx.
const COMMANDS: [&str; 4] = ["mpirun", "mpiexec", "srun", "prterun"];

/// The check.
pub fn check() -> Check {
    // What the library starts or changes ends with the child.
    let library = family::ask("lb:pmix", Patience::of(trial::SETUP_PATIENCE), || Ok(pmix::try_out()?));
    let installed = COMMANDS.into_iter().filter(|command| is_installed(command)).collect::<Vec<_>>();
    judge(hosts::launched(), &installed, library.map_err(|error| format::causes(&error)))
}

fn is_installed(command: &str) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| Path::new(&folder).join(command).is_file())
}

fn judge(launched: Result<Option<Launched>>, installed: &[&str], library: Result<(), String>) -> Check {
    let check = |status, found, advice| Check { about: About::Trials, name: "launcher", status, found, advice };
    let launched = match launched {
        Ok(launched) => launched,
        Err(error) => return check(Status::Missing, "one without PMIx".to_owned(), format::causes(&error)),
    };
    let found = match &launched {
        Some(Launched { launcher, rank, size: Some(size) }) => {
            format!("{launcher} started this as rank {rank} of {size}")
        }
        Some(Launched { launcher, rank, size: None }) => format!("{launcher} started this as rank {rank}"),
        None if installed.is_empty() => "none".to_owned(),
        None => format!("none started this; installed: {}", installed.join(", ")),
    };
    match (launched, library) {
        (Some(_), Ok(())) => check(
            Status::Ok,
            found,
            format!(
                "{} is here, so the ranks can find each other: rank 0 leads, and the others generate load",
                pmix::LIBRARY
            ),
        ),
        (Some(_), Err(error)) => check(Status::Missing, found, format!("the ranks cannot find each other: {error}")),
        (None, Ok(())) => check(
            Status::Ok,
            found,
            format!(
                "{} is here: started on several hosts by a launcher with PMIx (Open MPI's mpirun, srun --mpi=pmix, prterun), rank 0 of \
                 `listenbench run` leads and the others generate load",
                pmix::LIBRARY
            ),
        ),
        // Most runs are on one machine.
        (None, Err(error)) => check(Status::Ok, found, format!("only runs over several hosts need one: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_needs_the_library_and_a_lone_run_does_not() {
        let job = |size| Ok(Some(Launched { launcher: "Slurm", rank: 1, size }));
        let missing = || Err("libpmix.so.2 cannot be loaded".to_owned());
        for (launched, installed, library, status, found, advice) in [
            (Ok(None), &[][..], Ok(()), Status::Ok, "none", "is here"),
            (
                Ok(None),
                &["srun"],
                missing(),
                Status::Ok,
                "none started this; installed: srun",
                "only runs over several hosts",
            ),
            (job(Some(3)), &[], Ok(()), Status::Ok, "Slurm started this as rank 1 of 3", "rank 0 leads"),
            (job(None), &[], missing(), Status::Missing, "Slurm started this as rank 1", "cannot be loaded"),
            (Err(anyhow::anyhow!("use PMIx")), &[], Ok(()), Status::Missing, "one without PMIx", "use PMIx"),
        ] {
            let check = judge(launched, installed, library);
            assert_eq!((check.status, &check.found[..]), (status, found));
            assert!(check.advice.contains(advice), "{check:?}");
        }
    }
}
