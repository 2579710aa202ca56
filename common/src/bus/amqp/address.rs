//! The broker's address, from AMQP_URL or RABBITMQ_*. lapin's own parser ignores unknown options, and replaces an IPv6 address
//! or a missing host by `localhost`.

use std::str::FromStr;

use lapin::uri::{AMQPAuthority, AMQPUri, AMQPUserInfo};
use percent_encoding::percent_decode_str;

use crate::config::AmqpSettings;
use crate::config::address::{Address, given, host};

const OPTIONS: [&str; 5] = ["heartbeat", "frame_max", "channel_max", "connection_timeout", "auth_mechanism"];
/// lapin allocates 64 frames a connection; with the default of 128 KB these are 8 MB.
const FRAME_MAX: u32 = 16_384;
/// The smallest that AMQP allows.
const FRAME_MIN: u32 = 4096;
const HEARTBEAT_SECONDS: u16 = 10;

/// # Errors
/// One line that names the setting that is missing or wrong.
pub(super) fn address(settings: &AmqpSettings) -> Result<AMQPUri, String> {
    let mut uri = match (given(settings.amqp_url.as_ref()), given(settings.rabbitmq_host.as_ref())) {
        (Some(url), _) => from_url(url.trim()).map_err(|error| format!("AMQP_URL: {error}"))?,
        (None, Some(host)) => from_parts(settings, host)?,
        (None, None) => {
            return Err("AMQP_URL is missing (or RABBITMQ_HOST, RABBITMQ_USER, RABBITMQ_PASSWORD)".into());
        }
    };
    uri.query.frame_max.get_or_insert(FRAME_MAX);
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    Ok(uri)
}

fn from_url(url: &str) -> Result<AMQPUri, String> {
    if url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("amqps://")) {
        return Err("amqps asks for TLS, which is not built in: use amqp://".into());
    }
    let address = Address::split(url, &["amqp"], &OPTIONS)?;
    for (name, value) in &address.options {
        let is = match *name {
            "heartbeat" | "channel_max" => value.parse::<u16>().is_ok(),
            "frame_max" => value.parse::<u32>().is_ok_and(|size| size == 0 || size >= FRAME_MIN),
            "connection_timeout" => value.parse::<u64>().is_ok(),
            _ => true,
        };
        if !is {
            return Err(format!("the value of {name} is no number that it can have"));
        }
    }
    if address.host.is_empty() {
        return Err("the address names no host".into());
    }
    let mut uri = AMQPUri::from_str(url)?;
    if address.host.contains(':') {
        uri.authority.host = address.host.to_owned();
    }
    if uri.vhost.is_empty() {
        return Err("the address ends with /, which names a virtual host without a name; \
                    for the virtual host / leave it away or write /%2f"
            .into());
    }
    Ok(uri)
}

