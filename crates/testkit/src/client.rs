//! A blocking HTTP client for tests. It runs on a thread of its own, so it can be called from anywhere.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Reply {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; panics where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the answer's body is JSON")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// `GET target`, with an API token where there is one.
pub fn get(addr: SocketAddr, target: &str, token: Option<&str>) -> Result<Reply, hyper::Error> {
    let headers: Vec<_> = token.map(|token| ("X-API-Token", token)).into_iter().collect();
    fetch(addr, "GET", target, &headers, Bytes::new())
}

/// One request on a connection of its own. `Host` is the address unless the headers name one. The error is what
/// hyper makes of an answer that is cut short or never comes.
pub fn fetch(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Reply, hyper::Error> {
    let stream = std::net::TcpStream::connect(addr).expect("the test's server listens");
    fetch_over(stream, addr, method, target, headers, body)
}

/// As `fetch`, on that connection: for a server that may be gone.
pub fn fetch_over(
    stream: std::net::TcpStream,
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Result<Reply, hyper::Error> {
    let mut request = Request::builder().method(method).uri(target);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header("Host", addr.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(exchange(stream, request))
    })
    .join()
    .unwrap()
}

async fn exchange(stream: std::net::TcpStream, request: Request<Full<Bytes>>) -> Result<Reply, hyper::Error> {
    stream.set_nonblocking(true).unwrap();
    let stream = TcpStream::from_std(stream).unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    Ok(Reply { status: parts.status.as_u16(), headers, body: body.collect().await?.to_bytes() })
}
