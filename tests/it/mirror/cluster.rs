//! A Redis Cluster of three masters.

use super::world::{World, eventually, options};
use crate::support::redis_server::{Server, free_port};
use freqcap::mirror::{Layout, State};
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(12);

fn node() -> Server {
    let bus = free_port().to_string();
    Server::start_with(&[
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--cluster-node-timeout",
        "1500",
        "--cluster-require-full-coverage",
        "no",
    ])
}

fn bus(server: &Server) -> String {
    server.run::<Vec<String>>("CONFIG GET cluster-port").pop().unwrap()
}

pub async fn cluster() -> [Server; 3] {
    let nodes = [node(), node(), node()];
    for (i, (node, (from, to))) in nodes.iter().zip([(0, 5460), (5461, 10922), (10923, 16383)]).enumerate() {
        node.run::<()>(&format!("CLUSTER SET-CONFIG-EPOCH {}", i + 1));
        node.run::<()>(&format!("CLUSTER ADDSLOTSRANGE {from} {to}"));
    }
    for node in &nodes[1..] {
        nodes[0].run::<()>(&format!("CLUSTER MEET 127.0.0.1 {} {}", node.port, bus(node)));
    }
    for node in &nodes {
        eventually("the cluster knows itself", || {
            let info: String = node.run("CLUSTER INFO");
            info.contains("cluster_state:ok") && info.contains("cluster_slots_assigned:16384")
        })
        .await;
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_found_from_one_node_and_mirrored_through_every_accident() {
    for layout in [Layout::Zset, Layout::String] {
        let mut nodes = cluster().await;
        let mut world = World::new();
        world.stream(2_000, 500);
        let mirror = world.mirror(options(&nodes[1].url(), layout));
        world.is_mirrored_by(&nodes.each_ref(), layout, WITHIN).await;
        for node in &nodes {
            assert!(node.run::<u64>("DBSIZE") > 50, "every master has its share");
        }
        for _ in 0..10 {
            world.stream(500, 500);
        }
        world.is_mirrored_by(&nodes.each_ref(), layout, WITHIN).await;
        assert_eq!(mirror.passes(), 1);

        for flushed in 0..3 {
            world.stream(500, 500);
            nodes[flushed].run::<()>("FLUSHALL");
            world.stream(500, 500);
            world.is_mirrored_by(&nodes.each_ref(), layout, WITHIN).await;
        }

        nodes[2].kill();
        world.stream(1_000, 500);
        eventually("noticed", || mirror.handle.state() == State::Connecting).await;
        nodes[2].start_again();
        world.stream(1_000, 500);
        world.is_mirrored_by(&nodes.each_ref(), layout, WITHIN).await;
        mirror.end().await;
        let again = world.mirror(options(&format!("redis-cluster://127.0.0.1:{}", nodes[0].port), layout));
        again.is(State::Live).await;
        assert_eq!(again.passes(), 0, "the markers of all masters are believed");
        again.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_are_followed() {
    let nodes = cluster().await;
    let mut world = World::new();
    world.stream(2_000, 300);
    let mirror = world.mirror(options(&nodes[0].url(), Layout::Zset));
    world.is_mirrored_by(&nodes.each_ref(), Layout::Zset, WITHIN).await;
    let [from, to] = [&nodes[0], &nodes[2]].map(|node| node.run::<String>("CLUSTER MYID"));
    // The slot of a name that is there moves as redis-cli would move it, while the user's caps change.
    let name = nodes[0].run::<Vec<String>>("KEYS cap:{*").pop().unwrap();
    let user = name.trim_start_matches("cap:{").trim_end_matches('}').to_owned();
    let slot: u64 = nodes[0].run(&format!("CLUSTER KEYSLOT {name}"));
    nodes[2].run::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {from}"));
    nodes[0].run::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {to}"));
    let keys: Vec<String> = nodes[0].run(&format!("CLUSTER GETKEYSINSLOT {slot} 100"));
    for key in keys {
        nodes[0].run::<()>(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", nodes[2].port));
    }
    world.cap(&user, "da:moving", super::world::now() + 1_000_000);
    let told = || nodes[2].run::<String>("CLUSTER MYID") == to && mirror.handle.snapshot().pending == 0;
    eventually("told where it is going", told).await;
    for node in [&nodes[2], &nodes[0], &nodes[1]] {
        node.run::<()>(&format!("CLUSTER SETSLOT {slot} NODE {to}"));
    }
    eventually("a full pass", || mirror.passes_for("topology") > 0).await;
    world.stream(500, 300);
    world.is_mirrored_by(&nodes.each_ref(), Layout::Zset, WITHIN).await;
    mirror.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_outlives_the_node_that_was_named() {
    let mut nodes = cluster().await;
    let replica = node();
    let named = nodes[0].run::<String>("CLUSTER MYID");
    nodes[0].run::<()>(&format!("CLUSTER MEET 127.0.0.1 {} {}", replica.port, bus(&replica)));
    eventually("the replica knows its master", || replica.run::<String>("CLUSTER NODES").contains(&named)).await;
    replica.run::<()>(&format!("CLUSTER REPLICATE {named}"));
    for node in &nodes {
        let knows = || node.run::<String>("CLUSTER NODES").contains(&format!("slave {named}"));
        eventually("every node knows the replica", knows).await;
    }
    let mut world = World::new();
    world.stream(1_000, 300);
    let mirror = world.mirror(options(&nodes[0].url(), Layout::Zset));
    mirror.is(State::Live).await;
    eventually("replicated", || {
        let info: String = replica.run("INFO replication");
        info.contains("master_link_status:up") && replica.run::<u64>("DBSIZE") == nodes[0].run::<u64>("DBSIZE")
    })
    .await;
    world.stream(1_000, 300);
    nodes[0].kill();
    world.stream(1_000, 300);
    // As an operator would who does not wait for the vote.
    replica.run::<()>("CLUSTER FAILOVER TAKEOVER");
    eventually("the new master is found", || mirror.passes_for("topology") > 0).await;
    world.is_mirrored_by(&[&replica, &nodes[1], &nodes[2]], Layout::Zset, WITHIN).await;
    mirror.end().await;
}
