//! The endpoint that Prometheus scrapes.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, info, warn};

use super::{Rendered, render::CONTENT_TYPE as PROMETHEUS};

/// Clients at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 32;
/// How long a client may take to send its request.
const HEADER: Duration = Duration::from_secs(5);
/// How long a whole connection may last.
const CONNECTION: Duration = Duration::from_secs(20);
/// How long the numbers may take.
const SNAPSHOT: Duration = Duration::from_secs(5);

/// Whoever knows the numbers.
pub trait Source: Send + Sync + 'static {
    /// What it knows.
    type Numbers: Rendered;

    /// The numbers now, or `None` when the process is ending.
    fn snapshot(&self) -> impl Future<Output = Option<Self::Numbers>> + Send;
}

/// A loop at the other end of a channel, which answers by the oneshot.
impl<N: Rendered> Source for mpsc::Sender<oneshot::Sender<N>> {
    type Numbers = N;

    async fn snapshot(&self) -> Option<N> {
        let (ask, answer) = oneshot::channel();
        self.send(ask).await.ok()?;
        answer.await.ok()
    }
}

/// A listening endpoint.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
}

impl Endpoint {
    /// Listens.
    ///
    /// # Errors
    /// The address is not this host's, or in use.
    pub async fn bind(address: SocketAddr) -> io::Result<Endpoint> {
        Ok(Endpoint { listener: TcpListener::bind(address).await? })
    }

    /// The address, with the port that the kernel chose where 0 was asked for.
    ///
    /// # Errors
    /// None in practice.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the future is dropped.
    pub async fn run(self, source: impl Source) {
        if let Ok(address) = self.local_addr() {
            info!("metrics on http://{address}/metrics");
        }
        let source = Arc::new(source);
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let mut clients = JoinSet::new();
        loop {
            while clients.try_join_next().is_some() {}
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    let source = Arc::clone(&source);
                    clients.spawn(async move {
                        match timeout(CONNECTION, serve(stream, source)).await {
                            Ok(Ok(())) => {}
                            Ok(Err(e)) => debug!(%from, error = %e, "a client of the metrics was cut off"),
                            Err(_) => debug!(%from, "a client of the metrics took too long"),
                        }
                        drop(slot);
                    });
                }
                Err(e) => {
                    warn!(error = %e, "cannot accept a client of the metrics");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve<S: Source>(stream: TcpStream, source: Arc<S>) -> hyper::Result<()> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        // A scrape every few seconds needs no held connection, and a slot stays free.
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| {
                let source = Arc::clone(&source);
                async move { Ok::<_, Infallible>(answer(&request, &*source).await) }
            }),
        )
        .await
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

async fn answer<B: Body, S: Source>(request: &Request<B>, source: &S) -> Response<Full<Bytes>> {
    let who = S::Numbers::WHO;
    let path = request.uri().path();
    if !matches!(path, "/" | "/metrics" | "/healthz") {
        return text(StatusCode::NOT_FOUND, "not found; there are /metrics and /healthz\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if path == "/" {
        let words = format!("wavnet {who}\n\n/metrics  for Prometheus\n/healthz  200 while the {who} works\n");
        return text(StatusCode::OK, words);
    }
    let Ok(Some(snapshot)) = timeout(SNAPSHOT, source.snapshot()).await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, format!("the {who} is ending or does not answer\n"));
    };
    if path == "/healthz" {
        return text(StatusCode::OK, "ok\n");
    }
    match snapshot.render() {
        Ok(body) => {
            let mut response = text(StatusCode::OK, body);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROMETHEUS));
            response
        }
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the metrics: {e}\n")),
    }
}
