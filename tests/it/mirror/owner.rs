//! One store mirrors to a prefix.

use super::world::{World, eventually, held_by, now, options};
use crate::support::redis_server::Server;
use freqcap::mirror::{Layout, Options, State};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_store_stays_off_until_it_may_take_over_and_then_the_first_is_off() {
    for layout in [Layout::Zset, Layout::String] {
        let (server, mut first, mut second) = (Server::start(), World::new(), World::new());
        first.stream(500, 50);
        second.random.0 = 99;
        second.stream(500, 50);
        let a = first.mirror(options(&server.url(), layout));
        first.is_mirrored(&server, layout).await;
        a.is(State::Live).await;

        let b = second.mirror(options(&server.url(), layout));
        b.is(State::Foreign).await;
        second.stream(500, 50);
        first.stream(500, 50);
        first.is_mirrored(&server, layout).await;
        b.end().await;

        // The first is in the middle of a stream when it loses the prefix.
        first.stream(5_000, 50);
        let taking = Options { takeover: true, ..options(&server.url(), layout) };
        let b = second.mirror(taking.clone());
        second.is_mirrored(&server, layout).await;
        a.is(State::Foreign).await;
        first.stream(500, 50);
        b.is(State::Live).await;
        assert_eq!(b.passes_for("takeover"), 1);
        second.stream(500, 50);
        second.is_mirrored(&server, layout).await;
        let owner = server.run::<String>("GET freqcap:cap::owner");
        assert!(owner.starts_with(&format!("{}:", second.store.info().id)), "{owner}");

        // It is taken once, not for ever: the first takes it back, and keeps it.
        a.end().await;
        let a = first.mirror(taking);
        first.is_mirrored(&server, layout).await;
        b.is(State::Foreign).await;
        a.is(State::Live).await;
        assert_eq!(held_by(&[&server], layout), first.caps);
        a.end().await;
        b.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_runs_of_one_store_the_older_stops_and_says_so() {
    for layout in [Layout::Zset, Layout::String] {
        let (server, mut world) = (Server::start(), World::new());
        world.stream(500, 50);
        let a = world.mirror(options(&server.url(), layout));
        a.is(State::Live).await;
        let b = world.mirror(options(&server.url(), layout));
        a.is(State::Copied).await;
        b.is(State::Live).await;
        // What the other had told Redis is not believed.
        assert_eq!(b.passes_for("copied"), 1);
        // And it stays so, also after Redis has forgotten everything.
        for forget in ["PING", "FLUSHALL", "DEL freqcap:cap::owner"] {
            world.stream(100, 50);
            server.run::<()>(forget);
            world.is_mirrored(&server, layout).await;
            eventually("one of the two", || (a.handle.state(), b.handle.state()) == (State::Copied, State::Live)).await;
        }
        b.end().await;
        a.end().await;
        // A restart takes over at once.
        let c = world.mirror(options(&server.url(), layout));
        c.is(State::Live).await;
        c.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_an_earlier_version_left_is_this_store() {
    let (server, mut world) = (Server::start(), World::new());
    world.stream(500, 50);
    server.run::<()>(&format!("SET freqcap:cap::owner {}", world.store.info().id));
    let mirror = world.mirror(options(&server.url(), Layout::Zset));
    mirror.is(State::Live).await;
    world.is_mirrored(&server, Layout::Zset).await;
    mirror.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_of_long_ago_is_no_reason_to_stop() {
    let (server, mut world) = (Server::start(), World::new());
    world.stream(500, 50);
    let first = world.mirror(options(&server.url(), Layout::Zset));
    first.is(State::Live).await;
    let long_ago = server.run::<String>("GET freqcap:cap::owner");
    first.end().await;
    for _ in 0..2 {
        let mirror = world.mirror(options(&server.url(), Layout::Zset));
        mirror.is(State::Live).await;
        assert_eq!(mirror.passes(), 0, "a restart goes on where it was");
        // Redis comes back with an old dump.
        server.run::<()>(&format!("SET freqcap:cap::owner {long_ago}"));
        eventually("taken again", || server.run::<String>("GET freqcap:cap::owner") != long_ago).await;
        world.stream(100, 50);
        world.is_mirrored(&server, Layout::Zset).await;
        mirror.is(State::Live).await;
        mirror.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pass_that_is_killed_half_way_is_begun_again() {
    let (server, mut first, mut second) = (Server::start(), World::new(), World::new());
    for i in 0..300 {
        first.cap(&format!("first{i}"), "da:1", now() + 1_000_000);
    }
    let a = first.mirror(options(&server.url(), Layout::Zset));
    first.is_mirrored(&server, Layout::Zset).await;
    a.end().await;
    // The numbers that the first has left would do for the second, had it told Redis anything yet.
    second.stream(50_000, 10_000);
    let taking = Options { takeover: true, batch: 50, ..options(&server.url(), Layout::Zset) };
    let b = second.mirror(taking);
    eventually("half way", || b.handle.snapshot().sets > 500).await;
    assert_eq!(b.handle.state(), State::FullSync);
    b.abort().await;
    let b = second.mirror(options(&server.url(), Layout::Zset));
    second.is_mirrored(&server, Layout::Zset).await;
    assert_eq!(b.passes_for("missing"), 1);
    b.end().await;
}
