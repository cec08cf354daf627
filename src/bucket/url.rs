//! The URL of a bucket, and of a prefix in it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Whose bucket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `s3://`: Amazon S3 and what speaks its protocol.
    S3,
    /// `gs://`: Google Cloud Storage.
    Google,
    /// `az://`: Azure Blob Storage.
    Azure,
    /// `file://`: a directory.
    Directory,
}

impl Scheme {
    fn text(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "az",
            Self::Directory => "file",
        }
    }
}

/// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix` or `file:///directory`. It holds no credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketUrl {
    /// Whose bucket it is.
    pub scheme: Scheme,
    /// The bucket, or the container of Azure; empty for a directory.
    pub bucket: String,
    /// The prefix without a slash at either end; of a directory, its absolute path.
    pub prefix: String,
}

/// Why a text is not the URL of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The scheme is unknown or missing.
    #[error("is not of the form s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///directory")]
    Form,
    /// No bucket stands between the slashes.
    #[error("names no bucket")]
    NoBucket,
    /// Credentials in a URL end up in logs and lists of processes.
    #[error("must not hold credentials or a query: they come from the provider's usual environment variables")]
    Credentials,
    /// The path has a part that an object's name cannot have.
    #[error("has an empty part, `.` or `..`, or a character that is not allowed, in {0:?}")]
    Part(String),
}

impl BucketUrl {
    /// The directory of `file://`.
    pub fn directory(&self) -> PathBuf {
        PathBuf::from(format!("/{}", self.prefix))
    }
}

impl FromStr for BucketUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Form)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "s3" | "s3a" => Scheme::S3,
            "gs" => Scheme::Google,
            "az" | "azure" => Scheme::Azure,
            "file" => Scheme::Directory,
            _ => return Err(UrlError::Form),
        };
        if rest.contains(['@', '?', '#']) {
            return Err(UrlError::Credentials);
        }
        let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
        match scheme {
            Scheme::Directory if !matches!(bucket, "" | "localhost") => return Err(UrlError::Form),
            Scheme::Directory if path.trim_matches('/').is_empty() => return Err(UrlError::Form),
            Scheme::Directory => {}
            _ if bucket.is_empty() => return Err(UrlError::NoBucket),
            _ if !bucket.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)) => {
                return Err(UrlError::Part(bucket.to_owned()));
            }
            _ => {}
        }
        let prefix = path.trim_matches('/');
        for part in prefix.split('/').filter(|_| !prefix.is_empty()) {
            if matches!(part, "" | "." | "..")
                || part.chars().any(|c| c.is_control() || "\\%*?#{}^[]`\"<>~|".contains(c))
            {
                return Err(UrlError::Part(part.to_owned()));
            }
        }
        let bucket = if scheme == Scheme::Directory { "" } else { bucket };
        Ok(Self { scheme, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.text(), self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_and_printed() {
        for (text, scheme, bucket, prefix) in [
            ("s3://caps/prod/eu", Scheme::S3, "caps", "prod/eu"),
            ("s3://caps", Scheme::S3, "caps", ""),
            ("s3://caps/", Scheme::S3, "caps", ""),
            ("gs://caps/prod/", Scheme::Google, "caps", "prod"),
            ("az://container/prod", Scheme::Azure, "container", "prod"),
            ("file:///var/backups/caps", Scheme::Directory, "", "var/backups/caps"),
        ] {
            let url: BucketUrl = text.parse().unwrap();
            assert_eq!((url.scheme, url.bucket.as_str(), url.prefix.as_str()), (scheme, bucket, prefix), "{text}");
            assert_eq!(url.to_string(), text.trim_end_matches('/'));
        }
    }

    #[test]
    fn what_is_no_bucket_is_refused() {
        for (text, error) in [
            ("caps", UrlError::Form),
            ("http://caps", UrlError::Form),
            ("s3://", UrlError::NoBucket),
            ("s3:///prefix", UrlError::NoBucket),
            ("file://host/dir", UrlError::Form),
            ("file:///", UrlError::Form),
            ("s3://key:secret@caps/prod", UrlError::Credentials),
            ("s3://caps/prod?secret=1", UrlError::Credentials),
            ("s3://caps/a//b", UrlError::Part(String::new())),
            ("s3://caps/../b", UrlError::Part("..".to_owned())),
            ("s3://ca ps/b", UrlError::Part("ca ps".to_owned())),
        ] {
            assert_eq!(text.parse::<BucketUrl>(), Err(error), "{text}");
        }
    }
}
