//! What a pixel counts, as it stands in its URL.

use crate::input::{Raw, Reject, add_key, elements, id_of, key, kind_of, members};
use crate::model::{CapKey, DaId, Event, EventId, Kind, MAX_KEYS, TsMs, UserId};
use serde::Serialize;
use smallvec::SmallVec;

/// The longest E, in bytes.
pub const TOKEN_MAX: usize = 1_500;
/// The longest that a pixel holds, in ms: seven days.
pub const TTL_MAX_MS: u64 = 7 * 86_400_000;

/// What a pixel counts, and for how long it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Token<'t> {
    /// Who sees the ad.
    pub user: UserId<'t>,
    /// The ad.
    pub da: DaId<'t>,
    /// The event's id: a URL that is called again counts once.
    pub id: EventId<'t>,
    /// Keys besides the ad's own, at most 16, each once.
    pub keys: SmallVec<[CapKey<'t>; 2]>,
    /// What the user does.
    pub kind: Kind,
    /// When it was signed.
    pub iat: TsMs,
    /// From when on it counts no more.
    pub exp: TsMs,
}

/// Why a text says nothing that can be counted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each error says what it is")]
pub enum TokenError {
    #[error(transparent)]
    Reject(#[from] Reject),
    #[error("{0} is missing or is no integer of ms")]
    Instant(&'static str),
    #[error("kid is missing or is no text")]
    Kid,
    #[error("it holds for longer than 7 days, or ends before it begins")]
    Span,
}

/// The members as they are written, in this order. What says nothing is left out: URLs are short.
#[derive(Serialize)]
struct Written<'w> {
    u: &'w str,
    d: &'w str,
    i: &'w str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    k: Vec<&'w str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<&'w str>,
    iat: u64,
    exp: u64,
    kid: &'w str,
}

impl<'t> Token<'t> {
    /// The JSON text that is signed.
    pub(super) fn to_json(&self, kid: &str) -> String {
        let written = Written {
            u: self.user.as_str(),
            d: self.da.as_str(),
            i: self.id.as_str(),
            k: self.keys.iter().map(CapKey::as_str).collect(),
            n: (self.kind != Kind::IMPRESSION).then_some(self.kind.as_str()),
            iat: self.iat.0,
            exp: self.exp.0,
            kid,
        };
        // Serializing text and numbers to memory cannot fail.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// Reads the text; members that it does not know are ignored.
    pub(super) fn read(json: &'t str) -> Result<Self, TokenError> {
        let [u, d, i, k, n, iat, exp, _] = find(json)?;
        let missing = |code, name: &str| Reject::new(code, format!("{name} is missing"));
        let user = u.ok_or_else(|| missing(Reject::MISSING_USER, "u"))?;
        let da = d.ok_or_else(|| missing(Reject::MISSING_DA, "d"))?;
        let id = i.ok_or_else(|| missing(Reject::MISSING_ID, "i"))?;
        let token = Self {
            user: id_of(user, UserId::new, Reject::INVALID_USER, "u")?,
            da: id_of(da, DaId::new, Reject::INVALID_DA, "d")?,
            id: id_of(id, EventId::new, Reject::INVALID_ID, "i")?,
            keys: k.map(keys).transpose()?.unwrap_or_default(),
            kind: n.map(kind_of).transpose()?.unwrap_or_default(),
            iat: instant(iat, "iat")?,
            exp: instant(exp, "exp")?,
        };
        token.check()?;
        Ok(token)
    }

    /// Checks how long it holds.
    pub(super) fn check(&self) -> Result<(), TokenError> {
        let span = self.exp.0.checked_sub(self.iat.0);
        if span.is_some_and(|span| span <= TTL_MAX_MS) { Ok(()) } else { Err(TokenError::Span) }
    }

    /// The event that it counts.
    pub fn into_event(self, ts: Option<TsMs>) -> Event<'t> {
        let Self { user, da, id, keys, kind, .. } = self;
        Event { user, da, ts, id: Some(id), kind, keys }
    }
}

/// The id of the key that a text says it is signed with.
pub(super) fn kid_of(json: &str) -> Result<String, TokenError> {
    let [.., kid] = find(json)?;
    kid.and_then(Raw::text).map(|kid| kid.into_owned()).ok_or(TokenError::Kid)
}

const MEMBERS: [&str; 8] = ["u", "d", "i", "k", "n", "iat", "exp", "kid"];

fn find(json: &str) -> Result<[Option<Raw<'_>>; MEMBERS.len()], TokenError> {
    if !json.starts_with('{') {
        return Err(Reject::new(Reject::NOT_AN_OBJECT, "e is no JSON object").into());
    }
    let mut found = [None; MEMBERS.len()];
    let look = |name: &str| MEMBERS.iter().position(|member| *member == name);
    let read = members(json, look, |member, value| {
        found[member] = Some(value).filter(|value| !value.is_null());
        Ok(())
    });
    read.map_err(Reject::from)?;
    Ok(found)
}

fn keys(raw: Raw<'_>) -> Result<SmallVec<[CapKey<'_>; 2]>, Reject> {
    if !raw.source().starts_with('[') {
        return Err(Reject::new(Reject::INVALID_KEY, format!("k must be an array of strings, not {}", raw.name())));
    }
    let mut all = SmallVec::new();
    let (mut number, mut added) = (0, Ok(()));
    elements(raw.source(), |raw| {
        if added.is_ok() {
            added = key(number, raw).and_then(|key| add_key(&mut all, key));
        }
        number += 1;
    })?;
    debug_assert!(all.len() <= MAX_KEYS);
    added.map(|()| all)
}

fn instant(raw: Option<Raw<'_>>, name: &'static str) -> Result<TsMs, TokenError> {
    let ms = raw.and_then(Raw::integer).and_then(|digits| digits.parse::<i128>().ok());
    ms.and_then(|ms| TsMs::from_millis(ms).ok()).ok_or(TokenError::Instant(name))
}
