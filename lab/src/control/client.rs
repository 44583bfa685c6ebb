//! The other end of the control API.

use super::{CutRequest, LinkRequest, Refused};
use crate::{
    description::{Description, LinkDescription},
    http,
};
use hyper::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// Starting and killing processes takes a moment; nothing else does.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Finds and steers a running deployment.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    address: SocketAddr,
}

/// A deployment that did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error("no deployment answers at {address} ({source}): is `hearth up` running, with this --base-port?")]
    Unreachable {
        /// Where it was looked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// It refuses.
    #[error("{message}")]
    Refused {
        /// A stable name of the refusal.
        code: String,
        /// For people.
        message: String,
    },
    /// What answers is no deployment, or of another version.
    #[error("what answers at {address} is no deployment of this version: {why}")]
    Strange {
        /// Who answered.
        address: SocketAddr,
        /// What was wrong with it.
        why: String,
    },
}

impl Client {
    /// The deployment with this base port.
    pub fn new(base_port: u16) -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, base_port).into() }
    }

    /// What runs.
    ///
    /// # Errors
    /// [`ClientError`], as for every method here.
    pub async fn describe(&self) -> Result<Description, ClientError> {
        self.get("/v1/lab").await
    }

    /// What the links between processes are like, and what they have carried.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn links(&self) -> Result<Vec<LinkDescription>, ClientError> {
        self.get("/v1/lab/links").await
    }

    /// `verb` is `kill`, `pause`, `resume` or `start`; `target` a region, a node or `directory`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn act(&self, verb: &str, target: &str) -> Result<(), ClientError> {
        // A name that is none could change the path: the other end would misunderstand it.
        let whole =
            target.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) && !target.is_empty();
        if !whole {
            let message = format!("{target:?} is not the name of a region or node");
            return Err(ClientError::Refused { code: "unknown_region".to_owned(), message });
        }
        self.call(Method::POST, &format!("/v1/lab/{verb}/{target}"), None).await.map(drop)
    }

    /// Cuts a link.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn cut(&self, request: &CutRequest) -> Result<(), ClientError> {
        self.post("/v1/lab/cut", request).await
    }

    /// Ends all cuts and stalls.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn heal(&self) -> Result<(), ClientError> {
        self.call(Method::POST, "/v1/lab/heal", None).await.map(drop)
    }

    /// Changes a link.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_link(&self, request: &LinkRequest) -> Result<(), ClientError> {
        self.post("/v1/lab/link", request).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let body = self.call(Method::GET, path, None).await?;
        serde_json::from_slice(&body)
            .map_err(|error| ClientError::Strange { address: self.address, why: error.to_string() })
    }

    async fn post(&self, path: &str, request: &impl Serialize) -> Result<(), ClientError> {
        let json = serde_json::to_vec(request).expect("requests are plain data");
        self.call(Method::POST, path, Some(json)).await.map(drop)
    }

    async fn call(&self, method: Method, path: &str, json: Option<Vec<u8>>) -> Result<Vec<u8>, ClientError> {
        let address = self.address;
        let (status, body) = http::call(method, address, path, json, CALL_TIMEOUT)
            .await
            .map_err(|source| ClientError::Unreachable { address, source })?;
        if status == StatusCode::OK {
            return Ok(body.into());
        }
        match serde_json::from_slice::<Refused>(&body) {
            Ok(Refused { error }) => Err(ClientError::Refused { code: error.code, message: error.message }),
            Err(_) => Err(ClientError::Strange { address, why: format!("status {status}") }),
        }
    }
}
