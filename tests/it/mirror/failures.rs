//! Redis answers with errors, late, or not at all.

use super::proxy::Proxy;
use super::world::{World, eventually, held_by, now, options};
use crate::support::redis_server::Server;
use freqcap::mirror::{Layout, Mirror, State};
use freqcap::model::TsMs;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const BOTH: [Layout; 2] = [Layout::Zset, Layout::String];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_reply_is_no_acknowledgement() {
    for layout in BOTH {
        for (refuse, permit) in [
            ("CONFIG SET maxmemory 1mb", "CONFIG SET maxmemory 0"),
            ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
            ("CONFIG SET min-replicas-to-write 3", "CONFIG SET min-replicas-to-write 0"),
        ] {
            let (server, mut world) = (Server::start(), World::new());
            let mirror = world.mirror(options(&server.url(), layout));
            world.stream(1_000, 100);
            world.is_mirrored(&server, layout).await;
            mirror.is(State::Live).await;
            server.run::<()>(refuse);
            world.stream(1_000, 100);
            let errors = mirror.handle.snapshot().errors;
            eventually("refused", || mirror.handle.snapshot().errors > errors).await;
            world.stream(1_000, 100);
            eventually("still to be told", || mirror.handle.snapshot().pending > 0).await;
            server.run::<()>(permit);
            world.is_mirrored(&server, layout).await;
            assert_eq!(mirror.passes(), 1, "{refuse}");
            mirror.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_marker_never_records_what_was_refused_beside_it() {
    for (layout, denied) in [(Layout::Zset, "zadd"), (Layout::String, "set")] {
        let (server, mut world) = (Server::start(), World::new());
        let mut mirror = world.mirror(options(&server.url(), layout));
        mirror.is(State::Live).await;
        for killed in [false, true] {
            // Everything else goes on to work, the script that writes the marker among it.
            server.run::<()>(&format!("ACL SETUSER default -{denied}"));
            let errors = mirror.handle.snapshot().errors;
            world.stream(1_000, 100);
            eventually("refused again and again", || mirror.handle.snapshot().errors > errors + 2).await;
            if killed {
                mirror.abort().await;
                mirror = world.mirror(options(&server.url(), layout));
            }
            server.run::<()>(&format!("ACL SETUSER default +{denied}"));
            world.is_mirrored(&server, layout).await;
        }
        assert_eq!(mirror.passes(), 0, "what was not acknowledged was still in the changes");
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_runs_out_in_the_middle_of_it_all_loses_nothing() {
    for layout in BOTH {
        let (server, mut world) = (Server::start(), World::new());
        world.stream(20_000, 2_000);
        let mirror = world.mirror(options(&server.url(), layout));
        for _ in 0..30 {
            let limit = ["1mb", "0"][world.random.below(2) as usize];
            server.run::<()>(&format!("CONFIG SET maxmemory {limit}"));
            world.stream(1_000, 2_000);
            let pause = world.random.below(20);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        server.run::<()>("CONFIG SET maxmemory 0");
        world.is_mirrored(&server, layout).await;
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_a_wrong_type_is_replaced_with_all_that_belongs_there() {
    let (server, mut world) = (Server::start(), World::new());
    let later = now() + 1_000_000;
    let mirror = world.mirror(options(&server.url(), Layout::Zset));
    mirror.is(State::Live).await;
    world.cap("u1", "da:1", later);
    world.cap("u1", "da:2", later);
    world.is_mirrored(&server, Layout::Zset).await;
    server.run::<()>("SET cap:{u1} x");
    world.cap("u1", "da:3", later);
    world.is_mirrored(&server, Layout::Zset).await;
    assert_eq!(mirror.passes(), 1);
    // A full pass meets them as well: of a user who has caps, and of one who has none.
    server.run::<()>("FLUSHALL");
    server.run::<()>("LPUSH cap:{u1} x");
    server.run::<()>("LPUSH cap:{u2} x");
    server.run::<()>("LPUSH freqcap:cap::owner x");
    world.is_mirrored(&server, Layout::Zset).await;
    eventually("the other is gone", || !server.run::<bool>("EXISTS cap:{u2}")).await;
    assert!(server.run::<String>("GET freqcap:cap::owner").starts_with(&world.store.info().id));
    mirror.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_is_killed_at_any_point_is_made_good_by_the_next() {
    for layout in BOTH {
        let (server, mut world) = (Server::start(), World::new());
        world.stream(5_000, 500);
        for _ in 0..20 {
            let mirror = world.mirror(options(&server.url(), layout));
            world.stream(500, 500);
            let pause = world.random.below(40_000);
            tokio::time::sleep(Duration::from_micros(pause)).await;
            world.stream(500, 500);
            mirror.abort().await;
        }
        let mirror = world.mirror(options(&server.url(), layout));
        world.is_mirrored(&server, layout).await;
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_left_in_the_buffers_of_a_frozen_redis_never_overtake_newer_ones() {
    for layout in BOTH {
        let (server, mut world) = (Server::start(), World::new());
        let later = now() + 1_000_000;
        for round in 0..3 {
            let all = |until: &dyn Fn(u64) -> Option<u64>| {
                (0..2_000).map(|i| (format!("user-{i}"), "da:1".to_owned(), until(i))).collect::<Vec<_>>()
            };
            let mirror = world.mirror(options(&server.url(), layout));
            mirror.is(State::Live).await;
            server.signal("STOP");
            // Sent, and lying in a socket that nobody reads; then killed. The next one is at work at once.
            world.write(&all(&|i| Some(later + round * 10_000 + i)));
            tokio::time::sleep(Duration::from_millis(100)).await;
            mirror.abort().await;
            world.write(&all(&|i| (i % 2 == 0).then_some(later + round * 10_000 + 5_000 + i)));
            let next = world.mirror(options(&server.url(), layout));
            tokio::time::sleep(Duration::from_millis(100)).await;
            server.signal("CONT");
            world.is_mirrored(&server, layout).await;
            next.is(State::Live).await;
            let connections = || server.run::<String>("CLIENT LIST").matches("name=freqcap-").count();
            eventually("what was sent before is gone", || connections() == 1).await;
            assert!(held_by(&[&server], layout) == world.caps, "what was told before came after");
            next.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_held_up_on_the_way_do_not_arrive_after_newer_ones() {
    for killed in [false, true] {
        let (server, mut world) = (Server::start(), World::new());
        let proxy = Proxy::to(server.port).await;
        let later = now() + 1_000_000;
        let mut mirror = world.mirror(options(&proxy.url(), Layout::Zset));
        mirror.is(State::Live).await;
        world.cap("u1", "da:1", later);
        world.is_mirrored(&server, Layout::Zset).await;
        proxy.hold();
        world.cap("u1", "da:1", later + 1);
        world.cap("u1", "da:2", later + 1);
        eventually("under way", || proxy.held_bytes() > 500).await;
        if killed {
            mirror.abort().await;
            mirror = world.mirror(options(&proxy.url(), Layout::Zset));
        }
        eventually("connected again", || mirror.handle.state() == State::Live && mirror.handle.snapshot().pending == 0)
            .await;
        world.cap("u1", "da:1", later + 2);
        world.uncap("u1", "da:2");
        world.is_mirrored(&server, Layout::Zset).await;
        proxy.release();
        eventually("released", || proxy.released()).await;
        assert_eq!(held_by(&[&server], Layout::Zset), world.caps, "what was told before came after");
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_slows_no_write_and_is_told_once_it_wakes() {
    let (server, mut world) = (Server::start(), World::new());
    let mirror = world.mirror(options(&server.url(), Layout::Zset));
    mirror.is(State::Live).await;
    world.stream(1_000, 100);
    server.signal("STOP");
    let start = Instant::now();
    for _ in 0..20 {
        world.stream(100, 100);
    }
    assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
    eventually("noticed", || mirror.handle.state() == State::Connecting).await;
    world.stream(1_000, 100);
    server.signal("CONT");
    world.is_mirrored(&server, Layout::Zset).await;
    mirror.is(State::Live).await;
    assert_eq!(held_by(&[&server], Layout::Zset), world.caps);
    mirror.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_again_and_again_lose_nothing() {
    let (server, mut world) = (Server::start(), World::new());
    let proxy = Proxy::to(server.port).await;
    world.stream(20_000, 2_000);
    let mirror = world.mirror(options(&proxy.url(), Layout::Zset));
    for _ in 0..30 {
        world.stream(300, 2_000);
        let pause = world.random.below(40);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        proxy.cut();
    }
    world.is_mirrored(&server, Layout::Zset).await;
    mirror.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_used_and_never_printed() {
    let (server, mut world) = (Server::start(), World::new());
    server.run::<()>("CONFIG SET requirepass secret");
    world.cap("u1", "da:1", now() + 1_000_000);
    let wrong = world.mirror(options(&format!("redis://:wrong@127.0.0.1:{}", server.port), Layout::Zset));
    eventually("refused", || wrong.handle.snapshot().errors > 0).await;
    wrong.end().await;
    let options = options(&format!("redis://:secret@127.0.0.1:{}/3", server.port), Layout::Zset);
    assert!(!format!("{options:?}").contains("secret"));
    let mirror = world.mirror(options);
    mirror.is(State::Live).await;
    mirror.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_redis_with_few_rights_is_enough() {
    let (server, mut world) = (Server::start(), World::new());
    server.run::<()>("ACL SETUSER ads on >secret ~cap:* ~freqcap:* +@all -@admin -@dangerous");
    let url = format!("redis://ads:secret@127.0.0.1:{}", server.port);
    world.stream(500, 50);
    let mirror = world.mirror(options(&url, Layout::Zset));
    world.is_mirrored(&server, Layout::Zset).await;
    mirror.is(State::Live).await;
    world.stream(500, 50);
    world.is_mirrored(&server, Layout::Zset).await;
    mirror.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_panics_is_seen_at_once() {
    let (server, mut world) = (Server::start(), World::new());
    let is_armed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let armed = is_armed.clone();
    let clock = std::sync::Arc::new(move || {
        assert!(!armed.load(std::sync::atomic::Ordering::Relaxed), "as the test wants it");
        TsMs(now())
    });
    let mirror = Mirror::new(world.store.clone(), options(&server.url(), Layout::Zset), clock);
    let (handle, stop) = (mirror.handle(), CancellationToken::new());
    let task = tokio::spawn(mirror.run(stop));
    eventually("live", || handle.state() == State::Live).await;
    assert_eq!(world.store.alarm().raised(), None);
    is_armed.store(true, std::sync::atomic::Ordering::Relaxed);
    world.cap("u1", "da:1", now() + 1_000_000);
    eventually("the alarm", || world.store.alarm().raised() == Some("mirror")).await;
    assert!(task.await.is_err());
}
