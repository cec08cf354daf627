//! What operators and generators of clients go by: `/status`, `/version`, `/metrics`, the OpenAPI document.

use crate::support::{Server, now_ms, root};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn document() -> Value {
    serde_json::from_str(&std::fs::read_to_string(root().join("openapi/openapi.json")).unwrap()).unwrap()
}

#[test]
fn every_operation_has_an_id_of_its_own() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let paths = document["paths"].as_object().unwrap().values();
    let all: Vec<_> = paths.flat_map(|path| path.as_object().unwrap().values()).collect();
    let ids: BTreeSet<_> = all.iter().map(|operation| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), all.len(), "{ids:?}");
    // Clients are generated from these names, so they stay.
    for name in "countEvents getCap getCapByQuery checkCandidates reserve release listRules getRule putRule deleteRule getUser eraseUser \
        listUserCaps healthz readyz metrics".split_whitespace()
    {
        assert!(ids.contains(name), "{name} is missing");
    }
    for name in ["get", "put", "post", "delete", "list"] {
        assert!(!ids.contains(name), "{name} says nothing");
    }
}

#[test]
fn the_answer_to_events_is_documented_in_both_forms() {
    let document = document();
    let content = &document["paths"]["/events"]["post"]["responses"]["200"]["content"]["application/json"]["schema"];
    let name = content["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
    let forms: Vec<_> = document["components"]["schemas"][name]["oneOf"].as_array().unwrap().iter().collect();
    let forms: Vec<_> = forms.iter().map(|form| form["$ref"].as_str().unwrap()).collect();
    assert_eq!(forms, ["#/components/schemas/EventAnswer", "#/components/schemas/BatchAnswer"]);
    let by_query = document["paths"]["/cap"]["get"].to_string();
    assert!(by_query.contains("form-decoded"), "{by_query}");
}

#[test]
fn every_metric_says_what_it_is() {
    let (_site, server) = Server::with(&[]);
    server.count(&json!({"user": "u", "da": "a"}));
    server.ok("/cap/u/a");
    server.get("/nowhere");
    let text = server.http.get(format!("{}/metrics", server.url)).send().unwrap().text().unwrap();
    let helped: BTreeSet<_> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    let typed: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let silent: Vec<_> = typed.iter().filter(|name| !helped.contains(**name)).collect();
    assert!(typed.len() > 30 && silent.is_empty(), "no HELP: {silent:?}");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(server.metric(&format!("freqcap_build_info{{version=\"{version}\"}}")), 1.0);
    assert!(server.metric("process_resident_memory_bytes") > 1e6);
    assert!(server.metric("process_open_fds") > 3.0 && server.metric("process_max_fds") > 64.0);
    assert!(server.metric("process_threads") > 2.0 && server.metric("process_cpu_seconds_total") > 0.0);
    let started = server.metric("process_start_time_seconds");
    assert!((now_ms() as f64 / 1e3 - started).abs() < 60.0, "{started}");
}

#[test]
fn status_and_version_say_how_it_is_and_what_it_is() {
    let (_site, server) = Server::with(&[]);
    let version = server.ok("/version");
    assert_eq!((&version["name"], &version["version"]), (&json!("freqcap"), &json!(env!("CARGO_PKG_VERSION"))));
    let status = server.ok("/status");
    assert_eq!((&status["status"], &status["refused"]), (&json!("ok"), &Value::Null));
    assert_eq!((&status["mirror"], &status["kafka"]), (&Value::Null, &Value::Null));
    assert!(!status["store_id"].as_str().unwrap().is_empty() && status["uptime_ms"].is_u64(), "{status}");
    assert!(status["clock"]["now"].as_u64().unwrap().abs_diff(now_ms()) < 60_000, "{status}");
    let (_site, server) = Server::with(&["--min-free-disk", "1000000GiB"]);
    let status = server.ok("/status");
    assert_eq!((&status["status"], &status["refused"]), (&json!("events_refused"), &json!("disk_full")));
}
