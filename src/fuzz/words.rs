//! Words of the command line.

use std::str;

use crate::{
    cli::{Host, Target},
    commands::compare::condition::Condition,
    stats,
};

/// The server that `load` and `observe` are given.
pub fn server(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let Ok(target) = text.parse::<Target>() else { return };
    assert_eq!(target.port == 0, matches!(target.host, Host::Unix(_)));
    assert_eq!(target.to_string().parse(), Ok(target.clone()), "what is shown is what was given");
    if let Some(authority) = target.authority() {
        assert!(authority.bytes().all(|byte| byte.is_ascii_graphic()), "{authority:?} is in a request's head");
        let scheme = if target.url.is_some() { "http://" } else { "" };
        let again: Target = format!("{scheme}{authority}").parse().expect("a Host header names a server");
        assert_eq!((again.host, again.port), (target.host, target.port), "of {authority}");
    }
    if let Some(path) = target.url.and_then(|url| url.path) {
        assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}

/// The condition that `compare --fail-if` is given.
pub fn fail_if(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    match Condition::parse(text) {
        Ok(condition) => {
            let name = condition.metric.name;
            assert!(stats::metric_named(name).is_some() && text.contains(name.trim_end_matches("_ns")));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
