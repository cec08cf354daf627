//! The bodies of `/check`, `/reserve` and `/release`: what an ad server asks before it shows an ad.

use super::canonical::body_hash;
use super::json::{Raw, elements, json_text, members};
use super::read::{Reject, id_of, instant_of, key, kind_of};
use crate::model::{Candidate, DaId, EventId, Kind, MAX_KEYS, Span, TsMs, UserId};
use smallvec::SmallVec;

/// The most candidates of a call.
pub const MAX_CANDIDATES: usize = 1_000;
/// The longest that a reservation holds, in ms.
pub const MAX_TTL_MS: u64 = 3_600_000;
const DEFAULT_TTL_MS: u64 = 60_000;

/// Which of these ads may this user see?
#[derive(Debug, Clone, PartialEq)]
pub struct CheckRequest<'a> {
    pub user: UserId<'a>,
    pub candidates: Vec<Candidate<'a>>,
    pub kind: Option<Kind>,
    pub at: Option<TsMs>,
}

impl CheckRequest<'_> {
    pub fn into_owned(self) -> CheckRequest<'static> {
        let candidates = self.candidates.into_iter().map(Candidate::into_owned).collect();
        CheckRequest { user: self.user.into_owned(), candidates, kind: self.kind, at: self.at }
    }
}

/// Reserve the first of these ads that this user may see.
#[derive(Debug, Clone, PartialEq)]
pub struct ReserveRequest<'a> {
    pub user: UserId<'a>,
    pub candidates: Vec<Candidate<'a>>,
    pub want: usize,
    /// In ms; `None` is for good.
    pub ttl_ms: Option<u64>,
    pub id: Option<EventId<'a>>,
    pub kind: Kind,
    /// Of the body as a JSON value.
    pub body_hash: u128,
}

impl ReserveRequest<'_> {
    pub fn into_owned(self) -> ReserveRequest<'static> {
        ReserveRequest {
            user: self.user.into_owned(),
            candidates: self.candidates.into_iter().map(Candidate::into_owned).collect(),
            id: self.id.map(EventId::into_owned),
            want: self.want,
            ttl_ms: self.ttl_ms,
            kind: self.kind,
            body_hash: self.body_hash,
        }
    }
}

/// Give back what is reserved under an id.
#[derive(Debug, Clone, PartialEq)]
pub struct ReleaseRequest<'a> {
    pub user: UserId<'a>,
    pub id: EventId<'a>,
    pub da: Option<DaId<'a>>,
}

impl ReleaseRequest<'_> {
    pub fn into_owned(self) -> ReleaseRequest<'static> {
        ReleaseRequest { user: self.user.into_owned(), id: self.id.into_owned(), da: self.da.map(DaId::into_owned) }
    }
}

/// Which members a body may have; other ones are ignored.
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
}

impl Field {
    const COUNT: usize = 8;

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
            _ => return None,
        })
    }
}

/// The members of a body, not yet understood; of two of one name the last.
struct Found<'a>([Option<Raw<'a>>; Field::COUNT]);

impl<'a> Found<'a> {
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

