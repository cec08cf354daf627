//! One HTTP/1.1 connection of a client that knows what it will be told: a status, a content length, a body.
//!
//! Written for this purpose because a general client costs as much as an empty handler does, and both share the cores
//! with what is measured. Heads are parsed by httparse.

use super::tls::Tls;
use anyhow::{Context, bail};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

pub struct Connection {
    stream: Stream,
    input: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
}

impl Connection {
    pub async fn open(addr: SocketAddr, tls: Option<&Tls>) -> anyhow::Result<Self> {
        anyhow::ensure!(addr.ip().is_loopback(), "load is sent to this machine only, not to {addr}");
        let stream = TcpStream::connect(addr).await.with_context(|| format!("connecting to {addr}"))?;
        stream.set_nodelay(true)?;
        let stream = match tls {
            Some(tls) => Stream::Tls(Box::new(tls.connect(stream).await?)),
            None => Stream::Plain(stream),
        };
        Ok(Self { stream, input: Vec::with_capacity(64 << 10) })
    }

    /// Sends a whole request and reads the whole answer.
    pub async fn call(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        let sent = match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(request).await,
            Stream::Tls(stream) => stream.write_all(request).await,
        };
        sent.context("sending a request")?;
        self.input.clear();
        let mut scanned: usize = 0;
        let head = loop {
            self.read_more().await?;
            // The end of the head may lie across two reads.
            let from = scanned.saturating_sub(3);
            if let Some(at) = memchr::memmem::find(&self.input[from..], b"\r\n\r\n") {
                break from + at + 4;
            }
            scanned = self.input.len();
        };
        let (status, length) = read_head(&self.input[..head])?;
        while self.input.len() < head + length {
            self.read_more().await?;
        }
        if self.input.len() > head + length {
            bail!("more was answered than was asked for");
        }
        Ok(Answer { status, body: &self.input[head..] })
    }

    async fn read_more(&mut self) -> anyhow::Result<()> {
        self.input.reserve(4 << 10);
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read_buf(&mut self.input).await,
            Stream::Tls(stream) => stream.read_buf(&mut self.input).await,
        };
        if read.context("reading an answer")? == 0 {
            bail!("the connection was closed");
        }
        Ok(())
    }
}

/// Status and length of the body.
fn read_head(head: &[u8]) -> anyhow::Result<(u16, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut answer = httparse::Response::new(&mut headers);
    answer.parse(head).context("an answer that is not HTTP/1.1")?;
    let status = answer.code.context("an answer without a status")?;
    let length = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = match length {
        Some(header) => std::str::from_utf8(header.value)?.trim().parse().context("content-length")?,
        None if status == 204 => 0,
        None => bail!("an answer {status} without a content-length"),
    };
    Ok((status, length))
}
