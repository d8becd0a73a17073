//! What a load host does: it serves rank 0 until that says that the run is over.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::super::{Ended, capacity, interrupt_flag};
use crate::{
    context::Side,
    format,
    hosts::{Agent, Broken, Frame},
    ipc::family::{Cut, Patience},
    observe::host,
    record::HostRole,
    scenario::{Plan, Source},
    sys::{addresses, process},
    trial::{
        self,
        hosts::{Order, Rehearsed, Task, Word},
    },
};

/// How long rank 0 may take to be reached again.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Serves rank 0.
pub(super) fn serve(mut agent: Agent) -> Result<Ended> {
    let interrupted = interrupt_flag()?;
    process::adopt_orphans().context("prctl(PR_SET_CHILD_SUBREAPER)")?;
    attend(&mut agent, &mut Plans::default(), (At::Home, &interrupted))
}

/// Whom a host listens to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// To rank 0.
    Home,
    /// To the host of another server, until that is done, or gone: rank 0 knows what comes next.
    Visit,
}

/// Does what the host at the other end of the link says.
fn attend(agent: &mut Agent, plans: &mut Plans, (at, interrupted): (At, &AtomicBool)) -> Result<Ended> {
    loop {
        let order = match agent.link.receive(Patience::of(Duration::MAX).unless(interrupted)) {
            Ok(Frame::Value(order)) => order,
            Ok(Frame::Histogram(name, _)) => bail!("rank 0 sent a histogram, {name}, where nothing was expected"),
            Err(Broken::Cut(Cut::Interrupted)) => return Ok(Ended::Interrupted),
            Err(_) if at == At::Visit => return Ok(Ended::Done),
            // Whoever used its end last may have left half a message.
            Err(Broken::Ended(_)) => {
                rejoin(agent)?;
                continue;
            }
            Err(broken) => return Err(broken).context("hearing rank 0"),
        };
        match order {
            Order::Over => return Ok(Ended::Done),
            Order::Rehearse(task) => {
                let patience = Patience::of(trial::SETUP_PATIENCE).unless(interrupted);
                let found = plans.of(&task).and_then(|plan| rehearse(plan, &task, patience));
                let word = match found {
                    Ok(found) => Word::Rehearsed(found),
                    Err(error) => Word::Failed(format::causes(&error)),
                };
                // A link that has ended says so when it is read.
                let _ = agent.link.send(&word);
            }
            Order::SetUp(task) => {
                let parted = trial::hosts::lend(plans.of(&task)?, &task, &mut agent.link, interrupted)?;
                if interrupted.load(Relaxed) {
                    return Ok(Ended::Interrupted);
                }
                match at {
                    _ if parted.in_step => {}
                    At::Home => rejoin(agent)?,
                    At::Visit => return Ok(Ended::Done),
                }
            }
            Order::Visit(card) if at == At::Home => {
                let patience = Patience::of(trial::SETUP_PATIENCE).unless(interrupted);
                // The host that cannot be visited misses this one, and tells rank 0.
                if let Ok(mut visiting) = agent.visit(&card, patience) {
                    attend(&mut visiting, plans, (At::Visit, interrupted))?;
                }
                if interrupted.load(Relaxed) {
                    return Ok(Ended::Interrupted);
                }
            }
            Order::Conduct(task) if at == At::Home => {
                let own = addresses::own().context("getifaddrs")?;
                let here = host::facts(agent.rank, HostRole::Server, own);
                let conducted = trial::hosts::conduct(agent, here, (plans.of(&task)?, &task), interrupted);
                if interrupted.load(Relaxed) {
                    return Ok(Ended::Interrupted);
                }
                // Half a record may be under way.
                if conducted.is_err() {
                    rejoin(agent)?;
                }
            }
            order => bail!("rank 0 said {order:?} between two trials"),
        }
    }
}

/// Tries this host's part of a cell's trials, and whether it can hold its part of the connections.
fn rehearse(plan: &Plan, task: &Task, patience: Patience<'_>) -> Result<Result<Rehearsed, (String, String)>> {
    let found = trial::hosts::rehearse(plan, task, patience)?;
    let with_lack = |found: Rehearsed| {
        let lack = capacity::lack(&task.cell_here(plan)?, &task.sizing, &found.ports, Side::Load)?;
        Ok(Rehearsed { lack, ..found })
    };
    found.map_or_else(|refused| Ok(Err(refused)), |found| with_lack(found).map(Ok))
}

fn rejoin(agent: &mut Agent) -> Result<()> {
    agent
        .reconnect(Patience::of(RECONNECT_PATIENCE))
        .with_context(|| format!("rank {} lost its connection to rank 0 before the run was over", agent.rank))
}

/// The plan of the trials so far: it is the same for most.
#[derive(Default)]
struct Plans {
    last: Option<(Task, Plan)>,
}

impl Plans {
    fn of(&mut self, task: &Task) -> Result<&Plan> {
        let is_same = |known: &Task| known.scenario == task.scenario && known.source == task.source;
        if !self.last.as_ref().is_some_and(|(known, _)| is_same(known)) {
            let plan = Plan::read(&Source { name: &task.source, text: &task.scenario }, &[])?;
            self.last = Some((task.clone(), plan));
        }
        Ok(&self.last.as_ref().expect("just read").1)
    }
}
