//! Clients that are slow, silent, greedy or broken: they hurt themselves alone.

use crate::support::{Server, wait_for};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(20);

fn connect(addr: &str) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

/// What comes back until the other side closes.
fn rest(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

/// What a server says to raw bytes, until it closes.
fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = connect(server.addr());
    stream.write_all(bytes).unwrap();
    rest(&mut stream)
}

/// Begins an upload of `declared` bytes, and sends `sent` of them.
fn upload(addr: &str, declared: usize, sent: usize) -> TcpStream {
    let mut stream = connect(addr);
    let head = format!(
        "POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ncontent-length: {declared}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b'\n'; sent]).unwrap();
    stream
}

/// An upload that the server waits for, and has said so.
fn awaited_upload(addr: &str) -> TcpStream {
    let mut stream = connect(addr);
    let head = "POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-ndjson\r\ncontent-length: 1000\r\n\
                expect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut said = [0; 25];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

#[test]
fn idle_connections_make_room_for_newcomers() {
    let (_site, server) = Server::with(&["--max-connections", "8"]);
    let idle: Vec<_> = (0..40).map(|_| connect(server.addr())).collect();
    let start = Instant::now();
    for _ in 0..20 {
        let said = raw(
            &server,
            b"POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 21\r\nconnection: close\r\n\r\n{\"user\":\"u\",\"da\":\"a\"}",
        );
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(idle);
}

#[test]
fn probes_are_answered_while_every_connection_is_busy() {
    let (_site, server) = Server::with(&["--max-connections", "4"]);
    let busy: Vec<_> = (0..4).map(|_| awaited_upload(server.addr())).collect();
    let said = raw(&server, b"GET /cap/u/a HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("overloaded") && said.contains("retry-after"), "{said}");
    for path in ["/healthz", "/readyz", "/metrics", "/status", "/version"] {
        let said = raw(&server, format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes());
        assert!(said.starts_with("HTTP/1.1 200") && said.contains("connection: close"), "{path}: {said}");
    }
    drop(busy);
}

#[test]
fn an_admin_listener_answers_operators_and_nobody_else() {
    let site = crate::support::Site::new(&["--admin-listen", "127.0.0.1:0"]);
    let mut command = site.command();
    command.env("NO_COLOR", "1");
    let server = Server::start(command);
    let line =
        wait_for("the admin listener", || server.started.iter().find(|line| line.contains("for operators at http://")));
    let admin = line.split_once("for operators at ").unwrap().1.trim().to_owned();
    let get = |path: &str| server.http.get(format!("{admin}{path}")).send().unwrap().status().as_u16();
    for path in
        ["/healthz", "/readyz", "/metrics", "/status", "/version", "/rules", "/users/u", "/docs", "/openapi.json"]
    {
        assert_eq!(get(path), 200, "{path}");
    }
    assert_eq!((get("/cap/u/a"), get("/events")), (404, 404));
    assert_eq!(server.terminate().code(), Some(0));
}

/// The service's own address is wrong on purpose: only the one for probes can have answered.
#[test]
fn a_health_check_asks_the_listener_for_probes_where_there_is_one() {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (admin, nobody) = (free(), free());
    let (site, _server) = Server::with(&["--admin-listen", &admin]);
    let file = site.dir.path().join("freqcap.toml");
    std::fs::write(&file, format!("listen = \"{nobody}\"\nadmin_listen = \"{admin}\"\n")).unwrap();
    let check = |admin: Option<&str>, args: &[&str]| {
        let mut command = std::process::Command::new(crate::support::binary());
        command.arg("healthcheck").args(args).env_remove("FREQCAP_CONFIG").env("FREQCAP_LISTEN", &nobody);
        admin.map(|admin| command.env("FREQCAP_ADMIN_LISTEN", admin));
        command.output().unwrap().status.code()
    };
    assert_eq!(check(Some(&admin), &[]), Some(0));
    assert_eq!(check(None, &["--config", file.to_str().unwrap()]), Some(0));
    assert_eq!(check(None, &[]), Some(1));
}

#[test]
fn what_is_large_is_read_and_written_like_what_is_small() {
    let (_site, server) = Server::with(&["--limit", "1"]);
    let padded = |body: serde_json::Value| format!("{}{body}", " ".repeat(900 << 10));
    let post = |path: &str, body: serde_json::Value| server.post(path, "application/json", padded(body));
    let rule = || server.http.put(format!("{}/rules/r", server.url)).header("content-type", "application/json");
    let (status, answer) = post("/reserve", json!({"user": "u", "candidates": ["a"], "id": "x"}));
    assert_eq!((status.as_u16(), answer["reserved"].as_array().unwrap().len()), (200, 1), "{answer}");
    let (status, answer) = post("/release", json!({"user": "u", "id": "x", "da": "a"}));
    assert_eq!((status.as_u16(), &answer["released"]), (200, &json!(1)), "{answer}");
    let (status, answer) = post("/release", json!({"user": "u"}));
    assert_eq!((status.as_u16(), &answer["code"]), (422, &json!("missing_id")), "{answer}");
    let put = |body: serde_json::Value| rule().body(padded(body)).send().unwrap();
    assert_eq!(put(json!({"key": "da:7", "limit": 2, "window": "1d"})).status(), 201);
    assert_eq!(put(json!({"key": "da:7", "limit": 0, "window": "1d"})).status(), 422);
    for n in 0..150 {
        server.put_rule(&format!("r{n:03}"), &json!({"key": format!("da:{n}"), "limit": 2, "window": "1d"}));
    }
    let rules = server.ok("/rules")["rules"].as_array().unwrap().clone();
    let ids: Vec<_> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), ids[0], ids[1], ids[151]), (152, "default", "r", "r149"));
}

#[test]
fn stalled_uploads_give_their_room_to_who_sends() {
    let (_site, server) = Server::with(&["--max-bodies", "16MiB"]);
    let mut stalled: Vec<_> = (0..15).map(|_| upload(server.addr(), 2 << 20, 1 << 20)).collect();
    // To be slow takes time.
    let sent = Instant::now();
    wait_for("the uploads to be slow", || (sent.elapsed() > Duration::from_millis(300)).then_some(()));
    let start = Instant::now();
    for _ in 0..5 {
        let lines = "{\"user\":\"u\",\"da\":\"a\"}\n".repeat(100) + &"\n".repeat(3 << 20);
        let (status, body) = server.post_lines(&lines);
        assert_eq!((status.as_u16(), &body["counted"]), (200, &json!(100)), "{body}");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    let said = rest(&mut stalled[0]);
    assert!(said.starts_with("HTTP/1.1 408") && said.contains("request_timeout"), "{said}");
}

#[test]
fn a_header_that_never_ends_is_told_so_and_idle_connections_may_wait_longer() {
    let (_site, server) = Server::with(&["--header-timeout", "500ms", "--idle-timeout", "60s"]);
    let mut idle = connect(server.addr());
    let start = Instant::now();
    let said = raw(&server, b"GET /healthz HTTP/1.1\r\nhost:");
    assert!(said.starts_with("HTTP/1.1 408") && said.contains("header_timeout"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(5));
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    assert!(rest(&mut idle).starts_with("HTTP/1.1 200"));
}

#[test]
fn what_is_no_request_gets_a_problem_like_any_other_error() {
    let (_site, server) = Server::with(&[]);
    let huge = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\na: {}\r\n\r\n", "x".repeat(200_000));
    let many: String = (0..150).map(|n| format!("x-{n}: 1\r\n")).collect();
    let many = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{many}\r\n");
    for (bytes, status, code) in [
        ("GARBAGE\r\n\r\n", 400, "invalid_request"),
        (huge.as_str(), 431, "header_too_large"),
        (many.as_str(), 431, "header_too_large"),
        ("GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n", 400, "invalid_host"),
        (
            "GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\nconnection: close\r\n\r\n",
            400,
            "invalid_host",
        ),
    ] {
        let said = raw(&server, bytes.as_bytes());
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said}");
        assert!(said.contains("application/problem+json") && said.contains(code), "{said}");
    }
    let old = raw(&server, b"GET /healthz HTTP/1.0\r\n\r\n");
    assert!(old.contains(" 200 OK"), "{old}");
}

#[test]
fn an_answer_to_an_unread_body_keeps_the_connection_or_says_that_it_ends() {
    let (_site, server) = Server::with(&[]);
    for (request, status) in [
        ("PATCH /users/u HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n", "405"),
        ("POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n", "404"),
        ("POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n", "415"),
    ] {
        let mut stream = connect(server.addr());
        stream.write_all(request.as_bytes()).unwrap();
        // The body comes late, as over a slow line.
        std::thread::park_timeout(Duration::from_millis(50));
        stream.write_all(b"12345GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let said = rest(&mut stream);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")) && said.contains("HTTP/1.1 200"), "{said}");
        // A body that never comes ends the connection.
        let mut stream = connect(server.addr());
        stream.write_all(request.as_bytes()).unwrap();
        let said = rest(&mut stream);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")) && said.contains("connection: close"), "{said}");
    }
}

