//! A journal in memory that survives the crashes of its party.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::dkg::journal::Journal;

/// What is written after the last durable record may be lost in a crash, as on a disk.
#[derive(Debug)]
pub(crate) struct MemoryJournal(Mutex<Memory>);

#[derive(Debug)]
struct Memory {
    records: Vec<Bytes>,
    /// Records that are durable.
    durable: usize,
    bodies: BTreeMap<usize, Vec<u8>>,
    /// Writes since the last durable record, undone in the order from the last to the first: what was there before.
    undo: Vec<(usize, usize, Vec<u8>)>,
    /// Writes until the disk is full.
    room: Option<u64>,
    /// The record with this beginning after so many more is written, but its writer never hears of it.
    hang: Option<(Vec<u8>, u32)>,
    rng: ChaCha20Rng,
}

impl MemoryJournal {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(Memory {
            records: Vec::new(),
            durable: 0,
            bodies: BTreeMap::new(),
            undo: Vec::new(),
            room: None,
            hang: None,
            rng: ChaCha20Rng::seed_from_u64(seed),
        }))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The party goes down: what is not durable survives or not.
    pub(crate) fn crash(&self) {
        let mut memory = self.memory();
        let Memory { records, durable, bodies, undo, rng, .. } = &mut *memory;
        records.truncate(rng.random_range(*durable..=records.len()));
        *durable = records.len();
        let keep = rng.random_range(0..=undo.len());
        for (component, offset, before) in undo.drain(..).skip(keep).collect::<Vec<_>>().into_iter().rev() {
            if let Some(bytes) = bodies.get_mut(&component) {
                bytes[offset..offset + before.len()].copy_from_slice(&before);
            }
        }
    }

    /// The disk is full after so many more writes; `None`: there is room again.
    pub(crate) fn full_after(&self, writes: Option<u64>) {
        self.memory().room = writes;
    }

    /// The record with this beginning after so many more is written, but its writer never hears of it, until it restarts.
    #[cfg(test)]
    pub(crate) fn hang_after(&self, beginning: &[u8], records: u32) {
        self.memory().hang = Some((beginning.to_vec(), records));
    }

    /// Records and bytes of bodies so far.
    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, usize) {
        let memory = self.memory();
        (memory.records.iter().map(Bytes::len).sum(), memory.bodies.values().map(Vec::len).sum())
    }

    /// The records.
    #[cfg(test)]
    pub(crate) fn all_records(&self) -> Vec<Bytes> {
        self.memory().records.clone()
    }

    /// The bodies of a component.
    pub(crate) fn bodies(&self, component: usize) -> Vec<u8> {
        self.memory().bodies.get(&component).cloned().unwrap_or_default()
    }
}

impl Memory {
    fn take_room(&mut self) -> io::Result<()> {
        match &mut self.room {
            Some(0) => Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device")),
            Some(room) => {
                *room -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Journal for MemoryJournal {
    async fn append(&self, record: Bytes, durable: bool) -> io::Result<()> {
        let hangs = {
            let mut memory = self.memory();
            memory.take_room()?;
            let left =
                memory.hang.as_mut().filter(|(beginning, _)| record.starts_with(beginning)).map(|(_, left)| left);
            let hangs = left.is_some_and(|left| core::mem::replace(left, left.saturating_sub(1)) == 0);
            memory.hang.take_if(|_| hangs);
            memory.records.push(record);
            if durable {
                memory.durable = memory.records.len();
                memory.undo.clear();
            }
            hangs
        };
        if hangs {
            core::future::pending().await
        }
        Ok(())
    }

    async fn records(&self) -> io::Result<Vec<Bytes>> {
        Ok(self.memory().records.clone())
    }

    async fn write_bodies(&self, component: usize, offset: usize, bytes: Bytes) -> io::Result<()> {
        let mut memory = self.memory();
        memory.take_room()?;
        let bodies = memory.bodies.entry(component).or_default();
        let end = offset + bytes.len();
        if bodies.len() < end {
            bodies.resize(end, 0);
        }
        let before = bodies[offset..end].to_vec();
        bodies[offset..end].copy_from_slice(&bytes);
        memory.undo.push((component, offset, before));
        Ok(())
    }

    async fn read_bodies(&self, component: usize, offset: usize, len: usize) -> io::Result<Bytes> {
        let memory = self.memory();
        let bytes = memory.bodies.get(&component).and_then(|bytes| bytes.get(offset..offset + len));
        bytes.map(Bytes::copy_from_slice).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }
}
