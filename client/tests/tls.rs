//! Edges that are reached by TLS, on a real socket.

use client::{Client, Config, Event, Roots, bare::Connection, testing::FakeServer};
use proto::client::Hello;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use types::{DeviceId, UserId};

const PATIENCE: Duration = Duration::from_secs(20);

async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("timed out: {what}"))
}

fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

/// An authority of one's own.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
}

/// A listener that answers by TLS under these names, and hands on what it hears.
async fn listen(authority: &CertifiedIssuer<'static, KeyPair>, names: &[&str], to: SocketAddr) -> u16 {
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate =
        CertificateParams::new(names).expect("names").signed_by(&key, authority).expect("signed");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outer) = acceptor.accept(stream).await else { return };
                let mut inner = TcpStream::connect(to).await.expect("the server is there");
                let _ended = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    port
}

fn address(server: &FakeServer) -> SocketAddr {
    let url = server.url();
    let host = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next()).expect("a host");
    host.parse().expect("an address")
}

fn config(edge: String, roots: Roots) -> Config {
    let mut config = Config::new([edge], user("alice"), DeviceId::new(7));
    config.roots = roots;
    config
}

#[tokio::test]
async fn an_edge_is_reached_by_tls_where_its_authority_is_trusted() {
    let server = FakeServer::start().await;
    let authority = authority();
    let port = listen(&authority, &["localhost", "127.0.0.1"], address(&server)).await;
    for host in ["localhost", "127.0.0.1"] {
        let roots = Roots::Pem(authority.pem().into_bytes());
        let config = config(format!("wss://{host}:{port}/v1/ws"), roots);
        let alice = Client::connect(config).expect("good settings");
        let chat = within("open", alice.open_direct(&user("bob"))).await.expect("opened");
        let body = vec![7; 60_000];
        let sending = chat.send(body).await.expect("accepted");
        within("replicated", sending.replicated()).await.expect("replicated");
    }
}

#[tokio::test]
async fn a_bare_connection_trusts_whom_it_is_told_to_trust() {
    let server = FakeServer::start().await;
    let (ours, other) = (authority(), authority());
    let edge = format!("wss://127.0.0.1:{}/v1/ws", listen(&ours, &["127.0.0.1"], address(&server)).await);
    let open = |trusted: &CertifiedIssuer<'static, KeyPair>| {
        let hello = Hello { protocol_version: 1, user: "alice".to_owned(), device: 7, ..Hello::default() };
        Connection::greet_trusting(&edge, hello, Roots::Pem(trusted.pem().into_bytes()))
    };
    within("a welcome", open(&ours)).await.expect("is welcomed");
    let error = within("an end", open(&other)).await.expect_err("nobody vouches for it");
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
}

/// What a client that is not let on says of it.
async fn refused(config: Config) -> String {
    let alice = Client::connect(config).expect("good settings");
    let mut events = alice.events().await;
    match within("an end", events.next()).await {
        Some(Event::Disconnected { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_edge_is_not_spoken_to_where_nobody_vouches_for_it() {
    let server = FakeServer::start().await;
    let (ours, other) = (authority(), authority());
    let here = listen(&ours, &["127.0.0.1"], address(&server)).await;
    let elsewhere = listen(&ours, &["hearth.example"], address(&server)).await;
    let trusted = || Roots::Pem(ours.pem().into_bytes());
    let strange = Roots::Pem(other.pem().into_bytes());
    let reason = refused(config(format!("wss://127.0.0.1:{here}/v1/ws"), strange)).await;
    assert!(reason.contains("invalid peer certificate"), "{reason}");
    let reason = refused(config(format!("wss://127.0.0.1:{elsewhere}/v1/ws"), trusted())).await;
    assert!(reason.contains("not valid for"), "{reason}");
    assert!(server.with(|model| model.connect()) == 1, "nobody has connected");
}

#[tokio::test]
async fn roots_that_hold_no_certificate_are_a_mistake() {
    let error = Client::connect(config("wss://localhost/v1/ws".to_owned(), Roots::Pem(b"none".to_vec())));
    let error = error.expect_err("no certificate").to_string();
    assert!(error.contains("no certificate"), "{error}");
}
