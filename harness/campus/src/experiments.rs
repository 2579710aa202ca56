//! The experiments of the course, on one running stack.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contract::campus::{self, Service};
use measure::journal::{Entry, Journal};
use measure::times::Times;
use serde_json::json;
use stack::progress::Step;
use stack::{Layout, Stack, StackOptions, signals, state_folder};

use crate::check::{self, Tally};
use crate::client::{Client, Placed, now_us};
use crate::record::{Drain, Measured, Orders};

const CLIENTS: usize = 10;
const BACKLOG: usize = 2000;
/// Longer than the drain of a backlog on a slow machine.
const DRAIN_LIMIT: Duration = Duration::from_secs(300);
/// How long the services may keep a line of the journal.
const JOURNAL_DELAY: Duration = Duration::from_millis(300);
const STOP_LIMIT: Duration = Duration::from_secs(75);

pub(crate) struct Experiments {
    running: Stack,
    client: Client,
    journal: Journal,
    lost: u64,
    twice: u64,
}

/// Starts the stack, makes all experiments, and ends it.
pub(crate) fn measure(stack: campus::Stack, journal: &Path, port_offset: u16) -> Result<Measured> {
    let options = StackOptions {
        port_offset,
        journal: Some(journal.to_owned()),
        dir: Some(state_folder()?.join("campus").join(format!("measured-{stack}"))),
        fresh: true,
        ..StackOptions::default()
    };
    let running = Stack::of(Layout::campus(stack, false), &options)?;
    let client = Client::new(stack, &running);
    let mut lab = Experiments { running, client, journal: Journal::new(journal), lost: 0, twice: 0 };
    let measured = lab.all()?;
    lab.running.stop()?;
    Ok(measured)
}

impl Experiments {
    fn all(&mut self) -> Result<Measured> {
        let stack = self.client.stack;
        let few = self.step("20 orders", |lab| lab.orders(&lab.shopping(20), 1))?;
        let many = self.step("200 orders of ten clients", |lab| lab.orders(&lab.shopping(200), CLIENTS))?;
        let slow = self.step("inventory 2 s slower", |lab| {
            lab.client.delay(2)?;
            let orders = lab.orders(&lab.shopping(5), 5)?;
            lab.client.delay(0)?;
            Ok(orders)
        })?;
        let failing = self.step("reservations fail", Self::failing)?;
        let away = self.step("inventory away for 20 orders", Self::away)?;
        let mut drains = Vec::new();
        if stack.topology().is_some() {
            for consumers in [1, 2, 4] {
                let text = format!("{BACKLOG} orders wait for {consumers} consumers");
                drains.push(self.step(&text, |lab| lab.drain(consumers))?);
            }
        }
        let (oversold, stock_left) = self.step("120 orders on a stock of 100", |lab| {
            let item = stack.seed()[0].0;
            let orders = lab.orders(&vec![item; 120], CLIENTS)?;
            Ok((orders, lab.client.stock()?.get(item).copied().unwrap_or(0)))
        })?;
        let (delivered, counted) = self.step("the same message ten times", Self::duplicates)?;
        let (poison, set_aside) = self.step("fifteen kinds of poison", Self::poison)?;
        Ok(Measured {
            stack: stack.to_string(),
            few,
            many,
            slow,
            failing,
            away,
            drains,
            oversold,
            stock_left,
            delivered,
            counted,
            poison,
            set_aside,
            lost: self.lost,
            twice: self.twice,
        })
    }

    /// Each experiment begins with the seed stock and without orders.
    fn step<T>(&mut self, text: &str, experiment: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let step = Step::start(format!("{}: {text}", self.client.stack));
        self.client.reset()?;
        let done = experiment(self).with_context(|| format!("{}: {text}", self.client.stack))?;
        step.done();
        Ok(done)
    }

