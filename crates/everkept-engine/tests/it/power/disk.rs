//! A disk in memory that knows what is synced and what is not, and what every operation did to it.
//!
//! A write reaches readers at once and the platter with a sync, or by chance. Never: a read that sees less than the
//! writes before it, or a power cut that takes back what was synced.

use super::chance::Chance;
use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

/// What reaches the platter whole or not at all, in bytes.
const SECTOR: usize = 512;

pub type FileId = u32;

/// Something that was done to the disk.
#[derive(Debug, Clone)]
pub enum Op {
    Create(String, FileId),
    Change(FileId, Change),
    Sync(FileId),
    SyncDirectory,
    Delete(String),
    /// Reported as failed: some of it reached the platter, and the rest never will by itself.
    FailedSync(FileId, u64),
    /// What memory has of a file and the platter has not is gone.
    Forget(FileId),
}

impl Op {
    /// What is done to what, without the bytes.
    pub fn shape(&self) -> String {
        match self {
            Op::Change(id, Change::Write(at, bytes)) => format!("write {id} at {at}, {} bytes", bytes.len()),
            other => format!("{other:?}"),
        }
    }
}

#[derive(Debug, Clone)]
pub enum Change {
    Write(usize, Arc<[u8]>),
    Truncate(usize),
}

#[derive(Debug, Clone)]
enum Entry {
    Create(String, FileId),
    Delete(String),
}

#[derive(Debug, Clone, Default)]
struct Node {
    platter: Vec<u8>,
    live: Vec<u8>,
    /// What was done since the last sync, in order.
    pending: Vec<Change>,
}

/// Everything on the disk and in the memory before it.
#[derive(Debug, Clone, Default)]
pub struct Image {
    names: BTreeMap<String, FileId>,
    platter_names: BTreeMap<String, FileId>,
    pending_names: Vec<Entry>,
    nodes: BTreeMap<FileId, Node>,
    next: FileId,
}

impl Image {
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Create(name, id) => {
                self.names.insert(name.clone(), *id);
                self.nodes.insert(*id, Node::default());
                self.pending_names.push(Entry::Create(name.clone(), *id));
                self.next = self.next.max(id + 1);
            }
            Op::Change(id, change) => {
                if let Some(node) = self.nodes.get_mut(id) {
                    change.apply(&mut node.live);
                    node.pending.push(change.clone());
                }
            }
            Op::Sync(id) => {
                if let Some(node) = self.nodes.get_mut(id) {
                    node.pending.drain(..).for_each(|change| change.apply(&mut node.platter));
                }
            }
            Op::SyncDirectory => {
                let entries = std::mem::take(&mut self.pending_names);
                entries.into_iter().for_each(|entry| entry.apply(&mut self.platter_names));
            }
            Op::Delete(name) => {
                self.names.remove(name);
                self.pending_names.push(Entry::Delete(name.clone()));
            }
            Op::FailedSync(id, seed) => {
                if let Some(node) = self.nodes.get_mut(id) {
                    node.settle_by_chance(&mut Chance::new(*seed));
                }
            }
            Op::Forget(id) => {
                if let Some(node) = self.nodes.get_mut(id) {
                    node.pending.clear();
                    node.live.clone_from(&node.platter);
                }
            }
        }
    }

    /// A disk with one file that was synced long ago.
    pub fn with(name: &str, bytes: &[u8]) -> Image {
        let names = BTreeMap::from([(name.to_owned(), 0)]);
        let node = Node { platter: bytes.to_vec(), live: bytes.to_vec(), pending: Vec::new() };
        Image { platter_names: names.clone(), names, pending_names: Vec::new(), nodes: BTreeMap::from([(0, node)]), next: 1 }
    }

    /// The power goes: what was synced stays, and some of the rest.
    pub fn cut(&mut self, chance: &mut Chance) {
        let all = chance.below(3);
        for entry in std::mem::take(&mut self.pending_names) {
            if all == 0 || (all == 1 && chance.in_256(128)) {
                entry.apply(&mut self.platter_names);
            }
        }
        for node in self.nodes.values_mut() {
            node.settle_by_chance(chance);
            node.live.clone_from(&node.platter);
        }
        self.names.clone_from(&self.platter_names);
        self.nodes.retain(|id, _| self.names.values().any(|named| named == id));
    }

    /// The power goes, and nothing stays but what was synced.
    pub fn lose_unsynced(&mut self) {
        self.pending_names.clear();
        self.names.clone_from(&self.platter_names);
        for node in self.nodes.values_mut() {
            node.pending.clear();
            node.live.clone_from(&node.platter);
        }
    }

    pub fn flip(&mut self, name: &str, chance: &mut Chance) {
        let node = self.names.get(name).and_then(|id| self.nodes.get_mut(id)).expect("the file is there");
        let at = chance.below(node.platter.len() as u64) as usize;
        node.platter[at] ^= 1 << chance.below(8);
        node.live.clone_from(&node.platter);
    }

    /// A disk with nothing but a copy of one file, under another name.
    pub fn of_one(&self, name: &str, new_name: &str) -> Option<Image> {
        let id = *self.names.get(name)?;
        let names = BTreeMap::from([(new_name.to_owned(), id)]);
        let nodes = BTreeMap::from([(id, self.nodes.get(&id)?.clone())]);
        Some(Image { platter_names: names.clone(), names, pending_names: Vec::new(), nodes, next: id + 1 })
    }
}

