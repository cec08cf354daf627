//! Bytes on disk for one event of a pair seen once, after a full compaction: names of user and ad are 16 bytes in all.

use crate::load::calls::{Calls, NDJSON, post};
use crate::load::stream::{Part, Stream};
use crate::load::text::push_number;
use crate::suite::bench::{BATCH, Bench, batches};
use anyhow::Context;
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};

/// Events of pairs drawn so widely that none comes twice: a user of 10 bytes, an ad of 6.
struct Distinct {
    draws: Part,
    ids: bool,
}

impl Calls for Distinct {
    fn next(&mut self, out: &mut Vec<u8>) {
        post(out, "/events", NDJSON, |out| {
            for _ in 0..BATCH {
                out.extend_from_slice(b"{\"user\":\"u");
                push_number(out, 100_000_000 + self.draws.draw(900_000_000));
                out.extend_from_slice(b"\",\"da\":\"");
                push_number(out, 100_000 + self.draws.draw(900_000));
                if self.ids {
                    out.extend_from_slice(b"\",\"id\":\"");
                    self.draws.push_new_id(out);
                }
                out.extend_from_slice(b"\"}\n");
            }
        });
    }

    fn done(&mut self, _body: &[u8]) -> u64 {
        BATCH as u64
    }
}

pub fn run(bench: &mut Bench) -> anyhow::Result<()> {
    let known =
        Command::new(&bench.bin).args(["compact", "--help"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !known.context("freqcap compact --help")?.success() {
        bench.skip("disk", "not measured: this build has no `freqcap compact`");
        return Ok(());
    }
    for (name, ids) in [("disk", false), ("disk-with-id", true)] {
        let mut service = bench.start(&[])?;
        let draws = Stream { seed: 8, ..Stream::EVEN };
        let outcome = batches(&service, bench.size.disk_events)
            .run(|connection| Distinct { draws: draws.part(connection), ids })?;
        service.stop()?;
        let written = bytes_below(&service.data_dir())?;
        let compacted = Command::new(&bench.bin).arg("compact").arg("--data-dir").arg(service.data_dir()).output()?;
        let said = String::from_utf8_lossy(&compacted.stderr);
        anyhow::ensure!(compacted.status.success(), "freqcap compact: {}", said.lines().last().unwrap_or_default());
        let bytes = bytes_below(&service.data_dir())?;
        let details = json!({"events": outcome.done, "bytes": bytes, "bytes_before_compaction": written});
        bench.add(name, bytes as f64 / outcome.done as f64, None, details);
    }
    Ok(())
}

/// Of all the files in a directory.
fn bytes_below(dir: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in dir.read_dir()? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
