//! A file system that keeps what was synced, and of everything else what chance leaves of it.
//!
//! It is told what a process did to a directory (shim.c writes it down) and works out what a loss of power could leave:
//! synced bytes are kept; what was written since is kept, lost, cut, or torn by sectors. Names change in the order in which
//! they were changed, as in a file system with a journal, up to some point at or after the last sync of the folder.

use crate::simulation::random::Random;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                file.resize(file.len().max(end), 0);
                file[*offset..end].copy_from_slice(bytes);
            }
            Self::Truncate(size) => file.resize(*size, 0),
        }
    }
}

/// A file, whatever its names are.
#[derive(Debug, Default)]
struct File {
    synced: Vec<u8>,
    /// Since then, in order; and whether a sync of it failed: then no later one makes up for it.
    unsynced: Vec<(Change, bool)>,
    /// As a process sees it.
    now: Vec<u8>,
}

impl File {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.now);
        self.unsynced.push((change, false));
    }

    fn sync(&mut self) {
        let synced = &mut self.synced;
        self.unsynced.retain(|(change, is_doomed)| {
            if !is_doomed {
                change.apply(synced);
            }
            *is_doomed
        });
    }

    fn fail_sync(&mut self) {
        self.unsynced.iter_mut().for_each(|(_, is_doomed)| *is_doomed = true);
    }

    /// What a loss of power leaves.
    fn after_loss(&self, loss: Loss, random: &mut Random) -> Vec<u8> {
        let mut left = self.synced.clone();
        let fate = if loss == Loss::Mixed {
            random.pick(&[Loss::Everything, Loss::Nothing, Loss::Tail, Loss::Sectors])
        } else {
            loss
        };
        match fate {
            Loss::Everything => {}
            Loss::Nothing | Loss::Mixed => left.clone_from(&self.now),
            Loss::Tail => {
                let whole = random.below(self.unsynced.len() as u64 + 1) as usize;
                self.unsynced[..whole].iter().for_each(|(change, _)| change.apply(&mut left));
                if let Some((Change::Write { offset, bytes }, _)) = self.unsynced.get(whole) {
                    let part = random.below(bytes.len() as u64 + 1) as usize;
                    Change::Write { offset: *offset, bytes: bytes[..part].to_vec() }.apply(&mut left);
                }
            }
            Loss::Sectors => {
                left.resize(self.now.len(), 0);
                for start in (0..self.now.len()).step_by(SECTOR) {
                    let end = (start + SECTOR).min(self.now.len());
                    if random.percent(50) {
                        left[start..end].copy_from_slice(&self.now[start..end]);
                    }
                }
            }
        }
        left
    }
}

/// What becomes of bytes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    Everything,
    Nothing,
    /// All from some byte on.
    Tail,
    /// Any sectors.
    Sectors,
    /// Another fate for every file.
    Mixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Folder,
    File(usize),
}

type Names = BTreeMap<String, Node>;

#[derive(Debug, Clone)]
enum Rename {
    Add(String, Node),
    Remove(String),
    Move(String, String),
}

impl Rename {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Add(path, node) => drop(names.insert(path.clone(), *node)),
            Self::Remove(path) => drop(names.remove(path)),
            Self::Move(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }

    fn is_in(&self, folder: &str) -> bool {
        let of = |path: &str| path.rsplit_once('/').map_or("", |(folder, _)| folder) == folder;
        match self {
            Self::Add(path, _) | Self::Remove(path) => of(path),
            Self::Move(from, to) => of(from) || of(to),
        }
    }
}

/// The directory and everything in it.
#[derive(Debug)]
pub struct Disk {
    files: Vec<File>,
    now: Names,
    durable: Names,
    /// What was done to names since, in order.
    renames: Vec<Rename>,
    /// What the process has open: a file, or a folder by its path.
    open: HashMap<i32, Open>,
    /// Whether a sync of a file makes its name durable, too, as in most file systems, or only a sync of its folder does.
    sync_keeps_name: bool,
}

