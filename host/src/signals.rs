//! What the host asks of a daemon: to end (SIGTERM, or SIGINT from a terminal), or to read its
//! configuration again (SIGHUP). A file that has come to the limit on its size asks for nothing
//! (SIGXFSZ): the write that ran into it fails, and its writer knows what to do.

use std::io;

use rustix::process::Signal as Number;
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
    /// Taken so that it does not end the process; never waited for.
    _file_size: Signal,
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
            _file_size: signal(SignalKind::from_raw(Number::XFSZ.as_raw()))?,
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
    use std::time::Duration;

    use rustix::process::{getpid, kill_process};

    use super::*;

    // One test: signals are the process's, and so are they those of a test beside it.
    #[tokio::test]
    async fn each_signal_is_the_request_that_it_stands_for() {
        let mut signals = Signals::take().unwrap();
        kill_process(getpid(), Number::XFSZ).unwrap();
        let asked = tokio::time::timeout(Duration::from_millis(50), signals.next()).await;
        assert!(asked.is_err(), "a file at the limit of its size asks for nothing: {asked:?}");
        for (raw, request) in [
            (Number::HUP, Request::Reload),
            (Number::TERM, Request::Terminate),
            (Number::INT, Request::Terminate),
        ] {
            kill_process(getpid(), raw).unwrap();
            assert_eq!(signals.next().await, request);
        }
    }
}
