//! The operator's page as it is served, and who is told whose key it is. What the page does is in `tests/ui/`.

use super::open::side_listener;
use super::world::{SCOPES, World, ask, row};
use crate::support::{Server, root};
use serde_json::json;

fn get(server: &Server, url: &str, fields: &[(&str, &str)]) -> reqwest::blocking::Response {
    let mut request = server.http.get(url);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.send().unwrap()
}

fn field<'r>(response: &'r reqwest::blocking::Response, name: &str) -> &'r str {
    response.headers().get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
}

#[test]
fn the_page_is_served_from_the_binary_to_everybody() {
    let world = World::new(&row("ops", "ops", &["admin"], ""), &[]);
    let server = world.site.start();
    let at = |path: &str| format!("{}{path}", server.url);
    // The client follows where it is led.
    let page = get(&server, &at("/ui"), &[]);
    assert_eq!((page.status().as_u16(), page.url().path()), (200, "/ui/"));
    for (path, content_type) in [
        ("/ui/", "text/html; charset=utf-8"),
        ("/ui/index.html", "text/html; charset=utf-8"),
        ("/ui/app/main.js", "text/javascript; charset=utf-8"),
        ("/ui/css/base.css", "text/css; charset=utf-8"),
        ("/ui/icon.svg", "image/svg+xml"),
        ("/ui/vendor/LICENSE.preact.txt", "text/plain; charset=utf-8"),
    ] {
        let file = get(&server, &at(path), &[]);
        assert_eq!(file.status(), 200, "{path}");
        assert_eq!(field(&file, "content-type"), content_type, "{path}");
        assert_eq!(field(&file, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(field(&file, "cache-control"), "no-cache", "{path}");
        let policy = field(&file, "content-security-policy").to_owned();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(policy.contains("script-src 'self' 'sha256-") && !policy.contains("unsafe"), "{path}: {policy}");
        let etag = field(&file, "etag").to_owned();
        let again = get(&server, &at(path), &[("if-none-match", &etag)]);
        assert_eq!((again.status().as_u16(), field(&again, "etag")), (304, etag.as_str()), "{path}");
        assert!(again.text().unwrap().is_empty());
        assert_eq!(get(&server, &at(path), &[("if-none-match", "\"other\"")]).status(), 200, "{path}");
    }
    let on_disk = std::fs::read_to_string(root().join("ui/index.html")).unwrap();
    assert_eq!(get(&server, &at("/ui/"), &[]).text().unwrap(), on_disk);
    for path in ["/ui/nowhere.js", "/ui/app/", "/ui/..%2fCargo.toml", "/ui/%2e%2e/Cargo.toml", "/ui//index.html"] {
        let (status, body) = ask(&server, "GET", path, Some("ops"));
        assert_eq!((status, &body["code"]), (404, &json!("not_found")), "{path}");
    }
    assert_eq!(ask(&server, "POST", "/ui/", Some("ops")).0, 405);
    // What the page shows is for keys alone.
    assert_eq!(ask(&server, "GET", "/whoami", None).0, 401);
    assert_eq!(ask(&server, "GET", "/uis", None).0, 401);
}

#[test]
fn the_page_is_where_operators_are() {
    let keys = row("ops", "ops", &["admin"], "");
    let world = World::new(&keys, &["--admin-listen", "127.0.0.1:0", "--public-listen", "127.0.0.1:0"]);
    let mut command = world.site.command();
    command.env("NO_COLOR", "1");
    let server = Server::start(command);
    let (admin, public) = (side_listener(&server, "for operators"), side_listener(&server, "for the internet"));
    for path in ["/ui", "/ui/", "/ui/app/main.js"] {
        assert_eq!(get(&server, &format!("{admin}{path}"), &[]).status(), 200, "{path}");
        assert_eq!(get(&server, &format!("{public}{path}"), &[]).status(), 404, "{path}");
        let (status, body) = ask(&server, "GET", path, None);
        assert!(status == 404 && body["detail"].as_str().unwrap().contains("--admin-listen"), "{path}: {body}");
    }
}

#[test]
fn every_key_is_told_what_it_allows() {
    let keys = row("ops", "one", &["metrics", "rules:read"], "")
        + &row("old", "two", &["events"], "expires = 2020-01-01T00:00:00Z")
        + &row("boss", "three", &["admin"], "");
    let world = World::new(&keys, &[]);
    let server = world.site.start();
    let told = |secret: &str| ask(&server, "GET", "/whoami", Some(secret));
    assert_eq!(told("one"), (200, json!({"key": "ops", "scopes": ["rules:read", "metrics"]})));
    assert_eq!(told("three"), (200, json!({"key": "boss", "scopes": ["admin"]})));
    assert_eq!((told("two").0, told("nobody").0), (401, 401));
    let (_site, open) = Server::with(&[]);
    assert_eq!(open.ok("/whoami"), json!({"key": null, "scopes": SCOPES}));
}
