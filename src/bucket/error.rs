//! What went wrong in a bucket, by cause.

use object_store::client::{HttpError, HttpErrorKind};
use std::error::Error;
use std::fmt;
use std::io::ErrorKind;

/// What went wrong, by what is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It cannot be reached, or answers with errors of its own.
    Away,
    /// It did not answer in time, or asks for fewer requests.
    Slow,
    /// It does not let us.
    Forbidden,
    /// It has no room.
    Full,
    /// The object, or the bucket itself, is not there.
    Missing,
    /// The object is there already.
    Exists,
    /// What came is not what it must be.
    Damaged,
    /// Anything else: the text tells.
    Other,
}

impl Cause {
    /// Every cause, for metrics.
    pub const ALL: [Self; 8] =
        [Self::Away, Self::Slow, Self::Forbidden, Self::Full, Self::Missing, Self::Exists, Self::Damaged, Self::Other];

    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Away => "bucket_away",
            Self::Slow => "bucket_slow",
            Self::Forbidden => "bucket_forbidden",
            Self::Full => "bucket_full",
            Self::Missing => "bucket_missing",
            Self::Exists => "bucket_exists",
            Self::Damaged => "bucket_damaged",
            Self::Other => "bucket_failed",
        }
    }

    /// Whether trying again may help.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Away | Self::Slow | Self::Other)
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Away => "check the address and the network; it is tried again",
            Self::Slow => "it is tried again; check the network and the bucket's limits",
            Self::Forbidden => {
                "check the credentials in the provider's environment variables, and that they may list, read, write and \
                 delete under the prefix"
            }
            Self::Full => "make room in the bucket or raise its quota",
            Self::Missing => "check that the bucket exists and that nobody removes objects from it",
            Self::Exists => "another process writes under this prefix",
            Self::Damaged => "the object was changed or cut short",
            Self::Other => "the bucket's own words tell more",
        }
    }
}

/// What was being done to which object, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketError {
    /// What went wrong, by what is to be done about it.
    pub cause: Cause,
    /// The object's name under the root; empty if it was about the bucket itself.
    pub object: String,
    bucket: String,
    doing: &'static str,
    detail: String,
}

/// How much of a server's own words is shown.
const DETAIL_CHARS_MAX: usize = 400;

impl BucketError {
    pub(super) fn new(doing: &'static str, bucket: &str, object: &str, source: &object_store::Error) -> Self {
        Self::with(cause_of(source), doing, bucket, object, detail_of(source))
    }

    pub(super) fn too_slow(doing: &'static str, bucket: &str, object: &str, seconds: u64) -> Self {
        Self::with(Cause::Slow, doing, bucket, object, format!("no answer within {seconds} s"))
    }

    /// An address of the environment that holds a password.
    pub(super) fn password_in_address(bucket: &str, place: &'static str) -> Self {
        let detail = format!("the address in {place} holds a user or a password, which would end up in logs");
        Self::with(Cause::Forbidden, "opening", bucket, "", detail)
    }

    /// An object that is not what it must be.
    pub(super) fn damaged(bucket: &str, object: &str, detail: String) -> Self {
        Self::with(Cause::Damaged, "reading", bucket, object, detail)
    }

    pub(super) fn io(doing: &'static str, bucket: &str, object: &str, source: &std::io::Error) -> Self {
        let cause = cause_of_io(source.kind()).unwrap_or(Cause::Other);
        Self::with(cause, doing, bucket, object, source.to_string())
    }

    fn with(cause: Cause, doing: &'static str, bucket: &str, object: &str, detail: String) -> Self {
        Self { cause, object: object.to_owned(), bucket: bucket.to_owned(), doing, detail }
    }

    /// The bucket's own words.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for BucketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, object, bucket, doing, detail } = self;
        match object.as_str() {
            "" => write!(f, "{doing} {bucket}")?,
            object => write!(f, "{doing} {object} in {bucket}")?,
        }
        write!(f, ": {detail} ({}: {})", cause.code(), cause.advice())
    }
}

impl Error for BucketError {}

fn cause_of(error: &object_store::Error) -> Cause {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => Cause::Missing,
        E::AlreadyExists { .. } | E::Precondition { .. } => Cause::Exists,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => Cause::Forbidden,
        _ => cause_in_chain(error),
    }
}

/// The nearest source that tells the cause.
fn cause_in_chain(error: &object_store::Error) -> Cause {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && let Some(cause) = cause_of_io(io.kind())
        {
            return cause;
        }
        if let Some(http) = error.downcast_ref::<HttpError>() {
            match http.kind() {
                HttpErrorKind::Timeout => return Cause::Slow,
                HttpErrorKind::Connect | HttpErrorKind::Request | HttpErrorKind::Interrupted => return Cause::Away,
                _ => {}
            }
        }
        next = error.source();
    }
    cause_in_text(&error.to_string())
}

fn cause_of_io(kind: ErrorKind) -> Option<Cause> {
    Some(match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Cause::Full,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Cause::Forbidden,
        ErrorKind::NotFound | ErrorKind::NotADirectory => Cause::Missing,
        ErrorKind::TimedOut => Cause::Slow,
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::HostUnreachable => Cause::Away,
        ErrorKind::UnexpectedEof => Cause::Damaged,
        _ => return None,
    })
}

