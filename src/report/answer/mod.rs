//! The answers to a scenario's question, a sentence for each metric it asks about, with evidence. They claim what a verdict shows
//! and no more.

mod exact;
mod fate;
mod lost;
mod qualified;
mod sampled;
mod search;
mod valid;

use schemars::JsonSchema;
use serde::Serialize;

pub use exact::clause as exactly;
pub use lost::clause as lost;
pub use sampled::clause as sampled;
pub use search::{status, value};

use super::{
    claims::capital,
    ranking::{Group, Ranking, Row, ranking},
};
use crate::stats::{Kind, Metric, Record, Summary};

/// More names than this are counted rather than listed.
const NAMED: usize = 4;

/// Follows what an emulated processor's times seem to say.
const EMULATED: &str = " The processor was emulated: only counts are judged, not times or rates.";

/// What a metric answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Answer {
    /// The metric by name; with `[search]`, the key that was searched.
    pub metric: String,
    /// One or two sentences.
    pub sentence: String,
    /// What supports it, one line each.
    pub evidence: Vec<String>,
    /// What qualifies the figures of whole cells, one line each.
    pub verdicts: Vec<String>,
}

/// Answers a scenario's question: metric by metric, the headline first.
pub fn answers(record: &Record, summary: &Summary) -> Vec<Answer> {
    let verdicts = qualified::lines(summary);
    if !summary.searches.is_empty() {
        let mut answer = Answer { verdicts, ..search::of_search(record, summary) };
        if summary.is_emulated() {
            answer.sentence += EMULATED;
        }
        return vec![answer];
    }
    let rankings: Vec<Ranking> = summary.asked.iter().map(|metric| ranking(summary, metric)).collect();
    // Said once, with the first of them.
    let (untested, why) = if summary.is_emulated() {
        (rankings.iter().position(|ranking| ranking.metric.is_timed()), EMULATED)
    } else {
        let untested = rankings.iter().position(|ranking| sampled::is_untested(summary, ranking));
        (untested, " One trial per cell: differences are not tested.")
    };
    // Without a valid trial, there is one thing to say.
    let is_any_valid = summary.cells.iter().any(|cell| cell.valid > 0);
    let mut answers: Vec<Answer> = rankings
        .iter()
        .enumerate()
        .filter(|(place, ranking)| *place == 0 || is_any_valid || ranking.metric.of_all_trials)
        .map(|(place, ranking)| {
            let (mut sentence, evidence) = answer(record, summary, ranking);
            if Some(place) == untested {
                sentence += why;
            }
            Answer { metric: ranking.metric.name.to_owned(), sentence, evidence, verdicts: verdicts.clone() }
        })
        .collect();
    if let [headline, others @ ..] = &rankings[..] {
        answers[0].sentence += &sampled::disagreement(headline, others);
    }
    answers
}

/// A metric's sentence and its evidence.
fn answer(record: &Record, summary: &Summary, ranking: &Ranking) -> (String, Vec<String>) {
    let metric = ranking.metric;
    let valid: usize = summary.cells.iter().map(|cell| cell.valid).sum();
    if metric.of_all_trials && !record.trials.is_empty() {
        return valid::answer(record, summary);
    }
    if valid == 0 {
        let fate = fate::of(&record.trials.iter().collect::<Vec<_>>());
        let sentence = match record.trials.len() {
            0 if !record.flaws.is_empty() => {
                format!("No trial can be read, so {} {} unknown.", lower(&the(metric)), metric.is())
            }
            0 => format!("No trial was run, so {} {} unknown.", lower(&the(metric)), metric.is()),
            1 => format!("{}.", capital(&fate)),
            _ => format!("No trial is valid: {fate}."),
        };
        return (sentence, Vec::new());
    }
    let known = rows(ranking).any(|(_, row)| row.values.is_some());
    if !known {
        // A cell without a valid trial has no figure either, and not for that reason.
        let without = without(record, summary, ranking);
        let sentence = match (metric.absent, valid) {
            (Some(meaning), _) if without.is_empty() => format!("{}: none; {meaning}.", capital(metric.label)),
            (Some(_), _) => {
                let absent = exact::absent(ranking).unwrap_or_default();
                format!("{}: none in {absent}.", capital(metric.label))
            }
            (None, 1) => format!("{} {} unknown: the one valid trial did not measure it.", the(metric), metric.is()),
            (None, _) => {
                format!("{} {} unknown: none of the {valid} valid trials measured it.", the(metric), metric.is())
            }
        };
        return (sentence + &without, Vec::new());
    }
    let (sentence, evidence) = match metric.kind {
        _ if metric.is_loss => (lost::clause(record, summary, ranking), lost::evidence(record, summary, ranking)),
        Kind::Exact | Kind::Counted => (exact::clause(ranking), exact::evidence(ranking)),
        Kind::Sampled => {
            let absent = metric.absent.and_then(|_| exact::absent(ranking));
            let absent = absent.map_or_else(String::new, |absent| format!(". No figure for {absent}"));
            (sampled::clause(summary, ranking) + &absent, sampled::evidence(summary, ranking))
        }
    };
    (format!("{sentence}.{}{}", apart(ranking), without(record, summary, ranking)), evidence)
}

