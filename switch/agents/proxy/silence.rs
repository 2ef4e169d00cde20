//! How long a backend, a client, or both may be silent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::Error;
use super::pool::{Answer, Body};

/// Until when something has to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Never.
    None,
    /// So long after whatever happened before.
    Silence(Duration),
    /// By then.
    End(Instant),
}

/// When something has happened last.
#[derive(Clone, Debug)]
pub struct Movement {
    begun: Instant,
    /// Milliseconds since then.
    last: Arc<AtomicU64>,
}

impl Default for Movement {
    fn default() -> Self {
        Self { begun: Instant::now(), last: Arc::default() }
    }
}

impl Movement {
    /// Something happens.
    pub fn happens(&self) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        // the only thing told is when; who looks later sees it later
        self.last.store(since, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }

    /// Waits until nothing has happened for so long.
    pub async fn silent(&self, limit: Duration) {
        loop {
            let due = self.last() + limit;
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

/// Waits for something while there is movement; `None`: it took too long.
pub async fn within<T>(
    limit: Limit,
    movement: Option<&Movement>,
    waiting: impl Future<Output = T>,
) -> Option<T> {
    match (limit, movement) {
        (Limit::None, _) => Some(waiting.await),
        (Limit::End(end), _) => tokio::time::timeout_at(end, waiting).await.ok(),
        (Limit::Silence(limit), None) => timeout(limit, waiting).await.ok(),
        (Limit::Silence(limit), Some(movement)) => tokio::select! {
            done = waiting => Some(done),
            () = movement.silent(limit) => None,
        },
    }
}

/// Carries octets both ways until one side ends, or both are silent for so long.
pub async fn carry<A, B>(a: A, b: B, limit: Duration)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let movement = Movement::default();
    let mut a = Watched { inner: a, movement: movement.clone() };
    let mut b = Watched { inner: b, movement: movement.clone() };
    tokio::select! {
        // who ends it, and how, is their business
        _ = copy_bidirectional(&mut a, &mut b) => {}
        () = movement.silent(limit) => {}
    }
}

/// A connection whose movement is noted.
struct Watched<I> {
    inner: I,
    movement: Movement,
}

impl<I: AsyncRead + Unpin> AsyncRead for Watched<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.movement.happens();
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// A request's body whose movement is noted.
pub fn watched(body: Body, movement: Movement) -> Body {
    body.map_frame(move |frame| {
        movement.happens();
        frame
    })
    .boxed()
}

/// An answer's body that ends with an error where it takes too long.
pub fn limited(body: Answer, limit: Limit) -> Body {
    if limit == Limit::None || body.is_end_stream() {
        return body.map_err(Error::from).boxed();
    }
    Limited { inner: body, limit, sleep: None, is_armed: false }.boxed()
}

struct Limited {
    inner: Answer,
    limit: Limit,
    /// Made once it is waited for the first time: most bodies are there at once.
    sleep: Option<Pin<Box<Sleep>>>,
    is_armed: bool,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            self.is_armed = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        if !self.is_armed {
            let due = match self.limit {
                Limit::None => return Poll::Pending,
                Limit::Silence(limit) => Instant::now() + limit,
                Limit::End(end) => end,
            };
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(due),
                None => self.sleep = Some(Box::pin(sleep_until(due))),
            }
            self.is_armed = true;
        }
        let Some(sleep) = &mut self.sleep else { return Poll::Pending };
        ready!(sleep.as_mut().poll(context));
        Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LONG: Duration = Duration::from_hours(1);
    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn both_are_told_when_they_were_silent_for_too_long() {
        let (mut client, near) = duplex(64);
        let (far, mut server) = duplex(64);
        let carrying = tokio::spawn(carry(near, far, SHORT));
        carrying.await.unwrap();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn what_is_said_either_way_is_movement() {
        let movement = Movement::default();
        let (near, mut far) = duplex(64);
        let mut watched = Watched { inner: near, movement: movement.clone() };
        let before = movement.last();
        tokio::time::sleep(SHORT).await;
        far.write_all(b"x").await.unwrap();
        assert_eq!(watched.read_u8().await.unwrap(), b'x');
        assert!(movement.last() > before);
    }

    #[tokio::test]
    async fn who_waits_is_patient_while_there_is_movement() {
        let never = std::future::pending::<()>;
        let limit = Limit::Silence(SHORT);
        assert_eq!(within(limit, None, never()).await, None);
        assert_eq!(within(limit, Some(&Movement::default()), never()).await, None);
        assert_eq!(within(Limit::End(Instant::now() + SHORT), None, never()).await, None);
        let slow = || tokio::time::sleep(SHORT);
        assert_eq!(
            within(Limit::Silence(LONG), Some(&Movement::default()), slow()).await,
            Some(())
        );
        assert_eq!(within(Limit::None, None, slow()).await, Some(()));
    }
}
