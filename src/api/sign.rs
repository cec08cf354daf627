//! `POST /sign`: URLs of pixels.

use super::text::IdText;
use crate::input::{Raw, Reject, add_key, elements, id_of, json_text, key, kind_of, members};
use crate::model::{Candidate, DaId, EventId, Kind, Span, UserId};
use crate::pixel::TTL_MAX_MS;
use serde::Serialize;
use smallvec::SmallVec;

/// The most pixels of a call.
pub const MAX_PIXELS: usize = 1_000;

/// An event that a pixel counts.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
#[schema(example = json!({"user": "u1", "da": "77", "id": "imp-1", "keys": ["campaign:42"]}))]
pub struct PixelEvent {
    /// Who sees the ad.
    pub user: IdText,
    /// The ad.
    pub da: IdText,
    /// With it the URL counts once, however often it is called.
    pub id: IdText,
    /// `impression` without it
    pub kind: Option<String>,
    /// Keys counted besides the ad's own and those of the catalogue, `<level>:<id>`; at most 16
    pub keys: Option<Vec<String>>,
}

/// The body of `/sign`.
#[derive(Debug, Clone, PartialEq, utoipa::ToSchema)]
#[schema(example = json!({"events": [{"user": "u1", "da": "77", "id": "imp-1", "keys": ["campaign:42"]}], "ttl": "1h"}))]
pub struct SignBody {
    /// At most 1,000
    #[schema(value_type = Vec<PixelEvent>)]
    pub events: Vec<SignedEvent>,
    /// How long the URLs hold: a duration of at most 7d; 1h without it
    #[schema(rename = "ttl", value_type = Option<String>)]
    pub ttl_ms: Option<u64>,
}

/// An event that is to be signed.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedEvent {
    /// Who sees the ad.
    pub user: UserId<'static>,
    /// The ad and its keys.
    pub candidate: Candidate<'static>,
    /// The event's id.
    pub id: EventId<'static>,
    /// What the user does.
    pub kind: Kind,
}

/// The signed URLs.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct SignAnswer {
    /// Path and query of each pixel, in the order of the events: what stands before them is where the service is reached.
    #[schema(example = json!(["/i.gif?e=eyJ1IjoidTEi&s=OP1V4359ybEJwruLesgLRQ"]))]
    pub urls: Vec<String>,
}

fn object(json: &str) -> Result<&str, Reject> {
    if json.trim_ascii_start().as_bytes().first() == Some(&b'{') {
        return Ok(json);
    }
    let value = Raw::new(json)?;
    Err(Reject::new(Reject::NOT_AN_OBJECT, format!("it must be an object, not {}", value.name())))
}

impl SignBody {
    /// Reads the body.
    pub fn read(body: &str) -> Result<Self, Reject> {
        let (mut events, mut ttl) = (None, None);
        members(
            object(json_text(body))?,
            |name| matches!(name, "events" | "ttl").then(|| name == "ttl"),
            |is_ttl, value| {
                *(if is_ttl { &mut ttl } else { &mut events }) = Some(value).filter(|value| !value.is_null());
                Ok(())
            },
        )?;
        let events = events.ok_or_else(|| Reject::new("missing_events", "events is missing"))?;
        Ok(Self { events: read_events(events)?, ttl_ms: ttl.map(read_ttl).transpose()? })
    }
}

fn read_ttl(raw: Raw<'_>) -> Result<u64, Reject> {
    let span = raw.text().and_then(|text| text.parse::<Span>().ok()).map(|span| span.as_millis());
    span.filter(|ms| *ms <= TTL_MAX_MS)
        .ok_or_else(|| Reject::new(Reject::INVALID_TTL, "ttl is not a duration such as 1h, of at most 7d"))
}

fn read_events(raw: Raw<'_>) -> Result<Vec<SignedEvent>, Reject> {
    if !raw.source().starts_with('[') {
        return Err(Reject::new("missing_events", format!("events must be an array, not {}", raw.name())));
    }
    let (mut events, mut count, mut wrong) = (Vec::new(), 0, None);
    elements(raw.source(), |raw| {
        if count < MAX_PIXELS && wrong.is_none() {
            match read_event(raw) {
                Ok(event) => events.push(event),
                Err(Reject { code, detail }) => {
                    wrong = Some(Reject { code, detail: format!("events[{count}]: {detail}") })
                }
            }
        }
        count += 1;
    })?;
    if count > MAX_PIXELS {
        let detail = format!("{count} events are more than the {MAX_PIXELS} that are signed at once");
        return Err(Reject::new("too_many_pixels", detail));
    }
    wrong.map_or(Ok(events), Err)
}

