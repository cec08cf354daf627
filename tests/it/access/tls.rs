//! TLS: which protocols, whose certificates, and how they change while connections are open.

use super::certificates::Certificates;
use super::world::{World, err, freqcap, row};
use crate::support::{DEADLINE, Server, binary, wait_for};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn keys() -> String {
    let cert = "[[key]]\nid = \"cert:bidder.example\"\nscopes = [\"decide\"]\n";
    row("ops", "ops", &["admin"], "") + &row("by-name", "by-name", &["rules:read"], "") + cert
}

/// A world with an authority, a server's certificate of it, and a keys file.
fn encrypted(more: &[&str]) -> (World, Certificates) {
    let all = Certificates::new();
    all.authority("ca");
    all.server("server", "ca");
    let mut world = World::new(&keys(), more);
    for (flag, name) in [("--tls-cert", "server.pem"), ("--tls-key", "server.key")] {
        world.site.flags.extend([flag.to_owned(), all.path(name).to_str().unwrap().to_owned()]);
    }
    (world, all)
}

fn start(world: &World) -> Server {
    let mut command = world.site.command();
    command.env("NO_COLOR", "1");
    let server = Server::start(command);
    assert!(server.url.starts_with("https://"), "{}", server.url);
    server
}

fn port(server: &Server) -> &str {
    server.url.rsplit_once(':').unwrap().1
}

/// Runs curl; the status, the version of HTTP and the body.
fn curl(server: &Server, all: &Certificates, path: &str, args: &[&str]) -> (String, String, String) {
    curl_at(port(server), all, path, args)
}

fn curl_at(port: &str, all: &Certificates, path: &str, args: &[&str]) -> (String, String, String) {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--cacert"])
        .arg(all.path("ca.pem"))
        .args(["--write-out", "\n%{http_code} %{http_version}"])
        .args(args)
        .arg(format!("https://localhost:{port}{path}"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, last) = text.rsplit_once('\n').unwrap();
    let (status, version) = last.split_once(' ').unwrap();
    (status.to_owned(), version.to_owned(), body.to_owned() + &String::from_utf8_lossy(&output.stderr))
}

/// `curl` goes on with a stream until its time is over.
#[test]
fn caps_are_streamed_over_http_1_and_2() {
    let (world, all) = encrypted(&["--limit", "1"]);
    let server = start(&world);
    let bearer = ["-H", "authorization: Bearer ops"];
    let event = ["-H", "content-type: application/json", "-d", "{\"user\":\"u\",\"da\":\"a\"}"];
    assert_eq!(curl(&server, &all, "/events", &[&bearer[..], &event].concat()).0, "200");
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let args = [&bearer[..], &[flag, "--no-buffer", "--max-time", "8"]].concat();
        let (status, spoken, body) = curl(&server, &all, "/caps/stream", &args);
        assert_eq!((status.as_str(), spoken.as_str()), ("200", version), "{body}");
        let cap = "event: cap\ndata: {\"user\":\"u\",\"key\":\"da:a\",\"change\":\"capped\"";
        assert!(body.contains(cap) && body.contains("event: snapshot_end\n"), "{body}");
        assert!(body.matches("event: checkpoint\nid: ").count() > 2, "{body}");
    }
}

