//! Random streams: settings, rules and a sequence of calls, told in words rather than in milliseconds ("as long before
//! now as the second rule's window, and one ms more"), so that they meet on the edges of windows and shrink well.

use crate::model::oracle::Settings;
use freqcap::model::{CalendarUnit, KeyPattern, Kind, Mode, Rule, RuleId, Span, TsMs, Window, Zone};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

pub const USERS: [&str; 2] = ["u1", "u2"];
/// Ads and ids that read alike when they are put together: ad 1 with id 11, ad 11 with id 1.
pub const DAS: [&str; 3] = ["1", "11", "2"];
const IDS: [&str; 4] = ["1", "11", "x", "y"];
/// The keys besides an ad's own.
pub const KEYS: [&str; 3] = ["campaign:1", "campaign:2", "advertiser:1"];
pub const KINDS: [&str; 3] = ["impression", "click", "view_2"];

/// Where and when a calendar does something: the turn of an ISO year, a leap day, clocks put forward or back (to
/// midnight, or just after it), a date that is skipped. Streams start some hours before.
const SCENES: [(&str, &str); 10] = [
    ("Asia/Seoul", "2024-11-22T07:20:00Z"),
    ("Asia/Seoul", "2024-12-29T06:00:00Z"),
    ("UTC", "2024-02-28T18:00:00Z"),
    ("Europe/Berlin", "2024-03-30T20:00:00Z"),
    ("Asia/Beirut", "2024-10-26T09:00:00Z"),
    ("America/Havana", "2024-11-02T20:00:00Z"),
    ("America/New_York", "2024-11-02T20:00:00Z"),
    ("America/St_Johns", "2010-11-06T20:00:00Z"),
    ("Australia/Lord_Howe", "2024-10-05T06:00:00Z"),
    ("Pacific/Apia", "2011-12-29T06:00:00Z"),
];
/// Zones wherever the scene is. The last has days of 26 hours: longer than the retention that a calendar day asks for.
const ZONES: [&str; 5] = ["UTC", "America/New_York", "Asia/Seoul", "Europe/Berlin", "Antarctica/Troll"];

/// How wild a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The clock steps back, too.
    Free,
    /// The clock only goes forward, and timers fire, late.
    Steady,
    /// The same with reads, reservations and erasures.
    Busy,
}

/// Settings, rules and calls.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub start: TsMs,
    /// Where the calendar does something soon after the start.
    zone: &'static str,
    /// What windows, retention and most steps of time are multiples of.
    pub unit_ms: u64,
    pub history_limit: usize,
    retention: u8,
    lifetime_retention: u8,
    max_skew_ms: u64,
    /// In tenths of the unit; `None` is as far as the log goes.
    duplicate_window: Option<u8>,
    max_kinds: usize,
    pub rule_sets: Vec<Vec<RuleWords>>,
    pub ops: Vec<Op>,
}

/// A rule; its id is its place in the set.
#[derive(Debug, Clone)]
pub struct RuleWords {
    key: &'static str,
    kind: &'static str,
    limit: Option<u8>,
    window: WindowWords,
    shadow: bool,
}

