//! Which names a service without keys answers to. A page in a browser can make a name of its own lead to 127.0.0.1 (DNS
//! rebinding); the browser then sends that name as `Host`, and so it is found out.

use std::net::IpAddr;

/// The names that a service may be called by where it asks for no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// Every name.
    any: bool,
    /// `localhost` and the addresses of this machine's loopback.
    loopback: bool,
    /// In lower case.
    names: Vec<String>,
}

/// A text that is no list of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a list of host names or addresses without ports, nor `loopback`, nor `*` for any")]
pub struct HostsError;

impl std::str::FromStr for Hosts {
    type Err = HostsError;

    fn from_str(text: &str) -> Result<Self, HostsError> {
        let mut hosts = Self { any: false, loopback: false, names: Vec::new() };
        for name in text.split(',').map(str::trim) {
            match name {
                "*" => hosts.any = true,
                "loopback" => hosts.loopback = true,
                _ => hosts.names.push(plain(name).ok_or(HostsError)?),
            }
        }
        Ok(hosts)
    }
}

/// A name or an address without its brackets.
fn plain(name: &str) -> Option<String> {
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let is_name = !inner.is_empty() && inner.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    let is_address = inner.parse::<IpAddr>().is_ok();
    (is_name || is_address).then(|| inner.to_ascii_lowercase())
}

impl Hosts {
    /// Whether `host`, as a `Host` field or an authority has it, is one of the names, whatever its port.
    pub fn allow(&self, host: &[u8]) -> bool {
        if self.any {
            return true;
        }
        let Some(name) = name_of(host) else { return false };
        self.loopback && is_loopback(name) || self.names.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
    }
}

/// The name without port, brackets and the dot at its end.
fn name_of(host: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = host.strip_prefix(b"[") {
        let end = rest.iter().position(|&byte| byte == b']')?;
        let port = &rest[end + 1..];
        return (port.is_empty() || is_port(port)).then_some(&rest[..end]);
    }
    let name = match host.iter().position(|&byte| byte == b':') {
        Some(at) => is_port(&host[at..]).then_some(&host[..at])?,
        None => host,
    };
    let name = name.strip_suffix(b".").unwrap_or(name);
    (!name.is_empty()).then_some(name)
}

/// A colon and digits, or none.
fn is_port(text: &[u8]) -> bool {
    text.strip_prefix(b":").is_some_and(|port| port.len() <= 5 && port.iter().all(u8::is_ascii_digit))
}

fn is_loopback(name: &[u8]) -> bool {
    if name.eq_ignore_ascii_case(b"localhost") || name == b"127.0.0.1" {
        return true;
    }
    let address = std::str::from_utf8(name).ok().and_then(|name| name.parse::<IpAddr>().ok());
    address.is_some_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_the_list_are_answered() {
        let hosts: Hosts = "loopback,Ads.Example, 10.0.0.7,[fd00::1]".parse().unwrap();
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:8080",
            "[::1]",
            "ads.example:80",
            "10.0.0.7",
            "[fd00::1]:1",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(hosts.allow(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":80",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "ads.example:8x",
            "[::2]",
            "[::1",
            "localhost@evil",
            "10.0.0.8",
            "[::1]x",
        ] {
            assert!(!hosts.allow(host.as_bytes()), "{host}");
        }
        assert!("*".parse::<Hosts>().unwrap().allow(b"any.example"));
        for wrong in ["", "a,,b", "a:80", "http://a", "a b"] {
            assert_eq!(wrong.parse::<Hosts>(), Err(HostsError), "{wrong}");
        }
    }
}
