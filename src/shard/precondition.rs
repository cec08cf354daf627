//! Conditions of changes.

/// A condition of a change, against lost updates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Precondition {
    /// Nothing: the change is always made.
    #[default]
    Anything,
    /// There is nothing yet.
    Absent,
    /// There is something.
    Present,
    /// It is still one of these versions.
    Etag(Vec<String>),
}

impl Precondition {
    /// Whether it holds of what is there, by its version; `None`: there is nothing.
    pub fn holds(&self, etag: Option<&str>) -> bool {
        match (self, etag) {
            (Self::Anything, _) | (Self::Absent, None) | (Self::Present, Some(_)) => true,
            (Self::Etag(tags), Some(etag)) => tags.iter().any(|tag| tag == etag),
            (Self::Absent, Some(_)) | (Self::Present | Self::Etag(_), None) => false,
        }
    }
}
