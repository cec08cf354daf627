//! The url by which other nodes reach this one; it is the node's name, too.

use super::owner::NODE_TEXT_MAX;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// `http://HOST:PORT` or `https://HOST:PORT`, in lower case, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUrl {
    url: String,
    /// Where the authority begins.
    authority_at: usize,
}

/// The text is no url of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NodeUrlError {
    /// Not of the form.
    #[error("is not of the form http://HOST:PORT or https://HOST:PORT")]
    Form,
    /// The address of no machine.
    #[error("is an address to listen on, not one that others reach this node by")]
    Unspecified,
    /// Too long to be told to others.
    #[error("is longer than {NODE_TEXT_MAX} bytes")]
    TooLong,
}

impl FromStr for NodeUrl {
    type Err = NodeUrlError;

    fn from_str(text: &str) -> Result<Self, NodeUrlError> {
        if text.len() > NODE_TEXT_MAX {
            return Err(NodeUrlError::TooLong);
        }
        let url = text.strip_suffix('/').unwrap_or(text).to_ascii_lowercase();
        let authority = ["http://", "https://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let authority = authority.ok_or(NodeUrlError::Form)?;
        let authority_at = url.len() - authority.len();
        let (host, port) = authority.rsplit_once(':').ok_or(NodeUrlError::Form)?;
        if port.parse::<u16>().ok().filter(|port| *port > 0 && !authority.ends_with(&format!("+{port}"))).is_none() {
            return Err(NodeUrlError::Form);
        }
        let host = plain_host(host).ok_or(NodeUrlError::Form)?;
        if host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()) {
            return Err(NodeUrlError::Unspecified);
        }
        Ok(Self { authority_at, url })
    }
}

impl NodeUrl {
    /// The url.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The node's name: host and port.
    pub fn node(&self) -> &str {
        &self.url[self.authority_at..]
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.node().rsplit_once(':').is_some_and(|(host, _)| is_loopback(host))
    }

    /// Whether calls on their way are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.url.starts_with("https:")
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// A name, or an address without its brackets.
fn plain_host(host: &str) -> Option<&str> {
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok().then_some(inner);
    }
    let is_name = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    is_name.then_some(host)
}

/// Whether a host is `localhost` or an address of the loopback.
fn is_loopback(host: &str) -> bool {
    let host = plain_host(host).unwrap_or(host);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether all of a list of brokers (`HOST:PORT,..`) are on this machine.
pub(super) fn are_loopback(brokers: &str) -> bool {
    brokers
        .split(',')
        .map(str::trim)
        .all(|broker| is_loopback(broker.rsplit_once(':').map_or(broker, |(host, _)| host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_node() {
        for (text, url, node, is_loopback) in [
            ("http://A.example:8080/", "http://a.example:8080", "a.example:8080", false),
            ("https://10.0.0.1:1", "https://10.0.0.1:1", "10.0.0.1:1", false),
            ("http://localhost:80", "http://localhost:80", "localhost:80", true),
            ("http://127.0.0.2:8080", "http://127.0.0.2:8080", "127.0.0.2:8080", true),
            ("http://[::1]:8080", "http://[::1]:8080", "[::1]:8080", true),
            ("http://[fd00::1]:8080", "http://[fd00::1]:8080", "[fd00::1]:8080", false),
        ] {
            let parsed: NodeUrl = text.parse().unwrap();
            assert_eq!((parsed.as_str(), parsed.node(), parsed.is_loopback()), (url, node, is_loopback));
            assert_eq!(parsed.is_encrypted(), text.starts_with("https"));
        }
    }

    #[test]
    fn what_others_cannot_reach_a_node_by_is_no_url() {
        for text in [
            "",
            "a",
            "a:8080",
            "http://a",
            "http://:80",
            "http://a:",
            "http://a:0",
            "http://a:65536",
            "http://a:+80",
            "ftp://a:1",
            "http://a:1/x",
            "http://a:1?x",
            "http://u@a:1",
            "http://::1:8080",
            "http://[a]:1",
            "http://a b:1",
        ] {
            assert_eq!(text.parse::<NodeUrl>(), Err(NodeUrlError::Form), "{text}");
        }
        for text in ["http://0.0.0.0:8080", "http://[::]:8080"] {
            assert_eq!(text.parse::<NodeUrl>(), Err(NodeUrlError::Unspecified), "{text}");
        }
        assert_eq!(format!("http://{}:1", "a".repeat(NODE_TEXT_MAX)).parse::<NodeUrl>(), Err(NodeUrlError::TooLong));
    }

    #[test]
    fn brokers_on_this_machine_are_told_from_others() {
        assert!(are_loopback("127.0.0.1:9092, localhost:9093,[::1]:9094"));
        assert!(!are_loopback("127.0.0.1:9092,kafka:9092"));
    }
}
