//! A response body whose data frames are finished bytes: what a stream yields is
//! what HTTP/2 sends, with gRPC's status as trailers at the end. tonic's encoder
//! would copy each message for each attacher; this adds a reference.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE};
use http_body::{Body, Frame};
use tonic::Status;

/// The body of a streaming response.
struct FramesBody<S> {
    frames: Option<S>,
}

/// A gRPC response that streams finished frames.
pub(super) fn response(
    frames: impl Stream<Item = Result<Bytes, Status>> + Send + 'static,
) -> Response<tonic::body::Body> {
    let body = FramesBody { frames: Some(Box::pin(frames)) };
    let mut response = Response::new(tonic::body::Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

impl<S: Stream<Item = Result<Bytes, Status>> + Unpin> Body for FramesBody<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(frames) = &mut self.frames else {
            return Poll::Ready(None);
        };
        let status = match ready!(Pin::new(frames).poll_next(cx)) {
            Some(Ok(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        // What the attachment holds is free before the client hears of it.
        self.frames = None;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(match status.add_header(&mut trailers) {
            Ok(()) => Ok(Frame::trailers(trailers)),
            Err(status) => Err(status),
        }))
    }
}
