use super::*;
use crate::model::{CapKey, DaId, EventId, Kind, UserId};
use proptest::prelude::*;
use serde_json::{Value, json};

const IAT: u64 = 1_732_233_600_000;
const HOUR: u64 = 3_600_000;

fn signer(keys: &str) -> Signer {
    Signer::new(&keys.parse().unwrap())
}

fn token(user: &str, keys: &[&str], kind: &str) -> Token<'static> {
    Token {
        user: UserId::new(user.to_owned()).unwrap(),
        da: DaId::new("77").unwrap(),
        id: EventId::new("imp-1").unwrap(),
        keys: keys.iter().map(|key| CapKey::extra((*key).to_owned()).unwrap()).collect(),
        kind: Kind::new(kind).unwrap(),
        iat: TsMs(IAT),
        exp: TsMs(IAT + HOUR),
    }
}

fn parts(url: &str) -> (&str, &str) {
    url.strip_prefix(PATH).unwrap().split_once("&s=").unwrap()
}

fn verify(signer: &Signer, e: &str, s: &str, now: u64) -> Result<String, PixelError> {
    signer.verify(e, s, TsMs(now), &mut String::new()).map(|token| format!("{token:?}"))
}

/// Signs any text with a key.
fn signed(kid_secret: &str, json: &str) -> (String, String) {
    let secret = kid_secret.split_once(':').unwrap().1;
    let e = URL_SAFE_NO_PAD.encode(json);
    let signature = hmac::sign(&hmac::Key::new(HMAC_SHA256, secret.as_bytes()), e.as_bytes());
    let s = URL_SAFE_NO_PAD.encode(&signature.as_ref()[..SIGNATURE]);
    (e, s)
}

#[test]
fn what_is_signed_is_known_and_nothing_else() {
    let signer = signer("a:secret");
    let url = signer.sign(&token("u1", &["campaign:42"], "impression")).unwrap();
    let (e, s) = parts(&url);
    let whole = verify(&signer, e, s, IAT).unwrap();
    assert_eq!(whole, format!("{:?}", token("u1", &["campaign:42"], "impression")));
    assert_eq!(verify(&signer, e, s, IAT + HOUR - 1), Ok(whole));
    assert_eq!(verify(&signer, e, s, IAT + HOUR), Err(PixelError::Expired));
    // Cut short, one letter changed, another's signature.
    for cut in 0..e.len() {
        assert!(verify(&signer, &e[..cut], s, IAT).is_err(), "e cut at {cut}");
    }
    for cut in 0..s.len() {
        assert_eq!(verify(&signer, e, &s[..cut], IAT), Err(PixelError::Signature), "s cut at {cut}");
    }
    for at in 0..e.len() {
        let other = if e.as_bytes()[at] == b'A' { 'B' } else { 'A' };
        let changed = format!("{}{other}{}", &e[..at], &e[at + 1..]);
        assert!(verify(&signer, &changed, s, IAT).is_err(), "e changed at {at}");
    }
    let other = signer.sign(&token("u2", &["campaign:42"], "impression")).unwrap();
    assert_eq!(verify(&signer, parts(&other).0, s, IAT), Err(PixelError::Signature));
    assert_eq!(verify(&signer, e, &format!("{s}AA"), IAT), Err(PixelError::Signature));
    assert_eq!(verify(&signer, &"A".repeat(TOKEN_MAX + 1), s, IAT), Err(PixelError::Length));
    assert_eq!(verify(&signer, "", s, IAT), Err(PixelError::Length));
}

