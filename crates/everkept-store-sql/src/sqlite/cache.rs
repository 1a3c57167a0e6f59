//! Makes the kernel read files from the disk again.
//!
//! After a failed write the kernel may go on showing what never reached the disk, and take the same bytes written once
//! more for written already (ext4 does, for blocks that were new). Never relied on for what was synced without an error.

use std::{fs::File, path::Path};

/// Forgets what the kernel holds of the files, as far as it can.
pub fn forget(files: &[&Path]) {
    for path in files {
        // What cannot be synced is what has to be forgotten; the log brings it back.
        let forgotten = File::open(path).map(|file| {
            let synced = file.sync_all();
            drop_pages(&file);
            synced
        });
        if let Ok(Err(error)) | Err(error) = forgotten {
            tracing::warn!(%error, path = %path.display(), "an earlier write did not reach the disk");
        }
    }
}

#[cfg(target_os = "linux")]
fn drop_pages(file: &File) {
    use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
    if let Err(error) = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED) {
        tracing::warn!(%error, "the kernel keeps what it holds of a file");
    }
}

#[cfg(not(target_os = "linux"))]
fn drop_pages(_file: &File) {}
