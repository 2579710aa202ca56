//! The services' journals of final effects.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Effects by workflow, in the order of their names.
pub(crate) fn effects(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut effects: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in fs::read_dir(folder).unwrap().flatten().filter(|file| file.path().is_file()) {
        for line in fs::read_to_string(file.path()).unwrap().lines() {
            let entry: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| entry[name].as_str().unwrap().to_owned();
            assert!(
                entry["done_us"].as_i64() >= entry["accepted_us"].as_i64(),
                "ended before it began: {line}"
            );
            assert!(text("workflow").starts_with(&text("scenario")), "of another scenario: {line}");
            effects.entry(text("workflow")).or_default().push(text("effect"));
        }
    }
    effects.values_mut().for_each(|names| names.sort());
    effects
}
