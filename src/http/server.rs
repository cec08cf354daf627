//! Connections: so many and no more, none that keeps others out, and an orderly end.

use super::connections::{Connections, Phase, Place, Seat};
use super::gate::Client;
use super::http_service::HttpService;
use super::limits::ServerOptions;
use super::pieces::HoldsMemory;
use super::route::StaysOpen;
use super::stream::{WatchedStream, raw_problem};
use super::tls::{Tls, Transport, names_of};
use axum::body::{Body, Bytes};
use axum::response::Response;
use http::Request;
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use metrics::counter;
use socket2::SockRef;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::unconstrained;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Requests that a client may have under way at once on a connection of HTTP/2.
const STREAMS: u32 = 128;
/// What a client of HTTP/2 may send of bodies before it is read, and we of answers before they are taken.
const WINDOW: u32 = 64 << 10;
/// How long what was sent may stay unread before the connection is closed.
const UNREAD: Duration = Duration::from_secs(30);
/// How long, and for how many bytes, a connection that is ending is still read: one that is closed with data unread is
/// reset, and then the last answer may never be seen.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 << 20;
/// How long the last words of a connection may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves until `stop` completes; then accepts no more and waits for the requests under way, `grace` at most. Returns
/// whether all of them finished.
pub async fn serve(
    listener: TcpListener,
    service: HttpService,
    options: &ServerOptions,
    stop: impl Future<Output = ()>,
) -> bool {
    let all = Connections::new(options.max_connections.max(1), options.spare_connections, options.header_memory);
    let open = metrics::gauge!("freqcap_http_connections", "listener" => service.listener());
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &all) => accepted,
        };
        let Some((stream, place)) = accepted else { continue };
        // Answers are small and awaited: they must not wait for more to send.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY was refused");
        }
        // A client that asks and never reads must not hold its connection for ever.
        if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD)) {
            tracing::debug!(%error, "TCP_USER_TIMEOUT was refused");
        }
        let connection = Connection { service: service.clone(), all: all.clone(), options: options.clone() };
        let open = open.clone();
        tokio::spawn(async move {
            open.increment(1.0);
            connection.run(stream, &place).await;
            open.decrement(1.0);
        });
    }
    drop(listener);
    // They would go on for as long as their readers want.
    service.end_streams();
    all.stop();
    let gone = async {
        while all.len() > 0 {
            all.left().await;
        }
    };
    tokio::time::timeout(options.grace, gone).await.is_ok()
}

