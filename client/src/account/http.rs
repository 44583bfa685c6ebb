//! One request over a connection of its own. What is asked here is asked rarely.

use crate::{driver::transport::Transport, tls::Tls};
use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use std::{io, pin::pin, time::Duration};
use types::{DeviceId, UserId};

/// The longest answer that is read.
const ANSWER_MAX_BYTES: usize = 256 * 1024;
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is asked.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// With the query.
    pub(super) path: &'a str,
    pub(super) caller: Caller<'a>,
    /// JSON.
    pub(super) body: Option<Bytes>,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Caller<'a> {
    Nobody,
    /// Whom the access token stands for.
    Token(&'a str),
    /// In development mode, whoever says so.
    Named(&'a UserId, DeviceId),
}

/// Asks the node that a WebSocket's address names.
pub(super) async fn ask(edge: &str, tls: &Tls, ask: &Ask<'_>) -> io::Result<(StatusCode, Bytes)> {
    tokio::time::timeout(TIMEOUT, exchange(edge, tls, ask))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
}

async fn exchange(edge: &str, tls: &Tls, ask: &Ask<'_>) -> io::Result<(StatusCode, Bytes)> {
    let edge: Uri = edge.parse().map_err(io::Error::other)?;
    let host = edge.authority().ok_or_else(|| io::Error::other("the address names no host"))?;
    let mut request = Request::builder()
        .method(ask.method.clone())
        .uri(ask.path)
        .header(HOST, host.as_str())
        .header(CONTENT_TYPE, "application/json");
    request = match ask.caller {
        Caller::Nobody => request,
        Caller::Token(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
        Caller::Named(user, device) => {
            request.header("x-hearth-user", user.as_str()).header("x-hearth-device", device.get())
        }
    };
    let body = Full::new(ask.body.clone().unwrap_or_default());
    let request = request.body(body).map_err(io::Error::other)?;
    let stream = Transport::dial(&edge, tls).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let answer = pin!(async move {
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX_BYTES);
        Ok((status, body.collect().await.map_err(io::Error::other)?.to_bytes()))
    });
    match select(answer, pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        // The connection may end before all of what it brought is read.
        Either::Right((_, answer)) => answer.await,
    }
}
