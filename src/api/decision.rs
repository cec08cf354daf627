//! The bodies of `/check`, `/reserve` and `/release`: what an ad server asks before it shows an ad. A body is read into the
//! type that the document describes it by.

use super::text::{IdText, InstantText};
use crate::input::{Raw, Reject, add_key, body_hash, elements, id_of, instant_of, json_text, key, kind_of, members};
use crate::model::{Candidate, DaId, EventId, Kind, MAX_KEYS, Span, TsMs, UserId};
use serde::Serialize;
use smallvec::SmallVec;

/// The most candidates of a call.
pub const MAX_CANDIDATES: usize = 1_000;
/// The most candidates of a call that asks for explanations.
pub const MAX_EXPLAINED: usize = 50;
/// The longest that a reservation holds, in ms.
pub const MAX_TTL_MS: u64 = 3_600_000;
const DEFAULT_TTL_MS: u64 = 60_000;

/// An ad that may be shown.
// The form of a [`Candidate`], which is what is read.
#[derive(Serialize, utoipa::ToSchema)]
#[allow(dead_code)]
#[serde(untagged)]
pub enum CandidateBody {
    /// An ad alone.
    Ad(IdText),
    /// An ad with the keys that are judged besides its own: at most 16, each `<level>:<id>`.
    WithKeys {
        /// The ad.
        da: IdText,
        /// Keys besides the ad's own
        keys: Vec<String>,
        /// `false`: only these, not those that the catalogue has of the ad
        catalogue: Option<bool>,
    },
}

/// The body of `/check`: which of these ads may this user see?
#[derive(Debug, Clone, PartialEq, utoipa::ToSchema)]
#[schema(example = json!({"user": "u1", "candidates": ["77", {"da": "78", "keys": ["campaign:42"]}]}))]
pub struct CheckBody<'a> {
    /// The user.
    #[schema(value_type = IdText)]
    pub user: UserId<'a>,
    /// At most 1,000.
    #[schema(value_type = Vec<CandidateBody>)]
    pub candidates: Vec<Candidate<'a>>,
    /// The instant asked about; now without it
    #[schema(value_type = Option<InstantText>)]
    pub at: Option<TsMs>,
    /// Only rules of this kind
    #[schema(value_type = Option<String>)]
    pub kind: Option<Kind>,
    /// Whether each verdict is explained (`why`); then at most 50 candidates
    #[schema(value_type = Option<bool>)]
    pub explain: bool,
    /// `false`: only the keys named here are judged, not those that the catalogue has of the ads
    #[schema(value_type = Option<bool>)]
    pub catalogue: bool,
    /// Whether each candidate that is not capped gets a signed URL of its pixel
    #[schema(value_type = Option<bool>)]
    pub pixel: bool,
}

impl CheckBody<'_> {
    /// The same, independent of the text it was read from.
    pub fn into_owned(self) -> CheckBody<'static> {
        let candidates = self.candidates.into_iter().map(Candidate::into_owned).collect();
        CheckBody { user: self.user.into_owned(), candidates, ..self }
    }
}

/// The body of `/reserve`: reserve the first of these ads that this user may see.
#[derive(Debug, Clone, PartialEq, utoipa::ToSchema)]
#[schema(example = json!({"user": "u1", "candidates": ["77", {"da": "78", "keys": ["campaign:42"]}], "want": 1, "ttl": "60s", "id": "req-9"}))]
pub struct ReserveBody<'a> {
    /// The user.
    #[schema(value_type = IdText)]
    pub user: UserId<'a>,
    /// In the order of preference, at most 1,000. One named twice is judged twice.
    #[schema(value_type = Vec<CandidateBody>)]
    pub candidates: Vec<Candidate<'a>>,
    /// How many to reserve; 1 without it
    #[schema(value_type = Option<u64>)]
    pub want: usize,
    /// How long it holds unless it is confirmed: a duration of at most 1h, 60s without it; null counts for good
    #[schema(rename = "ttl", value_type = Option<String>)]
    pub ttl_ms: Option<u64>,
    /// Of this call and of the events that confirm it; one is made up without it
    #[schema(value_type = Option<IdText>)]
    pub id: Option<EventId<'a>>,
    /// What the confirming events are; `impression` without it
    #[schema(value_type = Option<String>)]
    pub kind: Kind,
    /// `false`: only the keys named here are judged and counted, not those that the catalogue has of the ads
    #[schema(value_type = Option<bool>)]
    pub catalogue: bool,
    /// Whether each candidate that is reserved gets a signed URL of its pixel, which confirms it
    #[schema(value_type = Option<bool>)]
    pub pixel: bool,
    /// Hash of the body as a JSON value: tells a repeated call from another one with its id.
    #[schema(ignore)]
    pub body_hash: u128,
}

