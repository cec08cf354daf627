//! The rules of the house that a compiler does not check, kept by a test rather than by memory: how long a file may
//! be, who may import whom, where the wall clock is read, what must not be committed.
//!
//! The sources are read as text with comments and literals blanked out, so that a doc comment may say what it likes.

#[path = "tidy/circles.rs"]
mod circles;

use std::fs;
use std::path::{Path, PathBuf};

/// A file is one idea. What needs more lines than this is two.
const FILE_LINES_MAX: usize = 500;

/// The floors of the house, top to bottom. A module may use those on floors below its own, and nothing else.
const FLOORS: [&[&str]; 12] = [
    &["fuzzing"],
    &["cli"],
    &["config"],
    &["http"],
    &["cluster"],
    &["kafka"],
    &["service", "stream"],
    &["api"],
    &["shard"],
    &["snapshot"],
    &["auth", "input", "engine", "store", "mirror", "bucket"],
    &["model"],
];

/// The one import along a floor: the relay reads the tables `caps` and `changes` itself.
const ALONG_A_FLOOR: [(&str, &str); 1] = [("mirror", "store")];

/// The one import downwards that is not made: what is answered does not depend on where events are pulled from.
const APART: [(&str, &str); 1] = [("http", "kafka")];

/// What every floor may use but the pure ones. They in turn use nothing of the house but each other and the model.
const AT_HAND: [&str; 7] = ["alarm", "allocator", "clock", "priority", "random", "settings", "telemetry"];

/// Verdicts are functions of (log, rules, time). Nothing here reads a clock, does I/O, waits or logs.
const PURE: [&str; 2] = ["engine", "model"];

