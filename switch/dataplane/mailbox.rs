//! What the control side hands to a worker.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crossbeam::queue::{ArrayQueue, SegQueue};
use kswitch_tables::{Generation, PortId, Snapshot};

use super::link::{Ferry, Links};
use crate::port::{Queue, Sender};

/// What a worker judges and sends by: one generation of tables, and the ports that go with it.
#[derive(Debug)]
pub struct View {
    /// The tables.
    pub snapshot: Arc<Snapshot>,
    /// By [`PortId`].
    pub senders: Vec<Option<Sender>>,
    /// What is wrong with links; `None` where nothing is.
    pub links: Option<Arc<Links>>,
}

impl View {
    /// The sending side of a port.
    #[inline]
    pub fn sender(&self, port: PortId) -> Option<&Sender> {
        self.senders.get(usize::from(port.0)).and_then(Option::as_ref)
    }
}

/// A change of what a worker receives from.
#[derive(Debug)]
pub enum Command {
    /// Receive from this queue of the port from now on.
    Attach(PortId, Queue),
    /// Close the port's queues.
    Detach(PortId),
    /// Take frames over faulty links with this.
    Board(Box<Ferry>),
    /// Panic, to see how the others get on.
    Panic,
}

/// One worker's mailbox. **Sharing**: the control side puts, the worker takes; neither waits.
///
/// A view is replaced by a newer one that the worker has not seen yet; commands are all kept, in
/// order.
#[derive(Debug)]
pub struct Mailbox {
    view: ArrayQueue<Arc<View>>,
    commands: SegQueue<Command>,
    generation: AtomicU32,
    stop: AtomicBool,
    waker: Option<mio::Waker>,
}

impl Mailbox {
    /// An empty mailbox; `waker` wakes its worker from waiting.
    pub fn new(waker: Option<mio::Waker>) -> Self {
        Self {
            view: ArrayQueue::new(1),
            commands: SegQueue::new(),
            generation: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            waker,
        }
    }

    /// Hands over a view; one not yet taken is forgotten.
    ///
    /// # Errors
    /// If the worker cannot be woken.
    pub fn publish(&self, view: Arc<View>) -> io::Result<()> {
        drop(self.view.force_push(view));
        self.wake()
    }

    /// Hands over a command.
    ///
    /// # Errors
    /// If the worker cannot be woken.
    pub fn command(&self, command: Command) -> io::Result<()> {
        self.commands.push(command);
        self.wake()
    }

    /// Tells the worker to end.
    ///
    /// # Errors
    /// If the worker cannot be woken.
    pub fn stop(&self) -> io::Result<()> {
        // Release pairs with the Acquire of `is_stopped`
        self.stop.store(true, Ordering::Release);
        self.wake()
    }

    fn wake(&self) -> io::Result<()> {
        self.waker.as_ref().map_or(Ok(()), mio::Waker::wake)
    }

    /// The generation the worker judges by.
    pub fn generation(&self) -> Generation {
        // Acquire pairs with the Release of `adopt`: who sees the generation may rely on the
        // worker holding no older view
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// Whether the worker has taken the view that was handed over last.
    pub fn is_taken(&self) -> bool {
        self.view.is_empty()
    }

    /// For the worker: the newest view, if there is one it has not seen.
    pub fn take_view(&self) -> Option<Arc<View>> {
        self.view.pop()
    }

    /// For the worker: says which generation it judges by from now on.
    pub fn adopt(&self, generation: Generation) {
        // Release pairs with the Acquire of `generation`
        self.generation.store(generation.0, Ordering::Release);
    }

    /// For the worker: the next command.
    pub fn take_command(&self) -> Option<Command> {
        self.commands.pop()
    }

    /// For the worker: whether to end.
    pub fn is_stopped(&self) -> bool {
        // Acquire pairs with the Release of `stop`
        self.stop.load(Ordering::Acquire)
    }
}
