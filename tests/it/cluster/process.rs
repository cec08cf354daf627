//! A member in a process of its own, which can be stopped and killed: this test binary, run again with a test that is a
//! member until its standard input ends.

use super::topic::cluster;
use crate::support::DEADLINE;
use freqcap::clock::{BootClock, BootMs};
use freqcap::cluster::{Leave, Member, MemberOptions, Owner, OwnerState, PartitionCommit, Partitions, RunId, Taken};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

const BROKERS: &str = "FREQCAP_TEST_MEMBER_BROKERS";
const NODE: &str = "FREQCAP_TEST_MEMBER_NODE";
pub const TOPIC: &str = "log";
pub const GROUP: &str = "freqcap-log";

/// What a member process says, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Assigned(BTreeSet<u32>),
    Unassigned(BTreeSet<u32>, Taken),
    /// A commit was accepted: when it was sent, by the boot clock.
    Accepted(u64),
    Failed(String),
}

impl Line {
    fn write(&self) -> String {
        let list = |partitions: &BTreeSet<u32>| partitions.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        match self {
            Self::Assigned(partitions) => format!("@member assigned {}", list(partitions)),
            Self::Unassigned(partitions, taken) => format!("@member unassigned {} {taken:?}", list(partitions)),
            Self::Accepted(sent) => format!("@member accepted {sent}"),
            Self::Failed(why) => format!("@member failed {why}"),
        }
    }

    fn read(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once("@member ")?.1.split_once(' ')?;
        let list = |text: &str| text.split(',').map(|one| one.parse().unwrap()).collect();
        Some(match kind {
            "assigned" => Self::Assigned(list(rest)),
            "unassigned" => {
                let (partitions, taken) = rest.split_once(' ')?;
                let taken = if taken == "Lost" { Taken::Lost } else { Taken::Planned };
                Self::Unassigned(list(partitions), taken)
            }
            "accepted" => Self::Accepted(rest.parse().unwrap()),
            "failed" => Self::Failed(rest.to_owned()),
            _ => return None,
        })
    }
}

/// Says what happens, and tells that it serves what it is assigned.
struct Told {
    node: String,
    mine: Mutex<BTreeSet<u32>>,
}

impl Told {
    fn say(&self, line: &Line) {
        println!("{}", line.write());
        std::io::stdout().flush().unwrap();
    }
}

impl Partitions for Told {
    fn assigned(&self, partitions: &[u32], _now: BootMs) {
        self.mine.lock().unwrap().extend(partitions);
        if !partitions.is_empty() {
            self.say(&Line::Assigned(partitions.iter().copied().collect()));
        }
    }

    fn unassigned(&self, partitions: &[u32], taken: Taken) {
        self.mine.lock().unwrap().retain(|one| !partitions.contains(one));
        if !partitions.is_empty() {
            self.say(&Line::Unassigned(partitions.iter().copied().collect(), taken));
        }
    }

    fn commits(&self) -> Vec<PartitionCommit> {
        let url = format!("http://{}", self.node);
        let owner =
            Owner { state: OwnerState::Serving, ..Owner::starting(&self.node, &url, RunId(std::process::id().into())) };
        let mine = self.mine.lock().unwrap();
        mine.iter().map(|&partition| PartitionCommit { partition, offset: 0, owner: owner.clone() }).collect()
    }

    fn accepted(&self, _partitions: &[u32], sent: BootMs, _now: BootMs) {
        self.say(&Line::Accepted(sent.0));
    }
}

/// Not a test: what the processes run. It leaves the group when it is told `leave`, and closes without leaving when its
/// standard input ends.
#[test]
#[ignore = "run by the tests of this module in processes of their own"]
fn a_member() {
    let (Ok(brokers), Ok(node)) = (std::env::var(BROKERS), std::env::var(NODE)) else { return };
    let told = Arc::new(Told { node: node.clone(), mine: Mutex::default() });
    let options = MemberOptions {
        cluster: cluster(brokers),
        topic: TOPIC.to_owned(),
        group: GROUP.to_owned(),
        node,
        session: Duration::from_secs(6),
    };
    let member = Member::start(options, BootClock::system(), told.clone()).unwrap();
    let failed = member.failed();
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let _ = sender.send(line.unwrap());
        }
    });
    let leave = loop {
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(line) if line == "leave" => break Leave::Group,
            Err(mpsc::RecvTimeoutError::Disconnected) => break Leave::Nothing,
            _ if failed.is_cancelled() => break Leave::Nothing,
            _ => {}
        }
    };
    if let Err(why) = member.stop(leave) {
        told.say(&Line::Failed(why.to_string()));
    }
}

/// A member process, killed when dropped.
pub struct MemberProcess {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<Line>,
    /// What it said so far.
    pub said: Vec<Line>,
}

impl MemberProcess {
    pub fn start(brokers: &str, node: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cluster::process::a_member", "--ignored", "--nocapture", "--test-threads=1"])
            .env(BROKERS, brokers)
            .env(NODE, node)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(line) = Line::read(&line)
                    && sender.send(line).is_err()
                {
                    return;
                }
            }
        });
        Self { input: child.stdin.take(), child, lines, said: Vec::new() }
    }

    /// The partitions that it has by what it said so far.
    pub fn mine(&mut self) -> BTreeSet<u32> {
        self.said.extend(self.lines.try_iter());
        let mut mine = BTreeSet::new();
        for line in &self.said {
            match line {
                Line::Assigned(partitions) => mine.extend(partitions),
                Line::Unassigned(partitions, _) => mine.retain(|one| !partitions.contains(one)),
                _ => {}
            }
        }
        mine
    }

    /// Waits for a line from now on.
    pub fn wait_for(&mut self, what: &str, mut is_it: impl FnMut(&Line) -> bool) -> Line {
        let started = Instant::now();
        loop {
            let rest =
                (2 * DEADLINE).checked_sub(started.elapsed()).unwrap_or_else(|| panic!("no {what}: {:?}", self.said));
            let line = self.lines.recv_timeout(rest).unwrap_or_else(|_| panic!("no {what}: {:?}", self.said));
            self.said.push(line.clone());
            if is_it(&line) {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// It leaves the group, and ends.
    pub fn leave(&mut self) {
        self.input.as_mut().unwrap().write_all(b"leave\n").unwrap();
    }

    /// It closes without leaving the group.
    pub fn close(mut self) {
        drop(self.input.take());
        self.child.wait().unwrap();
    }

    pub fn wait(&mut self) {
        self.child.wait().unwrap();
    }
}

impl Drop for MemberProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
