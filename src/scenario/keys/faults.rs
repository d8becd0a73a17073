//! Keys of faults. Each `[[fault]]` is an instance: `fault.0.at` is the first one's `fault.at`.

use super::{
    SERVER_WORKERS,
    domain::{Choice, Integer, Optional, OrWord, POSITIVE_SPAN, SPAN, Span, choice, integer, or_word},
    keys,
};
use crate::record::EventKind;

keys! { FAULT:
    FAULT_KIND: OrWord<Choice<EventKind>> = "fault.kind", or_word("none", choice()), Some(EventKind::Stall),
        "`stall`: stop the worker (SIGSTOP). `burn`: make it burn CPU without serving anyone. `kill`: SIGKILL. \
         `none`: nothing, for sweeps.";
    FAULT_WORKER: Integer<usize> = "fault.worker", integer(0, SERVER_WORKERS.max() - 1), 0,
        "The worker's number, from 0.";
    FAULT_AT: Optional<Span> = "fault.at", Optional(SPAN), None,
        "When the fault starts, from the trial's start. Required.";
    FAULT_FOR: Optional<Span> = "fault.for", Optional(POSITIVE_SPAN), None,
        "How long the fault lasts. Required for `burn`; without it, a stall lasts until the trial ends. Not for \
         `kill`.";
}