impl ReserveBody<'_> {
    /// The same, independent of the text it was read from.
    pub fn into_owned(self) -> ReserveBody<'static> {
        ReserveBody {
            user: self.user.into_owned(),
            candidates: self.candidates.into_iter().map(Candidate::into_owned).collect(),
            id: self.id.map(EventId::into_owned),
            want: self.want,
            ttl_ms: self.ttl_ms,
            kind: self.kind,
            catalogue: self.catalogue,
            pixel: self.pixel,
            body_hash: self.body_hash,
        }
    }
}

/// The body of `/release`: give back what is reserved under an id.
#[derive(Debug, Clone, PartialEq, utoipa::ToSchema)]
#[schema(example = json!({"user": "u1", "id": "req-9"}))]
pub struct ReleaseBody<'a> {
    /// The user.
    #[schema(value_type = IdText)]
    pub user: UserId<'a>,
    /// The id of the call of `/reserve`.
    #[schema(value_type = IdText)]
    pub id: EventId<'a>,
    /// Only what is reserved of this ad
    #[schema(value_type = Option<IdText>)]
    pub da: Option<DaId<'a>>,
}

impl ReleaseBody<'_> {
    /// The same, independent of the text it was read from.
    pub fn into_owned(self) -> ReleaseBody<'static> {
        ReleaseBody { user: self.user.into_owned(), id: self.id.into_owned(), da: self.da.map(DaId::into_owned) }
    }
}

/// The members that a body may have; others are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    User,
    Candidates,
    Kind,
    At,
    Want,
    Ttl,
    Id,
    Da,
    Explain,
    Catalogue,
    Pixel,
}

impl Field {
    const COUNT: usize = 11;

    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "user" => Self::User,
            "candidates" => Self::Candidates,
            "kind" => Self::Kind,
            "at" => Self::At,
            "want" => Self::Want,
            "ttl" => Self::Ttl,
            "id" => Self::Id,
            "da" => Self::Da,
            "explain" => Self::Explain,
            "catalogue" => Self::Catalogue,
            "pixel" => Self::Pixel,
            _ => return None,
        })
    }
}

/// The members of a body, not parsed yet. Of two with one name the last counts.
struct Members<'a>([Option<Raw<'a>>; Field::COUNT]);

impl<'a> Members<'a> {
    fn read(body: &'a str) -> Result<Self, Reject> {
        let body = json_text(body);
        if body.trim_ascii_start().as_bytes().first() != Some(&b'{') {
            let value = Raw::new(body)?;
            return Err(Reject::new(Reject::NOT_AN_OBJECT, format!("the body is an object, not {}", value.name())));
        }
        let mut found = [None; Field::COUNT];
        members(body, Field::named, |field, value| {
            found[field as usize] = Some(value);
            Ok(())
        })?;
        Ok(Self(found))
    }

