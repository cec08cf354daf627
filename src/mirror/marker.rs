//! The marker: how far a master was sent changes, and whether it still has them.
//!
//! It is a hash. Field `0`..`255` is the sequence of a shard up to which Redis has acknowledged all changes. Field
//! `sent` is the name of the last pipeline. Every pipeline ends with a script that continues only if `sent` is still
//! the name of the pipeline before. So `sent` is a chain: while it holds, everything that was sent is in this very data
//! set. A FLUSHALL, a restart from an older dump or a failover that lost writes breaks it. No later pipeline can hide
//! that, even if freqcap is killed right after sending one.
//!
//! A pipeline records what the pipelines *before* it achieved, never its own effect: that none of its commands failed
//! is known only once all its replies are read. A full sync begins by removing the sequences, so a marker without them
//! means that a full sync did not finish.

use crate::model::{SHARDS, ShardId};
use redis::{Cmd, Value};

/// A sequence for each shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seqs(Box<[u64]>);

impl Seqs {
    pub fn of(mut seq: impl FnMut(ShardId) -> u64) -> Self {
        Self(ShardId::all().map(&mut seq).collect())
    }

    pub fn get(&self, shard: ShardId) -> u64 {
        self.0[shard.index()]
    }

    pub fn set(&mut self, shard: ShardId, seq: u64) {
        self.0[shard.index()] = seq;
    }

    pub fn least(&self, other: &Seqs) -> Seqs {
        Self(self.0.iter().zip(&other.0).map(|(&a, &b)| a.min(b)).collect())
    }
}

/// The content of a master's marker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Marker {
    /// `None` unless every shard has a sequence.
    pub seqs: Option<Seqs>,
    pub sent: Option<String>,
}

impl Marker {
    pub fn read(name: &str) -> Cmd {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(name).arg("sent");
        for shard in 0..SHARDS {
            cmd.arg(shard);
        }
        cmd
    }

    /// Parses the reply to [`Marker::read`]. A field that is not a number counts as missing.
    pub fn parse(reply: &Value) -> Marker {
        let Value::Array(fields) = reply else { return Marker::default() };
        let mut fields = fields.iter().map(|field| match field {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        });
        let sent = fields.next().flatten().map(str::to_owned);
        let seqs: Option<Box<[u64]>> = fields.map(|field| field?.parse().ok()).collect();
        Marker { seqs: seqs.filter(|seqs| seqs.len() == SHARDS).map(Seqs), sent }
    }
}

/// KEYS[1] the marker; ARGV[1] the pipeline before, ARGV[2] this one; then for each shard: number, expected sequence
/// ("" if none), new sequence.
const ADVANCE: &str = "\
local m = KEYS[1]
if redis.call('HGET', m, 'sent') ~= ARGV[1] then return 0 end
for i = 3, #ARGV, 3 do
  if (redis.call('HGET', m, ARGV[i]) or '') ~= ARGV[i + 1] then return 0 end
end
for i = 3, #ARGV, 3 do redis.call('HSET', m, ARGV[i], ARGV[i + 2]) end
redis.call('HSET', m, 'sent', ARGV[2])
return 1";

/// Appends a pipeline to the chain and records what was acknowledged before. The script returns 1, or 0 if the chain is
/// broken. `from` is what the marker has; `None` if it has no sequences.
pub(super) fn advance(name: &str, before: &str, this: &str, from: Option<&Seqs>, to: Option<&Seqs>) -> Cmd {
    let mut cmd = redis::cmd("EVAL");
    cmd.arg(ADVANCE).arg(1).arg(name).arg(before).arg(this);
    if let Some(to) = to {
        for shard in ShardId::all() {
            let (old, new) = (from.map(|from| from.get(shard)), to.get(shard));
            if old != Some(new) {
                cmd.arg(shard.0).arg(old.map_or(String::new(), |old| old.to_string())).arg(new);
            }
        }
    }
    cmd
}

/// Begins a full sync: no sequences, and a new chain.
pub(super) fn begin(name: &str, sent: &str) -> Cmd {
    const BEGIN: &str = "\
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'sent', ARGV[1])
return 1";
    let mut cmd = redis::cmd("EVAL");
    cmd.arg(BEGIN).arg(1).arg(name).arg(sent);
    cmd
}

/// Why a full sync runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Redis has no marker: it is new or empty, or an earlier full sync did not finish.
    Missing,
    /// The marker disappeared while the mirror was running.
    Flushed,
    /// Redis was sent less than the change log still has.
    Behind,
    /// Redis was sent more than there is.
    Ahead,
    /// The masters of the cluster, or the slots that they serve, changed.
    Topology,
    /// The interval of `--redis-sweep` has passed.
    Sweep,
    /// The prefix belonged to another store.
    Takeover,
    /// The names there have the other layout.
    Layout,
    /// An old connection may still deliver commands, and could not be closed.
    Stray,
    /// Redis evicted keys.
    Evicted,
    /// Another process with a copy of the data directory mirrored here.
    Copied,
}

