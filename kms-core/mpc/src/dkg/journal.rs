//! What a party remembers of a run.

use std::io;

use bytes::Bytes;

/// Durable memory of one run at one party. Its size is at most the public key and 256 MB.
///
/// Implementations: memory in tests, files at a party.
pub trait Journal: Send + Sync {
    /// Appends a record. With `durable` it is on disk when the call returns, and everything appended before it.
    ///
    /// # Errors
    /// The disk is full or broken. The run stops and can be resumed; nothing that depends on the record has left.
    fn append(&self, record: Bytes, durable: bool) -> impl Future<Output = io::Result<()>> + Send;

    /// All records so far, in order. Called once, at the start.
    ///
    /// # Errors
    /// The disk is broken, or the journal is damaged. A last record that a crash cut off is no damage: it is gone.
    fn records(&self) -> impl Future<Output = io::Result<Vec<Bytes>>> + Send;

    /// Writes bodies at an offset of a component. The number after the last component is scratch space: a few of this
    /// party's frames, overwritten in turn. Not durable before the next durable [`Self::append`] is.
    ///
    /// # Errors
    /// The disk is full or broken.
    fn write_bodies(
        &self,
        component: usize,
        offset: usize,
        bytes: Bytes,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// Reads bodies back.
    ///
    /// # Errors
    /// The disk is broken, or these were never written.
    fn read_bodies(
        &self,
        component: usize,
        offset: usize,
        len: usize,
    ) -> impl Future<Output = io::Result<Bytes>> + Send;
}
