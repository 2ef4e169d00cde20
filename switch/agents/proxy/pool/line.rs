//! A connection to a backend that carries one request after the other, and is driven by whoever uses
//! it: nobody has to be woken for what the client's own task can do.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::{TrySendError, http1};
use hyper::{Request, Response, StatusCode};
use tokio::runtime::Handle;

use super::{Body, Key};
use crate::agents::proxy::Shared;

/// What moves octets; ends with the connection.
type Driving = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// A connection, and what drives it.
pub(super) struct Line {
    sender: http1::SendRequest<Body>,
    /// `None`: it has ended.
    driving: Option<Driving>,
}

impl fmt::Debug for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Line").field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl Line {
    pub(super) fn new(
        sender: http1::SendRequest<Body>,
        driving: impl Future<Output = ()> + Send + Sync + 'static,
    ) -> Self {
        Self { sender, driving: Some(Box::pin(driving)) }
    }

    /// Moves what can be moved.
    fn drive(&mut self, context: &mut Context<'_>) {
        let Some(driving) = &mut self.driving else { return };
        if driving.as_mut().poll(context).is_ready() {
            self.driving = None;
        }
    }

    /// Whether another request can be sent, for all that is known now.
    pub(super) fn is_ready(&mut self) -> bool {
        // nobody waits for it: whoever sends the next request will drive it again
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driving.is_some() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// The connection ended; a request that was not sent comes back.
    pub(super) async fn send(
        mut self,
        shared: &Arc<Shared>,
        key: Key,
        request: Request<Body>,
    ) -> Result<Response<Answer>, TrySendError<Request<Body>>> {
        let mut sending = Box::pin(self.sender.try_send_request(request));
        let response = std::future::poll_fn(|context| {
            self.drive(context);
            sending.as_mut().poll(context)
        });
        let response = response.await?;
        drop(sending);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // it is another protocol's now, which drives itself
            self.driving.take().map(tokio::spawn);
            return Ok(response.map(Answer::Shared));
        }
        let shared = Arc::clone(shared);
        Ok(response.map(|body| Answer::Own(Own { body, line: Some(self), shared, key })))
    }

    /// Waits until another request can be sent, or never.
    async fn finish(mut self, shared: Arc<Shared>, key: Key) {
        let is_ready = std::future::poll_fn(|context| {
            self.drive(context);
            match self.sender.poll_ready(context) {
                Poll::Ready(ready) => Poll::Ready(ready.is_ok()),
                Poll::Pending if self.driving.is_none() => Poll::Ready(false),
                Poll::Pending => Poll::Pending,
            }
        });
        if is_ready.await {
            shared.pool.put(key, self);
        }
    }
}

/// The body of a backend's answer.
#[derive(Debug)]
pub enum Answer {
    /// One that drives its connection.
    Own(Own),
    /// One whose connection is driven for all that it carries.
    Shared(Incoming),
}

/// A body that drives its connection, and keeps it for the next request.
#[derive(Debug)]
pub struct Own {
    body: Incoming,
    line: Option<Line>,
    shared: Arc<Shared>,
    key: Key,
}

impl Own {
    fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        if let Some(line) = &mut self.line {
            line.drive(context);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let Some(mut line) = self.line.take() else { return };
        // who breaks off before the end breaks the connection off
        if !self.body.is_end_stream() {
            return;
        }
        if line.is_ready() {
            self.shared.pool.put(self.key, line);
        } else if line.driving.is_some()
            && let Ok(runtime) = Handle::try_current()
        {
            // the answer was there before all of the request was sent
            runtime.spawn(line.finish(Arc::clone(&self.shared), self.key));
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Own(own) => own.poll_frame(context),
            Self::Shared(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(Own { body, .. }) | Self::Shared(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(Own { body, .. }) | Self::Shared(body) => body.size_hint(),
        }
    }
}
