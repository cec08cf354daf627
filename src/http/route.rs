//! What a route is, and what every call to one goes through before its handler.

use super::admission::Permit;
use super::app::App;
use super::problem::Problem;
use axum::body::Body;
use axum::response::Response;
use http::Method;
use http::request::Parts;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A route of the service: what is known of its calls before they are handled.
#[derive(Debug)]
pub(super) struct Route {
    pub method: Method,
    /// With its parameters in braces. Metrics have it as `route`.
    pub path: &'static str,
    /// The id of the operation in the OpenAPI document; a test holds them equal.
    #[cfg_attr(not(test), allow(dead_code))]
    pub operation: &'static str,
    /// Every route says it. Nothing asks for keys yet; [`Call::enter`] is where that will be.
    #[cfg_attr(not(test), allow(dead_code))]
    pub access: Access,
    pub admission: Class,
    /// Set where calls are led to the handler without the router.
    pub fast: Option<FastRoute>,
    pub handler: Handler,
}

/// Runs a call of a route that has no fast way.
pub(super) type Handler = for<'a> fn(&'a Arc<App>, &'a mut Call) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// What a handler gives: an answer, or the problem that kept it from one.
pub(super) type Answer = Result<Response, Problem>;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody: probes do not carry keys.
    Open,
    /// Whoever has a key with this scope.
    Scope(Scope),
}

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
    /// Everything else.
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
    pub fn name(self) -> &'static str {
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

/// How calls of a route are admitted when many are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Always, whatever the load: the only calls of spare connections and of the admin listener.
    Operation,
    /// Always: they take no longer than their header.
    Light,
    /// As a read, before the handler starts.
    Read,
    /// As a read, by the handler once the body is there: a client that sends slowly must not take a permit from others.
    BodyThenRead,
    /// As a write, by the handler once it knows what to write.
    Write,
}

/// A call with a fast way: one that ad servers make all day. It is recognised by its method and path, without the router
/// and its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FastRoute {
    Events,
    Check,
    Reserve,
    Cap,
}

impl FastRoute {
    pub(super) const ALL: [Self; 4] = [Self::Events, Self::Check, Self::Reserve, Self::Cap];

    /// The fast way of a request, if it has one. A test holds this equal to the table of routes.
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        match (method, path) {
            (&Method::POST, "/events") => Some(Self::Events),
            (&Method::POST, "/check") => Some(Self::Check),
            (&Method::POST, "/reserve") => Some(Self::Reserve),
            (&Method::GET, path) => {
                let (user, da) = path.strip_prefix("/cap/")?.split_once('/')?;
                (!user.is_empty() && !da.is_empty() && !da.contains('/')).then_some(Self::Cap)
            }
            _ => None,
        }
    }
}

/// A request on its way to the handler of a route.
pub(super) struct Call {
    pub route: &'static Route,
    pub parts: Parts,
    /// What the handler does not read of it is read by [`super::drain_body`].
    pub body: Body,
}

impl Call {
    pub(super) fn path(&self) -> &str {
        self.parts.uri.path()
    }

    /// The query string, empty without one.
    pub(super) fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    /// Lets the call in before its handler starts. Fast and other calls both come through here, so this is the place to
    /// ask who calls (`route.access` says what the caller needs) and whether another node should answer.
    pub(super) fn enter<'a>(&self, app: &'a App) -> Result<Option<Permit<'a>>, Problem> {
        match self.route.admission {
            Class::Read => app.admission.read().map(Some),
            Class::Operation | Class::Light | Class::BodyThenRead | Class::Write => Ok(None),
        }
    }
}

impl Route {
    /// Lets a call in where its handler asks for that: once its body is there.
    pub(super) fn admit<'a>(&self, app: &'a App) -> Result<Option<Permit<'a>>, Problem> {
        match self.admission {
            Class::BodyThenRead => app.admission.read().map(Some),
            Class::Write => app.admission.write().map(Some),
            Class::Operation | Class::Light | Class::Read => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_routes_are_known_by_method_and_path() {
        for (method, path, expected) in [
            (Method::POST, "/events", Some(FastRoute::Events)),
            (Method::GET, "/events", None),
            (Method::POST, "/events/", None),
            (Method::POST, "/check", Some(FastRoute::Check)),
            (Method::POST, "/reserve", Some(FastRoute::Reserve)),
            (Method::GET, "/cap/u1/77", Some(FastRoute::Cap)),
            (Method::GET, "/cap/a%2Fb/77", Some(FastRoute::Cap)),
            (Method::HEAD, "/cap/u1/77", None),
            (Method::GET, "/cap/u1/77/8", None),
            (Method::GET, "/cap//77", None),
            (Method::GET, "/cap/u1/", None),
            (Method::GET, "/cap/u1", None),
            (Method::GET, "/cap", None),
        ] {
            assert_eq!(FastRoute::of(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn every_scope_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Scope::ALL.iter().map(|scope| scope.name()).collect();
        assert_eq!(names.len(), Scope::ALL.len());
    }
}
