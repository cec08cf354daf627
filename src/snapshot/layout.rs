//! The names of the objects of a unit. Numbers are padded with zeros, so that the order of names is that of numbers.
//!
//! ```text
//! <root>/<unit>/m/<sequence>.json.zst          manifest, created only if absent; the highest is the newest
//! <root>/<unit>/f/<epoch>-<name of the file>   a table's file, uploaded once
//! <root>/<unit>/w/<epoch>-<n>/<name>.<from>    a piece of the write-ahead log or of RocksDB's list of files
//! <root>/<unit>/s/<chain>/<number>.zst         a segment of writes after a snapshot, created only if absent
//! <root>/<unit>/b/<epoch>.json                 up to which segment of the chain before an epoch goes, created only if absent
//! <root>/<unit>/e/<epoch>.json                 who began an epoch, created only if absent
//! <root>/<unit>/l/<epoch>.json                 the lease of an epoch, written again and again by its owner alone
//! <root>/probe/<random>                        proves at a start that conditions hold; removed at once
//! ```

/// The version of manifests and of what they name. A newer one is refused.
pub const FORMAT: u32 = 1;

/// The unit of a process without a cluster: one store with all shards.
pub const STANDALONE: &str = "p-000";

/// Makes the names of one unit.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    unit: String,
}

impl Layout {
    pub(super) fn new(unit: &str) -> Self {
        Self { unit: unit.to_owned() }
    }

    pub(super) fn unit(&self) -> &str {
        &self.unit
    }

    pub(super) fn manifests(&self) -> String {
        format!("{}/m", self.unit)
    }

    pub(super) fn manifest(&self, sequence: u64) -> String {
        format!("{}/m/{sequence:020}.json.zst", self.unit)
    }

    pub(super) fn files(&self) -> String {
        format!("{}/f", self.unit)
    }

    /// RocksDB gives a number to one file of a process' life only, so its name and the epoch are an object's name.
    pub(super) fn file(&self, epoch: u64, name: &str) -> String {
        format!("{}/f/{epoch:010}-{name}", self.unit)
    }

    pub(super) fn pieces(&self) -> String {
        format!("{}/w", self.unit)
    }

    pub(super) fn piece(&self, epoch: u64, n: u64, name: &str, from: u64) -> String {
        format!("{}/w/{epoch:010}-{n:010}/{name}.{from:020}", self.unit)
    }

    pub(super) fn segments(&self) -> String {
        format!("{}/s", self.unit)
    }

    pub(super) fn chain(&self, chain: &str) -> String {
        format!("{}/s/{chain}", self.unit)
    }

    pub(super) fn segment(&self, chain: &str, number: u64) -> String {
        format!("{}/s/{chain}/{number:020}.zst", self.unit)
    }

    pub(super) fn begins(&self) -> String {
        format!("{}/b", self.unit)
    }

    pub(super) fn begin(&self, epoch: u64) -> String {
        format!("{}/b/{epoch:010}.json", self.unit)
    }

    pub(super) fn epochs(&self) -> String {
        format!("{}/e", self.unit)
    }

    pub(super) fn epoch(&self, epoch: u64) -> String {
        format!("{}/e/{epoch:010}.json", self.unit)
    }

    pub(super) fn leases(&self) -> String {
        format!("{}/l", self.unit)
    }

    pub(super) fn lease(&self, epoch: u64) -> String {
        format!("{}/l/{epoch:010}.json", self.unit)
    }
}

/// The number that an object's file name begins with, if its name is one of ours.
pub(super) fn number(object: &str) -> Option<u64> {
    let name = object.rsplit('/').next()?;
    let (digits, rest) = name.split_at(name.find(|c: char| !c.is_ascii_digit())?);
    if matches!(rest, ".json.zst" | ".json" | ".zst") { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_names_is_the_order_of_numbers() {
        let layout = Layout::new(STANDALONE);
        let mut names: Vec<String> = [3, 20, 100, u64::MAX, 1].into_iter().map(|n| layout.manifest(n)).collect();
        names.sort();
        let numbers: Vec<_> = names.iter().map(|name| number(name).unwrap()).collect();
        assert_eq!(numbers, [1, 3, 20, 100, u64::MAX]);
        assert_eq!(layout.manifest(7), "p-000/m/00000000000000000007.json.zst");
        assert_eq!(layout.file(3, "000124.sst"), "p-000/f/0000000003-000124.sst");
        assert_eq!(
            layout.piece(3, 9, "000125.log", 4_096),
            "p-000/w/0000000003-0000000009/000125.log.00000000000000004096"
        );
        assert_eq!(number(&layout.epoch(12)), Some(12));
        for not_ours in ["p-000/m/readme.txt", "p-000/m/12", "p-000/m/12.json.tmp", "p-000/m/.json"] {
            assert_eq!(number(not_ours), None, "{not_ours}");
        }
    }
}
