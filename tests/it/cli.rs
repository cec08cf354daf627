//! The command line from outside: what is printed, what is sent, how it ends.

use freqcap::clock::Clock;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

const OPEN_BANDIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/obd_zozotown_7d.csv.gz");
const NOON: u64 = 1_732_276_800_000;

fn freqcap(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freqcap"));
    command.args(args).env_remove("PORT").env_remove("FREQCAP_CONFIG");
    command.output().expect("the program runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn file(dir: &tempfile::TempDir, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

mod help_and_errors {
    use super::*;

    #[test]
    fn help_names_the_commands_and_every_setting_with_its_default() {
        let help = out(&freqcap(&["--help"]));
        for command in ["serve", "replay", "backtest", "openapi", "compact", "healthcheck"] {
            assert!(help.contains(command), "{help}");
        }
        let help = out(&freqcap(&["serve", "--help"]));
        for flag in [
            "--listen",
            "--data-dir",
            "--limit",
            "--window",
            "--redis-layout",
            "--drain",
            "--min-free-disk",
            "--history-limit",
        ] {
            assert!(help.contains(flag), "{flag}");
        }
        assert!(help.contains("[default: ./data]") && help.contains("FREQCAP_DATA_DIR"), "{help}");
    }

    #[test]
    fn what_cannot_work_ends_with_2_and_says_which_setting() {
        let dir = tempfile::tempdir().unwrap();
        let other = file(&dir, "other.csv", "name,colour\nx,red\n");
        let cases: [(&[&str], &str); 8] = [
            (&["serve", "--window", "5x"], "--window: \"5x\""),
            (&["serve", "--lmit", "5"], "--limit"),
            (&["serve", "--config", "/does/not/exist"], "/does/not/exist: cannot be read"),
            (&["backtest", "/does/not/exist", "--limit", "1", "--window", "5d"], "/does/not/exist: cannot be opened"),
            (
                &["backtest", OPEN_BANDIT, "--limit", "1", "--window", "5d", "--keys", "brand"],
                "no column is named \"brand\"",
            ),
            (&["backtest", text(&other), "--limit", "1", "--window", "5d"], "no column of the header is the user"),
            (&["replay", text(&other)], "no column of the header is the user; there are name, colour"),
            (&["replay", OPEN_BANDIT, "--url", "ftp://x"], "--url: "),
        ];
        for (args, expected) in cases {
            let output = freqcap(args);
            assert_eq!(output.status.code(), Some(2), "{args:?}");
            assert!(err(&output).contains(expected), "{args:?}: {}", err(&output));
        }
    }

    #[test]
    fn a_health_check_without_a_service_fails() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert_eq!(freqcap(&["healthcheck", "--url", &format!("http://127.0.0.1:{port}")]).status.code(), Some(1));
    }

    #[test]
    fn the_openapi_document_is_json() {
        let document: Value = serde_json::from_str(&out(&freqcap(&["openapi"]))).unwrap();
        assert!(document.is_object());
    }
}

mod backtest {
    use super::*;

    fn backtest(args: &[&str]) -> Value {
        let output = freqcap(&[&["backtest", "--json"], args].concat());
        assert!(output.status.success(), "{}", err(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    #[test]
    fn refuses_as_many_of_the_open_bandit_impressions_as_were_checked() {
        for (limit, refused) in [(1, 43_949), (2, 35_345), (3, 29_680), (5, 22_239), (10, 12_682)] {
            let outcome = backtest(&[OPEN_BANDIT, "--limit", &limit.to_string(), "--window", "5d"]);
            assert_eq!(
                (&outcome["impressions"], &outcome["refused"]),
                (&json!(60_000), &json!(refused)),
                "limit {limit}"
            );
            assert_eq!((&outcome["users"], &outcome["pairs"]), (&json!(337), &json!(13_055)));
        }
    }

    #[test]
    fn tells_how_often_pairs_were_seen() {
        let outcome = backtest(&[OPEN_BANDIT, "--limit", "5", "--window", "5d"]);
        let histogram = outcome["histogram"].as_object().unwrap();
        let seen = |range: std::ops::RangeInclusive<u64>| {
            histogram
                .iter()
                .filter(|(times, _)| range.contains(&times.parse().unwrap()))
                .map(|(_, n)| n.as_u64().unwrap())
                .sum()
        };
        let told: Vec<u64> =
            vec![seen(1..=1), seen(2..=2), seen(3..=3), seen(4..=4), seen(5..=5), seen(6..=9), seen(10..=134)];
        assert_eq!(told, [5_648, 2_259, 1_188, 791, 529, 1_146, 1_494]);
        assert_eq!((seen(1..=u64::MAX), histogram.contains_key("134")), (13_055, true));
        let members: Vec<_> = outcome.as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, ["histogram", "impressions", "pairs", "refused", "users"]);
    }

    #[test]
    fn prints_a_table() {
        let table = out(&freqcap(&["backtest", OPEN_BANDIT, "--limit", "5", "--window", "5d"]));
        assert!(table.contains("22239") && table.contains("37.1 %") && table.contains("seen 10+"), "{table}");
    }

    #[test]
    fn takes_rules_of_every_kind_and_key_in_either_form() {
        let dir = tempfile::tempdir().unwrap();
        let rows = "ts,user,da,campaign,kind\n\
                    1732276800000,u,1,a,impression\n1732276801000,u,2,a,impression\n1732276802000,u,3,a,imp\n\
                    1732276803000,v,1,b,click\n1732276804000,v,1,b,impression\n";
        let events = file(&dir, "events.csv", rows);
        let rules = json!([
            {"id": "two", "key": "campaign:*", "limit": 2, "window": "1h"},
            {"id": "clicked", "key": "da:*", "kind": "click", "limit": 1, "window": "lifetime"},
            {"id": "free", "key": "da:9", "limit": null, "window": "1h"},
        ]);
        for rules in [rules.clone(), json!({ "rules": rules })] {
            let rules = file(&dir, "rules.json", rules.to_string());
            let outcome = backtest(&[text(&events), "--rules", text(&rules), "--keys", "campaign"]);
            assert_eq!((&outcome["impressions"], &outcome["refused"]), (&json!(4), &json!(2)));
        }
    }

    #[test]
    fn reads_lines_in_any_order_and_counts_one_id_once() {
        let dir = tempfile::tempdir().unwrap();
        let line =
            |ts: u64, id: &str| json!({"user_no": 7, "ad_id": 1, "logTime": ts, "event_id": id}).to_string() + "\r\n";
        let lines =
            line(NOON + 3_600_000, "c") + "\n" + &line(NOON, "a") + &line(NOON + 3_599_999, "b") + &line(NOON, "a");
        let events = file(&dir, "events.ndjson", lines);
        let outcome = backtest(&[text(&events), "--limit", "1", "--window", "1h"]);
        // At noon + 1 h the first has left the window, and the second was not counted.
        assert_eq!(outcome, json!({"impressions": 3, "refused": 1, "users": 1, "pairs": 1, "histogram": {"3": 1}}));
    }

    #[test]
    fn leaves_out_what_is_no_event_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let events =
            file(&dir, "x", format!("{{\"user\":1,\"da\":1,\"ts\":{NOON}}}\n{{\"user\":1,\"da\":1}}\n{{\"user\":1\n"));
        let output = freqcap(&["backtest", text(&events), "--limit", "1", "--window", "5d", "--json"]);
        assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["impressions"], 1);
        assert!(err(&output).contains("line 2: ") && err(&output).contains("line 3: "), "{}", err(&output));
    }

    #[test]
    fn reads_on_after_a_byte_order_mark() {
        let dir = tempfile::tempdir().unwrap();
        let lines = file(&dir, "x", format!("\u{feff}{{\"user\":1,\"da\":1,\"ts\":{NOON}}}\n"));
        let rows = file(&dir, "y", format!("\u{feff}user,da,ts\n1,1,{NOON}\n"));
        for events in [lines, rows] {
            assert_eq!(backtest(&[text(&events), "--limit", "1", "--window", "1h"])["impressions"], 1, "{events:?}");
        }
    }

    #[test]
    fn leaves_out_a_row_that_is_none_of_its_table_alone() {
        let dir = tempfile::tempdir().unwrap();
        let rows = b"ts,user,da,note\n1732276800000,u,1\n1732276801000,u,2,,5\n1732276802000,u,3,\xff\n\
                     1732276803000,u\n1732276804000,u,4,x\n";
        let events = file(&dir, "x.csv", rows);
        let output = freqcap(&["backtest", text(&events), "--limit", "1", "--window", "1h", "--json"]);
        assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["impressions"], 2);
        let told = err(&output);
        assert!(["line 3: ", "line 4: ", "line 5: "].iter().all(|line| told.contains(line)), "{told}");
        assert!(!told.contains("line 2: ") && !told.contains("line 6: "), "{told}");
    }

    #[test]
    fn reads_other_names_by_the_fields_of_a_settings_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = file(&dir, "freqcap.toml", "[fields]\nuser = 'uid'\nda = 'ad'\nts = 'at'\nts_unit = 's'");
        let events = file(&dir, "x.csv", "uid,ad,at\nu,1,1732276800\nu,1,1732276801.5\n");
        let outcome = backtest(&[text(&events), "--limit", "1", "--window", "1m", "--config", text(&config)]);
        assert_eq!((&outcome["impressions"], &outcome["refused"]), (&json!(2), &json!(1)));
    }
}

