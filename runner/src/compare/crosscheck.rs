//! What the services themselves say they stored, against what k6 saw accepted: a second opinion that does not come
//! from the journals. The database was empty before, so the whole lists are of this run.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::Agent;

use super::samples::Answer;
use super::scenario::Scenario;
use crate::local::{Stack, http};

/// The longest list a service gives (CONTRACT section 2). A longer run is not checked by lists.
const LONGEST_LIST: usize = 1000;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CrossCheck {
    pub what: &'static str,
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
        Ok(self.get::<Vec<Stock>>("inventoryservice", "/inventory")?.iter().map(|stock| stock.reserved).sum())
    }

    fn clicks(&self) -> Result<u64> {
        Ok(self.get::<Count>("analyticsservice", "/clicks/count")?.count)
    }

    pub fn before(&self) -> Result<Before> {
        Ok(Before { clicks: self.clicks()?, reserved: self.reserved()? })
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
        let users: Vec<User> = self.list("userservice", "/users")?;
        if users.len() < LONGEST_LIST {
            checks.push(tally(Scenario::S1).against("users stored", users.len() as u64));
            let emails: Vec<Email> = self.list("emailservice", "/emails")?;
            checks.push(same("users without exactly one e-mail", 0, not_once(&users, &emails)));
        }
        let orders: Vec<Order> = self.list("orderservice", "/orders")?;
        if orders.len() < LONGEST_LIST {
            checks.push(tally(Scenario::S5).against("orders stored", orders.len() as u64));
            let pending = orders.iter().filter(|order| order.status == "pending").count();
            checks.push(same("orders still pending", 0, pending as u64));
        }
        let updates: Vec<serde_json::Value> = self.list("analyticsservice", "/product_updates")?;
        if updates.len() < LONGEST_LIST {
            checks.push(tally(Scenario::S3).against("product updates recorded", updates.len() as u64));
        }
        Ok(checks)
    }
}

/// Of one scenario: an answer that accepts must have its effect, a refusal or a time-out may have it.
struct Tally {
    accepted: u64,
    refused: u64,
}

impl Tally {
    fn against(&self, what: &'static str, found: u64) -> CrossCheck {
        let most = self.accepted + self.refused;
        let expected =
            if self.refused == 0 { most.to_string() } else { format!("{} to {most}", self.accepted) };
        CrossCheck { what, expected, found: found.to_string(), ok: (self.accepted..=most).contains(&found) }
    }
}

fn same<T: PartialEq + ToString>(what: &'static str, expected: T, found: T) -> CrossCheck {
    CrossCheck { what, ok: expected == found, expected: expected.to_string(), found: found.to_string() }
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
    fn a_user_with_no_or_two_emails_is_found() {
        let users = [1, 2, 3].map(|id| User { id });
        let emails = [1, 2, 2].map(|user_id| Email { user_id });
        assert_eq!(not_once(&users, &emails), 2);
        assert_eq!(not_once(&users[..1], &emails), 0);
    }
}
