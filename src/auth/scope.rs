//! Scopes: what a key allows.

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Send events.
    Events,
    /// Ask for verdicts, reserve, release.
    Decide,
    /// Read what is held of a user.
    UsersRead,
    /// Erase a user.
    UsersErase,
    /// Read rules.
    RulesRead,
    /// Change rules.
    RulesWrite,
    /// Read ads.
    AdsRead,
    /// Change ads.
    AdsWrite,
    /// Read reports.
    Reports,
    /// Follow the stream of changes.
    Stream,
    /// Sign URLs.
    Sign,
    /// Read metrics and status.
    Metrics,
    /// Everything.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 13] = [
        Self::Events,
        Self::Decide,
        Self::UsersRead,
        Self::UsersErase,
        Self::RulesRead,
        Self::RulesWrite,
        Self::AdsRead,
        Self::AdsWrite,
        Self::Reports,
        Self::Stream,
        Self::Sign,
        Self::Metrics,
        Self::Admin,
    ];

    /// As a file of keys names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Decide => "decide",
            Self::UsersRead => "users:read",
            Self::UsersErase => "users:erase",
            Self::RulesRead => "rules:read",
            Self::RulesWrite => "rules:write",
            Self::AdsRead => "ads:read",
            Self::AdsWrite => "ads:write",
            Self::Reports => "reports",
            Self::Stream => "stream",
            Self::Sign => "sign",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }
}

/// A text that names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no scope {name:?}; the scopes are {}", Scope::ALL.map(Scope::name).join(", "))]
pub struct UnknownScope {
    name: String,
}

impl std::str::FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(name: &str) -> Result<Self, UnknownScope> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == name);
        // Long enough for every scope that is misspelt; a secret in the wrong place is longer.
        found.ok_or_else(|| UnknownScope { name: name.chars().take(16).collect() })
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u16);

impl Scopes {
    /// Adds a scope.
    pub fn add(&mut self, scope: Scope) {
        self.0 |= 1 << scope as u16;
    }

    /// Whether they allow what needs this scope: `admin` allows everything.
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u16 | 1 << Scope::Admin as u16) != 0
    }

    /// Those that are named, in the order of [`Scope::ALL`].
    pub fn names(self) -> Vec<&'static str> {
        Scope::ALL.into_iter().filter(|scope| self.0 & (1 << *scope as u16) != 0).map(Scope::name).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        let mut all = Self::default();
        for scope in scopes {
            all.add(scope);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Scope::ALL.iter().map(|scope| scope.name()).collect();
        assert_eq!(names.len(), Scope::ALL.len());
        for scope in Scope::ALL {
            assert_eq!(scope.name().parse(), Ok(scope));
        }
        assert!("rules".parse::<Scope>().is_err());
    }

    #[test]
    fn a_scope_allows_itself_alone_and_admin_everything() {
        for one in Scope::ALL {
            for needed in Scope::ALL {
                let allows = Scopes::from_iter([one]).allow(needed);
                assert_eq!(allows, one == needed || one == Scope::Admin, "{one:?} {needed:?}");
            }
            assert!(!Scopes::default().allow(one));
        }
    }
}
