//! Redis forgets, wholly or in part, at once or while it is being told.

use super::proxy::Proxy;
use super::world::{World, eventually, now, options};
use crate::support::redis_server::Server;
use freqcap::mirror::{Layout, Options, State};
use freqcap::model::ShardId;
use std::time::Duration;

const BOTH: [Layout; 2] = [Layout::Zset, Layout::String];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_was_down_and_comes_back_empty_is_filled_again() {
    for layout in BOTH {
        let (mut server, mut world) = (Server::start(), World::new());
        let mirror = world.mirror(options(&server.url(), layout));
        world.stream(2_000, 200);
        world.is_mirrored(&server, layout).await;
        server.kill();
        world.stream(2_000, 200);
        eventually("noticed", || mirror.handle.state() == State::Connecting).await;
        world.stream(100, 200);
        server.start_again();
        world.is_mirrored(&server, layout).await;
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_of_a_quiet_redis_is_noticed_and_mended() {
    for layout in BOTH {
        let (server, mut world) = (Server::start(), World::new());
        let mirror = world.mirror(options(&server.url(), layout));
        world.stream(2_000, 200);
        world.is_mirrored(&server, layout).await;
        for flushes in 1..=3 {
            server.run::<()>("FLUSHALL");
            world.is_mirrored(&server, layout).await;
            eventually("one pass", || mirror.passes_for("flushed") == flushes).await;
        }
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushes_in_the_middle_of_a_stream_or_of_a_full_pass_lose_nothing() {
    for layout in BOTH {
        let (server, mut world) = (Server::start(), World::new());
        world.stream(30_000, 3_000);
        let small = Options { batch: 100, ..options(&server.url(), layout) };
        let mirror = world.mirror(small);
        for _ in 0..30 {
            world.stream(500, 3_000);
            let pause = world.random.below(30);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if world.random.below(3) == 0 {
                server.run::<()>("FLUSHALL");
            }
        }
        world.is_mirrored(&server, layout).await;
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_right_before_a_kill_is_not_covered_up() {
    let (server, mut world) = (Server::start(), World::new());
    world.stream(5_000, 500);
    for round in 0..15 {
        let mirror = world.mirror(options(&server.url(), Layout::Zset));
        if round % 3 == 0 {
            mirror.is(State::Live).await;
        }
        let pause = world.random.below(20_000);
        tokio::time::sleep(Duration::from_micros(pause)).await;
        world.stream(300, 500);
        if round % 2 == 0 {
            server.run::<()>("FLUSHALL");
            world.stream(300, 500);
        }
        let pause = world.random.below(5_000);
        tokio::time::sleep(Duration::from_micros(pause)).await;
        mirror.abort().await;
    }
    let mirror = world.mirror(options(&server.url(), Layout::Zset));
    world.is_mirrored(&server, Layout::Zset).await;
    mirror.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_dump_is_gone_on_from_while_the_changes_since_are_held() {
    for layout in BOTH {
        let (mut server, mut world) = (Server::start(), World::new());
        let mirror = world.mirror(options(&server.url(), layout));
        world.stream(1_000, 100);
        world.is_mirrored(&server, layout).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        server.run::<()>("SAVE");
        // Some more, some fewer than in the dump.
        world.stream(1_000, 100);
        world.is_mirrored(&server, layout).await;
        server.kill();
        server.start_again();
        world.is_mirrored(&server, layout).await;
        mirror.is(State::Live).await;
        assert_eq!(mirror.passes(), 1, "only the first");
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_older_than_the_changes_held_is_replaced() {
    for layout in BOTH {
        let (mut server, mut world) = (Server::start(), World::new());
        let forgetful = Options { keep_told: Duration::from_millis(200), ..options(&server.url(), layout) };
        let mirror = world.mirror(forgetful);
        world.stream(1_000, 100);
        world.is_mirrored(&server, layout).await;
        server.run::<()>("SAVE");
        world.stream(1_000, 100);
        world.is_mirrored(&server, layout).await;
        let told = |shard| world.store.changes().durable_seq(shard) == world.store.changes().trimmed_to(shard);
        eventually("all changes are trimmed", || ShardId::all().all(told)).await;
        server.kill();
        server.start_again();
        world.is_mirrored(&server, layout).await;
        eventually("a full pass", || mirror.passes_for("behind") == 1).await;
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_lost_acknowledged_writes_is_made_good() {
    for layout in BOTH {
        let (master, replica, mut world) = (Server::start(), Server::start(), World::new());
        let proxy = Proxy::to(master.port).await;
        let mirror = world.mirror(options(&proxy.url(), layout));
        mirror.is(State::Live).await;
        world.stream(1_000, 100);
        world.is_mirrored(&master, layout).await;
        replica.run::<()>(&format!("REPLICAOF 127.0.0.1 {}", master.port));
        world.is_mirrored(&replica, layout).await;
        // From here on the replica hears nothing more, while the master acknowledges on.
        replica.run::<()>("REPLICAOF NO ONE");
        for _ in 0..5 {
            world.stream(200, 100);
            world.is_mirrored(&master, layout).await;
        }
        proxy.switch_to(replica.port);
        world.is_mirrored(&replica, layout).await;
        assert_eq!(mirror.passes(), 1, "what was lost is still in the changes");
        // And under way.
        master.run::<()>(&format!("REPLICAOF 127.0.0.1 {}", replica.port));
        world.is_mirrored(&master, layout).await;
        for round in 0..6 {
            let (from, to) = if round % 2 == 0 { (&replica, &master) } else { (&master, &replica) };
            world.stream(500, 100);
            to.run::<()>("REPLICAOF NO ONE");
            world.stream(500, 100);
            let pause = world.random.below(10);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            proxy.switch_to(to.port);
            from.run::<()>(&format!("REPLICAOF 127.0.0.1 {}", to.port));
            world.stream(500, 100);
            world.is_mirrored(to, layout).await;
            world.is_mirrored(from, layout).await;
        }
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_marker_changed_by_hand_is_believed_downwards_and_not_upwards() {
    let (server, mut world) = (Server::start(), World::new());
    let mirror = world.mirror(options(&server.url(), Layout::Zset));
    mirror.is(State::Live).await;
    let later = now() + 1_000_000;
    world.cap("u1", "da:1", later);
    world.cap("u1", "da:2", later);
    world.is_mirrored(&server, Layout::Zset).await;
    let shard = ShardId::of_user(b"u1").0;
    eventually("told", || server.run::<u64>(&format!("HGET freqcap:cap::seq {shard}")) == 2).await;
    server.run::<()>("DEL cap:{u1}");
    server.run::<()>(&format!("HSET freqcap:cap::seq {shard} 0"));
    world.is_mirrored(&server, Layout::Zset).await;
    assert_eq!(mirror.passes(), 1);
    server.run::<()>("DEL cap:{u1}");
    server.run::<()>(&format!("HSET freqcap:cap::seq {shard} 1000"));
    world.is_mirrored(&server, Layout::Zset).await;
    eventually("a full pass", || mirror.passes_for("ahead") == 1).await;
    // A full pass writes the marker at its end: what is done to it before is undone.
    mirror.is(State::Live).await;
    for damage in
        ["DEL freqcap:cap::seq", "SET freqcap:cap::seq x", "HSET freqcap:cap::seq 7 x", "HDEL freqcap:cap::seq 9"]
    {
        server.run::<()>("DEL cap:{u1}");
        server.run::<()>(damage);
        world.is_mirrored(&server, Layout::Zset).await;
        mirror.is(State::Live).await;
    }
    server.run::<()>("DEL freqcap:cap::owner");
    eventually("claimed anew", || server.run::<bool>("EXISTS freqcap:cap::owner")).await;
    mirror.is(State::Live).await;
    mirror.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eviction_and_deletion_by_hand_are_mended_by_the_sweep() {
    for layout in BOTH {
        let (server, mut world) = (Server::start(), World::new());
        let sweeping = Options { sweep: Duration::from_millis(500), ..options(&server.url(), layout) };
        let mirror = world.mirror(sweeping);
        world.stream(2_000, 200);
        world.is_mirrored(&server, layout).await;
        let names: Vec<String> = server.run("KEYS cap:*");
        for name in names.iter().step_by(3) {
            server.run::<()>(&format!("DEL {name}"));
        }
        let surplus = if layout == Layout::Zset { "ZADD cap:{u1} 9999999999999 da:x" } else { "SET cap:{u1}:da:x 1" };
        server.run::<()>(surplus);
        world.stream(500, 200);
        world.is_mirrored(&server, layout).await;
        assert!(mirror.passes_for("sweep") > 0);
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_without_end_is_dropped_for_a_full_pass() {
    let (mut server, mut world) = (Server::start(), World::new());
    let tight = Options { max_waiting: 1_000, ..options(&server.url(), Layout::Zset) };
    let mirror = world.mirror(tight);
    mirror.is(State::Live).await;
    server.run::<()>("SAVE");
    server.kill();
    for _ in 0..10 {
        world.stream(1_000, 500);
    }
    let held = || {
        ShardId::all()
            .map(|shard| world.store.changes().durable_seq(shard) - world.store.changes().trimmed_to(shard))
            .sum::<u64>()
    };
    eventually("dropped", || held() <= 1_000).await;
    server.start_again();
    world.is_mirrored(&server, Layout::Zset).await;
    assert_eq!(mirror.passes_for("behind"), 1);
    mirror.end().await;
}
