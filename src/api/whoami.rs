//! `GET /whoami`: who the service takes the caller for.

use serde::Serialize;

/// Who the service takes the caller for, and what that allows.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct WhoamiAnswer<'a> {
    /// The id of the key; null where the service asks for none.
    #[schema(example = "ops")]
    pub key: Option<&'a str>,
    /// What it allows; `admin` allows everything. All of them where the service asks for no key.
    #[schema(value_type = Vec<String>, example = json!(["metrics", "rules:read"]))]
    pub scopes: Vec<&'static str>,
}
