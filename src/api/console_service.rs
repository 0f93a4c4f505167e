//! ConsoleService, routed by hand: Attach and ReadOutput answer with bodies of
//! shared frames (see `body`), which generated code has no place for. The rest
//! of gRPC (decoding, status) stays tonic's. A client's `grpc-timeout` is the
//! client's to enforce: what it cuts off is cleaned up like any lost call.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tokio::time::timeout;
use tonic::{
    Status,
    body::Body,
    codec::{Codec, Streaming},
    server::{Grpc, NamedService, UnaryService},
};
use tonic_prost::ProstCodec;

use super::{Api, attach, body, control, read, status::Error, write_input};
use crate::limits;

/// Serves ConsoleService.
#[derive(Debug, Clone)]
pub(super) struct ConsoleService {
    api: Api,
}

impl ConsoleService {
    pub(super) fn new(api: Api) -> Self {
        Self { api }
    }
}

impl NamedService for ConsoleService {
    const NAME: &'static str = "lineman.v1.ConsoleService";
}

impl tower_service::Service<Request<Body>> for ConsoleService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let api = self.api.clone();
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default();
            Ok(match method {
                "Attach" => {
                    let (extensions, requests) = split(request);
                    body::response(attach::serve(api, extensions, requests))
                }
                "ReadOutput" => {
                    let (extensions, mut requests) = split(request);
                    let first = timeout(limits::START_TIMEOUT, requests.message()).await;
                    let late = |_| Err(Status::deadline_exceeded("no request came"));
                    match first.unwrap_or_else(late) {
                        Ok(request) => {
                            let request = request.unwrap_or_default();
                            body::response(read::serve(api, extensions, request))
                        }
                        Err(status) => status.into_http(),
                    }
                }
                "WriteInput" => unary(api, request, write_input::serve).await,
                "SendBreak" => unary(api, request, control::send_break).await,
                "GetLineSettings" => unary(api, request, control::get_line_settings).await,
                "SetLineSettings" => unary(api, request, control::set_line_settings).await,
                "SetModemLines" => unary(api, request, control::set_modem_lines).await,
                "SetWindowSize" => unary(api, request, control::set_window_size).await,
                other => Status::unimplemented(format!("there is no method {other}")).into_http(),
            })
        })
    }
}

/// The caller and the messages of a request.
fn split<T>(request: Request<Body>) -> (http::Extensions, Streaming<T>)
where
    T: prost::Message + Default + Send + 'static,
{
    let (parts, body) = request.into_parts();
    let decoder = ProstCodec::<(), T>::default().decoder();
    let messages = Streaming::new_request(decoder, body, None, Some(limits::REQUEST_BYTES_MAX));
    (parts.extensions, messages)
}

/// Serves a call of one message each way.
async fn unary<Q, A, F>(
    api: Api,
    request: Request<Body>,
    serve: fn(Api, http::Extensions, Q) -> F,
) -> Response<Body>
where
    Q: prost::Message + Default + 'static,
    A: prost::Message + Default + 'static,
    F: Future<Output = Result<A, Error>> + Send + 'static,
{
    let mut grpc = Grpc::new(ProstCodec::<A, Q>::default())
        .apply_max_message_size_config(Some(limits::REQUEST_BYTES_MAX), None);
    grpc.unary(Unary { api, serve }, request).await
}

struct Unary<Q, F> {
    api: Api,
    serve: fn(Api, http::Extensions, Q) -> F,
}

impl<Q, A, F> UnaryService<Q> for Unary<Q, F>
where
    F: Future<Output = Result<A, Error>> + Send + 'static,
{
    type Response = A;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<A>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let (_metadata, extensions, request) = request.into_parts();
        let answer = (self.serve)(self.api.clone(), extensions, request);
        Box::pin(async move { Ok(tonic::Response::new(answer.await?)) })
    }
}
