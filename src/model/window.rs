//! Windows: rolling, calendar in a time zone, lifetime.

use super::{Span, SpanError, TsMs};
use arc_swap::ArcSwapOption;
use jiff::civil::{Date, ISOWeekDate, Weekday};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A run of instants, `start <= t < end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// The first instant.
    pub start: TsMs,
    /// The instant after the last.
    pub end: TsMs,
}

impl Period {
    /// Whether an instant lies in it.
    pub fn holds(&self, t: TsMs) -> bool {
        self.start <= t && t < self.end
    }
}

/// The unit of a calendar window; weeks are ISO 8601 weeks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CalendarUnit {
    /// From midnight to midnight.
    Day,
    /// From Monday to Sunday.
    Week,
    /// From the first to the last of a month.
    Month,
}

impl CalendarUnit {
    /// As it is written in rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }
}

/// An IANA time zone by name; the data is built in.
#[derive(Clone)]
pub struct Zone {
    name: Arc<str>,
    tz: TimeZone,
}

/// Why a window is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum WindowError {
    #[error("time zone {0:?} is not in the IANA database")]
    UnknownZone(String),
    #[error("{text:?} {why}")]
    Span { text: String, why: SpanError },
    #[error("is not of the form {FORMS}")]
    Form,
}

/// How a window may be written.
const FORMS: &str = "\"5d\", \"lifetime\" or {\"calendar\":\"day|week|month\",\"tz\":\"<IANA name>\"}";

impl WindowError {
    /// Stable: what programs go by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownZone(_) => "unknown_zone",
            Self::Span { why: SpanError::TooLong, .. } => "window_too_long",
            Self::Span { why: SpanError::Form, .. } | Self::Form => "invalid_window",
        }
    }
}

impl Zone {
    /// Finds a zone by its IANA name.
    pub fn new(name: &str) -> Result<Self, WindowError> {
        let tz = jiff::tz::db().get(name).map_err(|_| WindowError::UnknownZone(name.to_owned()))?;
        Ok(Self { name: name.into(), tz })
    }

    /// The IANA name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The rules of the zone.
    pub fn tz(&self) -> &TimeZone {
        &self.tz
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// A calendar window: the period around an instant with the same local date, ISO week or month.
pub struct Calendar {
    unit: CalendarUnit,
    zone: Zone,
    /// The period asked for last: nearly every question is about now.
    last: ArcSwapOption<Period>,
}

impl Calendar {
    /// The unit.
    pub fn unit(&self) -> CalendarUnit {
        self.unit
    }

    /// The zone in which days begin.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The period around `t`: the longest run of instants around it in one local date, week or month, whatever the
    /// zone's offset does meanwhile.
    pub fn period(&self, t: TsMs) -> Period {
        if let Some(last) = self.last.load().as_deref()
            && last.holds(t)
        {
            return *last;
        }
        let period = self.find_period(t);
        self.last.store(Some(Arc::new(period)));
        period
    }

    /// A zone's offset is constant between transitions, so the local clock is a straight line there: a period's edge
    /// inside such a stretch is a subtraction away. Where it would lie outside, or on the stretch's own edge, that is
    /// the period's edge, unless the local date is the same on the other side (clocks go back at or to midnight).
    fn find_period(&self, t: TsMs) -> Period {
        let t = instant(t);
        let (first, next) = self.dates_around(self.local_date(t, self.zone.tz.to_offset(t)));
        let transitions = self.transitions_around(first, next);
        let mut start = t;
        for &stretch in transitions.iter().rev().skip_while(|transition| **transition > t) {
            if midnight(first, self.zone.tz.to_offset(start)) > stretch {
                break;
            }
            let before = stretch.checked_sub(1.nanosecond()).unwrap_or(stretch);
            if !(first..next).contains(&self.local_date(before, self.zone.tz.to_offset(before))) {
                let end = self.end_of(t, first, next, &transitions);
                return Period { start: millis(stretch), end: millis(end) };
            }
            start = before;
        }
        let start = midnight(first, self.zone.tz.to_offset(start));
        Period { start: millis(start), end: millis(self.end_of(t, first, next, &transitions)) }
    }

    fn end_of(&self, t: Timestamp, first: Date, next: Date, transitions: &[Timestamp]) -> Timestamp {
        let mut last = t;
        for &stretch in transitions.iter().skip_while(|transition| **transition <= t) {
            if midnight(next, self.zone.tz.to_offset(last)) < stretch {
                break;
            }
            if !(first..next).contains(&self.local_date(stretch, self.zone.tz.to_offset(stretch))) {
                return stretch;
            }
            last = stretch;
        }
        midnight(next, self.zone.tz.to_offset(last))
    }

    /// Every transition of the zone that can matter to a period of these dates: offsets are less than 26 hours. (Only
    /// `following` tells all of them: jiff 0.2.46's `preceding` passes over America/Metlakatla's of 2019-01-20.)
    fn transitions_around(&self, first: Date, next: Date) -> Vec<Timestamp> {
        let from = midnight(first, Offset::UTC).checked_sub(48.hours()).unwrap_or(Timestamp::MIN);
        let to = midnight(next, Offset::UTC).checked_add(48.hours()).unwrap_or(Timestamp::MAX);
        let following = self.zone.tz.following(from).map(|transition| transition.timestamp());
        following.take_while(|transition| *transition <= to).collect()
    }

    fn local_date(&self, t: Timestamp, offset: Offset) -> Date {
        offset.to_datetime(t).date()
    }

    /// The first date of the unit that `date` is in, and of the one after it.
    fn dates_around(&self, date: Date) -> (Date, Date) {
        let (first, length) = match self.unit {
            CalendarUnit::Day => (date, 1.day()),
            CalendarUnit::Week => {
                let week = date.iso_week_date();
                let monday = ISOWeekDate::new(week.year(), week.week(), Weekday::Monday).map(|week| week.date());
                (monday.unwrap_or(date), 1.week())
            }
            CalendarUnit::Month => (date.first_of_month(), 1.month()),
        };
        (first, first.checked_add(length).unwrap_or(Date::MAX))
    }
}

fn instant(t: TsMs) -> Timestamp {
    // Log times end at 10^14 ms (5138), far below the largest timestamp (9999).
    Timestamp::from_millisecond(t.0.min(*TsMs::RANGE.end() as u64) as i64).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn millis(t: Timestamp) -> TsMs {
    TsMs(t.as_millisecond().max(0) as u64)
}

/// The instant at which a clock that is `offset` ahead of UTC shows the first moment of `date`.
fn midnight(date: Date, offset: Offset) -> Timestamp {
    offset.to_timestamp(date.at(0, 0, 0, 0)).unwrap_or(Timestamp::MAX)
}

/// Over which events a rule counts.
#[derive(Clone)]
pub enum Window {
    /// At `t`: the events with `t - W < ts`.
    Rolling(Span),
    /// At `t`: the events of the calendar period around `t`.
    Calendar(Arc<Calendar>),
    /// Every event since the log was made.
    Lifetime,
}

impl Window {
    /// The calendar window of a unit in a zone.
    pub fn calendar(unit: CalendarUnit, zone: Zone) -> Self {
        Self::Calendar(Arc::new(Calendar { unit, zone, last: ArcSwapOption::empty() }))
    }

    /// How long events must be held for this window, in ms: a calendar day can have 25 hours. `None` for a lifetime,
    /// which has a retention of its own.
    pub fn retention_ms(&self) -> Option<u64> {
        const HOUR: u64 = 3_600_000;
        match self {
            Self::Rolling(span) => Some(span.as_millis()),
            Self::Calendar(calendar) => Some(match calendar.unit {
                CalendarUnit::Day => 25 * HOUR,
                CalendarUnit::Week => (7 * 24 + 1) * HOUR,
                CalendarUnit::Month => (31 * 24 + 1) * HOUR,
            }),
            Self::Lifetime => None,
        }
    }
}

/// How a window is written in JSON and TOML: `"5d"`, `"lifetime"`, `{"calendar":"day","tz":"Asia/Seoul"}`.
#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a duration such as \"5d\", \"lifetime\" or {\"calendar\":\"day|week|month\",\"tz\":\"<IANA name>\"}"
)]
enum Written {
    Text(String),
    Calendar(WrittenCalendar),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCalendar {
    calendar: CalendarUnit,
    tz: String,
}

impl Window {
    fn written(&self) -> Written {
        match self {
            Self::Rolling(span) => Written::Text(span.to_string()),
            Self::Lifetime => Written::Text("lifetime".to_owned()),
            Self::Calendar(calendar) => {
                Written::Calendar(WrittenCalendar { calendar: calendar.unit, tz: calendar.zone.name.to_string() })
            }
        }
    }
}

impl Serialize for Window {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written().serialize(serializer)
    }
}

impl Window {
    fn of(written: Written) -> Result<Self, WindowError> {
        match written {
            Written::Text(text) if text == "lifetime" => Ok(Self::Lifetime),
            Written::Text(text) => match text.parse() {
                Ok(span) => Ok(Self::Rolling(span)),
                Err(why) => Err(WindowError::Span { text, why }),
            },
            Written::Calendar(calendar) => Ok(Self::calendar(calendar.calendar, Zone::new(&calendar.tz)?)),
        }
    }

    /// Reads a window from JSON.
    pub fn read_json(json: &str) -> Result<Self, WindowError> {
        Self::of(serde_json::from_str(json).map_err(|_| WindowError::Form)?)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(Written::deserialize(deserializer)?).map_err(|why| serde::de::Error::custom(format!("window {why}")))
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rolling(span) => write!(f, "{span}"),
            Self::Lifetime => f.write_str("lifetime"),
            Self::Calendar(calendar) => write!(f, "{:?} in {:?}", calendar.unit, calendar.zone),
        }
    }
}

impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rolling(a), Self::Rolling(b)) => a == b,
            (Self::Calendar(a), Self::Calendar(b)) => a.unit == b.unit && a.zone == b.zone,
            (Self::Lifetime, Self::Lifetime) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period(unit: CalendarUnit, tz: &str, t: &str) -> (String, String) {
        let Window::Calendar(calendar) = Window::calendar(unit, Zone::new(tz).unwrap()) else { unreachable!() };
        let t: Timestamp = t.parse().unwrap();
        let Period { start, end } = calendar.period(millis(t));
        (instant(start).to_string(), instant(end).to_string())
    }

    fn edges(start: &str, end: &str) -> (String, String) {
        (start.to_owned(), end.to_owned())
    }

    #[test]
    fn a_day_is_the_zones_own() {
        assert_eq!(
            period(CalendarUnit::Day, "Asia/Seoul", "2024-11-22T16:00:00Z"),
            edges("2024-11-22T15:00:00Z", "2024-11-23T15:00:00Z")
        );
    }

    #[test]
    fn a_day_of_daylight_saving_has_23_or_25_hours() {
        for t in ["2024-03-31T00:30:00Z", "2024-03-31T01:00:00Z", "2024-03-31T20:00:00Z"] {
            assert_eq!(
                period(CalendarUnit::Day, "Europe/Berlin", t),
                edges("2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z")
            );
        }
        for t in ["2024-10-26T22:00:00Z", "2024-10-27T00:59:59Z", "2024-10-27T22:59:59.999Z"] {
            assert_eq!(
                period(CalendarUnit::Day, "Europe/Berlin", t),
                edges("2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z")
            );
        }
    }

    #[test]
    fn weeks_and_months_cross_years_and_daylight_saving() {
        assert_eq!(
            period(CalendarUnit::Week, "UTC", "2025-01-01T12:00:00Z"),
            edges("2024-12-30T00:00:00Z", "2025-01-06T00:00:00Z")
        );
        assert_eq!(
            period(CalendarUnit::Month, "America/New_York", "2024-11-30T12:00:00Z"),
            edges("2024-11-01T04:00:00Z", "2024-12-01T05:00:00Z")
        );
    }

    /// Clocks at midnight went to 01:00: the day begins at 01:00 (São Paulo, 2018-11-04).
    #[test]
    fn a_day_without_midnight_begins_at_its_first_instant() {
        assert_eq!(
            period(CalendarUnit::Day, "America/Sao_Paulo", "2018-11-04T12:00:00Z"),
            edges("2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z")
        );
    }

    /// Samoa had no 30 December 2011.
    #[test]
    fn a_skipped_day_is_in_nobodys_period() {
        assert_eq!(
            period(CalendarUnit::Day, "Pacific/Apia", "2011-12-30T09:00:00Z"),
            edges("2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z")
        );
        assert_eq!(
            period(CalendarUnit::Day, "Pacific/Apia", "2011-12-30T10:00:00Z"),
            edges("2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z")
        );
    }

    /// Clocks in St. John's went back at 00:01 to 23:01: the local date came, went, and came again.
    #[test]
    fn a_date_that_comes_twice_is_two_periods() {
        let day = |t| period(CalendarUnit::Day, "America/St_Johns", t);
        assert_eq!(day("2010-11-07T02:00:00Z"), edges("2010-11-06T02:30:00Z", "2010-11-07T02:30:00Z"));
        assert_eq!(day("2010-11-07T02:30:30Z"), edges("2010-11-07T02:30:00Z", "2010-11-07T02:31:00Z"));
        assert_eq!(day("2010-11-07T03:00:00Z"), edges("2010-11-07T02:31:00Z", "2010-11-07T03:30:00Z"));
        assert_eq!(day("2010-11-07T03:30:00Z"), edges("2010-11-07T03:30:00Z", "2010-11-08T03:30:00Z"));
    }

    #[test]
    fn windows_are_written_in_three_forms() {
        for text in [r#""5d""#, r#""lifetime""#, r#"{"calendar":"week","tz":"Asia/Seoul"}"#] {
            let window: Window = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&window).unwrap(), text);
        }
        for bad in [r#""5x""#, "5", r#"{"calendar":"day"}"#, r#"{"calendar":"day","tz":"Mars/Base"}"#] {
            assert!(serde_json::from_str::<Window>(bad).is_err(), "{bad}");
        }
    }
}