/// Where cells with the same settings measured different accept waits: that they are not compared, and what can be instead.
fn apart(ranking: &Ranking) -> &'static str {
    match ranking.groups.iter().any(|group| group.waits.is_some()) {
        true => {
            " Waits that were measured differently, or end at different events, are not compared; responses can be."
        }
        false => "",
    }
}

/// All cells of a ranking, each with its group.
fn rows(ranking: &Ranking) -> impl Iterator<Item = (&Group, &Row)> {
    ranking.groups.iter().flat_map(|group| group.rows.iter().map(move |row| (group, row)))
}

/// Cells without a valid trial, where others have one.
fn without(record: &Record, summary: &Summary, ranking: &Ranking) -> String {
    let missing = rows(ranking).filter(|(_, row)| summary.cells[row.cell].valid == 0);
    let missing: Vec<String> = missing
        .map(|(group, row)| {
            let values = &summary.cells[row.cell].cell;
            let trials: Vec<_> = record.trials.iter().filter(|trial| trial.cell == *values).collect();
            format!("{} has no valid trial: {}.", row.full_name(group), fate::of(&trials))
        })
        .collect();
    match missing.len() {
        0 => String::new(),
        1..=NAMED => format!(" {}", missing.join(" ")),
        count => format!(" {count} cells have no valid trial, such as this one: {}", missing[0]),
    }
}

/// A metric as the subject of a sentence: `The accept wait p99`, `Accepts`.
fn the(metric: &Metric) -> String {
    if metric.is() == "are" { capital(metric.label) } else { format!("The {}", metric.label) }
}

