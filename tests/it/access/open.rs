//! What is open without keys: this machine alone, under its own names, to no page of a browser.

use super::world::{World, ask, err, row};
use crate::support::{Server, Site, wait_for};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn without_keys_no_address_beyond_this_machine_is_listened_on() {
    let start = |flags: &[&str], port: Option<u16>| {
        let site = Site::new(&[]);
        let mut command = std::process::Command::new(crate::support::binary());
        command.arg("serve").arg("--data-dir").arg(site.data()).args(flags).env_remove("PORT");
        port.map(|port| command.env("PORT", port.to_string()));
        (site, command)
    };
    for (flags, port) in [
        (&["--listen", "0.0.0.0:0"][..], None),
        (&["--listen", "[::]:0"], None),
        (&[], Some(free_port())),
        (&["--listen", "127.0.0.1:0", "--admin-listen", "0.0.0.0:0"], None),
    ] {
        let (_site, mut command) = start(flags, port);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(err(&output).contains("--keys-file") && err(&output).contains("--open"), "{}", err(&output));
    }
    let (_site, command) = start(&["--open"], Some(free_port()));
    let server = Server::start(command);
    let port = server.url.rsplit_once(':').unwrap().1;
    let local = server.http.get(format!("http://127.0.0.1:{port}/cap/u/a")).send().unwrap();
    assert_eq!(local.status(), 200);
    let world = World::new(&row("a", "one", &["decide"], ""), &[]);
    let (_site, mut command) = start(&["--listen", "0.0.0.0:0"], None);
    command.arg("--keys-file").arg(world.keys_file());
    drop(Server::start(command));
}

/// Sends a request as it stands; the status and the code of the answer.
fn raw(server: &Server, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer[9..12].parse().unwrap();
    let body: Value =
        answer.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok()).unwrap_or_default();
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_page_that_makes_its_name_lead_here_gets_nothing() {
    let (_site, server) = Server::with(&["--hosts", "loopback,freqcap.internal"]);
    let get = |target: &str, fields: &str| {
        raw(&server, &format!("GET {target} HTTP/1.1\r\n{fields}connection: close\r\n\r\n"))
    };
    for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "[::1]:80", "freqcap.internal:9"] {
        assert_eq!(get("/cap/u/a", &format!("host: {host}\r\n")).0, 200, "{host}");
    }
    for path in ["/cap/u/a", "/rules", "/users/u", "/metrics", "/status", "/openapi.json", "/docs/", "/nowhere"] {
        for host in ["evil.example", "evil.example:8080", "localhost.evil.example", "10.0.0.1", ""] {
            let answer = get(path, &format!("host: {host}\r\n"));
            assert_eq!(answer, (421, "host_not_allowed".to_owned()), "{path} {host}");
        }
        let answer = get(path, "host: localhost\r\norigin: http://evil.example\r\n");
        assert_eq!(answer, (403, "origin_not_allowed".to_owned()), "{path}");
    }
    // The target's own name counts, too.
    assert_eq!(get("http://evil.example/rules", "host: localhost\r\n").0, 421);
    assert_eq!(get("/rules", "host: localhost\r\norigin: http://localhost:3000\r\n").0, 200);
    // Probes come by any name, and have nothing to tell.
    assert_eq!(get("/healthz", "host: 10.1.2.3:8080\r\n").0, 200);
    // CORS is off: a browser asks first, and is told nothing.
    let preflight = server.http.request("OPTIONS".parse().unwrap(), format!("{}/events", server.url));
    let answer = preflight.header("access-control-request-method", "POST").send().unwrap();
    assert!(!answer.headers().keys().any(|name| name.as_str().starts_with("access-control")), "{answer:?}");
    let (_site, any) = Server::with(&["--hosts", "*"]);
    assert_eq!(raw(&any, "GET /rules HTTP/1.1\r\nhost: any.example\r\nconnection: close\r\n\r\n").0, 200);
}

/// The addresses of the listeners beside the main one, as the log tells them.
pub(super) fn side_listener(server: &Server, said: &str) -> String {
    let line = wait_for("the other listener", || server.started.iter().find(|line| line.contains(said)));
    line.rsplit_once(" at ").unwrap().1.trim().to_owned()
}

#[test]
fn operators_and_the_internet_have_listeners_of_their_own() {
    let keys = row("ops", "ops", &["admin"], "");
    let world = World::new(&keys, &["--admin-listen", "127.0.0.1:0", "--public-listen", "127.0.0.1:0"]);
    let mut command = world.site.command();
    command.env("NO_COLOR", "1");
    let server = Server::start(command);
    let (admin, public) = (side_listener(&server, "for operators"), side_listener(&server, "for the internet"));
    let get = |base: &str, path: &str, secret: Option<&str>| {
        let mut request = server.http.get(format!("{base}{path}"));
        if let Some(secret) = secret {
            request = request.bearer_auth(secret);
        }
        request.send().unwrap().status().as_u16()
    };
    for path in ["/metrics", "/status", "/version", "/rules", "/rules/default", "/users/u"] {
        assert_eq!(get(&admin, path, Some("ops")), 200, "{path}");
        assert_eq!(get(&admin, path, None), 401, "{path}");
        assert_eq!(get(&server.url, path, Some("ops")), 404, "{path}");
        assert_eq!(get(&public, path, Some("ops")), 404, "{path}");
    }
    for path in ["/cap/u/a", "/cap?user=u&da=a"] {
        assert_eq!(get(&server.url, path, Some("ops")), 200, "{path}");
        assert_eq!((get(&admin, path, Some("ops")), get(&public, path, None)), (404, 404), "{path}");
    }
    for base in [&admin, &public] {
        assert_eq!(get(base, "/healthz", None), 200);
    }
    assert_eq!((get(&admin, "/readyz", None), get(&public, "/readyz", None)), (200, 404));
    // An ad server asks it like a verdict.
    assert_eq!(get(&server.url, "/users/u/caps", Some("ops")), 200);
    for path in ["/docs/", "/openapi.json", "/audit", "/snapshots"] {
        assert_ne!(get(&admin, path, Some("ops")), 404, "{path}");
        assert_eq!(get(&public, path, Some("ops")), 404, "{path}");
    }
    // Where the calls are is told to whoever has a key, whatever the method; probes have none.
    for (method, path) in [
        ("GET", "/metrics"),
        ("PUT", "/rules/r"),
        ("DELETE", "/users/u"),
        ("POST", "/snapshots"),
        ("GET", "/docs/index.html"),
        ("GET", "/openapi.json"),
    ] {
        let (status, body) = ask(&server, method, path, Some("ops"));
        assert_eq!((status, &body["code"]), (404, &json!("not_found")), "{method} {path}");
        assert!(body["detail"].as_str().unwrap().contains("--admin-listen"), "{method} {path}: {body}");
        assert_eq!(ask(&server, method, path, None).0, 401, "{method} {path}");
    }
    for path in ["/healthz", "/readyz"] {
        let (status, body) = ask(&server, "GET", path, None);
        assert!(status == 404 && body["detail"].as_str().unwrap().contains("--admin-listen"), "{path}: {body}");
    }
    let (status, body) = ask(&server, "GET", "/nowhere", Some("ops"));
    assert!(status == 404 && !body["detail"].as_str().unwrap().contains("--admin-listen"), "{body}");
    assert_eq!(server.terminate().code(), Some(0));
}
