//! The questions that are asked of the stacks: `compare`, `rate`, `breakeven`, `coordinated_omission`, and `bench` (capacity).
//! `results` is what a folder of results holds, `totals` its sums over runs, `report` presents it, `templates` fills a page.
//! An experiment plans its loads and keeps their records; it does not start servers by itself (`stack`) or read k6's
//! output (`measure`), and it knows no faults.

#[macro_use]
extern crate stack;

pub mod bench;
pub mod breakeven;
pub mod compare;
pub mod coordinated_omission;
pub mod rate;
pub mod report;
pub mod results;
pub mod templates;
pub mod totals;
