//! SQLite's way to the disks of these tests: a VFS whose files are in memory.
//!
//! One VFS serves all disks; the folder of a file's path, `/power/7`, says which disk it is on. Locks and shared memory
//! are those of one process. Never: a decision about what is kept, which is the disk's.

#![expect(unsafe_code, reason = "SQLite calls its VFS through C pointers")]

use super::disk::{Disk, FileId, Refused};
use rusqlite::ffi::*;
use std::{
    collections::BTreeMap,
    ffi::{CStr, c_char, c_int, c_void},
    path::PathBuf,
    ptr,
    sync::{Arc, Mutex, OnceLock},
};

/// The files of a disk are reached as long as this lives.
pub struct Mounted {
    pub disk: Arc<Disk>,
}

impl Mounted {
    pub fn new(disk: Disk) -> Mounted {
        let disk = Arc::new(disk);
        world().disks.lock().unwrap().insert(disk.number, disk.clone());
        Mounted { disk }
    }

    pub fn directory(&self) -> PathBuf {
        directory(self.disk.number)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        world().disks.lock().unwrap().remove(&self.disk.number);
    }
}

/// Where the files of a disk are, to SQLite.
pub fn directory(number: u64) -> PathBuf {
    format!("/power/{number}").into()
}

pub fn name() -> &'static str {
    world();
    "power"
}

struct World {
    disks: Mutex<BTreeMap<u64, Arc<Disk>>>,
    /// What the connections to one file share.
    shared: Mutex<BTreeMap<String, Arc<Mutex<Shared>>>>,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        register();
        World { disks: Mutex::default(), shared: Mutex::default() }
    })
}

#[derive(Default)]
struct Shared {
    readers: u32,
    /// Who may write soon, and who writes alone.
    reserved: Option<u64>,
    exclusive: Option<u64>,
    pages: Vec<Box<[u64]>>,
    page_locks: [PageLock; 8],
    users: u32,
}

#[derive(Default, Clone, Copy)]
struct PageLock {
    shared: u32,
    exclusive: bool,
}

struct OpenFile {
    disk: Arc<Disk>,
    id: FileId,
    path: String,
    name: String,
    handle: u64,
    level: c_int,
    shared: Arc<Mutex<Shared>>,
    shm_shared: u32,
    shm_exclusive: u32,
    /// As SQLite does for a new log or journal: its first sync is one of the folder, too.
    sync_directory: bool,
    delete_on_close: bool,
    read_only: bool,
}

#[repr(C)]
struct Handle {
    base: sqlite3_file,
    file: *mut OpenFile,
}

