//! Work that yields to all else of this process: on a thread of its own, at a low priority.

use std::{io, thread};

use rustix::{process::setpriority_process, thread::gettid};
use tokio::sync::oneshot;

/// How much it yields: about a tenth of a core is left to it beside work that wants all.
const NICE: i32 = 10;

/// Begins work on such a thread.
///
/// # Errors
/// If the host gives no thread.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn(|| {
        // Of this thread alone (Linux); without it the work only costs others more.
        let _ = setpriority_process(Some(gettid()), NICE);
        work();
    });
    spawned.map(drop)
}

/// Does work on such a thread, and waits for what comes of it.
///
/// # Errors
/// If the host gives no thread, or the work has panicked.
pub async fn run<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    // Who has gone does not want to know.
    spawn(name, || drop(done.send(work())))?;
    result.await.map_err(|_| io::Error::other("it has panicked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_done_aside_yields_and_nothing_else_does() {
        let nice = || rustix::process::getpriority_process(Some(gettid())).unwrap();
        let before = nice();
        assert_eq!(run("aside", nice).await.unwrap(), NICE);
        assert_eq!(nice(), before);
        let panicked: io::Result<()> = run("aside", || panic!("a test's panic")).await;
        assert!(panicked.is_err());
    }
}
