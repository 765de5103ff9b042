//! A channel whose receiver can wait in poll(2), for other things besides.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, SendError, TryRecvError};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Wakes a thread that waits in poll(2).
#[derive(Clone)]
pub(crate) struct Bell(Arc<EventFd>);

impl Bell {
    /// Wakes it now, or as soon as it waits.
    pub(crate) fn ring(&self) {
        // Fails only where it rings already.
        let _ = self.0.write(1);
    }
}

/// Rings when it goes.
#[derive(Clone)]
struct Parting(Bell);

impl Drop for Parting {
    fn drop(&mut self) {
        self.0.ring();
    }
}

/// The sending half.
pub(crate) struct Sender<T> {
    channel: mpsc::Sender<T>,
    // Dropped after the channel, so that the thread that it wakes finds that closed.
    parting: Parting,
}

// Not derived, which would ask for `T: Clone`.
impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { channel: self.channel.clone(), parting: self.parting.clone() }
    }
}

impl<T> Sender<T> {
    /// Sends, and wakes the receiver.
    ///
    /// # Errors
    ///
    /// The receiver is gone.
    pub(crate) fn send(&self, message: T) -> Result<(), SendError<T>> {
        self.channel.send(message)?;
        self.parting.0.ring();
        Ok(())
    }
}

/// The receiving half. Its file is readable once something was sent, or the last sender went, since [`Inbox::hush`].
pub(crate) struct Inbox<T> {
    channel: mpsc::Receiver<T>,
    bell: Bell,
}

impl<T> Inbox<T> {
    /// What wakes this thread, for others than senders.
    pub(crate) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Waits again from now on. What was sent before is to be received after this.
    pub(crate) fn hush(&self) {
        let _ = self.bell.0.read();
    }

    /// The next message, if there is one.
    ///
    /// # Errors
    ///
    /// There is none; whether there may be one yet.
    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        self.channel.try_recv()
    }
}

impl<T> AsFd for Inbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.0.as_fd()
    }
}

/// A channel without bounds.
///
/// # Errors
///
/// There can be no more open files.
pub(crate) fn channel<T>() -> io::Result<(Sender<T>, Inbox<T>)> {
    let (sender, receiver) = mpsc::channel();
    let bell = Bell(Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?));
    Ok((Sender { channel: sender, parting: Parting(bell.clone()) }, Inbox { channel: receiver, bell }))
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn is_readable(inbox: &Inbox<u8>) -> bool {
        poll(&mut [PollFd::new(inbox.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn it_is_readable_from_a_message_or_the_last_senders_end_until_it_is_hushed() {
        let (sender, inbox) = channel().unwrap();
        assert!(!is_readable(&inbox));
        sender.send(1).unwrap();
        sender.clone().send(2).unwrap();
        assert!(is_readable(&inbox));
        inbox.hush();
        assert!(!is_readable(&inbox));
        assert_eq!([inbox.try_recv(), inbox.try_recv(), inbox.try_recv()], [Ok(1), Ok(2), Err(TryRecvError::Empty)]);
        inbox.bell().ring();
        assert!(is_readable(&inbox));
        inbox.hush();
        drop(sender);
        assert!(is_readable(&inbox));
        assert_eq!(inbox.try_recv(), Err(TryRecvError::Disconnected));
    }

    #[test]
    fn who_waits_is_woken_by_a_senders_end() {
        let (sender, inbox) = channel::<u8>().unwrap();
        let waiting = std::thread::spawn(move || {
            poll(&mut [PollFd::new(inbox.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
            inbox.try_recv()
        });
        drop(sender);
        assert_eq!(waiting.join().unwrap(), Err(TryRecvError::Disconnected));
    }
}
