//! The unix socket of the local API: for its owner and group, never taken from a process that
//! listens on it, and removed at the end.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

/// Who may connect: owner and group.
const MODE: u32 = 0o660;

/// Why the socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process listens on it.
    #[error(
        "the socket {} is in use by another process; stop that, or choose another with --socket",
        .0.display()
    )]
    InUse(PathBuf),
    /// Something else is in its place.
    #[error(
        "{} is there and is no socket; remove it, or choose another with --socket",
        .0.display()
    )]
    NoSocket(PathBuf),
    /// It cannot be made.
    #[error("cannot make the socket {}: {source}; choose another with --socket", path.display())]
    Make {
        /// Where.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

/// A socket that is listened on; its file goes with the value.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
}

impl Socket {
    /// Makes the socket, in place of one that nobody listens on. Needs a runtime.
    ///
    /// # Errors
    /// If somebody listens on it, or it cannot be made there.
    pub fn bind(path: &Path) -> Result<(Self, UnixListener), SocketError> {
        let failed = |source| SocketError::Make { path: path.to_owned(), source };
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(SocketError::NoSocket(path.to_owned()));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(SocketError::InUse(path.to_owned()));
            }
            Ok(_) => fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let socket = Self { path: path.to_owned() };
        fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(failed)?;
        Ok((socket, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Whoever comes next removes what is left here.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/edge.sock");
        let (socket, listener) = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let refused = Socket::bind(&path).unwrap_err();
        assert!(matches!(refused, SocketError::InUse(_)), "{refused}");
        drop(listener);
        std::mem::forget(socket);
        let (socket, _listener) = Socket::bind(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "data").unwrap();
        let refused = Socket::bind(&path).unwrap_err().to_string();
        assert!(refused.contains("no socket") && refused.contains("--socket"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
        let long = dir.path().join("x".repeat(120));
        assert!(matches!(Socket::bind(&long), Err(SocketError::Make { .. })));
    }
}