#[derive(Debug, Clone)]
enum WindowWords {
    Rolling(u8),
    /// In a zone; in that of the scene where none is named.
    Calendar(CalendarUnit, Option<&'static str>),
    Lifetime,
}

#[derive(Debug, Clone)]
pub enum Op {
    Event(EventWords),
    /// An earlier event, counted from the last, is sent once more.
    Retry(u8),
    Read(ReadWords),
    Reserve(ReserveWords),
    /// The event of an earlier reservation, counted from the last, comes: under this time, naming these keys if any.
    Confirm(u8, Option<Moment>, Option<Vec<&'static str>>),
    /// An earlier reservation, counted from the last, is given back.
    Release(u8),
    Erase(&'static str),
    /// The clock goes on to this instant, if it is not there yet.
    Clock(Moment),
    /// The clock is set back to this instant, if it is past it.
    StepBack(Moment),
    /// Another of the rule sets comes into force.
    Rules(u8),
    /// At most so many due timers fire.
    Fire(u8),
    /// All due timers fire, and what is held of caps is held against the oracle.
    Settle,
}

#[derive(Debug, Clone)]
pub struct EventWords {
    pub user: &'static str,
    pub da: &'static str,
    pub kind: &'static str,
    pub ts: Option<Moment>,
    pub id: Option<&'static str>,
    pub keys: Vec<&'static str>,
}

#[derive(Debug, Clone)]
pub struct ReadWords {
    pub user: &'static str,
    pub da: &'static str,
    pub keys: Vec<&'static str>,
    pub kind: Option<&'static str>,
    pub at: Option<Moment>,
}

/// A call of `/reserve`.
#[derive(Debug, Clone)]
pub struct ReserveWords {
    pub user: &'static str,
    /// Ads with their keys.
    pub candidates: Vec<(&'static str, Vec<&'static str>)>,
    pub want: u8,
    /// In tenths of the unit; `None` is for good.
    pub ttl: Option<u8>,
    pub id: &'static str,
    pub kind: &'static str,
}

/// An instant in words.
#[derive(Debug, Clone)]
pub struct Moment {
    pub anchor: Anchor,
    pub distance: Distance,
    pub before: bool,
    pub jitter_ms: i8,
}

#[derive(Debug, Clone)]
pub enum Anchor {
    Now,
    /// The time of an earlier event, counted from the last.
    Event(u8),
    /// When an earlier reservation lapses, counted from the last.
    Expiry(u8),
    /// The first instant of the period around now of a calendar rule, or the first after it.
    Period {
        rule: u8,
        end: bool,
    },
}

#[derive(Debug, Clone)]
pub enum Distance {
    Units(u8),
    /// The window of a rule.
    Window(u8),
    Retention,
    LifetimeRetention,
    MaxSkew,
}

impl Scenario {
    /// The settings with the rule set at this place (modulo how many there are).
    pub fn settings(&self, rule_set: usize) -> Settings {
        let rules = &self.rule_sets[rule_set % self.rule_sets.len()];
        Settings {
            rules: rules.iter().enumerate().map(|(i, words)| self.rule(i, words)).collect(),
            history_limit: self.history_limit,
            retention_ms: u64::from(self.retention) * self.unit_ms,
            lifetime_retention_ms: u64::from(self.lifetime_retention) * self.unit_ms,
            max_skew_ms: self.max_skew_ms,
            duplicate_window_ms: self.duplicate_window.map(|tenths| u64::from(tenths) * self.unit_ms / 10),
            max_kinds: self.max_kinds,
        }
    }

    fn rule(&self, place: usize, words: &RuleWords) -> Rule {
        let window = match words.window {
            WindowWords::Rolling(units) => Window::Rolling(Span::millis(u64::from(units) * self.unit_ms)),
            WindowWords::Calendar(unit, zone) => Window::calendar(unit, Zone::new(zone.unwrap_or(self.zone)).unwrap()),
            WindowWords::Lifetime => Window::Lifetime,
        };
        let most = if matches!(window, Window::Lifetime) { u64::MAX } else { self.history_limit as u64 };
        let rule = Rule {
            id: RuleId::new(&format!("r{place}")).unwrap(),
            key: KeyPattern::new(words.key).unwrap(),
            kind: Kind::new(words.kind).unwrap(),
            limit: words.limit.map(|limit| u64::from(limit).min(most)),
            window,
            mode: if words.shadow && words.limit.is_some() { Mode::Shadow } else { Mode::Enforce },
        };
        rule.check(self.history_limit).unwrap();
        rule
    }
}

/// Every stream of a shape.
pub fn scenarios(shape: Shape) -> impl Strategy<Value = Scenario> {
    // Zones whose longest day outlives its retention make caps that end before their time.
    let zones = if shape == Shape::Free { &ZONES[..] } else { &ZONES[..4] };
    let settings = (
        select(&SCENES[..]),
        prop_oneof![Just(1_000), Just(3_600_000), Just(6 * 3_600_000), Just(86_400_000)],
        2..7usize,
        1..8u8,
        4..20u8,
        prop_oneof![Just(0), Just(60_000), Just(3_600_000)],
        option::weighted(0.3, prop_oneof![1..10u8, 10..40u8]),
        prop_oneof![4 => Just(16), 1 => Just(1), 1 => Just(2)],
    );
    (settings, vec(vec(rule(zones), 0..6), 1..4), vec(op(shape), 1..60)).prop_map(|(settings, rule_sets, ops)| {
        let ((zone, start), unit_ms, history_limit, retention, lifetime_retention, max_skew_ms, ..) = settings;
        let (.., duplicate_window, max_kinds) = settings;
        Scenario {
            start: TsMs::from_iso8601(start).unwrap(),
            zone,
            unit_ms,
            history_limit,
            retention,
            lifetime_retention,
            max_skew_ms,
            duplicate_window,
            max_kinds,
            rule_sets,
            ops,
        }
    })
}

fn rule(zones: &'static [&'static str]) -> impl Strategy<Value = RuleWords> {
    let key = prop_oneof![
        4 => Just("da:*"),
        2 => Just("da:1"),
        1 => Just("da:11"),
        2 => Just("campaign:*"),
        2 => Just("campaign:1"),
        1 => Just("advertiser:*"),
    ];
    let unit = select(&[CalendarUnit::Day, CalendarUnit::Week, CalendarUnit::Month][..]);
    let window = prop_oneof![
        4 => (1..7u8).prop_map(WindowWords::Rolling),
        3 => (unit, option::of(select(zones))).prop_map(|(unit, zone)| WindowWords::Calendar(unit, zone)),
        2 => Just(WindowWords::Lifetime),
    ];
    let limit = option::weighted(0.9, prop_oneof![4 => 1..4u8, 1 => 4..10u8]);
    (key, kind(), limit, window, any::<u8>()).prop_map(|(key, kind, limit, window, shadow)| RuleWords {
        key,
        kind,
        limit,
        window,
        shadow: shadow > 200,
    })
}

fn op(shape: Shape) -> BoxedStrategy<Op> {
    let event = event().prop_map(Op::Event);
    let retry = (0..12u8).prop_map(Op::Retry);
    let clock = later().prop_map(Op::Clock);
    let rules = (0..4u8).prop_map(Op::Rules);
    match shape {
        Shape::Free => prop_oneof![
            10 => event,
            2 => retry,
            6 => read().prop_map(Op::Read),
            5 => clock,
            1 => moment().prop_map(Op::StepBack),
            1 => rules,
        ]
        .boxed(),
        Shape::Steady => prop_oneof![
            10 => event,
            1 => retry,
            6 => clock,
            2 => (1..4u8).prop_map(Op::Fire),
            3 => Just(Op::Settle),
            1 => rules,
        ]
        .boxed(),
        Shape::Busy => prop_oneof![
            6 => event,
            1 => retry,
            4 => read().prop_map(Op::Read),
            6 => reserve().prop_map(Op::Reserve),
            3 => (0..6u8, option::weighted(0.5, log_time()), option::weighted(0.3, keys()))
                .prop_map(|(nth, ts, keys)| Op::Confirm(nth, ts, keys)),
            2 => (0..6u8).prop_map(Op::Release),
            6 => clock,
            2 => (1..4u8).prop_map(Op::Fire),
            2 => Just(Op::Settle),
            1 => rules,
            1 => user().prop_map(Op::Erase),
        ]
        .boxed(),
    }
}

fn reserve() -> impl Strategy<Value = ReserveWords> {
    let ttl = option::weighted(0.9, prop_oneof![3 => 1..10u8, 1 => 10..60u8]);
    (user(), vec((da(), keys()), 1..4), 1..4u8, ttl, select(&IDS[..]), kind())
        .prop_map(|(user, candidates, want, ttl, id, kind)| ReserveWords { user, candidates, want, ttl, id, kind })
}

fn event() -> impl Strategy<Value = EventWords> {
    let id = option::weighted(0.6, select(&IDS[..]));
    (user(), da(), kind(), option::weighted(0.7, log_time()), id, keys())
        .prop_map(|(user, da, kind, ts, id, keys)| EventWords { user, da, kind, ts, id, keys })
}

fn read() -> impl Strategy<Value = ReadWords> {
    (user(), da(), keys(), option::weighted(0.3, kind()), option::weighted(0.7, moment()))
        .prop_map(|(user, da, keys, kind, at)| ReadWords { user, da, keys, kind, at })
}

fn user() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just(USERS[0]), 1 => Just(USERS[1])]
}

