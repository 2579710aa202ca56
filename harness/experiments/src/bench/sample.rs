//! One load, or one limit, measured once.

use serde::{Deserialize, Serialize};

use super::wrk::Summary;
use measure::resource_usage::Cpu;
use measure::times::short;

/// Of all processors: a sample in which others took more is measured again, or marked.
pub const NOISY: f64 = 0.1;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub name: String,
    /// From 1 on.
    pub round: u32,
    pub count: u64,
    pub per_second: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub cpu: Cpu,
    /// Why the figures must not be used.
    pub invalid: Option<String>,
}

impl Sample {
    /// From wrk's summary and the processor time of the load.
    pub fn of(line: &Summary, cpu: Cpu) -> Self {
        Self {
            count: line.requests,
            per_second: line.per_second(),
            p50_ms: Some(line.p50_us / 1000.0),
            p99_ms: Some(line.p99_us / 1000.0),
            cpu,
            invalid: line.problem(0),
            ..Self::default()
        }
    }

    /// The first reason counts.
    pub fn unless(mut self, invalid: Option<String>) -> Self {
        self.invalid = self.invalid.or(invalid);
        self
    }

    pub fn noisy(&self) -> bool {
        self.cpu.others > NOISY
    }

    /// Microseconds of processor time for each request.
    pub fn micros(&self) -> Cpu {
        let each = |seconds: f64| seconds * 1e6 / self.count.max(1) as f64;
        let Cpu { services, broker, database, generator, .. } = self.cpu;
        let [services, broker, database, generator] = [services, broker, database, generator].map(each);
        Cpu { services, broker, database, generator, ..self.cpu }
    }

    /// For the progress on a terminal.
    pub fn line(&self) -> String {
        let mut line = format!("{:.0}/s", self.per_second);
        if self.p99_ms.is_some() {
            line += &format!(", p99 {}", short(self.p99_ms));
        }
        if self.noisy() {
            line += &format!(", others took {:.0} % of the processors", 100.0 * self.cpu.others);
        }
        if let Some(invalid) = &self.invalid {
            line += &format!(", NOT VALID: {invalid}");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_told_for_each_request() {
        let cpu = Cpu { services: 0.5, broker: 0.25, generator: 0.1, ..Cpu::default() };
        let micros = Sample { count: 10_000, cpu, ..Sample::default() }.micros();
        assert_eq!((micros.services, micros.broker, micros.database), (50.0, 25.0, 0.0));
        assert!((micros.generator - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_sample_beside_busy_neighbours_is_noisy_and_says_so() {
        let sample = |others| Sample { cpu: Cpu { others, ..Cpu::default() }, ..Sample::default() };
        assert!(!sample(0.1).noisy() && sample(0.11).noisy());
        assert!(sample(0.25).line().contains("others took 25 %") && !sample(0.05).line().contains("others"));
    }

    #[test]
    fn the_first_reason_against_a_sample_stays() {
        let sample = Sample::default().unless(None).unless(Some("a".into())).unless(Some("b".into()));
        assert_eq!(sample.invalid.as_deref(), Some("a"));
    }
}
