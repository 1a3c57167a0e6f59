//! Disks that are small, and disks that fail: made where one may mount file systems, none elsewhere.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process,
};
use tempfile::TempDir;

fn run(program: &str, args: &[&str], at: &Path) -> Option<()> {
    let done = process::Command::new(program).args(args).arg(at).output().ok()?;
    done.status.success().then_some(())
}

/// A file system in memory of a stated size, gone with it.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    pub fn mount(size: &str) -> Option<Self> {
        let at = tempfile::tempdir().unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], at.path())?;
        Some(SmallDisk(at))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn resize(&self, size: &str) {
        run("mount", &["-o", &format!("remount,size={size}")], self.path()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        assert!(run("umount", &[], self.path()).is_some(), "{} is still mounted", self.path().display());
    }
}

/// A disk with bad blocks: beyond what it really has, every write fails.
pub struct FailingDisk {
    at: PathBuf,
    device: String,
    beneath: SmallDisk,
}

impl FailingDisk {
    pub fn mount(size: &str) -> Option<Self> {
        let beneath = SmallDisk::mount(size)?;
        let (image, at) = (beneath.path().join("image"), beneath.path().join("at"));
        File::create(&image).unwrap().set_len(64 * 1024 * 1024).unwrap();
        fs::create_dir(&at).unwrap();
        run("mkfs.ext4", &["-q", "-b", "4096", "-O", "^has_journal"], &image)?;
        let made = process::Command::new("losetup").args(["--find", "--show"]).arg(&image).output().ok()?;
        let device = String::from_utf8(made.stdout).ok()?.trim().to_owned();
        if device.is_empty() {
            return None;
        }
        let disk = FailingDisk { at, device, beneath };
        // One page at a time: of a longer write the first part may succeed, and the device takes that for the whole.
        let pages = format!("/sys/block/{}/queue/max_sectors_kb", disk.device.trim_start_matches("/dev/"));
        fs::write(pages, "4").ok()?;
        disk.attach().map(|()| disk)
    }

    pub fn path(&self) -> &Path {
        &self.at
    }

    /// From now on every write succeeds.
    pub fn repair(&self) {
        self.beneath.resize("128m");
    }

    /// Only what is really on it is left.
    pub fn take_out_and_put_back(&self) {
        assert!(run("umount", &[], &self.at).is_some());
        self.attach().unwrap();
    }

    fn attach(&self) -> Option<()> {
        run("mount", &[&self.device], &self.at)
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        // Where it could not be mounted there is nothing to take down.
        let _ = run("umount", &[], &self.at);
        assert!(run("losetup", &["--detach"], Path::new(&self.device)).is_some(), "{} is still there", self.device);
    }
}
