//! Who vouches for edges that are reached by TLS (`wss://`).

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use std::{io, sync::Arc};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

/// The certificate authorities that are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Roots {
    /// Those that the platform trusts.
    #[default]
    Platform,
    /// These alone: certificates as PEM.
    Pem(Vec<u8>),
}

impl Roots {
    /// What is wrong with them, if anything is.
    pub(crate) fn mistake(&self) -> Option<String> {
        match self {
            Self::Platform => None,
            Self::Pem(pem) => certificates(pem).err().map(|error| format!("roots: {error}")),
        }
    }
}

fn certificates(pem: &[u8]) -> io::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        store.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    match store.is_empty() {
        false => Ok(store),
        true => Err(io::Error::other("there is no certificate in it")),
    }
}

fn platform() -> io::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // One that cannot be read vouches for nobody.
    store.add_parsable_certificates(found.certs);
    match (store.is_empty(), found.errors.into_iter().next()) {
        (false, _) => Ok(store),
        (true, Some(error)) => Err(io::Error::other(error)),
        (true, None) => Err(io::Error::other("the platform trusts no certificate authority")),
    }
}

/// Connects by TLS. The roots are read once, when the first connection needs them.
#[derive(Default)]
pub(crate) struct Tls {
    roots: Roots,
    connector: OnceCell<TlsConnector>,
}

impl Tls {
    pub(crate) fn new(roots: Roots) -> Arc<Self> {
        Arc::new(Self { roots, connector: OnceCell::new() })
    }

    pub(crate) async fn connect<S>(
        &self,
        host: &str,
        stream: S,
    ) -> io::Result<tokio_rustls::client::TlsStream<S>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        self.connector.get_or_try_init(|| self.load()).await?.connect(name, stream).await
    }

    async fn load(&self) -> io::Result<TlsConnector> {
        let store = match &self.roots {
            Roots::Pem(pem) => certificates(pem)?,
            // It reads files.
            Roots::Platform => tokio::task::spawn_blocking(platform).await.map_err(io::Error::other)??,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}
