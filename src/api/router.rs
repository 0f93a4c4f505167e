//! Every route of the server, behind one door: a request without a valid
//! credential reaches no handler. Health alone is open, for load balancers that
//! hold no credential; it tells nothing of devices.

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tonic::{Status, service::Routes};

use super::{Api, console_service::ConsoleService, status::Error};
use crate::{
    auth::{Action, Identity, Peer},
    limits,
    pb::{self, device_service_server::DeviceServiceServer},
};

/// Where metrics are, in the OpenMetrics text form.
const METRICS_PATH: &str = "/metrics";
/// What the text form is called (OpenMetrics 1.0).
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// gRPC health checks (grpc.health.v1).
const HEALTH_PREFIX: &str = "/grpc.health.v1.Health/";
/// The server's description of itself (grpc.reflection.v1 and v1alpha).
const REFLECTION_PREFIX: &str = "/grpc.reflection.";

/// Every route. The reporter sets what health tells.
pub fn router(
    api: Api,
) -> Result<(Router, tonic_health::server::HealthReporter), tonic_reflection::server::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::builder();
    routes
        .add_service(health.max_decoding_message_size(limits::HEALTH_REQUEST_BYTES_MAX))
        .add_service(reflection().build_v1()?.max_decoding_message_size(limits::REQUEST_BYTES_MAX))
        .add_service(
            reflection().build_v1alpha()?.max_decoding_message_size(limits::REQUEST_BYTES_MAX),
        )
        .add_service(
            DeviceServiceServer::new(api.clone())
                .max_decoding_message_size(limits::REQUEST_BYTES_MAX),
        )
        .add_service(ConsoleService::new(api.clone()));
    let metrics = Router::new().route(METRICS_PATH, get(metrics)).with_state(api.clone());
    let router = routes
        .routes()
        .into_axum_router()
        .merge(metrics)
        .layer(middleware::from_fn_with_state(api, authenticate));
    Ok((router, reporter))
}

/// Finds out who calls, and lets nobody else in.
async fn authenticate(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if !path.starts_with(HEALTH_PREFIX) {
        let reflects = path.starts_with(REFLECTION_PREFIX);
        let identity = match api.inner.auth.authenticate(request.headers()) {
            Ok(identity) => identity,
            Err(error) => {
                api.inner.metrics.unauthenticated.inc();
                api.inner.metrics.requests_failed.inc();
                if path == METRICS_PATH {
                    return (StatusCode::UNAUTHORIZED, error.to_string()).into_response();
                }
                return Status::from(Error::Unauthenticated(error)).into_http();
            }
        };
        if reflects && let Err(denied) = api.inner.auth.authorize(&identity, Action::Reflect, None)
        {
            return Status::from(Error::Denied(denied)).into_http();
        }
        if let Some(peer) = request.extensions().get::<Peer>() {
            peer.set_known();
        }
        request.extensions_mut().insert(identity);
    }
    let response = next.run(request).await;
    let failed = response.headers().get(Status::GRPC_STATUS).is_some_and(|code| code != "0");
    if failed {
        api.inner.metrics.requests_failed.inc();
    }
    response
}

async fn metrics(State(api): State<Api>, request: Request) -> Response {
    let identity = request.extensions().get::<Identity>();
    let allowed =
        identity.map(|identity| api.inner.auth.authorize(identity, Action::Metrics, None));
    if !matches!(allowed, Some(Ok(()))) {
        return StatusCode::FORBIDDEN.into_response();
    }
    match api.inner.metrics.encode() {
        Ok(text) => ([(http::header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