    /// A member; null is as absent.
    fn get(&self, field: Field) -> Option<Raw<'a>> {
        self.0[field as usize].filter(|value| !value.is_null())
    }

    fn user(&self) -> Result<UserId<'a>, Reject> {
        let raw = self.get(Field::User).ok_or_else(|| Reject::new(Reject::MISSING_USER, "user is missing"))?;
        id_of(raw, UserId::new, Reject::INVALID_USER, "user")
    }

    fn kind(&self) -> Result<Option<Kind>, Reject> {
        self.get(Field::Kind).map(kind_of).transpose()
    }

    fn id(&self) -> Result<Option<EventId<'a>>, Reject> {
        self.get(Field::Id).map(|raw| id_of(raw, EventId::new, Reject::INVALID_ID, "id")).transpose()
    }

    fn flag(&self, field: Field, name: &str, default: bool, code: &'static str) -> Result<bool, Reject> {
        self.get(field).map_or(Ok(default), |raw| flag(raw, name, code))
    }

    /// Whether the catalogue's keys belong to candidates that do not say otherwise.
    fn catalogue(&self) -> Result<bool, Reject> {
        self.flag(Field::Catalogue, "catalogue", true, Reject::INVALID_CATALOGUE)
    }

    fn pixel(&self) -> Result<bool, Reject> {
        self.flag(Field::Pixel, "pixel", false, Reject::INVALID_PIXEL)
    }

    fn candidates(&self, catalogue: bool) -> Result<Vec<Candidate<'a>>, Reject> {
        let Some(raw) = self.get(Field::Candidates) else {
            return Err(Reject::new(Reject::MISSING_CANDIDATES, "candidates is missing"));
        };
        if !raw.source().starts_with('[') {
            let detail = format!("candidates must be an array, not {}", raw.name());
            return Err(Reject::new(Reject::INVALID_CANDIDATES, detail));
        }
        let mut candidates = Vec::new();
        let (mut count, mut wrong) = (0, None);
        elements(raw.source(), |raw| {
            if count < MAX_CANDIDATES && wrong.is_none() {
                match candidate(count, raw, catalogue) {
                    Ok(candidate) => candidates.push(candidate),
                    Err(why) => wrong = Some(why),
                }
            }
            count += 1;
        })?;
        if count > MAX_CANDIDATES {
            let detail = format!("{count} candidates are more than {MAX_CANDIDATES}");
            return Err(Reject::new(Reject::TOO_MANY_CANDIDATES, detail));
        }
        wrong.map_or(Ok(candidates), Err)
    }
}

