//! What is asked of reports, read from query strings.

use super::problem::Problem;
use super::query::{at, kind, pairs};
use crate::api::InstantText;
use crate::engine::ReachQuestion;
use crate::model::{CapKey, Kind, Level, Window, WindowError};
use crate::service::WINDOW_DEFAULT;
use crate::settings::Value;
use std::time::Duration;

/// Keys of an answer about a level.
const TOP_DEFAULT: usize = 100;
const TOP_MAX: usize = 1_000;
/// How old an answer may be unless the call says so.
const MAX_AGE_DEFAULT: Duration = Duration::from_secs(60);

#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
pub(super) struct ReachParams {
    /// The kind of events; `impression` without it
    #[param(example = "impression")]
    kind: Option<String>,
    /// A duration (`7d`, which it is without it), `lifetime`, or `{"calendar":"day","tz":"Asia/Seoul"}`
    #[param(example = "7d")]
    window: Option<String>,
    /// The instant asked about, in ms since 1970 or as RFC 3339 text; now without it
    #[param(inline)]
    at: Option<InstantText>,
    /// How old the answer may be; 60s without it, and 0s for one from now
    #[param(example = "60s")]
    max_age: Option<String>,
    /// `hour`: with the 24 hours before the instant asked about
    #[param(example = "hour")]
    by: Option<String>,
    /// Whose events are counted together: `user`
    #[param(example = "user")]
    per: Option<String>,
}

#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code)]
pub(super) struct TopParams {
    /// The level whose keys are meant
    #[param(example = "campaign")]
    level: String,
    /// The most keys of the answer, 1 to 1,000; 100 without it
    top: Option<u32>,
    /// The kind of events; `impression` without it
    #[param(example = "impression")]
    kind: Option<String>,
    /// As of `/reach/{key}`
    #[param(example = "7d")]
    window: Option<String>,
    /// As of `/reach/{key}`
    #[param(inline)]
    at: Option<InstantText>,
    /// As of `/reach/{key}`
    #[param(example = "60s")]
    max_age: Option<String>,
}

/// What `GET /reach` and `GET /reach/{key}` ask.
#[derive(Debug, PartialEq)]
pub(super) struct ReachQuery {
    pub asked: ReachQuestion,
    pub max_age: Duration,
    pub by_hour: bool,
    pub level: Option<Level>,
    pub top: usize,
}

/// Reads what is asked. If a name is given twice the last one counts; other names are ignored.
pub(super) fn reach(query: &str) -> Result<ReachQuery, Problem> {
    let asked = ReachQuestion { kind: Kind::IMPRESSION, window: Window::Rolling(WINDOW_DEFAULT), at: None };
    let mut read = ReachQuery { asked, max_age: MAX_AGE_DEFAULT, by_hour: false, level: None, top: TOP_DEFAULT };
    for pair in pairs(query) {
        let (name, value) = pair?;
        match name.as_str() {
            "kind" => read.asked.kind = kind(&value)?,
            "window" => read.asked.window = window(&value)?,
            "at" => read.asked.at = Some(at(&value)?),
            "max_age" => read.max_age = max_age(&value)?,
            "by" if value == "hour" => read.by_hour = true,
            "by" => return Err(Problem::unprocessable("invalid_by", format!("by {value:?} is not hour"))),
            "per" if value == "user" => {}
            "per" => return Err(Problem::unprocessable("invalid_per", format!("per {value:?} is not user"))),
            "level" => read.level = Some(level(&value)?),
            "top" => read.top = top(&value)?,
            _ => {}
        }
    }
    Ok(read)
}

/// The key of a path, which is its second segment.
pub(super) fn key(text: &str) -> Result<CapKey<'static>, Problem> {
    let key = CapKey::new(text).map_err(|why| Problem::unprocessable("invalid_key", format!("key {text:?} {why}")))?;
    Ok(key.into_owned())
}

