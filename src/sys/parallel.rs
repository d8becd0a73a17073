//! Work that is spread over the processors, for as long as a call takes: a process that forks afterwards is one thread again.

use std::{
    panic,
    thread::{self, Builder, ScopedJoinHandle},
};

/// Beyond these, what one thread does with the results takes longer than all others need for theirs.
const MOST_THREADS: usize = 8;

/// What `each` makes of the items, in their order. Every thread has its own state, which `state` makes.
pub fn map<'a, T, S, R>(
    items: &'a [T],
    state: impl Fn() -> S + Sync,
    each: impl Fn(&mut S, &'a T) -> R + Sync,
) -> Vec<R>
where
    T: Sync,
    R: Send,
{
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let work = |part: &'a [T]| {
        let mut state = state();
        part.iter().map(|item| each(&mut state, item)).collect::<Vec<R>>()
    };
    let work = &work;
    let mut parts = items.chunks(items.len().div_ceil(threads).max(1));
    let Some(own) = parts.next() else { return Vec::new() };
    thread::scope(|scope| {
        // Where no thread can be had, this one does it all.
        let others: Vec<_> = parts.map(|part| (part, Builder::new().spawn_scoped(scope, move || work(part)))).collect();
        let mut all = work(own);
        for (part, thread) in others {
            all.extend(thread.map_or_else(|_| work(part), joined));
        }
        all
    })
}

/// Both at once.
pub fn both<A, B: Send>(one: impl FnOnce() -> A, other: impl Fn() -> B + Sync) -> (A, B) {
    thread::scope(|scope| {
        let thread = Builder::new().spawn_scoped(scope, &other);
        let one = one();
        let other = thread.map_or_else(|_| other(), joined);
        (one, other)
    })
}

fn joined<R>(thread: ScopedJoinHandle<'_, R>) -> R {
    thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_items_order() {
        for count in [0, 1, 2, 7, 1_000] {
            let items: Vec<usize> = (0..count).collect();
            let doubled = map(&items, || 2, |factor, item| *factor * item);
            assert_eq!(doubled, items.iter().map(|item| 2 * item).collect::<Vec<_>>());
        }
    }

    #[test]
    fn both_results_are_returned() {
        assert_eq!(both(|| 1, || "other"), (1, "other"));
    }

    #[test]
    fn a_state_is_of_one_thread() {
        let numbers = map(
            &[(); 100],
            || 0,
            |number, ()| {
                *number += 1;
                *number
            },
        );
        // Each thread counts its own part from 1.
        assert_eq!(numbers[0], 1);
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1 || pair[1] == 1));
    }
}
