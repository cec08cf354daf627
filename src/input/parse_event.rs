//! Parses the fields that were found into an event. An invalid field rejects the event with a code.

use super::field_lookup::Found;
use super::fields::TsUnit;
use super::json::elements;
use super::mapping::Mapping;
use super::raw::{NotJson, Raw, is_integer};
use super::standard_fields;
use crate::model::{CapKey, DaId, DateTime, Event, EventId, IdError, Kind, MAX_KEYS, TsError, TsMs, UserId, Zone};
use smallvec::SmallVec;
use std::borrow::Cow;

/// Why an event is rejected. Its neighbours in a batch are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Reject {
    /// Stable: one of those in [`Reject`]'s constants.
    pub code: &'static str,
    /// For people; names the field.
    pub detail: String,
}

#[allow(missing_docs, reason = "src/http/error_codes.rs says what each code means")]
impl Reject {
    pub const INVALID_JSON: &'static str = "invalid_json";
    pub const NOT_AN_OBJECT: &'static str = "not_an_object";
    pub const MISSING_USER: &'static str = "missing_user";
    pub const INVALID_USER: &'static str = "invalid_user";
    pub const MISSING_DA: &'static str = "missing_da";
    pub const INVALID_DA: &'static str = "invalid_da";
    /// Neither an integer nor text of a time.
    pub const INVALID_TS: &'static str = "invalid_ts";
    /// Outside 10^11..=10^14: seconds or microseconds, most likely.
    pub const TS_NOT_MILLISECONDS: &'static str = "ts_not_milliseconds";
    pub const INVALID_ID: &'static str = "invalid_id";
    /// The value of a topic does not begin as `[fields]` say.
    pub const INVALID_FRAMING: &'static str = "invalid_framing";
    /// A change-data record of a row that is no more: no event.
    pub const DELETED_ROW: &'static str = "deleted_row";
    pub const INVALID_KIND: &'static str = "invalid_kind";
    pub const INVALID_KEY: &'static str = "invalid_key";
    pub const TOO_MANY_KEYS: &'static str = "too_many_keys";
    pub const MISSING_CANDIDATES: &'static str = "missing_candidates";
    pub const INVALID_CANDIDATES: &'static str = "invalid_candidates";
    pub const TOO_MANY_CANDIDATES: &'static str = "too_many_candidates";
    pub const INVALID_AT: &'static str = "invalid_at";
    pub const INVALID_EXPLAIN: &'static str = "invalid_explain";
    pub const INVALID_CATALOGUE: &'static str = "invalid_catalogue";
    pub const INVALID_PIXEL: &'static str = "invalid_pixel";
    pub const INVALID_WANT: &'static str = "invalid_want";
    pub const INVALID_TTL: &'static str = "invalid_ttl";
    pub const MISSING_ID: &'static str = "missing_id";

    #[cold]
    pub(crate) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    #[cold]
    pub(super) fn deleted_row() -> Self {
        Self::new(Self::DELETED_ROW, "the record says that a row was deleted, which is no event")
    }

    #[cold]
    pub(super) fn not_an_object(value: Raw<'_>) -> Self {
        Self::new(Self::NOT_AN_OBJECT, format!("an event is an object, not {}", value.name()))
    }
}

impl From<NotJson> for Reject {
    #[cold]
    fn from(why: NotJson) -> Self {
        Self::new(Self::INVALID_JSON, why.to_string())
    }
}

/// What is wrong with a field's value.
type Wrong = Cow<'static, str>;

/// Makes an event of the fields found. Of several faults, the first in the order user, da, ts, id, kind, keys is reported.
pub(super) fn parse_event<'a>(found: &Found<'a>, mapping: Option<&Mapping>) -> Result<Event<'a>, Reject> {
    if let Some(raw) = mapping.and_then(|mapping| found.mapped[mapping.deleted?])
        && matches!(raw.text().as_deref().unwrap_or(raw.source()), "d" | "true")
    {
        return Err(Reject::deleted_row());
    }
    let user = value_of(found, mapping.and_then(|mapping| mapping.user), standard_fields::USER)
        .ok_or_else(|| Reject::new(Reject::MISSING_USER, "user is missing"))
        .and_then(|raw| id_of(raw, UserId::new, Reject::INVALID_USER, "user"))?;
    let da = value_of(found, mapping.and_then(|mapping| mapping.da), standard_fields::DA)
        .ok_or_else(|| Reject::new(Reject::MISSING_DA, "da is missing"))
        .and_then(|raw| id_of(raw, DaId::new, Reject::INVALID_DA, "da"))?;
    let ts = read_ts(found, mapping)?;
    let event_id = value_of(found, mapping.and_then(|mapping| mapping.id), standard_fields::ID)
        .map(|raw| id_of(raw, EventId::new, Reject::INVALID_ID, "id"))
        .transpose()?;
    let kind_names = standard_fields::KIND..standard_fields::KIND + 1;
    let kind = match value_of(found, mapping.and_then(|mapping| mapping.kind), kind_names) {
        Some(raw) => kind_of(raw)?,
        None => Kind::IMPRESSION,
    };
    Ok(Event { user, da, ts, id: event_id, kind, keys: keys(found, mapping)? })
}

