//! What an invariant came to: how many were looked at, how many broke it, and some of those.

use std::fmt::Display;

use serde::Serialize;

/// Examples that are shown; the number of the broken ones is exact.
const EXAMPLES: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub invariant: &'static str,
    pub held: bool,
    /// How many were looked at: a zero without it says nothing.
    pub n: u64,
    pub broken: u64,
    pub examples: Vec<String>,
    /// Not a promise: something that the answers themselves admit, counted so that it is not hidden.
    pub disclosed: bool,
}

impl Finding {
    pub fn of(invariant: &'static str) -> Finding {
        Finding { invariant, held: true, n: 0, broken: 0, examples: Vec::new(), disclosed: false }
    }

    /// Looks at one more.
    pub fn look(&mut self, fine: bool, example: impl FnOnce() -> String) {
        self.n += 1;
        if !fine {
            self.broke(example());
        }
    }

    /// One that is broken without having been looked at.
    pub fn broke(&mut self, example: impl Display) {
        self.broken += 1;
        self.held = self.disclosed;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example.to_string());
        }
    }

    /// Counted, not judged.
    pub fn disclosed(invariant: &'static str) -> Finding {
        Finding { disclosed: true, ..Finding::of(invariant) }
    }
}