    fn candidates(&self) -> Result<Vec<Candidate<'a>>, Reject> {
        let missing = || Reject::new(Reject::MISSING_CANDIDATES, "candidates is missing");
        let raw = self.get(Field::Candidates).ok_or_else(missing)?;
        if !raw.source().starts_with('[') {
            let detail = format!("candidates must be an array, not {}", raw.name());
            return Err(Reject::new(Reject::INVALID_CANDIDATES, detail));
        }
        let mut candidates = Vec::new();
        let (mut count, mut wrong) = (0, None);
        elements(raw.source(), |raw| {
            if count < MAX_CANDIDATES && wrong.is_none() {
                match candidate(count, raw) {
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
fn candidate(number: usize, raw: Raw<'_>) -> Result<Candidate<'_>, Reject> {
    let place = |Reject { code, detail }: Reject| Reject { code, detail: format!("candidates[{number}]: {detail}") };
    read_candidate(raw).map_err(place)
}

fn read_candidate(raw: Raw<'_>) -> Result<Candidate<'_>, Reject> {
    if !raw.source().starts_with('{') {
        return Ok(Candidate { da: id_of(raw, DaId::new, Reject::INVALID_DA, "da")?, keys: SmallVec::new() });
    }
    let (mut da, mut keys) = (None, None);
    let named = |name: &str| matches!(name, "da" | "keys").then(|| name == "da");
    members(raw.source(), named, |is_da, value| {
        *(if is_da { &mut da } else { &mut keys }) = Some(value).filter(|value| !value.is_null());
        Ok(())
    })?;
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
                added = key(number, raw).and_then(|key| super::read::add(&mut all, key));
            }
            number += 1;
        })?;
        added?;
    }
    debug_assert!(all.len() <= MAX_KEYS);
    Ok(Candidate { da, keys: all })
}

impl<'a> CheckRequest<'a> {
    /// Reads the body of `/check`.
    pub fn read(body: &'a str) -> Result<Self, Reject> {
        let found = Found::read(body)?;
        let at = found.get(Field::At).map(|raw| {
            let detail =
                "at is neither an integer of milliseconds since 1970, between 10^11 and 10^14, nor RFC 3339 text";
            instant_of(raw).ok_or_else(|| Reject::new(Reject::INVALID_AT, detail))
        });
        Ok(Self { user: found.user()?, candidates: found.candidates()?, kind: found.kind()?, at: at.transpose()? })
    }
}

impl<'a> ReserveRequest<'a> {
    /// Reads the body of `/reserve`.
    pub fn read(body: &'a str) -> Result<Self, Reject> {
        let found = Found::read(body)?;
        let ttl_ms = match found.0[Field::Ttl as usize] {
            Some(raw) if raw.is_null() => None,
            Some(raw) => Some(ttl(raw)?),
            None => Some(DEFAULT_TTL_MS),
        };
        Ok(Self {
            user: found.user()?,
            candidates: found.candidates()?,
            want: found.get(Field::Want).map_or(Ok(1), want)?,
            ttl_ms,
            id: found.id()?,
            kind: found.kind()?.unwrap_or_default(),
            body_hash: body_hash(json_text(body))?,
        })
    }
}

fn want(raw: Raw<'_>) -> Result<usize, Reject> {
    let want = raw.integer().and_then(|digits| digits.parse().ok()).filter(|want| *want > 0);
    want.ok_or_else(|| Reject::new(Reject::INVALID_WANT, "want is not a positive integer"))
}

fn ttl(raw: Raw<'_>) -> Result<u64, Reject> {
    let span = raw.text().and_then(|text| text.parse::<Span>().ok()).map(|span| span.as_millis());
    let wrong = || Reject::new(Reject::INVALID_TTL, "ttl is neither a duration such as 60s, of at most 1h, nor null");
    span.filter(|ms| *ms <= MAX_TTL_MS).ok_or_else(wrong)
}

impl<'a> ReleaseRequest<'a> {
    /// Reads the body of `/release`.
    pub fn read(body: &'a str) -> Result<Self, Reject> {
        let found = Found::read(body)?;
        let da = found.get(Field::Da).map(|raw| id_of(raw, DaId::new, Reject::INVALID_DA, "da")).transpose()?;
        let missing = || Reject::new(Reject::MISSING_ID, "id is missing");
        Ok(Self { user: found.user()?, id: found.id()?.ok_or_else(missing)?, da })
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
        let request = CheckRequest::read(body).unwrap();
        assert_eq!((request.user.as_str(), request.kind), ("5", None));
        assert_eq!(request.at, Some(TsMs(1_732_233_600_000)));
        let told = request.candidates.iter().map(|it| {
            let keys = it.keys.iter().map(|key| key.as_str().to_owned()).collect::<Vec<_>>().join(" ");
            format!("{} {keys}", it.da)
        });
        assert_eq!(told.collect::<Vec<_>>(), ["77 ", "78 ", "79 c:1 c:2", "80 "]);
    }

    #[test]
    fn an_instant_is_an_integer_in_quotes_or_not_or_text_of_a_date() {
        for at in ["1732233600000", "\"1732233600000\"", "\"2024-11-22T00:00:00Z\"", "\"2024-11-22 09:00+0900\""] {
            let body = format!(r#"{{"user":"u","candidates":[],"at":{at}}}"#);
            assert_eq!(CheckRequest::read(&body).unwrap().at, Some(TsMs(1_732_233_600_000)), "{at}");
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
        ] {
            assert_eq!(code(CheckRequest::read(body)), expected, "{body}");
        }
        let many = format!(r#"{{"user":"u","candidates":[{}]}}"#, vec!["1"; 1_001].join(","));
        assert_eq!(code(CheckRequest::read(&many)), "too_many_candidates");
        let most = format!(r#"{{"user":"u","candidates":[{}]}}"#, vec!["1"; 1_000].join(","));
        assert_eq!(CheckRequest::read(&most).unwrap().candidates.len(), 1_000);
    }

    #[test]
    fn a_reservation_wants_one_for_a_minute_unless_told_otherwise() {
        let plain = ReserveRequest::read(r#"{"user":"u","candidates":["1"]}"#).unwrap();
        assert_eq!((plain.want, plain.ttl_ms, plain.id, plain.kind), (1, Some(60_000), None, Kind::IMPRESSION));
        let told = r#"{"user":"u","candidates":["1"],"want":3,"ttl":"1h","id":7,"kind":"click"}"#;
        let told = ReserveRequest::read(told).unwrap();
        assert_eq!((told.want, told.ttl_ms, told.kind), (3, Some(3_600_000), Kind::CLICK));
        assert_eq!(told.id.unwrap().as_str(), "7");
        let for_good = ReserveRequest::read(r#"{"user":"u","candidates":[],"ttl":null}"#).unwrap();
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
            assert_eq!(code(ReserveRequest::read(&body)), expected, "{body}");
        }
    }

    #[test]
    fn a_release_names_an_id_and_may_name_an_ad() {
        let release = ReleaseRequest::read(r#"{"user":"u","id":"r","da":77}"#).unwrap();
        assert_eq!((release.id.as_str(), release.da.unwrap().as_str()), ("r", "77"));
        assert_eq!(code(ReleaseRequest::read(r#"{"user":"u"}"#)), "missing_id");
    }
}
