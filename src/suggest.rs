//! Which known names a misspelt one may have meant.

/// Names below this similarity are no slips of a known one.
const SIMILAR_FROM: f64 = 0.8;
/// How much less similar than the most similar name another may be that is suggested beside it.
const CLOSE: f64 = 0.04;
/// At most so many names are suggested.
const SUGGESTED: usize = 3;

/// How similar two names are, from 0 to 1 (Jaro–Winkler), whatever their case. Of keys in the same table, the rest is compared: the table
/// would make all of them alike.
pub fn similarity(one: &str, other: &str) -> f64 {
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    match (one.rsplit_once('.'), other.rsplit_once('.')) {
        (Some((table, one)), Some((same, other))) if table == same => strsim::jaro_winkler(one, other),
        _ => strsim::jaro_winkler(&one, &other),
    }
}

/// The known names that are most similar to `name`: none if it resembles none.
pub fn similar<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    similar_by(|known| similarity(name, known), known)
}

/// The same, with a similarity of its own.
pub fn similar_by<'a>(similarity: impl Fn(&str) -> f64, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut rated: Vec<(f64, &str)> = known.into_iter().map(|known| (similarity(known), known)).collect();
    rated.sort_by(|one, other| other.0.total_cmp(&one.0));
    let least = rated.first().map_or(1.0, |(best, _)| best - CLOSE).max(SIMILAR_FROM);
    let mut names: Vec<&str> = Vec::new();
    for (_, name) in rated.iter().take_while(|(similarity, _)| *similarity >= least) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    names.truncate(SUGGESTED);
    names
}

/// `; did you mean "a" or "b"?`, each name as `shown`; empty without names.
pub fn did_you_mean(names: &[&str], shown: impl Fn(&str) -> String) -> String {
    let shown: Vec<String> = names.iter().map(|name| shown(name)).collect();
    match &shown[..] {
        [] => String::new(),
        [one] => format!("; did you mean {one}?"),
        [most @ .., last] => format!("; did you mean {} or {last}?", most.join(", ")),
    }
}

/// `; did you mean "a"?` where a name resembles known ones; empty where it does not.
pub fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    did_you_mean(&similar(name, known), |name| format!("\"{name}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_about_as_similar_as_the_most_similar_are_suggested() {
        let strategies = ["reuseport", "reuseport-cpu", "reuseport-random", "shared-epoll", "dispatcher"];
        assert_eq!(similar("reusport", strategies), ["reuseport"]);
        assert_eq!(similar("Dispatcher", strategies), ["dispatcher"]);
        assert_eq!(similar("zzz", strategies), [""; 0]);
        assert_eq!(similar("", strategies), [""; 0]);
        assert_eq!(similar("p9", ["p99", "p90", "p95", "p98", "p50"]).len(), SUGGESTED);
        assert_eq!(similar("rat", ["rate", "rate"]), ["rate"]);
    }

    #[test]
    fn keys_of_a_table_are_told_apart_by_the_rest() {
        let keys = ["server.workers", "server.backlog", "load.rate"];
        assert_eq!(similar("server.strategy", keys), [""; 0]);
        assert_eq!(similar("server.worker", keys), ["server.workers"]);
        assert_eq!(similar("sever.workers", keys), ["server.workers"]);
        assert_eq!(similar("Server.Backlog", keys), ["server.backlog"]);
    }

    #[test]
    fn a_hint_ends_a_sentence() {
        assert_eq!(hint("reusport", ["reuseport", "udp"]), "; did you mean \"reuseport\"?");
        assert_eq!(hint("p9", ["p99", "p90", "max"]), "; did you mean \"p99\" or \"p90\"?");
        assert_eq!(hint("zzz", ["level"]), "");
    }
}