/// Servers have words for what the types do not tell.
fn cause_in_text(text: &str) -> Cause {
    const FULL: [&str; 5] = ["507", "StorageFull", "QuotaExceeded", "InsufficientStorage", "No space left"];
    const SLOW: [&str; 4] = ["status code: 503", "status code: 429", "SlowDown", "RequestTimeout"];
    // Without credentials the instance's own are asked for, at 169.254.169.254.
    const FORBIDDEN: [&str; 9] = [
        "AccessDenied",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "redential",
        "token request",
        "169.254.169.254",
        "Account must be specified",
    ];
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&FULL) {
        Cause::Full
    } else if has(&FORBIDDEN) {
        Cause::Forbidden
    } else if has(&SLOW) {
        Cause::Slow
    } else if text.contains("status code: 5") {
        Cause::Away
    } else {
        Cause::Other
    }
}

/// What the server says, or the nearest text to it: without what a URL may hold besides an address (a password, Azure's
/// signatures), and not without end.
fn detail_of(error: &object_store::Error) -> String {
    let text = error.to_string();
    if let Some((_, answer)) = text.rsplit_once("Server returned non-2xx status code: ")
        && let (Some(code), Some(message)) = (element(answer, "Code"), element(answer, "Message"))
    {
        let status = answer.split(':').next().unwrap_or_default();
        return short(&format!("{status}: {code}: {message}"));
    }
    let words: Vec<_> = text.split_whitespace().map(without_secrets).collect();
    let mut text = short(&words.join(" "));
    // reqwest has no other words for it.
    if text.ends_with("builder error") && text.contains("http://") {
        text.push_str(": an address without TLS must be allowed (AWS_ALLOW_HTTP=true)");
    }
    text
}

/// A word of a message, without the user, the password and the query of a URL in it.
fn without_secrets(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let (address, is_asked) = match rest.split_once('?') {
        Some((address, _)) => (address, true),
        None => (rest, false),
    };
    // A password may hold what ends an address, so the last `@` counts.
    let shown = match address.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}"),
        None => format!("{scheme}://{address}"),
    };
    if is_asked { format!("{shown}?***") } else { shown }
}

/// What stands between the tags of an element of XML.
fn element<'t>(xml: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

fn short(text: &str) -> String {
    match text.char_indices().nth(DETAIL_CHARS_MAX) {
        Some((at, _)) => format!("{}..", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl Error + Send + Sync + 'static) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: Box::new(source) }
    }

    #[test]
    fn what_servers_say_has_a_cause() {
        for (error, cause) in [
            (generic(std::io::Error::from(ErrorKind::StorageFull)), Cause::Full),
            (generic(HttpError::new(HttpErrorKind::Timeout, std::fmt::Error)), Cause::Slow),
            (generic(HttpError::new(HttpErrorKind::Connect, std::fmt::Error)), Cause::Away),
            (generic(std::io::Error::other("Server returned non-2xx status code: 503 SlowDown")), Cause::Slow),
            (generic(std::io::Error::other("Server returned non-2xx status code: 500: x")), Cause::Away),
            (generic(std::io::Error::other("status code: 507")), Cause::Full),
            (generic(std::io::Error::other("no credentials found")), Cause::Forbidden),
            (generic(std::io::Error::other("what?")), Cause::Other),
        ] {
            assert_eq!(BucketError::new("writing", "s3://caps", "m/1", &error).cause, cause, "{error}");
        }
    }

    #[test]
    fn the_signature_of_a_url_is_not_printed() {
        let source = generic(std::io::Error::other("GET https://a.blob.core.windows.net/c/x?sig=geheim in 3 s"));
        let text = BucketError::new("reading", "az://c", "x", &source).to_string();
        assert!(text.contains("windows.net/c/x?***") && !text.contains("geheim"), "{text}");
    }

    #[test]
    fn the_password_of_a_url_is_not_printed() {
        for url in ["http://me:geheim@h:9000/b/x", "(https://geheim@h/b", "http://a:gehe/im@b:geheim@h/c?x=geheim"] {
            let source = generic(std::io::Error::other(format!("Error performing PUT {url} in 3 s")));
            let text = BucketError::new("reading", "s3://b", "x", &source).to_string();
            assert!(text.contains("://***@h") && !text.contains("geheim") && !text.contains("gehe/"), "{text}");
        }
    }

    #[test]
    fn a_servers_words_are_picked_out_of_its_answer() {
        let answer = "Error performing PUT http://h/b/x in 3ms - Server returned non-2xx status code: 404 Not Found: <?xml \
                      version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>It does not exist.</Message></Error>";
        let text = BucketError::new("writing", "s3://b", "x", &generic(std::io::Error::other(answer))).to_string();
        assert!(text.starts_with("writing x in s3://b: 404 Not Found: NoSuchBucket: It does not exist. ("), "{text}");
        let plain =
            generic(std::io::Error::other("Error performing PUT http://h/b/x in 3us - HTTP error: builder error"));
        let text = BucketError::new("writing", "s3://b", "x", &plain).to_string();
        assert!(text.contains("AWS_ALLOW_HTTP=true"), "{text}");
    }
}
