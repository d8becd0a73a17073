//! Whole records: read, summarised, and reported in every form.

use std::{fs, path::Path};

use crate::{
    cli, commands,
    record::reader::{FILES, HOST, SCENARIO, TRIALS},
    report::{
        Reading, Report,
        comparison::Style,
        history::{History, Run},
        terminal,
    },
    sys::folder::Folder,
};

/// What begins a line that names a file.
const HEAD: &str = "== ";

/// A record's files, each below a line with its name; what comes before the first such line are its trials.
pub fn report(input: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(input, folder.path());
    let folder = Folder::open(folder.path()).expect("the folder just made");
    let Ok(mut reading) = Reading::of(&folder) else { return };
    let report = reading.report();
    check(&report);
    let of = |name: &str, reading: &Reading| Run::of(name.to_owned(), None, reading);
    let runs = vec![of("one", &reading), of("copy", &reading)];
    // Another run, not a copy.
    for trial in &mut reading.record.raw.trials {
        trial.started_at.push('Z');
    }
    let runs = runs.into_iter().chain([of("two", &reading)]).collect();
    check_html(&History::of(runs).page("all", &[]));
}

/// The same as the new side of a comparison.
pub fn compare(input: &[u8]) {
    let (base, new) = (tempfile::tempdir().expect("a temporary folder"), tempfile::tempdir().expect("another"));
    write(BASE, base.path());
    write(input, new.path());
    let options = cli::Compare {
        base: vec![base.path().to_owned(), new.path().to_owned()],
        new: Vec::new(),
        metrics: Vec::new(),
        fail_if: vec!["response_p99 worse than 5%".to_owned()],
        json: false,
        markdown: false,
        html: None,
        junit: None,
        tap: None,
    };
    let Ok(comparison) = commands::compare::compare(&options) else { return };
    let json = serde_json::to_string(&comparison).expect("JSON");
    serde_json::from_str::<serde_json::Value>(&json).expect("JSON");
    for style in [Style::Terminal, Style::Markdown] {
        assert!(!commands::compare::in_words(&comparison, style).is_empty());
    }
    assert!(commands::compare::page(&comparison).ends_with("</html>"));
    assert!(commands::compare::junit(&comparison).ends_with("</testsuites>\n"));
}

/// A record with what little a reader needs.
const BASE: &[u8] = include_bytes!("../../tests/corpus/report/base");

fn write(input: &[u8], folder: &Path) {
    for (name, text) in [(HOST, "{\"schema\":2}"), (SCENARIO, "")] {
        fs::write(folder.join(name), text).expect("a file in a temporary folder");
    }
    let (mut name, mut text) = (TRIALS, Vec::new());
    let lines = input.split_inclusive(|byte| *byte == b'\n').map(Some).chain([None]);
    for line in lines {
        let next = line.map_or(Some(""), |line| {
            let named = str::from_utf8(line.strip_prefix(HEAD.as_bytes())?).ok()?.trim_end();
            FILES.into_iter().find(|file| *file == named)
        });
        match next {
            None => text.extend_from_slice(line.unwrap_or_default()),
            Some(next) => {
                fs::write(folder.join(name), &text).expect("a file in a temporary folder");
                text.clear();
                name = next;
            }
        }
    }
}

/// Every form is what it claims to be, whatever the record says.
fn check(report: &Report<'_>) {
    assert!(!terminal::render(&report.document, Some(80)).is_empty());
    for (name, text) in report.files().expect("every form") {
        assert!(!name.contains("..") && !name.contains(char::is_control), "{name:?}");
        match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
            "json" => drop(serde_json::from_str::<serde_json::Value>(&text).expect("JSON")),
            "csv" => {
                for row in csv::Reader::from_reader(text.as_bytes()).records() {
                    for field in row.expect("rows of equal length").iter() {
                        let is_formula =
                            field.starts_with(['=', '+', '-', '@', '\t', '\r']) && field.parse::<f64>().is_err();
                        assert!(!is_formula, "{field:?} of {name}");
                    }
                }
            }
            "txt" => {
                assert_printable(&text);
                let is_expected = match &name[..] {
                    "benchstat.txt" => is_benchmark,
                    "lkp.txt" => is_pair,
                    _ => is_sample,
                };
                let odd = text.lines().find(|line| !line.starts_with("# ") && !is_expected(line));
                assert_eq!(odd, None, "{name}");
                assert!(name != "metrics.txt" || text.ends_with("# EOF\n"));
            }
            "md" => assert_printable(&text),
            "html" => check_html(&text),
            _ => {}
        }
    }
}

/// Whether a line is `name{labels} value`, with an even number of unescaped quotation marks.
fn is_sample(line: &str) -> bool {
    let Some((head, value)) = line.rsplit_once(' ') else { return false };
    let mut quotes = 0;
    let mut escaped = false;
    for c in head.chars() {
        quotes += usize::from(c == '"' && !escaped);
        escaped = c == '\\' && !escaped;
    }
    quotes % 2 == 0 && value.parse::<f64>().is_ok() && head.starts_with("listenbench_")
}

/// Whether a line is a benchmark's name, its iterations and pairs of value and unit, says something of a unit, or is empty.
fn is_benchmark(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    match &words[..] {
        [] => true,
        ["Unit", _, fact] => fact.starts_with("better="),
        [name, "1", pairs @ ..] => {
            let are_numbers = pairs.iter().step_by(2).all(|value| value.parse::<f64>().is_ok_and(f64::is_finite));
            name.starts_with("Benchmark/scenario=") && !pairs.is_empty() && pairs.len() % 2 == 0 && are_numbers
        }
        _ => false,
    }
}

/// Whether a line is `key: value`, with a number.
fn is_pair(line: &str) -> bool {
    let pair = line.split_once(": ");
    pair.is_some_and(|(key, value)| {
        key.starts_with("listenbench.") && !key.contains([' ', ':']) && value.parse::<f64>().is_ok_and(f64::is_finite)
    })
}

/// Text of a record adds no element: those of the page are of these kinds.
fn check_html(page: &str) {
    const ELEMENTS: &str = "html head meta title link style body main header nav section div span p code h1 h2 h3 button ul li dl dt dd details \
        summary i pre figure figcaption table thead tbody tr th td a br svg text line polyline polygon rect path g circle title script";
    let mut rest = page;
    while let Some((_, after)) = rest.split_once('<') {
        let name: String = after.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        let name = name.to_ascii_lowercase();
        assert!(after.starts_with("!DOCTYPE") || ELEMENTS.split_whitespace().any(|known| known == name), "<{name}>");
        rest = after;
        // What a script or a style sheet says is not markup.
        if let Some((_, after)) =
            rest.split_once(&format!("</{name}>")).filter(|_| ["script", "style"].contains(&&name[..]))
        {
            rest = after;
        }
    }
    assert_eq!(page.matches("<script").count(), page.matches("</script>").count());
}

fn assert_printable(text: &str) {
    let odd = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(odd, None, "{text}");
}
