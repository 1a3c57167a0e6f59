//! An agent's own record of its sessions, read and put back over a link that may be cut at any moment.

use crate::demo::{agent, session};
use crate::remote::{Cuts, carry, relay, remote};
use bytes::Bytes;
use everkept_agent::{
    Abilities, Agent, AgentFault, AgentFaultKind, BoxFuture, Kept, Open, Opened, PIECE_BYTES, Piece, SoFar, Transcripts, Whole,
    demo::MemoryInRam,
};
use everkept_core::{AgentSessionId, BlobRef, digest_of};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

/// Its files are what it was given back, whoever lacks what.
#[derive(Clone, Default)]
struct Paper {
    files: Arc<Mutex<BTreeMap<String, Bytes>>>,
    asked: Arc<Mutex<Vec<(PathBuf, AgentSessionId)>>>,
}

struct Scribe {
    agent: Arc<dyn Agent>,
    paper: Paper,
}

impl Agent for Scribe {
    fn abilities(&self) -> Abilities {
        Abilities { transcript: true, ..self.agent.abilities() }
    }

    fn transcripts(&self) -> Option<Arc<dyn Transcripts>> {
        Some(Arc::new(self.paper.clone()))
    }

    fn open(&self, open: Open) -> BoxFuture<Result<Opened, AgentFault>> {
        self.agent.open(open)
    }
}

impl Transcripts for Paper {
    fn written(&self, kept: Kept) -> BoxFuture<Result<Vec<Piece>, AgentFault>> {
        self.asked.lock().unwrap().push((kept.directory.clone(), kept.session.clone()));
        let files = self.files.lock().unwrap().clone();
        let pieces = files.into_iter().filter_map(|(file, bytes)| {
            let so_far = kept.file(&file);
            let from = so_far.map_or(0, |so_far| so_far.bytes);
            assert!(so_far.is_none_or(|so_far| so_far.last.id == digest_of("last")), "it comes as it is");
            let bytes = bytes.slice(usize::try_from(from).unwrap()..);
            (!bytes.is_empty()).then_some(Piece { file, from, bytes, more: false })
        });
        let pieces = pieces.collect();
        Box::pin(async { Ok(pieces) })
    }

    fn lacking(&self, kept: Kept) -> BoxFuture<Result<Vec<String>, AgentFault>> {
        let files = self.files.lock().unwrap();
        let lacking = kept.files.into_iter().map(|file| file.name).filter(|name| !files.contains_key(name)).collect();
        Box::pin(async { Ok(lacking) })
    }

    fn put_back(&self, _: PathBuf, _: AgentSessionId, files: Vec<Whole>) -> BoxFuture<Result<Vec<String>, AgentFault>> {
        let names = files.iter().map(|file| file.file.clone()).collect();
        let full = files.iter().any(|file| file.file == "full");
        self.files.lock().unwrap().extend(files.into_iter().map(|file| (file.file, file.bytes)));
        let fault = AgentFault {
            kind: AgentFaultKind::Refused,
            doing: "putting back a session".into(),
            message: "no space".into(),
            retryable: true,
            may_have_happened: false,
        };
        Box::pin(async move { if full { Err(fault) } else { Ok(names) } })
    }
}

fn kept(files: &[(&str, u64)]) -> Kept {
    let so_far =
        |(name, bytes): &(&str, u64)| SoFar { name: (*name).into(), bytes: *bytes, last: BlobRef { id: digest_of("last"), bytes: 4 } };
    Kept { directory: "/".into(), session: session("s-1"), files: files.iter().map(so_far).collect() }
}

fn whole(file: &str, bytes: &'static [u8]) -> Whole {
    Whole { file: file.into(), bytes: Bytes::from_static(bytes) }
}

#[tokio::test(start_paused = true)]
async fn ag_18_what_an_agent_writes_is_read_and_put_back_whenever_its_link_is_cut() {
    const ODD: &[u8] = b"one\n\xff\xfe\0two\n";
    let mut cuts = 0;
    for seed in 0..50 {
        let (remote, paper) = (remote(), Paper::default());
        let scribe = Arc::new(Scribe { agent: agent(MemoryInRam::default()), paper: paper.clone() });
        let cut = Arc::new(AtomicUsize::new(0));
        let carried = carry(&remote, relay(scribe), Cuts::Seeded { seed, pieces: 12, cut: cut.clone() });
        let over_there = remote.transcripts().unwrap();
        assert_eq!(over_there.lacking(kept(&[("a", 8), ("b", 9)])).await.unwrap(), ["a", "b"]);
        let files = vec![whole("a", b"all of it"), whole("b", ODD)];
        assert_eq!(over_there.put_back("/".into(), session("s-1"), files).await.unwrap(), ["a", "b"]);
        assert_eq!(over_there.lacking(kept(&[("a", 8), ("b", 9)])).await.unwrap(), Vec::<String>::new());
        let piece = |file: &str, from, bytes| Piece { file: file.into(), from, bytes: Bytes::from_static(bytes), more: false };
        assert_eq!(over_there.written(kept(&[("a", 4)])).await.unwrap(), [piece("a", 4, b"of it"), piece("b", 0, ODD)]);
        let refused = over_there.put_back("/".into(), session("s-1"), vec![whole("full", b"")]).await.unwrap_err();
        assert_eq!((refused.kind, refused.message.as_str()), (AgentFaultKind::Refused, "no space"));
        assert_eq!(paper.asked.lock().unwrap()[0], ("/".into(), session("s-1")));
        carried.abort();
        cuts += cut.load(SeqCst);
    }
    assert!(cuts > 200, "only {cuts} cuts");
}

#[tokio::test(start_paused = true)]
async fn what_is_more_than_a_frame_carries_comes_when_it_is_asked_for_again() {
    let (remote, paper) = (remote(), Paper::default());
    let files = ["a", "b", "c"].map(|name| (name.to_owned(), Bytes::from(vec![0xff; PIECE_BYTES])));
    paper.files.lock().unwrap().extend(files);
    let carried = carry(&remote, relay(Arc::new(Scribe { agent: agent(MemoryInRam::default()), paper })), Cuts::Never);
    let pieces = remote.transcripts().unwrap().written(kept(&[])).await.unwrap();
    let came: Vec<_> = pieces.iter().map(|piece| (piece.file.as_str(), piece.bytes.len(), piece.more)).collect();
    assert_eq!(came, [("a", PIECE_BYTES, false), ("b", PIECE_BYTES, true)]);
    carried.abort();
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_keeps_no_record_is_not_asked_for_one() {
    let remote = remote();
    assert!(remote.abilities().transcript, "nobody knows yet");
    let carried = carry(&remote, relay(agent(MemoryInRam::default())), Cuts::Never);
    let over_there = remote.transcripts().unwrap();
    assert_eq!(over_there.written(kept(&[])).await.unwrap(), []);
    assert_eq!(over_there.lacking(kept(&[("a", 8)])).await.unwrap(), Vec::<String>::new());
    assert!(!remote.abilities().transcript);
    carried.abort();
}