impl Node {
    /// Some of what is pending reaches the platter, torn and with gaps, and nothing is pending any more.
    fn settle_by_chance(&mut self, chance: &mut Chance) {
        let pending = std::mem::take(&mut self.pending);
        let manner = chance.below(5);
        let until = chance.below(pending.len() as u64 + 1) as usize;
        let share = chance.below(256);
        let garbage = chance.in_256(64);
        for (n, change) in pending.iter().enumerate() {
            let keep = |chance: &mut Chance| match manner {
                0 => false,
                1 => true,
                // In order, the last one torn.
                2 => n < until || (n == until && chance.in_256(share)),
                _ => chance.in_256(share),
            };
            match change {
                Change::Truncate(_) => {
                    if keep(chance) {
                        change.apply(&mut self.platter);
                    }
                }
                Change::Write(at, bytes) => {
                    let mut from = 0;
                    while from < bytes.len() {
                        let to = bytes.len().min((at + from) / SECTOR * SECTOR + SECTOR - at);
                        if keep(chance) {
                            let gap = self.platter.len()..at + from;
                            Change::Write(at + from, bytes[from..to].into()).apply(&mut self.platter);
                            // What lies between was given room and never written.
                            if garbage {
                                gap.for_each(|at| self.platter[at] = (at as u8).wrapping_mul(167).wrapping_add(share as u8));
                            }
                        }
                        from = to;
                    }
                }
            }
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(at, written) => {
                let end = at + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(written);
            }
            Change::Truncate(length) => bytes.resize(*length, 0),
        }
    }
}

impl Entry {
    fn apply(self, names: &mut BTreeMap<String, FileId>) {
        match self {
            Entry::Create(name, id) => _ = names.insert(name, id),
            Entry::Delete(name) => _ = names.remove(&name),
        }
    }
}

/// What goes wrong, and from which operation on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// One operation fails; of a failed sync nobody knows what is on the platter.
    Io,
    /// One write ends in its middle, with an error.
    Short,
    /// No file grows any more, until there is space again.
    Full,
}

/// What SQLite is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Io,
    Full,
}

/// A disk that is in use.
pub struct Disk {
    pub number: u64,
    held: Mutex<Held>,
}

struct Held {
    start: Image,
    image: Image,
    ops: Vec<Op>,
    fault: Option<(usize, Fault)>,
    /// The operation that failed, but for lack of space.
    failed: Option<(usize, &'static str)>,
}

impl Disk {
    pub fn new(number: u64, image: Image) -> Disk {
        Disk { number, held: Mutex::new(Held { start: image.clone(), image, ops: Vec::new(), fault: None, failed: None }) }
    }

    /// How many operations there were.
    pub fn now(&self) -> usize {
        self.held().ops.len()
    }

    /// The disk as it is, memory included.
    pub fn image(&self) -> Image {
        self.held().image.clone()
    }

    /// What it was at first, and everything done to it since.
    pub fn recorded(&self) -> (Image, Vec<Op>) {
        let held = self.held();
        (held.start.clone(), held.ops.clone())
    }

    pub fn fail_at(&self, op: usize, fault: Fault) {
        self.held().fault = Some((op, fault));
    }

    pub fn repair(&self) {
        self.held().fault = None;
    }

    pub fn failed(&self) -> Option<(usize, &'static str)> {
        self.held().failed
    }

    pub fn find(&self, name: &str) -> Option<FileId> {
        self.held().image.names.get(name).copied()
    }

