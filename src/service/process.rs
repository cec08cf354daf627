//! What the kernel knows of this process, in Prometheus' text form under the names that every exporter uses. Written by
//! hand: a counter of the metrics library holds no fraction of a second.

use std::fmt::Write;
use std::fs;

/// The kernel counts processor time in these for everybody, whatever its own clock does (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Name, type and help of each.
const METRICS: [(&str, &str, &str); 7] = [
    ("process_cpu_seconds_total", "counter", "Processor time spent, user and system"),
    ("process_start_time_seconds", "gauge", "When the process started, in seconds since 1970"),
    ("process_threads", "gauge", "Threads"),
    ("process_virtual_memory_bytes", "gauge", "Bytes of virtual memory"),
    ("process_resident_memory_bytes", "gauge", "Bytes of resident memory"),
    ("process_open_fds", "gauge", "Open file descriptors"),
    ("process_max_fds", "gauge", "The most file descriptors that may be open"),
];

/// Name, type and help of every metric of the process.
pub fn metrics() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    METRICS.into_iter()
}

/// The figures that can be read; elsewhere than on Linux there are none.
pub(crate) fn figures() -> String {
    let stat = Stat::read();
    let field = |number| stat.as_ref().and_then(|stat| stat.field(number));
    // In the order of METRICS.
    let values = [
        field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS_PER_SECOND),
        booted().zip(field(22)).map(|(booted, started)| booted + started / TICKS_PER_SECOND),
        field(20),
        field(23),
        resident_bytes(),
        fs::read_dir("/proc/self/fd").ok().map(|all| all.count() as f64),
        max_fds(),
    ];
    let mut text = String::new();
    for ((name, kind, help), value) in METRICS.into_iter().zip(values) {
        if let Some(value) = value {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
        }
    }
    text
}

/// `/proc/self/stat` after the name of the program, which may hold anything but is in brackets.
struct Stat(Vec<f64>);

impl Stat {
    /// The number of the first field after the name, as proc(5) counts them.
    const FIRST: usize = 3;

    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        let (_, fields) = text.rsplit_once(") ")?;
        // The first is a letter, which is asked for by nobody.
        Some(Self(fields.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect()))
    }

    fn field(&self, number: usize) -> Option<f64> {
        self.0.get(number - Self::FIRST).copied()
    }
}

/// When the machine started, in seconds since 1970.
fn booted() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Bytes of memory that the process has in use.
pub(crate) fn resident_bytes() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(kib.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? * 1024.0)
}

fn max_fds() -> Option<f64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.map(|most| most as f64)
}
