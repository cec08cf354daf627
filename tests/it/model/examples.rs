//! Sentences of the contract by hand, for the reader and against an oracle that errs with the engine.

use crate::model::calendar;
use freqcap::engine::{Ledger, Outcome, Policy, Question, admit};
use freqcap::model::*;

const DAY: u64 = 86_400_000;
const T0: u64 = 1_732_233_600_000;

/// One user with one ad, `77`, and one campaign, `campaign:42`.
struct Log1 {
    policy: Policy,
    ledger: Ledger,
}

fn rule(id: &str, key: &str, limit: u64, window: &str) -> Rule {
    Rule {
        id: RuleId::new(id).unwrap(),
        key: KeyPattern::new(key).unwrap(),
        kind: Kind::IMPRESSION,
        limit: Some(limit),
        window: if window == "lifetime" { Window::Lifetime } else { Window::Rolling(window.parse().unwrap()) },
        mode: Mode::Enforce,
    }
}

impl Log1 {
    fn new(rules: impl IntoIterator<Item = Rule>, history_limit: usize) -> Self {
        let policy = Policy::new(RuleSet::new(rules), history_limit, 7 * DAY, 400 * DAY, 60_000);
        Self { policy, ledger: Ledger::default() }
    }

    fn view(&mut self, da: &str, ts: u64, id: Option<&str>, now: u64) -> Outcome {
        let event = Event {
            user: UserId::new("u1").unwrap(),
            da: DaId::new(da).unwrap(),
            ts: Some(TsMs(ts)),
            id: id.map(|id| EventId::new(id).unwrap()),
            kind: Kind::IMPRESSION,
            keys: [CapKey::extra("campaign:42").unwrap()].into_iter().collect(),
        };
        let ts = admit(&self.policy, event.ts, TsMs(now), TsMs(now)).unwrap();
        self.ledger.count(&self.policy, &event, ts, TsMs(now))
    }

    fn ask(&self, at: Option<u64>, now: u64) -> Verdict {
        let da = CapKey::of_da(&DaId::new("77").unwrap());
        let keys = [CapKey::extra("campaign:42").unwrap()];
        let question = Question { kind: None, at: at.map(TsMs), explain: false };
        self.ledger.judge(&self.policy, "u1", &da, &keys, question, TsMs(now))
    }
}

#[test]
fn five_views_in_five_days_cap_until_the_first_is_five_days_old() {
    let mut log = Log1::new([rule("default", "da:*", 5, "5d")], 256);
    for i in 0..5 {
        assert!(!log.ask(None, T0 + i).capped);
        assert_eq!(log.view("77", T0 + i, None, T0 + i), Outcome::Counted);
    }
    let verdict = log.ask(None, T0 + DAY);
    assert_eq!((verdict.capped, verdict.count, verdict.remaining), (true, 5, Some(0)));
    assert_eq!(verdict.capped_until, Some(TsMs(T0 + 5 * DAY)));
    assert!(log.ask(None, T0 + 5 * DAY - 1).capped);
    let freed = log.ask(None, T0 + 5 * DAY);
    assert_eq!((freed.capped, freed.capped_until, freed.count, freed.remaining), (false, None, 4, Some(1)));
}

#[test]
fn views_over_the_limit_hold_the_cap_until_enough_have_left() {
    let mut log = Log1::new([rule("default", "da:*", 2, "5d")], 256);
    for i in [0, 10, 20, 30] {
        log.view("77", T0 + i, None, T0 + i);
    }
    assert_eq!(log.ask(None, T0 + 40).capped_until, Some(TsMs(T0 + 20 + 5 * DAY)));
}

#[test]
fn two_ads_of_a_campaign_may_use_one_event_id() {
    let mut log = Log1::new([rule("c", "campaign:*", 2, "5d")], 256);
    assert_eq!(log.view("77", T0, Some("imp-1"), T0), Outcome::Counted);
    assert_eq!(log.view("78", T0, Some("imp-1"), T0), Outcome::Counted);
    assert_eq!(log.view("78", T0 + 5, Some("imp-1"), T0 + 5), Outcome::Duplicate { age_ms: 5 });
    let verdict = log.ask(None, T0 + 5);
    assert_eq!((verdict.key.as_deref(), verdict.count, verdict.capped), (Some("campaign:42"), 2, true));
}

#[test]
fn a_retry_is_a_duplicate_even_once_its_time_is_late() {
    let mut log = Log1::new([rule("default", "da:*", 5, "5d")], 256);
    log.view("77", T0, Some("a"), T0);
    log.view("77", T0 + 6 * DAY, None, T0 + 6 * DAY);
    assert_eq!(log.view("77", T0, Some("a"), T0 + 8 * DAY), Outcome::Duplicate { age_ms: 0 });
    assert_eq!(log.view("77", T0, Some("b"), T0 + 8 * DAY), Outcome::Late);
}

