//! HTTP requests of the tools: loopback only, with short limits. Any status is an answer.

use std::time::Duration;

use anyhow::{Result, bail};
use ureq::Agent;

/// Without the proxy of the environment: all servers run on this machine.
pub fn agent(limit: Duration) -> Agent {
    let config = Agent::config_builder().http_status_as_error(false).proxy(None).timeout_global(Some(limit));
    config.build().new_agent()
}

/// Status and body.
pub fn get(agent: &Agent, url: &str) -> Result<(u16, String)> {
    let mut response = agent.get(url).call()?;
    Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
}

/// An error unless the answer is 2xx.
pub fn put(agent: &Agent, url: &str, body: &str) -> Result<()> {
    let mut response = agent.put(url).header("content-type", "application/json").send(body)?;
    if !response.status().is_success() {
        bail!("{url} answered {}: {}", response.status(), response.body_mut().read_to_string()?);
    }
    Ok(())
}

/// 404 is no error: what does not exist need not be deleted.
pub fn delete(agent: &Agent, url: &str) -> Result<()> {
    let response = agent.delete(url).call()?;
    if !response.status().is_success() && response.status() != 404 {
        bail!("{url} answered {}", response.status());
    }
    Ok(())
}

/// As [`get`], over a new connection: a kept one may belong to a process that has ended.
pub fn get_once(agent: &Agent, url: &str) -> Result<(u16, String)> {
    let mut response = agent.get(url).header("connection", "close").call()?;
    Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
}

/// The answer's body; an error unless it is 2xx.
pub fn post(agent: &Agent, url: &str, body: &str) -> Result<String> {
    let mut response = agent.post(url).header("content-type", "application/json").send(body)?;
    let (status, text) = (response.status(), response.body_mut().read_to_string()?);
    if !status.is_success() {
        bail!("{url} answered {status}: {text}");
    }
    Ok(text)
}

/// `scheme://user:password@host:port` of a URL.
pub(crate) fn without_path(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    url[authority..].find('/').map_or(url, |at| &url[..authority + at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_url_is_cut_off() {
        assert_eq!(without_path("postgres://a:b@h:1/db?x=/y"), "postgres://a:b@h:1");
        assert_eq!(without_path("amqp://a:b@h:1"), "amqp://a:b@h:1");
    }
}
