//! What who operates the service relies on: secrets stay secret, a copied data directory is noticed, a process that only
//! a restart helps says so and ends.

use crate::support::redis_server::Server as Redis;
use crate::support::{Server, Site, now_ms, units, wait_for};
use serde_json::json;
use std::process::{Command, Stdio};

const SECRET: &str = "hunter2";

fn holds(redis: &Redis, user: &str) -> bool {
    redis.run::<u64>(&format!("EXISTS cap:{{{user}}}")) == 1
}

/// Caps a user, and waits until Redis holds that.
fn cap(server: &Server, redis: &Redis, user: &str) {
    server.count(&json!([{"user": user, "da": "1"}]));
    wait_for("the cap in Redis", || holds(redis, user).then_some(()));
}

fn state(server: &Server) -> f64 {
    server.mirror_state()
}

#[test]
fn a_settings_file_that_is_no_toml_is_told_without_what_it_holds() {
    for text in [
        "[redis]\nurl = redis://:hunter2@127.0.0.1\n",
        "[redis]\nurl = \"redis://:hunter2@127.0.0.1\n",
        "[redis]\nurl = 'redis://:hunter2@127.0.0.1' x\n",
        "[kafka]\nset = \"sasl.password=hunter2\" \"\n",
        "redis = \"redis://:hunter2@h\"\nredis = \"redis://:hunter2@h\"\n",
        "redis = \"\\hunter2\"\n",
        "redis = [\"redis://:hunter2@h\"]\n",
        "redis = \"http://:hunter2@h\"\n",
        "redis = \"redis://:hunter2@h:port\"\n",
        "redis = \"redis://u:hunter2@h/x\"\n",
        "[kafka]\nset = \"hunter2\"\n",
        "[kafka]\nset = \"group.id=hunter2\"\n",
    ] {
        let site = Site::new(&["--config", "f.toml"]);
        std::fs::write(site.dir.path().join("f.toml"), text).unwrap();
        let output = site.command().output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("f.toml") && !said.contains(SECRET), "{text}: {said}");
    }
}

#[test]
fn files_of_secrets_that_will_not_do_are_refused_by_name() {
    let brokers = ["--kafka-brokers", "127.0.0.1:1", "--kafka-topic", "t"];
    let redis = ["--redis", "redis://127.0.0.1:1"];
    for (flags, name, text, why) in [
        (&redis[..], "--redis-password-file", Some(""), "empty"),
        (&redis[..], "--redis-password-file", Some("\n"), "empty"),
        (&redis[..], "--redis-password-file", None, "cannot be read"),
        (&[][..], "--redis-password-file", Some(SECRET), "without --redis"),
        (&brokers[..], "--kafka-set-file", Some(SECRET), "key=value"),
        (&brokers[..], "--kafka-set-file", Some("group.id=hunter2"), "group.id"),
        (&brokers[..], "--kafka-set-file", None, "cannot be read"),
    ] {
        let site = Site::new(&[flags, &[name, "secret"]].concat());
        if let Some(text) = text {
            std::fs::write(site.dir.path().join("secret"), text).unwrap();
        }
        let output = site.command().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(name) && said.contains(why) && !said.contains(SECRET), "{said}");
    }
    // What librdkafka says no to.
    let site = Site::new(&[&brokers[..], &["--kafka-set-file", "secret"]].concat());
    std::fs::write(site.dir.path().join("secret"), "security.protocol=hunter2\n").unwrap();
    let output = site.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("security.protocol") && !said.contains(SECRET), "{said}");
}

