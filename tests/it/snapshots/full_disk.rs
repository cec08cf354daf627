//! A disk that is full in mid-restore: told, nothing opened, and gone on with once there is room.

use super::world::{Oracle, World, refused, take};
use std::process::{Command, Stdio};

/// The same command, whose files may have so many blocks of 1 KiB. What is beyond is an error, as with a full disk.
fn with_room(command: &Command, blocks: u32) -> Command {
    let mut limited = Command::new("bash");
    limited.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
    limited.arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        limited.current_dir(dir);
    }
    limited.env_clear();
    limited.envs(std::env::vars_os());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.stdin(Stdio::null());
    limited
}

#[test]
fn a_restore_onto_a_disk_that_fills_up_is_told_and_goes_on_once_there_is_room() {
    World::each(|world| {
        let server = world.start("data", &["--snapshot-every", "1h"]);
        let mut oracle = Oracle::default();
        for _ in 0..40 {
            assert!(oracle.send(&server.url, &server.http, 500));
        }
        take(&server);
        assert!(server.terminate().success());
        world.lose_disk("data");
        let largest = |name: &str| {
            let files = std::fs::read_dir(world.data(name)).unwrap();
            files.map(|file| file.unwrap().metadata().unwrap().len()).max().unwrap()
        };
        for blocks in [2, 16, 64] {
            let (code, said) = refused(with_room(&world.serve("data", &[]), blocks));
            assert!(code != 0 && said.contains("File too large") && said.contains("data"), "{code}: {said}");
            assert!(largest("data") <= u64::from(blocks) << 10);
            // What is there is of a restore that has not ended: nobody opens it.
            assert!(world.data("data").join("freqcap.restoring").exists());
            let output = world.freqcap().args(["verify", "--data-dir"]).arg(world.data("data")).output().unwrap();
            assert!(!output.status.success(), "{output:?}");
        }
        let server = world.start("data", &["--takeover"]);
        oracle.is_exact(&server);
        assert!(server.terminate().success());
    });
}