mod replay {
    use super::*;

    /// A request as it came in.
    #[derive(Debug, Clone)]
    struct Request {
        head: String,
        events: Vec<Value>,
    }

    /// A service that keeps what it is sent and answers the n-th request as told.
    struct Service {
        url: String,
        requests: Arc<Mutex<Vec<Request>>>,
    }

    impl Service {
        fn new(answer: impl Fn(usize, &Request) -> String + Send + Sync + 'static) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/prefix", listener.local_addr().unwrap());
            let requests = Arc::new(Mutex::new(Vec::new()));
            let (kept, answer) = (requests.clone(), Arc::new(answer));
            std::thread::spawn(move || {
                for connection in listener.incoming() {
                    let (kept, answer) = (kept.clone(), answer.clone());
                    std::thread::spawn(move || serve(connection.unwrap(), &kept, &*answer));
                }
            });
            Self { url, requests }
        }

        fn counting() -> Self {
            Self::new(|_, request| counted(request.events.len()))
        }

        fn requests(&self) -> Vec<Request> {
            self.requests.lock().unwrap().clone()
        }

        fn events(&self) -> Vec<Value> {
            self.requests().into_iter().flat_map(|request| request.events).collect()
        }

        fn replay(&self, path: &Path, args: &[&str]) -> Output {
            freqcap(&[&["replay", text(path), "--url", &self.url, "--connections", "1"], args].concat())
        }
    }

