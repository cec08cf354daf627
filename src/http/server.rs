//! Connections: so many and no more, none that keeps others out, and an orderly end.

use super::connections::{Connections, Phase, Place, Seat};
use super::http_service::HttpService;
use super::limits::ServerOptions;
use super::pieces::HoldsMemory;
use super::stream::{WatchedStream, raw_problem};
use http_body::Body as _;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::unconstrained;

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
        let seat = place.seat.clone();
        let stream = WatchedStream::new(stream, seat.clone(), self.all.clone());
        let (http, asked) = (self.service.clone(), seat.clone());
        let service = service_fn(move |request| {
            let (http, seat) = (http.clone(), asked.clone());
            seat.begin();
            async move {
                let min_rate = http.min_rate();
                let answer = http.answer(request, seat.is_spare).await;
                if let Ok(answer) = &answer
                    && let Some(holds) = answer.extensions().get::<HoldsMemory>()
                    // The answer to a HEAD has none of it.
                    && !answer.body().is_end_stream()
                {
                    seat.sends(holds.bytes, min_rate);
                }
                seat.end();
                answer
            }
        });
        let mut builder = Builder::new();
        // The time that a header takes is watched here, where the wait for it is told from its arrival.
        builder.header_read_timeout(None).max_buf_size(self.options.header_buffer);
        let mut connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut is_stopping = false;
        let end = loop {
            let left = self.left(place).into_iter().chain(seat.sending_left()).fold(self.tick(), Duration::min);
            match self.step(&mut connection, &seat, left).await {
                Some(ended) => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended badly");
                    }
                    break End::Finished;
                }
                None if seat.phase() == Phase::Closing => break End::Closed,
                None if self.all.is_stopping() && !is_stopping => {
                    is_stopping = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
                None if seat.sending_left().is_some_and(|left| left.is_zero()) => break End::Closed,
                // Anew: it may have been idle, and a header may just have begun.
                None => match (seat.phase(), self.left(place)) {
                    (Phase::Header, Some(left)) if left.is_zero() => break End::HeaderTimeout,
                    (Phase::Idle, Some(left)) if left.is_zero() => break End::Closed,
                    _ => {}
                },
            }
        };
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
