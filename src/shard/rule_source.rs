//! Where a rule comes from.

/// Who made a rule, and alone may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `--limit` and `--window`.
    Flags,
    /// The settings file.
    File,
    /// The HTTP interface.
    Api,
}

impl Source {
    /// As the audit names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Flags => "flags",
            Self::File => "file",
            Self::Api => "api",
        }
    }
}