#[test]
fn a_password_from_a_file_is_used_and_is_in_no_output_and_no_list_of_processes() {
    let redis = Redis::start();
    redis.run::<()>(&format!("ACL SETUSER ads on >{SECRET} ~* +@all"));
    let url = redis.url();
    let flags = ["--redis", &url, "--redis-username", "ads", "--redis-password-file", "secret", "--limit", "1"];
    let site = Site::new(&[&flags[..], &["--log", "trace"]].concat());
    std::fs::write(site.dir.path().join("secret"), format!("{SECRET}\n")).unwrap();
    let server = site.start();
    cap(&server, &redis, "u1");
    let clients = redis.run::<String>("CLIENT LIST");
    assert!(
        clients.lines().any(|client| client.contains("name=freqcap-") && client.contains("user=ads ")),
        "{clients}"
    );
    // And where it is refused.
    redis.run::<()>("ACL SETUSER ads resetpass >other");
    redis.run::<()>("CLIENT KILL USER ads");
    let mut log: Vec<String> = Vec::new();
    wait_for("a refusal", || {
        log.extend(server.log.try_iter());
        log.iter().any(|line| line.contains("authentication failed")).then_some(())
    });
    let arguments = std::fs::read(format!("/proc/{}/cmdline", server.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains(SECRET));
    for path in ["/metrics", "/healthz", "/readyz", "/status", "/version"] {
        let text = server.http.get(format!("{}{path}", server.url)).send().unwrap().text().unwrap();
        assert!(!text.contains(SECRET), "{path}");
    }
    log.extend(server.log.try_iter());
    assert!(!log.iter().any(|line| line.contains(SECRET)), "{log:#?}");
}

#[test]
fn two_processes_on_copies_of_one_data_directory_notice_each_other() {
    for running in [false, true] {
        let redis = Redis::start();
        let url = redis.url();
        let one = Site::new(&["--redis", &url, "--limit", "1"]);
        let two = Site::new(&["--redis", &url, "--limit", "1"]);
        let first = one.start();
        cap(&first, &redis, "u1");
        let copy = || {
            let copied = Command::new("cp").arg("-a").args([one.data(), two.data()]).status().unwrap();
            assert!(copied.success());
        };
        let first = if running {
            // As of one instant.
            first.signal(19);
            copy();
            first.signal(18);
            first
        } else {
            assert!(first.terminate().success());
            copy();
            one.start()
        };
        cap(&first, &redis, "u2");
        wait_for("the first", || (state(&first) == 4.0).then_some(()));
        let second = two.start();
        wait_for("the first to stop", || (state(&first) == 5.0).then_some(()));
        wait_for("a word of that", || {
            first.log.try_iter().find(|line| line.contains("copy of this data directory") && line.contains("ERROR"))
        });
        cap(&second, &redis, "u3");
        // What the first had told Redis and the second knows nothing of is gone.
        wait_for("a mended Redis", || (!holds(&redis, "u2") && holds(&redis, "u1")).then_some(()));
        assert_eq!((state(&first), state(&second)), (5.0, 4.0));
        first.count(&json!([{"user": "u4", "da": "1"}]));
        assert_eq!(first.get("/readyz").0, 200);
        cap(&second, &redis, "u5");
        assert!(!holds(&redis, "u4"));
    }
}

#[test]
fn a_restart_after_a_kill_mirrors_at_once_and_sends_nothing_twice() {
    let redis = Redis::start();
    let site = Site::new(&["--redis", &redis.url(), "--limit", "1"]);
    for round in 0..3 {
        let server = site.start();
        wait_for("the mirror", || (state(&server) == 4.0).then_some(()));
        cap(&server, &redis, &format!("u{round}"));
        let passes = |reason: &str| server.metric(&format!("freqcap_mirror_full_passes_total{{reason=\"{reason}\"}}"));
        assert_eq!(
            (passes("missing"), passes("copied"), passes("stray")),
            (if round == 0 { units() as f64 } else { 0.0 }, 0.0, 0.0)
        );
        server.kill();
    }
}

/// A server whose files may not grow beyond so many KiB: then a write fails.
fn cramped(site: &Site, kib: u32) -> Command {
    let command = site.command();
    let mut cramped = Command::new("bash");
    cramped.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {kib}; exec \"$@\"")).arg("bash");
    cramped.arg(command.get_program()).args(command.get_args()).current_dir(site.dir.path());
    cramped
}

/// Posts until a write has failed, or nobody answers any more.
fn post_until_it_fails(server: &Server) {
    for n in 0..100_000 {
        let batch: Vec<_> = (0..200).map(|i| json!({"user": format!("{n}-{i}"), "da": "1", "ts": now_ms()})).collect();
        let request = server.http.post(format!("{}/events", server.url)).json(&batch).send();
        if !request.is_ok_and(|answer| answer.status() == 200) {
            return;
        }
    }
    panic!("no write failed");
}

#[test]
fn a_process_that_can_only_be_restarted_says_so_and_ends_where_it_is_told_to() {
    let site = Site::new(&[]);
    let mut server = Server::start(cramped(&site, 512));
    post_until_it_fails(&server);
    wait_for("a red light", || (server.get("/healthz").0 == 503).then_some(()));
    assert_eq!(server.get("/readyz").0, 200);
    assert_eq!(server.get("/cap/u/1").0, 200, "reads go on");
    drop(server);

    let site = Site::new(&["--exit-when-poisoned"]);
    server = Server::start(cramped(&site, 512));
    post_until_it_fails(&server);
    let status = server.wait();
    assert_eq!(status.code(), Some(1));
    let log: Vec<String> = server.log.iter().collect();
    assert!(log.iter().any(|line| line.contains("ERROR") && line.contains("can only be restarted")), "{log:#?}");
    // And what was acknowledged is there for the next one.
    let server = site.start();
    assert_eq!(server.get("/healthz").0, 200);
    assert_eq!(server.ok("/cap/0-0/1")["count"], 1);
}

#[test]
fn the_image_ends_a_process_that_can_only_be_restarted() {
    let file = std::fs::read_to_string(crate::support::root().join("Dockerfile")).unwrap();
    assert!(file.contains("FREQCAP_EXIT_WHEN_POISONED=true"));
    let site = Site::new(&[]);
    let mut command = site.command();
    command.env("FREQCAP_EXIT_WHEN_POISONED", "maybe").stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("FREQCAP_EXIT_WHEN_POISONED"));
}
