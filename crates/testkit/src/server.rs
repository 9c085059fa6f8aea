//! A small HTTP/1.1 server on a thread of its own, for sync and async tests alike, which fails as it is told.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::lock;

/// One request as it came over the wire.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// Which accepted connection it came on, from 1.
    pub connection: usize,
    pub method: String,
    /// Path and query, undecoded.
    pub target: String,
    /// In the order and the spelling in which they came.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// None on a plain connection.
    pub tls: Option<TlsRecord>,
}

/// What the TLS handshake of a request's connection was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRecord {
    pub server_name: Option<String>,
    /// A resumed session lets the server link two connections.
    pub resumed: bool,
}

impl RequestRecord {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; panics where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the request's body is JSON")
    }
}

/// What the server does with one request.
#[derive(Clone, Debug)]
pub enum ResponsePlan {
    Answer(Answer),
    /// Take the request and never answer; it ends when the client goes away.
    Hang,
    /// Close the connection without an answer.
    Reset,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
}

/// The body of an answer. All but `Full` and `CutShort` go out chunked, as Pulse's larger answers do.
#[derive(Clone)]
pub enum Body {
    Full(Bytes),
    Chunks(Vec<Bytes>),
    /// `total` bytes that are never all in memory: the generator gives some bytes that begin at an offset.
    Generated {
        total: u64,
        generator: Arc<dyn Fn(u64) -> Bytes + Send + Sync>,
    },
    /// The content-length says `declared`; `sent` goes out, then the connection closes.
    CutShort {
        declared: u64,
        sent: Bytes,
    },
    /// The headers go out, and then nothing until the client goes away.
    Never,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Chunks(chunks) => write!(f, "Chunks({})", chunks.len()),
            Self::Generated { total, .. } => write!(f, "Generated({total} bytes)"),
            Self::CutShort { declared, sent } => write!(f, "CutShort({} of {declared} bytes)", sent.len()),
            Self::Never => f.write_str("Never"),
        }
    }
}

impl Body {
    /// `prefix`, then `element` that many times with commas between, then `suffix`: a JSON array of any size, in
    /// constant memory.
    pub fn repeated(prefix: &str, element: &str, times: u64, suffix: &str) -> Self {
        let unit = format!("{element},");
        let unit_len = unit.len() as u64;
        let block = Bytes::from(unit.repeat((64 * 1024 / unit.len()).max(2)));
        let (prefix, suffix) = (Bytes::from(prefix.to_owned()), Bytes::from(suffix.to_owned()));
        let head = prefix.len() as u64;
        // The last element has no comma.
        let tail = head + (times * unit_len).saturating_sub(1);
        let total = tail + suffix.len() as u64;
        let generator = move |offset: u64| {
            if offset < head {
                return prefix.slice(to_usize(offset)..);
            }
            if offset >= tail {
                return suffix.slice(to_usize(offset - tail)..);
            }
            let from_unit = block.slice(to_usize((offset - head) % unit_len)..);
            let room = usize::try_from(tail - offset).unwrap_or(usize::MAX);
            from_unit.slice(..from_unit.len().min(room))
        };
        Self::Generated { total, generator: Arc::new(generator) }
    }
}

fn to_usize(n: u64) -> usize {
    usize::try_from(n).expect("an offset within one block fits")
}

impl ResponsePlan {
    /// A status and nothing else.
    pub fn status(status: u16) -> Self {
        Self::of(status, Body::Full(Bytes::new()))
    }

    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::bytes(status, "application/json", value.to_string())
    }

    pub fn text(status: u16, text: &str) -> Self {
        Self::bytes(status, "text/plain; charset=utf-8", text.to_owned())
    }

    pub fn bytes(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self::of(status, Body::Full(body.into())).with_header(CONTENT_TYPE.as_str(), content_type)
    }

    pub fn redirect(status: u16, location: &str) -> Self {
        Self::status(status).with_header(LOCATION.as_str(), location)
    }

    /// Any body as JSON with status 200, the misbehaving ones included.
    pub fn body(body: Body) -> Self {
        Self::of(200, body).with_header(CONTENT_TYPE.as_str(), "application/json")
    }

    /// Adds a header; `Hang` and `Reset` have none.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Self::Answer(answer) = &mut self {
            answer.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    fn of(status: u16, body: Body) -> Self {
        Self::Answer(Answer { status, headers: Vec::new(), body })
    }
}

