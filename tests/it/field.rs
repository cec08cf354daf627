//! Files and requests as the field sends them: what public reports say of other products, with the right answers.

use crate::support::{Server, now_ms};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

fn field(name: &str) -> PathBuf {
    crate::support::root().join("tests/data/field").join(name)
}

fn freqcap(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freqcap"));
    command.args(args).env_remove("PORT").env_remove("FREQCAP_CONFIG").output().expect("the program runs")
}

/// How a back-test of a file ends, what it counted, and what it told beside that.
fn backtest(file: &Path, more: &[&str]) -> (Option<i32>, Value, String) {
    let file = file.to_str().unwrap();
    let output = freqcap(&[&["backtest", file, "--limit", "5", "--window", "5d", "--json"], more].concat());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), told)
}

/// How a replay of a file ends, and what it told: the summary, and errors.
fn replay(server: &Server, file: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let url = format!("http://{}", server.addr());
    let output = freqcap(&[&["replay", file.to_str().unwrap(), "--url", &url], more].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A number of the summary.
fn tally(summary: &str, name: &str) -> u64 {
    let line = summary.lines().find_map(|line| line.trim_start().strip_prefix(name));
    line.map_or(0, |line| line.trim().parse().unwrap_or_default())
}

fn post(server: &Server, path: &str, content_type: &str, body: &str) -> (u16, Value) {
    let (status, answer) = server.post(path, content_type, body);
    (status.as_u16(), answer)
}

fn file(dir: &tempfile::TempDir, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_stray_quote_costs_its_own_line() {
    let (_site, server) = Server::with(&["--retention", "400d"]);
    for name in ["stray-quote-last-column.csv", "stray-quote-middle-column.csv"] {
        let (code, outcome, told) = backtest(&field(name), &[]);
        assert_eq!((code, &outcome["impressions"]), (Some(1), &json!(9)), "{name}: {told}");
        assert_eq!(told.lines().count(), 1, "{name}: {told}");
        assert!(told.starts_with("line 5: left out: a quote is never closed"), "{name}: {told}");
        let (code, outcome, _) = backtest(&field(name), &["--allow-rejects"]);
        assert_eq!((code, &outcome["impressions"]), (Some(0), &json!(9)), "{name}");
        let (code, summary, _) = replay(&server, &field(name), &["--shift-to-now"]);
        assert_eq!((code, tally(&summary, "rejected")), (Some(1), 1), "{summary}");
        assert_eq!(tally(&summary, "counted") + tally(&summary, "duplicate"), 9, "{summary}");
        assert!(summary.contains("line 5: invalid_row: a quote is never closed"), "{summary}");
        assert_eq!(replay(&server, &field(name), &["--shift-to-now", "--allow-rejects"]).0, Some(0));
    }
}

#[test]
fn one_open_quote_before_many_rows_costs_neither_memory_nor_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("many.csv");
    let mut csv = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    writeln!(csv, "user,da,ts,ua\nu,1,{},\"open", 1_732_233_600_000_u64).unwrap();
    for n in 0..300_000_u64 {
        writeln!(csv, "u{n},1,{},x", 1_732_233_600_000 + n).unwrap();
    }
    csv.flush().unwrap();
    let started = Instant::now();
    let (code, outcome, told) = backtest(&path, &[]);
    assert_eq!((code, &outcome["impressions"]), (Some(1), &json!(300_000)), "{told}");
    assert!(told.starts_with("line 2: ") && told.lines().count() == 1, "{told}");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn separators_at_the_ends_of_lines_do_no_harm() {
    let (code, outcome, told) = backtest(&field("trailing-comma.csv"), &[]);
    assert_eq!((code, &outcome["impressions"], told.as_str()), (Some(0), &json!(2), ""));
}

#[test]
fn what_was_read_of_a_truncated_file_is_told_before_the_error() {
    let (code, outcome, told) = backtest(&field("truncated.csv.gz"), &["--allow-rejects"]);
    let impressions = outcome["impressions"].as_u64().unwrap();
    assert!(code == Some(1) && (1_900..2_000).contains(&impressions), "{outcome}");
    assert!(told.lines().count() == 1 && told.contains("truncated.csv.gz: cannot be read: "), "{told}");
    let (_site, server) = Server::with(&["--retention", "400d"]);
    for flags in [&["--shift-to-now"][..], &[]] {
        let (code, summary, told) = replay(&server, &field("truncated.csv.gz"), flags);
        assert_eq!(code, Some(1), "{told}");
        // Without the shift they are as old as the file.
        let taken = ["counted", "duplicate", "late"].iter().map(|name| tally(&summary, name)).sum::<u64>();
        assert_eq!(taken, impressions, "{summary}");
        assert!(told.contains("cannot be read: "), "{told}");
    }
    // A row that was cut off is none.
    assert_eq!(server.ok("/cap/u1/77")["count"], 1);
}

#[test]
fn gzip_may_have_members_and_padding() {
    let dir = tempfile::tempdir().unwrap();
    let member = |text: &str| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    };
    let row = |n: u64| format!("u{n},1,{}\n", 1_732_233_600_000 + n);
    let padding = vec![0; 600];
    let packed = [member("user,da,ts\n"), member(&row(1)), padding.clone(), member(&row(2)), padding].concat();
    let (code, outcome, told) = backtest(&file(&dir, "x.csv.gz", packed), &[]);
    assert_eq!((code, &outcome["impressions"], told.as_str()), (Some(0), &json!(2), ""));
}

#[test]
fn the_clock_of_one_phone_does_not_move_the_others() {
    let (_site, server) = Server::with(&[]);
    let (code, summary, _) = replay(&server, &field("one-future-clock.ndjson"), &["--shift-to-now"]);
    assert_eq!((code, tally(&summary, "counted"), tally(&summary, "rejected")), (Some(1), 50, 1), "{summary}");
    assert!(summary.contains("line 51: ts_in_future"), "{summary}");
}

#[test]
fn integers_in_quotes_are_times() {
    let lines = std::fs::read_to_string(field("quoted-int64.ndjson")).unwrap();
    let (code, outcome, _) = backtest(&field("quoted-int64.ndjson"), &[]);
    assert_eq!((code, &outcome["impressions"]), (Some(0), &json!(3)));
    let (_site, server) = Server::with(&["--retention", "400d"]);
    // Older or newer than the clock of the test: what matters is that they are times.
    let answer = post(&server, "/events", "application/x-ndjson", &lines).1;
    let judged = ["counted", "late"].iter().map(|name| answer[*name].as_u64().unwrap()).sum::<u64>();
    let future = answer["errors"].as_array().unwrap().iter().filter(|error| error["code"] == "ts_in_future").count();
    assert_eq!(judged + future as u64, 3, "{answer}");

    let dir = tempfile::tempdir().unwrap();
    let now = now_ms() - 5_000;
    let micros = format!("\"{}\"", now * 1_000);
    for (unit, time) in [
        ("ms", format!("\"{now}\"")),
        ("s", format!("\"{}\"", now / 1_000)),
        ("us", micros),
        ("ns", (now * 1_000_000).to_string()),
    ] {
        let config = file(&dir, "freqcap.toml", format!("[fields]\nts = 'at'\nts_unit = '{unit}'"));
        let (_site, server) = Server::with(&["--config", config.to_str().unwrap()]);
        let events = file(&dir, "x.ndjson", format!("{{\"user\":\"u\",\"da\":1,\"at\":{time},\"id\":1}}\n"));
        let body = std::fs::read_to_string(&events).unwrap();
        let answer = post(&server, "/events", "application/json", &body).1;
        assert_eq!(answer["result"], "counted", "{unit}: {answer}");
        let held = server.ok("/users/u")["logs"][0]["kinds"].to_string();
        assert!(held.contains(&format!("\"ts\":{}", now / 1_000)), "{unit}: {held}");
        let (code, outcome, told) = backtest(&events, &["--config", config.to_str().unwrap()]);
        assert_eq!((code, &outcome["impressions"]), (Some(0), &json!(1)), "{unit}: {told}");
    }
}

#[test]
fn byte_order_marks_are_passed_over_wherever_a_text_begins() {
    let (_site, server) = Server::with(&[]);
    let mark = "\u{feff}";
    let lines = std::fs::read_to_string(field("bom.ndjson")).unwrap();
    assert_eq!(post(&server, "/events", "application/x-ndjson", &lines).1["counted"], 2);
    let lines = format!("{mark}\n{mark}{{\"user\":1,\"da\":1}}\r\n {mark}{{\"user\":1,\"da\":1}}\n");
    let answer = post(&server, "/events", "application/x-ndjson", &lines).1;
    assert_eq!((&answer["counted"], &answer["rejected"]), (&json!(2), &json!(0)), "{answer}");
    let json = |path: &str, body: &str| {
        let (status, answer) = post(&server, path, "application/json", &format!("{mark}{body}"));
        assert_eq!(status, 200, "{path} {body}: {answer}");
        answer
    };
    assert_eq!(json("/events", r#"{"user":"b","da":"1"}"#)["result"], "counted");
    assert_eq!(json("/events", r#"[{"user":"b","da":"1"},{"user":"b","da":"1"}]"#)["counted"], 2);
    assert_eq!(json("/check", r#"{"user":"b","candidates":["1"]}"#)["results"][0]["count"], 3);
    assert_eq!(json("/reserve", r#"{"user":"b","candidates":["2"],"id":"r"}"#)["reserved"][0]["da"], "2");
    assert_eq!(json("/release", r#"{"user":"b","id":"r"}"#)["released"], 1);
    let dir = tempfile::tempdir().unwrap();
    let rows = file(&dir, "x.csv", format!("{mark}user,da,ts\n1,1,1732233600000\n{mark}2,1,1732233600000\n"));
    let rules =
        file(&dir, "r.json", format!("{mark}[{{\"id\":\"a\",\"key\":\"da:*\",\"limit\":1,\"window\":\"1d\"}}]"));
    let config = file(&dir, "freqcap.toml", format!("{mark}limit = 7\n"));
    let output = freqcap(&[
        "backtest",
        rows.to_str().unwrap(),
        "--rules",
        rules.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
        "--json",
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["users"], 2);
}

#[test]
fn lines_that_are_called_json_are_named() {
    let (_site, server) = Server::with(&[]);
    let event = r#"{"user":"u","da":"1"}"#;
    for body in &[format!("{event}\n{event}\n"), format!("\n{event}\r\n\r\n{event}"), format!("{{nope}}\n{event}\n")] {
        let (status, problem) = post(&server, "/events", "application/json", body);
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_json")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("application/x-ndjson"), "{problem}");
    }
    for body in ["{\n\"user\": 1,\n}\n", event.strip_suffix('}').unwrap()] {
        let (status, problem) = post(&server, "/events", "application/json", body);
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_json")), "{problem}");
        assert!(!problem["detail"].as_str().unwrap().contains("ndjson"), "{problem}");
    }
    assert_eq!(server.ok("/cap/u/1")["count"], 0);
}
