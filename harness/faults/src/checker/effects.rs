//! The six scenarios: what was accepted is stored once, what was refused is not stored, and nothing else is stored.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use super::CheckInput;
use super::finding::Finding;
use super::history::{FinalOutcome, Record};
use super::invariants::*;
use super::stores::counted;
use crate::operation_log::Kind;

/// Kinds of the six scenarios, in order.
pub const SCENARIOS: [Kind; 6] =
    [Kind::Register, Kind::Pay, Kind::Update, Kind::Report, Kind::Order, Kind::Click];

/// The stores by natural key.
pub struct Effects<'a> {
    users: HashMap<&'a str, Vec<i64>>,
    emails: HashMap<i64, u64>,
    /// Of S2, by the number in `order_id`: their states.
    payments: HashMap<i64, Vec<&'a str>>,
    versions: HashMap<(i64, i64), Vec<i64>>,
    /// By type: state, and whether there is a hash.
    jobs: HashMap<&'a str, Vec<(&'a str, bool)>>,
    /// By workflow: id and state.
    orders: HashMap<&'a str, Vec<(i64, &'a str)>>,
    clicks: HashMap<&'a str, u64>,
}

fn grouped<K: Hash + Eq, V>(pairs: impl Iterator<Item = (K, V)>) -> HashMap<K, Vec<V>> {
    let mut groups: HashMap<K, Vec<V>> = HashMap::new();
    for (key, value) in pairs {
        groups.entry(key).or_default().push(value);
    }
    groups
}

impl<'a> Effects<'a> {
    pub fn of(input: &CheckInput<'a>) -> Effects<'a> {
        let stores = input.stores;
        let of_s2 = stores.payments.iter().filter(|payment| !payment.saga);
        let jobs =
            stores.jobs.iter().map(|job| (job.report_type.as_str(), (job.status.as_str(), job.hashed)));
        Effects {
            users: grouped(stores.users.iter().map(|user| (user.email.as_str(), user.id))),
            emails: counted(stores.emails.iter().copied()),
            payments: grouped(of_s2.map(|p| (p.order_id.unwrap_or(0), p.status.as_str()))),
            versions: grouped(
                stores.product_updates.iter().map(|(id, version, stock)| ((*id, *version), *stock)),
            ),
            jobs: grouped(jobs),
            orders: grouped(stores.orders.iter().map(|o| (o.workflow.as_str(), (o.id, o.status.as_str())))),
            clicks: counted(stores.clicks.iter().map(String::as_str)),
        }
    }

    /// Rows of the operation's natural key.
    fn rows(&self, record: &Record) -> u64 {
        let body = &record.operation.body;
        let count = match record.operation.kind {
            Kind::Register => self.users.get(text(record, "email")).map_or(0, Vec::len),
            Kind::Pay => self.payments.get(&number(record, "order_id")).map_or(0, Vec::len),
            Kind::Report => self.jobs.get(text(record, "report_type")).map_or(0, Vec::len),
            Kind::Order => self.orders.get(record.operation.workflow().as_str()).map_or(0, Vec::len),
            Kind::Click => {
                return body["page"].as_str().and_then(|p| self.clicks.get(p)).copied().unwrap_or(0);
            }
            Kind::Update => {
                let version = record.accepted().and_then(|answer| answer["version"].as_i64()).unwrap_or(0);
                let updated = self.versions.get(&(product(record), version));
                updated.map_or(0, |stocks| stocks.iter().filter(|s| **s == number(record, "stock")).count())
            }
            Kind::CreateProduct | Kind::Invalid => 0,
        };
        count as u64
    }

    /// Whether the promised effect is stored.
    pub fn done(&self, record: &Record) -> bool {
        self.rows(record) > 0
            && match record.operation.kind {
                Kind::Register => {
                    let ids = self.users.get(text(record, "email"));
                    let answered = record.accepted().and_then(|answer| answer["id"].as_i64());
                    ids.is_some_and(|ids| {
                        answered.is_none_or(|id| ids.contains(&id))
                            && ids.iter().all(|id| self.emails.contains_key(id))
                    })
                }
                Kind::Pay => {
                    let states = self.payments.get(&number(record, "order_id"));
                    states.is_some_and(|states| states.contains(&"success"))
                }
                Kind::Report => {
                    let jobs = self.jobs.get(text(record, "report_type"));
                    jobs.is_some_and(|jobs| jobs.contains(&("completed", true)))
                }
                Kind::Order => {
                    let orders = self.orders.get(record.operation.workflow().as_str());
                    let id = record.order();
                    orders.is_some_and(|orders| {
                        orders.iter().any(|(known, state)| Some(*known) == id && *state != "pending")
                    })
                }
                _ => true,
            }
    }
}

fn text<'r>(record: &'r Record, field: &str) -> &'r str {
    record.operation.body[field].as_str().unwrap_or_default()
}

