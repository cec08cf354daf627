//! A TCP proxy whose backend can be changed, which is how a failover looks to a client, and that can sit on what it was
//! given, which is how a network behaves at its worst.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
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
                        waiting.extend_from_slice(&buffer[..read]);
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

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}