#[test]
fn curl_and_python_speak_to_it_over_http_1_and_2() {
    let (world, all) = encrypted(&[]);
    let server = start(&world);
    let bearer = ["-H", "authorization: Bearer ops"];
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let (status, spoken, body) = curl(&server, &all, "/cap/u/a", &[&bearer[..], &[flag]].concat());
        assert_eq!((status.as_str(), spoken.as_str()), ("200", version), "{body}");
        let (status, _, body) = curl(&server, &all, "/cap/u/a", &[flag]);
        assert_eq!(status, "401", "{body}");
        let event =
            [&bearer[..], &[flag, "-H", "content-type: application/json", "-d", "{\"user\":\"u\",\"da\":\"a\"}"]];
        let (status, _, body) = curl(&server, &all, "/events", &event.concat());
        assert_eq!(status, "200", "{body}");
    }
    let (status, _, body) = curl(&server, &all, "/cap/u/a", &bearer);
    assert_eq!((status.as_str(), serde_json::from_str::<Value>(&body).unwrap()["count"].as_u64()), ("200", Some(2)));
    // A large body and a large answer, over one stream of HTTP/2.
    let lines: String = (0..9_000).map(|n| format!("{{\"user\":\"many\",\"da\":\"a{n}\",\"id\":\"{n}\"}}\n")).collect();
    std::fs::write(all.path("lines"), lines).unwrap();
    let data = format!("@{}", all.path("lines").display());
    let batch =
        [&bearer[..], &["--http2", "-H", "content-type: application/x-ndjson", "--data-binary", &data]].concat();
    let (status, _, body) = curl(&server, &all, "/events", &batch);
    assert_eq!(status, "200", "{body}");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["counted"], 9_000);
    let (status, _, body) = curl(&server, &all, "/users/many?limit=1000", &[&bearer[..], &["--http2"]].concat());
    assert_eq!(status, "200");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["logs"].as_array().unwrap().len(), 1_000);

    let script = "import sys, ssl, urllib.request\n\
        context = ssl.create_default_context(cafile=sys.argv[1])\n\
        request = urllib.request.Request(sys.argv[2], headers={'Authorization': 'Bearer ops'})\n\
        print(urllib.request.urlopen(request, context=context).status)\n";
    let url = format!("https://localhost:{}/rules", port(&server));
    let python = Command::new("python3").args(["-c", script]).arg(all.path("ca.pem")).arg(&url).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&python.stdout).trim(), "200", "{}", err(&python));
    // The commands of the product itself.
    let ca = all.path("ca.pem");
    let ca = ca.to_str().unwrap();
    let base = format!("https://localhost:{}", port(&server));
    assert!(freqcap(&["healthcheck", "--url", &base, "--tls-ca", ca]).status.success());
    assert!(!freqcap(&["healthcheck", "--url", &base]).status.success(), "nobody vouches for the certificate");
    let of_settings = Command::new(binary())
        .arg("healthcheck")
        .env("FREQCAP_LISTEN", format!("127.0.0.1:{}", port(&server)))
        .env("FREQCAP_TLS_CERT", all.path("server.pem"))
        .env("FREQCAP_TLS_KEY", all.path("server.key"))
        .output();
    assert!(of_settings.unwrap().status.success());
    // Whoever does not speak TLS gets no answer, and costs nothing.
    let mut plain = TcpStream::connect(format!("127.0.0.1:{}", port(&server))).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    assert_eq!(server.terminate().code(), Some(0));
}