#[test]
fn an_instant_before_what_a_full_log_keeps_gets_a_lower_bound_and_says_so() {
    let mut log = Log1::new([rule("default", "da:*", 3, "5d")], 3);
    for i in 0..4 {
        log.view("77", T0 + i, None, T0 + i);
    }
    let before = log.ask(Some(T0), T0 + 9);
    assert_eq!((before.count, before.capped, before.partial), (0, false, true));
    // The view at T0 was in the window then, too, but is no longer kept.
    let among = log.ask(Some(T0 + 2), T0 + 9);
    assert_eq!((among.count, among.capped, among.partial), (2, false, true));
    let newest = log.ask(Some(T0 + 3), T0 + 9);
    assert_eq!((newest.count, newest.capped, newest.partial), (3, true, false));
    let since = log.ask(Some(T0 + 2 + 5 * DAY), T0 + 9);
    assert_eq!((since.count, since.partial), (1, false));
}

#[test]
fn a_clock_that_steps_back_hides_nothing_but_an_instant_asked_for_does() {
    let mut log = Log1::new([rule("default", "da:*", 1, "5d")], 256);
    log.view("77", T0, None, T0);
    assert!(log.ask(None, T0 - 1_000).capped);
    assert!(!log.ask(Some(T0 - 1), T0).capped);
    assert!(log.ask(Some(T0), T0).capped);
}

#[test]
fn a_lifetime_ends_its_retention_after_the_newest_event() {
    let mut log = Log1::new([rule("default", "da:*", 300, "lifetime")], 2);
    for i in 0..300 {
        assert_eq!(log.view("77", T0 + i, None, T0 + i), Outcome::Counted);
    }
    let end = T0 + 299 + 400 * DAY;
    let verdict = log.ask(None, end - 1);
    assert_eq!((verdict.count, verdict.capped_until), (300, Some(TsMs(end))));
    assert_eq!(log.ask(None, end).count, 0);
}

#[test]
fn calendar_periods_follow_the_clocks_on_the_wall() {
    // (zone, unit, an instant, first instant, first after)
    let cases = [
        ("America/New_York", CalendarUnit::Day, "2024-11-03T12:00:00Z", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"),
        ("Europe/Berlin", CalendarUnit::Day, "2024-03-31T12:00:00Z", "2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z"),
        ("Asia/Seoul", CalendarUnit::Week, "2024-12-31T15:00:00Z", "2024-12-29T15:00:00Z", "2025-01-05T15:00:00Z"),
        ("Europe/Berlin", CalendarUnit::Month, "2024-10-15T00:00:00Z", "2024-09-30T22:00:00Z", "2024-10-31T23:00:00Z"),
        // Where clocks go back at or to midnight, the hour that comes twice is of one day.
        ("Asia/Beirut", CalendarUnit::Day, "2024-10-26T20:59:59Z", "2024-10-25T21:00:00Z", "2024-10-26T22:00:00Z"),
        ("America/Havana", CalendarUnit::Day, "2024-11-03T05:00:00Z", "2024-11-03T04:00:00Z", "2024-11-04T05:00:00Z"),
        // The zone's last change before its yearly rule set in: eight hours behind until 10:00, then nine.
        (
            "America/Metlakatla",
            CalendarUnit::Day,
            "2019-01-20T12:00:00Z",
            "2019-01-20T08:00:00Z",
            "2019-01-21T09:00:00Z",
        ),
        // Samoa had no 30 December 2011: it went over the date line.
        ("Pacific/Apia", CalendarUnit::Day, "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
        ("Pacific/Apia", CalendarUnit::Day, "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
        // St John's put its clocks back a minute after midnight: the new day lasted that minute, then the old came back.
        ("America/St_Johns", CalendarUnit::Day, "2010-11-07T02:30:30Z", "2010-11-07T02:30:00Z", "2010-11-07T02:31:00Z"),
        ("America/St_Johns", CalendarUnit::Day, "2010-11-07T02:31:00Z", "2010-11-07T02:31:00Z", "2010-11-07T03:30:00Z"),
    ];
    for (name, unit, t, first, after) in cases {
        let zone = Zone::new(name).unwrap();
        let [t, first, after] = [t, first, after].map(|text| TsMs::from_iso8601(text).unwrap());
        assert_eq!(calendar::period(unit, &zone, t), (first, after), "the oracle, {unit:?} in {name} around {t}");
        let Window::Calendar(window) = Window::calendar(unit, zone) else { unreachable!() };
        assert_eq!(window.period(t), Period { start: first, end: after }, "{unit:?} in {name} around {t}");
    }
}