#[derive(Debug)]
enum Open {
    File(usize),
    Folder(String),
}

/// What one run of the process did.
#[derive(Debug, Default)]
pub struct Done {
    pub calls: usize,
    pub faults: usize,
}

impl Disk {
    pub fn new(sync_keeps_name: bool) -> Self {
        Self {
            files: Vec::new(),
            now: Names::new(),
            durable: Names::new(),
            renames: Vec::new(),
            open: HashMap::new(),
            sync_keeps_name,
        }
    }

    /// Takes in what a process did that has ended.
    pub fn replay(&mut self, log: &[u8]) -> Done {
        let mut done = Done::default();
        let mut log = Records(log);
        while let Some(record) = log.next() {
            done.calls += 1;
            self.step(&record, &mut done);
        }
        self.open.clear();
        done
    }

    fn step(&mut self, record: &Record<'_>, done: &mut Done) {
        let first = || String::from_utf8_lossy(record.first).into_owned();
        match record.op {
            1 => self.open(record.fd, &first(), record.offset),
            2 => drop(self.open.remove(&record.fd)),
            3 => self.change(record.fd, Change::Write { offset: record.offset as usize, bytes: record.first.to_vec() }),
            4 => self.change(record.fd, Change::Truncate(record.offset as usize)),
            5 => self.sync(record.fd),
            6 => {
                if let Some(Open::File(file)) = self.open.get(&record.fd) {
                    self.files[*file].fail_sync();
                }
            }
            7 => self.rename(Rename::Move(first(), String::from_utf8_lossy(record.second).into_owned())),
            8 | 11 => self.rename(Rename::Remove(first())),
            9 => {
                if let Some(&node) = self.now.get(&first()) {
                    self.rename(Rename::Add(String::from_utf8_lossy(record.second).into_owned(), node));
                }
            }
            10 => self.rename(Rename::Add(first(), Node::Folder)),
            12 => done.faults += 1,
            other => panic!("the shim wrote a record of kind {other}"),
        }
    }

    fn open(&mut self, fd: i32, path: &str, flags: u64) {
        if flags & 1 != 0 {
            self.files.push(File::default());
            self.rename(Rename::Add(path.to_owned(), Node::File(self.files.len() - 1)));
        }
        let open = match self.now.get(path) {
            Some(Node::File(file)) => Open::File(*file),
            // Made by a call that is not watched: the log of RocksDB's own doings, which nobody reads.
            None if !path.is_empty() => return,
            _ => Open::Folder(path.to_owned()),
        };
        self.open.insert(fd, open);
        if flags & 2 != 0 {
            self.change(fd, Change::Truncate(0));
        }
    }

    fn change(&mut self, fd: i32, change: Change) {
        if let Some(Open::File(file)) = self.open.get(&fd) {
            self.files[*file].change(change);
        }
    }

    fn rename(&mut self, rename: Rename) {
        rename.apply(&mut self.now);
        self.renames.push(rename);
    }

    fn sync(&mut self, fd: i32) {
        let last = match self.open.get(&fd) {
            Some(Open::File(file)) => {
                let file = *file;
                self.files[file].sync();
                let is_its = |rename: &Rename| match rename {
                    Rename::Add(_, node) => *node == Node::File(file),
                    Rename::Move(_, to) => self.now.get(to) == Some(&Node::File(file)),
                    Rename::Remove(_) => false,
                };
                if self.sync_keeps_name { self.renames.iter().rposition(is_its) } else { None }
            }
            Some(Open::Folder(path)) => self.renames.iter().rposition(|rename| rename.is_in(path)),
            None => None,
        };
        if let Some(last) = last {
            self.renames.drain(..=last).for_each(|rename| rename.apply(&mut self.durable));
        }
    }

