//! Faults of services: kill, abort, pause, restart.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use anyhow::Result;
use contract::events::queues;
use contract::{DELIVER_TWICE, FAILPOINT, Failpoint, Service};

use super::{Impact, Nemesis, POLL};

/// After it, the failpoint counts as not reached.
const REACH_LIMIT: Duration = Duration::from_secs(20);
/// A service gives its running work 60 s.
const STOP_LIMIT: Duration = Duration::from_secs(70);
/// Of abort(3).
const SIGABRT: i32 = 6;
/// For messages to accumulate for a stopped service.
const PILE_SECONDS: f64 = 2.5;

impl Nemesis<'_> {
    /// From now on the service is expected to answer.
    pub(super) fn mark_up(&mut self, service: &str) -> Result<()> {
        let pid = self.stack.pid(service)?;
        self.prober.up(service, pid);
        Ok(())
    }

    pub(super) fn start(&mut self, service: &str, more: &[(String, String)]) -> Result<()> {
        self.stack.start_again(service, more)?;
        self.mark_up(service)
    }

    /// SIGTERM. Records how the service ended, and returns the seconds that it took.
    fn stop(&mut self, service: &str) -> Result<f64> {
        self.prober.down(service);
        let asked = Instant::now();
        let status = self.stack.stop_service(service, STOP_LIMIT)?;
        let seconds = asked.elapsed().as_secs_f64();
        self.fault_log.stops += 1;
        if !status.is_some_and(|status| status.success()) {
            let how = status.map_or_else(|| "no status".to_owned(), |status| status.to_string());
            self.fault_log.disorderly.push(format!("{:.1} s: {service}: {how}", self.seconds()));
        }
        Ok(seconds)
    }

    pub(super) fn kill(&mut self, service: &str, down: f64) -> Result<Impact> {
        self.prober.down(service);
        self.stack.kill_service(service)?;
        self.wait(down)?;
        self.start(service, &[])?;
        Ok(Impact::killed(format!("down {down:.1} s")))
    }

    pub(super) fn failpoint(&mut self, service: &str, point: Failpoint, passing: u64) -> Result<Impact> {
        self.stop(service)?;
        if point == Failpoint::MidBatch {
            self.wait(PILE_SECONDS)?;
        }
        self.stack.start_again(service, &[(FAILPOINT.to_owned(), format!("{point}:{passing}"))])?;
        if point == Failpoint::AfterAsideBeforeAck
            && let Some(queue) = queues::ALL.iter().find(|queue| queue.reader.name() == service)
        {
            self.publish_poison(queue.name)?;
        }
        let armed = Instant::now();
        let status = loop {
            if let Some(status) = self.stack.end_of(service)? {
                break Some(status);
            }
            if armed.elapsed() > REACH_LIMIT {
                break None;
            }
            self.wait(POLL.as_secs_f64())?;
        };
        let seconds = armed.elapsed().as_secs_f64();
        let impact = match status {
            Some(status) if status.signal() == Some(SIGABRT) => {
                self.stack.kill_service(service)?;
                Impact::killed(format!("{point}:{passing} after {seconds:.1} s"))
            }
            Some(status) => {
                let crash = format!("{:.1} s: {service}, armed with {point}: {status}", self.seconds());
                self.fault_log.crashes.push(crash);
                self.stack.kill_service(service)?;
                Impact::of(format!("{point}:{passing}: ended otherwise ({status})"))
            }
            None => {
                self.stop(service)?;
                Impact::of(format!("{point}:{passing} not reached"))
            }
        };
        self.start(service, &[])?;
        Ok(impact)
    }

    pub(super) fn pause(&mut self, service: &str, seconds: f64) -> Result<Impact> {
        self.prober.down(service);
        self.stack.hold(service)?;
        self.wait(seconds)?;
        self.stack.resume(service)?;
        self.mark_up(service)?;
        Ok(Impact::of(format!("held {seconds:.1} s")))
    }

    pub(super) fn restart(&mut self, service: &str) -> Result<Impact> {
        let seconds = self.stop(service)?;
        self.start(service, &[])?;
        Ok(Impact::of(format!("ended within {seconds:.1} s")))
    }

    pub(super) fn duplicates(&mut self, seconds: f64) -> Result<Impact> {
        for service in Service::ALL {
            self.stop(service.name())?;
            self.start(service.name(), &[(DELIVER_TWICE.to_owned(), "true".to_owned())])?;
        }
        self.wait(seconds)?;
        for service in Service::ALL {
            self.restart(service.name())?;
        }
        Ok(Impact::of(format!("{seconds:.1} s")))
    }
}
