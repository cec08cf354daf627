use freqcap::*;
use std::time::Duration;
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    telemetry::install_log("info", telemetry::LogFormat::Text).unwrap();
    let args: Vec<String> = std::env::args().collect();
    let mut store = store::StoreOptions::default();
    store.data_dir = args[1].clone().into();
    if args.get(3).map(String::as_str) == Some("wal") { store.durability = store::Durability::Wal; }
    let rule = model::Rule { id: model::RuleId::new("default").unwrap(), key: model::KeyPattern::new("da:*").unwrap(), kind: model::Kind::IMPRESSION, limit: Some(5), window: model::Window::Rolling("5d".parse().unwrap()), mode: model::Mode::Enforce };
    let o = cli::serve::ServeOptions {
        listen: args[2].parse().unwrap(), store,
        policy: engine::Policy::new(model::RuleSet::new([rule]), 256, 7*86400000, 400*86400000, 60000),
        shards: shard::Options { writers: 2, mailbox_events: 65536, min_free_disk: 256<<20 },
        events: Default::default(),
        limits: http::Limits { max_body: 16<<20, max_batch: 10000, max_header: 32<<10, request_timeout: Duration::from_secs(30), max_reads: 4096, max_writes: 1024, max_bodies: 256<<20 },
        server: http::ServerOptions { max_connections: 4096, header_timeout: Duration::from_secs(75), header_buffer: 256<<10, grace: Duration::from_secs(8) },
        drain: Duration::ZERO };
    if let Err(e) = cli::serve::run(o) { eprintln!("{e}"); std::process::exit(2); }
}
