//! PostgreSQL, the broker, and the network to them and between the services.

use std::time::Duration;

use anyhow::Result;

use super::{Impact, Nemesis};
use crate::proxy::Condition;
use crate::topology::Link;
use stack::broker::Alarm;
use stack::postgres;

const RESET_EVERY: f64 = 1.0;

impl Nemesis<'_> {
    pub(super) fn broker_kill(&mut self, down: f64) -> Result<Impact> {
        self.stack.kill_broker()?;
        self.wait(down)?;
        self.stack.start_broker()?;
        Ok(Impact::of(format!("down {down:.1} s and its start")))
    }

    pub(super) fn alarm(&mut self, alarm: Alarm, seconds: f64) -> Result<Impact> {
        self.stack.set_broker_alarm(alarm, true)?;
        self.wait(seconds)?;
        self.stack.set_broker_alarm(alarm, false)?;
        Ok(Impact::of(format!("{seconds:.1} s")))
    }

    pub(super) fn connections_closed(&mut self) -> Result<Impact> {
        self.stack.close_broker_connections()?;
        Ok(Impact::of("all"))
    }

    pub(super) fn database_kill(&mut self) -> Result<Impact> {
        self.stack.kill_database()?;
        self.stack.start_database()?;
        Ok(Impact::of("started at once"))
    }

    pub(super) fn backends_terminated(&mut self, service: Option<&str>) -> Result<Impact> {
        let ended = postgres::terminate_backends(&self.stack.database_server(), service)?;
        Ok(Impact::of(format!("{ended} connections")))
    }

    pub(super) fn net(&mut self, link: Link, condition: Condition, seconds: f64) -> Result<Impact> {
        self.proxy.set(link, condition);
        self.wait(seconds)?;
        self.proxy.set(link, Condition::Pass);
        Ok(Impact::of(match condition {
            Condition::Delay(delay) => format!("{} ms for {seconds:.1} s", Duration::as_millis(&delay)),
            _ => format!("{seconds:.1} s"),
        }))
    }

    pub(super) fn net_resets(&mut self, link: Link, seconds: f64) -> Result<Impact> {
        let times = (seconds / RESET_EVERY).ceil() as u32;
        for _ in 0..times {
            self.proxy.reset(link);
            self.wait(RESET_EVERY)?;
        }
        Ok(Impact::of(format!("{times} times in {seconds:.1} s")))
    }
}