fn register() {
    // SAFETY: the default VFS lives as long as SQLite does; the copy is leaked, as SQLite asks of a registered one.
    unsafe {
        let system = sqlite3_vfs_find(ptr::null());
        let vfs = sqlite3_vfs {
            iVersion: 2,
            szOsFile: size_of::<Handle>() as c_int,
            mxPathname: 512,
            pNext: ptr::null_mut(),
            zName: c"power".as_ptr(),
            pAppData: ptr::null_mut(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            ..*system
        };
        assert_eq!(sqlite3_vfs_register(Box::into_raw(Box::new(vfs)), 0), SQLITE_OK);
    }
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

fn disk_of(path: &str) -> Option<Arc<Disk>> {
    let number = path.strip_prefix("/power/")?.split('/').next()?.parse().ok()?;
    world().disks.lock().unwrap().get(&number).cloned()
}

/// What the disk calls a file.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// # Safety
/// `name` is a C string, as SQLite passes it.
unsafe fn text(name: *const c_char) -> String {
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}

/// # Safety
/// `file` was opened by `open` and not yet closed; SQLite uses one file from one thread at a time.
unsafe fn opened<'a>(file: *mut sqlite3_file) -> &'a mut OpenFile {
    // SAFETY: promised by the caller.
    unsafe { &mut *(*file.cast::<Handle>()).file }
}

fn code(done: Result<(), Refused>, failed: c_int) -> c_int {
    match done {
        Ok(()) => SQLITE_OK,
        Err(Refused::Io) => failed,
        Err(Refused::Full) => SQLITE_FULL,
    }
}

unsafe extern "C" fn open(_: *mut sqlite3_vfs, name: sqlite3_filename, file: *mut sqlite3_file, flags: c_int, out: *mut c_int) -> c_int {
    // SAFETY: SQLite gives room for a `Handle`, and a name or none.
    unsafe {
        (*file).pMethods = ptr::null();
        if name.is_null() {
            return SQLITE_CANTOPEN;
        }
        let path = text(name);
        let Some(disk) = disk_of(&path) else { return SQLITE_CANTOPEN };
        let (id, is_new) = match disk.find(file_name(&path)) {
            Some(id) => (id, false),
            None if flags & SQLITE_OPEN_CREATE == 0 => return SQLITE_CANTOPEN,
            None => match disk.create(file_name(&path)) {
                Ok(id) => (id, true),
                Err(Refused::Full) => return SQLITE_FULL,
                Err(Refused::Io) => return SQLITE_CANTOPEN,
            },
        };
        static HANDLES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let file_state = OpenFile {
            shared: world().shared.lock().unwrap().entry(path.clone()).or_default().clone(),
            disk,
            id,
            name: file_name(&path).to_owned(),
            path,
            handle: HANDLES.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            level: SQLITE_LOCK_NONE,
            shm_shared: 0,
            shm_exclusive: 0,
            sync_directory: is_new && flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL) != 0,
            delete_on_close: flags & SQLITE_OPEN_DELETEONCLOSE != 0,
            read_only: flags & SQLITE_OPEN_READONLY != 0,
        };
        (*file.cast::<Handle>()).file = Box::into_raw(Box::new(file_state));
        (*file).pMethods = &raw const METHODS;
        if !out.is_null() {
            *out = flags;
        }
    }
    SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const c_char, synced: c_int) -> c_int {
    // SAFETY: SQLite passes a name.
    let path = unsafe { text(name) };
    let Some(disk) = disk_of(&path) else { return SQLITE_IOERR_DELETE };
    if disk.find(file_name(&path)).is_none() {
        return SQLITE_IOERR_DELETE_NOENT;
    }
    code(disk.delete(file_name(&path), synced != 0), SQLITE_IOERR_DELETE)
}

unsafe extern "C" fn access(_: *mut sqlite3_vfs, name: *const c_char, flags: c_int, out: *mut c_int) -> c_int {
    // SAFETY: SQLite passes a name and a place for the answer.
    unsafe {
        let path = text(name);
        let found = disk_of(&path).and_then(|disk| disk.find(file_name(&path)).map(|id| (disk, id)));
        // As the system's does, an empty file is not there when only its being there is asked for.
        *out = found.is_some_and(|(disk, id)| flags != SQLITE_ACCESS_EXISTS || disk.length(id) > 0).into();
    }
    SQLITE_OK
}

unsafe extern "C" fn full_pathname(_: *mut sqlite3_vfs, name: *const c_char, room: c_int, out: *mut c_char) -> c_int {
    // SAFETY: SQLite passes a name and `room` bytes for the answer.
    unsafe {
        let bytes = CStr::from_ptr(name).to_bytes_with_nul();
        if bytes.len() > room as usize {
            return SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
    }
    SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: opened by `open`, and closed once.
    let file_state = unsafe {
        unlock(file, SQLITE_LOCK_NONE);
        Box::from_raw((*file.cast::<Handle>()).file)
    };
    if file_state.delete_on_close {
        let _ = file_state.disk.delete(&file_state.name, false);
    }
    let mut all = world().shared.lock().unwrap();
    // The table's and this one's.
    if Arc::strong_count(&file_state.shared) <= 2 {
        all.remove(&file_state.path);
    }
    SQLITE_OK
}

unsafe extern "C" fn read(file: *mut sqlite3_file, to: *mut c_void, length: c_int, at: sqlite3_int64) -> c_int {
    // SAFETY: SQLite gives room for `length` bytes.
    unsafe {
        let file_state = opened(file);
        let found = file_state.disk.read(file_state.id, at as usize, length as usize);
        ptr::copy_nonoverlapping(found.as_ptr(), to.cast(), found.len());
        let missing = length as usize - found.len();
        ptr::write_bytes(to.cast::<u8>().add(found.len()), 0, missing);
        if missing > 0 { SQLITE_IOERR_SHORT_READ } else { SQLITE_OK }
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, length: c_int, at: sqlite3_int64) -> c_int {
    // SAFETY: SQLite passes `length` bytes.
    unsafe {
        let file_state = opened(file);
        if file_state.read_only {
            return SQLITE_IOERR_WRITE;
        }
        let bytes = std::slice::from_raw_parts(from.cast::<u8>(), length as usize);
        code(file_state.disk.write(file_state.id, at as usize, bytes), SQLITE_IOERR_WRITE)
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, length: sqlite3_int64) -> c_int {
    // SAFETY: an open file.
    let file_state = unsafe { opened(file) };
    code(file_state.disk.truncate(file_state.id, length as usize), SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    // SAFETY: an open file.
    let file_state = unsafe { opened(file) };
    let done = file_state.disk.sync(file_state.id);
    if done.is_ok() && std::mem::take(&mut file_state.sync_directory) {
        file_state.disk.sync_directory();
    }
    code(done, SQLITE_IOERR_FSYNC)
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, out: *mut sqlite3_int64) -> c_int {
    // SAFETY: an open file and a place for the answer.
    unsafe {
        let file_state = opened(file);
        *out = file_state.disk.length(file_state.id) as sqlite3_int64;
    }
    SQLITE_OK
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file.
    let file_state = unsafe { opened(file) };
    if level <= file_state.level {
        return SQLITE_OK;
    }
    let me = file_state.handle;
    let mut shared = file_state.shared.lock().unwrap();
    let others = |held: Option<u64>| held.is_some_and(|holder| holder != me);
    if file_state.level == SQLITE_LOCK_NONE {
        if others(shared.exclusive) {
            return SQLITE_BUSY;
        }
        shared.readers += 1;
        file_state.level = SQLITE_LOCK_SHARED;
    }
    if level >= SQLITE_LOCK_RESERVED {
        if others(shared.reserved) {
            return SQLITE_BUSY;
        }
        shared.reserved = Some(me);
        file_state.level = SQLITE_LOCK_RESERVED;
    }
    if level >= SQLITE_LOCK_EXCLUSIVE {
        if others(shared.exclusive) || shared.readers > 1 {
            return SQLITE_BUSY;
        }
        shared.exclusive = Some(me);
        file_state.level = SQLITE_LOCK_EXCLUSIVE;
    }
    SQLITE_OK
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file.
    let file_state = unsafe { opened(file) };
    if file_state.level <= level {
        return SQLITE_OK;
    }
    let me = file_state.handle;
    let mut shared = file_state.shared.lock().unwrap();
    shared.exclusive = shared.exclusive.filter(|holder| *holder != me);
    shared.reserved = shared.reserved.filter(|holder| *holder != me);
    if level == SQLITE_LOCK_NONE {
        shared.readers -= 1;
    }
    file_state.level = level;
    SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: an open file and a place for the answer.
    unsafe {
        let file_state = opened(file);
        *out = file_state.shared.lock().unwrap().reserved.is_some().into();
    }
    SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    SQLITE_NOTFOUND
}

/// What the system's VFS says of most disks.
unsafe extern "C" fn sector_size(_: *mut sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn device_characteristics(_: *mut sqlite3_file) -> c_int {
    SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(file: *mut sqlite3_file, page: c_int, size: c_int, extend: c_int, out: *mut *mut c_void) -> c_int {
    // SAFETY: an open file and a place for the answer. Pages stay where they are until the last one unmaps.
    unsafe {
        let file_state = opened(file);
        let mut shared = file_state.shared.lock().unwrap();
        *out = ptr::null_mut();
        while shared.pages.len() <= page as usize {
            if extend == 0 {
                return SQLITE_OK;
            }
            shared.pages.push(vec![0; size as usize / 8].into());
        }
        if page == 0 && file_state.shm_shared & (1 << 31) == 0 {
            file_state.shm_shared |= 1 << 31;
            shared.users += 1;
        }
        *out = shared.pages[page as usize].as_mut_ptr().cast();
    }
    SQLITE_OK
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, first: c_int, count: c_int, flags: c_int) -> c_int {
    // SAFETY: an open file.
    let file_state = unsafe { opened(file) };
    let mut shared = file_state.shared.lock().unwrap();
    let slots = first as usize..(first + count) as usize;
    for slot in slots.clone() {
        let (bit, lock) = (1 << slot, shared.page_locks[slot]);
        let (mine_shared, mine_exclusive) = (file_state.shm_shared & bit != 0, file_state.shm_exclusive & bit != 0);
        let busy = flags & SQLITE_SHM_LOCK != 0
            && if flags & SQLITE_SHM_SHARED != 0 {
                lock.exclusive && !mine_exclusive
            } else {
                (lock.exclusive && !mine_exclusive) || lock.shared > u32::from(mine_shared)
            };
        if busy {
            return SQLITE_BUSY;
        }
    }
    for slot in slots {
        let bit = 1 << slot;
        let lock = &mut shared.page_locks[slot];
        match (flags & SQLITE_SHM_LOCK != 0, flags & SQLITE_SHM_SHARED != 0) {
            (true, true) if file_state.shm_shared & bit == 0 => {
                lock.shared += 1;
                file_state.shm_shared |= bit;
            }
            (true, false) => {
                lock.exclusive = true;
                file_state.shm_exclusive |= bit;
            }
            (false, true) if file_state.shm_shared & bit != 0 => {
                lock.shared -= 1;
                file_state.shm_shared &= !bit;
            }
            (false, false) if file_state.shm_exclusive & bit != 0 => {
                lock.exclusive = false;
                file_state.shm_exclusive &= !bit;
            }
            (true, true) | (false, _) => {}
        }
    }
    SQLITE_OK
}

unsafe extern "C" fn shm_barrier(_: *mut sqlite3_file) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, _delete: c_int) -> c_int {
    // SAFETY: an open file.
    let file_state = unsafe { opened(file) };
    let mut shared = file_state.shared.lock().unwrap();
    for slot in 0..8 {
        let bit = 1 << slot;
        if file_state.shm_shared & bit != 0 {
            shared.page_locks[slot].shared -= 1;
        }
        if file_state.shm_exclusive & bit != 0 {
            shared.page_locks[slot].exclusive = false;
        }
    }
    if file_state.shm_shared & (1 << 31) != 0 {
        shared.users -= 1;
    }
    file_state.shm_shared = 0;
    file_state.shm_exclusive = 0;
    if shared.users == 0 {
        shared.pages.clear();
    }
    SQLITE_OK
}