#[test]
fn only_events_may_have_large_bodies() {
    let (_site, server) = Server::with(&[]);
    let large = json!({"user": "u", "candidates": [], "x": "y".repeat(1 << 20)});
    for path in ["/check", "/reserve", "/release"] {
        let (status, body) = server.post_json(path, &large);
        assert_eq!((status.as_u16(), &body["code"]), (413, &json!("body_too_large")), "{path}");
    }
    let lines = format!("{}\n", json!({"user": "u", "da": "a", "keys": [], "x": "y".repeat(2_000)})).repeat(600);
    for (method, path) in [("PUT", "/ads"), ("POST", "/erasures")] {
        let request = server.http.request(method.parse().unwrap(), format!("{}{path}", server.url));
        let response = request.header("content-type", "application/x-ndjson").body(lines.clone()).send().unwrap();
        assert_eq!(response.status().as_u16(), 413, "{path}");
    }
    let candidates: Vec<_> = (0..1_000).map(|n| format!("{n}-{}", "x".repeat(200))).collect();
    let (status, body) = server.post_json("/check", &json!({"user": "u", "candidates": candidates}));
    assert_eq!((status.as_u16(), body["results"].as_array().unwrap().len()), (200, 1_000));
    let event = json!({"user": "u", "da": "a", "x": "y".repeat(2 << 20)});
    assert_eq!(server.post_json("/events", &event).1["result"], "counted");
}

