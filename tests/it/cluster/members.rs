//! Who owns which partition, as members come, leave, are killed and stopped.

use super::process::{GROUP, Line, MemberProcess, TOPIC};
use super::topic::{cluster, ensure, options};
use crate::support::kafka_broker::Broker;
use crate::support::wait_for;
use freqcap::clock::BootClock;
use freqcap::cluster::{LEASE_MS, OwnerState, Owners, OwnersOptions, Taken};
use rustix::process::Signal;
use std::collections::BTreeSet;

const PARTITIONS: u32 = 8;

fn start() -> Broker {
    let broker = Broker::start();
    ensure(&broker, &options(TOPIC, PARTITIONS)).unwrap();
    broker
}

fn all() -> BTreeSet<u32> {
    (0..PARTITIONS).collect()
}

/// Waits until the members have all partitions among them, each some, and none two.
fn shared(members: &mut [&mut MemberProcess]) {
    wait_for("the partitions to be shared", || {
        let each: Vec<_> = members.iter_mut().map(|member| member.mine()).collect();
        let count: usize = each.iter().map(BTreeSet::len).sum();
        let union: BTreeSet<u32> = each.iter().flatten().copied().collect();
        (each.iter().all(|mine| !mine.is_empty()) && count == union.len() && union == all()).then_some(())
    });
}

fn owners(broker: &Broker) -> Owners {
    let options = OwnersOptions {
        cluster: cluster(broker.bootstrap()),
        topic: TOPIC.to_owned(),
        group: GROUP.to_owned(),
        partitions: PARTITIONS,
    };
    Owners::start(options, BootClock::system()).unwrap()
}

/// Waits until everybody can know that a node owns just these partitions.
fn known(owners: &Owners, node: &str, partitions: &BTreeSet<u32>) {
    wait_for(&format!("{node} to be known to own {partitions:?}"), || {
        let (map, now) = (owners.map(), BootClock::system().now());
        let its = (0..PARTITIONS).filter(|&partition| {
            map.owner(partition, now).is_some_and(|owner| owner.node == node && owner.state == OwnerState::Serving)
        });
        (its.collect::<BTreeSet<_>>() == *partitions).then_some(())
    });
}

#[test]
fn partitions_are_shared_known_to_all_and_handed_over_by_who_leaves() {
    let broker = start();
    let brokers = broker.bootstrap();
    let owners = owners(&broker);
    let mut a = MemberProcess::start(&brokers, "a:1");
    shared(&mut [&mut a]);
    known(&owners, "a:1", &all());
    let mut b = MemberProcess::start(&brokers, "b:1");
    shared(&mut [&mut a, &mut b]);
    let mut c = MemberProcess::start(&brokers, "c:1");
    shared(&mut [&mut a, &mut b, &mut c]);
    for (node, member) in [("a:1", &mut a), ("b:1", &mut b), ("c:1", &mut c)] {
        known(&owners, node, &member.mine());
    }
    // Nobody lost anything: partitions moved by being given up.
    for member in [&a, &b, &c] {
        assert!(!member.said.iter().any(|line| matches!(line, Line::Unassigned(_, Taken::Lost))), "{:?}", member.said);
    }
    // Who leaves gives up what it has before the others get it.
    let its = b.mine();
    b.leave();
    let given = b.wait_for("it to give up its partitions", |line| matches!(line, Line::Unassigned(..)));
    assert_eq!(given, Line::Unassigned(its, Taken::Planned));
    shared(&mut [&mut a, &mut c]);
    b.wait();
    known(&owners, "b:1", &BTreeSet::new());
    owners.stop();
}

