//! What the services themselves say they stored, against what k6 saw accepted: a second opinion that does not come
//! from the journals. The database was empty before, so the whole lists are of this run.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context, Result};
use contract::{Scenario, Service};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::Agent;

use super::journal::Entry;
use super::samples::Answer;
use stack::metrics::{label, series};
use stack::{Stack, http};

/// The longest list a service gives (CONTRACT section 2). A longer run is not checked by lists.
const LONGEST_LIST: usize = 1000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrossCheck {
    pub what: String,
    pub expected: String,
    pub found: String,
    pub ok: bool,
}

/// What stands in the stores before the load.
pub struct Before {
    clicks: u64,
    reserved: i64,
}

#[derive(Deserialize)]
struct Count {
    count: u64,
}

#[derive(Deserialize)]
struct User {
    id: i64,
}

#[derive(Deserialize)]
struct Email {
    user_id: i64,
}

#[derive(Deserialize)]
struct Order {
    status: String,
}

#[derive(Deserialize)]
struct Stock {
    reserved: i64,
}

pub struct Stores<'a> {
    agent: Agent,
    stack: &'a Stack,
}

impl<'a> Stores<'a> {
    pub fn new(stack: &'a Stack) -> Self {
        Self { agent: http::agent(Duration::from_secs(20)), stack }
    }

    fn get<T: DeserializeOwned>(&self, service: &str, path: &str) -> Result<T> {
        let url = format!("{}{path}", self.stack.url(service));
        let (status, body) =
            http::get(&self.agent, &url).with_context(|| format!("{url} does not answer"))?;
        serde_json::from_str(&body)
            .with_context(|| format!("{url} answers {status} with something unreadable"))
    }

    fn list<T: DeserializeOwned>(&self, service: &str, path: &str) -> Result<Vec<T>> {
        self.get(service, &format!("{path}?limit={LONGEST_LIST}"))
    }

    fn reserved(&self) -> Result<i64> {
        Ok(self
            .get::<Vec<Stock>>(Service::Inventory.name(), "/inventory")?
            .iter()
            .map(|stock| stock.reserved)
            .sum())
    }

    fn clicks(&self) -> Result<u64> {
        Ok(self.get::<Count>(Service::Analytics.name(), "/clicks/count")?.count)
    }

    pub fn before(&self) -> Result<Before> {
        Ok(Before { clicks: self.clicks()?, reserved: self.reserved()? })
    }

    /// The histograms that the services show to Prometheus, against the journals: as many effects, as long.
    pub fn metrics_against(&self, entries: &[Entry]) -> Result<Vec<CrossCheck>> {
        let mut shown = Effects::new();
        for service in &Service::ALL {
            let url = format!("{}/metrics", self.stack.url(service.name()));
            let (_, text) = http::get(&self.agent, &url).with_context(|| format!("{url} does not answer"))?;
            read_metrics(&text, &mut shown);
        }
        Ok(compare_effects(&shown, &of_journals(entries)))
    }

    /// `answers`: of everything that was asked of this stack, warm-up included.
    pub fn check(&self, before: &Before, answers: &[Answer]) -> Result<Vec<CrossCheck>> {
        let asked = |scenario| answers.iter().filter(move |answer: &&Answer| answer.scenario == scenario);
        let tally = |scenario| Tally {
            accepted: asked(scenario).filter(|answer| answer.expected).count() as u64,
            refused: asked(scenario).filter(|answer| !answer.expected).count() as u64,
        };
        let mut checks = vec![
            tally(Scenario::S6).against("clicks stored", self.clicks()? - before.clicks),
            same("stock reserved when all orders have ended", before.reserved, self.reserved()?),
        ];
        let users: Vec<User> = self.list(Service::User.name(), "/users")?;
        if users.len() < LONGEST_LIST {
            checks.push(tally(Scenario::S1).against("users stored", users.len() as u64));
            let emails: Vec<Email> = self.list(Service::Email.name(), "/emails")?;
            checks.push(same("users without exactly one e-mail", 0, not_once(&users, &emails)));
        }
        let orders: Vec<Order> = self.list(Service::Order.name(), "/orders")?;
        if orders.len() < LONGEST_LIST {
            checks.push(tally(Scenario::S5).against("orders stored", orders.len() as u64));
            let pending = orders.iter().filter(|order| order.status == "pending").count();
            checks.push(same("orders still pending", 0, pending as u64));
        }
        let updates: Vec<serde_json::Value> = self.list(Service::Analytics.name(), "/product_updates")?;
        if updates.len() < LONGEST_LIST {
            checks.push(tally(Scenario::S3).against("product updates recorded", updates.len() as u64));
        }
        Ok(checks)
    }
}

/// By scenario and effect: how many, and the sum of their seconds.
type Effects = BTreeMap<(String, String), (f64, f64)>;

fn of_journals(entries: &[Entry]) -> Effects {
    let mut effects = Effects::new();
    for entry in entries {
        let (count, seconds) = effects.entry((entry.scenario.clone(), entry.effect.clone())).or_default();
        *count += 1.0;
        *seconds += (entry.done_us - entry.accepted_us) as f64 / 1e6;
    }
    effects
}

