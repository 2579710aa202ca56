//! Damaged, truncated, mixed-up or foreign results give either a report of finite figures, or one line that names the
//! fault and no file.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::super::example;
use super::*;
use crate::bench::view::tests::example as capacity_example;
use measure::record::Plan;
use measure::stored;
use stack::Mode;

const WRITTEN: [&str; 5] = ["report.md", "report.html", "results.json", "figures.csv", "PERFORMANCE.md"];

/// With every kind of file, gone with the test.
struct Folder(PathBuf);

impl Folder {
    /// `runs`: of each variant.
    fn new(runs: u32) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("study-damaged-{}-{number}", std::process::id()));
        let whole = example::results();
        let results = example::of(&[("sync", Mode::Sync), ("async", Mode::Async)], runs);
        fs::create_dir_all(&dir).unwrap();
        stored::write(&Plan::path(&dir), &results.plan).unwrap();
        for (planned, run) in results.plan.planned_runs().zip(&results.runs) {
            fs::create_dir_all(planned.folder(&dir)).unwrap();
            stored::write(&planned.file(&dir), run).unwrap();
        }
        stored::write(&dir.join("rate-s6.json"), &whole.beside.curves).unwrap();
        stored::write(&dir.join("breakeven.json"), &whole.beside.grid).unwrap();
        stored::write(&dir.join("omission.json"), &whole.beside.omission).unwrap();
        stored::write(&dir.join("bench.json"), &capacity_example()).unwrap();
        Self(dir)
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.0.join(name)).unwrap()).unwrap()
    }

    /// What came of a report when the file is another for its time; `case` is for the message.
    fn with(&self, name: &str, value: &[u8], case: &str) -> Result<String, String> {
        let whole = fs::read(self.0.join(name)).unwrap();
        fs::write(self.0.join(name), value).unwrap();
        let said = self.report(case);
        fs::write(self.0.join(name), whole).unwrap();
        said
    }

    fn report(&self, case: &str) -> Result<String, String> {
        let written = || WRITTEN.iter().filter_map(|name| fs::read_to_string(self.0.join(name)).ok());
        let result = catch_unwind(AssertUnwindSafe(|| report(&self.0, None)));
        let said = match result.unwrap_or_else(|_| panic!("{case}: the report panics")) {
            Ok(said) => {
                for text in written().chain([said.clone()]) {
                    let mut words = text.split(|letter: char| !letter.is_alphanumeric());
                    assert!(!words.any(|word| ["NaN", "inf"].contains(&word)), "{case}: not finite");
                }
                Ok(said)
            }
            Err(error) => {
                let line = format!("{error:#}");
                let named = line.contains(self.0.to_str().unwrap());
                assert!(named && !line.contains(char::is_control) && line.len() < 600, "{case}: {line}");
                assert_eq!(written().count(), 0, "{case}: {line}, and something was written");
                Err(line)
            }
        };
        for name in WRITTEN {
            fs::remove_file(self.0.join(name)).ok();
        }
        said
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn files_that_do_not_fit_together_are_refused_by_name() {
    let folder = Folder::new(1);
    let figures = folder.report("whole").unwrap();
    assert!(figures.contains("Capacity: ") && figures.contains("Results: "), "{figures}");
    let run = "runs/01-sync/run.json";
    let huge = 1_u64 << 53;
    let cases = [
        ("plan.json", "/version", json!(2), "written by another version (2, this is 1)"),
        ("plan.json", "/arms", json!([]), "the number of variants is 0"),
        (
            "plan.json",
            "/arms/1",
            json!({"name": "sync", "mode": "sync", "env": {}}),
            "\"sync\" stands there twice",
        ),
        ("plan.json", "/arms/0/name", json!("../../../tmp/out"), "is not 1 to 40 letters, digits, - and _"),
        ("plan.json", "/arms/0/name", json!("/etc"), "\"/etc\" is not 1 to 40 letters"),
        ("plan.json", "/arms/0/mode", json!("async"), "runs/01-sync/run.json does not belong to "),
        ("plan.json", "/order", json!([]), "the number of runs is 0"),
        ("plan.json", "/order", json!([0, 7]), "run 2 is of variant 7, there are 2"),
        ("plan.json", "/order", json!([0, 0]), "no run of async is planned"),
        ("plan.json", "/order", json!(vec![0; 40_000]), "the number of runs is 40000"),
        ("plan.json", "/stamp", json!("<script>"), "the stamp"),
        ("plan.json", "/load/seconds", json!(0), "the seconds of load is 0"),
        ("plan.json", "/load/seconds", json!(huge), "9007199254740992 is too large"),
        ("plan.json", "/load/rates", json!({}), "there are no arrival rates"),
        ("plan.json", "/load/rates/s6", json!("1/0s"), "1/0s is no arrival rate"),
        ("plan.json", "/load/rates", json!({"s1": "5"}), "it has S2, which is not planned"),
        (run, "/slot", json!(99), "it is run 100, not 1"),
        (run, "/slot", json!(1), "it is run 2, not 1"),
        (run, "/arm", json!("third"), "it is of the variant \"third\", not sync"),
        (run, "/mode", json!("async"), "it is in async mode, not sync"),
        (run, "/scenarios", json!({}), "it lacks S1, which is planned"),
        (run, "/scenarios/s1/requests", json!(1), "answers to 1 requests"),
        (run, "/scenarios/s1/acknowledge/counts/0/0", json!(99_000_000), "times are not ascending"),
        (run, "/scenarios/s1/acknowledge/counts/0/1", json!(0), "occurs 0 times"),
        (run, "/scenarios/s1/acknowledge/sum_us", json!(1), "the sum of the times is 1, not about"),
        (run, "/scenarios/s1/backlog/drain_seconds", json!(-1), "is -1, below 0"),
        (run, "/watched/others", json!(1.5), "the share of other programs is 1.5, not 0 to 1"),
        ("rate-s6.json", "/0/scenario", json!("s1"), "it has a curve of another scenario"),
        ("rate-s6.json", "/0/arm", json!("async"), "\"async\" stands there twice"),
        ("rate-s6.json", "/0/points/0/rate", json!(1e-9), "the rate is 0.000000001, not 0.001 to 100000"),
        ("rate-s6.json", "/0/version", json!(2), "written by another version"),
        ("breakeven.json", "/version", json!(7), "written by another version (7, this is 1)"),
        ("breakeven.json", "/cells/0/conditions/width", json!(4), "the number of receivers is 4"),
        ("breakeven.json", "/cells/0/conditions/rate", json!(50), "stands there twice"),
        (
            "breakeven.json",
            "/arms/0",
            json!("other"),
            "a cell has the variant \"sync\", which the grid has not",
        ),
        ("omission.json", "/open", json!({"counts": [], "sum_us": 0}), "the open load has no answer"),
        ("bench.json", "/samples/0/per_second", json!(-1), "the rate of a load is -1, below 0"),
    ];
    for (name, path, value, words) in cases {
        let mut all = folder.json(name);
        *all.pointer_mut(path).unwrap_or_else(|| panic!("{name} has no {path}")) = value;
        let case = format!("{name} {path}");
        let line = folder.with(name, all.to_string().as_bytes(), &case).unwrap_err();
        let file = folder.0.join(name);
        let named = line.contains(file.to_str().unwrap())
            || words.contains("does not belong")
            || path == "/load/rates";
        assert!(named && line.contains(words), "{case}: {line}");
    }
}

#[test]
fn runs_that_are_not_there_are_told_and_not_put_down_to_k6() {
    let folder = Folder::new(1);
    fs::remove_dir_all(folder.0.join("runs/02-async")).unwrap();
    let said = folder.report("one run").unwrap();
    assert!(said.contains("of 2 runs these are not finished: 2 (async)") && !said.contains("k6"), "{said}");
    fs::remove_dir_all(folder.0.join("runs")).unwrap();
    let line = folder.report("no runs").unwrap_err();
    assert!(line.contains("without a finished run") && line.contains("--resume"), "{line}");
}

#[test]
fn raw_data_of_which_a_part_is_missing_is_refused() {
    let folder = Folder::new(1);
    let run = folder.0.join("runs/01-sync");
    fs::create_dir_all(run.join("journal")).unwrap();
    fs::write(run.join("failed-checks.json"), "{}").unwrap();
    fs::write(run.join("answers.jsonl"), "").unwrap();
    let line = folder.report("no answers").unwrap_err();
    assert!(
        line.contains("answers.jsonl has 0 answers of S1") && line.contains("one of them is damaged"),
        "{line}"
    );
    fs::write(run.join("answers.jsonl"), "{\"workflow\":\"x\"").unwrap();
    let line = folder.report("half an answer").unwrap_err();
    assert!(line.starts_with("line 1 of ") && line.contains("answers.jsonl"), "{line}");
}

#[test]
fn whatever_value_is_damaged_the_report_is_finite_or_is_refused_in_one_line() {
    let evil = [
        json!(0),
        json!(-1),
        json!(1),
        json!(0.5),
        json!(-0.0),
        json!(1e308),
        json!(-1e308),
        json!(5e-324),
        json!(9_007_199_254_740_991_u64),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e15),
        json!(1e-29),
        json!(""),
        json!("x"),
        json!("NaN"),
        json!("inf"),
        json!("<b>"),
        json!("\u{0}"),
        json!("../x"),
        json!(null),
        json!(true),
        json!([]),
        json!({}),
        json!([null]),
        json!([[]]),
        json!({"a": 1}),
    ];
    let folder = Folder::new(2);
    let names = [
        "plan.json",
        "runs/01-sync/run.json",
        "rate-s6.json",
        "breakeven.json",
        "omission.json",
        "bench.json",
    ];
    let files = names.map(|name| {
        let (all, mut places) = (folder.json(name), Vec::new());
        leaves(&all, String::new(), &mut places);
        (name, all, places)
    });
    let (mut random, mut accepted) = (fastrand::Rng::with_seed(42), 0);
    for _ in 0..CASES {
        let (name, all, places) = &files[random.usize(..files.len())];
        let (place, value) = (&places[random.usize(..places.len())], &evil[random.usize(..evil.len())]);
        let mut all = all.clone();
        *all.pointer_mut(place).unwrap() = value.clone();
        let case = format!("{name} {place} = {value}");
        accepted += usize::from(folder.with(name, all.to_string().as_bytes(), &case).is_ok());
    }
    assert!((1..CASES).contains(&accepted), "{accepted} of {CASES} are reported");
}

const CASES: usize = 300;

/// JSON pointers to everything in it; of long lists the begin.
fn leaves(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(all) => {
            all.iter()
                .for_each(|(name, value)| leaves(value, format!("{at}/{}", name.replace('/', "~1")), places));
        }
        Value::Array(all) => {
            all.iter().take(6).enumerate().for_each(|(n, value)| leaves(value, format!("{at}/{n}"), places));
        }
        _ => {}
    }
    if !at.is_empty() {
        places.push(at);
    }
}
