//! throttlecrab-server (<https://crates.io/crates/throttlecrab-server>): a rate limiter in memory, over HTTP and JSON.

use crate::load::Load;
use crate::load::calls::{Calls, JSON, post};
use crate::load::stream::{Part, Stream, push_user};
use crate::load::text::push_number;
use crate::suite::bench::{Bench, measure};
use crate::suite::child::{Child, free_addr};
use crate::suite::service::status_of;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// One request a (user, ad), 5 in 5 days.
struct Throttles {
    events: Part,
}

impl Calls for Throttles {
    fn next(&mut self, out: &mut Vec<u8>) {
        let event = self.events.next();
        post(out, "/throttle", JSON, |out| {
            out.extend_from_slice(b"{\"key\":\"");
            push_user(out, event.user);
            out.push(b':');
            push_number(out, event.ad);
            out.extend_from_slice(b"\",\"max_burst\":5,\"count_per_period\":5,\"period\":432000}");
        });
    }

    fn done(&mut self, _body: &[u8]) -> u64 {
        1
    }
}

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let bin = bench.throttlecrab.clone().or_else(on_the_path);
    let Some(bin) = bin else {
        bench.skip("throttlecrab", "throttlecrab-server is not installed");
        return Ok(());
    };
    let addr = free_addr()?;
    let mut command = Command::new(bin);
    command.args(["--http", "--http-host", "127.0.0.1", "--http-port", &addr.port().to_string()]);
    command.args(["--log-level", "warn"]);
    let mut child = Child::start(command, &bench.work.join("throttlecrab.log"))?;
    child.wait_until(Duration::from_secs(10), || status_of(addr, "/health") == Some(200))?;
    let calls = |connection| Throttles { events: Stream::EVEN.part(connection) };
    let measured = measure(&child, &Load::closed(addr, 64, bench.size.time), calls)?;
    bench.add("throttlecrab", measured.outcome.per_second(), Some(measured.memory), measured.details);
    Ok(())
}

fn on_the_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("throttlecrab-server")).find(|file| file.exists())
}