/// Waits for a connection, then for a place: one that finds none waits with one file descriptor, the others in the kernel's
/// queue, where they cost us nothing.
async fn accept(listener: &TcpListener, all: &Connections) -> Option<(TcpStream, Place)> {
    match listener.accept().await {
        Ok((stream, _)) => loop {
            if let Some(place) = all.enter() {
                return Some((stream, place));
            }
            all.left().await;
        },
        Err(error) => {
            // Out of file descriptors, most likely: trying again at once would only burn the processor.
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// Why a connection ended.
enum End {
    /// By itself, in whatever way.
    Finished,
    /// Somebody else needed the place, nothing was asked for too long, or an answer was taken too slowly.
    Closed,
    /// A header did not come in time.
    HeaderTimeout,
}

struct Connection {
    service: HttpService,
    all: Connections,
    options: ServerOptions,
}

impl Connection {
    async fn run(&self, stream: TcpStream, place: &Place) {
        let Some(tls) = &self.options.tls else {
            return self.http1(Transport::Plain(stream), Client::default(), place).await;
        };
        let Some(stream) = self.handshake(tls, stream, place).await else { return };
        let (_, session) = stream.get_ref();
        let names = session.peer_certificates().and_then(|chain| chain.first()).map(names_of).unwrap_or_default();
        let (is_http2, client) = (session.alpn_protocol() == Some(b"h2"), Client::named(names));
        let stream = Transport::Tls(Box::new(stream));
        if is_http2 {
            self.http2(stream, client, place).await;
        } else {
            self.http1(stream, client, place).await;
        }
    }

    /// Agrees with a client on keys. That is bounded like the arrival of a header, and counts as one.
    async fn handshake(&self, tls: &Tls, stream: TcpStream, place: &Place) -> Option<TlsStream<TcpStream>> {
        let count = |result: &'static str| counter!("freqcap_tls_handshakes_total", "result" => result).increment(1);
        let seat = &place.seat;
        seat.header_came(0);
        let accepted = tokio::select! {
            accepted = TlsAcceptor::from(tls.config(seat.is_spare)).accept(stream) => accepted,
            // Somebody else needs the place, or the server stops.
            () = seat.called() => return None,
            () = tokio::time::sleep(self.options.header_timeout) => {
                count("timeout");
                return None;
            }
        };
        match accepted {
            Ok(stream) => {
                count("ok");
                seat.header_ended();
                Some(stream)
            }
            Err(error) => {
                count("failed");
                tracing::debug!(%error, "a handshake of TLS failed");
                None
            }
        }
    }

    async fn http1(&self, stream: Transport, client: Client, place: &Place) {
        let seat = place.seat.clone();
        let stream = WatchedStream::new(stream, false, seat.clone(), self.all.clone());
        let service = answers(self.service.clone(), Arc::new(client), seat);
        let mut builder = http1::Builder::new();
        // The time that a header takes is watched here, where the wait for it is told from its arrival.
        builder.header_read_timeout(None).max_buf_size(self.options.header_buffer);
        let mut connection = builder.serve_connection(TokioIo::new(stream), service);
        let end = self.watch(&mut connection, |connection| connection.graceful_shutdown(), place).await;
        let mut stream = connection.into_parts().io.into_inner();
        match end {
            End::Closed => return,
            End::HeaderTimeout => {
                let answer = raw_problem(
                    408,
                    "Request Timeout",
                    "header_timeout",
                    "the request's header did not arrive in time",
                );
                let _ = tokio::time::timeout(LAST_WORDS, stream.write_all(&answer)).await;
            }
            End::Finished => {}
        }
        linger(&mut stream).await;
    }

    async fn http2(&self, stream: Transport, client: Client, place: &Place) {
        let seat = place.seat.clone();
        let stream = WatchedStream::new(stream, true, seat.clone(), self.all.clone());
        let service = answers(self.service.clone(), Arc::new(client), seat);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            // What a client may send before somebody has read it, in all streams together.
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buf_size(WINDOW as usize)
            .max_header_list_size(u32::try_from(self.options.header_buffer).unwrap_or(u32::MAX));
        let mut connection = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
        self.watch(&mut connection, |connection| connection.get_mut().as_mut().graceful_shutdown(), place).await;
    }

    /// Goes on with a connection until it ends or must end. `stop` has it take no more requests.
    async fn watch<C>(&self, connection: &mut C, stop: impl Fn(Pin<&mut C>), place: &Place) -> End
    where
        C: Future<Output = hyper::Result<()>> + Unpin,
    {
        let seat = &place.seat;
        let mut is_stopping = false;
        loop {
            let left = self.left(place).into_iter().chain(seat.sending_left()).fold(self.tick(), Duration::min);
            match self.step(connection, seat, left).await {
                Some(ended) => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended badly");
                    }
                    return End::Finished;
                }
                None if seat.phase() == Phase::Closing => return End::Closed,
                None if self.all.is_stopping() && !is_stopping => {
                    is_stopping = true;
                    stop(Pin::new(connection));
                }
                None if seat.sending_left().is_some_and(|left| left.is_zero()) => return End::Closed,
                // Anew: it may have been idle, and a header may just have begun.
                None => match (seat.phase(), self.left(place)) {
                    (Phase::Header, Some(left)) if left.is_zero() => return End::HeaderTimeout,
                    (Phase::Idle, Some(left)) if left.is_zero() => return End::Closed,
                    _ => {}
                },
            }
        }
    }

    /// Goes on with a connection until it ends; `None` once it is called, or `time` has passed.
    async fn step<C: Future + Unpin>(&self, connection: &mut C, seat: &Seat, time: Duration) -> Option<C::Output> {
        let (mut called, mut slept) = (pin!(seat.called()), pin!(tokio::time::sleep(time)));
        let mut waker: Option<Waker> = None;
        poll_fn(|context| {
            if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(context) {
                return Poll::Ready(Some(ended));
            }
            // This is done some times a request. Both keep the task's waker, and need not be asked before they wake it.
            let is_known = waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
            let is_called = seat.phase() == Phase::Closing || self.all.is_stopping();
            if is_known && !is_called && !slept.is_elapsed() {
                return Poll::Pending;
            }
            waker = Some(context.waker().clone());
            // Whatever the connection has left of its turn: what is not polled now is never armed.
            let mut wakes = unconstrained(poll_fn(|context| {
                let wakes = called.as_mut().poll(context).is_ready() || slept.as_mut().poll(context).is_ready();
                if wakes { Poll::Ready(()) } else { Poll::Pending }
            }));
            Pin::new(&mut wakes).poll(context).map(|()| None)
        })
        .await
    }

    /// How long to look away at most, so that a header that begins meanwhile is not noticed too late.
    fn tick(&self) -> Duration {
        (self.options.header_timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(5))
    }

    /// How long the connection may still go on like this; `None` while a request is being answered.
    fn left(&self, place: &Place) -> Option<Duration> {
        let most = match place.seat.phase() {
            Phase::Idle => self.options.idle_timeout,
            Phase::Header => self.options.header_timeout,
            Phase::Busy | Phase::Closing => return None,
        };
        let left = most.saturating_sub(place.seat.quiet());
        Some(left.min(self.tick()))
    }
}

/// Ends a request where it is answered, or given up by the client.
struct UnderWay(Arc<Seat>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The body of an answer that is under way until it ends.
struct OpenBody {
    body: Body,
    _under_way: UnderWay,
}

impl http_body::Body for OpenBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }
}

/// Answers the requests of a connection.
fn answers(
    http: HttpService,
    client: Arc<Client>,
    seat: Arc<Seat>,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send + 'static> {
    service_fn(move |request| {
        let (http, client, seat) = (http.clone(), client.clone(), seat.clone());
        seat.begin();
        let under_way = UnderWay(seat);
        async move {
            let (seat, min_rate) = (&under_way.0, http.min_rate());
            let mut answer = http.answer(request, &client, seat.is_spare).await;
            if let Ok(answer) = &answer
                && let Some(holds) = answer.extensions().get::<HoldsMemory>()
                // The answer to a HEAD has none of it.
                && !answer.body().is_end_stream()
            {
                seat.sends(holds.bytes, min_rate);
            }
            if let Ok(open) = &mut answer
                && open.extensions_mut().remove::<StaysOpen>().is_some()
            {
                return answer.map(|answer| answer.map(|body| Body::new(OpenBody { body, _under_way: under_way })));
            }
            answer
        }
    })
}

/// Ends what is said here, and reads up what the other side still sends.
async fn linger(stream: &mut WatchedStream) {
    let read_up = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut piece = vec![0; 8 << 10];
        let mut read = 0;
        while read < LINGER_BYTES {
            match stream.read(&mut piece).await {
                Ok(some) if some > 0 => read += some,
                _ => return,
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, read_up).await;
}
