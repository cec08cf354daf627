//! `GET /whoami`: who the caller is, and what the caller may do.

use crate::api::WhoamiAnswer;
use crate::auth::Scope;
use crate::http::app::App;
use crate::http::gate::Caller;
use crate::http::problem::{Problem, json};
use crate::http::route::{Answer, Call};
use std::sync::Arc;

/// Whose key this is, and what it allows
///
/// For every key, whatever its scopes. It is how the operator's page knows what to show.
#[utoipa::path(
    get,
    path = "/whoami",
    operation_id = "whoami",
    tag = "operation",
    responses((status = 200, description = "The key's id and its scopes", body = WhoamiAnswer))
)]
pub(in crate::http) async fn get(_app: &Arc<App>, call: &mut Call) -> Answer {
    let answer = match &call.caller {
        Caller::Anyone => WhoamiAnswer { key: None, scopes: Scope::ALL.map(Scope::name).into() },
        Caller::Key(key) => WhoamiAnswer { key: Some(key.id.as_str()), scopes: key.scopes.names() },
        // Not let in.
        Caller::Unknown(_) => return Err(Problem::internal()),
    };
    Ok(json(&answer))
}
