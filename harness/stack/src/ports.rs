//! The contract's ports, moved by `--port-offset`. Before anything starts, each port that is taken is reported with the server
//! that needs it and the process that holds it.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result, bail};
use contract::{Monitoring, Service};

use super::broker::{BrokerPorts, Server};
use super::{Mode, modes};

#[derive(Clone, Debug)]
pub struct Ports {
    pub postgres: u16,
    pub broker: Option<BrokerPorts>,
    /// In the order of the services of the stack.
    pub services: Vec<u16>,
    /// In the order of [`Monitoring::ALL`], as far as there is any.
    pub monitoring: Vec<u16>,
}

impl Ports {
    /// Those of the contract, and the internal ones of the broker.
    pub fn contract(mode: Mode, offset: u16) -> Result<Self> {
        Self::unmoved(mode).moved(offset)
    }

    pub(super) fn unmoved(mode: Mode) -> Self {
        let ports = mode.ports();
        let broker = |(server, ports): (&'static dyn Server, contract::BrokerPorts)| {
            BrokerPorts::of(server, ports, server.internal_ports())
        };
        Self {
            postgres: ports.postgres,
            broker: modes::broker(mode).zip(ports.broker).map(broker),
            services: Service::ALL.map(|service| ports.service(service)).into(),
            monitoring: Vec::new(),
        }
    }

    pub fn moved(&self, offset: u16) -> Result<Self> {
        self.map(|port| {
            port.checked_add(offset).with_context(|| {
                format!("--port-offset {offset} moves port {port} past 65535: use at most 39861")
            })
        })
    }

    fn map(&self, mut at: impl FnMut(u16) -> Result<u16>) -> Result<Self> {
        let postgres = at(self.postgres)?;
        let mut broker = self.broker.clone();
        if let Some(ports) = &mut broker {
            let published = [Some(&mut ports.client), ports.management.as_mut(), ports.metrics.as_mut()];
            for port in published.into_iter().flatten().chain(&mut ports.internal) {
                *port = at(*port)?;
            }
        }
        let mut all = |ports: &[u16]| ports.iter().map(|port| at(*port)).collect::<Result<_>>();
        Ok(Self { postgres, broker, services: all(&self.services)?, monitoring: all(&self.monitoring)? })
    }

    /// Unused ports, for tests, which run beside other stacks.
    pub fn free(mode: Mode) -> Result<Self> {
        let mut free = unused(16)?.into_iter();
        Self::unmoved(mode).map(|_| free.next().context("a stack has more ports than were looked for"))
    }

    /// Each port with the name of what listens there.
    fn named(&self, services: &[&str]) -> Vec<(u16, String)> {
        let mut named = vec![(self.postgres, "PostgreSQL".to_owned())];
        if let Some(broker) = &self.broker {
            let title = |purpose: &&str| format!("{} ({purpose})", broker.server.title());
            named.extend(broker.all().into_iter().zip(broker.server.port_names().iter().map(title)));
        }
        named.extend(self.services.iter().copied().zip(services.iter().map(ToString::to_string)));
        let monitoring = Monitoring::ALL.map(|server| server.name().to_owned());
        named.extend(self.monitoring.iter().copied().zip(monitoring));
        named
    }

    /// Fails with a line for each port on which another process listens, on either loopback address: `localhost` means both.
    /// `services` are the names of the stack's services.
    pub(super) fn check(&self, stack: &str, services: &[&str]) -> Result<()> {
        let mut busy = Vec::new();
        for (port, needed_by) in self.named(services) {
            if let Some(error) = taken(port) {
                let holder = holder(port).unwrap_or_else(|| format!("a process of another user ({error})"));
                busy.push(format!("port {port}, needed by {needed_by} ({stack}), is held by {holder}"));
            }
        }
        if busy.is_empty() {
            return Ok(());
        }
        bail!("{}: end what holds it, or move everything with --port-offset N", busy.join("\nstudy: "))
    }
}

/// Why a server of the stack cannot listen there.
fn taken(port: u16) -> Option<std::io::Error> {
    let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).err();
    // A machine may have no IPv6.
    let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).err();
    v4.or(v6.filter(|error| error.kind() == std::io::ErrorKind::AddrInUse))
}

/// Ports without a listener, below those that the kernel gives to outgoing connections: an outgoing connection could take a
/// port before the server listens there. The search begins at a random port, because other runs search too.
fn unused(count: usize) -> Result<Vec<u16>> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let end =
        range.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32768_u16).max(12_000);
    let first = 10_000;
    let mut random = [0; 2];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random))?;
    let start = u16::from_ne_bytes(random) % (end - first);
    let ports = (0..end - first).map(|step| first + (start + step) % (end - first));
    let free: Vec<u16> =
        ports.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).take(count).collect();
    if free.len() < count {
        bail!("there are no {count} free ports between {first} and {end}");
    }
    Ok(free)
}

/// `pid 42 (nginx -g ...)`, as far as this user may see it.
fn holder(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| fs::read_to_string(file).unwrap_or_default());
    let inodes: Vec<String> = tables.iter().flat_map(|table| listening(table, port)).collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let pid = process.file_name().to_string_lossy().into_owned();
        // Not `self` or another entry that is no process.
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        for file in files.flatten() {
            let Ok(target) = fs::read_link(file.path()) else { continue };
            if inodes.iter().any(|inode| target == Path::new(&format!("socket:[{inode}]"))) {
                return Some(format!("pid {pid} ({})", command_line(&pid)));
            }
        }
    }
    None
}

/// The inodes of the sockets that listen on `port`, from the text of /proc/net/tcp.
fn listening(table: &str, port: u16) -> Vec<String> {
    let listen = "0A";
    let wanted = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() > 9 && row[1].ends_with(&wanted) && row[3] == listen)
        .map(|row| row[9].to_owned())
        .collect()
}

fn command_line(pid: &str) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&raw).replace('\0', " ");
    text.trim().chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_are_those_of_the_contract() {
        let ports = Ports::contract(Mode::Sync, 0).unwrap();
        assert_eq!((ports.postgres, ports.services[0], ports.services[9]), (5432, 8001, 8010));
        let ports = Ports::contract(Mode::Async, 1000).unwrap();
        assert_eq!((ports.postgres, ports.services[0], ports.services[9]), (6433, 9101, 9110));
        assert_eq!(ports.broker.unwrap().all(), [6672, 16672, 16692, 26673, 26674]);
    }

    #[test]
    fn an_offset_that_leaves_no_room_is_refused() {
        assert!(Ports::contract(Mode::Async, 39861).is_ok());
        let error = Ports::contract(Mode::Async, 39862).unwrap_err();
        assert!(error.to_string().contains("at most 39861"), "{error}");
    }

    #[test]
    fn only_a_listening_socket_on_the_port_is_found() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1\n\
             1: 0100007F:1538 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 222 1\n\
             2: 0100007F:1539 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1\n";
        assert_eq!(listening(table, 5432), ["111"]);
    }

    #[test]
    fn a_busy_port_is_named_with_its_holder() {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // A machine may have no IPv6.
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
        let mut ports = Ports::free(Mode::Sync).unwrap();
        ports.check("sync", &[]).unwrap();
        for listener in [Ok(v4), v6].into_iter().flatten() {
            ports.postgres = listener.local_addr().unwrap().port();
            let error = ports.check("sync", &[]).unwrap_err().to_string();
            let holder = format!("needed by PostgreSQL (sync), is held by pid {}", std::process::id());
            assert!(error.contains(&holder), "{error}");
        }
    }
}
