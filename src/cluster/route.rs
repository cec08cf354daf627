//! Where a call goes: it is answered here, forwarded once, made to wait, or refused. Pure.

use super::owner::{Owner, OwnerState};
use super::owner_map::OwnerMap;
use crate::clock::BootMs;
use std::time::Duration;

/// The code of a call whose partition moves, or has no owner at present.
pub const PARTITION_MOVING: &str = "partition_moving";

/// How a call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// From a client.
    Direct,
    /// From another node: it is never forwarded again, so calls go in no circles.
    Forwarded,
}

/// What is to be done with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// This node serves the partition.
    Here,
    /// Another does.
    To {
        /// Its url.
        url: String,
        /// The name that it goes by.
        node: String,
        /// The run to which the call is signed.
        run: super::epoch::RunId,
    },
    /// Ask again soon: the partition moves.
    Wait,
    /// It has waited long enough: 503 [`PARTITION_MOVING`].
    Moving,
}

/// What became of a call that was forwarded and not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// It was not sent: no connection.
    NotSent,
    /// The other node refused it with 503 [`PARTITION_MOVING`], and did nothing.
    Refused,
    /// It was sent; what became of it is not known.
    Unknown,
}

/// A call that looks for its partition's owner.
#[derive(Debug, Clone, Copy)]
pub struct Search {
    /// How it came.
    pub arrived: Arrived,
    /// When it came.
    pub since: BootMs,
    /// How long it may wait: `--forward-wait`.
    pub wait_max: Duration,
}

impl Search {
    /// Where the call goes now. `serves` is whether this node serves the partition, `me` its name.
    pub fn route(&self, serves: bool, me: &str, partition: u32, owners: &OwnerMap, now: BootMs) -> Route {
        if serves {
            return Route::Here;
        }
        let owner = owners.owner(partition, now).filter(|owner| owner.state == OwnerState::Serving && owner.node != me);
        match owner {
            Some(Owner { url, node, run, .. }) if self.arrived == Arrived::Direct => {
                Route::To { url: url.clone(), node: node.clone(), run: *run }
            }
            _ => self.wait(now),
        }
    }

    /// Whether a call that was forwarded and not answered is looked after again. `is_repeatable` is whether it may be done
    /// twice: a read, or events that all have ids.
    pub fn after(&self, unanswered: Unanswered, is_repeatable: bool, now: BootMs) -> Route {
        match unanswered {
            Unanswered::NotSent | Unanswered::Refused => self.wait(now),
            Unanswered::Unknown if is_repeatable => self.wait(now),
            Unanswered::Unknown => Route::Moving,
        }
    }

    fn wait(&self, now: BootMs) -> Route {
        let waited = Duration::from_millis(now.since(self.since));
        if waited < self.wait_max { Route::Wait } else { Route::Moving }
    }
}

#[cfg(test)]
mod tests {
    use super::super::epoch::RunId;
    use super::*;

    fn owners(state: OwnerState) -> OwnerMap {
        let mut owners = OwnerMap::new(2);
        let owner = Owner { state, ..Owner::starting("b", "http://b:1", RunId(2)) };
        owners.update([(1, owner.to_metadata().as_str())], BootMs(10_000));
        owners
    }

    fn search(arrived: Arrived) -> Search {
        Search { arrived, since: BootMs(10_000), wait_max: Duration::from_secs(2) }
    }

    #[test]
    fn a_call_is_answered_by_who_serves_the_partition() {
        let to = Route::To { url: "http://b:1".to_owned(), node: "b".to_owned(), run: RunId(2) };
        let (map, now) = (owners(OwnerState::Serving), BootMs(10_000));
        assert_eq!(search(Arrived::Direct).route(true, "a", 1, &map, now), Route::Here);
        assert_eq!(search(Arrived::Direct).route(false, "a", 1, &map, now), to);
        // Whoever the map says, this node knows whether it serves.
        assert_eq!(search(Arrived::Forwarded).route(true, "a", 0, &map, now), Route::Here);
    }

    #[test]
    fn a_call_that_was_forwarded_is_not_forwarded_again() {
        let map = owners(OwnerState::Serving);
        assert_eq!(search(Arrived::Forwarded).route(false, "a", 1, &map, BootMs(10_000)), Route::Wait);
        assert_eq!(search(Arrived::Forwarded).route(false, "a", 1, &map, BootMs(12_000)), Route::Moving);
    }

    #[test]
    fn a_call_waits_while_its_partition_moves_and_no_longer() {
        for (state, me, partition) in [
            (OwnerState::Starting, "a", 1),
            (OwnerState::Leaving, "a", 1),
            (OwnerState::Serving, "b", 1),
            (OwnerState::Serving, "a", 0),
        ] {
            let (map, search) = (owners(state), search(Arrived::Direct));
            assert_eq!(search.route(false, me, partition, &map, BootMs(11_999)), Route::Wait, "{state:?}");
            assert_eq!(search.route(false, me, partition, &map, BootMs(12_000)), Route::Moving, "{state:?}");
        }
        // An owner that is gone is none.
        let map = owners(OwnerState::Serving);
        let late = Search { since: BootMs(15_000), ..search(Arrived::Direct) };
        assert_eq!(late.route(false, "a", 1, &map, BootMs(15_000)), Route::Wait);
    }

    #[test]
    fn what_may_have_been_done_is_done_again_only_if_that_is_the_same() {
        let search = search(Arrived::Direct);
        for (unanswered, is_repeatable, route) in [
            (Unanswered::NotSent, false, Route::Wait),
            (Unanswered::Refused, false, Route::Wait),
            (Unanswered::Unknown, true, Route::Wait),
            (Unanswered::Unknown, false, Route::Moving),
        ] {
            assert_eq!(search.after(unanswered, is_repeatable, BootMs(10_500)), route);
            assert_eq!(search.after(unanswered, is_repeatable, BootMs(12_500)), Route::Moving);
        }
    }
}
