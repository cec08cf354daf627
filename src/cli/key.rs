//! `freqcap key new`, `hash` and `check`: the keys of those who may call.

use crate::auth::{Digest, Keyring, KeyringError, Scope, Secret, UnknownScope, read_secret};
use crate::auth::{KeyId, KeyIdError};
use crate::clock::Clock;
use crate::model::{Span, TsMs};
use crate::random::random_bytes;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, clap::Subcommand)]
enum KeyCommand {
    /// Makes a key: prints its secret, which nothing keeps, and what the keys file has of it
    New(NewArgs),
    /// Prints the sha256 of a secret, as the keys file has it
    Hash(HashArgs),
    /// Says whether a keys file can be used, and what it allows to whom
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct NewArgs {
    /// Name of the key: letters, digits, `.`, `_`, `-`. `cert:NAME` is whoever has a client certificate for NAME
    #[arg(long, value_name = "ID")]
    id: String,
    /// What it allows: events, decide, users:read, users:erase, rules:read, rules:write, ads:read, ads:write, reports,
    /// stream, sign, metrics, admin (everything)
    #[arg(long, value_name = "SCOPE,..", value_delimiter = ',', required = true)]
    scopes: Vec<String>,
    /// Until when: an instant (2030-01-01T00:00:00Z), or a duration from now on (90d) [default: for ever]
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Adds the key to this file (made where there is none) rather than print what to put there
    #[arg(long, value_name = "FILE")]
    keys_file: Option<PathBuf>,
    /// Writes the secret to this new file, which its owner alone may read, rather than print it
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct HashArgs {
    /// File with the secret; - is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// The keys file
    file: PathBuf,
    /// Says of which key this secret is
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// Why there is no key, or it cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("--id: {0:?} {1}")]
    Id(String, KeyIdError),
    #[error("--scopes: {0}")]
    Scope(#[from] UnknownScope),
    #[error("--expires: {0:?} is neither an instant with its offset nor a duration")]
    Expires(String),
    #[error("{0}")]
    Keys(#[from] KeyringError),
    #[error("{}: {why}", path.display())]
    File { path: PathBuf, why: String },
    #[error("the system's random generator failed: {0}")]
    Random(std::io::Error),
}

pub(super) fn run(args: &KeyArgs) -> Result<(), KeyError> {
    match &args.command {
        KeyCommand::New(args) => new(args),
        KeyCommand::Hash(args) => hash(args),
        KeyCommand::Check(args) => check(args),
    }
}

fn new(args: &NewArgs) -> Result<(), KeyError> {
    let id = KeyId::new(&args.id).map_err(|why| KeyError::Id(args.id.clone(), why))?;
    let scopes: Vec<Scope> = args.scopes.iter().map(|scope| scope.trim().parse()).collect::<Result<_, _>>()?;
    let expires = args.expires.as_deref().map(|when| instant(when, Clock::system().now())).transpose()?;
    let secret = match id.is_of_certificate() {
        true => None,
        false => Some(Secret::new(&id, random_bytes().map_err(KeyError::Random)?)),
    };
    let row = row(&id, secret.as_ref().map(Secret::digest), &scopes, expires);
    // First what may fail: a key in the file whose secret nobody has would be in the way of the next try.
    match (&args.secret_file, &secret) {
        (Some(path), Some(secret)) => write_new(path, &format!("{}\n", secret.expose()))?,
        (None, Some(secret)) => println!("{}", secret.expose()),
        (_, None) => {}
    }
    match &args.keys_file {
        Some(path) => {
            let added = add(path, &row);
            if added.is_err()
                && let Some(secret) = &args.secret_file
            {
                let _ = std::fs::remove_file(secret);
            }
            added?;
            eprintln!("key {id} is in {}", path.display());
        }
        None => println!("\n{row}"),
    }
    Ok(())
}

/// An instant, or a duration after `now`.
fn instant(text: &str, now: TsMs) -> Result<TsMs, KeyError> {
    let at = text.parse::<Span>().map(|span| now.saturating_add(span.as_millis()));
    at.or_else(|_| TsMs::from_iso8601(text)).map_err(|_| KeyError::Expires(text.to_owned()))
}

/// What a keys file has of a key.
fn row(id: &KeyId, digest: Option<Digest>, scopes: &[Scope], expires: Option<TsMs>) -> String {
    let scopes: Vec<String> = scopes.iter().map(|scope| format!("{:?}", scope.name())).collect();
    let mut row = format!("[[key]]\nid = {:?}\n", id.as_str());
    if let Some(digest) = digest {
        let _ = writeln!(row, "sha256 = {:?}", digest.to_hex());
    }
    let _ = writeln!(row, "scopes = [{}]", scopes.join(", "));
    if let Some(expires) = expires {
        let _ = writeln!(row, "expires = {}", rfc3339(expires));
    }
    row
}

fn rfc3339(at: TsMs) -> String {
    let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| at.0.to_string(), |at| at.to_string())
}

/// Adds a key to a keys file, which is whole at every moment: a service may be reading it.
fn add(path: &Path, row: &str) -> Result<(), KeyError> {
    let fail = |why: std::io::Error| KeyError::File { path: path.to_owned(), why: why.to_string() };
    let (before, permissions) = match std::fs::read_to_string(path) {
        Ok(text) => (text, Some(std::fs::metadata(path).map_err(fail)?.permissions())),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => (String::new(), None),
        Err(why) => return Err(fail(why)),
    };
    let gap = if before.is_empty() || before.ends_with("\n\n") { "" } else { "\n" };
    let next = path.with_extension("new");
    let _ = std::fs::remove_file(&next);
    write_new(&next, &format!("{before}{gap}{row}"))?;
    let put = || {
        Keyring::open(&next)?;
        if let Some(permissions) = permissions {
            std::fs::set_permissions(&next, permissions).map_err(fail)?;
        }
        std::fs::rename(&next, path).map_err(fail)
    };
    put().inspect_err(|_| drop(std::fs::remove_file(&next)))
}

/// Writes a file that its owner alone may read, where there is none.
fn write_new(path: &Path, text: &str) -> Result<(), KeyError> {
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|why| KeyError::File { path: path.to_owned(), why: why.to_string() })
}

fn hash(args: &HashArgs) -> Result<(), KeyError> {
    let path = if args.file.as_os_str() == "-" { Path::new("/dev/stdin") } else { &args.file };
    let secret = read_secret(path).map_err(|why| KeyError::File { path: args.file.clone(), why })?;
    println!("{}", secret.digest().to_hex());
    Ok(())
}

fn check(args: &CheckArgs) -> Result<(), KeyError> {
    let keyring = Keyring::open(&args.file)?;
    let (keys, now) = (keyring.keys(), Clock::system().now());
    if let Some(path) = &args.key_file {
        let fail = |why: String| KeyError::File { path: path.clone(), why };
        let secret = read_secret(path).map_err(fail)?;
        let Some(key) = keys.of_secret(secret.expose().as_bytes()) else {
            return Err(fail(format!("is the secret of no key in {}", args.file.display())));
        };
        println!("{}", key.id);
        return Ok(());
    }
    for key in keys.all() {
        let until = match key.expires {
            Some(at) if key.is_expired(now) => format!("  expired {}", rfc3339(at)),
            Some(at) => format!("  until {}", rfc3339(at)),
            None => String::new(),
        };
        println!("{}  {}{until}", key.id, key.scopes.names().join(","));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_added_to_a_file_one_after_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        let key = |id: &str, secret: &str| {
            row(
                &KeyId::new(id).unwrap(),
                Some(Digest::of(secret.as_bytes())),
                &[Scope::Events],
                Some(TsMs(1_893_456_000_000)),
            )
        };
        add(&path, &key("a", "1")).unwrap();
        add(&path, &key("b", "2")).unwrap();
        assert!(add(&path, &key("b", "3")).is_err());
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("expires = 2030-01-01T00:00:00Z\n\n[[key]]\nid = \"b\""), "{text}");
        assert_eq!(Keyring::open(&path).unwrap().keys().len(), 2);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_expiry_is_an_instant_or_a_duration() {
        assert_eq!(instant("5s", TsMs(1_000)).unwrap(), TsMs(6_000));
        assert_eq!(instant("2030-01-01T00:00:00Z", TsMs(0)).unwrap(), TsMs(1_893_456_000_000));
        assert!(instant("2030-01-01", TsMs(0)).is_err() && instant("soon", TsMs(0)).is_err());
    }
}