fn da() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just(DAS[0]), 2 => Just(DAS[1]), 1 => Just(DAS[2])]
}

fn kind() -> impl Strategy<Value = &'static str> {
    prop_oneof![7 => Just(KINDS[0]), 2 => Just(KINDS[1]), 1 => Just(KINDS[2])]
}

/// Some of the keys besides the ad's, in any order.
fn keys() -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(&KEYS[..], 0..=KEYS.len()).prop_shuffle()
}

/// Where the clock goes: mostly a little on, often to where something leaves a window.
fn later() -> impl Strategy<Value = Moment> {
    let anchored = prop_oneof![
        6 => (Just(Anchor::Now), (0..3u8).prop_map(Distance::Units)),
        4 => (earlier_event(), distance()),
        2 => (period(), Just(Distance::Units(0))),
        1 => (Just(Anchor::Now), distance()),
        3 => ((0..4u8).prop_map(Anchor::Expiry), Just(Distance::Units(0))),
    ];
    (anchored, jitter_ms()).prop_map(|((anchor, distance), jitter_ms)| Moment {
        anchor,
        distance,
        before: false,
        jitter_ms,
    })
}

/// The time of an event: mostly not long ago, often where it is just in or just out.
fn log_time() -> impl Strategy<Value = Moment> {
    let place = prop_oneof![
        6 => (Just(Anchor::Now), (0..5u8).prop_map(Distance::Units), Just(true)),
        3 => (Just(Anchor::Now), distance(), Just(true)),
        1 => (Just(Anchor::Now), Just(Distance::MaxSkew), Just(false)),
        4 => (earlier_event(), Just(Distance::Units(0)), Just(true)),
        2 => (earlier_event(), distance(), any::<bool>()),
        1 => (period(), Just(Distance::Units(0)), Just(true)),
    ];
    (place, jitter_ms()).prop_map(|((anchor, distance, before), jitter_ms)| Moment {
        anchor,
        distance,
        before,
        jitter_ms,
    })
}

/// Any instant that could make a difference.
fn moment() -> impl Strategy<Value = Moment> {
    let expiry = (0..4u8).prop_map(Anchor::Expiry);
    let anchor = prop_oneof![2 => Just(Anchor::Now), 4 => earlier_event(), 1 => period(), 1 => expiry];
    (anchor, distance(), any::<bool>(), jitter_ms()).prop_map(|(anchor, distance, before, jitter_ms)| Moment {
        anchor,
        distance,
        before,
        jitter_ms,
    })
}

fn earlier_event() -> impl Strategy<Value = Anchor> {
    (0..12u8).prop_map(Anchor::Event)
}

fn period() -> impl Strategy<Value = Anchor> {
    (0..6u8, any::<bool>()).prop_map(|(rule, end)| Anchor::Period { rule, end })
}

fn distance() -> impl Strategy<Value = Distance> {
    prop_oneof![
        4 => (0..4u8).prop_map(Distance::Units),
        6 => (0..6u8).prop_map(Distance::Window),
        1 => Just(Distance::Retention),
        1 => Just(Distance::LifetimeRetention),
    ]
}

fn jitter_ms() -> impl Strategy<Value = i8> {
    prop_oneof![4 => Just(0), 1 => Just(-1), 1 => Just(1)]
}
