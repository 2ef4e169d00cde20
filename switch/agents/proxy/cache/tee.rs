//! Bodies that are kept while they go by.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};

use super::stored::BODY_MAX;
use crate::agents::proxy::Error;
use crate::agents::proxy::pool::Body;

/// What is done with a body that went by whole.
type Whole = Box<dyn FnOnce(Bytes) + Send + Sync>;

struct Tee {
    inner: Body,
    kept: Vec<Bytes>,
    octets: usize,
    whole: Option<Whole>,
}

/// The answer, of whose body `whole` gets a copy once it has gone by; none if it is cut off, has
/// trailers, or is larger than what is kept.
pub(super) fn kept(
    response: Response<Body>,
    whole: impl FnOnce(Bytes) + Send + Sync + 'static,
) -> Response<Body> {
    response.map(|inner| {
        let whole: Whole = Box::new(whole);
        let mut tee = Tee { inner, kept: Vec::new(), octets: 0, whole: Some(whole) };
        tee.look();
        tee.boxed()
    })
}

impl Tee {
    /// Hands over the body if all of it has gone by.
    fn look(&mut self) {
        if self.inner.is_end_stream()
            && let Some(whole) = self.whole.take()
        {
            whole(self.kept.concat().into());
            self.kept.clear();
        }
    }
}

impl HttpBody for Tee {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => match frame.data_ref() {
                Some(data) if self.whole.is_some() => {
                    self.octets += data.len();
                    if self.octets > BODY_MAX {
                        self.whole = None;
                        self.kept.clear();
                    } else {
                        self.kept.push(data.clone());
                        self.look();
                    }
                }
                Some(_) => {}
                None => self.whole = None,
            },
            Poll::Ready(Some(Err(_))) => self.whole = None,
            Poll::Ready(None) => {
                if let Some(whole) = self.whole.take() {
                    whole(self.kept.concat().into());
                    self.kept.clear();
                }
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
