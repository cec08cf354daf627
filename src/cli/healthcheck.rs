//! `freqcap healthcheck`: is the service on this machine well? For Docker's HEALTHCHECK.

use crate::config::{Config, ConfigError, Flags};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks a running freqcap for /healthz; the exit code is 0 if it is well
#[derive(Debug, clap::Args)]
pub struct HealthcheckArgs {
    /// The service [default: where the settings of this environment have it listen]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Settings file; with admin-listen there or in FREQCAP_ADMIN_LISTEN, that is asked
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
}

/// Why the service is not well, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum HealthcheckError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{url}: {why}")]
    NotWell { url: String, why: String },
}

pub fn run(args: &HealthcheckArgs) -> Result<(), HealthcheckError> {
    let base = match &args.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => {
            let config = Config::load(&Flags::of_file(args.config.clone(), None))?;
            // Where there is a listener for probes, no load keeps it from answering.
            format!("http://{}", reachable(config.service.admin_listen.unwrap_or(config.service.listen)))
        }
    };
    let url = format!("{base}/healthz");
    let _ = rustls::crypto::ring::default_provider().install_default();
    ask(&url).map_err(|why| HealthcheckError::NotWell { url, why })
}

/// Where a service that listens on `listen` is reached from the same machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

fn ask(url: &str) -> Result<(), String> {
    let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build().map_err(|why| why.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|why| why.to_string())?;
    let status = runtime.block_on(async { client.get(url).send().await.map(|response| response.status()) });
    match status {
        Ok(status) if status.is_success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(why) => Err(why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_reached_at_localhost() {
        for (listen, asked) in [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("10.0.0.1:80", "10.0.0.1:80")]
        {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
