//! The ten services.

use std::fmt;

use serde::Serialize;

/// The schema of a program: PostgreSQL's plain names have no hyphen.
pub fn schema_of(program: &str) -> String {
    program.replace('-', "_")
}

/// A service, in the order of the host ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(into = "&'static str")]
pub enum Service {
    User,
    Payment,
    Product,
    Report,
    Order,
    Analytics,
    Email,
    Search,
    Cache,
    Inventory,
}

impl Service {
    pub const ALL: [Service; 10] = [
        Service::User,
        Service::Payment,
        Service::Product,
        Service::Report,
        Service::Order,
        Service::Analytics,
        Service::Email,
        Service::Search,
        Service::Cache,
        Service::Inventory,
    ];

    /// The port inside its container.
    pub const CONTAINER_PORT: u16 = 8000;

    /// The program, the container, the schema and the login are called so.
    pub const fn name(self) -> &'static str {
        match self {
            Service::User => "userservice",
            Service::Payment => "paymentservice",
            Service::Product => "productservice",
            Service::Report => "reportservice",
            Service::Order => "orderservice",
            Service::Analytics => "analyticsservice",
            Service::Email => "emailservice",
            Service::Search => "searchservice",
            Service::Cache => "cacheservice",
            Service::Inventory => "inventoryservice",
        }
    }

    /// What it stores; `None` for a service without a database.
    pub const fn stores(self) -> Option<&'static str> {
        match self {
            Service::User => Some("users"),
            Service::Payment => Some("payments"),
            Service::Product => Some("products"),
            Service::Report => Some("report jobs"),
            Service::Order => Some("orders"),
            Service::Analytics => Some("clicks, product updates"),
            Service::Email => Some("e-mails sent"),
            Service::Search => Some("product index"),
            Service::Cache => None,
            Service::Inventory => Some("stock, reservations"),
        }
    }

    /// The environment variable by which callers in sync mode know its address, such as `EMAIL_SERVICE_URL`.
    pub fn url_variable(self) -> String {
        format!("{}_SERVICE_URL", self.short_name().to_uppercase())
    }

    /// The name without its ending: `user` of `userservice`.
    pub fn short_name(self) -> &'static str {
        self.name().trim_end_matches("service")
    }

    /// The service that `name` means: `userservice`, or `user` for short.
    pub fn find(name: &str) -> Option<Service> {
        Service::ALL.into_iter().find(|service| service.name() == name || service.short_name() == name)
    }
}

impl From<Service> for &'static str {
    fn from(service: Service) -> &'static str {
        service.name()
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_in_the_list_is_the_place_among_the_ports() {
        for (place, service) in Service::ALL.into_iter().enumerate() {
            assert_eq!(service as usize, place);
        }
    }

    #[test]
    fn a_service_is_found_by_its_whole_and_its_short_name() {
        assert_eq!(Service::find("user"), Some(Service::User));
        assert_eq!(Service::find("cacheservice"), Some(Service::Cache));
        assert_eq!(Service::find("service"), None);
    }
}