fn number(record: &Record, field: &str) -> i64 {
    record.operation.body[field].as_i64().unwrap_or_default()
}

/// Of an update, from its path.
pub fn product(record: &Record) -> i64 {
    record.operation.path.rsplit('/').next().and_then(|id| id.parse().ok()).unwrap_or(0)
}

/// One finding for each scenario, and one for their sum.
pub fn lost(input: &CheckInput<'_>, effects: &Effects<'_>) -> Vec<Finding> {
    let (mut accepted, mut done, mut admitted) = (0_u64, 0_u64, 0_u64);
    let mut findings = Vec::new();
    for (kind, invariant) in SCENARIOS.into_iter().zip(LOST) {
        let mut finding = Finding::of(invariant);
        for record in input.history.of(kind).filter(|record| record.accepted().is_some()) {
            let there = effects.done(record);
            accepted += 1;
            done += u64::from(there);
            admitted += u64::from(!there && record.warned());
            finding.look(there || record.warned(), || record.name());
        }
        findings.push(finding);
    }
    let poison: HashSet<_> = input.poison.iter().collect();
    let dead: HashSet<_> = input.stores.dead_letters.iter().filter(|dead| !poison.contains(dead)).collect();
    let dead = (dead.len() as u64).min(accepted - done - admitted);
    let mut sum = Finding::of(CONSERVED);
    sum.n = accepted;
    let missing = accepted - done - admitted - dead;
    if missing > 0 {
        sum.broke(format!("{accepted} accepted, {done} done, {dead} dead-lettered, {admitted} admitted"));
        sum.broken = missing;
    }
    findings.push(sum);
    findings
}

pub fn rows_twice(effects: &Effects<'_>) -> Finding {
    let mut finding = Finding::of(ROWS_TWICE);
    let mut look = |what: &str, key: String, rows: u64| {
        finding.look(rows == 1, || format!("{what} {key}: {rows} rows"));
    };
    // The table's unique index ignores case, so this does too.
    let folded =
        counted(effects.users.iter().flat_map(|(email, ids)| ids.iter().map(|_| email.to_lowercase())));
    folded.into_iter().for_each(|(email, rows)| look("user", email, rows));
    effects.emails.iter().for_each(|(user, rows)| look("e-mail of user", user.to_string(), *rows));
    effects.payments.iter().for_each(|(tag, rows)| look("payment", tag.to_string(), rows.len() as u64));
    effects
        .versions
        .iter()
        .for_each(|(key, rows)| look("product update", format!("{key:?}"), rows.len() as u64));
    effects.jobs.iter().for_each(|(tag, rows)| look("report", (*tag).to_owned(), rows.len() as u64));
    effects.orders.iter().for_each(|(flow, rows)| look("order", (*flow).to_owned(), rows.len() as u64));
    effects.clicks.iter().for_each(|(page, rows)| look("click", (*page).to_owned(), *rows));
    finding
}

/// Operations with a key: each ends with a definite outcome, and one with an unknown attempt has one effect.
pub fn unknown(input: &CheckInput<'_>, effects: &Effects<'_>) -> Vec<Finding> {
    let (mut once, mut definite) = (Finding::of(UNKNOWN_ONCE), Finding::of(DEFINITE));
    let keyed = [Kind::Register, Kind::Pay, Kind::Report, Kind::Order];
    for record in input.history.records.values().filter(|record| keyed.contains(&record.operation.kind)) {
        let ended = !matches!(record.outcome, FinalOutcome::Unknown | FinalOutcome::Refused);
        definite.look(ended, || {
            format!("{}: {:?} after {} attempts", record.name(), record.outcome, record.attempts)
        });
        if record.unknown && ended {
            let fine = match record.outcome {
                FinalOutcome::Accepted(_) => {
                    effects.rows(record) == 1 && (effects.done(record) || record.warned())
                }
                FinalOutcome::Failed => effects.rows(record) == 1,
                _ => false,
            };
            let rows = effects.rows(record);
            once.look(fine, || format!("{}: {:?}, {rows} rows", record.name(), record.outcome));
        }
    }
    vec![once, definite]
}

