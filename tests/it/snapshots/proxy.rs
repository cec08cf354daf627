//! Between a service and an S3 server, to make that fail: it hangs, or answers with an error of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What becomes of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Pass,
    /// Nothing is answered.
    Hang,
    /// Each is answered with this status and code.
    Answer(u16, &'static str),
    /// Connections are closed at once.
    Close,
}

struct State {
    mode: Mode,
    /// Every connection, so that those of the mode before can be ended.
    open: Vec<TcpStream>,
}

pub struct Proxy {
    pub port: u16,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
}

impl Proxy {
    pub fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { mode: Mode::Pass, open: Vec::new() }));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (state.clone(), stop.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let mut state = shared.lock().unwrap();
                state.open.push(client.try_clone().unwrap());
                match state.mode {
                    Mode::Pass => {
                        let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                        state.open.push(server.try_clone().unwrap());
                        copy(client.try_clone().unwrap(), server.try_clone().unwrap());
                        copy(server, client);
                    }
                    Mode::Hang => {}
                    Mode::Answer(status, code) => {
                        std::thread::spawn(move || answer(client, status, code));
                    }
                    Mode::Close => drop(client.shutdown(Shutdown::Both)),
                }
            }
        });
        Self { port, state, stop }
    }

    pub fn set(&self, mode: Mode) {
        let mut state = self.state.lock().unwrap();
        state.mode = mode;
        for stream in state.open.drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.set(Mode::Close);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// Reads what comes, and answers once a header is there.
fn answer(mut client: TcpStream, status: u16, code: &str) {
    let mut head = Vec::new();
    let mut piece = [0; 4_096];
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        match client.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(read) => head.extend_from_slice(&piece[..read]),
        }
    }
    let body = format!("<Error><Code>{code}</Code><Message>as planned</Message></Error>");
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = client.write_all(format!("{head}{body}").as_bytes());
    let _ = client.shutdown(Shutdown::Write);
    // Until the client has had it: a connection that is closed with data unread is reset.
    while client.read(&mut piece).is_ok_and(|read| read > 0) {}
}