/// The value at a mapped path, else under the first of the standard names that has one.
fn value_of<'a>(found: &Found<'a>, target: Option<usize>, names: std::ops::Range<usize>) -> Option<Raw<'a>> {
    target.and_then(|target| found.mapped[target]).or_else(|| found.first(names))
}

fn read_ts(found: &Found<'_>, mapping: Option<&Mapping>) -> Result<Option<TsMs>, Reject> {
    let mapped = mapping.and_then(|mapping| found.mapped[mapping.ts?]);
    let unit = mapping.filter(|mapping| mapped.is_some() || mapping.ts.is_none()).map(|mapping| &mapping.ts_unit);
    let Some(raw) = mapped.or_else(|| found.first(standard_fields::TS)) else { return Ok(None) };
    instant(raw, unit.unwrap_or(&TsUnit::Ms)).map(Some).map_err(|why| match (why, unit) {
        (TsError::NotMilliseconds, _) => Reject::new(Reject::TS_NOT_MILLISECONDS, format!("ts {why}")),
        (TsError::Form, None | Some(TsUnit::Ms)) => Reject::new(Reject::INVALID_TS, format!("ts {why}")),
        (TsError::Form, Some(unit)) => Reject::new(Reject::INVALID_TS, format!("ts is not of fields.ts_unit {unit}")),
    })
}

/// A time. A number is of the unit, in quotes or not; text of a date is understood whatever the unit is.
#[inline]
fn instant(raw: Raw<'_>, unit: &TsUnit) -> Result<TsMs, TsError> {
    if let (TsUnit::Ms, Raw::Json(source)) = (unit, raw)
        && is_integer(source)
    {
        return milliseconds(source);
    }
    let text = match raw.text() {
        Some(text) => text,
        None => return number(raw.source(), unit),
    };
    match (number(&text, unit), unit) {
        (Err(TsError::Form), TsUnit::Civil(zone)) => civil(&text, zone),
        (Err(TsError::Form), _) => TsMs::from_iso8601(&text),
        (read, _) => read,
    }
}

fn number(text: &str, unit: &TsUnit) -> Result<TsMs, TsError> {
    if let TsUnit::S = unit {
        return seconds(text).ok_or(TsError::Form).and_then(TsMs::from_millis);
    }
    if !is_integer(text) {
        return Err(TsError::Form);
    }
    let per_ms = match unit {
        TsUnit::Us => 1_000,
        TsUnit::Ns => 1_000_000,
        _ => return milliseconds(text),
    };
    // An integer that is too long to parse is far out of range, too.
    let count: i128 = text.parse().map_err(|_| TsError::NotMilliseconds)?;
    TsMs::from_millis(count.div_euclid(per_ms))
}

/// The same of the unit that nearly all have.
#[inline]
fn milliseconds(digits: &str) -> Result<TsMs, TsError> {
    digits.parse().map_or(Err(TsError::NotMilliseconds), |ms: i64| TsMs::from_millis(ms.into()))
}

/// Seconds with or without a fraction, exactly; what is finer than a millisecond is cut off.
fn seconds(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !is_integer(whole) || fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let ms = fraction.bytes().chain(*b"00").take(3).fold(0, |ms, digit| ms * 10 + i128::from(digit - b'0'));
    // Too long to parse, or before 1970: out of range either way.
    Some(whole.parse::<i64>().map_or(i128::MAX, |whole| i128::from(whole) * 1_000 + ms))
}

/// A time without an offset is read in the zone; of a time that comes twice there, the first is meant.
fn civil(text: &str, zone: &Zone) -> Result<TsMs, TsError> {
    let written = DateTime::read(text);
    if let Some(ms) = written.and_then(|written| written.unix_ms()) {
        return TsMs::from_millis(ms.into());
    }
    let civil = match written {
        Some(at) => jiff::civil::DateTime::new(
            at.year,
            at.month,
            at.day,
            at.hour,
            at.minute,
            at.second,
            i32::from(at.millisecond) * 1_000_000,
        ),
        // An offset that was not understood must not be passed over as if it were not there.
        None if text.get(10..).is_some_and(|time| time.contains(['+', '-'])) => return Err(TsError::Form),
        // A date alone is its midnight.
        None => text.parse(),
    };
    let civil = civil.map_err(|_| TsError::Form)?;
    let instant = zone.tz().to_ambiguous_timestamp(civil).compatible().map_err(|_| TsError::NotMilliseconds)?;
    TsMs::from_millis(instant.as_nanosecond().div_euclid(1_000_000))
}

