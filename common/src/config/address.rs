//! What the parsers of the client libraries leave unchecked in an address, or replace by a value of their own: a wrong address ends
//! the start instead of a service that waits for ever. No message repeats the address: it may hold a password.

use std::net::Ipv6Addr;

use axum::http::Uri;

/// The parts of `scheme://user:password@host:port/path?options` that are checked here.
pub(crate) struct Address<'a> {
    /// Without the brackets of an IPv6 address; empty if the address names no host.
    pub host: &'a str,
    pub has_password: bool,
    /// Name and value, not decoded.
    pub options: Vec<(&'a str, &'a str)>,
}

impl<'a> Address<'a> {
    /// # Errors
    /// What is wrong: the scheme, the host, or an option that is not among `known`.
    pub(crate) fn split(text: &'a str, schemes: &[&str], known: &[&str]) -> Result<Address<'a>, String> {
        let begin = || format!("the address does not begin with {}://", schemes[0]);
        let (scheme, rest) = text.split_once("://").ok_or_else(begin)?;
        if !schemes.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(begin());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if rest.contains('#') || query.contains('#') {
            return Err("a # in the address must be written as %23".into());
        }
        let authority = rest.split('/').next().unwrap_or_default();
        let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (host, port) = match place.rfind(']') {
            Some(end) => place.split_at(end + 1),
            None => place.split_at(place.find(':').unwrap_or(place.len())),
        };
        if port == ":0" {
            return Err("0 is no port of a server".into());
        }
        let options = query.split('&').filter(|option| !option.is_empty());
        let options: Vec<_> = options.map(|option| option.split_once('=').unwrap_or((option, ""))).collect();
        // `options[search_path]` is an option with a name in it.
        let plain = |name: &'a str| name.split(['[', '%']).next().unwrap_or_default();
        if let Some((name, _)) = options.iter().find(|(name, _)| !known.contains(&plain(name))) {
            let name: String = name.chars().take(40).collect();
            return Err(format!("{name} is no option of this address; known are {}", known.join(", ")));
        }
        let host = if host.is_empty() { host } else { self::host(host)? };
        Ok(Address { host, has_password: login.contains(':'), options })
    }
}

/// `text` as a host: a name or an address, IPv6 with or without brackets; the result is without.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn host(text: &str) -> Result<&str, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    // A link-local address has its zone behind a percent sign.
    if bare.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()) {
        return Ok(bare);
    }
    match text.chars().find(|c| c.is_whitespace() || c.is_control() || "/\\@:?#[]\"'<>".contains(*c)) {
        None if text.is_empty() => Err("the host is empty".into()),
        None => Ok(text),
        Some(':') => Err("a host has no ':' in it; the port is a setting of its own".into()),
        Some(bad) => Err(format!("a host has no {bad:?} in it")),
    }
}

/// For clap: the address of a peer or a collector, which are asked over HTTP without TLS.
///
/// # Errors
/// What is wrong with it.
pub fn http(text: &str) -> Result<String, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("the address does not begin with http:// (there is no TLS here)".into());
    };
    let place = authority.as_str().rsplit('@').next().unwrap_or_default();
    let port = place.strip_prefix(authority.host()).unwrap_or_default();
    if !port.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
        return Err("the port is no number from 1 to 65535".into());
    }
    host(authority.host())?;
    if uri.query().is_some() {
        return Err("the address has a query".into());
    }
    Ok(text.to_owned())
}

/// A setting that is empty counts as not set: compose files and shells pass on `NAME=`.
pub(crate) fn given(setting: Option<&String>) -> Option<&str> {
    setting.map(String::as_str).filter(|value| !value.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_nothing_else() {
        for good in ["db", "db.example.org", "127.0.0.1", "my_host-1", "bücher.example"] {
            assert_eq!(host(good).unwrap(), good);
        }
        for (given, bare) in [("::1", "::1"), ("[::1]", "::1"), ("fe80::1%eth0", "fe80::1%eth0")] {
            assert_eq!(host(given).unwrap(), bare);
        }
        for bad in
            ["", " db", "db ", "a b", "db:5432", "u@db", "db/x", "http://db", "[db]", "d\nb", "[::1]:5432"]
        {
            assert!(host(bad).is_err(), "{bad:?} is taken");
        }
    }

    #[test]
    fn a_peer_is_asked_over_plain_http() {
        for good in
            ["http://userservice:8000", "http://127.0.0.1:8001/", "http://[::1]:8001", "http://h/prefix"]
        {
            assert_eq!(http(good).unwrap(), good);
        }
        for bad in [
            "",
            "h",
            "h:8000",
            "//h",
            "https://h",
            "ftp://h",
            "http://",
            "http://:80",
            "http://h:99999",
            "http://h:x",
            "http://h:0",
            "http://h?x=1",
            " http://h",
            "http://a b",
        ] {
            assert!(http(bad).is_err(), "{bad:?} is taken");
        }
    }
}