/// A candidate: an ad's id alone, or an object with its keys.
fn candidate(number: usize, raw: Raw<'_>, catalogue: bool) -> Result<Candidate<'_>, Reject> {
    read_candidate(raw, catalogue)
        .map_err(|Reject { code, detail }| Reject { code, detail: format!("candidates[{number}]: {detail}") })
}

fn read_candidate(raw: Raw<'_>, catalogue: bool) -> Result<Candidate<'_>, Reject> {
    if !raw.source().starts_with('{') {
        return Ok(Candidate {
            da: id_of(raw, DaId::new, Reject::INVALID_DA, "da")?,
            keys: SmallVec::new(),
            catalogue,
        });
    }
    const FIELDS: [&str; 3] = ["da", "keys", "catalogue"];
    let mut found = [None; FIELDS.len()];
    members(
        raw.source(),
        |name| FIELDS.iter().position(|field| *field == name),
        |field, value| {
            found[field] = Some(value).filter(|value| !value.is_null());
            Ok(())
        },
    )?;
    let [da, keys, told] = found;
    let catalogue = told.map_or(Ok(catalogue), |raw| flag(raw, "catalogue", Reject::INVALID_CATALOGUE))?;
    let da = da.ok_or_else(|| Reject::new(Reject::MISSING_DA, "da is missing"))?;
    let da = id_of(da, DaId::new, Reject::INVALID_DA, "da")?;
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
    debug_assert!(all.len() <= MAX_KEYS);
    Ok(Candidate { da, keys: all, catalogue })
}

impl<'a> CheckBody<'a> {
    /// Reads the body of `/check`.
    pub fn read(body: &'a str) -> Result<Self, Reject> {
        let found = Members::read(body)?;
        let at = found.get(Field::At).map(|raw| {
            let detail =
                "at is neither an integer of milliseconds since 1970, between 10^11 and 10^14, nor RFC 3339 text";
            instant_of(raw).ok_or_else(|| Reject::new(Reject::INVALID_AT, detail))
        });
        let explain = found.flag(Field::Explain, "explain", false, Reject::INVALID_EXPLAIN)?;
        let (catalogue, pixel) = (found.catalogue()?, found.pixel()?);
        let candidates = found.candidates(catalogue)?;
        if explain && candidates.len() > MAX_EXPLAINED {
            let detail =
                format!("{} candidates are more than the {MAX_EXPLAINED} that are explained", candidates.len());
            return Err(Reject::new(Reject::TOO_MANY_CANDIDATES, detail));
        }
        Ok(Self {
            user: found.user()?,
            candidates,
            kind: found.kind()?,
            at: at.transpose()?,
            explain,
            catalogue,
            pixel,
        })
    }
}

impl<'a> ReserveBody<'a> {
    /// Reads the body of `/reserve`.
    pub fn read(body: &'a str) -> Result<Self, Reject> {
        let found = Members::read(body)?;
        let ttl_ms = match found.0[Field::Ttl as usize] {
            Some(raw) if raw.is_null() => None,
            Some(raw) => Some(ttl(raw)?),
            None => Some(DEFAULT_TTL_MS),
        };
        let catalogue = found.catalogue()?;
        Ok(Self {
            user: found.user()?,
            candidates: found.candidates(catalogue)?,
            want: found.get(Field::Want).map_or(Ok(1), want)?,
            ttl_ms,
            id: found.id()?,
            kind: found.kind()?.unwrap_or_default(),
            catalogue,
            pixel: found.pixel()?,
            body_hash: body_hash(json_text(body))?,
        })
    }
}

fn flag(raw: Raw<'_>, name: &str, code: &'static str) -> Result<bool, Reject> {
    raw.source().parse().map_err(|_| Reject::new(code, format!("{name} is neither true nor false")))
}

fn want(raw: Raw<'_>) -> Result<usize, Reject> {
    let want = raw.integer().and_then(|digits| digits.parse().ok()).filter(|want| *want > 0);
    want.ok_or_else(|| Reject::new(Reject::INVALID_WANT, "want is not a positive integer"))
}

fn ttl(raw: Raw<'_>) -> Result<u64, Reject> {
    let span = raw.text().and_then(|text| text.parse::<Span>().ok()).map(|span| span.as_millis());
    match span {
        Some(ms) if ms <= MAX_TTL_MS => Ok(ms),
        _ => Err(Reject::new(Reject::INVALID_TTL, "ttl is neither a duration such as 60s, of at most 1h, nor null")),
    }
}

impl<'a> ReleaseBody<'a> {
    /// Reads the body of `/release`.
    pub fn read(body: &'a str) -> Result<Self, Reject> {
        let found = Members::read(body)?;
        let da = found.get(Field::Da).map(|raw| id_of(raw, DaId::new, Reject::INVALID_DA, "da")).transpose()?;
        let user = found.user()?;
        let id = found.id()?.ok_or_else(|| Reject::new(Reject::MISSING_ID, "id is missing"))?;
        Ok(Self { user, id, da })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T: std::fmt::Debug>(read: Result<T, Reject>) -> &'static str {
        read.unwrap_err().code
    }

    #[test]
    fn a_candidate_is_an_id_or_an_object_with_keys() {
        let body = r#"{"user":5,"candidates":["77",78,{"da":"79","keys":["c:1","c:2","c:1"]},{"da":80,"keys":null}],
            "at":1732233600000,"kind":null,"other":[{}]}"#;
        let request = CheckBody::read(body).unwrap();
        assert_eq!((request.user.as_str(), request.kind), ("5", None));
        assert_eq!(request.at, Some(TsMs(1_732_233_600_000)));
        let told = request.candidates.iter().map(|it| {
            let keys = it.keys.iter().map(|key| key.as_str().to_owned()).collect::<Vec<_>>().join(" ");
            format!("{} {keys}", it.da)
        });
        assert_eq!(told.collect::<Vec<_>>(), ["77 ", "78 ", "79 c:1 c:2", "80 "]);
    }

    #[test]
    fn the_catalogue_is_asked_unless_the_call_or_the_candidate_says_otherwise() {
        for (body, expected) in [
            (r#"{"user":"u","candidates":["1",{"da":"2"},{"da":"3","catalogue":false}]}"#, [true, true, false]),
            (
                r#"{"user":"u","candidates":["1",{"da":"2"},{"da":"3","catalogue":true}],"catalogue":false}"#,
                [false, false, true],
            ),
            (r#"{"user":"u","catalogue":null,"candidates":["1","2",{"da":"3","catalogue":null}]}"#, [true; 3]),
        ] {
            let of = |candidates: &[Candidate<'_>]| candidates.iter().map(|it| it.catalogue).collect::<Vec<_>>();
            assert_eq!(of(&CheckBody::read(body).unwrap().candidates), expected, "{body}");
            assert_eq!(of(&ReserveBody::read(body).unwrap().candidates), expected, "{body}");
        }
    }

    #[test]
    fn an_instant_is_an_integer_in_quotes_or_not_or_text_of_a_date() {
        for at in ["1732233600000", "\"1732233600000\"", "\"2024-11-22T00:00:00Z\"", "\"2024-11-22 09:00+0900\""] {
            let body = format!(r#"{{"user":"u","candidates":[],"at":{at}}}"#);
            assert_eq!(CheckBody::read(&body).unwrap().at, Some(TsMs(1_732_233_600_000)), "{at}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_check_is_told() {
        for (body, expected) in [
            ("{", "invalid_json"),
            ("[1]", "not_an_object"),
            (r#"{"candidates":[]}"#, "missing_user"),
            (r#"{"user":"","candidates":[]}"#, "invalid_user"),
            (r#"{"user":"u"}"#, "missing_candidates"),
            (r#"{"user":"u","candidates":"77"}"#, "invalid_candidates"),
            (r#"{"user":"u","candidates":[1.5]}"#, "invalid_da"),
            (r#"{"user":"u","candidates":[{}]}"#, "missing_da"),
            (r#"{"user":"u","candidates":[{"da":"1","keys":["da:2"]}]}"#, "invalid_key"),
            (r#"{"user":"u","candidates":[{"da":"1","keys":"c:2"}]}"#, "invalid_key"),
            (r#"{"user":"u","candidates":[],"kind":"Click"}"#, "invalid_kind"),
            (r#"{"user":"u","candidates":[],"at":5}"#, "invalid_at"),
            (r#"{"user":"u","candidates":[],"at":"1732233600000.0"}"#, "invalid_at"),
            (r#"{"user":"u","candidates":[],"at":"soon"}"#, "invalid_at"),
            (r#"{"user":"u","candidates":[],"explain":1}"#, "invalid_explain"),
            (r#"{"user":"u","candidates":[],"explain":"true"}"#, "invalid_explain"),
            (r#"{"user":"u","candidates":[],"catalogue":0}"#, "invalid_catalogue"),
            (r#"{"user":"u","candidates":[{"da":"1","catalogue":"no"}]}"#, "invalid_catalogue"),
            (r#"{"user":"u","candidates":[],"pixel":1}"#, "invalid_pixel"),
        ] {
            assert_eq!(code(CheckBody::read(body)), expected, "{body}");
        }
        let many = format!(r#"{{"user":"u","candidates":[{}]}}"#, vec!["1"; 1_001].join(","));
        assert_eq!(code(CheckBody::read(&many)), "too_many_candidates");
        let most = format!(r#"{{"user":"u","candidates":[{}]}}"#, vec!["1"; 1_000].join(","));
        assert_eq!(CheckBody::read(&most).unwrap().candidates.len(), 1_000);
        for (count, expected) in [(50, None), (51, Some("too_many_candidates"))] {
            let ads = vec!["1"; count].join(",");
            let body = format!(r#"{{"user":"u","candidates":[{ads}],"explain":true}}"#);
            assert_eq!(CheckBody::read(&body).err().map(|why| why.code), expected, "{count}");
        }
    }

    #[test]
    fn a_reservation_wants_one_for_a_minute_unless_told_otherwise() {
        let plain = ReserveBody::read(r#"{"user":"u","candidates":["1"]}"#).unwrap();
        assert_eq!((plain.want, plain.ttl_ms, plain.id, plain.kind), (1, Some(60_000), None, Kind::IMPRESSION));
        let told = r#"{"user":"u","candidates":["1"],"want":3,"ttl":"1h","id":7,"kind":"click"}"#;
        let told = ReserveBody::read(told).unwrap();
        assert_eq!((told.want, told.ttl_ms, told.kind), (3, Some(3_600_000), Kind::CLICK));
        assert_eq!(told.id.unwrap().as_str(), "7");
        let for_good = ReserveBody::read(r#"{"user":"u","candidates":[],"ttl":null}"#).unwrap();
        assert_eq!(for_good.ttl_ms, None);
        for (member, expected) in [
            (r#""want":0"#, "invalid_want"),
            (r#""want":1.0"#, "invalid_want"),
            (r#""want":"1""#, "invalid_want"),
            (r#""ttl":"61m""#, "invalid_ttl"),
            (r#""ttl":60"#, "invalid_ttl"),
            (r#""ttl":"0s""#, "invalid_ttl"),
            (r#""id":"*""#, "invalid_id"),
        ] {
            let body = format!(r#"{{"user":"u","candidates":[],{member}}}"#);
            assert_eq!(code(ReserveBody::read(&body)), expected, "{body}");
        }
    }

    #[test]
    fn a_release_names_an_id_and_may_name_an_ad() {
        let release = ReleaseBody::read(r#"{"user":"u","id":"r","da":77}"#).unwrap();
        assert_eq!((release.id.as_str(), release.da.unwrap().as_str()), ("r", "77"));
        assert_eq!(code(ReleaseBody::read(r#"{"user":"u"}"#)), "missing_id");
    }
}
