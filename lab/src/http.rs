//! Small HTTP calls on loopback: readiness of processes, and the control API's client.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// The largest answer that is read.
const BODY_MAX_BYTES: usize = 1024 * 1024;

/// Asks once, on a connection of its own, and answers within `patience` or not at all.
pub(crate) async fn call(
    method: Method,
    address: SocketAddr,
    path: &str,
    json: Option<Vec<u8>>,
    patience: Duration,
) -> io::Result<(StatusCode, Bytes)> {
    match timeout(patience, exchange(method, address, path, json)).await {
        Ok(answer) => answer.map_err(io::Error::other),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {patience:?}"))),
    }
}

async fn exchange(
    method: Method,
    address: SocketAddr,
    path: &str,
    json: Option<Vec<u8>>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(json.unwrap_or_default())))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_MAX_BYTES).collect().await?.to_bytes();
        Ok((status, body))
    };
    tokio::select! {
        answer = answer => answer,
        Err(error) = connection => Err(error.into()),
    }
}