fn from_parts(settings: &AmqpSettings, place: &str) -> Result<AMQPUri, String> {
    for (name, value) in
        [("RABBITMQ_USER", &settings.rabbitmq_user), ("RABBITMQ_VHOST", &settings.rabbitmq_vhost)]
    {
        if value.is_empty() {
            return Err(format!("{name} is empty"));
        }
    }
    let host = host(place).map_err(|error| format!("RABBITMQ_HOST: {error}"))?;
    // The virtual host alone may be encoded: `%2f` and `/` are the same.
    let vhost = percent_decode_str(&settings.rabbitmq_vhost).decode_utf8_lossy().into_owned();
    let (username, password) = (settings.rabbitmq_user.clone(), settings.rabbitmq_password.clone());
    let authority = AMQPAuthority {
        userinfo: AMQPUserInfo { username, password },
        host: host.to_owned(),
        port: settings.rabbitmq_port,
    };
    Ok(AMQPUri { authority, vhost, ..AMQPUri::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Only {
        #[command(flatten)]
        broker: AmqpSettings,
    }

    fn of(url: &str, parts: &[&str]) -> Result<AMQPUri, String> {
        let url = format!("--amqp-url={url}");
        let given = ["x", &url].into_iter().chain(parts.iter().copied());
        address(&<Only as clap::Parser>::try_parse_from(given).unwrap().broker)
    }

    #[test]
    fn a_url_is_taken_as_written_and_completed() {
        let uri = of("amqp://u:p%40@[::1]:5673/v%2Fw?heartbeat=5", &["--rabbitmq-host=other"]).unwrap();
        assert_eq!((uri.authority.host.as_str(), uri.authority.port), ("::1", 5673));
        assert_eq!((uri.authority.userinfo.password.as_str(), uri.vhost.as_str()), ("p@", "v/w"));
        assert_eq!((uri.query.heartbeat, uri.query.frame_max), (Some(5), Some(FRAME_MAX)));
        let uri = of("amqp://broker", &[]).unwrap();
        assert_eq!((uri.authority.host.as_str(), uri.authority.port), ("broker", 5672));
        assert_eq!((uri.vhost.as_str(), uri.query.heartbeat), ("/", Some(HEARTBEAT_SECONDS)));
        assert_eq!(of("amqp://127.0.0.1/%2f", &[]).unwrap().authority.host, "127.0.0.1");
    }

    #[test]
    fn parts_are_taken_as_they_are_beside_an_empty_url() {
        let parts = ["--rabbitmq-host=::1", "--rabbitmq-user=a@b", "--rabbitmq-password=p/?#%41"];
        let uri = of("", &parts).unwrap();
        assert_eq!((uri.authority.host.as_str(), uri.vhost.as_str()), ("::1", "/"));
        assert_eq!(uri.authority.userinfo.username, "a@b");
        assert_eq!(uri.authority.userinfo.password, "p/?#%41");
        for (given, vhost) in [("/", "/"), ("%2f", "/"), ("a?b#c", "a?b#c"), ("..", ".."), ("a/b", "a/b")] {
            let vhost_is = format!("--rabbitmq-vhost={given}");
            assert_eq!(of("", &["--rabbitmq-host=h", &vhost_is]).unwrap().vhost, vhost);
        }
    }

    #[test]
    fn the_setting_that_is_wrong_is_named_and_its_password_is_not() {
        let url = |error: &str| format!("AMQP_URL: {error}");
        for (given, wrong) in [
            ("secret", url("the address does not begin with amqp://")),
            ("http://u:secret@h", url("the address does not begin with amqp://")),
            ("amqp:u:secret@h", url("the address does not begin with amqp://")),
            ("amqps://u:secret@h", url("amqps asks for TLS")),
            ("amqp://u:secret@h:port", url("invalid port")),
            ("amqp://u:secret@h:0", url("0 is no port")),
            ("amqp://u:secret@/v", url("")),
            ("amqp://u:secret@h i/v", url("")),
            ("amqp://u:secret@h/", url("the address ends with /")),
            ("amqp://u:secret@h/?heartbeat=abc", url("the value of heartbeat")),
            ("amqp://u:secret@h/v?frame_max=100", url("the value of frame_max")),
            ("amqp://u:secret@h/v?heartbeats=5", url("heartbeats is no option")),
            ("amqp://u:secret@h/v?auth_mechanism=none", url("Invalid SASL mechanism")),
        ] {
            let error = of(given, &["--rabbitmq-host=h"]).unwrap_err();
            assert!(error.starts_with(&wrong) && !error.contains("secret"), "{given}: {error}");
        }
        for (part, name) in [
            ("--rabbitmq-host= h", "RABBITMQ_HOST: "),
            ("--rabbitmq-host=h:5672", "RABBITMQ_HOST: "),
            ("--rabbitmq-host=/var/run", "RABBITMQ_HOST: "),
            ("--rabbitmq-host=", "AMQP_URL is missing (or RABBITMQ_HOST"),
        ] {
            let error = of("", &[part]).unwrap_err();
            assert!(error.starts_with(name), "{part}: {error}");
        }
    }
}
