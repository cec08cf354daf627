//! Calendar periods found by looking at the local calendar, instant by instant, as a person with a wall clock would.

use freqcap::model::{CalendarUnit, TsMs, Zone};
use jiff::Timestamp;
use std::cell::RefCell;
use std::collections::HashMap;

const HOUR: i64 = 3_600_000;
const HALF_A_MINUTE: i64 = 30_000;

/// By zone and unit, the periods found so far: each its first instant and the first after it.
type Found = HashMap<(String, u8), Vec<(TsMs, TsMs)>>;

/// The first instant of the period around `t`, and the first one after it.
pub fn period(unit: CalendarUnit, zone: &Zone, t: TsMs) -> (TsMs, TsMs) {
    thread_local! {
        static FOUND: RefCell<Found> = RefCell::default();
    }
    FOUND.with_borrow_mut(|found| {
        let periods = found.entry((zone.name().to_owned(), unit as u8)).or_default();
        if let Some(period) = periods.iter().find(|(start, end)| *start <= t && t < *end) {
            return *period;
        }
        let t = t.0 as i64;
        let period = (TsMs(edge(unit, zone, t, -1) as u64), TsMs(edge(unit, zone, t, 1) as u64));
        periods.push(period);
        period
    })
}

/// Walks from `t` until the local date, week or month is another, and says on which instant the later side begins.
fn edge(unit: CalendarUnit, zone: &Zone, t: i64, direction: i64) -> i64 {
    let label = label(unit, zone, t);
    let mut alike = t;
    loop {
        // Where the offset changes within the hour, a date can come and go within minutes: look closely.
        let hour_on = alike + direction * HOUR;
        let step = if offset(zone, alike) == offset(zone, hour_on) { HOUR } else { HALF_A_MINUTE };
        let ahead = alike + direction * step;
        if self::label(unit, zone, ahead) != label {
            return bisect(unit, zone, alike, ahead);
        }
        alike = ahead;
    }
}

/// Between an instant of the period and one outside, the one on which the later side begins.
fn bisect(unit: CalendarUnit, zone: &Zone, mut alike: i64, mut other: i64) -> i64 {
    let wanted = label(unit, zone, alike);
    while alike.abs_diff(other) > 1 {
        let middle = (alike + other).div_euclid(2);
        if label(unit, zone, middle) == wanted { alike = middle } else { other = middle }
    }
    alike.max(other)
}

/// The name of the local date, ISO week or month at an instant.
fn label(unit: CalendarUnit, zone: &Zone, t: i64) -> (i16, i8, i8) {
    let date = zone.tz().to_datetime(instant(t)).date();
    match unit {
        CalendarUnit::Day => (date.year(), date.month(), date.day()),
        CalendarUnit::Week => (date.iso_week_date().year(), date.iso_week_date().week(), 0),
        CalendarUnit::Month => (date.year(), date.month(), 0),
    }
}

fn offset(zone: &Zone, t: i64) -> i32 {
    zone.tz().to_offset(instant(t)).seconds()
}

fn instant(t: i64) -> Timestamp {
    Timestamp::from_millisecond(t).expect("an instant between the years 1 and 9999")
}