fn s_client(server: &Server, args: &[&str]) -> Output {
    let address = format!("127.0.0.1:{}", port(server));
    let mut child = Command::new("openssl");
    child.args(["s_client", "-connect", &address, "-brief"]).args(args);
    child.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn only_tls_1_2_and_1_3_and_no_weak_suite_are_spoken() {
    let (world, _all) = encrypted(&[]);
    let server = start(&world);
    for protocol in ["-tls1_2", "-tls1_3"] {
        let output = s_client(&server, &[protocol]);
        assert!(output.status.success(), "{protocol}: {}", err(&output));
    }
    // SECLEVEL=0: so that it is the service that refuses, not openssl.
    for protocol in ["-tls1", "-tls1_1"] {
        let output = s_client(&server, &[protocol, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(!output.status.success(), "{protocol}: {}", err(&output));
    }
    let offered = Command::new("openssl").args(["ciphers", "-tls1_2", "-s", "ALL:eNULL:@SECLEVEL=0"]).output().unwrap();
    let mut taken = 0;
    for suite in String::from_utf8(offered.stdout).unwrap().trim().split(':') {
        let output = s_client(&server, &["-tls1_2", "-cipher", &format!("{suite}:@SECLEVEL=0")]);
        let is_strong =
            ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]
                .contains(&suite);
        assert_eq!(output.status.success(), is_strong, "{suite}: {}", err(&output));
        taken += usize::from(is_strong);
    }
    assert_eq!(taken, 3);
}

#[test]
fn a_client_certificate_may_be_a_key() {
    let (mut world, all) = encrypted(&[]);
    all.authority("other");
    all.client("bidder", "ca", Some("bidder.example"));
    all.client("by-name", "ca", Some("by-name"));
    all.client("nameless", "ca", None);
    all.client("stranger", "ca", Some("stranger.example"));
    all.client("forged", "other", Some("bidder.example"));
    world.site.flags.extend(["--tls-client-ca".to_owned(), all.path("ca.pem").to_str().unwrap().to_owned()]);
    let server = start(&world);
    let with = |client: &str, path: &str, more: &[&str]| {
        let both = all.path(&format!("{client}.both"));
        curl(&server, &all, path, &[&["--cert", both.to_str().unwrap()], more].concat()).0
    };
    for protocol in ["--http1.1", "--http2", "--tls-max=1.2"] {
        let protocol = protocol.split('=').collect::<Vec<_>>();
        assert_eq!(with("bidder", "/cap/u/a", &protocol), "200", "{protocol:?}");
    }
    assert_eq!(with("bidder", "/rules", &[]), "403");
    assert_eq!(
        (with("by-name", "/rules", &[]), with("by-name", "/cap/u/a", &[])),
        ("200".to_owned(), "403".to_owned())
    );
    assert_eq!(
        (with("nameless", "/cap/u/a", &[]), with("stranger", "/cap/u/a", &[])),
        ("401".to_owned(), "401".to_owned())
    );
    // A secret that is named counts, whatever the certificate.
    assert_eq!(with("nameless", "/rules", &["-H", "authorization: Bearer ops"]), "200");
    assert_eq!(with("bidder", "/cap/u/a", &["-H", "authorization: Bearer wrong"]), "401");
    assert_eq!(with("forged", "/healthz", &[]), "000", "a certificate of somebody else ends the handshake");
    assert_eq!(curl(&server, &all, "/cap/u/a", &[]).0, "401");
    assert_eq!(curl(&server, &all, "/healthz", &[]).0, "200", "probes need none");
}

#[test]
fn certificates_that_will_not_do_are_refused_at_the_start() {
    let all = Certificates::new();
    all.authority("ca");
    all.authority("other");
    all.server("server", "ca");
    all.server("second", "ca");
    all.server_of("expired", "ca", "200101", "200201");
    all.server_of("future", "ca", "450101", "460101");
    let chain = |name: &str, parts: &[&str]| {
        let text: String = parts.iter().map(|part| all.text(&format!("{part}.pem"))).collect();
        std::fs::write(all.path(name), text).unwrap();
    };
    chain("whole.pem", &["server", "ca"]);
    chain("wrong.pem", &["server", "other"]);
    chain("stale.pem", &["server", "expired"]);
    std::fs::write(all.path("empty.pem"), "").unwrap();
    std::fs::write(all.path("junk.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for (certificate, key, told) in [
        ("server.pem", "second.key", "the certificate is not of the key in"),
        ("expired.pem", "expired.key", "has expired"),
        ("future.pem", "future.key", "is not in force before"),
        ("wrong.pem", "server.key", "wrong chain"),
        ("stale.pem", "server.key", "has expired"),
        ("empty.pem", "server.key", "holds no certificate"),
        ("junk.pem", "server.key", "no certificate"),
        ("server.key", "server.key", "holds no certificate"),
        ("server.pem", "server.pem", "holds no private key"),
        ("missing.pem", "server.key", "cannot be read"),
        ("server.pem", "missing.key", "cannot be read"),
    ] {
        let world = World::new(&keys(), &[]);
        let mut command = world.site.command();
        let output = command.arg("--tls-cert").arg(all.path(certificate)).arg("--tls-key").arg(all.path(key)).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{certificate} {key}");
        let said = err(&output);
        let file = if told.contains("private key") { key } else { certificate };
        assert!(said.contains(told) && (said.contains(file) || said.contains(key)), "{certificate} {key}: {said}");
        let secret = all.text("server.key");
        assert!(!said.contains(secret.lines().nth(1).unwrap()), "{said}");
    }
    for flags in [&["--tls-cert", "x"][..], &["--tls-key", "x"], &["--tls-client-ca", "x"]] {
        let world = World::new(&keys(), flags);
        let output = world.site.command().output().unwrap();
        assert!(output.status.code() == Some(2) && err(&output).contains("is of no use without"), "{}", err(&output));
    }
    let (mut world, _) = (World::new(&keys(), &[]), ());
    for (flag, name) in [("--tls-cert", "whole.pem"), ("--tls-key", "server.key")] {
        world.site.flags.extend([flag.to_owned(), all.path(name).to_str().unwrap().to_owned()]);
    }
    drop(start(&world));
}

/// The serial number of the certificate that a new connection is shown.
fn serial(server: &Server) -> String {
    let shown = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "openssl s_client -connect 127.0.0.1:{} </dev/null 2>/dev/null | openssl x509 -noout -serial",
            port(server)
        ))
        .output()
        .unwrap();
    String::from_utf8(shown.stdout).unwrap().trim().to_owned()
}

#[test]
fn certificates_change_without_a_connection_being_dropped() {
    let (world, all) = encrypted(&[]);
    let server = start(&world);
    let http = reqwest::blocking::Client::builder()
        .no_proxy()
        .timeout(DEADLINE)
        .pool_max_idle_per_host(1)
        .tls_certs_merge([reqwest::Certificate::from_pem(all.text("ca.pem").as_bytes()).unwrap()])
        .build()
        .unwrap();
    let url = format!("https://localhost:{}", port(&server));
    let get = |path: &str| http.get(format!("{url}{path}")).bearer_auth("ops").send().unwrap();
    let metric = |name: &str| {
        let text = get("/metrics").text().unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok())
    };
    assert_eq!(get("/cap/u/a").status(), 200);
    let first = serial(&server);
    let put = |name: &str| {
        for part in ["key", "pem"] {
            std::fs::rename(all.path(&format!("{name}.{part}")), all.path(&format!("server.{part}"))).unwrap();
        }
    };
    let handshakes = metric("freqcap_tls_handshakes_total{result=\"ok\"}").unwrap();
    all.server("next", "ca");
    put("next");
    let second = wait_for("the next certificate", || Some(serial(&server)).filter(|serial| *serial != first));
    assert_eq!(get("/cap/u/a").status(), 200);
    assert!(metric("freqcap_tls_certificate_expires_seconds").unwrap() > 1.7e9);
    // One that does not fit its key is not shown to anybody.
    all.server("third", "ca");
    std::fs::copy(all.path("third.pem"), all.path("server.pem")).unwrap();
    let error = wait_for("the error", || {
        let status: Value = get("/status").json().unwrap();
        status["access"]["tls"]["file_error"].as_str().map(str::to_owned)
    });
    assert!(error.contains("not of the key"), "{error}");
    assert_eq!(metric("freqcap_tls_reload_failed"), Some(1.0));
    assert_eq!(serial(&server), second);
    std::fs::copy(all.path("third.key"), all.path("server.key")).unwrap();
    wait_for("the third certificate", || Some(serial(&server)).filter(|serial| *serial != second));
    assert_eq!(metric("freqcap_tls_reload_failed"), Some(0.0));
    // Only openssl connected anew.
    let by_openssl = wait_for("the figures", || metric("freqcap_tls_handshakes_total{result=\"ok\"}")) - handshakes;
    assert!(by_openssl >= 3.0);
    let log: Vec<String> = server.log.try_iter().collect();
    assert!(log.iter().any(|line| line.contains("certificate was read again")), "{log:?}");
    assert!(log.iter().any(|line| line.contains("stays in force")), "{log:?}");
}

