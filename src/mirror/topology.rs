//! Which server has which name: one server, or the masters of a Redis Cluster.

use super::names::Names;
use redis::Value;
use std::sync::Arc;

const SLOTS: usize = 16_384;

/// The id where there is no cluster.
const SINGLE: &str = "single";

/// A master and its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Master {
    pub host: String,
    pub port: u16,
    pub id: String,
}

/// The masters of a cluster, or one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topology {
    /// Changes with the masters and with the slots that they serve.
    pub id: String,
    /// Empty if there is no cluster.
    pub masters: Vec<Master>,
    /// By slot, the index of its master; empty if there is no cluster.
    by_slot: Arc<[u16]>,
}

impl Topology {
    pub fn single() -> Self {
        Self { id: SINGLE.to_owned(), masters: Vec::new(), by_slot: Arc::new([]) }
    }

    /// Parses the reply to CLUSTER SLOTS; `None` while a slot has no master. `host` is the server that replied.
    pub fn parse(reply: &Value, host: &str) -> Option<Self> {
        let Value::Array(ranges) = reply else { return None };
        let mut masters: Vec<Master> = Vec::new();
        let mut by_slot = vec![u16::MAX; SLOTS];
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [Value::Int(start), Value::Int(end), Value::Array(node), ..] = &range[..] else { return None };
            let master = master(node, host)?;
            let known = masters.iter().position(|known| known.id == master.id);
            let index = known.unwrap_or_else(|| {
                masters.push(master);
                masters.len() - 1
            });
            let slots = by_slot.get_mut(usize::try_from(*start).ok()?..=usize::try_from(*end).ok()?)?;
            slots.fill(u16::try_from(index).ok()?);
        }
        if by_slot.contains(&u16::MAX) {
            return None;
        }
        let mut text = String::new();
        let mut before = u16::MAX;
        for (slot, &index) in by_slot.iter().enumerate() {
            if index != before {
                text.push_str(&format!("{slot} {};", masters[usize::from(index)].id));
                before = index;
            }
        }
        let id = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()));
        Some(Self { id, masters, by_slot: by_slot.into() })
    }

    /// The index of the master that has a name.
    pub fn node_of(&self, name: &str) -> usize {
        if self.by_slot.is_empty() {
            return 0;
        }
        usize::from(self.by_slot[slot_of(name)])
    }

    /// The marker's name on each master. The master that serves the documented name uses it; any other gets a name with
    /// a hash tag that it serves. A master gets none only if none of our names can be on it.
    pub fn markers(&self, names: &Names) -> Vec<Option<String>> {
        let nodes = self.masters.len().max(1);
        let mut markers = vec![None; nodes];
        markers[self.node_of(names.marker())] = Some(names.marker().to_owned());
        let mut missing = nodes - 1;
        // A master with a single slot is found after 16,384 tries on average.
        for tag in 0..40 * SLOTS {
            if missing == 0 {
                break;
            }
            let name = format!("{}:{{{tag}}}", names.marker());
            let marker = &mut markers[self.node_of(&name)];
            if marker.is_none() {
                *marker = Some(name);
                missing -= 1;
            }
        }
        markers
    }
}

fn master(node: &[Value], asked: &str) -> Option<Master> {
    let [host, Value::Int(port), id, ..] = node else { return None };
    // Nil, empty and "?" mean the host that replied.
    let host = text(host).filter(|host| !host.is_empty() && host != "?").unwrap_or_else(|| asked.to_owned());
    Some(Master { host, port: u16::try_from(*port).ok()?, id: text(id)? })
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// The slot of a name, as the Redis Cluster specification defines it.
fn slot_of(name: &str) -> usize {
    let name = name.as_bytes();
    let tag = memchr::memchr(b'{', name).and_then(|open| {
        let tag = &name[open + 1..];
        tag.get(..memchr::memchr(b'}', tag)?).filter(|tag| !tag.is_empty())
    });
    usize::from(crc16(tag.unwrap_or(name))) % SLOTS
}

/// CRC16 with the polynomial 0x1021 (XMODEM).
fn crc16(bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut crc = (byte as u16) << 8;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    bytes.iter().fold(0, |crc, &byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(start: i64, end: i64, host: &str, id: &str) -> Value {
        let node = Value::Array(vec![text(host), Value::Int(7000), text(id)]);
        Value::Array(vec![Value::Int(start), Value::Int(end), node])
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of("foo"), 12182);
        assert_eq!(slot_of("cap:{foo}:da:{x}"), 12182);
        assert_eq!(slot_of("cap:{}foo"), usize::from(crc16(b"cap:{}foo")) % SLOTS);
    }

    #[test]
    fn every_master_has_a_marker_of_its_own() {
        let slots = Value::Array(vec![
            range(0, 5460, "", "a"),
            range(5461, 10922, "10.0.0.2", "b"),
            range(10923, 16382, "10.0.0.3", "c"),
            range(16383, 16383, "10.0.0.4", "d"),
        ]);
        let topology = Topology::parse(&slots, "asked").unwrap();
        assert_eq!(topology.masters[0].host, "asked");
        let names = Names::new("cap:");
        let markers: Vec<String> = topology.markers(&names).into_iter().map(Option::unwrap).collect();
        assert!(markers.contains(&"freqcap:cap::seq".to_owned()));
        for (i, marker) in markers.iter().enumerate() {
            assert_eq!(topology.node_of(marker), i, "{marker}");
        }
    }

    #[test]
    fn a_moved_slot_is_another_topology_and_a_slot_without_master_is_none() {
        let one = Topology::parse(&Value::Array(vec![range(0, 16383, "h", "a")]), "").unwrap();
        let two = Value::Array(vec![range(1, 16383, "h", "a"), range(0, 0, "i", "b")]);
        assert_ne!(one.id, Topology::parse(&two, "").unwrap().id);
        assert_eq!(Topology::parse(&Value::Array(vec![range(0, 16382, "h", "a")]), ""), None);
    }
}