    /// Loses power: makes of the directory what that leaves.
    pub fn lose_power(&mut self, dir: &Path, loss: Loss, random: &mut Random) {
        let kept = match loss {
            Loss::Everything => 0,
            Loss::Nothing => self.renames.len(),
            _ => random.below(self.renames.len() as u64 + 1) as usize,
        };
        self.renames.drain(..kept).for_each(|rename| rename.apply(&mut self.durable));
        self.renames.clear();
        for file in &mut self.files {
            let left = file.after_loss(loss, random);
            file.now.clone_from(&left);
            file.synced = left;
            file.unsynced.clear();
        }
        // A folder that is not there has nothing in it.
        let names = std::mem::take(&mut self.durable);
        let has_folder = |path: &str| path.rsplit_once('/').is_none_or(|(folder, _)| names.contains_key(folder));
        self.durable =
            names.iter().filter(|(path, _)| has_folder(path)).map(|(path, node)| (path.clone(), *node)).collect();
        self.now.clone_from(&self.durable);
        self.write_to(dir);
    }

    fn write_to(&self, dir: &Path) {
        fs::remove_dir_all(dir).unwrap();
        fs::create_dir(dir).unwrap();
        let mut written: HashMap<usize, &str> = HashMap::new();
        for (path, node) in &self.now {
            match node {
                Node::Folder => fs::create_dir(dir.join(path)).unwrap(),
                // A file with two names stays one.
                Node::File(file) => match written.get(file) {
                    Some(other) => fs::hard_link(dir.join(other), dir.join(path)).unwrap(),
                    None => {
                        fs::write(dir.join(path), &self.files[*file].now).unwrap();
                        written.insert(*file, path);
                    }
                },
            }
        }
    }

    /// Damages something that was synced: a byte in the first half of a file, or a whole file. Says what.
    pub fn damage(&mut self, dir: &Path, random: &mut Random) -> Option<String> {
        let ending = random.pick(&[".log", ".log", ".log", ".sst", ".sst", ""]);
        let is_one = |path: &str| if ending.is_empty() { path.starts_with("MANIFEST") } else { path.ends_with(ending) };
        let all = self.now.iter().filter_map(|(path, node)| match node {
            Node::File(file) if is_one(path) && self.files[*file].synced.len() > 1 => Some((path.clone(), *file)),
            _ => None,
        });
        let all: Vec<_> = all.collect();
        let (path, file) = all.get(random.below(all.len().max(1) as u64) as usize)?;
        if random.percent(20) {
            fs::remove_file(dir.join(path)).unwrap();
            self.now.remove(path);
            return Some(format!("{path} was removed"));
        }
        let file = &mut self.files[*file];
        let at = random.below(file.synced.len() as u64 / 2) as usize;
        file.now[at] ^= 1 << random.below(8);
        fs::write(dir.join(path), &file.now).unwrap();
        Some(format!("a bit of byte {at} of {} in {path} was turned", file.now.len()))
    }

    /// What is in the directory and is not known here, or is other than known: the shim missed a call.
    pub fn differs_from(&self, dir: &Path) -> Option<String> {
        for (path, node) in &self.now {
            if let Node::File(file) = node
                && fs::read(dir.join(path)).ok().as_ref() != Some(&self.files[*file].now)
            {
                return Some(format!("{path} is not what was written to it"));
            }
        }
        let is_known = |name: &str| name.starts_with("LOG") || self.now.contains_key(name);
        let mut names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.find(|name| !is_known(name)).map(|name| format!("nobody made {name}"))
    }
}

/// What the shim wrote down.
struct Records<'a>(&'a [u8]);

struct Record<'a> {
    op: u8,
    fd: i32,
    offset: u64,
    first: &'a [u8],
    second: &'a [u8],
}

impl<'a> Records<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn next(&mut self) -> Option<Record<'a>> {
        let head = self.take(24)?;
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let offset = u64::from_le_bytes(head[8..16].try_into().unwrap());
        let first = self.take(word(16) as usize)?;
        let second = self.take(word(20) as usize)?;
        Some(Record { op: head[0], fd: word(4) as i32, offset, first, second })
    }
}
