//! Who wins, how files are read, and how errors speak.

use super::{Config, ContainerLimit, Flags};
use crate::mirror::Layout;
use crate::model::{Kind, Mode, Window};
use crate::store::ByteSize;
use clap::{Args, Command, FromArgMatches};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

fn flags(flags: &[&str]) -> Flags {
    let command = Flags::augment_args(Command::new("serve").no_binary_name(true));
    Flags::from_arg_matches(&command.try_get_matches_from(flags).unwrap()).unwrap()
}

/// Loads with these flags, these variables and, unless it is empty, this file (told apart as FILE).
fn load(given: &[&str], variables: &[(&str, &str)], toml: &str) -> Result<Config, String> {
    load_in(given, variables, toml, None)
}

/// The same in a container with a limit.
pub(super) fn load_in(
    given: &[&str],
    variables: &[(&str, &str)],
    toml: &str,
    container: Option<ContainerLimit>,
) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("freqcap.toml");
    std::fs::write(&path, toml).unwrap();
    let mut variables: HashMap<_, _> =
        variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    if !toml.is_empty() {
        variables.insert("FREQCAP_CONFIG".to_owned(), path.to_string_lossy().into_owned());
    }
    Config::from_sources(&flags(given), &|name| variables.get(name).cloned(), container)
        .map_err(|why| why.to_string().replace(&*path.to_string_lossy(), "FILE"))
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = load(&[], &[], "").unwrap();
    assert_eq!(config.service.listen, address("127.0.0.1:8080"));
    assert_eq!(
        (config.capping.limit, config.capping.window.clone()),
        (Some(5), Window::Rolling("5d".parse().unwrap()))
    );
    assert_eq!((config.capping.history_limit.get(), config.capping.retention), (256, "7d".parse().unwrap()));
    assert_eq!((config.http.max_body, config.http.max_batch.get()), (ByteSize::mib(16), 10_000));
    assert_eq!((config.capping.max_skew, config.service.drain), (Duration::from_secs(60), Duration::ZERO));
    assert!(config.mirror.redis.is_none() && config.mirror.options().is_none());
    assert!(config.store_options().keep_changes, "readers of the stream may come");
    let policy = config.policy().unwrap();
    let rules = policy.rules().of_key("da:77");
    assert_eq!(rules.len(), 1);
    assert_eq!((rules[0].id.as_str(), rules[0].kind, rules[0].mode), ("default", Kind::IMPRESSION, Mode::Enforce));
}

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    let toml = "retention = '9d'\nmax_batch = 7\n[redis]\nurl = 'redis://file'\nprefix = 'f:'";
    let variables = [("FREQCAP_RETENTION", "8d"), ("FREQCAP_MAX_BATCH", "8"), ("FREQCAP_REDIS_LAYOUT", "string")];
    let config = load(&["--retention", "10d"], &variables, toml).unwrap();
    assert_eq!((config.capping.retention, config.http.max_batch.get()), ("10d".parse().unwrap(), 8));
    assert_eq!(
        (config.mirror.redis.as_ref().unwrap().to_string().as_str(), config.mirror.redis_prefix.as_str()),
        ("file:6379", "f:")
    );
    assert_eq!(config.mirror.redis_layout, Layout::String);
    assert!(config.store_options().keep_changes);
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    assert_eq!(load(&[], &[("FREQCAP_LIMIT", "")], "limit = 3").unwrap().capping.limit, Some(3));
}

#[test]
fn a_port_is_listened_on_everywhere_unless_an_address_is_given() {
    let port = ("PORT", "9000");
    assert_eq!(load(&[], &[port], "").unwrap().service.listen, address("0.0.0.0:9000"));
    assert_eq!(load(&[], &[port], "listen = '[::1]:1'").unwrap().service.listen, address("[::1]:1"));
    assert_eq!(load(&[], &[port, ("FREQCAP_LISTEN", "1.2.3.4:5")], "").unwrap().service.listen, address("1.2.3.4:5"));
    assert_eq!(load(&[], &[("PORT", "http")], "").unwrap_err(), "PORT: \"http\" is no port number");
    assert!(load(&["--listen", "1.2.3.4:5"], &[("PORT", "http")], "").is_ok());
}

#[test]
fn without_keys_only_this_machine_may_call() {
    let access =
        |flags: &[&str], variables: &[(&str, &str)]| load(flags, variables, "").unwrap().check_access().is_ok();
    let far = ["--listen", "10.0.0.1:80"];
    for flags in
        [&["--listen", "127.0.0.9:1"][..], &["--listen", "[::1]:1"], &["--listen", "[::ffff:127.0.0.1]:1"], &[]]
    {
        assert!(access(flags, &[]), "{flags:?}");
    }
    for flags in [&far[..], &["--listen", "[::]:1"], &["--admin-listen", "0.0.0.0:1"]] {
        assert!(!access(flags, &[]), "{flags:?}");
        assert!(access(&[flags, &["--open=true"]].concat(), &[]), "{flags:?}");
        assert!(access(flags, &[("FREQCAP_KEYS_FILE", "keys.toml")]), "{flags:?}");
    }
    assert!(!access(&[], &[("PORT", "80")]));
    assert!(access(&["--public-listen", "0.0.0.0:1"], &[]), "there is nothing to protect");
}

