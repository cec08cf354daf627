//! Objects that are gone, cut short or changed: told by name, and the snapshot before is offered.

use super::world::{Oracle, World, counts, refused, take};
use crate::support::Server;
use std::path::{Path, PathBuf};

/// The tables of the newest snapshot that the one before does not name.
fn new_tables(before: &[PathBuf], after: &[PathBuf]) -> Vec<PathBuf> {
    let new = after.iter().filter(|path| !before.contains(path));
    new.cloned().collect()
}

/// Every object that is a part of the data.
fn objects(world: &World) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["p-000/f", "p-000/w"] {
        walk(&world.objects().join(folder), &mut found);
    }
    found.sort();
    found
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

fn grow(server: &Server, oracle: &mut Oracle) {
    for _ in 0..10 {
        assert!(oracle.send(&server.url, &server.http, 100));
    }
}

#[test]
fn an_object_that_is_damaged_is_named_and_the_snapshot_before_is_offered() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 3] = [
        ("missing", |path| std::fs::remove_file(path).unwrap()),
        ("bytes instead of", |path| {
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            let bytes = file.metadata().unwrap().len();
            file.set_len(bytes / 2).unwrap();
        }),
        ("damaged", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
    ];
    for (said, damage) in damages {
        World::each(|world| {
            let server = world.start("data", &["--snapshot-every", "1h"]);
            let mut oracle = Oracle::default();
            grow(&server, &mut oracle);
            let older = take(&server);
            let held = counts(&server);
            let before = objects(world);
            grow(&server, &mut oracle);
            take(&server);
            server.kill();
            let new = new_tables(&before, &objects(world));
            let path = new.last().expect("the second snapshot uploaded something");
            damage(path);
            let object = path.strip_prefix(world.objects()).unwrap().display().to_string();

            let (code, told) = refused(world.serve("lost", &["--takeover"]));
            let older = older["id"].as_str().unwrap();
            assert_eq!(code, 2, "{told}");
            assert!(told.contains(&object) && told.contains(&format!("--restore {older} ")), "{object}: {told}");
            let output = world.run(&["verify"]);
            let printed = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(1), "{printed}");
            assert!(printed.contains(&object) && printed.contains(said), "{object}: {printed}");

            let server = world.start("lost", &["--takeover", "--restore", older]);
            assert_eq!(counts(&server), held);
            server.kill();
        });
    }
}

/// What cannot be read is never taken for "there is none".
#[test]
fn a_manifest_that_cannot_be_read_is_no_empty_bucket() {
    World::each(|world| {
        let server = world.start("data", &[]);
        let mut oracle = Oracle::default();
        grow(&server, &mut oracle);
        take(&server);
        server.kill();
        world.lose_disk("data");
        let mut manifests = Vec::new();
        walk(&world.objects().join("p-000/m"), &mut manifests);
        assert_eq!(manifests.len(), 1);
        std::fs::write(&manifests[0], b"no manifest").unwrap();
        let (code, told) = refused(world.serve("data", &["--takeover"]));
        assert!(code != 0 && told.contains("p-000/m/00000000000000000001.json.zst"), "{code}: {told}");
        assert!(!world.data("data").join("CURRENT").exists());
    });
}
