use std::net::SocketAddr;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// A link that can fall silent: connections made before stay open and carry nothing any more.
pub(crate) struct Proxy {
    pub address: SocketAddr,
    silenced: watch::Sender<u64>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (silenced, silences) = watch::channel(0);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut silences = silences.clone();
                silences.mark_unchanged();
                tokio::spawn(async move {
                    let (mut near, Ok(mut far)) = (near, TcpStream::connect(to).await) else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = silences.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, silenced, _task: AbortOnDropHandle::new(task) }
    }

    /// What is connected now carries nothing from now on.
    pub(crate) fn silence(&self) {
        self.silenced.send_modify(|times| *times += 1);
    }
}