    /// So many items that the seed stock is enough for.
    fn shopping(&self, count: usize) -> Vec<&'static str> {
        let mut stock: Vec<(&str, i64)> = self.client.stack.seed().to_vec();
        let mut most = || {
            let (item, left) = stock.iter_mut().max_by_key(|(_, left)| *left)?;
            *left -= 1;
            Some(*item)
        };
        (0..count).filter_map(|_| most()).collect()
    }

    /// Places orders for these items, so many at once, and waits until they have ended.
    fn orders(&mut self, items: &[&str], clients: usize) -> Result<Orders> {
        let begin = self.journal.poll()?;
        let placed = self.place(items, clients)?;
        self.outcome(begin, &placed)
    }

    fn place(&self, items: &[&str], clients: usize) -> Result<Vec<Placed>> {
        let (client, next) = (&self.client, AtomicUsize::new(0));
        let work = || {
            let mut placed = Vec::new();
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                placed.push(client.place(item)?);
            }
            Ok(placed)
        };
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
            let all: Result<Vec<Vec<Placed>>> = clients
                .into_iter()
                .map(|client| client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect();
            Ok(all?.into_iter().flatten().collect())
        })
    }

    /// Waits until the orders have ended; what the journal says of them since `begin`.
    fn outcome(&mut self, begin: usize, placed: &[Placed]) -> Result<Orders> {
        let accepted: Vec<String> = placed.iter().filter_map(|placed| placed.order_id.clone()).collect();
        let mut orders = Orders {
            acknowledge: Times::of(placed.iter().map(|placed| micros(placed.took))),
            ..Orders::default()
        };
        for placed in placed {
            *orders.answers.entry(placed.status).or_default() += 1;
        }
        orders.ends = self.settle(&accepted, None)?;
        signals::pause(JOURNAL_DELAY)?;
        self.journal.poll()?;
        orders.complete = Times::of(completed(&self.journal.entries[begin..]));
        Ok(orders)
    }

    fn settle(
        &mut self,
        accepted: &[String],
        foreign: Option<(&str, &str)>,
    ) -> Result<BTreeMap<String, u64>> {
        let Tally { lost, twice, ends } = check::settle(&self.client, accepted, foreign)?;
        self.lost += lost;
        self.twice += twice;
        Ok(ends)
    }

    fn failing(&mut self) -> Result<Orders> {
        self.client.fail(true)?;
        let begin = self.journal.poll()?;
        let placed = self.place(&self.shopping(3), 3)?;
        signals::pause(Duration::from_millis(500))?;
        self.client.fail(false)?;
        self.outcome(begin, &placed)
    }

    fn inventory(&self) -> &'static str {
        self.client.stack.container(Service::Inventory)
    }

    fn away(&mut self) -> Result<Orders> {
        self.running.stop_service(self.inventory(), STOP_LIMIT)?;
        let begin = self.journal.poll()?;
        let placed = self.place(&self.shopping(20), 1)?;
        let back = now_us()?;
        self.start()?;
        let mut orders = self.outcome(begin, &placed)?;
        let last = self.journal.entries[begin..].iter().map(|entry| entry.done_us).max();
        let since = last.and_then(|last| u64::try_from(last - back).ok());
        orders.drained_ms = since.filter(|_| self.client.stack.topology().is_some()).map(|us| us / 1000);
        Ok(orders)
    }

    /// The orders come in while inventory is away.
    fn drain(&mut self, consumers: u64) -> Result<Drain> {
        self.running.stop_service(self.inventory(), STOP_LIMIT)?;
        let begin = self.journal.poll()?;
        // More than the stock: most of them fail, which is a decision like any other.
        let items = self.client.stack.seed().iter().map(|(item, _)| *item).cycle();
        let placed = self.place(&items.take(BACKLOG).collect::<Vec<_>>(), CLIENTS)?;
        // The first on the contract's port; only the queue knows the others.
        let elsewhere = [("LISTEN_ADDR".to_owned(), "127.0.0.1:0".to_owned())];
        for consumer in 0..consumers {
            let more = if consumer == 0 { &[][..] } else { &elsewhere };
            self.running.start_again(self.inventory(), more)?;
        }
        self.running.wait_until_ready()?;
        let ended = |entries: &[Entry]| -> Vec<i64> {
            entries.iter().filter(|entry| entry.effect == ORDER).map(|entry| entry.done_us).collect()
        };
        signals::poll(Duration::from_millis(50), DRAIN_LIMIT, || {
            self.journal.poll()?;
            Ok((ended(&self.journal.entries[begin..]).len() >= placed.len()).then_some(()))
        })?;
        let mut times = ended(&self.journal.entries[begin..]);
        times.sort_unstable();
        let accepted: Vec<String> = placed.into_iter().filter_map(|placed| placed.order_id).collect();
        self.settle(&accepted, None)?;
        // Any of them may be the one on the contract's port.
        for _ in 0..consumers {
            self.running.stop_service(self.inventory(), STOP_LIMIT)?;
        }
        self.start()?;
        Ok(Drain { consumers, curve: curve(&times) })
    }

    fn start(&mut self) -> Result<()> {
        self.running.start_again(self.inventory(), &[])?;
        self.running.wait_until_ready()
    }

    /// Ten deliveries of one message, of which a crash of inventory is in the middle; how often it was counted.
    fn duplicates(&mut self) -> Result<(u64, i64)> {
        let (order, message) =
            ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002");
        let item = self.client.stack.seed()[0].0;
        let body = self.message(order, message, item);
        let deliver = |lab: &Self, times: u64| -> Result<()> {
            for _ in 0..times {
                match lab.client.stack.topology() {
                    Some(_) => lab.client.publish(&body)?,
                    None => {
                        let (status, text) = lab.client.post(Service::Inventory, "/reserve", &body)?;
                        ensure!(status == 200, "/reserve answered {status}: {text}");
                    }
                }
            }
            Ok(())
        };
        deliver(self, 5)?;
        self.running.kill_service(self.inventory())?;
        self.start()?;
        deliver(self, 5)?;
        // An order after them: when it has ended, they have been handled.
        let last = self.client.place(self.client.stack.seed()[1].0)?;
        let last: Vec<String> = last.order_id.into_iter().collect();
        self.settle(&last, Some((order, item)))?;
        let (seed, stock) = (self.client.stack.seed()[0].1, self.client.stock()?);
        Ok((10, seed - stock.get(item).copied().unwrap_or(0)))
    }

    /// The body of a placed order, or of a reservation.
    fn message(&self, order: &str, message: &str, item: &str) -> String {
        let mut body = json!({"order_id": order, "item": item, self.client.stack.quantity_field(): 1});
        if self.client.stack.topology().is_some() {
            body["message_id"] = json!(message);
            body["timestamp"] = json!(1_800_000_000.5);
        }
        body.to_string()
    }

    /// Bodies that are invalid, each in another way, and an order after them, which must not suffer.
    fn poison(&mut self) -> Result<(u64, u64)> {
        let bodies = self.poisonous();
        let topology = self.client.stack.topology();
        let before = topology.map(|_| self.client.dead_letters()).transpose()?.unwrap_or(0);
        let mut refused = 0;
        for body in &bodies {
            match topology {
                Some(_) => self.client.publish(body)?,
                None => {
                    let (status, _) = self.client.post(Service::Order, "/order", body)?;
                    refused += u64::from([400, 422].contains(&status));
                }
            }
        }
        let good = self.client.place(self.client.stack.seed()[0].0)?;
        let good: Vec<String> = good.order_id.into_iter().collect();
        self.settle(&good, None)?;
        let sent = bodies.len() as u64;
        if topology.is_some() {
            signals::poll(Duration::from_millis(100), Duration::from_secs(30), || {
                refused = self.client.dead_letters()? - before;
                Ok((refused >= sent).then_some(()))
            })?;
        }
        self.lost += sent.saturating_sub(refused);
        self.twice += refused.saturating_sub(sent);
        Ok((sent, refused))
    }

    fn poisonous(&self) -> Vec<String> {
        let item = self.client.stack.seed()[0].0;
        let quantity = self.client.stack.quantity_field();
        let with = |field: &str, value: serde_json::Value| {
            let order = "00000000-0000-4000-8000-00000000000f";
            let text = self.message(order, "00000000-0000-4000-8000-0000000000ff", item);
            let mut body: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            match body.as_object_mut() {
                Some(body) if value.is_null() => drop(body.remove(field)),
                _ => body[field] = value,
            }
            body.to_string()
        };
        let null = serde_json::Value::Null;
        let mut all: Vec<String> =
            ["", "{", "not JSON", "[]", "null", "7", "\"order\"", "{}"].map(Into::into).into();
        all.extend([
            with("item", null.clone()),
            with("item", json!(7)),
            with("item", json!(["burger"])),
            with(quantity, null),
            with(quantity, json!("one")),
            with(quantity, json!(1.5)),
            with(quantity, json!({})),
        ]);
        all
    }
}