/// A running server. It stops, and its connections close, when it is dropped.
pub struct Server {
    pub addr: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    handler: Box<dyn Fn(RequestRecord) -> ResponsePlan + Send + Sync>,
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Default)]
struct Seen {
    connections: usize,
    requests: Vec<RequestRecord>,
}

impl Server {
    /// Serves plain HTTP on a free port of 127.0.0.1.
    pub fn start(handler: impl Fn(RequestRecord) -> ResponsePlan + Send + Sync + 'static) -> Self {
        Self::launch(None, handler)
    }

    /// Serves HTTPS with that certificate chain and key, both PEM. Sessions may be resumed, so that a client which
    /// does it is seen.
    pub fn start_tls(
        cert_pem: &str,
        key_pem: &str,
        handler: impl Fn(RequestRecord) -> ResponsePlan + Send + Sync + 'static,
    ) -> Self {
        let chain = CertificateDer::pem_slice_iter(cert_pem.as_bytes()).map(|der| der.unwrap()).collect();
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Self::launch(Some(TlsAcceptor::from(Arc::new(config))), handler)
    }

    fn launch(
        tls: Option<TlsAcceptor>,
        handler: impl Fn(RequestRecord) -> ResponsePlan + Send + Sync + 'static,
    ) -> Self {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared { handler: Box::new(handler), seen: Mutex::default(), changed: Condvar::new() });
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || run(listener, tls, shared, stopped)
        });
        Self { addr, scheme, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// `http://127.0.0.1:PORT`, or `https://…`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }

    /// How many connections were accepted, those whose TLS handshake failed included.
    pub fn connections(&self) -> usize {
        lock(&self.shared.seen).connections
    }

    /// All requests so far, in the order in which their bodies were complete.
    pub fn requests(&self) -> Vec<RequestRecord> {
        lock(&self.shared.seen).requests.clone()
    }

    /// Waits until `n` requests have come since the start, and returns all. Panics when the limit passes first.
    pub fn wait_for_requests(&self, n: usize, limit: Duration) -> Vec<RequestRecord> {
        self.wait(limit, "requests", n, |seen| seen.requests.len());
        self.requests()
    }

    /// Waits until `n` connections have been accepted since the start. Panics when the limit passes first.
    pub fn wait_for_connections(&self, n: usize, limit: Duration) {
        self.wait(limit, "connections", n, |seen| seen.connections);
    }

    fn wait(&self, limit: Duration, what: &str, n: usize, count: impl Fn(&Seen) -> usize) {
        let waited =
            self.shared.changed.wait_timeout_while(lock(&self.shared.seen), limit, |seen| count(seen) < n).unwrap();
        let got = count(&waited.0);
        drop(waited);
        assert!(got >= n, "waited {limit:?} for {n} {what}, there were {got}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let joined = thread.join();
            assert!(joined.is_ok() || std::thread::panicking(), "the server's thread panicked");
        }
    }
}

/// An address where connections are refused, kept so while this lives.
pub struct Refusing {
    pub addr: SocketAddr,
    _bound_but_not_listening: TcpSocket,
}

impl Refusing {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { addr: socket.local_addr().unwrap(), _bound_but_not_listening: socket }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

fn run(listener: StdListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).unwrap();
        loop {
            tokio::select! {
                _ = &mut stopped => return,
                Ok((stream, _)) = listener.accept() => {
                    let connection = shared.count_connection();
                    tokio::spawn(serve(stream, tls.clone(), Arc::clone(&shared), connection));
                }
            }
        }
    });
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>, connection: usize) {
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = tls else {
        return serve_http1(stream, None, shared, connection).await;
    };
    if let Ok(stream) = acceptor.accept(stream).await {
        let session = stream.get_ref().1;
        let record = TlsRecord {
            server_name: session.server_name().map(str::to_owned),
            resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        };
        serve_http1(stream, Some(record), shared, connection).await;
    }
}

async fn serve_http1<S>(stream: S, tls: Option<TlsRecord>, shared: Arc<Shared>, connection: usize)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let head = Arc::new(Mutex::new(Head::default()));
    let tapped = Tapped { stream, head: Arc::clone(&head) };
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, head, tls) = (Arc::clone(&shared), Arc::clone(&head), tls.clone());
        async move {
            let headers = lock(&head).take_headers().unwrap_or_else(|| parsed_headers(&request));
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            lock(&head).begin();
            let (method, target) = (parts.method.to_string(), parts.uri.to_string());
            respond(shared.answer(RequestRecord { connection, method, target, headers, body, tls })).await
        }
    });
    // A client that goes away in the middle is an error to hyper, and what many a test is about.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tapped), service).await;
}

