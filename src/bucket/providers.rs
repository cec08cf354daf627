//! How each provider's bucket is opened: its usual environment, our bounds.

use super::bucket::Bucket;
use super::error::BucketError;
use super::url::{BucketUrl, Scheme};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

/// Whether the bucket is written to. A directory that is only read must exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Makes the directory of `file://` where it is missing.
    Write,
    /// Changes nothing.
    Read,
}

/// What one request may take. Bodies are at most a part of an upload or download.
const REQUEST_BOUNDS: [(ClientConfigKey, &str); 3] = [
    (ClientConfigKey::Timeout, "60 seconds"),
    (ClientConfigKey::ConnectTimeout, "5 seconds"),
    (ClientConfigKey::ReadTimeout, "20 seconds"),
];

/// Opens a bucket. Nothing is asked of it yet, save that a directory is looked at.
///
/// S3 reads `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL` and
/// `AWS_ALLOW_HTTP`, then web identity, container and instance credentials; Google `GOOGLE_APPLICATION_CREDENTIALS` or
/// the instance's account; Azure `AZURE_STORAGE_ACCOUNT_NAME` with a key, a SAS token, or an identity.
pub fn open(url: &BucketUrl, access: Access) -> Result<Bucket, BucketError> {
    // rustls asks for one provider for the whole process; somebody may have chosen one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let name = url.to_string();
    no_password_in_environment(&name, std::env::vars_os())?;
    let refused = |error: object_store::Error| BucketError::new("opening", &name, "", &error);
    let (store, prefix): (Arc<dyn ObjectStore>, &str) = match url.scheme {
        Scheme::S3 => (Arc::new(s3(url).map_err(refused)?), &url.prefix),
        Scheme::Google => (Arc::new(google(url).map_err(refused)?), &url.prefix),
        Scheme::Azure => (Arc::new(azure(url).map_err(refused)?), &url.prefix),
        Scheme::Directory => (Arc::new(directory(url, access)?), ""),
    };
    let bucket = Bucket::new(store, prefix, name);
    Ok(if url.scheme == Scheme::Directory { bucket.in_directory(url.directory()) } else { bucket })
}

/// Addresses of the providers' environment must not hold a user and a password: the clients underneath log them.
fn no_password_in_environment(
    bucket: &str,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(), BucketError> {
    for (name, value) in environment {
        let (name, value) = (name.to_string_lossy().to_ascii_uppercase(), value.to_string_lossy());
        let place = match name.split('_').next() {
            Some("AWS") => "the AWS_* environment variables (AWS_ENDPOINT_URL)",
            Some("AZURE") => "the AZURE_* environment variables",
            Some("GOOGLE") => "the GOOGLE_* environment variables",
            _ => continue,
        };
        // A proxy may ask for a password; its address is in no message.
        let is_proxy = name.contains("PROXY");
        if let Some((_, rest)) = value.split_once("://")
            && !is_proxy
            && rest.contains('@')
        {
            return Err(BucketError::password_in_address(bucket, place));
        }
    }
    Ok(())
}

/// An answer that does not come is waited for, and asked for again, within what a lease allows.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 4,
        retry_timeout: Duration::from_secs(30),
    }
}

fn s3(url: &BucketUrl) -> Result<impl ObjectStore, object_store::Error> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(&url.bucket).with_retry(retry());
    for (key, value) in REQUEST_BOUNDS {
        builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
    }
    builder.build()
}

fn google(url: &BucketUrl) -> Result<impl ObjectStore, object_store::Error> {
    let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(&url.bucket).with_retry(retry());
    for (key, value) in REQUEST_BOUNDS {
        builder = builder.with_config(GoogleConfigKey::Client(key), value);
    }
    builder.build()
}

fn azure(url: &BucketUrl) -> Result<impl ObjectStore, object_store::Error> {
    let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(&url.bucket).with_retry(retry());
    for (key, value) in REQUEST_BOUNDS {
        builder = builder.with_config(AzureConfigKey::Client(key), value);
    }
    builder.build()
}

fn directory(url: &BucketUrl, access: Access) -> Result<LocalFileSystem, BucketError> {
    let dir = url.directory();
    if access == Access::Write {
        std::fs::create_dir_all(&dir).map_err(|source| BucketError::io("making", &url.to_string(), "", &source))?;
    }
    // What cannot be listed is never taken for empty.
    std::fs::read_dir(&dir).map_err(|source| BucketError::io("opening", &url.to_string(), "", &source))?;
    let store = LocalFileSystem::new_with_prefix(&dir)
        .map_err(|source| BucketError::new("opening", &url.to_string(), "", &source))?;
    // An object counts as durable once it is put, as it does elsewhere; and there are no folders without objects.
    Ok(store.with_fsync(true).with_automatic_cleanup(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_of_the_environment_is_refused_and_not_shown() {
        let refused =
            |name: &str, value: &str| no_password_in_environment("s3://b", [(name.into(), value.into())].into_iter());
        for name in
            ["AWS_ENDPOINT_URL", "AWS_ENDPOINT", "aws_endpoint_url_s3", "AZURE_STORAGE_ENDPOINT", "GOOGLE_BASE_URL"]
        {
            let error = refused(name, "http://me:geheim@h:9000").unwrap_err().to_string();
            assert!(error.contains("environment variables") && !error.contains("geheim"), "{error}");
            assert!(refused(name, "http://h:9000").is_ok());
        }
        assert!(refused("AWS_SECRET_ACCESS_KEY", "a@b").is_ok());
        assert!(refused("HTTP_PROXY", "http://me:geheim@h").is_ok());
        assert!(refused("AWS_PROXY_URL", "http://me:geheim@h").is_ok());
    }
}
