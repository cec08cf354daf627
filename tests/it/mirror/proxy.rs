//! A TCP proxy whose backend can be changed, which is how a failover looks to a client, and that can sit on what it was
//! given, which is how a network behaves at its worst.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    backend: AtomicU16,
    accepted: AtomicU64,
    cut: watch::Sender<u64>,
    /// Connections up to this one are held.
    held: watch::Sender<u64>,
    held_bytes: AtomicU64,
    /// Held connections that have passed on everything, or could not.
    done: AtomicU64,
    /// A command, or one of its subcommands, and the error that it is answered with.
    answer: Mutex<Option<(String, String)>>,
    answered: AtomicU64,
}

impl Proxy {
    pub async fn to(backend: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            backend: AtomicU16::new(backend),
            accepted: AtomicU64::new(0),
            cut: watch::channel(0).0,
            held: watch::channel(0).0,
            held_bytes: AtomicU64::new(0),
            done: AtomicU64::new(0),
            answer: Mutex::new(None),
            answered: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = serving.accepted.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::spawn(pass_on(client, number, Arc::clone(&serving)));
            }
        });
        Proxy { port, shared, task }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Cuts every connection; new ones go to another backend.
    pub fn switch_to(&self, backend: u16) {
        self.shared.backend.store(backend, Ordering::SeqCst);
        self.cut();
    }

    pub fn cut(&self) {
        self.shared.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Sits on what the connections there are send from now on, even when they are closed.
    pub fn hold(&self) {
        self.shared.held.send_replace(self.shared.accepted.load(Ordering::SeqCst));
    }

    /// Has a command answered with an error (`-ERR ..`), on connections made from now on.
    pub fn answer(&self, command: &str, error: &str) {
        let error = error.strip_prefix('-').unwrap().to_owned();
        *self.shared.answer.lock().unwrap() = Some((command.to_owned(), error));
    }

    /// How many commands were answered so.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::SeqCst)
    }

    pub fn held_bytes(&self) -> u64 {
        self.shared.held_bytes.load(Ordering::SeqCst)
    }

    /// Passes on what was held.
    pub fn release(&self) {
        self.shared.held.send_replace(0);
    }

    pub fn released(&self) -> bool {
        self.shared.done.load(Ordering::SeqCst) > 0
    }
}

async fn pass_on(client: TcpStream, number: u64, shared: Arc<Shared>) {
    let (mut cut, mut held) = (shared.cut.subscribe(), shared.held.subscribe());
    let Ok(server) = TcpStream::connect(("127.0.0.1", shared.backend.load(Ordering::SeqCst))).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let forth = async {
        let mut held_some = false;
        let answer = shared.answer.lock().unwrap().clone();
        let mut raw = Vec::new();
        let mut waiting = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        let mut open = true;
        while open || !waiting.is_empty() {
            if *held.borrow_and_update() < number && !waiting.is_empty() {
                if to_server.write_all(&waiting).await.is_err() {
                    break;
                }
                waiting.clear();
            }
            tokio::select! {
                read = from_client.read(&mut buffer), if open => match read {
                    Ok(read) if read > 0 => {
                        match &answer {
                            None => waiting.extend_from_slice(&buffer[..read]),
                            Some((command, error)) => {
                                raw.extend_from_slice(&buffer[..read]);
                                while let Some(found) = take_command(&mut raw) {
                                    let (bytes, is_the_one) = instead(found, command, error);
                                    waiting.extend(bytes);
                                    shared.answered.fetch_add(u64::from(is_the_one), Ordering::SeqCst);
                                }
                            }
                        }
                        if *held.borrow() >= number {
                            held_some = true;
                            shared.held_bytes.fetch_add(read as u64, Ordering::SeqCst);
                        }
                    }
                    _ => open = false,
                },
                _ = held.changed(), if *held.borrow() >= number => {}
                else => {}
            }
        }
        if held_some {
            // Redis has read it all once it answers the end of the connection with its own.
            let _ = to_server.shutdown().await;
        }
        held_some
    };
    tokio::select! {
        held_some = forth => {
            if held_some {
                let _ = back.await;
                shared.done.fetch_add(1, Ordering::SeqCst);
            } else {
                back.abort();
            }
        }
        _ = cut.changed() => back.abort(),
    }
}

/// Takes a whole command off the beginning of what was sent: its bytes and its words.
fn take_command(raw: &mut Vec<u8>) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    fn number(bytes: &[u8], at: &mut usize) -> Option<usize> {
        let end = *at + bytes.get(*at..)?.windows(2).position(|two| two == b"\r\n")?;
        let number = std::str::from_utf8(&bytes[*at + 1..end]).unwrap().parse().unwrap();
        *at = end + 2;
        Some(number)
    }
    let mut at = 0;
    let count = number(raw, &mut at)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let length = number(raw, &mut at)?;
        words.push(raw.get(at..at + length)?.to_vec());
        at += length + 2;
    }
    let rest = raw.get(at..)?.to_vec();
    Some((std::mem::replace(raw, rest)[..at].to_vec(), words))
}

/// What is sent in place of a command: a script that answers with the error, if it is the one.
fn instead((bytes, words): (Vec<u8>, Vec<Vec<u8>>), command: &str, error: &str) -> (Vec<u8>, bool) {
    if !words.iter().take(2).any(|word| word.eq_ignore_ascii_case(command.as_bytes())) {
        return (bytes, false);
    }
    let script = "return {err = ARGV[1]}";
    let mut out = b"*4\r\n".to_vec();
    for word in ["EVAL", script, "0", error] {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    (out, true)
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
