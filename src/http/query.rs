//! Parses paths and query strings strictly: text that is not UTF-8 is an error, not another id.

use super::problem::Problem;
use crate::api::InstantText;
use crate::engine::Question;
use crate::model::{Candidate, CapKey, DaId, Kind, MAX_KEYS, TsMs, UserId};
use crate::service::AuditCursor;
use crate::shard::PageStart;
use percent_encoding::percent_decode;
use smallvec::SmallVec;
use std::borrow::Cow;

/// Decodes `%XX` of a path segment or a query part.
fn decode(raw: &str) -> Result<Cow<'_, str>, Problem> {
    let whole = raw.match_indices('%').all(|(at, _)| {
        let digits = raw.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    let text = percent_decode(raw.as_bytes()).decode_utf8().ok().filter(|_| whole);
    text.ok_or_else(|| {
        Problem::bad_request("invalid_percent_encoding", format!("{raw:?} is not percent-encoded UTF-8"))
    })
}

/// The segments of a path after the first, decoded: `/cap/a%2Fb/77` gives `a/b` and `77`.
pub(super) fn segments(path: &str) -> Result<Vec<String>, Problem> {
    path.split('/').skip(2).map(|segment| Ok(decode(segment)?.into_owned())).collect()
}

/// The name-value pairs of a query string; `+` is a space, as HTML forms write it.
fn pairs(query: &str) -> impl Iterator<Item = Result<(String, String), Problem>> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode_part(name)?, decode_part(value)?))
    })
}

fn decode_part(raw: &str) -> Result<String, Problem> {
    decode(&raw.replace('+', " ")).map(Cow::into_owned)
}

/// The user that is the path's second segment.
pub(super) fn user_of_path(path: &str) -> Result<UserId<'static>, Problem> {
    user(segments(path)?.into_iter().next().unwrap_or_default())
}

/// Prefix of a cursor whose page begins among the calls. No key begins with it.
const CALL: char = '/';

/// Writes where a page begins as a cursor.
pub(super) fn cursor(start: &PageStart) -> String {
    match start {
        PageStart::Log(key) => key.clone(),
        PageStart::Call(id) => format!("{CALL}{id}"),
    }
}

#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
pub(super) struct PageParams {
    /// The most logs and calls of an answer, 1 to 1,000; 100 without it. A page ends sooner where it has 10,000 events
    limit: Option<u32>,
    /// Where to go on: `cursor` of the answer before
    cursor: Option<String>,
}

/// Reads `cursor` and `limit`: where a page begins, and its maximum of logs and calls.
pub(super) fn page(query: &str, most: usize) -> Result<(Option<PageStart>, usize), Problem> {
    let (mut cursor, mut limit) = (None, most.min(100));
    for pair in pairs(query) {
        let (name, value) = pair?;
        match name.as_str() {
            "cursor" => {
                cursor = Some(match value.strip_prefix(CALL) {
                    Some(id) => PageStart::Call(id.to_owned()),
                    None if CapKey::new(value.as_str()).is_ok() => PageStart::Log(value),
                    None => {
                        return Err(Problem::unprocessable("invalid_cursor", "cursor is none that an answer has had"));
                    }
                });
            }
            "limit" => limit = limit_of(&value, most)?,
            _ => {}
        }
    }
    Ok((cursor, limit))
}

#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
pub(super) struct AuditParams {
    /// Only lines from this instant on: an integer in ms, or text (RFC 3339)
    #[param(value_type = Option<String>)]
    since: Option<TsMs>,
    /// The most lines of an answer, 1 to 1,000; 100 without it
    limit: Option<u32>,
    /// Where to go on: `cursor` of the answer before
    cursor: Option<String>,
}

/// Which lines of the audit are asked for.
pub(super) struct AuditQuery {
    /// Where an earlier answer ended.
    pub after: Option<AuditCursor>,
    pub since: TsMs,
    pub limit: usize,
}

/// Reads `since`, `limit` and `cursor`.
pub(super) fn audit(query: &str, most: usize) -> Result<AuditQuery, Problem> {
    let mut asked = AuditQuery { after: None, since: TsMs(0), limit: most.min(100) };
    for pair in pairs(query) {
        let (name, value) = pair?;
        match name.as_str() {
            "since" if value == "0" => asked.since = TsMs(0),
            "since" => {
                let wrong = |_| Problem::unprocessable("invalid_since", "since is no instant");
                asked.since = TsMs::from_text(&value).map_err(wrong)?;
            }
            "cursor" => {
                let wrong = |_| Problem::unprocessable("invalid_cursor", "cursor is none that an answer has had");
                asked.after = Some(value.parse().map_err(wrong)?);
            }
            "limit" => asked.limit = limit_of(&value, most)?,
            _ => {}
        }
    }
    Ok(asked)
}

fn limit_of(text: &str, most: usize) -> Result<usize, Problem> {
    let wrong = || Problem::unprocessable("invalid_limit", format!("limit is not an integer from 1 to {most}"));
    text.parse().ok().filter(|limit| (1..=most).contains(limit)).ok_or_else(wrong)
}