#[test]
fn a_file_is_one_idea() {
    let long = |file: &Source| {
        let lines = file.text.lines().count();
        (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines, at most {FILE_LINES_MAX}", file.name))
    };
    report(sources(&["src", "load-tests/src"]).iter().filter_map(long));
}

#[test]
fn unfinished_code_is_not_committed() {
    report(sources(&["src", "tests", "load-tests/src"]).iter().flat_map(|file| {
        let found = ["todo", "unimplemented", "dbg"].into_iter().flat_map(|name| file.macro_calls(name));
        found.map(|line| file.at(line, "todo!, unimplemented! and dbg! are for work under way"))
    }));
}

#[test]
fn the_wall_clock_is_read_in_one_place() {
    report(sources(&["src"]).iter().filter(|file| file.name != "src/clock.rs").flat_map(|file| {
        file.words("SystemTime")
            .map(|line| file.at(line, "SystemTime belongs to src/clock.rs; take the time as an argument"))
    }));
}

#[test]
fn the_core_is_pure() {
    const STD: [&str; 6] = ["env", "fs", "io", "net", "process", "thread"];
    const CRATES: [&str; 7] = ["axum", "crossbeam_channel", "metrics", "redis", "rocksdb", "tokio", "tracing"];
    let core = sources(&["src"]).into_iter().filter(|file| PURE.contains(&file.module()));
    report(core.flat_map(|file| {
        let std = file.imports("std").into_iter().filter(|(_, name)| STD.contains(&name.as_str()));
        let crates = CRATES.into_iter().flat_map(|name| file.path_roots(name));
        let instants = file.words("Instant");
        let lines: Vec<usize> = std.map(|(line, _)| line).chain(crates).chain(instants).collect();
        lines.into_iter().map(move |line| file.at(line, "no clock, no I/O, no threads, no logging in the pure core"))
    }));
}

#[test]
fn imports_run_downwards() {
    report(sources(&["src"]).iter().flat_map(|file| {
        let from = file.module();
        let wrong = file.imports("crate").into_iter().filter(move |(_, to)| !may_use(from, to));
        wrong.map(move |(line, to)| file.at(line, &format!("{from} must not use {to}")))
    }));
}

#[test]
fn every_module_has_its_place() {
    report(sources(&["src"]).iter().filter(|file| !matches!(file.module(), "lib" | "main")).filter_map(|file| {
        let known = floor(file.module()).is_some() || AT_HAND.contains(&file.module());
        (!known).then(|| format!("{}: give the module a place in FLOORS or AT_HAND of tests/tidy.rs", file.name))
    }));
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

fn may_use(from: &str, to: &str) -> bool {
    if from == to || matches!(from, "lib" | "main") || ALONG_A_FLOOR.contains(&(from, to)) {
        return true;
    }
    if APART.contains(&(from, to)) {
        return false;
    }
    match (floor(from), floor(to)) {
        (Some(from), Some(to)) => from < to,
        (Some(_), None) if AT_HAND.contains(&to) => !PURE.contains(&from),
        (None, Some(_)) => to == "model",
        // Two modules at hand, or a macro or item of the crate's root.
        _ => true,
    }
}

/// Fails with everything that was found, so that one run is enough to mend it all.
fn report(found: impl Iterator<Item = String>) {
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "\n  {}\n", found.join("\n  "));
}

/// A source file and its code: the same text, line for line, without comments and literals.
struct Source {
    /// Relative to the repository.
    name: String,
    text: String,
    code: String,
}

impl Source {
    fn new(name: String, text: String) -> Self {
        let code = code_of(&text);
        Self { name, text, code }
    }

    /// `store` for both src/store/mod.rs and src/store.rs.
    fn module(&self) -> &str {
        let path = self.name.strip_prefix("src/").unwrap_or(&self.name);
        path.split('/').next().map_or("", |first| first.trim_end_matches(".rs"))
    }

    fn at(&self, line: usize, complaint: &str) -> String {
        format!("{}:{line}: {complaint}", self.name)
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.code[..offset].matches('\n').count()
    }

    /// Where `word` stands as a whole word: the offset of its first byte.
    fn offsets(&self, word: &str) -> impl Iterator<Item = usize> {
        self.code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
            let before = self.code[..at].chars().next_back();
            let after = self.code[at + word.len()..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
    }

    fn words(&self, word: &str) -> impl Iterator<Item = usize> {
        self.offsets(word).map(|at| self.line(at))
    }

    fn macro_calls(&self, name: &str) -> impl Iterator<Item = usize> {
        self.offsets(name).filter(|at| self.code[at + name.len()..].starts_with('!')).map(|at| self.line(at))
    }

    /// Lines with a path that begins with `root`; `mirror::redis::x` does not begin with `redis`.
    fn path_roots(&self, root: &str) -> impl Iterator<Item = usize> {
        self.offsets(root)
            .filter(move |&at| !self.code[..at].ends_with("::") && self.code[at + root.len()..].starts_with("::"))
            .map(|at| self.line(at))
    }

    /// What `root` is asked for, with the line: `crate::store::Store` and `crate::{store, model::UserId}` alike.
    fn imports(&self, root: &str) -> Vec<(usize, String)> {
        let paths = self.offsets(root).filter_map(|at| {
            let path = self.code[at + root.len()..].trim_start().strip_prefix("::")?;
            Some((self.line(at), path.trim_start()))
        });
        paths.flat_map(|(line, path)| heads(path).into_iter().map(move |head| (line, head))).collect()
    }
}

/// The first names of a path or of a `{group}` of paths.
fn heads(path: &str) -> Vec<String> {
    let head = |path: &str| path.trim_start().chars().take_while(|&c| is_word(c)).collect::<String>();
    let Some(group) = path.strip_prefix('{') else {
        return vec![head(path)];
    };
    let (mut names, mut depth) = (vec![head(group)], 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(head(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text with comments, strings and character literals turned to spaces; line breaks stay where they are.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let inside_word = code.chars().next_back().is_some_and(is_word);
        let blank = not_code(rest, inside_word);
        if blank == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..blank].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[blank..];
        }
    }
    code
}

/// The length of the comment or literal that `rest` begins with, 0 where it begins with code.
fn not_code(rest: &str, inside_word: bool) -> usize {
    let end =
        |from: usize, closing: &str| rest[from..].find(closing).map_or(rest.len(), |at| from + at + closing.len());
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if !inside_word && let Some(raw) = ["r", "br", "cr"].into_iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let opening = rest.len() - raw.len() + hashes + 1;
            return end(opening, &format!("\"{}", "#".repeat(hashes)));
        }
    }
    if let Some(after) = rest.strip_prefix('\'') {
        // 'x' is a literal, 'x without its second quote a lifetime.
        let literal = after.starts_with('\\') || after.chars().nth(1) == Some('\'');
        return if literal { quoted(rest, '\'') } else { 0 };
    }
    0
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    let closing = rest.char_indices().skip(1).find(|&(_, c)| {
        let closes = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    });
    closing.map_or(rest.len(), |(at, c)| at + c.len_utf8())
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Every Rust file under these directories, those that do not exist left out.
fn sources(directories: &[&str]) -> Vec<Source> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for directory in directories {
        rust_files(&repository.join(directory), &mut paths);
    }
    let read = |path: PathBuf| {
        let name = path.strip_prefix(repository).expect("found under the repository").to_string_lossy().into_owned();
        Source::new(name, fs::read_to_string(&path).expect("a source file is UTF-8 text"))
    };
    paths.into_iter().map(read).collect()
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// A rule that sees nothing is kept by everything: the reading itself is tested, too.
mod reading {
    use super::{Source, code_of, may_use};

    fn source(text: &str) -> Source {
        Source::new("src/store/log.rs".to_owned(), text.to_owned())
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        for not_code in [
            "// todo!()",
            "/// see `crate::http`",
            "/* dbg!(1) /* nested */ SystemTime */",
            r#""dbg!(\"x\")""#,
            "r\"crate::http\"",
            "r#\"crate::\"http\"#",
            "b\"SystemTime\"",
            "br#\"SystemTime\"#",
            "'\"'",
            "'\\''",
            "'\\u{1F600}'",
        ] {
            assert_eq!(code_of(not_code).trim().trim_matches('b'), "", "{not_code}");
            let code = code_of(&format!("a {not_code}\n b"));
            assert!(code.starts_with("a "), "{not_code}");
            if !not_code.starts_with("//") {
                assert!(code_of(&format!("{not_code} SystemTime")).contains("SystemTime"), "{not_code}");
            }
        }
        assert_eq!(code_of("fn f<'a>(x: &'a str, r#type: u8) {}"), "fn f<'a>(x: &'a str, r#type: u8) {}");
        assert_eq!(code_of("\"one\ntwo\"\n// ü\nlet x = 1;").lines().count(), 4);
    }

    #[test]
    fn macro_calls_and_words_are_found_where_they_stand() {
        let file =
            source("fn f() {\n    todo!();\n    my_todo!();\n    SystemTime::now();\n    MySystemTime::now();\n}");
        assert_eq!(file.macro_calls("todo").collect::<Vec<_>>(), [2]);
        assert_eq!(file.words("SystemTime").collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn imports_are_read_alone_and_in_groups() {
        let file = source(
            "use crate::http::Server;\npub(crate) fn f(x: crate::model::UserId) {}\n\
             use crate::{engine::{Answer, apply}, store, mirror::redis::Relay};\nlet x = (crate::clock::now(), 1);",
        );
        let found: Vec<_> = file.imports("crate").into_iter().map(|(line, name)| format!("{line} {name}")).collect();
        assert_eq!(found, ["1 http", "2 model", "3 engine", "3 store", "3 mirror", "4 clock"]);
        assert_eq!(file.module(), "store");
        assert_eq!(file.path_roots("redis").count(), 0);
        assert_eq!(source("use redis::Client;").path_roots("redis").count(), 1);
    }

    #[test]
    fn a_module_may_use_what_is_below_it() {
        for (from, to) in [
            ("cli", "http"),
            ("http", "shard"),
            ("http", "service"),
            ("service", "api"),
            ("api", "input"),
            ("kafka", "model"),
            ("http", "cluster"),
            ("cluster", "kafka"),
            ("shard", "mirror"),
            ("mirror", "store"),
            ("config", "store"),
            ("store", "telemetry"),
        ] {
            assert!(may_use(from, to), "{from} -> {to}");
        }
        for (from, to) in [
            ("model", "engine"),
            ("store", "mirror"),
            ("store", "engine"),
            ("http", "kafka"),
            ("kafka", "cluster"),
            ("cluster", "http"),
            ("shard", "http"),
            ("shard", "api"),
            ("service", "http"),
            ("api", "service"),
            ("engine", "clock"),
            ("model", "telemetry"),
            ("store", "config"),
            ("http", "config"),
        ] {
            assert!(!may_use(from, to), "{from} -> {to}");
        }
    }
}
