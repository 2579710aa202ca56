//! The cross-checks of all runs: of each kind how many held, and every one that did not.

use serde::Serialize;

use measure::record::Run;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Kind {
    pub what: String,
    pub held: usize,
    pub of: usize,
    pub failed: Vec<String>,
}

pub fn of(runs: &[Run]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    for run in runs {
        for check in &run.cross_checks {
            let at = kinds.iter().position(|kind| kind.what == check.what).unwrap_or_else(|| {
                kinds.push(Kind { what: check.what.clone(), ..Kind::default() });
                kinds.len() - 1
            });
            let kind = &mut kinds[at];
            kind.of += 1;
            if check.ok {
                kind.held += 1;
            } else {
                let run = format!("run {} ({})", run.index + 1, run.variant);
                kind.failed.push(format!("{run}: expected {}, found {}", check.expected, check.found));
            }
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn what_did_not_hold_is_named_with_its_run() {
        let mut runs = example::results().runs;
        runs[1].cross_checks[0].ok = false;
        let kinds = of(&runs);
        assert_eq!((kinds.len(), kinds[0].held, kinds[0].of), (1, 5, 6));
        assert_eq!(kinds[0].failed, ["run 2 (async): expected 5, found 5"]);
    }
}
