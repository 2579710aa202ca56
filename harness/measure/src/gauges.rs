//! How many workflows are in progress, as the systems themselves show it: requests being answered in sync mode,
//! messages not yet acknowledged in async mode. It is a second opinion on the journals: by Little's law the average
//! is arrival rate x mean time. Only where enough are in progress to be counted once a second: S1, S2, S4.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::Scenario;
use contract::events::queues;
use ureq::Agent;

use stack::metrics::{label, series};
use stack::{Stack, broker::Broker, http};

/// Until the first workflows have ended, and the broker has counted them.
const SETTLED: Duration = Duration::from_secs(8);

/// Each with the queue in which its workflows wait.
const PLACES: [(Scenario, &str); 3] = [
    (Scenario::S1, queues::USER_REGISTERED.name),
    (Scenario::S2, queues::PAYMENT_INITIATED.name),
    (Scenario::S4, queues::REPORT_JOBS.name),
];

pub struct Gauges {
    agent: Agent,
    place: Place,
    sums: BTreeMap<Scenario, (f64, u32)>,
    until: Duration,
}

enum Place {
    Services(Vec<(Scenario, String, &'static str)>),
    Queues(Box<dyn Broker>),
}

impl Gauges {
    /// Averages from the settled state until `until` after the begin of the load.
    pub fn of(stack: &Stack, until: Duration) -> Self {
        let place = match stack.broker() {
            Some(broker) => Place::Queues(broker),
            None => Place::Services(
                PLACES
                    .map(|(scenario, _)| {
                        let (service, _, route) = scenario.entrance();
                        (scenario, format!("{}/metrics", stack.url(service.name())), route)
                    })
                    .into(),
            ),
        };
        Self { agent: http::agent(Duration::from_secs(2)), place, sums: BTreeMap::new(), until }
    }

    pub fn look(&mut self, since: Duration) {
        if since < SETTLED || since > self.until {
            return;
        }
        let mut seen = Vec::new();
        match &self.place {
            Place::Services(places) => {
                for (scenario, url, route) in places {
                    let Ok((200, text)) = http::get(&self.agent, url) else { continue };
                    seen.extend(in_progress(&text, route).map(|count| (*scenario, count)));
                }
            }
            Place::Queues(broker) => {
                for queue in broker.queues().into_iter().flatten() {
                    let scenario = PLACES.iter().find(|(.., name)| *name == queue.name);
                    seen.extend(scenario.map(|(scenario, ..)| (*scenario, queue.messages as f64)));
                }
            }
        }
        for (scenario, count) in seen {
            let (sum, looks) = self.sums.entry(scenario).or_default();
            *sum += count;
            *looks += 1;
        }
    }

    /// The averages.
    pub fn means(&self) -> BTreeMap<Scenario, f64> {
        self.sums.iter().map(|(scenario, (sum, looks))| (*scenario, sum / f64::from(*looks))).collect()
    }
}

fn in_progress(text: &str, route: &str) -> Option<f64> {
    let mut gauges = series(text, "http_requests_in_progress");
    let is = |labels| (label(labels, "handler"), label(labels, "method")) == (Some(route), Some("POST"));
    gauges.find(|(labels, _)| is(labels)).map(|(_, count)| count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gauge_of_a_route_is_read_and_no_other() {
        let text = "# TYPE http_requests_in_progress gauge\n\
                    http_requests_in_progress{handler=\"/users\",method=\"GET\"} 7\n\
                    http_requests_in_progress{handler=\"/register\",method=\"POST\"} 3\n";
        assert_eq!(in_progress(text, "/register"), Some(3.0));
        assert_eq!(in_progress(text, "/users"), None);
    }
}
