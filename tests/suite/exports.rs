//! What a run leaves for other programs.

use std::fs;

use crate::common::{Bench, assert_code, number, read_json, stderr};

tests! {
    nothing [
        a_run_leaves_tables_distributions_and_metrics,
        a_folder_with_such_a_file_is_left_alone,
    ]
}

const SCENARIO: &str = r#"
    name = "export"
    repetitions = 2
    [load]
    concurrency = 2
    connections = 60
    [matrix]
    server.strategy = ["shared-epoll", "reuseport"]
"#;

fn a_run_leaves_tables_distributions_and_metrics() {
    let bench = Bench::new(SCENARIO);
    let trials = bench.trials(0);
    let text = |name: &str| fs::read_to_string(bench.path(&format!("out/{name}"))).unwrap();
    let summary = read_json(&bench.path("out/summary.json"));
    let cells = summary["cells"].as_array().unwrap();

    let rows = text("cells.csv");
    let figures: usize = cells.iter().map(|cell| cell["metrics"].as_object().unwrap().len()).sum();
    assert_eq!(rows.lines().count(), 1 + figures);
    let median = &cells[1]["metrics"]["accepted_per_s"]["median"];
    assert!(
        rows.contains(&format!("\nreuseport,accepted_per_s,,,1/s,higher,2,2,{},", median.as_f64().unwrap())),
        "{rows}"
    );

    let rows = text("trials.csv");
    let head =
        "scenario,trial,repetition,started_at,seed,revision,kernel,host,cell.strategy,outcome,verdicts,duration_s,";
    assert!(rows.starts_with(head), "{rows}");
    let host = read_json(&bench.path("out/host.json"));
    let host = ["revision", "kernel", "host"].map(|key| host[key].as_str().unwrap()).join(",");
    for (row, trial) in rows.lines().skip(1).zip(&trials) {
        let (number, cell) = (number(&trial["trial"]), trial["cell"]["strategy"].as_str().unwrap());
        let (started, seed) = (trial["started_at"].as_str().unwrap(), &trial["seed"]);
        let begins = format!("export,{number},{},{started},{seed},{host},{cell},valid,", number / 2);
        assert!(row.starts_with(&begins), "{row} is not {begins}");
    }

    for strategy in ["shared-epoll", "reuseport"] {
        let valid = trials.iter().filter(|trial| trial["cell"]["strategy"] == strategy);
        let responses: u64 = valid.map(|trial| number(&trial["latency_ns"]["response"]["count"])).sum();
        for metric in ["accept_wait", "response", "connect"] {
            let file = text(&format!("percentiles/strategy-{strategy}.{metric}.hgrm"));
            assert!(file.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n\n"), "{file}");
            assert!(metric != "response" || file.contains(&format!("Total count    = {responses:>12}]")), "{file}");
        }
        let metrics = text("metrics.txt");
        let sample = format!("listenbench_trials{{scenario=\"export\",strategy=\"{strategy}\",outcome=\"valid\"}} 2\n");
        assert!(metrics.contains(&sample) && metrics.ends_with("\n# EOF\n"), "{metrics}");
    }
}

fn a_folder_with_such_a_file_is_left_alone() {
    for name in ["cells.csv", "trials.csv", "metrics.txt", "percentiles"] {
        let bench = Bench::new(SCENARIO);
        fs::create_dir(bench.path("out")).unwrap();
        fs::write(bench.path("out").join(name), "mine").unwrap();
        let output = bench.run(&[]);
        assert_code(&output, 2);
        assert!(stderr(&output).contains(name), "{}", stderr(&output));
        assert_eq!(fs::read_to_string(bench.path("out").join(name)).unwrap(), "mine");
    }
}