fn window(text: &str) -> Result<Window, Problem> {
    let json = if text.starts_with('{') { text.to_owned() } else { serde_json::Value::from(text).to_string() };
    let wrong = |why: WindowError| Problem::unprocessable(why.code(), format!("window {why}"));
    Window::read_json(&json).map_err(wrong)
}

fn max_age(text: &str) -> Result<Duration, Problem> {
    Duration::read(text).map_err(|why| Problem::unprocessable("invalid_max_age", format!("max_age {text:?} {why}")))
}

fn level(text: &str) -> Result<Level, Problem> {
    Level::new(text).map_err(|why| Problem::unprocessable("invalid_level", format!("level {text:?} {why}")))
}

fn top(text: &str) -> Result<usize, Problem> {
    let wrong = || Problem::unprocessable("invalid_top", format!("top is not an integer from 1 to {TOP_MAX}"));
    text.parse().ok().filter(|top| (1..=TOP_MAX).contains(top)).ok_or_else(wrong)
}

/// Whether a change is only to be tried: `dry_run`, which is false without it.
pub(super) fn is_dry_run(query: &str) -> Result<bool, Problem> {
    let mut is_dry_run = false;
    for pair in pairs(query) {
        let (name, value) = pair?;
        if name == "dry_run" {
            let wrong =
                |_| Problem::unprocessable("invalid_dry_run", format!("dry_run={value} is neither true nor false"));
            is_dry_run = value.parse().map_err(wrong)?;
        }
    }
    Ok(is_dry_run)
}

/// The instant until which answers of this kind are asked again for, as a `Retry-After` in seconds.
pub(super) fn retry_after(rest: Duration) -> u64 {
    rest.as_secs().clamp(1, 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TsMs;

    #[test]
    fn a_question_is_read_with_its_defaults() {
        let plain = reach("").unwrap();
        assert_eq!((plain.max_age, plain.top, plain.by_hour), (Duration::from_secs(60), 100, false));
        assert_eq!(serde_json::to_value(&plain.asked.window).unwrap(), "7d");
        let query = "kind=click&window=%7B%22calendar%22:%22day%22,%22tz%22:%22Asia/Seoul%22%7D&at=1732233600000\
                     &max_age=0s&by=hour&per=user&level=campaign&top=7&other=x";
        let full = reach(query).unwrap();
        assert_eq!((full.asked.kind, full.asked.at), (Kind::CLICK, Some(TsMs(1_732_233_600_000))));
        assert!(matches!(full.asked.window, Window::Calendar(_)));
        assert_eq!((full.max_age, full.top, full.by_hour), (Duration::ZERO, 7, true));
        assert_eq!(full.level.unwrap().as_str(), "campaign");
        assert_eq!(reach("window=lifetime").unwrap().asked.window, Window::Lifetime);
    }

    #[test]
    fn what_is_wrong_is_refused_with_a_code() {
        for (query, code) in [
            ("kind=Click", "invalid_kind"),
            ("window=", "invalid_window"),
            ("window=7", "invalid_window"),
            ("window=\"7d\"", "invalid_window"),
            ("window=99999d", "window_too_long"),
            ("window={\"calendar\":\"day\",\"tz\":\"Mars/Base\"}", "unknown_zone"),
            ("at=5", "invalid_at"),
            ("max_age=soon", "invalid_max_age"),
            ("by=day", "invalid_by"),
            ("per=household", "invalid_per"),
            ("level=Campaign", "invalid_level"),
            ("top=0", "invalid_top"),
            ("top=1001", "invalid_top"),
        ] {
            assert_eq!(reach(query).unwrap_err().code(), code, "{query}");
        }
        assert_eq!(key("campaign").unwrap_err().code(), "invalid_key");
        assert_eq!((is_dry_run("dry_run=true").ok(), is_dry_run("").ok()), (Some(true), Some(false)));
        assert_eq!(is_dry_run("dry_run=1").unwrap_err().code(), "invalid_dry_run");
    }
}
