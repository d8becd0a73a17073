//! Tests that the JSON Schemas under results/ match the types.

use std::{env, fs, path::Path};

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::json;

use crate::{
    commands::{compare::Comparison, run::lines::Line, trace::Preview},
    record::{Calibration, Host, TrialRecord},
    report::SummaryFile,
    watch::Look,
};

/// If set, the test writes the schemas instead of comparing them.
const RENEW: &str = "LISTENBENCH_RENEW_SCHEMAS";

/// The schema of what is written: only what a record always contains is required.
fn schema<T: JsonSchema>(title: &str) -> String {
    let mut schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), json!(title));
    serde_json::to_string_pretty(&schema).unwrap() + "\n"
}

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    let trial = schema::<TrialRecord>("A line of trials.jsonl: one trial of a listenbench run");
    let host = schema::<Host>("host.json: the machine of a listenbench run");
    let summary = schema::<SummaryFile<'_>>("summary.json: a listenbench run in medians and intervals");
    let comparison = schema::<Comparison>("What listenbench compare --json prints: runs against a baseline");
    let calibration =
        schema::<Calibration>("What listenbench calibrate measured: --json, --out, and host.json's calibration");
    let run = schema::<Line<'_>>("A line of listenbench run --json: a trial, or a record's summary");
    let look = schema::<Look>("A line of listenbench observe --json: the listeners of a network over one interval");
    let preview = schema::<Preview>("What listenbench trace --json prints: what replaying a trace would be like");
    // The committed schemas are embedded when the test is built, so that running it does not require the sources.
    for (name, committed, schema) in [
        ("trial.schema.json", include_str!("../../results/trial.schema.json"), trial),
        ("host.schema.json", include_str!("../../results/host.schema.json"), host),
        ("comparison.schema.json", include_str!("../../results/comparison.schema.json"), comparison),
        ("calibration.schema.json", include_str!("../../results/calibration.schema.json"), calibration),
        ("run.schema.json", include_str!("../../results/run.schema.json"), run),
        ("observe.schema.json", include_str!("../../results/observe.schema.json"), look),
        ("trace.schema.json", include_str!("../../results/trace.schema.json"), preview),
        ("summary.schema.json", include_str!("../../results/summary.schema.json"), summary),
    ] {
        if env::var_os(RENEW).is_some() {
            fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("results").join(name), schema).unwrap();
            continue;
        }
        assert!(
            committed == schema,
            "results/{name} does not match the types; renew it with {RENEW}=1 cargo test schemas"
        );
    }
}
