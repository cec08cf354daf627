//! The memory limit of the container, from the kernel's control groups: cgroup v2 (`memory.max`) and v1
//! (`memory.limit_in_bytes`), for the process's own group and all visible groups above it.
//!
//! Formats: cgroups(7) for `/proc/self/cgroup`, proc_pid_mountinfo(5) for `/proc/self/mountinfo`.

use std::path::{Component, Path, PathBuf};

/// A limit, and the file that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerLimit {
    /// Bytes that all processes of the group may use together.
    pub bytes: u64,
    /// The kernel's file.
    pub file: PathBuf,
}

/// A limit of this size or more means none: v1 writes "no limit" as the largest number of pages that the kernel can
/// count.
const NO_LIMIT: u64 = 1 << 50;

/// The limit of this process; `None` if there is none, or nothing can be read.
pub fn container_limit() -> Option<ContainerLimit> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    limit_of(&groups, &mounts, &|path| std::fs::read_to_string(path).ok())
}

/// The lowest limit for a process with this `/proc/self/cgroup` and `/proc/self/mountinfo`. `read` returns the text of
/// a file, if it exists.
fn limit_of(groups: &str, mounts: &str, read: &dyn Fn(&Path) -> Option<String>) -> Option<ContainerLimit> {
    let mut least: Option<ContainerLimit> = None;
    for mount in mounts.lines().filter_map(Mount::parse) {
        let Some(group) = groups.lines().find_map(|line| mount.group(line)) else { continue };
        for dir in mount.dirs(group) {
            let file = dir.join(mount.version.file());
            let Some(bytes) = read(&file).and_then(|text| limit_in(&text)) else { continue };
            if least.as_ref().is_none_or(|least| bytes < least.bytes) {
                least = Some(ContainerLimit { bytes, file });
            }
        }
    }
    least
}

/// The limit in a file; `max` means none.
fn limit_in(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| (1..NO_LIMIT).contains(bytes))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    fn file(self) -> &'static str {
        match self {
            Self::V1 => "memory.limit_in_bytes",
            Self::V2 => "memory.max",
        }
    }
}

/// Where a hierarchy that limits memory is mounted.
struct Mount {
    version: Version,
    /// The group at `point`.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    /// Parses a line of `mountinfo`: id, parent, device, root, mount point, options, optional fields, `-`, type,
    /// source, options of the file system.
    fn parse(line: &str) -> Option<Self> {
        let (fields, rest) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        let mut rest = rest.split(' ');
        let version = match rest.next()? {
            "cgroup2" => Version::V2,
            "cgroup" if rest.nth(1)?.split(',').any(|option| option == "memory") => Version::V1,
            _ => return None,
        };
        Some(Self { version, root, point })
    }

    /// The group in a line of `/proc/self/cgroup` that belongs to this hierarchy: `0::/path` or
    /// `4:memory,hugetlb:/path`.
    fn group<'a>(&self, line: &'a str) -> Option<&'a Path> {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
        let is_ours = match self.version {
            Version::V1 => controllers.split(',').any(|controller| controller == "memory"),
            Version::V2 => number == "0" && controllers.is_empty(),
        };
        is_ours.then(|| Path::new(group))
    }

    /// The directories of a group and of the visible groups above it. Of a group outside the mount (`/../..` in another
    /// namespace), only the mount point may be visible.
    fn dirs(&self, group: &Path) -> Vec<PathBuf> {
        let inside = group.strip_prefix(&self.root).unwrap_or(Path::new(""));
        let is_plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
        let inside = if is_plain { inside } else { Path::new("") };
        inside.ancestors().map(|part| self.point.join(part)).collect()
    }
}