async fn respond(plan: ResponsePlan) -> io::Result<Response<PlannedBody>> {
    let answer = match plan {
        ResponsePlan::Answer(answer) => answer,
        ResponsePlan::Hang => std::future::pending().await,
        ResponsePlan::Reset => return Err(io::Error::other("closed as planned")),
    };
    let mut response = Response::new(PlannedBody { body: answer.body, step: 0 });
    *response.status_mut() = answer.status.try_into().unwrap();
    for (name, value) in answer.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        response.headers_mut().append(name, HeaderValue::from_str(&value).unwrap());
    }
    Ok(response)
}

impl Shared {
    fn count_connection(&self) -> usize {
        let mut seen = lock(&self.seen);
        seen.connections += 1;
        self.changed.notify_all();
        seen.connections
    }

    /// The request is kept before it is handled, so that a handler which hangs or panics does not hide it.
    fn answer(&self, request: RequestRecord) -> ResponsePlan {
        lock(&self.seen).requests.push(request.clone());
        self.changed.notify_all();
        (self.handler)(request)
    }
}

struct PlannedBody {
    body: Body,
    /// How far it has come: a chunk's index, an offset, or a count of calls.
    step: u64,
}

impl HttpBody for PlannedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let step = self.step;
        self.step += 1;
        let next = match &mut self.body {
            Body::Full(bytes) => Some(std::mem::take(bytes)).filter(|bytes| !bytes.is_empty()),
            Body::Chunks(chunks) => chunks.get(to_usize(step)).cloned(),
            Body::Generated { total, .. } if step >= *total => None,
            Body::Generated { total, generator } => {
                let mut bytes = generator(step);
                assert!(!bytes.is_empty(), "the generator gave nothing at {step} of {total}");
                bytes.truncate(usize::try_from(*total - step).unwrap_or(usize::MAX));
                self.step = step + bytes.len() as u64;
                Some(bytes)
            }
            Body::CutShort { sent, .. } => match step {
                0 if !sent.is_empty() => Some(sent.clone()),
                // One turn of waiting lets hyper put on the wire what it holds before the error closes it.
                0 | 1 => {
                    self.step = 2;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                _ => return Poll::Ready(Some(Err(io::Error::other("cut short as planned")))),
            },
            Body::Never => return Poll::Pending,
        };
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Body::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::CutShort { declared, .. } => SizeHint::with_exact(*declared),
            Body::Chunks(_) | Body::Generated { .. } | Body::Never => SizeHint::new(),
        }
    }
}

fn parsed_headers(request: &Request<Incoming>) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

/// The bytes of a request's head as they were read. Hyper keeps neither the spelling nor, for sure, the order of the
/// headers, and what exactly goes over the wire is what some tests are about.
struct Head {
    reading: bool,
    bytes: Vec<u8>,
}

impl Default for Head {
    fn default() -> Self {
        Self { reading: true, bytes: Vec::new() }
    }
}

impl Head {
    const END: &'static [u8] = b"\r\n\r\n";

    fn begin(&mut self) {
        *self = Self::default();
    }

    fn read(&mut self, bytes: &[u8]) {
        if !self.reading {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        if let Some(end) = self.bytes.windows(Self::END.len()).position(|window| window == Self::END) {
            self.bytes.truncate(end);
            self.reading = false;
        }
    }

    /// None when the head did not arrive alone, which happens only with pipelined requests.
    fn take_headers(&mut self) -> Option<Vec<(String, String)>> {
        if self.reading {
            return None;
        }
        let head = String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned();
        let mut lines: VecDeque<&str> = head.split("\r\n").collect();
        lines.pop_front();
        let split = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        lines.into_iter().map(split).collect()
    }
}

/// A stream that hands what is read to `Head` as well.
struct Tapped<S> {
    stream: S,
    head: Arc<Mutex<Head>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Tapped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        lock(&self.head).read(&buffer.filled()[before..]);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tapped<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    /// Otherwise hyper would copy what it sends, and a server that shares a process with the client would take memory
    /// that is not the client's.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Whether this machine knows the name `localhost`, as all but the barest chroots do; says so where it does not. With
/// `CI=true` its absence fails.
#[expect(clippy::disallowed_methods, reason = "whether this is CI is the environment's to say")]
pub fn localhost_is_known(name: &str) -> bool {
    let is_known = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 0)).is_ok();
    if !is_known {
        assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "localhost is not known");
        let _ = writeln!(io::stderr(), "SKIPPED {name}: no /etc/hosts here that names localhost");
    }
    is_known
}