#[test]
fn empty_members_cost_little() {
    let (_site, server) = Server::with(&[]);
    let empty = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let start = Instant::now();
    let response = server.http.post(format!("{}/events", server.url)).header("content-type", "application/x-ndjson");
    let response = response.header("content-encoding", "gzip").body(empty.repeat(400_000)).send().unwrap();
    assert_eq!(response.status().as_u16(), 400);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

/// Its verdict takes more memory than all reads may have, which a read is told.
#[test]
fn an_event_that_is_counted_is_answered_where_reads_have_no_memory() {
    let (_site, server) = Server::with(&["--read-memory", "1MiB", "--history-limit", "8000"]);
    let keys: Vec<_> = (0..16).map(|n| format!("c:{n}")).collect();
    let event = |id: String| json!({"user": "u", "da": "1", "id": id, "keys": keys});
    let lines: String = (0..5_000).map(|n| format!("{}\n", event(format!("i{n}")))).collect();
    let (status, body) = server.post_lines(&lines);
    assert_eq!((status.as_u16(), &body["counted"]), (200, &json!(5_000)), "{body}");
    let (status, body) = server.post(
        "/check",
        "application/json",
        json!({"user": "u", "candidates": [{"da": "1", "keys": keys}]}).to_string(),
    );
    assert_eq!((status.as_u16(), &body["code"]), (422, &json!("answer_too_large")), "{body}");
    let (status, body) = server.post("/events", "application/json", event("last".to_owned()).to_string());
    assert_eq!(
        (status.as_u16(), &body["result"], &body["cap"]["capped"]),
        (200, &json!("counted"), &json!(true)),
        "{body}"
    );
}

#[test]
fn an_answer_that_is_not_taken_gives_its_memory_to_others() {
    let (_site, server) = Server::with(&["--min-body-rate", "1MiB"]);
    let event = |n: u64| json!({"user": "u", "da": format!("ad-{}", n % 1_000), "id": format!("i-{n}")});
    let lines: String = (0..9_000).map(|n| format!("{}\n", event(n))).collect();
    assert_eq!(server.post_lines(&lines).0, 200);
    let used = || server.ok("/status")["memory"]["shares"]["reads"]["used_bytes"].as_u64().unwrap();
    let asked = || server.metric("freqcap_http_requests_total{route=\"/users/{user}\",status=\"200\"}");
    let open = || server.metric("freqcap_http_connections{listener=\"main\"}");
    // So many answers at once that the kernel does not hold them. The end of one may be in a buffer of its connection, with
    // no memory of reads: hardly on all of them.
    let ask = |_| {
        let mut stream = connect(server.addr());
        socket2::SockRef::from(&stream).set_recv_buffer_size(4 << 10).unwrap();
        stream.write_all("GET /users/u?limit=1000 HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(30).as_bytes()).unwrap();
        stream
    };
    let streams: Vec<_> = (0..4).map(ask).collect();
    let mut last = (0.0, Instant::now());
    wait_for("an answer to be stuck", || {
        let now = asked();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_secs(2) && used() > 0).then_some(())
    });
    let before = open();
    wait_for("the memory to be free", || (used() == 0).then_some(()));
    // Long before the kernel gives up on data that stays unread.
    assert!(last.1.elapsed() < Duration::from_secs(20), "{:?}", last.1.elapsed());
    assert!((4.0..120.0).contains(&last.0), "{last:?}");
    // Nobody has read anything: no answer was finished, and who held the memory is gone.
    assert_eq!(asked(), last.0);
    wait_for("a connection to be closed", || (open() < before).then_some(()));
    drop(streams);
}