/// An id: a string, or an integer by its digits, however long.
#[inline]
fn id<'a, T>(raw: Raw<'a>, new: impl FnOnce(Cow<'a, str>) -> Result<T, IdError>) -> Result<T, Wrong> {
    new(id_text(raw)?).map_err(|why| why.to_string().into())
}

/// The same, or the rejection of the field.
pub(crate) fn id_of<'a, T>(
    raw: Raw<'a>,
    new: impl FnOnce(Cow<'a, str>) -> Result<T, IdError>,
    code: &'static str,
    field: &str,
) -> Result<T, Reject> {
    id(raw, new).map_err(|wrong| Reject::new(code, format!("{field} {wrong}")))
}

pub(crate) fn kind_of(raw: Raw<'_>) -> Result<Kind, Reject> {
    kind(raw).map_err(|wrong| Reject::new(Reject::INVALID_KIND, format!("kind {wrong}")))
}

/// An instant outside of events: milliseconds since 1970, in quotes or not, or RFC 3339 text.
pub(crate) fn instant_of(raw: Raw<'_>) -> Option<TsMs> {
    instant(raw, &TsUnit::Ms).ok()
}

#[inline]
fn id_text(raw: Raw<'_>) -> Result<Cow<'_, str>, Wrong> {
    match raw.integer() {
        Some(digits) => Ok(Cow::Borrowed(digits)),
        None => string(raw, "a string or an integer"),
    }
}

/// The text of a string; where it is none, what else it must be.
#[inline]
fn string<'a>(raw: Raw<'a>, must_be: &str) -> Result<Cow<'a, str>, Wrong> {
    raw.text().ok_or_else(|| match raw.name() {
        "a string" => "holds half of a surrogate pair, which is no character".into(),
        other => format!("must be {must_be}, not {other}").into(),
    })
}

fn kind(raw: Raw<'_>) -> Result<Kind, Wrong> {
    // As logs in tables have it.
    if matches!(raw, Raw::Cell("imp")) {
        return Ok(Kind::IMPRESSION);
    }
    Kind::new(&string(raw, "a string")?).map_err(|why| why.to_string().into())
}

type Keys<'a> = SmallVec<[CapKey<'a>; 2]>;

fn keys<'a>(found: &Found<'a>, mapping: Option<&Mapping>) -> Result<Keys<'a>, Reject> {
    let mut keys = Keys::new();
    if let Some(raw) = found.standard[standard_fields::KEYS] {
        if !raw.source().starts_with('[') {
            let detail = format!("keys must be an array of strings, not {}", raw.name());
            return Err(Reject::new(Reject::INVALID_KEY, detail));
        }
        let (mut index, mut added) = (0, Ok(()));
        elements(raw.source(), |raw| {
            if added.is_ok() {
                added = key(index, raw).and_then(|key| add_key(&mut keys, key));
            }
            index += 1;
        })?;
        added?;
    }
    for (level, target) in mapping.map_or(&[][..], |mapping| &mapping.keys) {
        if let Some(raw) = found.mapped[*target] {
            add_key(&mut keys, key_of_level(level, raw)?)?;
        }
    }
    Ok(keys)
}

/// One of `keys`.
pub(crate) fn key(index: usize, raw: Raw<'_>) -> Result<CapKey<'_>, Reject> {
    let key = string(raw, "a string").and_then(|text| CapKey::extra(text).map_err(|why| why.to_string().into()));
    key.map_err(|wrong| Reject::new(Reject::INVALID_KEY, format!("keys[{index}] {wrong}")))
}

/// The key `<level>:<value>`.
pub(super) fn key_of_level(level: &str, raw: Raw<'_>) -> Result<CapKey<'static>, Reject> {
    let key = id_text(raw).and_then(|id| CapKey::extra(format!("{level}:{id}")).map_err(|why| why.to_string().into()));
    key.map_err(|wrong| Reject::new(Reject::INVALID_KEY, format!("the {level} key {wrong}")))
}

/// Adds a key, once.
pub(crate) fn add_key<'a>(keys: &mut Keys<'a>, key: CapKey<'a>) -> Result<(), Reject> {
    if keys.contains(&key) {
        return Ok(());
    }
    if keys.len() == MAX_KEYS {
        return Err(Reject::new(Reject::TOO_MANY_KEYS, format!("an event has at most {MAX_KEYS} keys besides its ad")));
    }
    keys.push(key);
    Ok(())
}
