//! The operator's page at `/ui/`: the files of the directory `ui/`, embedded in the binary.
//!
//! They are no secret and are sent to everybody, like the probes. What the page shows it asks for by the public API, with the key
//! of whoever sits before it.

use super::problem::Problem;
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use ring::digest;
use rust_embed::{Embed, EmbeddedFile};
use std::borrow::Cow;
use std::sync::LazyLock;

/// Where the page is.
pub(super) const PATH: &str = "/ui";
pub(super) const ROOT: &str = "/ui/";
pub(super) const FILES: &str = "/ui/{*file}";

const INDEX: &str = "index.html";

#[derive(Embed)]
#[folder = "ui/"]
struct Files;

/// What the page may do. Its import map stands in the page itself, for that is where browsers take it from: its hash allows
/// this one script and no other.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let page = Files::get(INDEX).map(|file| file.data).unwrap_or_default();
    let inline = inline_script(&page).map(|script| format!(" '{}'", source_of(script))).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'self'{inline}; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
});

/// The text of the page's only inline script.
fn inline_script(page: &[u8]) -> Option<&[u8]> {
    const OPENS: &[u8] = b"<script type=\"importmap\">";
    let begin = memchr::memmem::find(page, OPENS)? + OPENS.len();
    let length = memchr::memmem::find(&page[begin..], b"</script>")?;
    Some(&page[begin..begin + length])
}

/// How a policy names a script that stands in a page.
fn source_of(script: &[u8]) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(digest::digest(&digest::SHA256, script)))
}

/// Whether a path is of the page.
pub(super) fn is_page(path: &str) -> bool {
    path == PATH || path.starts_with(ROOT)
}

/// The paths of the page.
pub(super) fn router() -> Router {
    Router::new().route(PATH, get(redirect)).route(ROOT, get(file)).route(FILES, get(file))
}

async fn redirect() -> Response {
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, HeaderValue::from_static(ROOT))]).into_response()
}

async fn file(uri: Uri, headers: HeaderMap) -> Response {
    let name = uri.path().strip_prefix(ROOT).unwrap_or_default();
    let name = if name.is_empty() { INDEX } else { name };
    let Some(file) = Files::get(name) else {
        return Problem::new(StatusCode::NOT_FOUND, "not_found", "the page has no such file").into_response();
    };
    let etag = etag(&file);
    let is_known = headers.get_all(header::IF_NONE_MATCH).iter().any(|tags| names(tags, &etag));
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let body = match file.data {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        };
        ([(header::CONTENT_TYPE, content_type(name))], Body::from(body)).into_response()
    };
    let fields = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        fields.insert(header::ETAG, etag);
    }
    fields.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    for (name, value) in FIELDS {
        fields.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// With every file.
const FIELDS: [(HeaderName, &str); 6] = [
    // Asked for again each time, and answered 304 until the program changes: no page has files of two versions.
    (header::CACHE_CONTROL, "no-cache"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

fn etag(file: &EmbeddedFile) -> String {
    let hash = file.metadata.sha256_hash();
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

/// Whether a field `If-None-Match` names a version (RFC 9110, 13.1.2).
fn names(tags: &HeaderValue, etag: &str) -> bool {
    let mut tags = tags.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

fn content_type(name: &str) -> HeaderValue {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    HeaderValue::from_static(match extension {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn page() -> String {
        String::from_utf8(Files::get(INDEX).unwrap().data.into_owned()).unwrap()
    }

    fn files_under(directory: &Path, found: &mut BTreeSet<String>) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_under(&path, found);
            } else {
                found.insert(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn every_file_of_the_directory_is_in_the_binary_as_it_is() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
        let mut found = BTreeSet::new();
        files_under(&root, &mut found);
        let embedded: BTreeSet<String> = Files::iter().map(Cow::into_owned).collect();
        assert_eq!(embedded, found, "a new file of ui/ is embedded once src/http/ui.rs is compiled again");
        for name in &embedded {
            let file = Files::get(name).unwrap();
            assert_eq!(file.data.as_ref(), std::fs::read(root.join(name)).unwrap(), "{name}");
        }
    }

    #[test]
    fn the_only_inline_script_is_the_import_map_and_the_policy_names_its_hash() {
        let page = page();
        assert_eq!(page.matches("<script").count(), 2, "the import map, and the module that it is for");
        assert!(page.contains("<script type=\"module\" src="));
        for inline in ["style=", "onload=", "onclick=", "<style", "javascript:", "http://", "https://"] {
            assert!(!page.contains(inline), "{inline}");
        }
        let script = inline_script(page.as_bytes()).unwrap();
        let policy = POLICY.to_str().unwrap();
        assert!(policy.contains(&source_of(script)), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }

    #[test]
    fn a_hash_of_a_policy_is_that_of_the_specification() {
        // The example of CSP3, 8.2.
        assert_eq!(source_of(b"alert('Hello, world.');"), "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=");
    }

    #[test]
    fn what_the_import_map_names_is_there() {
        let page = page();
        let map: serde_json::Value = serde_json::from_slice(inline_script(page.as_bytes()).unwrap()).unwrap();
        let imports = map["imports"].as_object().unwrap();
        assert!(!imports.is_empty());
        for (name, path) in imports {
            let path = path.as_str().unwrap().strip_prefix("./").unwrap();
            assert!(Files::get(path).is_some(), "{name}: {path}");
        }
    }

    #[test]
    fn a_version_that_is_known_is_not_sent_again() {
        let tags = |text: &'static str| HeaderValue::from_static(text);
        for (field, expected) in
            [("\"a\"", true), ("W/\"a\"", true), ("\"b\", \"a\"", true), ("*", true), ("\"b\"", false), ("a", false)]
        {
            assert_eq!(names(&tags(field), "\"a\""), expected, "{field}");
        }
    }

    #[test]
    fn only_paths_of_the_page_are_the_page() {
        for path in ["/ui", "/ui/", "/ui/app/main.js", "/ui/nowhere"] {
            assert!(is_page(path), "{path}");
        }
        for path in ["/uis", "/u", "/rules", "/", "/UI/"] {
            assert!(!is_page(path), "{path}");
        }
    }
}
