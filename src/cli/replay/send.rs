//! Sending one batch until it is answered, or must be given up.

use super::batch::Batch;
use super::error::ReplayError;
use indicatif::ProgressBar;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long a batch is tried before it is given up, from its first failure on.
const PATIENCE: Duration = Duration::from_secs(30);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Well within the patience, also where nothing at all comes back.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(3);

/// Why a batch was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("the service cannot be reached: {0}")]
    Unreachable(String),
    #[error("the request failed half-way, and without ids sending it again could count events twice: {0}")]
    Unknown(String),
    #[error("the service stayed busy: {0}")]
    Busy(String),
    #[error("the service answered {status}: {detail}")]
    Refused { status: StatusCode, detail: String },
}

/// The answer to a batch: of a 503, what was done nevertheless.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    pub counted: u64,
    pub duplicate: u64,
    pub late: u64,
    pub erased: u64,
    pub ignored: u64,
    pub rejected: u64,
    pub errors: Vec<Fault>,
}

/// An event that the service rejected.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Fault {
    /// Counts the lines of the body from 0.
    pub index: usize,
    pub code: String,
    #[serde(default)]
    pub detail: String,
}

/// What became of one attempt.
enum Attempt {
    Done(Answer),
    /// Not all was taken: what was, and when to come back.
    Busy(Answer, Duration, String),
    Failed(SendError),
    /// No answer; `sent` if the service may have had the request.
    Lost {
        sent: bool,
        why: String,
    },
}

pub(super) struct Sender {
    client: Client,
    url: Url,
    /// Whether every event has an id, so that sending it again counts nothing twice.
    with_ids: bool,
    /// Whether it was told that the service cannot be reached.
    told: AtomicBool,
}

impl Sender {
    pub fn new(url: &str, with_ids: bool) -> Result<Self, ReplayError> {
        // Refused only where one is installed already, which will do as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = events_url(url).map_err(|why| ReplayError::Url(format!("{url:?}: {why}")))?;
        let client = Client::builder().timeout(REQUEST_TIMEOUT).connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        let client = client.build().map_err(|why| ReplayError::Start(why.to_string()))?;
        Ok(Self { client, url, with_ids, told: AtomicBool::new(false) })
    }

    /// Sends a batch, again if need be and safe. What earlier attempts counted is counted in the answer. The bar makes
    /// way for what is told meanwhile.
    pub async fn send(&self, batch: &Batch, bar: &ProgressBar) -> Result<Answer, SendError> {
        let (mut counted, mut backoff, mut give_up) = (0, BACKOFF_FIRST, None);
        loop {
            let (wait, why) = match self.attempt(batch).await {
                Attempt::Done(mut answer) => {
                    // What an earlier attempt counted comes back as a duplicate.
                    answer.duplicate = answer.duplicate.saturating_sub(counted);
                    answer.counted += counted;
                    return Ok(answer);
                }
                Attempt::Failed(why) => return Err(why),
                Attempt::Busy(answer, _, why) if !self.with_ids && answer.counted > 0 => {
                    return Err(SendError::Unknown(why));
                }
                Attempt::Busy(answer, wait, why) => {
                    counted += answer.counted;
                    (wait, SendError::Busy(why))
                }
                Attempt::Lost { sent: true, why } if !self.with_ids => return Err(SendError::Unknown(why)),
                Attempt::Lost { why, .. } => {
                    self.tell(&why, bar);
                    let wait = backoff;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    (wait, SendError::Unreachable(why))
                }
            };
            let now = Instant::now();
            if now + wait > *give_up.get_or_insert(now + PATIENCE) {
                return Err(why);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Tells, once, that the service cannot be reached: what follows may be half a minute of silence.
    fn tell(&self, why: &str, bar: &ProgressBar) {
        if !self.told.swap(true, Ordering::Relaxed) {
            // The whole URL may hold a password.
            let service = self.url.origin().ascii_serialization();
            let patience = PATIENCE.as_secs();
            bar.suspend(|| eprintln!("cannot reach {service}: {why}; trying again for up to {patience} s"));
        }
    }

    async fn attempt(&self, batch: &Batch) -> Attempt {
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/x-ndjson");
        let response = match request.body(batch.body.clone()).send().await {
            Ok(response) => response,
            Err(why) => return Attempt::Lost { sent: !why.is_connect(), why: causes(&why) },
        };
        let (status, wait) = (response.status(), retry_after(&response));
        let body = match response.bytes().await {
            Ok(body) => body,
            Err(why) => return Attempt::Lost { sent: true, why: causes(&why) },
        };
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_or_else(
                |why| Attempt::Failed(SendError::Refused { status, detail: format!("not understood: {why}") }),
                Attempt::Done,
            );
        }
        let detail = detail(&body);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return Attempt::Busy(serde_json::from_slice(&body).unwrap_or_default(), wait, detail);
        }
        Attempt::Failed(SendError::Refused { status, detail })
    }
}

fn events_url(url: &str) -> Result<Url, String> {
    let mut base = Url::parse(url).map_err(|why| why.to_string())?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err("begins neither with http:// nor with https://".to_owned());
    }
    // So that a path in front of the service is kept.
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    base.join("events").map_err(|why| why.to_string())
}

/// When to come back: as told in seconds, else in one.
fn retry_after(response: &Response) -> Duration {
    let told = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Duration::from_secs(told.unwrap_or(1))
}

/// What a problem document says, or else how the body begins.
fn detail(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Problem {
        detail: Option<String>,
        title: Option<String>,
    }
    let problem = serde_json::from_slice::<Problem>(body).ok().and_then(|problem| problem.detail.or(problem.title));
    problem.unwrap_or_else(|| String::from_utf8_lossy(body).chars().take(200).collect())
}

/// An error with its causes: the outermost alone says little more than "error sending request".
fn causes(why: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(why.source(), |why| why.source());
    causes.fold(why.to_string(), |told, cause| format!("{told}: {cause}"))
}
