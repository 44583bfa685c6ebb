//! One port for gRPC and for what operators' tools ask over HTTP.

use crate::{
    Deps,
    engine::Engine,
    forward,
    grpc::{Service, homes, members, names, replicas},
    raft::Server,
    state::State,
};
use axum::{Router, http::StatusCode, middleware, routing::get};
use host::net::Listener;
use proto::directory::{
    consensus_server::ConsensusServer, directory_server::DirectoryServer, homes_server::HomesServer,
    members_server::MembersServer, names_server::NamesServer, replicas_server::ReplicasServer,
};
use std::sync::Arc;
use tonic::service::Routes;
use types::limits;

/// Serves until shutdown, and then until open requests are answered.
pub(crate) async fn serve(
    listener: Listener,
    service: Service,
    (homes, names): (homes::Service, names::Service),
    (engine, consensus): (Engine, Option<Server>),
    state: Arc<State>,
    deps: Deps,
) -> std::io::Result<()> {
    let directory = DirectoryServer::new(service)
        .max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES)
        .max_encoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES);
    let mut grpc = Routes::new(directory)
        .add_service(HomesServer::new(homes))
        .add_service(ReplicasServer::new(replicas::Service(engine.clone())))
        .add_service(MembersServer::new(members::Service(engine.clone())))
        .add_service(NamesServer::new(names));
    if let Some(consensus) = consensus {
        let consensus = ConsensusServer::new(consensus)
            .max_decoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES)
            .max_encoding_message_size(limits::WIRE_MESSAGE_MAX_BYTES);
        grpc = grpc.add_service(consensus);
    }
    let grpc = grpc.into_axum_router().layer(middleware::from_fn_with_state(engine, forward::to_leader));
    let shutdown = deps.shutdown.clone();
    let is_stopping = deps.shutdown.clone();
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                // The rows were read before the port was opened.
                if is_stopping.is_cancelled() {
                    (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned())
                } else {
                    let version = state.look(|view, _| view.version());
                    (StatusCode::OK, format!("ready at placement version {version}\n"))
                }
            }),
        )
        .route(
            "/metrics",
            get(move || async move {
                match &deps.metrics {
                    Some(metrics) => (StatusCode::OK, metrics.render()),
                    None => (StatusCode::NOT_FOUND, "this process records no metrics\n".to_owned()),
                }
            }),
        )
        .merge(grpc);
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}
