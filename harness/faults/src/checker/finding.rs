//! The result of an invariant: how many cases were checked, how many broke it, and some of those.

use std::fmt::Display;

use serde::Serialize;

/// Examples that are kept; the count is exact.
const EXAMPLES: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub invariant: &'static str,
    pub held: bool,
    /// Cases that were checked.
    pub n: u64,
    pub broken: u64,
    pub examples: Vec<String>,
    /// Not an invariant: a loss that the answers disclose, counted so that it is visible.
    pub disclosed: bool,
}

impl Finding {
    pub fn of(invariant: &'static str) -> Finding {
        Finding { invariant, held: true, n: 0, broken: 0, examples: Vec::new(), disclosed: false }
    }

    /// Checks one case.
    pub fn look(&mut self, fine: bool, example: impl FnOnce() -> String) {
        self.n += 1;
        if !fine {
            self.broke(example());
        }
    }

    /// Adds a broken case without counting it as checked.
    pub fn broke(&mut self, example: impl Display) {
        self.broken += 1;
        self.held = self.disclosed;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example.to_string());
        }
    }

    /// Counted, never broken.
    pub fn disclosed(invariant: &'static str) -> Finding {
        Finding { disclosed: true, ..Finding::of(invariant) }
    }
}
