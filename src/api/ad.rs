//! Ads of the catalogue, as they are read and as they are answered.

use super::event::EventError;
use super::text::IdText;
use crate::input::{Raw, Reject, TooManyLines, add_key, each_line, elements, id_of, json_text, key, members};
use crate::model::{CapKey, DaId};
use serde::Serialize;
use smallvec::SmallVec;

/// The most ads of a call that changes many.
pub const MAX_AD_LINES: usize = 10_000;
/// The longest name of an ad, in characters.
const NAME_MAX: usize = 200;
/// The most rejected lines that an answer lists.
const ERRORS_TOLD: usize = 100;

/// The body of `PUT /ads/{da}`: which keys an ad has besides its own.
// The form of an [`Ad`], which is what is read.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
#[schema(example = json!({"keys": ["campaign:42", "advertiser:7"], "name": "Shoes, spring, 300x250"}))]
pub struct AdBody {
    /// Each `<level>:<id>`, at most 16
    pub keys: Vec<String>,
    /// What people call it: at most 200 characters
    pub name: Option<String>,
}

/// A line of `PUT /ads`.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)]
#[schema(example = json!({"da": "77", "keys": ["campaign:42", "advertiser:7"]}))]
pub struct AdLine {
    /// The ad.
    pub da: IdText,
    /// Each `<level>:<id>`, at most 16
    pub keys: Vec<String>,
    /// What people call it: at most 200 characters
    pub name: Option<String>,
}

/// An ad as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Ad {
    /// The ad.
    pub da: DaId<'static>,
    /// Its keys besides its own, each once.
    pub keys: Vec<String>,
    /// What people call it.
    pub name: Option<String>,
}

/// The lines of `PUT /ads`.
#[derive(Debug, Default)]
pub struct AdLines {
    /// The ads, in the order of their lines.
    pub ads: Vec<Ad>,
    /// Ads whose lines were rejected, as far as they could be read.
    pub rejected_ads: Vec<String>,
    /// How many lines were rejected.
    pub rejected: usize,
    /// The first 100 of them.
    pub errors: Vec<EventError>,
}

impl AdLines {
    /// Reads them. A bad line rejects itself alone.
    pub fn read(body: &[u8]) -> Result<Self, TooManyLines> {
        let mut lines = Self::default();
        each_line(body, MAX_AD_LINES, |index, line| {
            let read = line.and_then(|line| {
                let found = find(line)?;
                found.read(None).inspect_err(|_| {
                    // What is named is not taken for left out.
                    lines.rejected_ads.extend(found.da().ok().map(|da| da.as_str().to_owned()));
                })
            });
            match read {
                Ok(ad) => lines.ads.push(ad),
                Err(Reject { code, detail }) => {
                    lines.rejected += 1;
                    if lines.errors.len() < ERRORS_TOLD {
                        lines.errors.push(EventError { index, code, detail });
                    }
                }
            }
        })?;
        Ok(lines)
    }
}

impl Ad {
    /// Reads the body of `PUT /ads/{da}`. `da` may be there if it is the path's.
    pub fn read(da: &DaId<'_>, body: &str) -> Result<Self, Reject> {
        find(json_text(body))?.read(Some(da))
    }
}

const FIELDS: [&str; 3] = ["da", "keys", "name"];

/// The members of an ad, not parsed yet.
struct Found<'a>([Option<Raw<'a>>; FIELDS.len()]);

/// Finds the members. An unknown one is an error, for it was meant to say something.
fn find(json: &str) -> Result<Found<'_>, Reject> {
    if json.trim_ascii_start().as_bytes().first() != Some(&b'{') {
        let value = Raw::new(json)?;
        return Err(Reject::new(Reject::NOT_AN_OBJECT, format!("an ad is an object, not {}", value.name())));
    }
    let (mut found, mut unknown) = ([None; FIELDS.len()], None);
    members(
        json,
        |name| Some(FIELDS.iter().position(|field| *field == name).ok_or_else(|| name.to_owned())),
        |field, value| {
            match field {
                Ok(field) => found[field] = Some(value).filter(|value| !value.is_null()),
                Err(name) => drop(unknown.get_or_insert(name)),
            }
            Ok(())
        },
    )?;
    match unknown {
        Some(name) => Err(Reject::new("unknown_field", format!("an ad has no member {name:?}; it has da, keys, name"))),
        None => Ok(Found(found)),
    }
}

impl<'a> Found<'a> {
    fn da(&self) -> Result<DaId<'a>, Reject> {
        let raw = self.0[0].ok_or_else(|| Reject::new(Reject::MISSING_DA, "da is missing"))?;
        id_of(raw, DaId::new, Reject::INVALID_DA, "da")
    }

    fn read(&self, of_path: Option<&DaId<'_>>) -> Result<Ad, Reject> {
        let da = match (of_path, self.0[0]) {
            (None, _) => self.da()?,
            (Some(path), None) => path.clone(),
            (Some(path), Some(_)) if self.da()? == *path => path.clone(),
            (Some(_), Some(_)) => return Err(Reject::new(Reject::INVALID_DA, "da is not that of the path")),
        };
        let raw = self.0[1].ok_or_else(|| Reject::new("missing_keys", "keys is missing; an ad without any has []"))?;
        Ok(Ad { da: da.into_owned(), keys: read_keys(raw)?, name: self.0[2].map(read_name).transpose()? })
    }
}

