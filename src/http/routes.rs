//! The table of routes. The router, the fast ways, the OpenAPI document and the metrics' labels all follow from it.

use super::access::Access::{AnyKey, Open, Scope as Needs};
use super::app::App;
use super::gate::Caller;
use super::openapi;
use super::problem::Problem;
use super::resource::{audit, cap, check, events, metrics, probes, reserve, rules, snapshots, status, users, whoami};
use super::route::Class::{BodyThenRead, Light, Operation, Read, Write};
use super::route::{Answer, Call, FastRoute, Listener, Place, Route};
use super::ui;
use crate::auth::Scope;
use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, any, on};
use http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, StatusCode};
use std::collections::BTreeSet;
use std::sync::Arc;
use utoipa::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

/// Where people read what the calls are.
const DOCS: &str = "/docs";
const DOCS_FILES: &str = "/docs/{*file}";
const OPENAPI: &str = "/openapi.json";

/// Makes the table, and the document of the same handlers.
macro_rules! routes {
    ($($method:ident $path:literal $operation:ident $module:ident::$handler:ident, $access:expr, $place:ident, $admission:expr, $fast:expr;)*) => {
        pub(super) static ROUTES: &[Route] = &[$(Route {
            method: Method::$method,
            path: $path,
            operation: stringify!($operation),
            access: $access,
            place: Place::$place,
            admission: $admission,
            fast: $fast,
            handler: |app, call| Box::pin($module::$handler(app, call)),
        }),*];

        #[derive(OpenApi)]
        #[openapi(
            paths($($module::$handler),*),
            info(
                title = "freqcap",
                description = "Ad frequency capping: has this user seen this ad too often? Events in, exact caps out.\n\nInstants are integers, ms since 1970. Durations are text: one positive integer and one of `ms`, `s`, `m`, `h`, `d`. Errors are RFC 9457 problems with a stable `code`.",
                license(name = "Apache-2.0", identifier = "Apache-2.0")
            ),
            servers((url = "http://127.0.0.1:8080", description = "Where the service listens unless told otherwise")),
            tags(
                (name = "events", description = "Impressions, clicks, conversions in"),
                (name = "caps", description = "Verdicts"),
                (name = "reservations", description = "Check and count in one step"),
                (name = "rules", description = "What caps"),
                (name = "users", description = "What is known of a user"),
                (name = "operation", description = "Probes and figures")
            )
        )]
        struct Document;
    };
}

// Method, path, operation id, handler; who may call it; at which listeners; how it is admitted; whether it has a fast way.
routes! {
    POST   "/events"            countEvents   events::post,       Needs(Scope::Events),      Main,       Write,        Some(FastRoute::Events);
    GET    "/cap/{user}/{da}"   getCap        cap::get_by_path,   Needs(Scope::Decide),      Main,       Read,         Some(FastRoute::Cap);
    GET    "/cap"               getCapByQuery cap::get_by_query,  Needs(Scope::Decide),      Main,       Read,         None;
    POST   "/check"             checkCandidates check::post,      Needs(Scope::Decide),      Main,       BodyThenRead, Some(FastRoute::Check);
    POST   "/reserve"           reserve       reserve::reserve,   Needs(Scope::Decide),      Main,       Write,        Some(FastRoute::Reserve);
    POST   "/release"           release       reserve::release,   Needs(Scope::Decide),      Main,       Write,        None;
    GET    "/users/{user}/caps" listUserCaps  users::get_caps,    Needs(Scope::Decide),      Both,       Read,         None;
    GET    "/users/{user}"      getUser       users::get,         Needs(Scope::UsersRead),   Admin,      Read,         None;
    DELETE "/users/{user}"      eraseUser     users::delete,      Needs(Scope::UsersErase),  Admin,      Write,        None;
    GET    "/rules"             listRules     rules::list,        Needs(Scope::RulesRead),   Admin,      Read,         None;
    GET    "/rules/{id}"        getRule       rules::get,         Needs(Scope::RulesRead),   Admin,      Light,        None;
    PUT    "/rules/{id}"        putRule       rules::put,         Needs(Scope::RulesWrite),  Admin,      Write,        None;
    DELETE "/rules/{id}"        deleteRule    rules::delete,      Needs(Scope::RulesWrite),  Admin,      Write,        None;
    GET    "/snapshots"         listSnapshots snapshots::list,    Needs(Scope::Admin),       Admin,      Light,        None;
    POST   "/snapshots"         takeSnapshot  snapshots::take,    Needs(Scope::Admin),       Admin,      Light,        None;
    GET    "/healthz"           healthz       probes::healthz,    Open,                      AdminAndPublic, Operation,    None;
    GET    "/readyz"            readyz        probes::readyz,     Open,                      Admin,      Operation,    None;
    GET    "/metrics"           metrics       metrics::metrics,   Needs(Scope::Metrics),     Admin,      Operation,    None;
    GET    "/status"            getStatus     status::status,     Needs(Scope::Metrics),     Admin,      Operation,    None;
    GET    "/audit"             listAudit     audit::list,        Needs(Scope::Admin),       Admin,      Read,         None;
    GET    "/whoami"            whoami        whoami::get,        AnyKey,                    Both,       Light,        None;
    GET    "/version"           getVersion    status::version,    Needs(Scope::Metrics),     Admin,      Operation,    None;
}