const ORDER: &str = campus::effects::ORDER.name;

/// Microseconds from acceptance to the last effect, of each workflow in which an order ended.
fn completed(entries: &[Entry]) -> Vec<u64> {
    let mut workflows: HashMap<&str, (bool, i64, i64)> = HashMap::new();
    for entry in entries {
        let (ended, begin, end) =
            workflows.entry(&entry.workflow).or_insert((false, entry.accepted_us, entry.done_us));
        *ended |= entry.effect == ORDER;
        *begin = (*begin).min(entry.accepted_us);
        *end = (*end).max(entry.done_us);
    }
    let ended = workflows.into_values().filter(|(ended, ..)| *ended);
    ended.filter_map(|(_, begin, end)| u64::try_from(end - begin).ok()).collect()
}

/// How many had ended after which time since the first, at each twentieth of all; `times` ascend.
fn curve(times: &[i64]) -> Vec<(u64, u64)> {
    let Some(first) = times.first() else { return Vec::new() };
    let mut points: Vec<usize> = (0..=20).map(|part| (times.len() - 1) * part / 20).collect();
    points.dedup();
    let point = |at: usize| (u64::try_from(times[at] - first).unwrap_or(0) / 1000, at as u64 + 1);
    points.into_iter().map(point).collect()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workflow_takes_until_its_last_effect_and_counts_when_its_order_ended() {
        let entry = |workflow: &str, effect: &str, accepted_us, done_us| Entry {
            workflow: workflow.into(),
            scenario: "campus".into(),
            effect: effect.into(),
            outcome: "reserved".into(),
            accepted_us,
            done_us,
        };
        let entries = [
            entry("a", ORDER, 10, 30),
            entry("a", "notification", 10, 50),
            entry("b", "notification", 0, 99),
        ];
        assert_eq!(completed(&entries), [40]);
    }

    #[test]
    fn a_curve_has_its_first_and_its_last_point() {
        let times: Vec<i64> = (0..2000).map(|order| 7_000 + order * 1000).collect();
        let curve = curve(&times);
        assert_eq!((curve.len(), curve[0], curve[20]), (21, (0, 1), (1999, 2000)));
        assert_eq!(super::curve(&[5]), [(0, 1)]);
    }
}
