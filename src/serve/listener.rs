//! Where the server listens: a TCP address, or a Unix socket.

use std::fs::{self, Permissions};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pulse_telemetry_http::server::Accept;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};

use crate::config::Listen;

/// Owner and group may connect to the Unix socket, nobody else.
const SOCKET_MODE: u32 = 0o660;

/// How many connections may wait to be accepted at a Unix socket. As many as the standard library lets wait.
const BACKLOG: u32 = 128;

/// A bound address. A Unix socket's file is removed when this is dropped.
#[derive(Debug)]
pub struct Listener(Bound);

#[derive(Debug)]
enum Bound {
    Tcp { listener: TcpListener, address: SocketAddr },
    Unix { listener: UnixListener, file: SocketFile },
}

/// One caller's connection.
#[derive(Debug)]
pub enum LocalStream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over the Unix socket.
    Unix(UnixStream),
}

impl Listener {
    /// Binds the address. A Unix socket that nobody answers on any more is replaced; anything else at its path stays.
    ///
    /// # Errors
    /// Where the address cannot be bound: in use, not this machine's, or not allowed.
    pub async fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                let address = listener.local_addr()?;
                Ok(Self(Bound::Tcp { listener, address }))
            }
            Listen::Unix(path) => {
                remove_stale(path).await?;
                let socket = UnixSocket::new_stream()?;
                socket.bind(path)?;
                let file = SocketFile::new(path)?;
                // Nobody can connect before `listen`, so at no time does a wider mode let anybody in.
                fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
                Ok(Self(Bound::Unix { listener: socket.listen(BACKLOG)?, file }))
            }
        }
    }

    /// The address that is bound, the port included that was taken for port 0; `unix:/path` for a Unix socket.
    #[must_use]
    pub fn local_addr(&self) -> String {
        match &self.0 {
            Bound::Tcp { address, .. } => address.to_string(),
            Bound::Unix { file, .. } => format!("unix:{}", file.path.display()),
        }
    }

    /// Whether only this machine can reach it.
    pub(super) fn is_local(&self) -> bool {
        self.ip().is_none_or(|ip| ip.to_canonical().is_loopback())
    }

    /// The address that is bound; `None` for a Unix socket.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        match &self.0 {
            Bound::Tcp { address, .. } => Some(address.ip()),
            Bound::Unix { .. } => None,
        }
    }
}

impl Accept for Listener {
    type Connection = LocalStream;

    async fn accept(&self) -> io::Result<LocalStream> {
        match &self.0 {
            Bound::Tcp { listener, .. } => Ok(LocalStream::Tcp(listener.accept().await?.0)),
            Bound::Unix { listener, .. } => Ok(LocalStream::Unix(listener.accept().await?.0)),
        }
    }
}

/// Removes a socket that an earlier process left behind.
async fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is at that path is not a socket"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers on that socket")),
    }
}

/// The file of a bound Unix socket, removed with it.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode: what another process has put at the path since then is not ours to remove.
    id: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), id: file_id(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if file_id(&self.path).is_ok_and(|id| id == self.id) {
            // A file that stays behind is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}
