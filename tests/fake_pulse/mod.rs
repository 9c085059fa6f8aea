//! A Pulse at the other end of a pipe: a test says what it answers to which request.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use pulse_telemetry::pulse::{PlatformSetting, PulseSettings, Tokens};
use pulse_telemetry::wire::{Dial, Dialing, Stream, Trust};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and path.
    pub(crate) line: String,
    /// By name, in small letters.
    pub(crate) headers: HashMap<String, String>,
}

/// What is written for an answer.
pub(crate) struct Deed {
    pub(crate) bytes: Vec<u8>,
    /// Then the connection stays open and silent.
    pub(crate) hold: bool,
}

/// An answer that is whole.
pub(crate) fn answer(status: u16, body: impl AsRef<[u8]>) -> Deed {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Deed { bytes, hold: false }
}

pub(crate) fn settings(tokens: Tokens) -> PulseSettings {
    PulseSettings {
        url: "http://pulse.test:7655".parse().unwrap(),
        tokens,
        trust: Trust::System,
        timeout: Duration::from_secs(10),
        platform: PlatformSetting::Auto,
    }
}

/// Answers each request as the function says.
#[derive(Clone)]
pub(crate) struct FakePulse(Arc<dyn Fn(&Asked) -> Deed + Send + Sync>);

impl FakePulse {
    pub(crate) fn new(answer: impl Fn(&Asked) -> Deed + Send + Sync + 'static) -> Self {
        Self(Arc::new(answer))
    }

    async fn serve(self, mut stream: DuplexStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        let headers =
            lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let deed = (self.0)(&Asked { line, headers });
        // The client may hang up before it has read everything.
        let _ = stream.write_all(&deed.bytes).await;
        if deed.hold {
            std::future::pending::<()>().await;
        }
    }
}

impl Dial for FakePulse {
    fn dial(&self) -> Dialing<'_> {
        let (here, there) = tokio::io::duplex(4096);
        tokio::spawn(self.clone().serve(there));
        Box::pin(async { Ok(Box::new(TokioIo::new(here)) as Box<dyn Stream>) })
    }
}