#[test]
fn keys_rotate_and_the_first_one_signs() {
    let (old, both, new) = (signer("old:one"), signer("new:two,old:one"), signer("new:two"));
    let token = token("u", &[], "click");
    let (of_old, of_both) = (old.sign(&token).unwrap(), both.sign(&token).unwrap());
    let knows = |signer: &Signer, url: &str| verify(signer, parts(url).0, parts(url).1, IAT);
    assert!(knows(&both, &of_old).is_ok() && knows(&both, &of_both).is_ok());
    assert!(knows(&new, &of_both).is_ok());
    assert_eq!(
        (knows(&new, &of_old), knows(&old, &of_both)),
        (Err(PixelError::UnknownKey), Err(PixelError::UnknownKey))
    );
    // A key of the same id with another secret.
    assert_eq!(knows(&signer("old:two"), &of_old), Err(PixelError::Signature));
    let none = Signer::new(&PixelKeys::default());
    assert!(none.sign(&token).is_none() && !none.can_sign());
    assert_eq!(knows(&none, &of_old), Err(PixelError::UnknownKey));
    assert_eq!(format!("{both:?}"), r#"["new", "old"]"#);
}

#[test]
fn what_is_signed_but_cannot_be_counted_is_told() {
    let signer = signer("a:secret");
    let whole =
        json!({"u": "u", "d": 7, "i": "i", "k": ["c:1"], "n": "click", "iat": IAT, "exp": IAT + HOUR, "kid": "a"});
    let read = |json: &Value| {
        let (e, s) = signed("a:secret", &json.to_string());
        verify(&signer, &e, &s, IAT)
    };
    assert!(read(&whole).unwrap().contains(r#"da: "7""#), "an integer is its digits");
    for (member, value) in [
        ("u", Value::Null),
        ("d", json!("*")),
        ("i", Value::Null),
        ("k", json!(["da:1"])),
        ("k", json!((0..17).map(|n| format!("c:{n}")).collect::<Vec<_>>())),
        ("k", json!("c:1")),
        ("n", json!("Click")),
        ("iat", Value::Null),
        ("iat", json!(IAT / 1_000)),
        ("exp", json!("soon")),
        ("exp", json!(IAT - 1)),
        ("exp", json!(IAT + 7 * 24 * HOUR + 1)),
    ] {
        let mut changed = whole.clone();
        changed[member] = value;
        let why = read(&changed).unwrap_err();
        assert!(matches!(why, PixelError::Token(_)), "{changed}: {why}");
    }
    for (json, why) in
        [("[]", PixelError::UnknownKey), ("{\"kid\":7}", PixelError::UnknownKey), ("{", PixelError::UnknownKey)]
    {
        let (e, s) = signed("a:secret", json);
        assert_eq!(verify(&signer, &e, &s, IAT), Err(why), "{json}");
    }
}

#[test]
fn a_url_that_would_be_too_long_is_not_made() {
    let signer = signer("a:secret");
    let keys: Vec<String> = (0..5).map(|n| format!("c{n}:{}", "x".repeat(240))).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert!(signer.sign(&token("u", &keys[..3], "impression")).is_some());
    assert!(signer.sign(&token("u", &keys, "impression")).is_none());
    let ever = Token { exp: TsMs(IAT + 8 * 24 * HOUR), ..token("u", &[], "impression") };
    assert!(signer.sign(&ever).is_none());
}

proptest! {
    #[test]
    fn what_is_signed_is_read_as_it_was(user in "[^\\x00-\\x1f\\x7f-\\u{9f}*]{1,40}", keys in prop::collection::vec("[a-z]{1,8}:[!-~]{1,20}", 0..6)) {
        let mut distinct: Vec<&str> = keys.iter().map(String::as_str).filter(|key| !key.starts_with("da:")).filter(|key| CapKey::extra(*key).is_ok()).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let (signer, token) = (signer("a:secret"), token(&user, &distinct, "click"));
        if let Some(url) = signer.sign(&token) {
            let (e, s) = parts(&url);
            prop_assert_eq!(verify(&signer, e, s, IAT), Ok(format!("{token:?}")));
            // Nothing in it needs to be escaped.
            prop_assert!(url[PATH.len()..].bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_&=".contains(&byte)));
        }
    }
}

/// What every client is held to.
#[test]
fn the_vectors_of_the_clients_are_what_is_signed_here() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/vectors.json");
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let vectors = vectors["pixel"].as_array().unwrap();
    assert!(vectors.len() >= 4);
    for vector in vectors {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let signer = signer(&format!("{}:{}", text(&vector["kid"]), text(&vector["secret"])));
        let event = &vector["event"];
        let token = Token {
            user: UserId::new(text(&event["user"])).unwrap(),
            da: DaId::new(text(&event["da"])).unwrap(),
            id: EventId::new(text(&event["id"])).unwrap(),
            keys: event["keys"].as_array().into_iter().flatten().map(|key| CapKey::extra(text(key)).unwrap()).collect(),
            kind: event["kind"].as_str().map_or(Kind::IMPRESSION, |kind| Kind::new(kind).unwrap()),
            iat: TsMs(vector["iat"].as_u64().unwrap()),
            exp: TsMs(vector["exp"].as_u64().unwrap()),
        };
        let url = signer.sign(&token).unwrap();
        let json = String::from_utf8(URL_SAFE_NO_PAD.decode(parts(&url).0).unwrap()).unwrap();
        assert_eq!((json, url), (text(&vector["json"]), text(&vector["url"])), "{}", vector["name"]);
    }
}

/// What the clients sign is known here.
#[test]
fn what_clients_sign_is_known() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/vectors.json");
    let vectors: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut known = 0;
    for vector in vectors["signing"].as_array().unwrap() {
        // Others are what a client refuses to sign.
        let Some(url) = vector["url"].as_str() else { continue };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (keys, claims) = (format!("{}:{}", text(&vector["kid"]), text(&vector["secret"])), &vector["claims"]);
        let (e, s) = parts(url);
        let mut json = String::new();
        let token = signer(&keys).verify(e, s, TsMs(claims["iat"].as_u64().unwrap()), &mut json).unwrap();
        assert_eq!((token.user.as_str(), token.da.as_str()), (&*text(&claims["user"]), &*text(&claims["da"])));
        assert_eq!((token.id.as_str(), token.exp.0), (&*text(&claims["id"]), claims["exp"].as_u64().unwrap()));
        assert_eq!(token.kind.as_str(), claims["kind"].as_str().unwrap_or("impression"));
        let keys = claims["keys"].as_array().cloned().unwrap_or_default();
        assert_eq!(
            token.keys.iter().map(CapKey::as_str).collect::<Vec<_>>(),
            keys.iter().map(|key| key.as_str().unwrap()).collect::<Vec<_>>()
        );
        known += 1;
    }
    assert!(known >= 2, "{known}");
}
