//! REST, one request a connection, and devices that have logged in.

use anyhow::{Context as _, ensure};
use client::bare::{BareError, Connection};
use proto::client::Hello;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use types::limits;
use uuid::Uuid;

/// How long one answer may take: a log-in waits for a failover.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Asks a node at `http://…` as whoever has the token; an empty one: as nobody.
///
/// # Errors
/// It does not answer, or not by HTTP.
pub async fn ask(
    http: &str,
    method: &str,
    path: &str,
    token: &str,
    body: &Value,
) -> anyhow::Result<(u16, Value)> {
    let address = http.strip_prefix("http://").context("an address begins with http://")?;
    let token = if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: hearth\r\nconnection: close\r\n{token}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await?;
        anyhow::Ok(response)
    };
    let response = timeout(ANSWER_TIMEOUT, exchange).await.context("no answer")??;
    let response = String::from_utf8(response)?;
    let (head, body) = response.split_once("\r\n\r\n").context("an answer without a head")?;
    let status = head.split(' ').nth(1).context("an answer without a status")?.parse()?;
    Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// A device that has logged in.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// Who the user is in chats.
    pub user: String,
    /// The device.
    pub device: String,
    /// Its access token.
    pub token: String,
    /// Its refresh token.
    pub refresh: String,
}

impl SignedIn {
    fn of((status, answer): (u16, Value)) -> anyhow::Result<Self> {
        ensure!(matches!(status, 200 | 201), "{status} {answer}");
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            user: text("user"),
            device: text("device"),
            token: text("access_token"),
            refresh: text("refresh_token"),
        })
    }

    /// Makes an account, at a node; safe to repeat.
    ///
    /// # Errors
    /// It is refused.
    pub async fn register(http: &str, username: &str, password: &str) -> anyhow::Result<Self> {
        // The same for each try by that name.
        let request = Uuid::from_u128(username.bytes().fold(1, |sum, byte| sum << 8 | u128::from(byte)));
        let body = json!({
            "request_id": request, "username": username, "password": password,
            "display_name": username, "device_name": "first",
        });
        Self::of(ask(http, "POST", "/v1/register", "", &body).await?)
    }

    /// Logs another device in, at a node.
    ///
    /// # Errors
    /// It is refused.
    pub async fn log_in(http: &str, name: &str, password: &str) -> anyhow::Result<Self> {
        let body = json!({
            "request_id": Uuid::now_v7(), "name": name, "password": password, "device_name": "another",
        });
        Self::of(ask(http, "POST", "/v1/login", "", &body).await?)
    }

    /// A session of the device at an edge.
    ///
    /// # Errors
    /// Its token is not accepted.
    pub async fn connect(&self, edge: &str) -> Result<Connection, BareError> {
        let hello = Hello {
            protocol_version: limits::PROTOCOL_VERSION,
            token: self.token.clone(),
            ..Hello::default()
        };
        Connection::greet(edge, hello).await
    }
}
