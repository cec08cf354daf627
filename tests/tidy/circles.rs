//! No circle of files: who reads one must not have to read all the others at once.
//!
//! A file uses another where a path in it (`crate::..`, `super::..`, or by the name of a module declared in it) leads to
//! something that is defined there; `pub use` in a mod.rs only shows the way. Tests and fuzzers may use what they like.

use super::{Source, is_word, report, sources};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn no_files_use_each_other_in_a_circle() {
    let found = circles(&sources(&["src"]));
    report(found.iter().map(|circle| format!("{} files use each other: {}", circle.len(), circle.join(", "))));
}

type Path = Vec<String>;

/// A file as a module.
struct Module {
    path: Path,
    name: String,
    /// Without tests.
    code: String,
    children: BTreeSet<String>,
    /// What it shows of others: the name, and where that is.
    shown: Vec<(String, Path)>,
}

/// Every set of files of which each uses each, if by way of others.
fn circles(sources: &[Source]) -> Vec<Vec<String>> {
    let modules: BTreeMap<Path, Module> = sources.iter().filter(|file| !is_test(&file.name)).map(module).collect();
    let uses: BTreeMap<&str, BTreeSet<&str>> =
        modules.values().map(|module| (module.name.as_str(), used_by(module, &modules))).collect();
    let mut circles: BTreeSet<Vec<String>> = BTreeSet::new();
    let reached: BTreeMap<&str, BTreeSet<&str>> = uses.keys().map(|&file| (file, reachable(file, &uses))).collect();
    for (&file, others) in &reached {
        let back = others.iter().filter(|&other| reached[other].contains(file));
        let circle: Vec<String> = back.map(|other| (*other).to_owned()).collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reachable<'m>(from: &str, uses: &BTreeMap<&'m str, BTreeSet<&'m str>>) -> BTreeSet<&'m str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = uses[from].iter().copied().collect();
    while let Some(next) = open.pop() {
        let Some((&known, _)) = uses.get_key_value(next) else { continue };
        if reached.insert(known) {
            open.extend(uses[known].iter());
        }
    }
    reached
}

fn is_test(name: &str) -> bool {
    name.ends_with("tests.rs") || name.ends_with("/fuzz.rs") || name == "src/fuzzing.rs" || name == "src/main.rs"
}

fn module(file: &Source) -> (Path, Module) {
    let inner = file.name.trim_start_matches("src/").trim_end_matches(".rs");
    let mut path: Path = inner.split('/').map(str::to_owned).collect();
    if matches!(path.last().map(String::as_str), Some("mod" | "lib")) {
        path.pop();
    }
    let code = without_tests(&file.code);
    let mut children = BTreeSet::new();
    for statement in code.split(';') {
        let last = statement.rsplit(['\n', '}', ']']).find(|line| !line.trim().is_empty()).unwrap_or_default();
        let words: Vec<&str> = last.split_whitespace().collect();
        if let [.., "mod", name] = words[..] {
            children.insert(name.to_owned());
        }
    }
    let mut shown = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let start = code[..at].rfind([';', '}', '{']).map_or(0, |start| start + 1);
        if !code[start..at].contains("pub") {
            continue;
        }
        for shown_path in trees(&code[at + 4..]) {
            let target = absolute(&path, &children, &shown_path);
            if let (Some(name), Some(target)) = (shown_path.last(), target) {
                shown.push((name.clone(), target));
            }
        }
    }
    (path.clone(), Module { path, name: file.name.clone(), code, children, shown })
}

/// Blanks modules that are only there for tests.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, from) = rest.split_at(at);
        kept.push_str(before);
        let after = &from["#[cfg(test)]".len()..];
        if !after.trim_start().starts_with("mod ") {
            rest = after;
            continue;
        }
        let end = match (after.find('{'), after.find(';')) {
            (Some(open), semicolon) if semicolon.is_none_or(|semicolon| open < semicolon) => closing(after, open),
            (_, Some(semicolon)) => semicolon + 1,
            _ => after.len(),
        };
        rest = &after[end..];
    }
    kept.push_str(rest);
    kept
}

/// Just behind the brace that closes the one at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at + 1;
        }
    }
    code.len()
}

/// The files whose definitions a module uses.
fn used_by<'m>(module: &Module, modules: &'m BTreeMap<Path, Module>) -> BTreeSet<&'m str> {
    let mut used = BTreeSet::new();
    let roots = ["crate", "super", "self"].into_iter().chain(module.children.iter().map(String::as_str));
    for root in roots {
        for (at, _) in module.code.match_indices(root) {
            let before = &module.code[..at];
            // `pub(in crate::a)` uses nothing of it.
            let is_whole = !before.ends_with(is_word) && !before.ends_with("::") && !before.ends_with("(in ");
            if !is_whole || !module.code[at + root.len()..].starts_with("::") || is_shown(before) {
                continue;
            }
            for path in trees(&module.code[at..]) {
                let Some(target) = absolute(&module.path, &module.children, &path) else { continue };
                if let Some(file) = defined_in(&target, modules, 8)
                    && file != module.name
                {
                    used.insert(file);
                }
            }
        }
    }
    used
}

