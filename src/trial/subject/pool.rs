//! A server whose workers are threads of one process, which is forked like a worker and starts its threads itself.

use std::{fs::File, sync::mpsc, thread};

use anyhow::{Context, Result, anyhow};

use super::own::help;
use crate::{
    context::TrialContext,
    ipc::family::Sender,
    server::{
        Intake, Worker, WorkerSetUp,
        accept::{Helper, Pooled},
    },
};

/// Runs the workers in threads named by `name`, and accepts for them, until the trial ends. Sends how they were set up, by worker.
pub(super) fn run(
    context: &TrialContext,
    (accepting, acceptors): (Box<dyn Helper>, Vec<Pooled>),
    workers: Vec<Worker>,
    name: impl Fn(usize) -> String,
    sender: &mut Sender<File>,
) -> Result<Vec<WorkerSetUp>> {
    let (ready, reports) = mpsc::channel();
    let mut threads = Vec::with_capacity(workers.len());
    for (worker, acceptor) in workers.into_iter().zip(acceptors) {
        let (number, ready) = (worker.number, ready.clone());
        let run = move || {
            let intake = Intake { acceptor: Some(acceptor), receiver: None };
            // Nobody receives it once another thread has failed.
            worker.run(intake, move |set_up| Ok(ready.send((number, set_up.clone()))?))
        };
        let thread = thread::Builder::new().name(name(number)).spawn(run);
        threads.push(thread.context("starting a thread of the pool")?);
    }
    drop(ready);
    let mut set_ups: Vec<(usize, WorkerSetUp)> = reports.iter().collect();
    set_ups.sort_unstable_by_key(|(number, _)| *number);
    let set_ups: Vec<WorkerSetUp> = set_ups.into_iter().map(|(_, set_up)| set_up).collect();
    if set_ups.len() < threads.len() {
        // Those that are ready would wait for ever at the barrier: they end with the process.
        let failed = threads.into_iter().find(|thread| thread.is_finished());
        return Err(failed.map_or_else(|| anyhow!("a thread of the pool did not start"), |thread| ended(thread.join())));
    }
    help(accepting, context, |_| sender.json(&set_ups))?;
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a thread of the pool panicked"))??;
    }
    Ok(set_ups)
}

/// How a thread ended too early.
fn ended(result: thread::Result<Result<WorkerSetUp>>) -> anyhow::Error {
    match result {
        Ok(Ok(_)) => anyhow!("a thread of the pool ended early"),
        Ok(Err(error)) => error,
        Err(_) => anyhow!("a thread of the pool panicked"),
    }
}
