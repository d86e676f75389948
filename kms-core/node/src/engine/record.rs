//! What the engine writes into the database: magic, version, kind, then a protobuf message.

use alloy_primitives::B256;
use kms_proto::node;
use prost::Message;

const MAGIC: &[u8; 4] = b"KMSR";
const VERSION: u8 = 1;

/// A stored value is not one that this version wrote.
#[derive(Debug, thiserror::Error)]
#[error("a stored {kind} can't be read: {problem}")]
pub struct RecordError {
    kind: &'static str,
    problem: String,
}

/// A kind of stored message.
trait Kind: Message + Default {
    const BYTE: u8;
    const NAME: &'static str;
}

impl Kind for node::Answer {
    const BYTE: u8 = 1;
    const NAME: &'static str = "answer";
}

impl Kind for node::Refused {
    const BYTE: u8 = 2;
    const NAME: &'static str = "refusal";
}

impl Kind for node::Receipt {
    const BYTE: u8 = 3;
    const NAME: &'static str = "receipt";
}

impl Kind for Task {
    const BYTE: u8 = 4;
    const NAME: &'static str = "request";
}

/// Everything needed to take a request up again, or to compute its share again.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Task {
    /// The call as it came.
    #[prost(message, optional, tag = "1")]
    pub(super) call: Option<node::DecryptRequest>,
    /// What the chain has granted, in request order: handle ‖ key id ‖ digest.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) granted: Vec<Vec<u8>>,
}

/// One granted handle of a [`Task`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) handle: B256,
    pub(super) key_id: B256,
    pub(super) digest: B256,
}

impl Granted {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        [self.handle, self.key_id, self.digest].concat()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<32>() else { return None };
        let [handle, key_id, digest] = words else { return None };
        Some(Self { handle: handle.into(), key_id: key_id.into(), digest: digest.into() })
    }
}

fn write<K: Kind>(message: &K) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend([VERSION, K::BYTE]);
    bytes.extend(message.encode_to_vec());
    bytes
}

fn read<K: Kind>(bytes: &[u8]) -> Result<K, RecordError> {
    let fail = |problem: String| RecordError { kind: K::NAME, problem };
    let (head, body) = bytes.split_at_checked(6).ok_or_else(|| fail("truncated".into()))?;
    if &head[..4] != MAGIC || head[5] != K::BYTE {
        return Err(fail("it is something else".into()));
    }
    if head[4] != VERSION {
        return Err(fail(format!("unknown version {}", head[4])));
    }
    K::decode(body).map_err(|e| fail(e.to_string()))
}

pub(super) fn write_answer(answer: &node::Answer) -> Vec<u8> {
    write(answer)
}

pub(super) fn read_answer(bytes: &[u8]) -> Result<node::Answer, RecordError> {
    read(bytes)
}

pub(super) fn write_refusal(refusal: &node::Refused) -> Vec<u8> {
    write(refusal)
}

pub(super) fn read_refusal(bytes: &[u8]) -> Result<node::Refused, RecordError> {
    read(bytes)
}

pub(super) fn write_receipt(receipt: &node::Receipt) -> Vec<u8> {
    write(receipt)
}

pub(super) fn read_receipt(bytes: &[u8]) -> Result<node::Receipt, RecordError> {
    read(bytes)
}

pub(super) fn write_task(task: &Task) -> Vec<u8> {
    write(task)
}

pub(super) fn read_task(bytes: &[u8]) -> Result<Task, RecordError> {
    read(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_know_their_kind_and_version() {
        let refusal = node::Refused { reason: 1, detail: "no".into() };
        let bytes = write_refusal(&refusal);
        assert_eq!(&bytes[..6], b"KMSR\x01\x02");
        assert_eq!(read_refusal(&bytes).unwrap(), refusal);
        assert!(read_answer(&bytes).is_err());
        let mut future = bytes.clone();
        future[4] = 2;
        assert!(read_refusal(&future).unwrap_err().to_string().contains("version 2"));
        assert!(read_refusal(&bytes[..5]).is_err());
    }

    #[test]
    fn granted_handles_round_trip() {
        let granted =
            Granted { handle: B256::repeat_byte(1), key_id: B256::repeat_byte(2), digest: B256::repeat_byte(3) };
        assert_eq!(Granted::from_bytes(&granted.to_bytes()), Some(granted));
        assert_eq!(Granted::from_bytes(&granted.to_bytes()[1..]), None);
        assert_eq!(Granted::from_bytes(&[]), None);
    }
}