impl Reason {
    pub(super) const ALL: [Reason; 11] = [
        Reason::Missing,
        Reason::Flushed,
        Reason::Behind,
        Reason::Ahead,
        Reason::Topology,
        Reason::Sweep,
        Reason::Takeover,
        Reason::Layout,
        Reason::Stray,
        Reason::Evicted,
        Reason::Copied,
    ];

    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Missing => "missing",
            Reason::Flushed => "flushed",
            Reason::Behind => "behind",
            Reason::Ahead => "ahead",
            Reason::Topology => "topology",
            Reason::Sweep => "sweep",
            Reason::Takeover => "takeover",
            Reason::Layout => "layout",
            Reason::Stray => "stray",
            Reason::Evicted => "evicted",
            Reason::Copied => "copied",
        }
    }
}

/// What follows from the markers of all masters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resume {
    /// Every master has everything up to these sequences.
    From(Seqs),
    FullSync(Reason),
}

/// Identifies the sender: store, layout and topology. Every pipeline name begins with it, so a marker of another sender
/// is never trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MirrorIdentity {
    pub store: String,
    pub layout: &'static str,
    pub topology: String,
}

impl MirrorIdentity {
    /// The name of a pipeline.
    pub fn name(&self, session: u64, count: u64) -> String {
        format!("{}.{}.{}-{session:016x}-{count}", self.store, self.layout, self.topology)
    }
}

/// Compares the markers of all masters with the store.
pub(super) fn judge(markers: &[Marker], identity: &MirrorIdentity, durable: &Seqs, trimmed: &Seqs) -> Resume {
    let mut told: Option<Seqs> = None;
    for marker in markers {
        let (Some(seqs), Some(sent)) = (&marker.seqs, &marker.sent) else {
            return Resume::FullSync(Reason::Missing);
        };
        let of_store = sent.split_once('.').filter(|(store, _)| *store == identity.store);
        let Some((_, rest)) = of_store else { return Resume::FullSync(Reason::Takeover) };
        let of_layout = rest.split_once('.').filter(|(layout, _)| *layout == identity.layout);
        let Some((_, rest)) = of_layout else { return Resume::FullSync(Reason::Layout) };
        if rest.split_once('-').is_none_or(|(topology, _)| topology != identity.topology) {
            return Resume::FullSync(Reason::Topology);
        }
        if ShardId::all().any(|shard| seqs.get(shard) > durable.get(shard)) {
            return Resume::FullSync(Reason::Ahead);
        }
        if ShardId::all().any(|shard| seqs.get(shard) < trimmed.get(shard)) {
            return Resume::FullSync(Reason::Behind);
        }
        told = Some(told.map_or_else(|| seqs.clone(), |told| told.least(seqs)));
    }
    told.map_or(Resume::FullSync(Reason::Missing), Resume::From)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(seq: u64) -> Seqs {
        Seqs::of(|_| seq)
    }

    fn marker(seq: u64) -> Marker {
        Marker { seqs: Some(all(seq)), sent: Some(identity().name(1, 1)) }
    }

    fn identity() -> MirrorIdentity {
        MirrorIdentity { store: "s".to_owned(), layout: "zset", topology: "t".to_owned() }
    }

    fn judged(markers: &[Marker]) -> Resume {
        judge(markers, &identity(), &all(10), &all(4))
    }

    #[test]
    fn a_marker_between_what_is_trimmed_and_what_is_durable_is_gone_on_from() {
        for seq in [4, 7, 10] {
            assert_eq!(judged(&[marker(seq)]), Resume::From(all(seq)));
        }
        assert_eq!(judged(&[marker(9), marker(5), marker(10)]), Resume::From(all(5)));
    }

    #[test]
    fn any_other_marker_asks_for_a_full_sync() {
        assert_eq!(judged(&[marker(3)]), Resume::FullSync(Reason::Behind));
        assert_eq!(judged(&[marker(11)]), Resume::FullSync(Reason::Ahead));
        assert_eq!(judged(&[marker(7), Marker::default()]), Resume::FullSync(Reason::Missing));
        assert_eq!(judged(&[]), Resume::FullSync(Reason::Missing));
        let unfinished = Marker { seqs: None, ..marker(7) };
        assert_eq!(judged(&[unfinished]), Resume::FullSync(Reason::Missing));
        let elsewhere = Marker { sent: Some("s.zset.u-1-1".to_owned()), ..marker(7) };
        assert_eq!(judged(&[elsewhere]), Resume::FullSync(Reason::Topology));
        let other_layout = Marker { sent: Some("s.string.t-1-1".to_owned()), ..marker(7) };
        assert_eq!(judged(&[other_layout]), Resume::FullSync(Reason::Layout));
        for others in ["r.zset.t-1-1", "x", ""] {
            let others = Marker { sent: Some(others.to_owned()), ..marker(7) };
            assert_eq!(judged(&[others]), Resume::FullSync(Reason::Takeover));
        }
        let mut one_ahead = all(7);
        one_ahead.set(ShardId(200), 11);
        assert_eq!(judged(&[Marker { seqs: Some(one_ahead), ..marker(7) }]), Resume::FullSync(Reason::Ahead));
    }

    #[test]
    fn a_marker_with_a_field_missing_or_no_number_has_none() {
        let field = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let mut fields = vec![field(&identity().name(1, 1))];
        fields.extend((0..256).map(|_| field("7")));
        assert_eq!(Marker::parse(&Value::Array(fields.clone())), marker(7));
        for damage in [Value::Nil, field("x"), field("-1")] {
            fields[9] = damage;
            assert_eq!(Marker::parse(&Value::Array(fields.clone())).seqs, None);
        }
        assert_eq!(Marker::parse(&Value::Nil), Marker::default());
    }
}
