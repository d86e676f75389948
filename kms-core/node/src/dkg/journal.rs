//! The memory of a run, in files of its folder: nothing in them is secret.
//!
//! ```text
//! journal         "KMSJ" ‖ u8 version 1 ‖ records
//!                 record: u32 length ‖ u8 durable (0 or 1) ‖ bytes ‖ first 16 bytes of SHA-256(u64 offset ‖ all before)
//! bodies-<c>      the bodies of component c, at their place
//! ```
//! Numbers are big endian; the offset is that of the record in the file.
//!
//! A record is durable when it is on the disk with everything that was appended or written before it. It is marked so in the
//! file if all that was on the disk already when it was written: of several that wait for the disk together only the first.
//! What a crash cuts off at the end is dropped at the next start. All work is done by one thread, in order; what piles up
//! while it waits for the disk shares the next wait. The file is locked: a journal that is still waiting for the disk is over
//! before the next one reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kms_mpc::dkg::journal::Journal;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

const HEAD: [u8; 5] = *b"KMSJ\x01";
const CHECK_BYTES: usize = 16;
/// Bytes of a record around its content.
const FRAME: usize = 5 + CHECK_BYTES;
/// No record is longer; a length beyond it is what a crash left.
const MAX_RECORD: usize = 64 << 20;
/// Work that may wait for the thread; callers beyond that wait themselves.
const QUEUE: usize = 64;

/// Journal of one run in a folder.
#[derive(Debug)]
pub struct FileJournal {
    work: mpsc::Sender<Work>,
}

type Reply<T> = oneshot::Sender<io::Result<T>>;

#[derive(Debug)]
enum Work {
    Append { record: Bytes, durable: bool, reply: Reply<()> },
    Records(Reply<Vec<Bytes>>),
    Write { component: usize, offset: usize, bytes: Bytes, reply: Reply<()> },
    Read { component: usize, offset: usize, len: usize, reply: Reply<Bytes> },
}

impl FileJournal {
    /// Opens the journal in `folder`, or makes one. Drops what a crash cut off at its end.
    ///
    /// # Errors
    /// The disk; [`io::ErrorKind::InvalidData`] if the journal is damaged anywhere but at its end.
    pub fn open(folder: &Path) -> io::Result<Self> {
        if !folder.exists() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            // A folder that is gone after a power failure would take votes with it that were told.
            for parent in folder.ancestors().skip(1).take(2).filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        let files = Files::open(folder)?;
        let (work, queue) = mpsc::channel(QUEUE);
        std::thread::Builder::new().name("keygen-journal".into()).spawn(move || files.run(queue))?;
        Ok(Self { work })
    }