pub(super) fn user(text: String) -> Result<UserId<'static>, Problem> {
    UserId::new(text).map_err(|why| Problem::unprocessable("invalid_user", format!("user {why}")))
}

pub(super) fn da(text: String) -> Result<DaId<'static>, Problem> {
    DaId::new(text).map_err(|why| Problem::unprocessable("invalid_da", format!("da {why}")))
}

fn at(text: &str) -> Result<TsMs, Problem> {
    TsMs::from_text(text).map_err(|why| Problem::unprocessable("invalid_at", format!("at {text:?} {why}")))
}

/// Adds a key unless it is there already. The order of the request is kept.
fn add_key<'a>(keys: &mut SmallVec<[CapKey<'a>; 2]>, text: impl Into<Cow<'a, str>>) -> Result<(), Problem> {
    let text = text.into();
    let key = CapKey::extra(text.clone())
        .map_err(|why| Problem::unprocessable("invalid_key", format!("key {text:?} {why}")))?;
    if keys.contains(&key) {
        return Ok(());
    }
    if keys.len() == MAX_KEYS {
        return Err(Problem::unprocessable("too_many_keys", format!("more than {MAX_KEYS} keys are named")));
    }
    keys.push(key);
    Ok(())
}

/// The query of `GET /cap` besides user and ad, as documented; [`ad_query`] reads it.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
pub(super) struct CapParams {
    /// A key to judge besides the ad's own, such as `campaign:42`; at most 16, by naming it again
    #[param(example = json!(["campaign:42"]))]
    key: Option<Vec<String>>,
    /// Only rules of this kind
    #[param(example = "impression")]
    kind: Option<String>,
    /// The instant asked about, in ms since 1970 or as RFC 3339 text; now without it
    #[param(inline)]
    at: Option<InstantText>,
    /// Whether the verdict is explained (`why`)
    explain: Option<bool>,
}

/// What `GET /cap` asks.
pub(super) struct AdQuery {
    pub user: UserId<'static>,
    pub candidate: Candidate<'static>,
    pub question: Question,
}

/// Reads `user`, `da`, `key`, `kind` and `at` of `GET /cap`. User and ad may be in the path instead. If a name is given twice
/// the last one counts, except for `key`. Other names are ignored.
pub(super) fn ad_query(path: Option<(String, String)>, query: &str) -> Result<AdQuery, Problem> {
    let in_path = path.is_some();
    let (mut user_text, mut da_text) = path.map_or((None, None), |(user, da)| (Some(user), Some(da)));
    let mut keys = SmallVec::new();
    let mut question = Question::default();
    for pair in pairs(query) {
        let (name, value) = pair?;
        match name.as_str() {
            "user" if !in_path => user_text = Some(value),
            "da" if !in_path => da_text = Some(value),
            "key" => add_key(&mut keys, value)?,
            "at" => question.at = Some(at(&value)?),
            "explain" => {
                question.explain = value.parse().map_err(|_| {
                    Problem::unprocessable("invalid_explain", format!("explain={value} is neither true nor false"))
                })?;
            }
            "kind" => {
                let kind = Kind::new(&value)
                    .map_err(|why| Problem::unprocessable("invalid_kind", format!("kind {value:?} {why}")))?;
                question.kind = Some(kind);
            }
            _ => {}
        }
    }
    let user = user(user_text.ok_or_else(|| Problem::unprocessable("missing_user", "user= is missing"))?)?;
    let da = da(da_text.ok_or_else(|| Problem::unprocessable("missing_da", "da= is missing"))?)?;
    Ok(AdQuery { user, candidate: Candidate { da, keys }, question })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_keeps_the_order_of_its_keys_and_drops_repeats() {
        let query = ad_query(None, "user=a%2Fb&da=c+d&key=x:2&key=x:1&key=x:2&at=1732233600000&kind=click").unwrap();
        assert_eq!((query.user.as_str(), query.candidate.da.as_str()), ("a/b", "c d"));
        assert_eq!(query.candidate.keys.iter().map(CapKey::as_str).collect::<Vec<_>>(), ["x:2", "x:1"]);
        assert_eq!(query.question.at, Some(TsMs(1_732_233_600_000)));
        assert_eq!(query.question.kind, Some(Kind::CLICK));
    }

    #[test]
    fn an_instant_is_an_integer_or_text_of_a_date() {
        for text in ["1732233600000", "2024-11-22T00:00:00Z", "2024-11-22T09:00%2B0900", "2024-11-22+00:00+UTC"] {
            let query = ad_query(None, &format!("user=1&da=1&at={text}")).unwrap();
            assert_eq!(query.question.at, Some(TsMs(1_732_233_600_000)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for bad in [
            "da=1",
            "user=1",
            "user=&da=1",
            "user=*&da=1",
            "user=%ff&da=1",
            "user=1&da=1&key=da:2",
            "user=1&da=1&key=x",
            "user=1&da=1&at=5",
            "user=1&da=1&at=1732233600000.0",
            "user=1&da=1&kind=Click",
            "user=1&da=1&explain=yes",
        ] {
            assert!(ad_query(None, bad).is_err(), "{bad}");
        }
    }
}
