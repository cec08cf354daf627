//! What Redis holds beside what freqcap says.

use crate::support::redis_server::Server as Redis;
use crate::support::{Server, now_ms, wait_for};
use std::collections::{BTreeMap, BTreeSet};

/// Who is capped, on which key, until when.
pub type Caps = BTreeMap<(String, String), u64>;

/// What an ad server that reads Redis sees at this moment: members whose score is over its clock.
pub fn mirrored(redis: &Redis, zset: bool) -> Caps {
    let now = now_ms();
    let mut caps = Caps::new();
    // What is left of the other layout is not what this reader reads.
    let other = |name: &String| name.contains("}:") == zset;
    for name in redis.run::<Vec<String>>("KEYS cap:{*").into_iter().filter(|name| !other(name)) {
        let (user, key) = name.strip_prefix("cap:{").and_then(|rest| rest.split_once('}')).unwrap();
        if zset {
            // It may expire between the two commands.
            for (member, until) in redis.run::<Vec<(String, u64)>>(&format!("ZRANGE {name} 0 -1 WITHSCORES")) {
                caps.insert((user.to_owned(), member), until);
            }
        } else if let Some(until) = redis.run::<Option<u64>>(&format!("GET {name}")) {
            caps.insert((user.to_owned(), key.trim_start_matches(':').to_owned()), until);
        }
    }
    caps.retain(|_, until| *until > now);
    caps
}

/// What freqcap itself says of the users.
pub fn capped(server: &Server, users: &BTreeSet<String>) -> Caps {
    let mut caps = Caps::new();
    for user in users {
        for cap in server.ok(&format!("/users/{user}/caps"))["caps"].as_array().unwrap() {
            let key = cap["key"].as_str().unwrap().to_owned();
            caps.insert((user.clone(), key), cap["capped_until"].as_u64().unwrap());
        }
    }
    caps
}

pub fn is_mirrored(server: &Server, redis: &Redis, zset: bool, users: &BTreeSet<String>) -> Caps {
    wait_for("Redis to hold exactly the capped keys", || {
        let caps = capped(server, users);
        (mirrored(redis, zset) == caps).then_some(caps)
    })
}