#[test]
fn the_partitions_of_a_killed_node_go_to_others_and_those_of_one_that_is_soon_back_stay() {
    let broker = start();
    let brokers = broker.bootstrap();
    let mut a = MemberProcess::start(&brokers, "a:1");
    let mut b = MemberProcess::start(&brokers, "b:1");
    shared(&mut [&mut a, &mut b]);
    // Killed, and started again at once: it has the same partitions, and the other is asked for nothing.
    let (before, others, said) = (b.mine(), a.mine(), a.said.len());
    b.kill();
    let mut b = MemberProcess::start(&brokers, "b:1");
    let again = b.wait_for("its partitions", |line| matches!(line, Line::Assigned(_)));
    assert_eq!(again, Line::Assigned(before.clone()));
    // Closed without leaving, the same.
    b.close();
    let mut b = MemberProcess::start(&brokers, "b:1");
    assert_eq!(b.wait_for("its partitions", |line| matches!(line, Line::Assigned(_))), Line::Assigned(before));
    assert_eq!(a.mine(), others);
    assert!(
        !a.said[said..].iter().any(|line| matches!(line, Line::Assigned(_) | Line::Unassigned(..))),
        "{:?}",
        a.said
    );
    // Killed for good.
    b.kill();
    a.wait_for("the partitions of the other", |line| matches!(line, Line::Assigned(_)));
    assert_eq!(a.mine(), all());
}

#[test]
fn a_member_that_was_stopped_for_longer_than_its_session_hears_that_it_lost_its_partitions() {
    let broker = start();
    let brokers = broker.bootstrap();
    let mut a = MemberProcess::start(&brokers, "a:1");
    let mut b = MemberProcess::start(&brokers, "b:1");
    shared(&mut [&mut a, &mut b]);
    b.wait_for("a commit", |line| matches!(line, Line::Accepted(_)));
    let its = b.mine();
    let clock = BootClock::system();
    let stopped = clock.now();
    b.signal(Signal::STOP);
    a.wait_for("the partitions of the other", |line| matches!(line, Line::Assigned(_)));
    let moved = clock.now();
    assert_eq!(a.mine(), all());
    // They went to another no sooner than its lease ended.
    assert!(moved.since(stopped) >= LEASE_MS, "{} ms", moved.since(stopped));
    let before = b.said.len();
    b.signal(Signal::CONT);
    let lost = b.wait_for("the loss", |line| matches!(line, Line::Unassigned(..)));
    assert_eq!(lost, Line::Unassigned(its, Taken::Lost));
    // No commit was accepted between the move and the loss: nothing renewed its lease.
    let accepted = b.said[before..].iter().filter(|line| matches!(line, Line::Accepted(sent) if *sent > moved.0));
    assert_eq!(accepted.count(), 0, "{:?}", b.said);
    // It comes back as a member.
    shared(&mut [&mut a, &mut b]);
}

#[test]
fn of_two_nodes_with_one_name_the_first_ends_with_an_error() {
    let broker = start();
    let brokers = broker.bootstrap();
    let mut first = MemberProcess::start(&brokers, "a:1");
    shared(&mut [&mut first]);
    let mut second = MemberProcess::start(&brokers, "a:1");
    let Line::Failed(why) = first.wait_for("the error", |line| matches!(line, Line::Failed(_))) else { unreachable!() };
    assert!(why.starts_with("cluster_node_in_use: ") && why.contains("a:1"), "{why}");
    assert_eq!(first.mine(), BTreeSet::new());
    shared(&mut [&mut second]);
}

#[test]
fn a_broker_that_was_away_for_longer_than_the_session_leaves_the_members_with_all_partitions() {
    let mut broker = start();
    let brokers = broker.bootstrap();
    let mut a = MemberProcess::start(&brokers, "a:1");
    let mut b = MemberProcess::start(&brokers, "b:1");
    shared(&mut [&mut a, &mut b]);
    broker.kill();
    let clock = BootClock::system();
    let away = clock.now();
    wait_for("the session to be over", || (clock.now().since(away) > 8_000).then_some(()));
    let back = clock.now();
    broker.start_again();
    for member in [&mut a, &mut b] {
        member.wait_for("a commit after it", |line| matches!(line, Line::Accepted(sent) if *sent >= back.0));
    }
    shared(&mut [&mut a, &mut b]);
}