/// `mountinfo` writes a space, tab, line break or backslash as a backslash and three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.map_or('\\', char::from));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    plain.push_str(rest);
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "24 30 0:22 / /proc rw - proc proc rw\n\
                      29 30 0:26 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw master:11 - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw master:12 - cgroup cgroup rw,memory\n";

    /// The limit where these files are there.
    fn limit(groups: &str, mounts: &str, files: &[(&str, &str)]) -> Option<(u64, String)> {
        let read =
            |path: &Path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned());
        limit_of(groups, mounts, &read).map(|limit| (limit.bytes, limit.file.to_string_lossy().into_owned()))
    }

    #[test]
    fn a_container_in_a_namespace_of_its_own_sees_its_limit_at_the_mount_point() {
        let file = "/sys/fs/cgroup/memory.max";
        assert_eq!(limit("0::/\n", V2, &[(file, "536870912\n")]), Some((512 << 20, file.to_owned())));
        assert_eq!(limit("0::/\n", V2, &[(file, "max\n")]), None);
        // The root of the whole machine has no such file.
        assert_eq!(limit("0::/\n", V2, &[]), None);
    }

    #[test]
    fn the_least_limit_of_a_group_and_those_above_it_holds() {
        let own = "/sys/fs/cgroup/system.slice/freqcap.service/memory.max";
        let above = "/sys/fs/cgroup/system.slice/memory.max";
        let group = "0::/system.slice/freqcap.service\n";
        assert_eq!(limit(group, V2, &[(own, "max\n"), (above, "300\n")]), Some((300, above.to_owned())));
        assert_eq!(limit(group, V2, &[(own, "200\n"), (above, "300\n")]), Some((200, own.to_owned())));
        assert_eq!(limit(group, V2, &[(own, "400\n"), (above, "300\n")]), Some((300, above.to_owned())));
        assert_eq!(limit(group, V2, &[(own, "max\n"), (above, "max\n")]), None);
    }

    #[test]
    fn version_1_says_no_limit_with_a_number_that_nothing_reaches() {
        let file = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        let group = "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n";
        assert_eq!(limit(group, V1, &[(file, "1073741824\n")]), Some((1 << 30, file.to_owned())));
        assert_eq!(limit(group, V1, &[(file, "9223372036854771712\n")]), None);
        assert_eq!(limit(group, V1, &[(file, "0\n")]), None);
        let inner = "4:hugetlb,memory:/docker/abc/inner\n";
        let inner_file = "/sys/fs/cgroup/memory/inner/memory.limit_in_bytes";
        let files = [(inner_file, "5000\n"), (file, "1073741824\n")];
        assert_eq!(limit(inner, V1, &files), Some((5000, inner_file.to_owned())));
    }

    #[test]
    fn where_both_versions_are_mounted_the_lesser_limit_holds() {
        let mounts = format!("{V1}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let groups = "4:memory:/docker/abc\n0::/x\n";
        let (old, new) = ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/unified/x/memory.max");
        assert_eq!(limit(groups, &mounts, &[(old, "700\n"), (new, "600\n")]), Some((600, new.to_owned())));
        assert_eq!(limit(groups, &mounts, &[(old, "500\n"), (new, "600\n")]), Some((500, old.to_owned())));
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_is_seen_as_the_mount_point() {
        let file = "/sys/fs/cgroup/memory.max";
        let secret = "/sys/fs/other/memory.max";
        for group in ["0::/../../other\n", "0::/../x\n"] {
            assert_eq!(limit(group, V2, &[(file, "100\n"), (secret, "1\n")]), Some((100, file.to_owned())), "{group}");
        }
        let mount = "29 30 0:26 /kubepods/pod1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(limit("0::/elsewhere\n", mount, &[(file, "100\n")]), Some((100, file.to_owned())));
    }

    #[test]
    fn paths_are_unescaped_and_what_cannot_be_read_is_no_limit() {
        let mount = "29 30 0:26 / /mnt/my\\040groups\\134x rw - cgroup2 cgroup2 rw\n";
        let file = "/mnt/my groups\\x/memory.max";
        assert_eq!(limit("0::/\n", mount, &[(file, "100\n")]), Some((100, file.to_owned())));
        for (groups, mounts) in
            [("", ""), ("0::/\n", ""), ("", V2), ("nonsense\n1\n::\n", "no mount\n - \n1 2 3 - cgroup\n")]
        {
            assert_eq!(limit(groups, mounts, &[("/sys/fs/cgroup/memory.max", "100\n")]), None, "{groups:?} {mounts:?}");
        }
        for text in ["", "-1\n", "many\n", "1.5\n", "99999999999999999999999\n"] {
            assert_eq!(limit("0::/\n", V2, &[("/sys/fs/cgroup/memory.max", text)]), None, "{text:?}");
        }
    }
}
