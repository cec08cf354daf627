//! What is asked of a bucket.

use super::error::{BucketError, Cause};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A prefix of a bucket; cheap to clone. Names are relative to it.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    root: Path,
    /// How it is called in messages: its URL.
    name: Arc<str>,
    /// What one call may take, with all its tries.
    call_timeout: Duration,
    /// Where it is, if it is a directory.
    dir: Option<PathBuf>,
}

/// An object as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Relative to the bucket's root.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was written, in ms since 1970 by the bucket's own clock.
    pub modified_ms: u64,
}

/// What became of an object that was to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It is there, and it is ours.
    Ours,
    /// Another one is there; this is what it holds.
    Theirs(Bytes),
}

/// How often creating is tried again where an object is said to be there and is not: a conflict that passed.
const CONFLICTS_MAX: u32 = 5;

/// A list is read to its end; beyond this something is wrong with the prefix.
const LISTED_MAX: usize = 2_000_000;

impl Bucket {
    /// A prefix of a store.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str, name: String) -> Self {
        Self { store, root: Path::from(prefix), name: name.into(), call_timeout: Duration::from_secs(90), dir: None }
    }

    /// The same, in this directory.
    pub(super) fn in_directory(mut self, dir: PathBuf) -> Self {
        self.dir = Some(dir);
        self
    }

    /// The same with another bound on a call.
    pub fn with_call_timeout(mut self, call_timeout: Duration) -> Self {
        self.call_timeout = call_timeout;
        self
    }

    /// Its URL.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes an object, whether it is there or not.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), BucketError> {
        let path = self.path(name);
        self.bounded("writing", name, self.store.put(&path, PutPayload::from_bytes(bytes))).await.map(drop)
    }

    /// Creates an object if it is absent. `bytes` must hold something that no other writer has (a nonce): an object that is
    /// there with the same bytes is ours, its answer was lost.
    pub async fn create(&self, name: &str, bytes: Bytes) -> Result<Created, BucketError> {
        let mut conflicts = 0;
        loop {
            match self.try_create(name, bytes.clone()).await {
                Ok(()) => return Ok(Created::Ours),
                // Whether an object is there is unknown after an error, too: it is looked at again.
                Err(error) if error.cause != Cause::Exists && !error.cause.is_passing() => return Err(error),
                Err(error) => match self.get(name, bytes.len().max(1 << 20)).await {
                    Ok(found) if found == bytes => return Ok(Created::Ours),
                    Ok(found) => return Ok(Created::Theirs(found)),
                    Err(read) if read.cause == Cause::Missing && conflicts < CONFLICTS_MAX => {
                        conflicts += 1;
                        tokio::time::sleep(Duration::from_millis(50) * conflicts).await;
                    }
                    Err(read) if read.cause == Cause::Missing => return Err(error),
                    Err(read) => return Err(if error.cause == Cause::Exists { read } else { error }),
                },
            }
        }
    }

    /// Creates an object if it is absent, and says what the bucket says.
    pub(super) async fn try_create(&self, name: &str, bytes: Bytes) -> Result<(), BucketError> {
        let path = self.path(name);
        let options = PutOptions::from(PutMode::Create);
        self.bounded("creating", name, self.store.put_opts(&path, PutPayload::from_bytes(bytes), options))
            .await
            .map(drop)
    }

    /// Begins an upload in parts. An upload that is not completed leaves no object; its parts are removed by `abort`, or
    /// by a rule of the bucket.
    pub async fn multipart(&self, name: &str) -> Result<Box<dyn MultipartUpload>, BucketError> {
        let path = self.path(name);
        self.bounded("beginning an upload of", name, self.store.put_multipart(&path)).await
    }

    /// The whole of a small object; larger than `limit` is damage.
    pub async fn get(&self, name: &str, limit: usize) -> Result<Bytes, BucketError> {
        let path = self.path(name);
        let read = async {
            let found = self.store.get(&path).await?;
            if found.meta.size > limit as u64 { Ok(Err(found.meta.size)) } else { found.bytes().await.map(Ok) }
        };
        let too_large =
            |bytes| BucketError::damaged(&self.name, name, format!("it has {bytes} bytes, more than {limit}"));
        self.bounded("reading", name, read).await?.map_err(too_large)
    }

    /// A range of an object that must have `expected` bytes in all.
    pub async fn get_range(&self, name: &str, range: Range<u64>, expected: u64) -> Result<Bytes, BucketError> {
        let path = self.path(name);
        let wanted = range.end - range.start;
        let read = async {
            let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
            match self.store.get_opts(&path, options).await {
                Ok(found) if found.meta.size != expected => Ok(Err(found.meta.size)),
                Ok(found) => found.bytes().await.map(Ok),
                // A range beyond the end is an error of its own to each provider.
                Err(error) => match self.store.head(&path).await {
                    Ok(found) if found.size != expected => Ok(Err(found.size)),
                    _ => Err(error),
                },
            }
        };
        let wrong =
            |bytes| BucketError::damaged(&self.name, name, format!("it has {bytes} bytes instead of {expected}"));
        let bytes = self.bounded("reading", name, read).await?.map_err(wrong)?;
        if bytes.len() as u64 != wanted {
            return Err(BucketError::damaged(
                &self.name,
                name,
                format!("{} bytes came instead of {wanted}", bytes.len()),
            ));
        }
        Ok(bytes)
    }

    /// What a list would show of an object.
    pub async fn head(&self, name: &str) -> Result<Object, BucketError> {
        let path = self.path(name);
        let meta = self.bounded("looking at", name, self.store.head(&path)).await?;
        Ok(self.object(&meta))
    }

    /// Every object below `folder`, in the order of their names.
    pub async fn list(&self, folder: &str) -> Result<Vec<Object>, BucketError> {
        let path = self.path(folder);
        let mut listed = self.store.list(Some(&path));
        let mut objects = Vec::new();
        loop {
            let next = async { listed.next().await.transpose() };
            let Some(meta) = self.bounded("listing", folder, next).await? else { break };
            objects.push(self.object(&meta));
            if objects.len() > LISTED_MAX {
                return Err(BucketError::damaged(&self.name, folder, format!("more than {LISTED_MAX} objects")));
            }
        }
        objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(objects)
    }

    /// The names of the folders directly below the root.
    pub async fn folders(&self) -> Result<Vec<String>, BucketError> {
        let prefix = (!self.root.as_ref().is_empty()).then_some(&self.root);
        let found = self.bounded("listing", "", self.store.list_with_delimiter(prefix)).await?;
        let names = found.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned));
        Ok(names.collect())
    }

    /// Removes an object. One that is gone already is removed.
    pub async fn delete(&self, name: &str) -> Result<(), BucketError> {
        let path = self.path(name);
        match self.bounded("removing", name, self.store.delete(&path)).await {
            Err(error) if error.cause == Cause::Missing => Ok(()),
            done => done,
        }
    }

    /// Removes many objects in as few requests as the provider allows. Those that are gone already are removed.
    pub async fn delete_all(&self, names: Vec<String>) -> Result<(), BucketError> {
        let first = names.first().cloned().unwrap_or_default();
        let paths: Vec<_> = names.iter().map(|name| Ok(self.path(name))).collect();
        let paths = futures_util::stream::iter(paths).boxed();
        let deleted = self.store.delete_stream(paths).or_else(|error| async move {
            match error {
                object_store::Error::NotFound { .. } => Ok(Path::default()),
                error => Err(error),
            }
        });
        self.bounded("removing", &first, deleted.try_for_each(|_| async { Ok(()) })).await
    }

    /// Removes what killed processes left half-written below a folder of a directory, where `is_old` says so of the time that
    /// it was written, in ms. Elsewhere such parts are invisible, and a rule of the bucket removes them.
    pub async fn remove_unfinished(
        &self,
        folder: &str,
        is_old: impl Fn(u64) -> bool + Send + 'static,
    ) -> Result<usize, BucketError> {
        let Some(dir) = self.dir.as_ref().map(|dir| dir.join(folder)) else { return Ok(0) };
        let removed = tokio::task::spawn_blocking(move || remove_unfinished(&dir, &is_old)).await;
        let removed = removed.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        removed.map_err(|source| BucketError::io("removing what is unfinished in", &self.name, folder, &source))
    }

    /// Runs one call of the store within the bound, and says what was done to what if it fails.
    pub async fn bounded<T>(
        &self,
        doing: &'static str,
        name: &str,
        call: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, BucketError> {
        match tokio::time::timeout(self.call_timeout, call).await {
            Ok(done) => done.map_err(|error| BucketError::new(doing, &self.name, name, &error)),
            Err(_) => Err(BucketError::too_slow(doing, &self.name, name, self.call_timeout.as_secs())),
        }
    }

    fn path(&self, name: &str) -> Path {
        Path::from_iter(self.root.parts().chain(Path::from(name).parts()))
    }

    fn object(&self, meta: &ObjectMeta) -> Object {
        let path = meta.location.as_ref();
        let name = path.strip_prefix(self.root.as_ref()).unwrap_or(path).trim_start_matches('/');
        let modified_ms = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or_default();
        Object { name: name.to_owned(), bytes: meta.size, modified_ms }
    }
}

/// The object store writes `<name>#<number>` and renames it once it is whole.
fn remove_unfinished(dir: &std::path::Path, is_old: &dyn Fn(u64) -> bool) -> std::io::Result<usize> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            removed += remove_unfinished(&entry.path(), is_old)?;
            continue;
        }
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.rsplit_once('#')).map_or("", |(_, number)| number);
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        match entry.metadata() {
            Ok(metadata) if is_old(u64::try_from(metadata.mtime() * 1_000).unwrap_or_default()) => {
                std::fs::remove_file(entry.path())?;
                removed += 1;
            }
            // Young, or renamed since.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(removed)
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.name)
    }
}
