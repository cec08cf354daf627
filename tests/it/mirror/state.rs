//! What Redis holds while nothing goes wrong.

use super::world::{World, eventually, held_by, now, options};
use crate::support::redis_server::Server;
use freqcap::mirror::{Layout, Options, State};
use std::time::Duration;

const BOTH: [Layout; 2] = [Layout::Zset, Layout::String];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_holds_exactly_the_capped_keys_after_random_streams() {
    for layout in BOTH {
        let (server, mut world) = (Server::start(), World::new());
        world.stream(500, 50);
        let mirror = world.mirror(options(&server.url(), layout));
        for _ in 0..20 {
            world.stream(300, 50);
            tokio::task::yield_now().await;
        }
        world.is_mirrored(&server, layout).await;
        assert_eq!(mirror.passes(), 1, "only the first");
        for (user, key) in world.caps.clone().into_keys() {
            world.uncap(&user, &key);
        }
        world.is_mirrored(&server, layout).await;
        assert_eq!(server.run::<Vec<String>>("KEYS cap:*"), [""; 0]);
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_members_values_and_expiry_are_those_of_the_contract() {
    let later = now() + 1_000_000;
    let (zset, string) = (Server::start(), Server::start());
    let mut world = World::new();
    world.cap("u1", "da:77", later);
    world.cap("u1", "campaign:42", later + 5_000);
    let a = world.mirror(options(&zset.url(), Layout::Zset));
    world.is_mirrored(&zset, Layout::Zset).await;
    assert_eq!(
        zset.run::<Vec<Option<u64>>>("ZMSCORE cap:{u1} da:77 campaign:42 da:1"),
        [Some(later), Some(later + 5_000), None]
    );
    assert_eq!(zset.run::<u64>("PEXPIRETIME cap:{u1}"), later + 5_000);
    world.uncap("u1", "campaign:42");
    eventually("the name expires with its last member", || zset.run::<u64>("PEXPIRETIME cap:{u1}") == later).await;
    let owner = zset.run::<String>("GET freqcap:cap::owner");
    assert!(owner.starts_with(&format!("{}:1-", world.store.info().id)), "{owner}");
    eventually("the marker says how far", || {
        let shard = freqcap::model::ShardId::of_user(b"u1");
        zset.run::<Option<u64>>(&format!("HGET freqcap:cap::seq {}", shard.0))
            == Some(world.store.changes().durable_seq(shard))
    })
    .await;
    a.end().await;

    let b = world.mirror(options(&string.url(), Layout::String));
    world.is_mirrored(&string, Layout::String).await;
    assert_eq!(string.run::<u64>("GET cap:{u1}:da:77"), later);
    assert_eq!(string.run::<u64>("PEXPIRETIME cap:{u1}:da:77"), later);
    b.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_id_works_in_both_layouts() {
    for layout in BOTH {
        let (server, mut world) = (Server::start(), World::new());
        let mirror = world.mirror(options(&server.url(), layout));
        mirror.is(State::Live).await;
        let later = now() + 1_000_000;
        let ids = ["a%b", "{a}", "}", "{", "%7B", "a:b/c", "a b", "é😀", "u*?[x]", "%", "cap:{u}", "\u{a0}"];
        for user in ids {
            for id in ids.into_iter().filter(|id| *id != "*") {
                world.cap(user, &format!("da:{id}"), later);
                world.cap(user, &format!("campaign:{id}"), later + 1);
            }
        }
        world.is_mirrored(&server, layout).await;
        // A scan knows them for its own, too.
        server.run::<()>("DEL freqcap:cap::seq");
        eventually("a full pass", || mirror.passes() == 2).await;
        mirror.is(State::Live).await;
        assert_eq!(held_by(&[&server], layout), world.caps);
        assert!(mirror.handle.snapshot().removes == 0);
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cap_that_ended_by_itself_is_gone_before_its_removal_is_told() {
    for layout in BOTH {
        let (server, mut world) = (Server::start(), World::new());
        let mirror = world.mirror(options(&server.url(), layout));
        mirror.is(State::Live).await;
        world.cap("u1", "da:1", now() + 300);
        world.cap("u2", "da:1", now() - 5_000);
        eventually("expired", || {
            mirror.handle.snapshot().sets == 2 && server.run::<Vec<String>>("KEYS cap:*").is_empty()
        })
        .await;
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ours_stays_and_what_is_left_of_the_other_layout_goes() {
    for layout in BOTH {
        let (server, mut world) = (Server::start(), World::new());
        let foreign = ["cap:", "cap:settings", "cap:{x}stuff", "cap:{x}:stuff", "cap:{x%2f}", "caps:{u}", "other"];
        for name in foreign {
            server.run::<()>(&format!("SET {name} kept"));
        }
        server.run::<()>("ZADD cap:{gone} 1 da:1");
        server.run::<()>("ZADD cap:{u1} 99999999999999 da:gone 1 strange");
        server.run::<()>("SET cap:{gone}:da:1 1");
        world.cap("u1", "da:1", now() + 1_000_000);
        let mirror = world.mirror(options(&server.url(), layout));
        mirror.is(State::Live).await;
        for name in foreign {
            assert_eq!(server.run::<String>(&format!("GET {name}")), "kept");
            server.run::<()>(&format!("DEL {name}"));
        }
        assert_eq!(held_by(&[&server], layout), world.caps);
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_is_taken_as_it_is_and_two_prefixes_do_not_meet() {
    let (server, mut world, mut other) = (Server::start(), World::new(), World::new());
    world.cap("u1", "da:1", now() + 1_000_000);
    other.cap("u1", "da:2", now() + 1_000_000);
    let prefix = "a*[b]?:";
    let odd = Options { prefix: prefix.to_owned(), ..options(&server.url(), Layout::Zset) };
    let a = world.mirror(odd);
    let b = other.mirror(options(&server.url(), Layout::Zset));
    a.is(State::Live).await;
    b.is(State::Live).await;
    assert_eq!(server.run::<Vec<String>>(&format!("ZRANGE {prefix}{{u1}} 0 -1")), ["da:1"]);
    assert_eq!(server.run::<Vec<String>>("ZRANGE cap:{u1} 0 -1"), ["da:2"]);
    assert_eq!(server.run::<u64>(&format!("HLEN freqcap:{prefix}:seq")), 257);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_at_the_end_is_told() {
    let (server, mut world) = (Server::start(), World::new());
    let mirror = world.mirror(options(&server.url(), Layout::Zset));
    mirror.is(State::Live).await;
    world.stream(5_000, 500);
    mirror.end().await;
    assert_eq!(held_by(&[&server], Layout::Zset), world.caps);
    // And the next one needs no full pass.
    let mirror = world.mirror(options(&server.url(), Layout::Zset));
    mirror.is(State::Live).await;
    assert_eq!(mirror.passes(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_changes_go_once_told_and_not_before() {
    let (server, mut world) = (Server::start(), World::new());
    let keep = Options { keep_told: Duration::from_millis(400), ..options(&server.url(), Layout::Zset) };
    world.cap("u1", "da:1", now() + 1_000_000);
    let shard = freqcap::model::ShardId::of_user(b"u1");
    let mirror = world.mirror(keep);
    mirror.is(State::Live).await;
    eventually("trimmed", || world.store.changes().trimmed_to(shard) == 1).await;
    assert!(world.store.changes().after(shard, 0, 10).unwrap().is_empty());
    mirror.end().await;
    let mirror = world.mirror(options(&server.url(), Layout::Zset));
    mirror.is(State::Live).await;
    assert_eq!(mirror.passes(), 0, "a marker at the edge of what is held is no reason for a full pass");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_redis_is_known_and_goes_on() {
    let (server, world) = (Server::start(), World::new());
    let mirror = world.mirror(options(&server.url(), Layout::Zset));
    mirror.is(State::Live).await;
    let (first, at) = mirror.handle.server_time().unwrap();
    assert!(first.0.abs_diff(now()) < 5_000);
    eventually("asked again", || mirror.handle.server_time().is_some_and(|(_, again)| again > at)).await;
    assert!(mirror.handle.server_time().unwrap().0 >= first);
    mirror.end().await;
}
