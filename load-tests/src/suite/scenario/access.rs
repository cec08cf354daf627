//! What a key and TLS cost: one service without either, one that asks for a key, one that asks for it over TLS, measured in
//! short turns, so that what else the machine does falls on all three alike.

use crate::load::calls::{Batches, Caps, Keyed, Single};
use crate::load::stream::Stream;
use crate::load::{Calls, Load, Tls};
use crate::suite::bench::{BATCH, Bench, CONNECTIONS, measure};
use crate::suite::service::Service;
use anyhow::Context;
use std::path::Path;
use std::process::Command;

/// How often each of the three has its turn.
const TURNS: u32 = 6;
/// Events that are held where GET is measured.
const HELD: u64 = 100_000;

/// One of the three services.
struct Way {
    service: Service,
    secret: Option<String>,
    get: &'static str,
    single: &'static str,
}

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("access-").tempdir_in(&bench.work)?;
    let secret = make_key(&bench.bin, dir.path())?;
    make_certificate(dir.path())?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (keys, cert, key) = (path("keys.toml"), path("cert.pem"), path("key.pem"));
    let start = |flags: &[&str], tls| Service::start_with(&bench.bin, &bench.work, flags, tls);
    let trusted = Tls::trusting(&dir.path().join("cert.pem"))?;
    let with_tls = ["--keys-file", &keys, "--tls-cert", &cert, "--tls-key", &key];
    let ways = [
        Way { service: start(&[], None)?, secret: None, get: "get-open", single: "single-open" },
        Way {
            service: start(&["--keys-file", &keys], None)?,
            secret: Some(secret.clone()),
            get: "get-key",
            single: "single-key",
        },
        Way { service: start(&with_tls, Some(trusted))?, secret: Some(secret), get: "get-tls", single: "single-tls" },
    ];
    for way in &ways {
        let batches = |connection| Batches { events: Stream::EVEN.part(connection), batch: BATCH };
        let load = Load::closed(way.service.addr, CONNECTIONS, bench.size.time * 10).requests(HELD / BATCH as u64);
        way.send(load, batches).context("sending what GET asks for")?;
    }
    for turn in 0..TURNS {
        for way in &ways {
            let held = HELD / CONNECTIONS as u64;
            let gets = |connection| {
                Caps::of(&Stream::EVEN, connection % CONNECTIONS, held).drawn_by(connection + 64 * turn as usize)
            };
            way.measure(bench, way.get, gets)?;
        }
        for way in &ways {
            let events = Stream { seed: 10 + u64::from(turn), ..Stream::EVEN };
            way.measure(bench, way.single, |connection| Single { events: events.part(connection) })?;
        }
    }
    Ok(())
}

impl Way {
    /// Calls of this way's key.
    fn keyed<C>(&self, calls: impl Fn(usize) -> C + Sync) -> impl Fn(usize) -> Keyed<C> + Sync {
        move |connection| Keyed::new(calls(connection), self.secret.as_deref())
    }

    fn send<C: Calls + 'static>(&self, load: Load, calls: impl Fn(usize) -> C + Sync) -> anyhow::Result<()> {
        Load { tls: self.service.tls.clone(), ..load }.run(self.keyed(calls)).map(drop)
    }

    fn measure<C: Calls + 'static>(
        &self,
        bench: &mut Bench,
        figure: &'static str,
        calls: impl Fn(usize) -> C + Sync,
    ) -> anyhow::Result<()> {
        let load = Load::closed(self.service.addr, 64, bench.size.time / TURNS * 2);
        let load = Load { tls: self.service.tls.clone(), ..load };
        let measured = measure(&self.service.child, &load, self.keyed(calls))?;
        bench.add(figure, measured.outcome.per_second(), Some(measured.memory), measured.details);
        Ok(())
    }
}

/// Makes `keys.toml` in `dir`, and returns the secret of its one key.
fn make_key(bin: &Path, dir: &Path) -> anyhow::Result<String> {
    let output = Command::new(bin).args(["key", "new", "--id", "load", "--scopes", "events,decide"]).output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "freqcap key new: {error}");
    let text = String::from_utf8(output.stdout)?;
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"_-".contains(c));
    let secret = words.find(|word| word.starts_with("fc_load_")).context("`freqcap key new` printed no secret")?;
    let table = text.find("[[key]]").context("`freqcap key new` printed no [[key]]")?;
    std::fs::write(dir.join("keys.toml"), &text[table..])?;
    Ok(secret.to_owned())
}

/// Makes `cert.pem` and `key.pem` in `dir`, as an operator makes them.
fn make_certificate(dir: &Path) -> anyhow::Result<()> {
    let args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
                -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem";
    let output = Command::new("openssl").args(args.split_whitespace()).current_dir(dir).output().context("openssl")?;
    anyhow::ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