#[test]
fn a_handshake_that_never_ends_is_given_up_and_probes_are_answered_meanwhile() {
    let (world, all) = encrypted(&["--header-timeout", "1s", "--max-connections", "8"]);
    let server = start(&world);
    let address = format!("127.0.0.1:{}", port(&server));
    let silent: Vec<TcpStream> = (0..200)
        .map(|n| {
            let mut stream = TcpStream::connect(&address).unwrap();
            if n % 2 == 0 {
                stream.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
            }
            stream
        })
        .collect();
    let (status, _, body) = curl(&server, &all, "/healthz", &["--max-time", "5"]);
    assert_eq!(status, "200", "{body}");
    let began = Instant::now();
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let ended = stream.read(&mut [0; 16]);
        assert!(!matches!(&ended, Err(why) if why.kind() == std::io::ErrorKind::WouldBlock), "{ended:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    assert_eq!(curl(&server, &all, "/cap/u/a", &["-H", "authorization: Bearer ops"]).0, "200");
}

/// A bucket where nobody listens, and a log that is easy to read.
const NO_BUCKET: [(&str, &str); 6] = [
    ("NO_COLOR", "1"),
    ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
    ("AWS_ALLOW_HTTP", "true"),
    ("AWS_REGION", "us-east-1"),
    ("AWS_ACCESS_KEY_ID", "id"),
    ("AWS_SECRET_ACCESS_KEY", "secret"),
];

/// A service that waits for its bucket answers as it will later: by TLS, and metrics for those alone who may have them.
#[test]
fn what_is_answered_while_the_service_starts_is_encrypted_and_asks_for_keys() {
    let (world, all) = encrypted(&["--snapshots", "s3://nowhere/store"]);
    let mut command = world.site.command();
    command.envs(NO_BUCKET);
    let server = Server::start_waiting(command);
    assert!(server.url.starts_with("https://"), "{}", server.url);
    let status = |path: &str, args: &[&str]| curl(&server, &all, path, args).0;
    assert_eq!(status("/healthz", &[]), "200");
    assert_eq!(status("/readyz", &[]), "503");
    assert_eq!(status("/metrics", &[]), "401");
    assert_eq!(status("/metrics", &["-H", "authorization: Bearer by-name"]), "403");
    assert_eq!(status("/metrics", &["-H", "authorization: Bearer ops"]), "200");
    assert_eq!(status("/cap/u/a", &["-H", "authorization: Bearer ops"]), "503");
    let (_, spoken, body) = curl(&server, &all, "/readyz", &["--http2"]);
    assert_eq!(spoken, "1.1", "{body}");
    let plain =
        Command::new("curl").args(["--silent", &format!("http://localhost:{}/healthz", port(&server))]).output();
    assert!(!plain.unwrap().status.success());
    server.kill();
}

/// With a listener for operators, only that one answers probes, also while the service starts.
#[test]
fn while_the_service_starts_operators_have_their_own_listener_already() {
    let (world, all) = encrypted(&["--snapshots", "s3://nowhere/store", "--admin-listen", "127.0.0.1:0"]);
    // Nothing names the main listener's port before the service has started.
    let main = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new(binary());
    command.args(["serve", "--listen", &main.to_string(), "--data-dir"]).arg(world.site.data());
    command.args(&world.site.flags).envs(NO_BUCKET);
    let admin = Server::start_waiting(command);
    let main = main.port().to_string();
    let status = |port: &str, path: &str, args: &[&str]| curl_at(port, &all, path, args).0;
    let ops = ["-H", "authorization: Bearer ops"];
    for (path, at_admin) in [("/healthz", "200"), ("/readyz", "503"), ("/metrics", "200"), ("/status", "503")] {
        assert_eq!(status(port(&admin), path, &ops), at_admin, "{path}");
        assert_eq!(status(&main, path, &ops), "404", "{path}");
    }
    assert_eq!(status(&main, "/cap/u/a", &ops), "503");
    admin.kill();
}
