//! Commands that write results refuse a folder with damaged or foreign results before they measure, and change nothing there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A folder that is removed after the test.
struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, file: &str, text: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("study-results-{}-{name}", std::process::id()));
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        Self(dir)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn a_file_that_is_no_result_is_not_overwritten() {
    let newer = r#"{"version":2,"what":"of a newer program"}"#;
    let cases: [(&[&str], &str, &str, &str); 8] = [
        (
            &["rate", "--scenario", "s6", "--out"],
            "rate-s6.json",
            "{}",
            "rate-s6.json is not what it should be",
        ),
        (
            &["breakeven", "--quick", "--out"],
            "breakeven.json",
            newer,
            "breakeven.json is not what it should be: it was written",
        ),
        (&["omission", "--out"], "omission.json", "not JSON", "omission.json is not what it should be"),
        (
            &["bench", "s6-async", "--quick", "--out"],
            "bench.json",
            "[",
            "bench.json is not what it should be",
        ),
        (&["compare", "--resume"], "plan.json", newer, "plan.json is not what it should be: it was written"),
        (&["report"], "plan.json", "", "plan.json is not what it should be: it is empty"),
        (&["report"], "bench.json", "null", "bench.json is not what it should be"),
        (&["report"], "rate-s6.json", "[]", "holds no comparison"),
    ];
    for (number, (arguments, file, text, words)) in cases.into_iter().enumerate() {
        let folder = Folder::with(&number.to_string(), file, text);
        let output =
            Command::new(env!("CARGO_BIN_EXE_study")).args(arguments).arg(&folder.0).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        let one = said.lines().count() == 1 && said.starts_with("study: ") && said.contains(words);
        assert!(one && said.contains(folder.0.to_str().unwrap()), "{arguments:?}: {said}");
        assert_eq!(fs::read_to_string(folder.0.join(file)).unwrap(), text);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "{arguments:?} wrote something");
    }
}