fn read_event(raw: Raw<'_>) -> Result<SignedEvent, Reject> {
    const FIELDS: [&str; 5] = ["user", "da", "id", "kind", "keys"];
    let mut found = [None; FIELDS.len()];
    let look = |name: &str| FIELDS.iter().position(|field| *field == name);
    members(object(raw.source())?, look, |field, value| {
        found[field] = Some(value).filter(|value| !value.is_null());
        Ok(())
    })?;
    let [user, da, id, kind, keys] = found;
    let missing = |code, name: &str| Reject::new(code, format!("{name} is missing"));
    let user = user.ok_or_else(|| missing(Reject::MISSING_USER, "user"))?;
    let da = da.ok_or_else(|| missing(Reject::MISSING_DA, "da"))?;
    let id = id.ok_or_else(|| missing(Reject::MISSING_ID, "id"))?;
    let mut all = SmallVec::new();
    if let Some(raw) = keys {
        if !raw.source().starts_with('[') {
            let detail = format!("keys must be an array of strings, not {}", raw.name());
            return Err(Reject::new(Reject::INVALID_KEY, detail));
        }
        let (mut number, mut added) = (0, Ok(()));
        elements(raw.source(), |raw| {
            if added.is_ok() {
                added = key(number, raw).and_then(|key| add_key(&mut all, key));
            }
            number += 1;
        })?;
        added?;
    }
    let candidate = Candidate { da: id_of(da, DaId::new, Reject::INVALID_DA, "da")?, keys: all, catalogue: false };
    Ok(SignedEvent {
        user: id_of(user, UserId::new, Reject::INVALID_USER, "user")?.into_owned(),
        candidate: candidate.into_owned(),
        id: id_of(id, EventId::new, Reject::INVALID_ID, "id")?.into_owned(),
        kind: kind.map(kind_of).transpose()?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_events_with_ids_and_perhaps_a_ttl() {
        let body = r#"{"events":[{"user":1,"da":"77","id":"i","keys":["c:1","c:1"],"kind":"click"}],"ttl":"7d","x":0}"#;
        let read = SignBody::read(body).unwrap();
        assert_eq!((read.events.len(), read.ttl_ms), (1, Some(TTL_MAX_MS)));
        assert_eq!((read.events[0].user.as_str(), read.events[0].candidate.keys.len()), ("1", 1));
        assert_eq!(SignBody::read(r#"{"events":[]}"#).unwrap(), SignBody { events: vec![], ttl_ms: None });
        let code = |body: &str| SignBody::read(body).unwrap_err().code;
        for (body, expected) in [
            ("[]", "not_an_object"),
            ("{}", "missing_events"),
            (r#"{"events":{}}"#, "missing_events"),
            (r#"{"events":[7]}"#, "not_an_object"),
            (r#"{"events":[],"ttl":"8d"}"#, "invalid_ttl"),
            (r#"{"events":[],"ttl":60}"#, "invalid_ttl"),
            (r#"{"events":[{"da":"1","id":"i"}]}"#, "missing_user"),
            (r#"{"events":[{"user":"u","id":"i"}]}"#, "missing_da"),
            (r#"{"events":[{"user":"u","da":"1"}]}"#, "missing_id"),
            (r#"{"events":[{"user":"u","da":"1","id":"i","keys":["da:1"]}]}"#, "invalid_key"),
            (r#"{"events":[{"user":"u","da":"1","id":"i","kind":"Click"}]}"#, "invalid_kind"),
        ] {
            assert_eq!(code(body), expected, "{body}");
        }
        let many =
            |count: usize| format!(r#"{{"events":[{}]}}"#, vec![r#"{"user":"u","da":"1","id":"i"}"#; count].join(","));
        assert!(SignBody::read(&many(1_000)).is_ok());
        assert_eq!(code(&many(1_001)), "too_many_pixels");
    }
}