/// Invalid requests are answered 4xx and change nothing; valid requests are not answered 4xx.
pub fn refused(input: &CheckInput<'_>) -> Vec<Finding> {
    let (mut taken, mut trace) = (Finding::of(VALID_TAKEN), Finding::of(NO_TRACE));
    for record in input.history.records.values() {
        if record.operation.kind != Kind::Invalid {
            taken.look(!matches!(record.outcome, FinalOutcome::Rejected(_)), || {
                format!("{}: {:?}", record.name(), record.outcome)
            });
        }
    }
    let stores = input.stores;
    let valid = input.history.records.values().filter(|record| record.operation.kind != Kind::Invalid);
    let keys: HashSet<&str> = valid.filter_map(|record| record.operation.key.as_deref()).collect();
    let emails: HashSet<&str> = stores.users.iter().map(|user| user.email.as_str()).collect();
    let payments: HashSet<i64> =
        stores.payments.iter().filter(|p| !p.saga).filter_map(|p| p.order_id).collect();
    let jobs: HashSet<&str> = stores.jobs.iter().map(|job| job.report_type.as_str()).collect();
    let pages: HashSet<&str> = stores.clicks.iter().map(String::as_str).collect();
    let ordered: HashSet<i64> = stores.orders.iter().map(|order| order.product_id).collect();
    let products: HashSet<i64> = stores.products.iter().map(|product| product.id).collect();
    for record in input.history.of(Kind::Invalid) {
        let key = record.operation.key.as_deref().filter(|key| !keys.contains(key));
        let left = match record.operation.path.as_str() {
            "/register" => emails.contains(text(record, "email")),
            "/process_payment" | "/process_payment_fail" => payments.contains(&number(record, "order_id")),
            "/generate_report" => jobs.contains(text(record, "report_type")),
            "/track_click" => pages.contains(text(record, "page")),
            "/create_order" => ordered.contains(&number(record, "product_id")),
            _ => products.contains(&product(record)),
        };
        let key_left = key.is_some_and(|key| stores.idempotency_keys.contains(key));
        let accepted = matches!(record.outcome, FinalOutcome::Accepted(_));
        trace.look(!left && !key_left && !accepted, || format!("{}: {:?}", record.name(), record.outcome));
    }
    vec![taken, trace]
}

/// Every row belongs to an operation that may have reached the service.
pub fn unasked(input: &CheckInput<'_>) -> Finding {
    let stores = input.stores;
    let sent = |kind| input.history.of(kind).filter(|record| !record.not_sent);
    let texts = |kind, field| -> HashSet<&str> { sent(kind).map(|record| text(record, field)).collect() };
    let mut finding = Finding::of(UNASKED);

    let emails = texts(Kind::Register, "email");
    let users: HashSet<i64> = stores.users.iter().map(|user| user.id).collect();
    for user in &stores.users {
        finding.look(emails.contains(user.email.as_str()), || format!("user {}: {}", user.id, user.email));
    }
    for user in &stores.emails {
        finding.look(users.contains(user), || format!("e-mail of user {user}, which no request registered"));
    }
    let tags: HashSet<i64> = sent(Kind::Pay).map(|record| number(record, "order_id")).collect();
    let orders: HashSet<i64> = stores.orders.iter().map(|order| order.id).collect();
    for payment in &stores.payments {
        let asked = if payment.saga { &orders } else { &tags };
        let known = payment.order_id.is_some_and(|id| asked.contains(&id));
        finding.look(known, || format!("payment {} for {:?}", payment.payment_id, payment.order_id));
    }
    let types = texts(Kind::Report, "report_type");
    for job in &stores.jobs {
        finding.look(types.contains(job.report_type.as_str()), || format!("report {}", job.report_type));
    }
    let workflows: HashSet<String> = sent(Kind::Order).map(|record| record.operation.workflow()).collect();
    for order in &stores.orders {
        finding.look(workflows.contains(&order.workflow), || {
            format!("order {} of {}", order.id, order.workflow)
        });
    }
    for reservation in &stores.reservations {
        let known = reservation.order_id.is_some_and(|id| orders.contains(&id));
        finding.look(known, || format!("reservation for order {:?}", reservation.order_id));
    }
    let updates: HashSet<(i64, i64)> = sent(Kind::Update).map(|r| (product(r), number(r, "stock"))).collect();
    for (id, version, stock) in stores.product_updates.iter().filter(|(_, version, _)| *version > 1) {
        finding
            .look(updates.contains(&(*id, *stock)), || format!("version {version} of product {id}: {stock}"));
    }
    let pages = texts(Kind::Click, "page");
    for page in &stores.clicks {
        finding.look(pages.contains(page.as_str()), || format!("click on {page}"));
    }
    finding
}

/// Missing effects that the answers disclose.
pub fn disclosed(input: &CheckInput<'_>, effects: &Effects<'_>) -> Vec<Finding> {
    let (mut warned, mut missing) = (Finding::disclosed(WARNED), Finding::disclosed(STILL_MISSING));
    let mut cut_off = Finding::disclosed(PAYMENT_CUT_OFF);
    for record in input.history.records.values() {
        if record.accepted().is_some() {
            warned.look(!record.warned(), || record.name());
        }
        if record.warned() {
            missing.look(effects.done(record), || record.name());
        }
        if record.operation.kind == Kind::Pay {
            cut_off.look(record.outcome != FinalOutcome::Failed, || record.name());
        }
    }
    vec![warned, missing, cut_off]
}
