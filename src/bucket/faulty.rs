//! A store that fails, hangs, is late, loses answers and lies, for tests.

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::sync::{Arc, Mutex};

/// What is being asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Put,
    Create,
    Multipart,
    Get,
    List,
    Delete,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// It is not done, and an error is answered.
    Fail,
    /// It is not allowed.
    Forbid,
    /// There is no room.
    Full,
    /// No answer ever comes, and nothing is done.
    Hang,
    /// It is done, and an error is answered.
    LoseAnswer,
    /// A condition is passed over.
    Lie,
}

type Rule = Box<dyn FnMut(Call, &str) -> Fault + Send>;

/// Another store behind a rule that says what becomes of each call.
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    rule: Arc<Mutex<Rule>>,
}

impl Faulty {
    pub fn new(inner: Arc<dyn ObjectStore>, rule: impl FnMut(Call, &str) -> Fault + Send + 'static) -> Self {
        Self { inner, rule: Arc::new(Mutex::new(Box::new(rule))) }
    }

    /// `Ok(true)`: do it, and lose the answer.
    async fn ask(&self, call: Call, path: &Path) -> Result<Fault> {
        let fault = (self.rule.lock().unwrap())(call, path.as_ref());
        refuse(fault, path)?;
        if fault == Fault::Hang {
            std::future::pending::<()>().await;
        }
        Ok(fault)
    }
}

fn refuse(fault: Fault, path: &Path) -> Result<()> {
    let generic = |source: std::io::Error| Error::Generic { store: "faulty", source: Box::new(source) };
    match fault {
        Fault::Fail => Err(generic(std::io::ErrorKind::ConnectionReset.into())),
        Fault::Full => Err(generic(std::io::ErrorKind::StorageFull.into())),
        Fault::Forbid => Err(Error::PermissionDenied {
            path: path.to_string(),
            source: Box::new(std::io::Error::other("forbidden")),
        }),
        Fault::None | Fault::Hang | Fault::LoseAnswer | Fault::Lie => Ok(()),
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let call = if options.mode == PutMode::Create { Call::Create } else { Call::Put };
        let fault = self.ask(call, path).await?;
        if fault == Fault::Lie {
            options.mode = PutMode::Overwrite;
        }
        let done = self.inner.put_opts(path, payload, options).await;
        if fault == Fault::LoseAnswer {
            refuse(Fault::Fail, path)?;
        }
        done
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.ask(Call::Multipart, path).await?;
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.ask(Call::Get, path).await?;
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (inner, rule) = (self.inner.clone(), self.rule.clone());
        let deleted = paths.then(move |path| {
            let (inner, rule) = (inner.clone(), rule.clone());
            async move {
                let path = path?;
                let fault = (rule.lock().unwrap())(Call::Delete, path.as_ref());
                refuse(fault, &path)?;
                inner.delete(&path).await?;
                Ok(path)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let path = prefix.cloned().unwrap_or_default();
        let fault = (self.rule.lock().unwrap())(Call::List, path.as_ref());
        match refuse(fault, &path) {
            Err(error) => futures_util::stream::once(async move { Err(error) }).boxed(),
            Ok(()) if fault == Fault::Hang => futures_util::stream::pending().boxed(),
            Ok(()) => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.ask(Call::List, &prefix.cloned().unwrap_or_default()).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