/// Whether what follows is the path of a `pub use`.
fn is_shown(before: &str) -> bool {
    let start = before.rfind([';', '}', '{']).map_or(0, |start| start + 1);
    let statement = before[start..].trim();
    statement.ends_with("use") && statement.contains("pub")
}

/// Every path of a tree such as `a::{b, c::{self, d}}`; `*` and `self` stand for the module itself.
fn trees(code: &str) -> Vec<Path> {
    let mut rest = code;
    tree(&mut rest, &[])
}

fn tree(rest: &mut &str, before: &[String]) -> Vec<Path> {
    let mut path = before.to_vec();
    loop {
        *rest = rest.trim_start();
        if let Some(group) = rest.strip_prefix('{') {
            *rest = group;
            let mut paths = Vec::new();
            while !rest.trim_start().starts_with('}') && !rest.is_empty() {
                paths.extend(tree(rest, &path));
                *rest = rest.trim_start().trim_start_matches(',');
                *rest = rest.trim_start();
            }
            *rest = rest.strip_prefix('}').unwrap_or(rest);
            return paths;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        *rest = after;
        match word {
            "" => {
                // `*`, or nothing that can be read: neither takes the reading further.
                let skipped = rest.chars().next().map_or(0, char::len_utf8);
                *rest = &rest[skipped..];
                return vec![path];
            }
            "self" if !path.is_empty() => {}
            word => path.push(word.to_owned()),
        }
        let Some(further) = rest.strip_prefix("::") else { break };
        // Not a path of modules any more: `Vec::<u8>`.
        if further.starts_with('<') {
            break;
        }
        *rest = further;
    }
    let renamed = rest.trim_start();
    if let Some(name) = renamed.strip_prefix("as ") {
        let name = name.trim_start();
        *rest = &name[name.find(|c| !is_word(c)).unwrap_or(name.len())..];
    }
    vec![path]
}

/// A path from the root of the crate; `None` of another crate's.
fn absolute(from: &[String], children: &BTreeSet<String>, path: &[String]) -> Option<Path> {
    let mut base = from.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|word| word == "super") {
                base.pop()?;
                rest = &rest[1..];
            }
        }
        name if children.contains(name) => {}
        _ => return None,
    }
    base.extend_from_slice(rest);
    Some(base)
}

/// The file in which something stands that a path leads to.
fn defined_in<'m>(path: &[String], modules: &'m BTreeMap<Path, Module>, depth: usize) -> Option<&'m str> {
    let mut len = path.len();
    while len > 0 && !modules.contains_key(&path[..len]) {
        len -= 1;
    }
    let module = modules.get(&path[..len])?;
    let Some(name) = path.get(len) else { return Some(&module.name) };
    let shown = module.shown.iter().find(|(shown, _)| shown == name).filter(|_| depth > 0);
    match shown {
        Some((_, target)) if target != path => defined_in(target, modules, depth - 1),
        _ => Some(&module.name),
    }
}

/// A rule that sees nothing is kept by everything.
mod reading {
    use super::{Source, circles};

    fn found(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let files: Vec<Source> =
            files.iter().map(|(name, text)| Source::new((*name).to_owned(), (*text).to_owned())).collect();
        circles(&files)
    }

    #[test]
    fn a_circle_is_found_over_names_that_are_shown_elsewhere() {
        let files = [
            ("src/a/mod.rs", "mod b;\nmod c;\npub use b::B;\npub(crate) use c::{C, d::{self}};\n"),
            ("src/a/b.rs", "use super::C;\npub struct B(C);"),
            ("src/a/c.rs", "pub struct C;\nfn f() { crate::a::B::new() }"),
        ];
        assert_eq!(found(&files), [["src/a/b.rs", "src/a/c.rs"]]);
        let mut straight = files;
        straight[2].1 = "pub struct C;\n#[cfg(test)]\nmod tests { use crate::a::B; }\n// crate::a::B\n";
        assert!(found(&straight).is_empty(), "tests and comments are nobody's business");
    }

    #[test]
    fn a_module_and_its_own_file_are_told_apart() {
        let up = ("src/a/b.rs", "use super::{A, x::Y};\npub struct B;");
        assert!(found(&[("src/a/mod.rs", "mod b;\npub use b::B;\npub struct A;"), up]).is_empty());
        let used = ("src/a/mod.rs", "mod b;\nuse b::B;\npub struct A(B);");
        assert_eq!(found(&[used, up]), [["src/a/b.rs", "src/a/mod.rs"]]);
        let beyond = ("src/c.rs", "use crate::a::{b as other, A};\nfn f() {}");
        assert_eq!(found(&[used, up, beyond]).len(), 1);
    }
}
