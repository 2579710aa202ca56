//! The six scenarios and when each is complete (CONTRACT section 6), as the comparison needs them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Of S3, in the order in which they are told.
pub const RECEIVERS: [&str; 3] = ["search", "cache", "analytics"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    S1,
    S2,
    S3,
    S4,
    S5,
    S6,
}

impl Scenario {
    pub const ALL: [Self; 6] = [Self::S1, Self::S2, Self::S3, Self::S4, Self::S5, Self::S6];

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.key() == name)
    }

    /// As in k6's tags and in the journals.
    pub fn key(self) -> &'static str {
        match self {
            Self::S1 => "s1",
            Self::S2 => "s2",
            Self::S3 => "s3",
            Self::S4 => "s4",
            Self::S5 => "s5",
            Self::S6 => "s6",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::S1 => "register, welcome e-mail",
            Self::S2 => "payment",
            Self::S3 => "product update, fan-out to three",
            Self::S4 => "report, CPU-bound",
            Self::S5 => "order saga, payment fails",
            Self::S6 => "click tracking",
        }
    }

    /// A workflow is complete when each of these is done, and done once; `width`: how many receivers S3 tells.
    pub fn final_effects(self, width: usize) -> &'static [&'static str] {
        match self {
            Self::S1 => &["email"],
            Self::S2 => &["payment"],
            Self::S3 => &RECEIVERS[..width.min(RECEIVERS.len())],
            Self::S4 => &["report"],
            Self::S5 => &["order", "stock"],
            Self::S6 => &["click"],
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.key().to_uppercase())
    }
}
