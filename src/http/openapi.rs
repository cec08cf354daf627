//! What the OpenAPI document says of who may make which call: from the table of routes, not from each handler.

use super::access::Access;
use super::route::Route;
use http::Method;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, ResponseBuilder};

/// The names of the schemes in the document.
const KEY: &str = "key";
const CERTIFICATE: &str = "certificate";

/// Adds to every call of the table which scope its key needs, and how it is refused without.
pub(super) fn secured(mut document: OpenApi, routes: &[Route]) -> OpenApi {
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    scheme.description = Some(
        "The secret of a key, as `freqcap key new` makes it. A service that was started without `--keys-file` asks for none."
            .to_owned(),
    );
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(KEY, SecurityScheme::Http(scheme));
    let description = "A client certificate of an authority of `--tls-client-ca` whose DNS name is the id of a key.";
    let scheme =
        SecurityScheme::MutualTls { description: Some(description.to_owned()), extensions: None, deprecated: None };
    components.add_security_scheme(CERTIFICATE, scheme);
    for route in routes {
        let operation = document.paths.paths.get_mut(route.path).and_then(|item| operation(item, &route.method));
        let Some(operation) = operation else { continue };
        let scopes = match route.access {
            Access::Open => {
                operation.security = Some(Vec::new());
                continue;
            }
            Access::AnyKey => Vec::new(),
            Access::Scope(scope) => vec![scope.name()],
        };
        // Either will do.
        let needs = |scheme: &str| SecurityRequirement::new(scheme, scopes.clone());
        operation.security = Some(vec![needs(KEY), needs(CERTIFICATE)]);
        let refusals =
            [("401", "No key is named, or none that is known"), ("403", "The key has not the scope: `scope` names it")];
        // Where any key will do, none is refused.
        let refused = if scopes.is_empty() { 1 } else { refusals.len() };
        for (status, description) in refusals.into_iter().take(refused) {
            let content = Content::new(Some(Ref::from_schema_name("Problem")));
            let response = ResponseBuilder::new().description(description).content("application/problem+json", content);
            operation.responses.responses.insert(status.to_owned(), response.build().into());
        }
    }
    document
}

fn operation<'p>(item: &'p mut PathItem, method: &Method) -> Option<&'p mut Operation> {
    let operation = match *method {
        Method::GET => &mut item.get,
        Method::PUT => &mut item.put,
        Method::POST => &mut item.post,
        Method::DELETE => &mut item.delete,
        Method::OPTIONS => &mut item.options,
        _ => return None,
    };
    operation.as_mut()
}
