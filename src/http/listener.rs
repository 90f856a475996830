//! The sockets that the server listens on, and the streams that they accept: plain TCP, TLS, or a Unix
//! socket for a proxy on the same machine.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::addresses::Listen;
use crate::web::ListenerKind;
use parking_lot::RwLock;

/// Where a connection comes from.
#[derive(Clone, Copy)]
pub(crate) struct From {
    pub(crate) listener: ListenerKind,
    /// `None` on a Unix socket.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) is_tls: bool,
}

/// A stream of bytes in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) struct Listener {
    socket: Socket,
    pub(crate) kind: ListenerKind,
    /// The bound address. If port 0 was requested, it contains the port that the system chose.
    pub(crate) bound: Listen,
    pub(crate) tls: Option<Arc<Tls>>,
}

enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
}

impl Listener {
    /// Binds an address. `setting` names the setting, for errors.
    pub(crate) async fn bind(
        listen: &Listen,
        kind: ListenerKind,
        tls: Option<Arc<Tls>>,
        setting: &str,
    ) -> io::Result<Self> {
        let bound = match listen {
            Listen::Tcp(address) => bind_tcp(*address).await,
            Listen::Unix(path) => bind_unix(path),
        };
        let (socket, bound) = bound.map_err(|e| {
            let why = format!("cannot listen on {listen}: {e}; choose another with {setting}");
            io::Error::new(e.kind(), why)
        })?;
        Ok(Self {
            socket,
            kind,
            bound,
            tls,
        })
    }

    /// Accepts the next connection, before the TLS handshake. The address is `None` on a Unix socket.
    pub(crate) async fn accept(&self) -> io::Result<(Box<dyn Stream>, Option<IpAddr>)> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                let _ = stream.set_nodelay(true);
                Ok((Box::new(stream), Some(peer.ip().to_canonical())))
            }
            #[cfg(unix)]
            Socket::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), None))
            }
        }
    }

    /// The URL under which clients reach this listener, without a trailing slash.
    pub(crate) fn url(&self) -> String {
        match (&self.bound, &self.tls) {
            (Listen::Tcp(address), None) => format!("http://{address}"),
            (Listen::Tcp(address), Some(_)) => format!("https://{address}"),
            (unix, _) => unix.to_string(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listen::Unix(path) = &self.bound {
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn bind_tcp(address: SocketAddr) -> io::Result<(Socket, Listen)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    Ok((Socket::Tcp(listener), Listen::Tcp(bound)))
}

#[cfg(unix)]
fn bind_unix(path: &Path) -> io::Result<(Socket, Listen)> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    // A server that was killed leaves its socket file. A server that runs accepts connections on it.
    let is_socket = std::fs::metadata(path).is_ok_and(|known| known.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = tokio::net::UnixListener::bind(path)?;
    // As on a loopback port, every user who may enter the folder may connect, for example the proxy's user.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok((Socket::Unix(listener), Listen::Unix(path.to_owned())))
}

#[cfg(not(unix))]
fn bind_unix(_: &Path) -> io::Result<(Socket, Listen)> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this system has no Unix sockets",
    ))
}

/// The certificate in use. It can be replaced while the server runs.
pub(crate) struct Tls(RwLock<TlsAcceptor>);

/// The certificate with its chain, and its private key, as files in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Tls {
    pub(crate) fn load(files: &TlsFiles) -> io::Result<Self> {
        Ok(Self(RwLock::new(acceptor(files)?)))
    }

    /// Loads the files again. Open connections keep their certificate.
    ///
    /// # Errors
    /// The files cannot be used. New connections then continue to use the previous certificate.
    pub(crate) fn reload(&self, files: &TlsFiles) -> io::Result<()> {
        let acceptor = acceptor(files)?;
        *self.0.write() = acceptor;
        Ok(())
    }

    pub(crate) async fn handshake(&self, stream: Box<dyn Stream>) -> io::Result<Box<dyn Stream>> {
        let acceptor = self.0.read().clone();
        Ok(Box::new(acceptor.accept(stream).await?))
    }
}

fn acceptor(files: &TlsFiles) -> io::Result<TlsAcceptor> {
    let unusable = |path: &Path, why: String| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {why}", path.display()),
        )
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
        .map_err(|e| {
            unusable(
                &files.certificate,
                format!("no certificate in PEM form: {e}"),
            )
        })?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|e| unusable(&files.key, format!("no private key in PEM form: {e}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| {
            unusable(
                &files.certificate,
                format!("cannot be used with {}: {e}", files.key.display()),
            )
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