fn read_keys(raw: Raw<'_>) -> Result<Vec<String>, Reject> {
    if !raw.source().starts_with('[') {
        let detail = format!("keys must be an array of strings, not {}", raw.name());
        return Err(Reject::new(Reject::INVALID_KEY, detail));
    }
    let mut keys: SmallVec<[CapKey<'_>; 2]> = SmallVec::new();
    let (mut number, mut added) = (0, Ok(()));
    elements(raw.source(), |raw| {
        if added.is_ok() {
            added = key(number, raw).and_then(|key| add_key(&mut keys, key));
        }
        number += 1;
    })?;
    added?;
    Ok(keys.into_iter().map(|key| key.as_str().to_owned()).collect())
}

fn read_name(raw: Raw<'_>) -> Result<String, Reject> {
    let wrong = || Reject::new("invalid_name", format!("name is not text of at most {NAME_MAX} characters"));
    let name = raw.text().filter(|name| name.chars().count() <= NAME_MAX && !name.chars().any(char::is_control));
    Ok(name.ok_or_else(wrong)?.into_owned())
}

/// An ad of the catalogue.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(example = json!({"da": "77", "keys": ["campaign:42", "advertiser:7"], "name": "Shoes, spring, 300x250"}))]
pub struct AdAnswer {
    /// The ad.
    pub da: String,
    /// Its keys besides its own.
    pub keys: Vec<String>,
    /// What people call it. Only where it has a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// How far held events are counted under its keys. Only where `backfill=true` asked for that, and not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backfill: Option<BackfillProgress>,
}

/// How far a backfill is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct BackfillProgress {
    /// Shards whose held events are counted.
    #[schema(example = 256)]
    pub done: usize,
    /// Shards in all.
    #[schema(example = 256)]
    pub total: usize,
}

/// A page of the catalogue.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AdsAnswer {
    /// By ad.
    pub ads: Vec<AdAnswer>,
    /// Where the next page goes on; null where there is none.
    pub cursor: Option<String>,
}

/// What became of the lines of `PUT /ads`.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub struct AdsChanged {
    /// Ads that are new.
    #[schema(example = 998)]
    pub created: usize,
    /// Ads that are others now.
    #[schema(example = 1)]
    pub changed: usize,
    /// Ads that were like this already.
    pub unchanged: usize,
    /// With `replace=true`: ads that no line named.
    pub removed: usize,
    /// Lines that are invalid; `errors` says why.
    #[schema(example = 1)]
    pub rejected: usize,
    /// The first 100 rejected.
    pub errors: Vec<EventError>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ad(da: &str, keys: &[&str], name: Option<&str>) -> Ad {
        let da = DaId::new(da.to_owned()).unwrap();
        Ad { da, keys: keys.iter().map(|key| (*key).to_owned()).collect(), name: name.map(str::to_owned) }
    }

    #[test]
    fn an_ad_is_its_keys_and_perhaps_a_name() {
        let da = DaId::new("77").unwrap();
        let read = |body: &str| Ad::read(&da, body).map_err(|reject| reject.code);
        assert_eq!(read(r#"{"keys":["c:1","a:2","c:1"]}"#), Ok(ad("77", &["c:1", "a:2"], None)));
        assert_eq!(read(r#"{"keys":[],"name":"x","da":77}"#), Ok(ad("77", &[], Some("x"))));
        assert_eq!(read("\u{feff}{\"keys\":[],\"name\":null}"), Ok(ad("77", &[], None)));
        let of = |count: usize| (0..count).map(|n| format!("\"c:{n}\"")).collect::<Vec<_>>().join(",");
        assert_eq!(read(&format!(r#"{{"keys":[{}]}}"#, of(16))).map(|ad| ad.keys.len()), Ok(16));
        for (body, code) in [
            (format!(r#"{{"keys":[{}]}}"#, of(17)), "too_many_keys"),
            (format!(r#"{{"keys":[],"name":"{}"}}"#, "é".repeat(201)), "invalid_name"),
            ("{}".to_owned(), "missing_keys"),
            ("[]".to_owned(), "not_an_object"),
            ("{".to_owned(), "invalid_json"),
            (r#"{"keys":"c:1"}"#.to_owned(), "invalid_key"),
            (r#"{"keys":["da:1"]}"#.to_owned(), "invalid_key"),
            (r#"{"keys":["c"]}"#.to_owned(), "invalid_key"),
            (r#"{"keys":[1]}"#.to_owned(), "invalid_key"),
            (r#"{"keys":[],"name":7}"#.to_owned(), "invalid_name"),
            (r#"{"keys":[],"name":"a\nb"}"#.to_owned(), "invalid_name"),
            (r#"{"keys":[],"kind":"click"}"#.to_owned(), "unknown_field"),
            (r#"{"keys":[],"da":"78"}"#.to_owned(), "invalid_da"),
        ] {
            assert_eq!(read(&body), Err(code), "{body}");
        }
    }

    #[test]
    fn a_bad_line_rejects_itself_alone() {
        let body = b"{\"da\":\"1\",\"keys\":[]}\n\n{\"da\":\"2\",\"keys\":[7]}\nx\n{\"keys\":[]}\n{\"da\":3,\"keys\":[\"c:1\"]}\n";
        let lines = AdLines::read(body).unwrap();
        assert_eq!(lines.ads, [ad("1", &[], None), ad("3", &["c:1"], None)]);
        assert_eq!((lines.rejected, lines.rejected_ads), (3, vec!["2".to_owned()]));
        let errors: Vec<_> = lines.errors.iter().map(|error| (error.index, error.code)).collect();
        assert_eq!(errors, [(2, "invalid_key"), (3, "invalid_json"), (4, "missing_da")]);
        let many = "{\"da\":\"1\",\"keys\":[]}\n".repeat(MAX_AD_LINES + 1);
        assert!(AdLines::read(many.as_bytes()).is_err());
        assert!(AdLines::read(&many.as_bytes()[many.len() / (MAX_AD_LINES + 1)..]).is_ok());
    }
}