/// The row of a fast way. That there is one is tested.
pub(super) fn fast_route(fast: FastRoute) -> &'static Route {
    let row = ROUTES.iter().find(|route| route.fast == Some(fast));
    row.unwrap_or(&ROUTES[0])
}

/// Whether a path is one of those that are answered whatever the load.
pub(super) fn is_operation(path: &str) -> bool {
    ROUTES.iter().any(|route| route.admission == Operation && route.path == path)
}

fn document() -> utoipa::openapi::OpenApi {
    openapi::secured(Document::openapi(), ROUTES)
}

/// The OpenAPI document, as `openapi/openapi.json` holds it.
pub fn openapi_json() -> String {
    let mut text = document().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Whether nobody is asked for a key at a path.
pub(super) fn is_open(path: &str) -> bool {
    ui::is_page(path) || ROUTES.iter().any(|route| route.access == Open && route.path == path)
}

/// The paths of a listener; `has_admin` where there is one for operators.
pub(super) fn router(app: &Arc<App>, listener: Listener, has_admin: bool) -> Router {
    let here = ROUTES.iter().filter(|route| listener.has(route.place, has_admin));
    let mut routes = with_routes(here).with_state(app.clone());
    if listener.is_for_operators(has_admin) {
        let docs = Router::from(SwaggerUi::new(DOCS).url(OPENAPI, document()));
        routes = routes.merge(docs.layer(map_response(with_content_policy))).merge(ui::router());
    } else if listener == Listener::Main {
        routes = with_signposts(routes);
    }
    with_fallbacks(routes)
}

/// Has a browser run nothing on the page of the document but what this service serves, and show the page in no other.
async fn with_content_policy(mut response: Response) -> Response {
    // Swagger UI sets styles of elements, and has its icons in its style sheet.
    let policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                  connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Leads whoever asks for a path of operators here to their listener.
fn with_signposts(mut routes: Router) -> Router {
    let is_elsewhere = |route: &&Route| !Listener::Main.has(route.place, true);
    let paths: BTreeSet<&str> = ROUTES.iter().filter(is_elsewhere).map(|route| route.path).collect();
    for path in paths.into_iter().chain([DOCS, DOCS_FILES, OPENAPI, ui::PATH, ui::ROOT, ui::FILES]) {
        routes = routes.route(path, any(|| async { at_admin_listener() }));
    }
    routes
}

/// The answer to a call of operators where they have a listener of their own.
pub(super) fn at_admin_listener() -> Problem {
    let detail = "this is answered at the address of --admin-listen alone";
    Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
}

fn with_routes(routes: impl Iterator<Item = &'static Route>) -> Router<Arc<App>> {
    let mut router = Router::new();
    for route in routes {
        // The table has the methods that a filter knows.
        let Ok(method) = MethodFilter::try_from(route.method.clone()) else { continue };
        let handler = move |State(app): State<Arc<App>>, request: Request| async move {
            let (mut parts, body) = request.into_parts();
            let Some(caller) = parts.extensions.remove::<Caller>() else { return Problem::internal().into_response() };
            run(&app, &mut Call { route, caller, parts, body }).await.unwrap_or_else(Problem::into_response)
        };
        router = router.route(route.path, on(method, handler));
    }
    router
}

async fn run(app: &Arc<App>, call: &mut Call) -> Answer {
    let _permit = call.enter(app)?;
    (call.route.handler)(app, call).await
}

fn with_fallbacks(routes: Router) -> Router {
    routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn(note_route))
        // Bodies are bounded where they are read.
        .layer(DefaultBodyLimit::disable())
}

/// Leaves with an answer by which route it came.
async fn note_route(route: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such resource; /docs tells what there is")
}

async fn method_not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "the resource does not have this method; see /docs",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Key, KeyId, Scopes};
    use crate::http::gate::Unknown;
    use serde_json::Value;

    /// Method, path and operation id.
    type Row = (String, String, String);

    #[test]
    fn the_document_describes_the_routes_of_the_table_and_no_others() {
        let of_route =
            |route: &Route| (route.method.as_str().to_lowercase(), route.path.to_owned(), route.operation.to_owned());
        let table: BTreeSet<Row> = ROUTES.iter().map(of_route).collect();
        let document: Value = serde_json::from_str(&openapi_json()).unwrap();
        let mut documented = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
                assert_eq!(is_open, super::is_open(path), "{path}");
                assert_eq!(is_open, operation["responses"]["401"].is_null(), "{path}");
                documented.insert((method.clone(), path.clone(), id.to_owned()));
            }
        }
        assert_eq!(table, documented);
        assert_eq!(table.len(), ROUTES.len());
    }

    #[test]
    fn the_fast_ways_are_those_of_the_table() {
        for fast in FastRoute::ALL {
            let rows: Vec<_> = ROUTES.iter().filter(|route| route.fast == Some(fast)).collect();
            assert_eq!(rows.len(), 1, "{fast:?}");
        }
        for route in ROUTES {
            let path = route.path.replace(['{', '}'], "");
            assert_eq!(FastRoute::of(&route.method, &path), route.fast, "{} {path}", route.method);
        }
    }

    #[test]
    fn only_probes_are_open() {
        let open: Vec<_> = ROUTES.iter().filter(|route| route.access == Open).map(|route| route.path).collect();
        assert_eq!(open, ["/healthz", "/readyz"]);
        assert!(is_open("/healthz") && !is_open("/metrics") && !is_open("/nowhere"));
    }

    #[test]
    fn every_route_is_for_the_keys_of_its_scope_and_for_no_others() {
        let with = |scopes: Scopes| Caller::Key(Arc::new(Key::new(KeyId::new("k").unwrap(), None, scopes, None)));
        for route in ROUTES {
            for scope in Scope::ALL {
                let allowed = match route.access {
                    Open | AnyKey => true,
                    Needs(needed) => scope == needed || scope == Scope::Admin,
                };
                let refused = with(Scopes::from_iter([scope])).may(route.access).err();
                let expected = if allowed { None } else { Some("forbidden") };
                assert_eq!(
                    refused.map(|problem| problem.code()),
                    expected,
                    "{} {}, {scope:?}",
                    route.method,
                    route.path
                );
            }
            let nobody = Caller::Unknown(Unknown::Absent).may(route.access).err();
            let expected = if route.access == Open { None } else { Some("unauthenticated") };
            assert_eq!(nobody.map(|problem| problem.code()), expected, "{} {}", route.method, route.path);
            assert!(Caller::Anyone.may(route.access).is_ok());
        }
    }

    #[test]
    fn what_the_internet_reaches_is_the_probe_alone() {
        let here = |listener: Listener, has_admin: bool| -> BTreeSet<&str> {
            ROUTES.iter().filter(|route| listener.has(route.place, has_admin)).map(|route| route.path).collect()
        };
        assert_eq!(here(Listener::Public, false), BTreeSet::from(["/healthz"]));
        assert_eq!(here(Listener::Main, false).len(), ROUTES.iter().map(|r| r.path).collect::<BTreeSet<_>>().len());
        let main = here(Listener::Main, true);
        let admin = here(Listener::Admin, true);
        let operation = ["/healthz", "/readyz", "/metrics", "/status", "/version", "/audit", "/snapshots"];
        for path in operation.into_iter().chain(["/rules", "/rules/{id}", "/users/{user}"]) {
            assert!(!main.contains(path) && admin.contains(path), "{path}");
        }
        for path in ["/events", "/cap", "/cap/{user}/{da}", "/check", "/reserve", "/release"] {
            assert!(main.contains(path) && !admin.contains(path), "{path}");
        }
        for path in ["/users/{user}/caps", "/whoami"] {
            assert!(main.contains(path) && admin.contains(path), "{path}");
        }
        assert_eq!(main.len(), 8, "events, decisions, and who asks");
    }

    #[test]
    fn every_method_of_the_table_is_routed() {
        assert!(ROUTES.iter().all(|route| MethodFilter::try_from(route.method.clone()).is_ok()));
    }
}
