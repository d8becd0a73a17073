//! Whether a launcher started this process, as far as the environment says.

use std::env;

use anyhow::{Result, bail};

/// What started this process, and what its job looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// Its name, such as `Slurm`.
    pub launcher: &'static str,
    /// This process's number in the job.
    pub rank: usize,
    /// Number of processes in the job; `None` if the environment does not say, so that only PMIx does.
    pub size: Option<usize>,
}

/// The launcher that started this process in a job of several; `None` without one. Fails if there is one that offers no PMIx, since each
/// process would believe itself alone.
pub fn launched() -> Result<Option<Launched>> {
    read(|name| env::var(name).ok())
}

fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Launched>> {
    let number = |name: &str| variable(name).and_then(|text| text.trim().parse::<usize>().ok());
    let is_set = |name: &str| variable(name).is_some();
    // A launcher within an allocation of another inherits the other's variables: Slurm's mean something only by themselves.
    let (launcher, size) = if is_set("OMPI_COMM_WORLD_SIZE") {
        ("Open MPI", number("OMPI_COMM_WORLD_SIZE"))
    } else if is_set("PRTE_LAUNCHED") {
        ("PRRTE", None)
    } else if is_set("SLURM_STEP_ID") {
        ("Slurm", number("SLURM_STEP_NUM_TASKS"))
    } else {
        ("a launcher with PMIx", None)
    };
    if let (true, Some(rank)) = (is_set("PMIX_NAMESPACE"), number("PMIX_RANK")) {
        return Ok((size != Some(1)).then_some(Launched { launcher, rank, size }));
    }
    let (size, named) = match size {
        Some(size) if launcher == "Slurm" => (size, "SLURM_STEP_ID"),
        Some(size) => (size, "OMPI_COMM_WORLD_SIZE"),
        None => (number("PMI_SIZE").unwrap_or(1), "PMI_SIZE"),
    };
    if size > 1 {
        let remedy = match launcher {
            "Slurm" => "use `srun --mpi=pmix`",
            _ => "use Open MPI's mpirun (version 4 or newer), `srun --mpi=pmix` or prterun",
        };
        bail!(
            "a launcher started {size} processes without PMIx, so they cannot find each other: {remedy}; to run on this host alone, unset {named}"
        );
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Option<Launched>> {
        read(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    const PMIX: [(&str, &str); 2] = [("PMIX_NAMESPACE", "318832641"), ("PMIX_RANK", "2")];

    #[test]
    fn each_launcher_is_known_by_its_variables() {
        for (variables, launcher, size) in [
            (&[("OMPI_COMM_WORLD_SIZE", "3")][..], "Open MPI", Some(3)),
            // Open MPI 5 starts through PRRTE, and may itself run within an allocation of Slurm.
            (&[("PRTE_LAUNCHED", "1"), ("OMPI_COMM_WORLD_SIZE", "3"), ("SLURM_STEP_ID", "0")], "Open MPI", Some(3)),
            (&[("PRTE_LAUNCHED", "1"), ("SLURM_STEP_NUM_TASKS", "1")], "PRRTE", None),
            (&[("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "2")], "Slurm", Some(2)),
            (&[], "a launcher with PMIx", None),
        ] {
            let found = with(&[&PMIX, variables].concat()).unwrap();
            assert_eq!(found, Some(Launched { launcher, rank: 2, size }));
        }
    }

    #[test]
    fn a_job_of_one_is_none() {
        assert_eq!(with(&[]).unwrap(), None);
        assert_eq!(with(&[&PMIX[..], &[("OMPI_COMM_WORLD_SIZE", "1")]].concat()).unwrap(), None);
        assert_eq!(with(&[("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "1")]).unwrap(), None);
        // A batch script runs outside any job step, even with these variables set.
        assert_eq!(with(&[("SLURM_JOB_ID", "7"), ("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0")]).unwrap(), None);
        assert_eq!(with(&[("PMI_RANK", "0"), ("PMI_SIZE", "1")]).unwrap(), None);
    }

    #[test]
    fn a_job_without_pmix_is_refused() {
        for (variables, remedy) in [
            (
                &[("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "2"), ("PMI_SIZE", "2")][..],
                "use `srun --mpi=pmix`; to run on this host alone, unset SLURM_STEP_ID",
            ),
            (&[("PMI_RANK", "0"), ("PMI_SIZE", "2")], "or prterun; to run on this host alone, unset PMI_SIZE"),
            // As old versions of Open MPI start it.
            (
                &[("OMPI_COMM_WORLD_SIZE", "2")],
                "version 4 or newer), `srun --mpi=pmix` or prterun; to run on this host alone, unset OMPI_",
            ),
        ] {
            let error = with(variables).unwrap_err().to_string();
            assert!(
                error.starts_with("a launcher started 2 processes without PMIx") && error.contains(remedy),
                "{error}"
            );
        }
    }
}