/// `workflow_completion_seconds_count{effect="email",outcome="sent",scenario="s1"} 12`, and `_sum`.
fn read_metrics(text: &str, into: &mut Effects) {
    let mut add = |metric, to: fn(&mut (f64, f64)) -> &mut f64| {
        for (labels, value) in series(text, metric) {
            let (Some(scenario), Some(effect)) = (label(labels, "scenario"), label(labels, "effect")) else {
                continue;
            };
            *to(into.entry((scenario.to_owned(), effect.to_owned())).or_default()) += value;
        }
    };
    add("workflow_completion_seconds_count", |entry| &mut entry.0);
    add("workflow_completion_seconds_sum", |entry| &mut entry.1);
    into.retain(|_, (count, _)| *count > 0.0);
}

fn compare_effects(shown: &Effects, noted: &Effects) -> Vec<CrossCheck> {
    let counts = |effects: &Effects| {
        let list =
            effects.iter().map(|((scenario, effect), (count, _))| format!("{scenario} {effect} {count}"));
        list.collect::<Vec<_>>().join(", ")
    };
    let mut checks = vec![same(
        "final effects in workflow_completion_seconds, against the journals",
        counts(noted),
        counts(shown),
    )];
    let apart = noted.iter().filter_map(|(effect, (count, seconds))| {
        let (shown_count, shown_seconds) = shown.get(effect)?;
        let (noted, shown) = (seconds / count, shown_seconds / shown_count);
        Some((noted - shown).abs() / noted.max(0.001))
    });
    let apart = 100.0 * apart.fold(0.0, f64::max);
    checks.push(CrossCheck {
        what: "mean time of an effect in workflow_completion_seconds, against the journals".to_owned(),
        expected: "at most 5 % apart".to_owned(),
        found: format!("{apart:.1} %"),
        ok: apart <= 5.0,
    });
    checks
}

/// Of one scenario: an answer that accepts must have its effect, a refusal or a time-out may have it.
struct Tally {
    accepted: u64,
    refused: u64,
}

impl Tally {
    fn against(&self, what: &str, found: u64) -> CrossCheck {
        let most = self.accepted + self.refused;
        let expected =
            if self.refused == 0 { most.to_string() } else { format!("{} to {most}", self.accepted) };
        CrossCheck {
            what: what.to_owned(),
            expected,
            found: found.to_string(),
            ok: (self.accepted..=most).contains(&found),
        }
    }
}

fn same<T: PartialEq + ToString>(what: &str, expected: T, found: T) -> CrossCheck {
    CrossCheck {
        what: what.to_owned(),
        ok: expected == found,
        expected: expected.to_string(),
        found: found.to_string(),
    }
}

fn not_once(users: &[User], emails: &[Email]) -> u64 {
    let mut sent: HashMap<i64, u64> = HashMap::new();
    for email in emails {
        *sent.entry(email.user_id).or_default() += 1;
    }
    users.iter().filter(|user| sent.get(&user.id) != Some(&1)).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_store_more_or_less_than_was_accepted_is_found() {
        let exact = Tally { accepted: 10, refused: 0 };
        assert!(exact.against("x", 10).ok && !exact.against("x", 9).ok && !exact.against("x", 11).ok);
        let unsure = Tally { accepted: 10, refused: 2 };
        assert!(unsure.against("x", 12).ok && !unsure.against("x", 9).ok && !unsure.against("x", 13).ok);
    }

    #[test]
    fn an_effect_that_the_metrics_lack_or_time_otherwise_is_found() {
        let entry = |effect: &str, micros| Entry {
            workflow: "w".into(),
            scenario: "s5".into(),
            effect: effect.into(),
            outcome: "failed".into(),
            accepted_us: 0,
            done_us: micros,
        };
        let noted = of_journals(&[entry("order", 20_000), entry("order", 40_000), entry("stock", 10_000)]);
        let text = "workflow_completion_seconds_bucket{effect=\"order\",outcome=\"failed\",scenario=\"s5\",le=\"1\"} 2\n\
                    workflow_completion_seconds_sum{effect=\"order\",outcome=\"failed\",scenario=\"s5\"} 0.06\n\
                    workflow_completion_seconds_count{effect=\"order\",outcome=\"failed\",scenario=\"s5\"} 2\n\
                    workflow_completion_seconds_sum{effect=\"stock\",outcome=\"released\",scenario=\"s5\"} 0.01\n\
                    workflow_completion_seconds_count{effect=\"stock\",outcome=\"released\",scenario=\"s5\"} 1\n\
                    workflow_completion_seconds_count{effect=\"stock\",outcome=\"sold\",scenario=\"s5\"} 0\n";
        let checked = |text: &str| {
            let mut shown = Effects::new();
            read_metrics(text, &mut shown);
            compare_effects(&shown, &noted).into_iter().map(|check| check.ok).collect::<Vec<_>>()
        };
        assert_eq!(checked(text), [true, true]);
        assert_eq!(checked(&text.replace("} 2\n", "} 1\n")), [false, false]);
        assert_eq!(checked(&text.replace("0.06", "0.07")), [true, false]);
    }

    #[test]
    fn a_user_with_no_or_two_emails_is_found() {
        let users = [1, 2, 3].map(|id| User { id });
        let emails = [1, 2, 2].map(|user_id| Email { user_id });
        assert_eq!(not_once(&users, &emails), 2);
        assert_eq!(not_once(&users[..1], &emails), 0);
    }
}
