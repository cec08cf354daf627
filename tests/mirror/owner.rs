//! One store mirrors to a prefix.

use super::server::Server;
use super::world::{World, eventually, held_by, now, options};
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
        assert_eq!(server.run::<String>("GET freqcap:cap::owner"), second.store.info().id);

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
    assert_eq!(b.handle.state(), State::FullPass);
    b.abort().await;
    let b = second.mirror(options(&server.url(), Layout::Zset));
    second.is_mirrored(&server, Layout::Zset).await;
    assert_eq!(b.passes_for("missing"), 1);
    b.end().await;
}