    pub fn create(&self, name: &str) -> Result<FileId, Refused> {
        let mut held = self.held();
        held.may("create", true)?;
        let id = held.image.next;
        held.done(Op::Create(name.to_owned(), id));
        Ok(id)
    }

    pub fn delete(&self, name: &str, synced: bool) -> Result<(), Refused> {
        let mut held = self.held();
        held.may("delete", false)?;
        held.done(Op::Delete(name.to_owned()));
        if synced {
            held.done(Op::SyncDirectory);
        }
        Ok(())
    }

    pub fn write(&self, id: FileId, at: usize, bytes: &[u8]) -> Result<(), Refused> {
        let mut held = self.held();
        let grows = held.image.nodes.get(&id).is_none_or(|node| at + bytes.len() > node.live.len());
        let short = held.due() == Some(Fault::Short);
        let may = held.may("write", grows);
        let written = if short { &bytes[..bytes.len() / 2] } else { bytes };
        if may.is_ok() || short {
            held.done(Op::Change(id, Change::Write(at, written.into())));
        }
        may
    }

    pub fn truncate(&self, id: FileId, length: usize) -> Result<(), Refused> {
        let mut held = self.held();
        held.may("truncate", false)?;
        held.done(Op::Change(id, Change::Truncate(length)));
        Ok(())
    }

    pub fn sync(&self, id: FileId) -> Result<(), Refused> {
        let mut held = self.held();
        let seed = held.ops.len() as u64;
        let may = held.may("sync", false);
        held.done(if may.is_ok() { Op::Sync(id) } else { Op::FailedSync(id, seed) });
        may
    }

    pub fn sync_directory(&self) {
        self.held().done(Op::SyncDirectory);
    }

    /// As many bytes as there are, at most `length`.
    pub fn read(&self, id: FileId, at: usize, length: usize) -> Vec<u8> {
        let held = self.held();
        let live = held.image.nodes.get(&id).map_or(&[][..], |node| &node.live);
        let end = live.len().min(at + length);
        live.get(at..end).unwrap_or_default().to_vec()
    }

    pub fn length(&self, id: FileId) -> usize {
        self.held().image.nodes.get(&id).map_or(0, |node| node.live.len())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }
}

impl Held {
    /// The fault that the next operation meets.
    fn due(&self) -> Option<Fault> {
        self.fault.filter(|(at, _)| self.ops.len() >= *at).map(|(_, fault)| fault)
    }

    fn may(&mut self, what: &'static str, grows: bool) -> Result<(), Refused> {
        let refused = match self.due() {
            Some(Fault::Full) if grows => Refused::Full,
            Some(Fault::Short) if what == "write" => Refused::Io,
            Some(Fault::Io) => Refused::Io,
            Some(Fault::Full | Fault::Short) | None => return Ok(()),
        };
        if refused == Refused::Io {
            self.fault = None;
            self.failed.get_or_insert((self.ops.len(), what));
        }
        Err(refused)
    }

    fn done(&mut self, op: Op) {
        self.image.apply(&op);
        self.ops.push(op);
    }
}

/// The disk as what is beside SQLite sees it.
pub struct DiskFiles(pub Arc<Disk>);

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl DiskFiles {
    fn id(&self, path: &Path) -> io::Result<FileId> {
        self.0.find(&file_name(path)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl everkept_store_sql::Files for DiskFiles {
    fn vfs(&self) -> Option<&str> {
        Some(super::vfs::name())
    }

    fn first(&self, path: &Path, bytes: u64) -> io::Result<Option<Vec<u8>>> {
        Ok(self.id(path).ok().map(|id| self.0.read(id, 0, bytes as usize)))
    }

    fn length(&self, path: &Path) -> Option<u64> {
        self.id(path).ok().map(|id| self.0.length(id) as u64)
    }

    fn is_read_only(&self, _path: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn forget(&self, paths: &[&Path]) {
        for id in paths.iter().filter_map(|path| self.id(path).ok()) {
            // What cannot be synced is what is forgotten.
            let _ = self.0.sync(id);
            self.0.held().done(Op::Forget(id));
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<()> {
        match self.0.create(&file_name(path)) {
            Ok(_) => Ok(()),
            Err(Refused::Full) => Err(io::ErrorKind::StorageFull.into()),
            Err(Refused::Io) => Err(io::Error::other("the disk failed")),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.delete(&file_name(path), false).map_err(|_| io::Error::other("the disk failed"))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.0.sync(self.id(path)?).map_err(|_| io::Error::other("the disk failed"))
    }

    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        self.0.sync_directory();
        Ok(())
    }
}
