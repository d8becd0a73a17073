//! The results of `--fail-if` as files that continuous integration shows: JUnit's XML and TAP.
//!
//! A test is a condition in a cell. One that is met fails. One that cannot be decided is an error in JUnit and not ok in TAP, as it is
//! neither passed nor skipped: the exit code is 4.

use std::fmt::Write;

use super::condition::{Case, Decision, Judged};
use crate::format::harmless;

/// Are in every file of these forms: only such files are replaced.
pub const JUNIT: &str = "<testsuites name=\"listenbench compare\"";
pub const TAP: &str = "\n# listenbench compare\n";

/// A condition in a cell, in the order of the conditions.
fn tests(conditions: &[Judged]) -> impl Iterator<Item = (&str, &Case)> {
    conditions.iter().flat_map(|judged| judged.cells.iter().map(|case| (judged.condition.as_str(), case)))
}

/// JUnit's XML: a suite for each condition, a test case for each cell.
pub fn junit(conditions: &[Judged]) -> String {
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    let counts = |cases: &mut dyn Iterator<Item = &Case>| {
        let (mut all, mut failures, mut errors) = (0, 0, 0);
        for case in cases {
            all += 1;
            failures += usize::from(matches!(case.decision, Decision::Met(_)));
            errors += usize::from(matches!(case.decision, Decision::Undecided(_)));
        }
        format!("tests=\"{all}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\"")
    };
    let all = counts(&mut tests(conditions).map(|(_, case)| case));
    let _ = writeln!(text, "{JUNIT} {all}>");
    for judged in conditions {
        let (name, of_suite) = (xml(&judged.condition), counts(&mut judged.cells.iter()));
        let _ = writeln!(text, "  <testsuite name=\"{name}\" {of_suite}>");
        for Case { place, decision } in &judged.cells {
            let _ = write!(text, "    <testcase classname=\"{name}\" name=\"{}\"", xml(place));
            let _ = match decision {
                Decision::Met(why) => {
                    writeln!(text, ">\n      <failure type=\"met\" message=\"{}\"/>\n    </testcase>", xml(why))
                }
                Decision::Undecided(why) => {
                    writeln!(text, ">\n      <error type=\"undecided\" message=\"{}\"/>\n    </testcase>", xml(why))
                }
                Decision::NotMet(why) => {
                    writeln!(text, ">\n      <system-out>{}</system-out>\n    </testcase>", xml(why))
                }
            };
        }
        text += "  </testsuite>\n";
    }
    text + "</testsuites>\n"
}

/// TAP, version 13: a line for each test, with the figures as diagnostics.
pub fn tap(conditions: &[Judged]) -> String {
    let mut text = format!("TAP version 13\n1..{}{TAP}", tests(conditions).count());
    for (number, (condition, Case { place, decision })) in (1..).zip(tests(conditions)) {
        let (result, why) = match decision {
            Decision::Met(why) | Decision::Undecided(why) => ("not ok", why),
            Decision::NotMet(why) => ("ok", why),
        };
        let _ = writeln!(text, "{result} {number} - {}", description(&format!("{condition}: {place}")));
        // YAML takes JSON's strings.
        let _ = writeln!(text, "  ---\n  result: {}\n  message: {}\n  ...", quoted(decision.as_str()), quoted(why));
    }
    text
}

/// A text on one line, in an attribute or an element.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in harmless(text).chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\n' => escaped += "&#10;",
            '\t' => escaped += "&#9;",
            c => escaped.push(c),
        }
    }
    escaped
}

/// A test's description: `#` would begin a directive such as TODO, which makes a failure a success. Not all readers know TAP 14's
/// escape for it.
fn description(text: &str) -> String {
    harmless(text).replace('#', "＃").replace(['\n', '\t'], " ")
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(&*harmless(text)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged() -> Vec<Judged> {
        let case = |place: &str, decision| Case { place: place.to_owned(), decision };
        let of = |condition: &str, cells| Judged { cells, ..Judged::nothing(condition) };
        vec![
            of(
                "response_p99 worse than 5%",
                vec![
                    case(
                        "strategy=\"<a>\" & 'b'\n# TODO x|,\u{1b}[31m",
                        Decision::Met("12 % higher\n# SKIP".to_owned()),
                    ),
                    case("strategy=b", Decision::NotMet("1 % \"higher\"".to_owned())),
                ],
            ),
            of("accepted_per_s worse than 5%", vec![case("strategy=b", Decision::Undecided("too few: 3".to_owned()))]),
        ]
    }

    #[test]
    fn junit_has_a_case_for_each_condition_and_cell() {
        let text = junit(&judged());
        let document = roxmltree::Document::parse(&text).unwrap();
        let root = document.root_element();
        assert_eq!(
            ["tests", "failures", "errors", "skipped"].map(|name| root.attribute(name)),
            ["3", "1", "1", "0"].map(Some)
        );
        let cases: Vec<_> = document.descendants().filter(|node| node.has_tag_name("testcase")).collect();
        let result =
            |case: &roxmltree::Node<'_, '_>| case.first_element_child().map(|child| child.tag_name().name().to_owned());
        let results: Vec<_> = cases.iter().filter_map(result).collect();
        assert_eq!(results, ["failure", "system-out", "error"]);
        assert_eq!(cases[0].attribute("name"), Some("strategy=\"<a>\" & 'b'\n# TODO x|,\u{fffd}[31m"));
        assert_eq!(cases[0].attribute("classname"), Some("response_p99 worse than 5%"));
        let message = cases[0].first_element_child().and_then(|child| child.attribute("message").map(str::to_owned));
        assert_eq!(message.as_deref(), Some("12 % higher\n# SKIP"));
    }

    #[test]
    fn tap_never_takes_a_failure_for_a_todo() {
        let expected = "TAP version 13\n1..3\n# listenbench compare\n\
            not ok 1 - response_p99 worse than 5%: strategy=\"<a>\" & 'b' ＃ TODO x|,\u{fffd}[31m\n  ---\n  result: \"met\"\n  \
            message: \"12 % higher\\n# SKIP\"\n  ...\n\
            ok 2 - response_p99 worse than 5%: strategy=b\n  ---\n  result: \"not met\"\n  message: \"1 % \\\"higher\\\"\"\n  ...\n\
            not ok 3 - accepted_per_s worse than 5%: strategy=b\n  ---\n  result: \"undecided\"\n  message: \"too few: 3\"\n  ...\n";
        assert_eq!(tap(&judged()), expected);
    }
}
