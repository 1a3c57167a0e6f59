//! Our own accept loop: how many may come in, and how long each may take.
//!
//! Never waits for a client without a limit: heads, idle connections, handshakes and stalled writes all end, and whoever
//! has not shown a credential is cut off after [`STRANGER`], whatever it is in the middle of (promise A8).

mod socket;
mod timer;
mod tls;

pub use tls::TlsFiles;

use crate::{
    app::ended,
    front::{Front, Known},
};
use axum::body::Body;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use socket::Socket;
use std::{convert::Infallible, io, sync::Arc, time::Duration};
use timer::EngineTimer;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;

/// For all that someone without a credential does: the handshake, the head, the body, reading the answer.
const STRANGER: Duration = Duration::from_secs(10);
/// For a request's head, and for an idle connection's next one.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 100;
/// hyper's buffer in each direction; a head must fit in it, and with all that goes with it into what a stranger may hold.
const BUFFER: usize = 32 * 1024;
/// The kernel's send buffer (which doubles the figure) for each client, and how much of it may wait to be sent at all.
const SEND_BUFFER: usize = 32 * 1024;
const UNSENT: u32 = 16 * 1024;
/// The most bytes of one TCP segment. A client acknowledges every second one at once and a single one late: were the
/// buffer full with one, as with the 64 KiB segments of a loopback, each would wait 40 ms and more.
const SEGMENT: u32 = 8 * 1024;
/// For answers under way when the server stops.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// After an accept that failed, for want of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\nretry-after: 1\r\n\
    x-content-type-options: nosniff\r\n\r\n";

pub(crate) fn listener(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    // Accepted sockets inherit it. It is what a reader that stopped reading costs in the kernel.
    let socket = socket2::SockRef::from(&listener);
    socket.set_send_buffer_size(SEND_BUFFER)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_notsent_lowat(UNSENT)?;
        socket.set_tcp_mss(SEGMENT)?;
        // A client that is gone without a word acknowledges nothing; it is as stuck as one that does not read.
        socket.set_tcp_user_timeout(Some(socket::WRITE_STALL))?;
    }
    TcpListener::from_std(listener)
}

/// Until the server ends; then for as long as answers under way need, within limits.
pub(crate) async fn accept(front: Arc<Front>, listener: TcpListener, tls: Option<&TlsFiles>, connections: usize) -> io::Result<()> {
    let tls = tls.map(tls::acceptor).transpose()?;
    let connections = u32::try_from(connections).unwrap_or(u32::MAX);
    let places = Arc::new(Semaphore::new(connections as usize));
    let runtime = front.app.engine.runtime().clone();
    let mut ending = std::pin::pin!(ended(front.app.ending.clone()));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut ending => break,
        };
        match accepted {
            Ok((mut stream, _)) => match places.clone().try_acquire_owned() {
                Ok(place) => runtime.spawner.spawn(Box::pin(serve_tcp(front.clone(), stream, tls.clone(), place))),
                // Whatever the kernel takes at once; nobody waits for it.
                Err(_) => _ = futures::FutureExt::now_or_never(stream.write_all(FULL)),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                runtime.clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tokio::select! {
        _ = places.acquire_many(connections) => {}
        () = runtime.clock.sleep(LAST_WORDS) => tracing::info!("connections were cut at the end"),
    }
    Ok(())
}

async fn serve_tcp(front: Arc<Front>, stream: TcpStream, tls: Option<TlsAcceptor>, place: OwnedSemaphorePermit) {
    // Small frames are the rule here; a refusal only costs latency.
    _ = stream.set_nodelay(true);
    let clock = front.app.engine.runtime().clock.clone();
    let socket = Socket::new(stream, clock, Some(place));
    let Some(tls) = tls else { return for_as_long(front, |front, known| serve_http(front, socket, known)).await };
    let secured = async |front, known| match tls.accept(socket).await {
        Ok(stream) => serve_http(front, stream, known).await,
        Err(error) => tracing::debug!(%error, "a TLS handshake failed"),
    };
    for_as_long(front, secured).await;
}

/// One connection over anything that reads and writes.
pub(crate) async fn serve_connection<IO>(front: Arc<Front>, io: IO)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let socket = Socket::new(io, front.app.engine.runtime().clock.clone(), None);
    for_as_long(front, |front, known| serve_http(front, socket, known)).await;
}

/// Serves to the end, or for as long as a stranger may stay.
async fn for_as_long<S: Future<Output = ()>>(front: Arc<Front>, serve: impl FnOnce(Arc<Front>, Known) -> S) {
    let (known, clock) = (Known::default(), front.app.engine.runtime().clock.clone());
    let served = serve(front, known.clone());
    tokio::select! {
        () = served => {}
        () = async {
            clock.sleep(STRANGER).await;
            if known.is_known() {
                std::future::pending().await
            }
        } => tracing::debug!("a client without a credential was cut off"),
    }
}

async fn serve_http<IO>(front: Arc<Front>, io: IO, known: Known)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ending = ended(front.app.ending.clone());
    let timer = EngineTimer::new(front.app.engine.runtime().clock.clone());
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (front, known) = (front.clone(), known.clone());
        async move { Ok::<_, Infallible>(front.answer(request.map(Body::new), &known).await) }
    });
    let connection = http1::Builder::new()
        .timer(timer)
        .header_read_timeout(HEAD_PATIENCE)
        .max_headers(MAX_HEADERS)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    tokio::pin!(connection);
    let served = tokio::select! {
        biased;
        served = connection.as_mut() => served,
        () = ending => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn l1_what_a_listener_is_told_holds_for_those_it_accepts() {
        let listener = listener(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let socket = socket2::SockRef::from(&accepted);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(socket::WRITE_STALL));
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT);
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * SEND_BUFFER);
        assert!((1..=SEGMENT).contains(&socket.tcp_mss().unwrap()), "several segments fit into the send buffer");
    }
}
