//! What must hold of every name and reply in Redis, for the fuzzers of `fuzz/` and the corpus test of
//! [`crate::fuzzing`].

use super::marker::Marker;
use super::names::{Named, Names, member, parse_member};
use super::topology::Topology;
use crate::model::{CapKey, SHARDS, UserId};

/// A name under the prefix, or a member of a sorted set: ours only if we would have written it just so.
pub(crate) fn names(bytes: &[u8]) {
    let names = Names::new("cap:");
    match names.parse(bytes) {
        Some(Named::User(user)) => assert_eq!(names.user(&user).as_bytes(), bytes),
        Some(Named::Pair(user, key)) => assert_eq!(names.pair(&user, &key).as_bytes(), bytes),
        None => {}
    }
    if let Some(key) = parse_member(bytes) {
        assert_eq!(member(&key).as_bytes(), bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if UserId::new(text).is_ok() {
        let is_user = |named| matches!(named, Some(Named::User(user)) if user == text);
        assert!(is_user(names.parse(names.user(text).as_bytes())), "{text:?}");
        let named = names.parse(names.pair(text, "c:1").as_bytes());
        assert_eq!(named, Some(Named::Pair(text.to_owned(), "c:1".to_owned())));
    }
    if CapKey::new(text).is_ok() {
        assert_eq!(parse_member(member(text).as_bytes()).as_deref(), Some(text));
    }
}

/// A reply of Redis, read as a marker and as the slots of a cluster.
pub(crate) fn replies(bytes: &[u8]) {
    let Ok(reply) = redis::parse_redis_value(bytes) else { return };
    let marker = Marker::parse(&reply);
    assert!(marker.seqs.is_none() || bytes.len() > SHARDS);
    if let Some(topology) = Topology::parse(&reply, "here") {
        assert!(topology.node_of("freqcap:cap:seq") < topology.masters.len());
        assert_eq!(topology.markers(&Names::new("cap:")).len(), topology.masters.len());
    }
}
