//! The connection below a WebSocket or a request: TCP, or TLS on it.

use crate::tls::Tls;
use host::net;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::http::Uri;

/// The ports of addresses that name none.
const PORT: u16 = 80;
const PORT_TLS: u16 = 443;

#[derive(Debug)]
pub(crate) enum Transport {
    Plain(net::Stream),
    Tls(Box<TlsStream<net::Stream>>),
}

impl Transport {
    /// Opens the connection that a WebSocket's address names.
    pub(crate) async fn dial(edge: &Uri, tls: &Tls) -> io::Result<Self> {
        let host = edge.host().ok_or_else(|| io::Error::other("the address names no host"))?;
        let is_tls = edge.scheme_str() == Some("wss");
        let port = edge.port_u16().unwrap_or(if is_tls { PORT_TLS } else { PORT });
        let stream = net::Stream::dial(&format!("{host}:{port}")).await?;
        match is_tls {
            false => Ok(Self::Plain(stream)),
            true => Ok(Self::Tls(Box::new(tls.connect(host, stream).await?))),
        }
    }
}

macro_rules! either {
    ($transport:expr, $stream:ident => $act:expr) => {
        match $transport.get_mut() {
            Self::Plain(stream) => {
                let $stream = Pin::new(stream);
                $act
            }
            Self::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $act
            }
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(cx))
    }
}
