//! Servers that are like Redis and refuse this or that; and those that are full.

use super::cluster::cluster;
use super::proxy::Proxy;
use super::world::{World, eventually, held_by, now, options};
use crate::support::redis_server::Server;
use freqcap::mirror::{Layout, State};
use std::time::Duration;

const BOTH: [Layout; 2] = [Layout::Zset, Layout::String];

/// The command in docs/redis.md that makes a user of Redis with just the rights that the mirror needs.
fn documented_acl() -> String {
    let page = include_str!("../../../docs/redis.md");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER freqcap ")).unwrap();
    line.replace(">PASSWORD", ">secret")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_server_answers_to_client_kill_old_connections_change_nothing() {
    for answer in [
        "-NOPERM User ads has no permissions to run the 'client|kill' command",
        "-ERR syntax error",
        "-ERR unknown subcommand 'KILL'. Try CLIENT HELP.",
        "-UNSUPPORTED not on this plan",
        "-command not allowed",
    ] {
        let (server, mut world) = (Server::start(), World::new());
        let proxy = Proxy::to(server.port).await;
        proxy.answer("KILL", answer);
        let later = now() + 1_000_000;
        let mirror = world.mirror(options(&proxy.url(), Layout::Zset));
        mirror.is(State::Live).await;
        world.cap("u1", "da:1", later);
        world.is_mirrored(&server, Layout::Zset).await;
        proxy.hold();
        world.cap("u1", "da:1", later + 1);
        eventually("under way", || proxy.held_bytes() > 300).await;
        mirror.abort().await;
        let mirror = world.mirror(options(&proxy.url(), Layout::Zset));
        world.uncap("u1", "da:1");
        // While the new connection waits for what the old one may still have.
        eventually("refused", || proxy.answered() > 0).await;
        proxy.release();
        eventually("a full pass", || mirror.passes_for("stray") + mirror.passes_for("copied") > 0).await;
        mirror.is(State::Live).await;
        assert_eq!(held_by(&[&server], Layout::Zset), world.caps, "{answer}");
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_the_other_client_commands_is_mirrored_to_as_well() {
    for command in ["SETNAME", "LIST", "ID", "TIME", "INFO"] {
        let (server, mut world) = (Server::start(), World::new());
        let proxy = Proxy::to(server.port).await;
        proxy.answer(command, "-ERR not here");
        world.stream(300, 50);
        let mirror = world.mirror(options(&proxy.url(), Layout::Zset));
        world.is_mirrored(&server, Layout::Zset).await;
        proxy.cut();
        world.stream(300, 50);
        world.is_mirrored(&server, Layout::Zset).await;
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_redis_without_the_right_to_close_connections_are_mirrored_for() {
    for layout in BOTH {
        let (server, mut world) = (Server::start(), World::new());
        server.run::<()>("ACL SETUSER ads on >secret ~cap:* ~freqcap:* +@all -client");
        let url = format!("redis://ads:secret@127.0.0.1:{}", server.port);
        for _ in 0..2 {
            world.stream(500, 50);
            let mirror = world.mirror(options(&url, layout));
            world.is_mirrored(&server, layout).await;
            mirror.is(State::Live).await;
            mirror.abort().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_redis_evicts_is_sent_again_at_once() {
    for layout in BOTH {
        let (server, mut world) = (Server::start(), World::new());
        world.stream(20_000, 4_000);
        let mirror = world.mirror(options(&server.url(), layout));
        world.is_mirrored(&server, layout).await;
        mirror.is(State::Live).await;
        let before = mirror.handle.snapshot();
        assert_eq!((before.evicted, mirror.passes_for("evicted")), (0, 0));
        // For a moment it has too little room.
        server.run::<()>("CONFIG SET maxmemory-policy allkeys-lru");
        let used: String = server.run("INFO memory");
        let used: u64 = used.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().parse().unwrap();
        server.run::<()>(&format!("CONFIG SET maxmemory {}", used - 200_000));
        eventually("evicted", || !server.run::<String>("INFO stats").contains("evicted_keys:0\r")).await;
        server.run::<()>("CONFIG SET maxmemory 0");
        world.is_mirrored(&server, layout).await;
        let snapshot = mirror.handle.snapshot();
        assert!(snapshot.evicted > 0);
        // Its marker may have been among what went: then it was noticed by that.
        assert!(mirror.passes_for("evicted") + mirror.passes_for("flushed") > 0);
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_rights_are_enough_and_none_is_missing() {
    for layout in BOTH {
        let (server, mut world) = (Server::start(), World::new());
        server.run::<()>(&documented_acl());
        let url = format!("redis://freqcap:secret@127.0.0.1:{}", server.port);
        world.stream(500, 50);
        // Something to be removed by the scan, and something of a wrong type.
        server.run::<()>("ZADD cap:{gone} 1 da:1");
        server.run::<()>("SET cap:{gone}:da:1 1");
        server.run::<()>("SADD cap:{u1} x");
        for _ in 0..2 {
            let mirror = world.mirror(options(&url, layout));
            world.is_mirrored(&server, layout).await;
            mirror.is(State::Live).await;
            world.stream(500, 50);
            world.is_mirrored(&server, layout).await;
            assert!(mirror.handle.server_time().is_some());
            mirror.abort().await;
        }
        let mirror = world.mirror(options(&url, layout));
        mirror.is(State::Live).await;
        world.is_mirrored(&server, layout).await;
        assert_eq!(mirror.passes_for("stray"), 0);
        mirror.end().await;
        assert_eq!(server.run::<Vec<redis::Value>>("ACL LOG"), [], "something was refused");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_rights_are_enough_for_a_cluster() {
    let (nodes, mut world) = (cluster().await, World::new());
    for node in &nodes {
        node.run::<()>(&documented_acl());
    }
    let url = format!("redis://freqcap:secret@127.0.0.1:{}", nodes[0].port);
    world.stream(500, 50);
    for _ in 0..2 {
        let mirror = world.mirror(options(&url, Layout::Zset));
        mirror.is(State::Live).await;
        world.stream(500, 50);
        world.is_mirrored_by(&nodes.each_ref(), Layout::Zset, Duration::from_secs(12)).await;
        assert_eq!(mirror.passes_for("stray"), 0);
        mirror.end().await;
    }
    for node in &nodes {
        assert_eq!(node.run::<Vec<redis::Value>>("ACL LOG"), [], "something was refused");
    }
}
