//! What the host asks of a daemon: to end (SIGTERM, or SIGINT from a terminal), or to read its
//! configuration again (SIGHUP).

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a daemon is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Finish what is begun, and end.
    Terminate,
    /// Read the configuration again.
    Reload,
}

/// The signals that the process takes.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Takes the signals from here on; none that comes later is missed. Needs a runtime.
    ///
    /// # Errors
    /// If the host refuses.
    pub fn take() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next request. May be dropped and called again without a loss.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Request::Terminate,
            _ = self.interrupt.recv() => Request::Terminate,
            _ = self.hangup.recv() => Request::Reload,
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Raw, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn each_signal_is_the_request_that_it_stands_for() {
        let mut signals = Signals::take().unwrap();
        for (raw, request) in [
            (Raw::HUP, Request::Reload),
            (Raw::TERM, Request::Terminate),
            (Raw::INT, Request::Terminate),
        ] {
            kill_process(getpid(), raw).unwrap();
            assert_eq!(signals.next().await, request);
        }
    }
}
