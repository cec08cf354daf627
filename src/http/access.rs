//! Who may call a route.

use crate::auth::Scope;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody: probes do not carry keys.
    Open,
    /// Whoever has a key, whatever its scopes.
    AnyKey,
    /// Whoever has a key with this scope.
    Scope(Scope),
}
