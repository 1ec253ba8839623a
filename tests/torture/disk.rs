//! A small disk of its own: ext4 on a loop file, which can be cut from power, filled, and made
//! read-only. What is mounted is unmounted with its handle, after a failed assertion as well: a
//! handle has to be declared before what runs on it.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use edgesync_tests::{have, not_checked};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tempfile::TempDir;

/// Size of a disk.
const OCTETS: u64 = 32 * 1024 * 1024;

/// A mounted disk.
pub struct Disk {
    mount: PathBuf,
    image: PathBuf,
    _dir: TempDir,
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A daemon that was just killed may hold it for a moment.
        for _ in 0..50 {
            if run("umount", &[path(&self.mount)]) {
                return;
            }
            std::thread::sleep(Duration::from_millis(40));
        }
        run("umount", &["-l", path(&self.mount)]);
        eprintln!("{} could only be unmounted lazily", self.mount.display());
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// True if disks can be made here; says so if not.
pub fn can_mount() -> bool {
    if !rustix::process::geteuid().is_root() {
        not_checked("mounting needs root");
        return false;
    }
    if !(have("mkfs.ext4") && have("mount") && have("umount")) {
        return false;
    }
    let may = Path::new("/dev/loop-control").exists() && Disk::try_make().is_some();
    if !may {
        not_checked("loop devices cannot be mounted here");
    }
    may
}

impl Disk {
    /// An empty disk.
    pub fn make() -> Self {
        Self::try_make().expect("a disk can be made")
    }

    fn try_make() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let image = dir.path().join("image");
        File::create(&image).and_then(|file| file.set_len(OCTETS)).expect("an image");
        run("mkfs.ext4", &["-q", "-F", path(&image)]).then_some(())?;
        Self::mount(dir, image)
    }

    fn mount(dir: TempDir, image: PathBuf) -> Option<Self> {
        let mount = dir.path().join("mount");
        std::fs::create_dir(&mount).expect("a directory");
        // Nothing is written because time has passed, only because somebody has synced.
        let mounted = run("mount", &["-o", "loop,commit=60", path(&image), path(&mount)]);
        mounted.then_some(Self { mount, image, _dir: dir })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// A disk as this one would be found if the power went now: what has reached the device.
    pub fn cut(&self) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let image = dir.path().join("image");
        assert!(run("cp", &["--sparse=always", path(&self.image), path(&image)]));
        Self::mount(dir, image).expect("what a power cut leaves can be mounted")
    }

    /// Fills it to the last octet; [`Disk::free`] takes that back.
    pub fn fill(&self) {
        fill(&self.mount, u64::MAX);
    }

    /// Removes what filled it.
    pub fn free(&self) {
        free(&self.mount);
    }

    /// Makes it read-only, as a kernel does after an error.
    pub fn remount(&self, how: &str) -> bool {
        run("mount", &["-o", &format!("remount,{how}"), path(&self.mount)])
    }
}

/// A file system in memory that is soon full.
pub struct SmallDisk {
    dir: TempDir,
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if !run("umount", &[path(self.dir.path())]) {
            run("umount", &["-l", path(self.dir.path())]);
        }
    }
}

impl SmallDisk {
    /// An empty one of so many MiB; says so if that is not possible.
    pub fn make(mebibytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let size = format!("size={mebibytes}m");
        let mounted = rustix::process::geteuid().is_root()
            && run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", path(dir.path())]);
        if !mounted {
            not_checked("tmpfs cannot be mounted here");
        }
        mounted.then_some(Self { dir })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Fills it but for so many octets; [`SmallDisk::free`] takes that back.
    pub fn fill(&self, leave: u64) {
        fill(self.dir.path(), room_on(self.dir.path()).saturating_sub(leave));
    }

    /// Fills it to the last octet, as well as anything can while others write too.
    pub fn fill_up(&self) {
        fill(self.dir.path(), u64::MAX);
    }

    /// Removes what filled it.
    pub fn free(&self) {
        free(self.dir.path());
    }
}

/// Adds so many octets to the file that fills a disk, or as many as it takes; most of them in no time,
/// so that whoever writes at the same time has had no warning.
fn fill(dir: &Path, octets: u64) {
    let mut file = File::options().create(true).append(true).open(filler(dir)).expect("a file");
    let there = file.metadata().expect("a file").len();
    let at_once = octets.min(room_on(dir));
    let kept = fallocate(&file, FallocateFlags::empty(), there, at_once);
    let rest = if kept.is_ok() { octets - at_once } else { octets };
    let filled = std::io::copy(&mut std::io::repeat(1).take(rest), &mut file);
    let full = filled.as_ref().is_err_and(|error| error.kind() == ErrorKind::StorageFull);
    assert!(filled.is_ok() || full, "{filled:?}");
    file.sync_all().expect("it is filled");
}

fn room_on(dir: &Path) -> u64 {
    let about = statvfs(dir).expect("a file system");
    about.f_bavail * about.f_frsize
}

/// Removes what fills a disk.
fn free(dir: &Path) {
    std::fs::remove_file(filler(dir)).expect("it was filled");
}

fn filler(dir: &Path) -> PathBuf {
    dir.join("filler")
}