    async fn done<T>(&self, work: impl FnOnce(Reply<T>) -> Work) -> io::Result<T> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the journal is closed");
        self.work.send(work(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Journal for FileJournal {
    async fn append(&self, record: Bytes, durable: bool) -> io::Result<()> {
        self.done(|reply| Work::Append { record, durable, reply }).await
    }

    async fn records(&self) -> io::Result<Vec<Bytes>> {
        self.done(Work::Records).await
    }

    async fn write_bodies(&self, component: usize, offset: usize, bytes: Bytes) -> io::Result<()> {
        self.done(|reply| Work::Write { component, offset, bytes, reply }).await
    }

    async fn read_bodies(&self, component: usize, offset: usize, len: usize) -> io::Result<Bytes> {
        self.done(|reply| Work::Read { component, offset, len, reply }).await
    }
}

/// The files, in the hands of the one thread.
struct Files {
    folder: PathBuf,
    journal: File,
    /// Where the next record goes.
    end: u64,
    /// Whether records were appended since the last wait for the disk, and whether any of them is not to be durable.
    unsynced: bool,
    loose: bool,
    bodies: BTreeMap<usize, File>,
    /// Components that were written to since the last wait for the disk.
    dirty: BTreeSet<usize>,
    /// Why nothing can be appended any more: what the files hold is not known.
    broken: Option<String>,
}

impl Files {
    fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("journal");
        let mut journal =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        journal.lock()?;
        let bytes = read_all(&mut journal)?;
        let end = if bytes.len() < HEAD.len() && HEAD.starts_with(&bytes) {
            journal.write_all_at(&HEAD, 0)?;
            HEAD.len()
        } else if bytes.starts_with(&HEAD) {
            let end = good_end(&bytes);
            if durable_after(&bytes, end) {
                return Err(damaged(format!("the journal is damaged at byte {end}")));
            }
            end
        } else {
            return Err(damaged("this is no journal of this version".into()));
        };
        if end < bytes.len() {
            tracing::warn!(folder = %folder.display(), bytes = bytes.len() - end, "dropped what a crash had cut off");
        }
        journal.set_len(end as u64)?;
        journal.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(Self {
            folder: folder.to_owned(),
            journal,
            end: end as u64,
            unsynced: false,
            loose: false,
            bodies: BTreeMap::new(),
            dirty: BTreeSet::new(),
            broken: None,
        })
    }

    fn run(mut self, mut queue: mpsc::Receiver<Work>) {
        let mut batch = Vec::with_capacity(QUEUE);
        while queue.blocking_recv_many(&mut batch, QUEUE) > 0 {
            self.serve(&mut batch);
        }
    }

    /// Does what has piled up. Records that are to be durable wait for the disk together, at the end.
    fn serve(&mut self, batch: &mut Vec<Work>) {
        let mut waiting = Vec::new();
        for work in batch.drain(..) {
            // Whoever asked may have gone away; what is written stays.
            match work {
                Work::Append { record, durable: false, reply } => drop(reply.send(self.append(&record, false))),
                Work::Append { record, durable: true, reply } => {
                    match self.settle().and_then(|()| self.append(&record, true)) {
                        Ok(()) => waiting.push(reply),
                        Err(error) => drop(reply.send(Err(error))),
                    }
                }
                Work::Records(reply) => drop(reply.send(self.records())),
                Work::Write { component, offset, bytes, reply } => {
                    drop(reply.send(self.write(component, offset, &bytes)));
                }
                Work::Read { component, offset, len, reply } => drop(reply.send(self.read(component, offset, len))),
            }
        }
        if !waiting.is_empty() {
            let outcome = self.sync();
            for reply in waiting {
                let _ = reply.send(outcome.as_ref().copied().map_err(again));
            }
        }
    }

    /// Before a durable record is written all that is not to be durable is on the disk.
    fn settle(&mut self) -> io::Result<()> {
        if self.loose || !self.dirty.is_empty() { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.usable()?;
        let mut bodies = self.dirty.iter().filter_map(|component| self.bodies.get(component));
        let outcome = bodies.try_for_each(File::sync_data).and_then(|()| self.journal.sync_data());
        match outcome {
            Ok(()) => {
                (self.unsynced, self.loose, self.dirty) = (false, false, BTreeSet::new());
                Ok(())
            }
            // What a failed wait for the disk leaves there is not known, and the next one may say that all is well.
            Err(error) => Err(self.break_off(&error)),
        }
    }

    fn append(&mut self, record: &[u8], durable: bool) -> io::Result<()> {
        self.usable()?;
        if record.len() > MAX_RECORD {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a record is too long"));
        }
        let mut bytes = Vec::with_capacity(record.len() + FRAME);
        bytes.extend_from_slice(&(record.len() as u32).to_be_bytes());
        // So a record that is marked says that nothing before it was cut off.
        bytes.push((durable && !self.unsynced).into());
        bytes.extend_from_slice(record);
        bytes.extend_from_slice(&check(self.end, &bytes));
        if let Err(error) = self.journal.write_all_at(&bytes, self.end) {
            // Half a record must not stay in the way of the next one.
            return Err(match self.journal.set_len(self.end) {
                Ok(()) => error,
                Err(_) => self.break_off(&error),
            });
        }
        self.end += bytes.len() as u64;
        (self.unsynced, self.loose) = (true, self.loose || !durable);
        Ok(())
    }

    fn records(&mut self) -> io::Result<Vec<Bytes>> {
        let bytes = Bytes::from(read_all(&mut self.journal)?);
        let (mut at, mut records) = (HEAD.len(), Vec::new());
        while at < bytes.len() {
            let length = content(&bytes, at).ok_or_else(|| damaged(format!("the journal has changed at byte {at}")))?;
            records.push(bytes.slice(at + 5..at + 5 + length));
            at += length + FRAME;
        }
        Ok(records)
    }

    fn write(&mut self, component: usize, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.usable()?;
        self.component(component)?.write_all_at(bytes, offset as u64)?;
        self.dirty.insert(component);
        Ok(())
    }

    fn read(&mut self, component: usize, offset: usize, len: usize) -> io::Result<Bytes> {
        let file = self.component(component)?;
        // The length first: nobody asks for more than was written, and then there is nothing to allocate.
        if file.metadata()?.len() < (offset as u64).saturating_add(len as u64) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset as u64)?;
        Ok(bytes.into())
    }

    fn component(&mut self, component: usize) -> io::Result<&File> {
        if !self.bodies.contains_key(&component) {
            let path = self.folder.join(format!("bodies-{component}"));
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            File::open(&self.folder)?.sync_all()?;
            self.bodies.insert(component, file);
        }
        self.bodies.get(&component).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn usable(&self) -> io::Result<()> {
        self.broken.as_ref().map_or(Ok(()), |why| Err(io::Error::other(why.clone())))
    }

    fn break_off(&mut self, error: &io::Error) -> io::Error {
        self.broken = Some(format!("the journal has to be opened again after: {error}"));
        again(error)
    }
}

fn again(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn read_all(file: &mut File) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn check(offset: u64, bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = Sha256::new().chain_update(offset.to_be_bytes()).chain_update(bytes).finalize();
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hash[..CHECK_BYTES]);
    check
}

/// Length of the content of the record at `at`, if there is a whole one.
fn content(bytes: &[u8], at: usize) -> Option<usize> {
    let (head, _) = bytes.get(at..)?.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*head) as usize;
    let whole = bytes.get(at..at.checked_add(length)?.checked_add(FRAME)?)?;
    let (record, found) = whole.split_last_chunk::<CHECK_BYTES>()?;
    (length <= MAX_RECORD && *found == check(at as u64, record)).then_some(length)
}

/// Where the whole records from the start on end.
fn good_end(bytes: &[u8]) -> usize {
    let mut at = HEAD.len();
    while let Some(length) = content(bytes, at) {
        at += length + FRAME;
    }
    at
}

/// Whether a durable record stands somewhere after a place where none is whole: then what is missing was on the disk once.
/// Checks are looked at only where a length fits, so this is quick enough for the tail of a file.
fn durable_after(bytes: &[u8], from: usize) -> bool {
    (from + 1..(bytes.len() + 1).saturating_sub(FRAME)).any(|at| bytes[at + 4] == 1 && content(bytes, at).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(byte: u8, len: usize) -> Bytes {
        vec![byte; len].into()
    }

    async fn filled(folder: &Path) {
        let journal = FileJournal::open(folder).unwrap();
        journal.append(record(1, 10), false).await.unwrap();
        journal.write_bodies(3, 8, record(7, 16)).await.unwrap();
        journal.append(record(2, 0), true).await.unwrap();
        journal.append(record(3, 100), true).await.unwrap();
    }

    fn all() -> Vec<Bytes> {
        vec![record(1, 10), record(2, 0), record(3, 100)]
    }

    #[tokio::test]
    async fn records_and_bodies_come_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path()).await;
        let journal = FileJournal::open(dir.path()).unwrap();
        assert_eq!(journal.records().await.unwrap(), all());
        assert_eq!(journal.read_bodies(3, 8, 16).await.unwrap(), record(7, 16));
        assert_eq!(journal.read_bodies(3, 0, 8).await.unwrap(), record(0, 8));
        for (component, offset, len) in [(3, 8, 17), (3, usize::MAX, 2), (4, 0, 1)] {
            assert!(journal.read_bodies(component, offset, len).await.is_err());
        }
        journal.append(record(4, 1), false).await.unwrap();
        assert_eq!(journal.records().await.unwrap().len(), 4);
    }

    #[tokio::test]
    async fn what_a_crash_cut_off_is_gone_and_the_rest_is_there() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path()).await;
        let file = dir.path().join("journal");
        let whole = std::fs::read(&file).unwrap();
        for len in 0..whole.len() {
            std::fs::write(&file, &whole[..len]).unwrap();
            let records = FileJournal::open(dir.path()).unwrap().records().await.unwrap();
            assert_eq!(records, all()[..records.len()], "{len}");
            let expected = match len {
                l if l < HEAD.len() + 10 + FRAME => 0,
                l if l < HEAD.len() + 10 + 2 * FRAME => 1,
                _ => 2,
            };
            assert_eq!(records.len(), expected, "{len}");
        }
        // Garbage at the end is what a crash may leave as well.
        std::fs::write(&file, [&whole[..], &[0xff; 50]].concat()).unwrap();
        let journal = FileJournal::open(dir.path()).unwrap();
        journal.append(record(5, 5), true).await.unwrap();
        assert_eq!(journal.records().await.unwrap(), [all(), vec![record(5, 5)]].concat());
    }

    #[test]
    fn records_that_waited_for_the_disk_together_may_be_cut_off_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::open(dir.path()).unwrap();
        let mut batch: Vec<Work> = (1..=3)
            .map(|byte| Work::Append { record: record(byte, 20), durable: true, reply: oneshot::channel().0 })
            .collect();
        files.serve(&mut batch);
        drop(files);
        let file = dir.path().join("journal");
        let whole = std::fs::read(&file).unwrap();
        for (kept, lost) in (0..3).map(|i| (i, HEAD.len() + i * (20 + FRAME))) {
            let mut bytes = whole.clone();
            bytes[lost..lost + 20 + FRAME].fill(0);
            std::fs::write(&file, &bytes).unwrap();
            let mut files = Files::open(dir.path()).unwrap();
            assert_eq!(files.records().unwrap().len(), kept);
        }
    }

    #[test]
    fn one_journal_at_a_time_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let first = Files::open(dir.path()).unwrap();
        let other = File::open(dir.path().join("journal")).unwrap();
        assert!(other.try_lock().is_err());
        drop(first);
        other.try_lock().unwrap();
    }

    #[tokio::test]
    async fn damage_before_a_durable_record_is_told() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path()).await;
        let file = dir.path().join("journal");
        let whole = std::fs::read(&file).unwrap();
        let last = whole.len() - 100 - FRAME;
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            std::fs::write(&file, &bytes).unwrap();
            assert_eq!(FileJournal::open(dir.path()).is_ok(), at >= last, "{at}");
        }
    }

    #[tokio::test]
    async fn appends_at_the_same_time_all_last() {
        let dir = tempfile::tempdir().unwrap();
        let journal = FileJournal::open(dir.path()).unwrap();
        let appends = (0..200u8).map(|i| journal.append(record(i, i.into()), i % 3 == 0));
        futures::future::try_join_all(appends).await.unwrap();
        drop(journal);
        let mut lengths: Vec<_> =
            FileJournal::open(dir.path()).unwrap().records().await.unwrap().iter().map(Bytes::len).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, (0..200).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_and_nothing_is_lost() {
        // Every write to this device says that there is no room.
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path()).await;
        std::os::unix::fs::symlink("/dev/full", dir.path().join("bodies-0")).unwrap();
        let journal = FileJournal::open(dir.path()).unwrap();
        let error = journal.write_bodies(0, 0, record(1, 10)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(journal.records().await.unwrap(), all());
    }
}