/// The same within a sentence.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::{
        record::{LatencySummary, Outcome, SubjectKind, TrialRecord, VerdictName},
        report::sample::{beside_nginx, mixed, two_strategies},
        stats::{Bootstrap, compare_cells, fixture, metric_named, summarize},
    };

    /// The answers of a record whose trials failed where a cell has no values: cells with the values of each metric asked about.
    fn answered(metrics: &[&str], cells: &[(Json, &[&[f64]])]) -> Vec<Answer> {
        let trial = |(number, (cell, values)): (usize, &(Json, &[&[f64]]))| {
            let failed = values.iter().all(|values| values.is_empty());
            let outcome = if failed { Outcome::Failed } else { Outcome::Valid };
            let error = failed.then(|| "no such device".to_owned());
            TrialRecord { cell_index: number, error, ..fixture::trial(number, cell, outcome) }
        };
        let trials: Vec<TrialRecord> = cells.iter().enumerate().map(trial).collect();
        let mut record = fixture::record(trials);
        record.whole.answers = metrics.iter().map(|metric| (*metric).to_owned()).collect();
        let mut summary = summarize(&record);
        for (cell, (_, values)) in summary.cells.iter_mut().zip(cells) {
            cell.valid *= values.iter().map(|values| values.len()).max().unwrap_or(0);
            cell.metrics = metrics
                .iter()
                .zip(*values)
                .filter_map(|(metric, values)| {
                    Some((metric_named(metric)?.name.to_owned(), Bootstrap::new(1).estimate(values.to_vec())?))
                })
                .collect();
        }
        summary.comparisons =
            compare_cells(&summary.cells, &summary.compare, (&summary.asked, &summary.metrics), (1, 1));
        answers(&record, &summary)
    }

    #[test]
    fn each_population_has_an_answer() {
        let reading = mixed(20);
        let answers = answers(&reading.record, &reading.summary);
        let [kept, storm] = &answers[..] else { panic!("{} answers", answers.len()) };
        assert_eq!((&kept.metric[..], &storm.metric[..]), ("kept.response_p99_ns", "storm.response_p99_ns"));
        assert_eq!(
            kept.sentence,
            "reuseport has the lowest response p99 of kept, 203 µs; shared's is 19.63× that. But response p99 of storm: no \
             difference shown (1.01× is the smallest ratio the test could have shown)."
        );
        assert!(storm.sentence.starts_with("No difference is shown in response p99 of storm"), "{}", storm.sentence);
    }

    fn sentence(metric: &str, cells: &[(Json, &[f64])]) -> String {
        let cells: Vec<(Json, Vec<&[f64]>)> =
            cells.iter().map(|(cell, values)| (cell.clone(), vec![*values])).collect();
        let cells: Vec<(Json, &[&[f64]])> = cells.iter().map(|(cell, values)| (cell.clone(), &values[..])).collect();
        answered(&[metric], &cells).remove(0).sentence
    }

    fn wait(cells: &[(Json, &[f64])]) -> String {
        sentence("accept_wait_p99", cells)
    }

    const LOW: &[f64] = &[1.0e6, 1.1e6, 1.2e6, 1.3e6, 1.4e6];
    const HIGH: &[f64] = &[4.0e6, 4.1e6, 4.8e6, 5.3e6, 5.4e6];

    #[test]
    fn a_shown_difference_comes_with_its_size() {
        let cells = [(json!({"strategy": "reuseport"}), &[HIGH][..]), (json!({"strategy": "dispatcher"}), &[LOW])];
        let answer = answered(&["accept_wait_p99"], &cells).remove(0);
        assert_eq!(answer.sentence, "dispatcher has the lowest accept wait p99, 1.20 ms; reuseport's is 4.00× that.");
        assert!(answer.evidence[0].contains("95 % interval 1.00 ms to 1.40 ms, 5 valid trials"), "{answer:?}");
        assert!(answer.evidence[1].contains("p = 0.0079") && answer.evidence[1].contains("shown to be higher"));
    }

    #[test]
    fn an_emulated_processor_answers_with_counts_alone() {
        let mut reading = two_strategies(2);
        reading.record.raw.host["virtualization"] = json!("emulated");
        let answered = |record: &Record| {
            let answers = answers(record, &summarize(record));
            answers.into_iter().map(|answer| answer.sentence).collect::<Vec<_>>()
        };
        let sentences = answered(&reading.record);
        assert!(sentences[0].ends_with(EMULATED), "{sentences:?}");
        assert!(
            sentences.iter().all(|sentence| !sentence.contains('×') && !sentence.contains("lowest")),
            "{sentences:?}"
        );
        assert!(sentences[1..].iter().all(|sentence| !sentence.contains("emulated")), "said once: {sentences:?}");
        reading.record.whole.answers = vec!["valid_share".to_owned()];
        assert!(!answered(&reading.record)[0].contains("emulated"), "a count is judged");
    }

    #[test]
    fn waits_that_end_differently_are_ranked_apart() {
        let mut reading = beside_nginx();
        reading.record.whole.answers = ["response_p99", "accept_wait_p99"].map(str::to_owned).to_vec();
        for (number, trial) in reading.record.raw.trials.iter_mut().enumerate() {
            // Clients see nginx serve last, whatever its waits until accept.
            let response = if trial.subject.kind == SubjectKind::Own { 1_000_000 } else { 3_000_000 };
            let p99 = Some(response + 1_000 * number as u64);
            trial.latency_ns.response = LatencySummary { due: 240, count: 240, p99, ..LatencySummary::default() };
        }
        let answers = answers(&reading.record, &summarize(&reading.record));
        let waits = &answers[1];
        let among_nginx = "; of waits until accept returned, nginx has the lowest accept wait p99, ";
        assert!(waits.sentence.contains(among_nginx), "{}", waits.sentence);
        assert!(
            waits.sentence.ends_with(
                ". Waits that were measured differently, or end at different events, are not compared; responses can be."
            ),
            "{}",
            waits.sentence
        );
        assert!(
            waits
                .evidence
                .iter()
                .all(|line| !(line.contains("nginx against reuseport") || line.contains("shared against nginx")))
        );
        // A ranking of other cells does not disagree.
        assert!(!answers[0].sentence.contains("But "), "{}", answers[0].sentence);
        // Without them, there is nothing to set apart.
        let mut own = two_strategies(2);
        own.record.whole.answers = vec!["accept_wait_p99".to_owned()];
        let sentence = &super::answers(&own.record, &summarize(&own.record))[0].sentence;
        assert_eq!(sentence, "reuseport has the lowest accept wait p99, 243 µs; shared's is 1.98× that.");
    }

    #[test]
    fn what_is_not_shown_is_not_claimed() {
        let (a, b) = (json!({"strategy": "a"}), json!({"strategy": "b"}));
        assert_eq!(
            wait(&[(a.clone(), LOW), (b.clone(), LOW)]),
            "No difference is shown in accept wait p99 (1.27× is the smallest ratio the test could have shown): 1.20 ms (a), 1.20 ms (b)."
        );
        assert_eq!(
            wait(&[(a.clone(), &LOW[..3]), (b.clone(), &HIGH[..3])]),
            "Accept wait p99: 1.10 ms (a), 4.10 ms (b); 3 trials per cell are too few to show any difference, which takes at least 4."
        );
        let without = wait(&[(a, LOW), (b, &[])]);
        assert!(without.ends_with(" b has no valid trial: the one trial failed (no such device)."), "{without}");
    }

    #[test]
    fn the_best_alone_has_the_lowest_median() {
        let cell = |name: &str| json!({ "strategy": name });
        let near: &[f64] = &[1.05e6, 1.15e6, 1.25e6, 1.35e6, 1.45e6, 1.5e6, 1.55e6];
        let low: &[f64] = &[1.0e6, 1.1e6, 1.2e6, 1.3e6, 1.4e6, 1.5e6, 1.6e6];
        let high: &[f64] = &[4.0e6, 4.1e6, 4.8e6, 5.3e6, 5.4e6, 5.5e6, 5.6e6];
        assert_eq!(
            wait(&[(cell("a"), low), (cell("b"), high), (cell("c"), near)]),
            "a has the lowest median accept wait p99, 1.30 ms; c is not shown to be worse; b's is 4.08× that."
        );
        let lower: &[f64] = &[3.95e6, 4.05e6, 4.75e6, 5.25e6, 5.35e6, 5.45e6, 5.55e6];
        assert_eq!(
            sentence("accepted_per_s", &[(cell("a"), low), (cell("b"), high), (cell("c"), lower)]),
            "b has the most accepts, a median of 5,300,000/s; c is not shown to be worse; a's are 0.25× that."
        );
    }

    #[test]
    fn a_difference_between_others_is_not_kept_back() {
        let cell = |name: &str| json!({ "strategy": name });
        // The best scatters, so that it differs from neither.
        let best: &[f64] = &[0.1e6, 0.2e6, 0.3e6, 0.4e6, 9.0e6, 9.1e6, 9.2e6];
        let low: &[f64] = &[1.0e6, 1.1e6, 1.2e6, 1.3e6, 1.4e6, 1.5e6, 1.6e6];
        let high: &[f64] = &[2.0e6, 2.1e6, 2.2e6, 2.6e6, 2.7e6, 2.8e6, 2.9e6];
        assert_eq!(
            wait(&[(cell("a"), best), (cell("b"), low), (cell("c"), high)]),
            "No cell is shown to differ in accept wait p99 from a, which has the lowest median (400 µs); c's is 2.00× b's."
        );
    }

    #[test]
    fn best_medians_that_are_equal_share_their_place() {
        let cell = |name: &str| json!({ "strategy": name });
        let low: Vec<f64> = (0..9).map(|n| 1.0e6 + 1.0e4 * f64::from(n)).collect();
        let high: Vec<f64> = low.iter().map(|value| 4.0 * value).collect();
        assert_eq!(
            wait(&[(cell("a"), &low), (cell("b"), &high), (cell("c"), &low)]),
            "a and c have the lowest median accept wait p99, 1.04 ms; b's is 4.00× that."
        );
    }

    #[test]
    fn what_was_not_reached_has_one_pair_of_brackets() {
        let lost = |median: &str| sampled::with_name(median, "reuseport");
        assert_eq!(lost("not reached (80.1 % lost)"), "not reached (reuseport, 80.1 % lost)");
        assert_eq!(lost("1.20 ms"), "1.20 ms (reuseport)");
    }

    #[test]
    fn a_difference_from_nothing_has_its_figures() {
        let cells = [(json!({"strategy": "a"}), &[&[0.0; 5][..]][..]), (json!({"strategy": "b"}), &[HIGH])];
        for cells in [cells.clone(), [cells[1].clone(), cells[0].clone()]] {
            let answer = answered(&["accept_wait_p99"], &cells).remove(0);
            assert_eq!(answer.sentence, "a has the lowest accept wait p99, 0 ns; b's is 4.80 ms against 0 ns.");
            assert_eq!(
                answer.evidence[1],
                "b against a: 4.80 ms against 0 ns, p = 0.0079 (0.0079 after Holm's correction): shown to be higher"
            );
        }
    }

    #[test]
    fn without_scatter_any_difference_would_have_been_detected() {
        let cells = [(json!({"strategy": "a"}), &[1.0e6; 5][..]), (json!({"strategy": "b"}), &[1.0e6; 5])];
        assert_eq!(
            wait(&cells),
            "No difference is shown in accept wait p99 (the test could have shown any difference): 1.00 ms (a), 1.00 ms (b)."
        );
    }

    #[test]
    fn one_trial_per_cell_tests_nothing_and_says_so_once() {
        let cell = |name: &str| json!({ "strategy": name });
        let cells = [(cell("a"), &[&LOW[..1], &LOW[..1]][..]), (cell("b"), &[&HIGH[..1], &HIGH[..1]])];
        let [first, second] = &answered(&["response_p99", "accept_wait_p99"], &cells)[..] else { panic!() };
        let figures = "1.00 ms (a), 4.00 ms (b).";
        assert_eq!(first.sentence, format!("Response p99: {figures} One trial per cell: differences are not tested."));
        assert_eq!(second.sentence, format!("Accept wait p99: {figures}"));
    }

    #[test]
    fn no_winner_is_left_out() {
        let settings = ["1us", "2us", "3us", "4us"];
        let low: Vec<f64> = (0..12).map(|n| 1.0e6 + 1.0e4 * f64::from(n)).collect();
        let high: Vec<f64> = low.iter().map(|value| 9.0 * value).collect();
        let cells = |names: &[&str], worse: &str| -> Vec<(Json, Vec<f64>)> {
            let values = |name: &str| if name == worse { high.clone() } else { low.clone() };
            let cell = |name: &str, setting: &str| json!({"strategy": name, "service_time": setting});
            settings.iter().flat_map(|s| names.iter().map(|n| (cell(n, s), values(n))).collect::<Vec<_>>()).collect()
        };
        let waited = |cells: &[(Json, Vec<f64>)]| {
            wait(&cells.iter().map(|(cell, values)| (cell.clone(), &values[..])).collect::<Vec<_>>())
        };
        let best = "Best or not shown to be worse in accept wait p99:";
        let counted = waited(&cells(&["a", "b", "c", "d", "e", "f", "g"], "g"));
        assert!(
            counted.starts_with(&format!("{best} a in 4, b in 4, c in 4, d in 4 and 2 others in 4 of 4 settings; ")),
            "{counted}"
        );
        let counted = waited(&cells(&["a", "b", "c", "d", "e", "g"], "g"));
        assert!(counted.starts_with(&format!("{best} a in 4, b in 4, c in 4, d in 4 and e in 4 of 4 settings; ")));
        // One cell in each setting: nobody wins.
        let alone = waited(&cells(&["a"], "g"));
        assert_eq!(alone, "Accept wait p99: 1.05 ms in all 4 cells.");
    }

    #[test]
    fn a_single_cell_and_none_are_described_in_plain_words() {
        assert_eq!(wait(&[]), "No trial was run, so the accept wait p99 is unknown.");
        assert_eq!(wait(&[(json!({}), &LOW[..1])]), "The accept wait p99 is 1.00 ms in the one valid trial.");
        assert_eq!(wait(&[(json!({}), LOW)]), "The accept wait p99 is 1.20 ms (median of 5 trials).");
        assert_eq!(
            sentence("accepted_per_s", &[(json!({}), &[11_533.0])]),
            "Accepts are 11,533/s in the one valid trial."
        );
        assert_eq!(wait(&[(json!({}), &[])]), "The one trial failed (no such device).");
        let (a, b) = (json!({"strategy": "a"}), json!({"strategy": "b"}));
        let none: &[&[f64]] = &[&[], &[]];
        let all_failed = answered(&["accepted_per_s", "ports_wall"], &[(a, none), (b, none)]);
        assert_eq!(all_failed[0].sentence, "No trial is valid: both trials failed (no such device).");
        assert_eq!(all_failed.len(), 1, "of the other metric there is nothing to say");
    }

    #[test]
    fn an_exact_metric_needs_one_trial_and_no_test() {
        let cell = |value: Json| json!({ "tcp_tw_reuse": value });
        let wall = |cells: &[(Json, &[f64])]| sentence("ports_wall", cells);
        assert_eq!(wall(&[(cell(json!(0)), &[90.0])]), "The wall is 90.");
        assert_eq!(wall(&[(cell(json!(0)), &[90.0, 89.0, 90.0])]), "The wall is 89 to 90.");
        assert_eq!(wall(&[(cell(json!(0)), &[90.0]), (cell(json!(1)), &[90.0])]), "Wall: 90 in both cells.");
        assert_eq!(
            wall(&[(cell(json!(0)), &[90.0]), (cell(json!(1)), &[180.0]), (cell(json!(2)), &[90.0])]),
            "Wall: 180 (tcp_tw_reuse = 1), 90 (tcp_tw_reuse = 0 and tcp_tw_reuse = 2)."
        );
        // What one cell has is not said of another.
        let failed = wall(&[(cell(json!(0)), &[90.0]), (cell(json!(1)), &[])]);
        assert!(failed.starts_with("Wall: 90 (tcp_tw_reuse = 0). tcp_tw_reuse = 1 has no valid trial: "), "{failed}");
        let failed = wall(&[(cell(json!(0)), &[90.0]), (cell(json!(1)), &[90.0]), (cell(json!(2)), &[])]);
        assert!(failed.starts_with("Wall: 90 (tcp_tw_reuse = 0 and tcp_tw_reuse = 1). "), "{failed}");
        let both = |reuse: u64| json!({ "tcp_tw_reuse": reuse, "close_by": "client" });
        assert_eq!(
            sentence("ports_wall", &[(both(0), &[90.0]), (both(1), &[180.0]), (both(2), &[90.0])]),
            "Wall: 180 (tcp_tw_reuse = 1 at close_by = client), 90 (tcp_tw_reuse = 0 at close_by = client; tcp_tw_reuse = 2 at \
             close_by = client)."
        );
        let many: Vec<f64> = (1..=6).map(f64::from).collect();
        let cells: Vec<(Json, &[f64])> = (0..6).map(|n| (cell(json!(n)), &many[n..=n])).collect();
        assert_eq!(wall(&cells), "Wall: from 1 (tcp_tw_reuse = 0) to 6 (tcp_tw_reuse = 5).");
    }

    #[test]
    fn what_a_metric_lacks_is_explained() {
        let cells = |knee: &'static [f64]| {
            let (a, b) = (json!({"source_ports": "kernel"}), json!({"source_ports": "explicit"}));
            answered(&["ports_knee", "ports_wall"], &[(a, &[knee, &[90.0]]), (b, &[&[], &[90.0]])]).remove(0).sentence
        };
        assert_eq!(
            cells(&[45.0]),
            "Knee: 45 (kernel); no figure for explicit: the cost of connect() shows no lasting rise."
        );
        assert_eq!(cells(&[]), "Knee: none; the cost of connect() shows no lasting rise.");
        // Of a cell without a valid trial, nothing is known.
        let (kernel, explicit) = (json!({"source_ports": "kernel"}), json!({"source_ports": "explicit"}));
        let failed = answered(&["ports_knee", "ports_wall"], &[(kernel, &[&[], &[]]), (explicit, &[&[], &[90.0]])]);
        assert_eq!(
            failed[0].sentence,
            "Knee: none in explicit: the cost of connect() shows no lasting rise. kernel has no valid trial: the one trial failed (no such \
             device)."
        );
        let recovered = |reuse: u64| json!({ "tcp_tw_reuse": reuse });
        let recovery = sentence("recovered_after_s", &[(recovered(0), &[]), (recovered(1), &[1.0])]);
        // A trial of the made-up record without values has failed.
        assert!(
            recovery.ends_with("tcp_tw_reuse = 0 has no valid trial: the one trial failed (no such device)."),
            "{recovery}"
        );
        let cells = [(recovered(0), &[&[][..], &[90.0]][..]), (recovered(1), &[&[1.0], &[90.0]])];
        let recovery = answered(&["recovered_after_s", "ports_wall"], &cells).remove(0).sentence;
        assert!(
            recovery.ends_with(". No figure for tcp_tw_reuse = 0: the ports had not recovered when the trial ended."),
            "{recovery}"
        );
        let unmeasured = answered(&["response_p99", "ports_wall"], &[(json!({}), &[&[], &[90.0]])]).remove(0).sentence;
        assert_eq!(unmeasured, "The response p99 is unknown: the one valid trial did not measure it.");
    }

    #[test]
    fn metrics_that_disagree_are_both_stated() {
        let (a, b) = (json!({"strategy": "a"}), json!({"strategy": "b"}));
        let headline = |first: [&'static [f64]; 2], second: [&'static [f64]; 2]| {
            let cells = [(a.clone(), &[first[0], second[0]][..]), (b.clone(), &[first[1], second[1]])];
            answered(&["response_p99", "accept_wait_p99"], &cells).remove(0).sentence
        };
        assert_eq!(
            headline([LOW, LOW], [LOW, HIGH]),
            "No difference is shown in response p99 (1.30× is the smallest ratio the test could have shown): 1.20 ms (a), 1.20 ms (b). But a has the lowest \
             accept wait p99, 1.20 ms; b's is 4.00× that."
        );
        assert_eq!(
            headline([LOW, HIGH], [HIGH, LOW]),
            "a has the lowest response p99, 1.20 ms; b's is 4.00× that. But b has the lowest accept wait p99, 1.20 ms; a's is 4.00× that."
        );
        assert!(headline([LOW, HIGH], [LOW, LOW]).ends_with(
            " But accept wait p99: no difference shown (1.30× is the smallest ratio the test could have shown)."
        ));
        assert!(!headline([LOW, HIGH], [LOW, HIGH]).contains("But"));
    }

    #[test]
    fn few_settings_are_described_and_many_are_counted() {
        let cells = |settings: &[&str]| -> Vec<(Json, &'static [f64])> {
            let cell = |setting: &&str, strategy: &str| json!({"strategy": strategy, "service_time": setting});
            settings.iter().flat_map(|s| [(cell(s, "a"), LOW), (cell(s, "b"), HIGH)]).collect()
        };
        assert_eq!(
            wait(&cells(&["0us"])),
            "At service_time = 0us, a has the lowest accept wait p99, 1.20 ms; b's is 4.00× that."
        );
        let counted = wait(&cells(&["1us", "2us", "3us", "4us", "5us"]));
        assert!(
            counted.starts_with("Best or not shown to be worse in accept wait p99: a in 5 of 5 settings; "),
            "{counted}"
        );
        // Five trials per cell cannot show anything among that many pairs.
        let many = wait(&cells(&["1us", "2us", "3us", "4us", "5us", "6us", "7us"]));
        assert!(many.starts_with("Accept wait p99: from 1.20 ms (a at service_time = "), "{many}");
        assert!(
            many.ends_with("; 5 trials per cell are too few to show any difference, which takes at least 6."),
            "{many}"
        );
    }

    #[test]
    fn what_most_trials_suffered_stands_next_to_the_headline() {
        let trial = |number: usize, cell: &str, steal: bool| {
            let verdicts = steal.then(|| crate::record::Verdict {
                name: VerdictName::CpuSteal,
                detail: String::new(),
                invalidates: false,
            });
            let cell_index = usize::from(cell == "b");
            let verdicts = verdicts.into_iter().collect();
            TrialRecord { cell_index, verdicts, ..fixture::trial(number, &json!({ "strategy": cell }), Outcome::Valid) }
        };
        let lines = |stolen: [bool; 4]| {
            let trials = stolen.iter().enumerate().map(|(n, steal)| trial(n, if n < 2 { "a" } else { "b" }, *steal));
            qualified::lines(&summarize(&fixture::record(trials.collect())))
        };
        assert!(lines([true, false, false, true]).is_empty(), "half is not most");
        let meaning = VerdictName::CpuSteal.meaning();
        assert_eq!(lines([true, true, false, true]), [format!("cpu-steal in all trials of a (2 of 2): {meaning}")]);
        assert_eq!(lines([true; 4]), [format!("cpu-steal in all trials of both cells: {meaning}")]);
    }
}
