//! What a route is, and what every call to one goes through before its handler.

use super::access::Access;
use super::admission::Permit;
use super::app::App;
use super::gate::Caller;
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
    pub access: Access,
    pub place: Place,
    pub admission: Class,
    /// Set where calls are led to the handler without the router.
    pub fast: Option<FastRoute>,
    pub handler: Handler,
}

/// Marks an answer whose body goes on for as long as the client wants. Until it ends the request is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct StaysOpen;

/// Runs a call of a route that has no fast way.
pub(super) type Handler = for<'a> fn(&'a Arc<App>, &'a mut Call) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// What a handler gives: an answer, or the problem that kept it from one.
pub(super) type Answer = Result<Response, Problem>;

/// At which listeners a route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// At the main one.
    Main,
    /// At the one for operators, and only there where there is one (`--admin-listen`); else at the main one.
    Admin,
    /// At both.
    Both,
    /// As [`Place::Admin`], and at the one that the internet may reach (`--public-listen`).
    AdminAndPublic,
}

/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listener {
    Main,
    Admin,
    Public,
}

impl Listener {
    /// As metrics name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Admin => "admin",
            Self::Public => "public",
        }
    }

    /// Whether operators ask here.
    pub(super) fn is_for_operators(self, has_admin: bool) -> bool {
        self == Self::Admin || self == Self::Main && !has_admin
    }

    /// Whether a route is here; `has_admin` where there is a listener for operators.
    pub(super) fn has(self, place: Place, has_admin: bool) -> bool {
        match place {
            Place::Main => self == Self::Main,
            Place::Both => self != Self::Public,
            Place::AdminAndPublic => self == Self::Public || self.is_for_operators(has_admin),
            Place::Admin => self.is_for_operators(has_admin),
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
    pub caller: Caller,
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

    /// Lets the call in before its handler starts, if its caller may make it. Fast and other calls both come through here.
    pub(super) fn enter<'a>(&self, app: &'a App) -> Result<Option<Permit<'a>>, Problem> {
        self.caller.may(self.route.access)?;
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
}
