//! What several runs say together: `statistics` (figures with their intervals), `format` (how figures and differences are
//! written).

pub mod format;
pub mod statistics;