    fn serve(connection: TcpStream, kept: &Mutex<Vec<Request>>, answer: &dyn Fn(usize, &Request) -> String) {
        let mut reader = BufReader::new(connection.try_clone().unwrap());
        loop {
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                let line = line.trim_end().to_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
                head += &(line + "\n");
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let events = body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            let events = events.map(|line| serde_json::from_slice(line).unwrap()).collect();
            let request = Request { head, events };
            let number = {
                let mut kept = kept.lock().unwrap();
                kept.push(request.clone());
                kept.len() - 1
            };
            let answer = answer(number, &request);
            if answer.is_empty() || (&connection).write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn response(status: &str, headers: &str, body: &Value) -> String {
        let body = body.to_string();
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
    }

    fn tally(counted: usize, duplicate: usize) -> Value {
        json!({"counted": counted, "duplicate": duplicate, "late": 0, "erased": 0, "rejected": 0, "errors": [], "capped": []})
    }

    fn counted(events: usize) -> String {
        response("200 OK", "", &tally(events, 0))
    }

    fn three_events(dir: &tempfile::TempDir) -> PathBuf {
        let row = |n: u64| json!({"user": format!("u{n}"), "da": n, "ts": NOON + n * n, "keys": ["campaign:1"]});
        file(dir, "three.ndjson", format!("{}\n\n{}\n{}", row(1), row(2), row(3)))
    }

    fn ids(events: &[Value]) -> Vec<String> {
        events.iter().map(|event| event["id"].as_str().unwrap_or("none").to_owned()).collect()
    }

    #[test]
    fn sends_batches_of_lines_and_tells_what_came_of_them() {
        let (dir, service) = (tempfile::tempdir().unwrap(), Service::counting());
        let output = service.replay(&three_events(&dir), &["--batch", "2"]);
        assert!(output.status.success(), "{}{}", out(&output), err(&output));
        let requests = service.requests();
        assert_eq!(requests.iter().map(|request| request.events.len()).collect::<Vec<_>>(), [2, 1]);
        assert!(requests[0].head.starts_with("post /prefix/events "), "{}", requests[0].head);
        assert!(requests[0].head.contains("content-type: application/x-ndjson"), "{}", requests[0].head);
        let event = &service.events()[1];
        assert_eq!(
            (&event["user"], &event["da"], &event["ts"], &event["keys"]),
            (&json!("u2"), &json!("2"), &json!(NOON + 4), &json!(["campaign:1"]))
        );
        assert!(out(&output).contains("sent 3 events"), "{}", out(&output));
    }

    #[test]
    fn makes_the_same_ids_of_the_same_file_each_time() {
        let (dir, service) = (tempfile::tempdir().unwrap(), Service::counting());
        let path = three_events(&dir);
        for _ in 0..2 {
            assert!(service.replay(&path, &[]).status.success());
        }
        let made = ids(&service.events());
        assert_eq!(made[..3], made[3..]);
        assert!(made.iter().all(|id| id.starts_with("replay-")) && made[0] != made[1], "{made:?}");
        // A file that goes on where that one ended: the same ids so far.
        let longer =
            file(&dir, "longer", std::fs::read_to_string(&path).unwrap() + "\n{\"user\":1,\"da\":1,\"id\":\"own\"}");
        assert!(service.replay(&longer, &["--shift-to-now"]).status.success());
        assert_eq!(ids(&service.events())[6..], [&made[..3], &["own".to_owned()]].concat());
        assert!(service.replay(&path, &["--no-ids"]).status.success());
        assert_eq!(ids(&service.events())[10..], ["none"; 3]);
    }

    #[test]
    fn comes_back_when_told_and_counts_what_a_busy_service_took() {
        let dir = tempfile::tempdir().unwrap();
        let service = Service::new(|number, _| match number {
            0 => String::new(),
            1 => response("503 Service Unavailable", "retry-after: 0\r\n", &tally(2, 0)),
            _ => response("200 OK", "", &tally(1, 2)),
        });
        let output = service.replay(&three_events(&dir), &[]);
        assert!(output.status.success(), "{}{}", out(&output), err(&output));
        let requests = service.requests();
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[0].events, requests[2].events);
        let told = out(&output);
        let words: Vec<_> = told.split_whitespace().collect();
        assert!(words.windows(2).any(|pair| pair == ["counted", "3"]) && !told.contains("duplicate"), "{told}");
    }

    #[test]
    fn without_ids_nothing_is_sent_twice() {
        let dir = tempfile::tempdir().unwrap();
        let service = Service::new(|_, _| response("503 Service Unavailable", "retry-after: 0\r\n", &tally(2, 0)));
        let output = service.replay(&three_events(&dir), &["--no-ids"]);
        assert_eq!((output.status.code(), service.requests().len()), (Some(1), 1));
        assert!(out(&output).contains("could count events twice"), "{}", out(&output));
    }

    #[test]
    fn shifts_all_times_by_one_span_so_that_the_newest_is_now() {
        let (dir, service) = (tempfile::tempdir().unwrap(), Service::counting());
        let now = || Clock::system().now().0;
        let before = now();
        assert!(service.replay(&three_events(&dir), &["--shift-to-now"]).status.success());
        let ts: Vec<u64> = service.events().iter().map(|event| event["ts"].as_u64().unwrap()).collect();
        assert!((before..=now()).contains(&ts[2]), "{ts:?}");
        assert_eq!((ts[2] - ts[1], ts[1] - ts[0]), (5, 3));
    }

    #[test]
    fn names_the_lines_that_were_rejected_and_ends_with_1() {
        let dir = tempfile::tempdir().unwrap();
        let service = Service::new(|_, request| {
            let errors = json!([{"index": 1, "code": "ts_in_future", "detail": "ahead"}]);
            let mut tally = tally(request.events.len() - 1, 0);
            (tally["rejected"], tally["errors"]) = (json!(1), errors);
            response("200 OK", "", &tally)
        });
        let path = file(&dir, "x", "{\"user\":1,\"da\":1}\n{\"user\":1}\n\n{\"user\":1,\"da\":2}\n");
        let output = service.replay(&path, &[]);
        assert_eq!(output.status.code(), Some(1));
        let told = out(&output);
        assert!(told.contains("line 2: missing_da") && told.contains("line 4: ts_in_future: ahead"), "{told}");
    }

    #[test]
    fn gives_up_at_once_on_an_answer_that_will_not_change() {
        let dir = tempfile::tempdir().unwrap();
        let service = Service::new(|_, _| response("413 Payload Too Large", "", &json!({"detail": "too many events"})));
        let output = service.replay(&three_events(&dir), &["--batch", "1"]);
        assert_eq!((output.status.code(), service.requests().len()), (Some(1), 1));
        assert!(out(&output).contains("413") && out(&output).contains("too many events"), "{}", out(&output));
    }

    #[test]
    fn keeps_to_a_rate() {
        let (dir, service) = (tempfile::tempdir().unwrap(), Service::counting());
        let started = std::time::Instant::now();
        assert!(service.replay(&three_events(&dir), &["--rate", "10"]).status.success());
        // The third of three events at ten a second goes after two tenths.
        assert!(started.elapsed().as_millis() >= 200, "{:?}", started.elapsed());
        assert_eq!(service.requests().len(), 3);
    }

    #[test]
    fn sends_the_rows_of_a_compressed_table_with_columns_as_keys() {
        let service = Service::counting();
        let output = service.replay(Path::new(OPEN_BANDIT), &["--keys", "campaign,advertiser", "--batch", "10000"]);
        assert!(output.status.success(), "{}{}", out(&output), err(&output));
        let events = service.events();
        assert_eq!(events.len(), 60_287);
        assert_eq!(events[0]["keys"], json!(["campaign:all", "advertiser:zozotown"]));
        assert_eq!(events.iter().filter(|event| event["kind"] == "click").count(), 287);
        let mut made = ids(&events);
        made.sort();
        made.dedup();
        assert_eq!(made.len(), 60_287);
    }
}