#[test]
fn a_file_may_nest_and_spell_with_dashes() {
    let config = load(&[], &[], "[max]\nbatch = 5\nskew = '5s'").unwrap();
    assert_eq!((config.http.max_batch.get(), config.capping.max_skew), (5, Duration::from_secs(5)));
    assert_eq!(load(&[], &[], "history-limit = 9\nlimit = 'none'").unwrap().capping.history_limit.get(), 9);
    let nobody = load(&[], &[], "ignore-users = ['a*', 'b']").unwrap().capping.ignore_users;
    assert_eq!(Ok(nobody), "a*,b".parse());
    assert!(load(&[], &[], "ignore-users = [7]").unwrap_err().contains("ignore-users: expected patterns"));
    assert!(load(&[], &[], "redis_takeover = true\nlimit = 'none'\nbloom_bits = 8").unwrap().mirror.redis_takeover);
    let twice = load(&[], &[], "redis_prefix = 'a'\n[redis]\nprefix = 'b'").unwrap_err();
    assert_eq!(twice, "FILE: redis_prefix is set twice, under two spellings");
}

#[test]
fn windows_are_written_short_or_as_rules_have_them() {
    let short = load(&["--window", "day@Asia/Seoul"], &[], "").unwrap().capping.window;
    assert_eq!(load(&["--window", r#"{"calendar":"day","tz":"Asia/Seoul"}"#], &[], "").unwrap().capping.window, short);
    assert_eq!(load(&[], &[], "window = { calendar = 'day', tz = 'Asia/Seoul' }").unwrap().capping.window, short);
    assert_eq!(load(&["--window", "lifetime", "--limit", "1000"], &[], "").unwrap().capping.window, Window::Lifetime);
    assert!(load(&["--window", "day@Mars/Base"], &[], "").unwrap_err().contains("Mars/Base"));
}

#[test]
fn an_error_names_the_setting_as_its_source_has_it() {
    let limit = "is neither a positive integer nor `none`";
    assert_eq!(load(&["--limit", "0"], &[], "").unwrap_err(), format!("--limit: \"0\" {limit}"));
    assert_eq!(load(&[], &[("FREQCAP_LIMIT", "five")], "").unwrap_err(), format!("FREQCAP_LIMIT: \"five\" {limit}"));
    assert_eq!(load(&[], &[], "limit = -5").unwrap_err(), format!("FILE: limit: \"-5\" {limit}"));
    for (name, text, expected) in [
        ("--listen", "8080", "is not an address and port"),
        ("--storage", "disk", "is none of rocksdb, memory"),
        ("--durability", "none", "is none of fsync, wal"),
        ("--max-body", "16MB", "KiB, MiB or GiB"),
        ("--max-body", "0KiB", "is less than 1KiB"),
        ("--retention", "0d", "ms, s, m, h, d"),
        ("--writers", "0", "1 to 256"),
        ("--drain", "-1s", "ms, s, m, h, d"),
        ("--request-timeout", "0s", "leaves no time"),
        ("--max-bodies", "1MiB", "less than max-body (16MiB)"),
        ("--history-limit", "0", "1 to 65535"),
        ("--duplicate-window", "never", "nor `none`"),
        ("--ignore-users", "a,*", "means everybody"),
        ("--redis-layout", "hash", "is none of zset, string"),
        ("--kafka-from", "latest", "is none of `retention`, `earliest`, a duration"),
        ("--kafka-consumers", "65", "1 to 64"),
        ("--kafka-on-change", "go on", "is none of stop, earliest"),
        ("--kafka-brokers", "a:9092", "is of no use without --kafka-topic"),
    ] {
        let why = load(&[&format!("{name}={text}")], &[], "").unwrap_err();
        assert!(why.starts_with(&format!("{name}: \"{text}\"")) && why.contains(expected), "{why}");
    }
    let why = load(&["--max-skew", "-1s"], &[], "").unwrap_err();
    assert!(why.starts_with("--max-skew: \"-1s\" is not one positive integer"), "{why}");
    let why = load(&["--limit", "257"], &[], "").unwrap_err();
    assert_eq!(why, "--limit: \"257\" is more than a log keeps (--history-limit 256)");
    assert!(load(&["--limit", "257", "--history-limit", "257"], &[], "").is_ok());
}

#[test]
fn a_bad_redis_url_is_not_repeated_for_it_may_hold_a_password() {
    let why = load(&[], &[("FREQCAP_REDIS", "http://me:secret@host")], "").unwrap_err();
    assert!(why.starts_with("FREQCAP_REDIS: the value is not of the form redis:") && !why.contains("secret"), "{why}");
    let config = load(&["--redis", "redis://me:secret@host"], &[], "").unwrap();
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn kafka_is_set_up_by_flags_and_its_secrets_are_not_repeated() {
    assert!(load(&[], &[], "").unwrap().kafka.options(65_536).is_none());
    let file = "[kafka]\nbrokers = 'a:1,b:2'\ntopic = 't'\nset = 'sasl.password=secret'";
    let config = load(&["--kafka-from", "2d"], &[], file).unwrap();
    let kafka = config.kafka.options(65_536).unwrap();
    assert_eq!(
        (kafka.cluster.brokers.as_str(), kafka.topic.as_str(), kafka.group.as_str()),
        ("a:1,b:2", "t", "freqcap")
    );
    assert_eq!(kafka.cluster.settings.iter().collect::<Vec<_>>(), [("sasl.password", "secret")]);
    assert!(!format!("{config:?} {kafka:?}").contains("secret"));
    let why = load(&["--kafka-set", "secret"], &[], "").unwrap_err();
    assert!(why.starts_with("--kafka-set: the value is not of the form") && !why.contains("secret"), "{why}");
    let same = load(&["--kafka-brokers", "a:1", "--kafka-topic", "t", "--kafka-dlq", "t"], &[], "").unwrap_err();
    assert_eq!(same, "--kafka-dlq: \"t\" is the topic that is read");
}

#[test]
fn an_unknown_setting_in_the_file_is_an_error_with_a_suggestion() {
    let unknown = |toml: &str| load(&[], &[], toml).unwrap_err();
    assert_eq!(unknown("retension = '5d'"), "FILE: there is no setting retension; did you mean retention?");
    assert_eq!(unknown("[redis]\nprefx = 'x'"), "FILE: there is no setting redis.prefx; did you mean redis_prefix?");
    assert!(unknown("colour = 'red'").ends_with("`freqcap serve --help` lists them"));
    assert!(unknown("limit = [5]").contains("limit: expected a text, a number or true/false, found array"));
    assert!(unknown("limit =").starts_with("FILE: line 1, column "), "{}", unknown("limit ="));
    assert!(unknown("[fields]\nuzer = 'x'").starts_with("FILE: [fields]: "));
    assert!(unknown("[fields]\nuser = ''").starts_with("FILE: fields.user: "));
    assert!(unknown("[fields]\nuser = 7").starts_with("FILE: fields.user: invalid type"));
    assert!(unknown("[fields]\nskip_bytes = 'x'").starts_with("FILE: fields.skip_bytes: invalid type"));
    assert!(
        load(&["--config", "/does/not/exist"], &[], "").unwrap_err().starts_with("/does/not/exist: cannot be read")
    );
}

#[test]
fn rules_of_the_file_stand_beside_the_one_of_the_flags() {
    let rules = "[[rules]]\nid = 'brand'\nkey = 'campaign:*'\nlimit = 3\nwindow = '1d'\n\
                 [[rules]]\nid = 'free'\nkey = 'da:1'\nlimit = 'none'\nwindow = 'lifetime'\nkind = 'click'";
    let config = load(&[], &[], rules).unwrap();
    let policy = config.policy().unwrap();
    assert_eq!(policy.rules().iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>(), ["brand", "default", "free"]);
    assert_eq!(policy.rules().of_key("campaign:7")[0].limit, Some(3));

    let rule =
        |id: &str, rest: &str| format!("[[rules]]\nid = '{id}'\nkey = 'campaign:*'\nlimit = 3\nwindow = '1d'\n{rest}");
    let error = |toml: &str| load(&[], &[], toml).unwrap_err();
    let taken = "FILE: rule \"default\": limit and window make one of that name (--limit none makes none)";
    assert_eq!(error(&rule("default", "")), taken);
    assert!(load(&["--limit", "none"], &[], &rule("default", "")).is_ok());
    assert_eq!(error(&(rule("a", "") + &rule("a", ""))), "FILE: rule \"a\": there are two");
    assert!(error(&rule("a", "modus = 'shadow'")).contains("rules[0]: unknown field `modus`"));
    assert!(error(&rule("a b", "")).contains("rule \"a b\": a rule id is"));
    assert!(error("[[rules]]\nid = 'a'\nkey = 'da:*'\nwindow = '1d'").contains("missing field `limit`"));
    assert!(
        error("[[rules]]\nid = 'a'\nkey = 'x'\nlimit = 1\nwindow = '1d'").contains("rule \"a\": key \"x\" has no `:`")
    );
    assert!(error("[[rules]]\nid = 'a'\nkey = 'da:*'\nlimit = 900\nwindow = '1d'").contains("1 to 256"));
}
