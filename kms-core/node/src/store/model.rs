//! Rows of the database.

use std::time::Duration;

use alloy_primitives::{Address, B256};

/// How far a recorded request is at this party. The order is the order of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Recorded, with its ciphertexts at hand; this party's share has not left it yet.
    Received = 1,
    /// Masked shares are being exchanged.
    Opening = 2,
    /// This party has signed its answer; late shares are still being counted.
    Answered = 3,
    /// The final receipt is written.
    Final = 4,
    /// Can never be answered.
    Refused = 5,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 5] = [Self::Received, Self::Opening, Self::Answered, Self::Final, Self::Refused];

    /// Label of the metric and word for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Opening => "opening",
            Self::Answered => "answered",
            Self::Final => "final",
            Self::Refused => "refused",
        }
    }

    pub(super) fn from_column(value: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| *stage as i64 == value)
    }
}

/// A request in one epoch. The id says nothing about the epoch, but what is signed may: every epoch has its own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// Content-bound id.
    pub id: B256,
    /// Epoch whose shares answer it.
    pub epoch_id: B256,
}

/// A request to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRequest {
    /// Content-bound id.
    pub id: B256,
    /// Host chain.
    pub chain_id: u64,
    /// Epoch whose shares answer it.
    pub epoch_id: B256,
    /// Everything that is needed to take it up again after a restart.
    pub payload: Vec<u8>,
}

/// What became of an insertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The request was not known in this epoch.
    New,
    /// The request was recorded before; this is its row.
    Existing(Box<RequestRow>),
}

/// A recorded request. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRow {
    /// Content-bound id.
    pub id: B256,
    /// The job that computes it.
    pub job_id: B256,
    /// Host chain.
    pub chain_id: u64,
    /// Epoch whose shares answer it.
    pub epoch_id: B256,
    /// As given at insertion.
    pub payload: Vec<u8>,
    /// How far it is.
    pub stage: Stage,
    /// Since when.
    pub stage_since: u64,
    /// What it waits for or why it ended.
    pub detail: Option<String>,
    /// The signed answer.
    pub answer: Option<Vec<u8>>,
    /// The final refusal.
    pub refusal: Option<Vec<u8>>,
    /// The final receipt.
    pub receipt: Option<Vec<u8>>,
    /// When it was recorded.
    pub received_at: u64,
    /// When it was answered.
    pub answered_at: Option<u64>,
    /// Time from the first share sent to the signed answer.
    pub mpc: Option<Duration>,
}

impl RequestRow {
    /// What names the row.
    pub const fn key(&self) -> RequestKey {
        RequestKey { id: self.id, epoch_id: self.epoch_id }
    }
}

/// What a restart has to take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Requests without an answer, or without a receipt.
    pub count: u64,
    /// Last row there is now.
    pub last: u64,
}

/// Where a pending request stands; the start is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub(super) received_at: u64,
    pub(super) row: u64,
}

/// A pending request; the rest is read when it is its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingRow {
    /// What names it.
    pub key: RequestKey,
    /// Where the next page goes on.
    pub position: Position,
}

/// Whether this party can use its share of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Verified at start-up.
    Usable,
    /// Its object is missing or damaged.
    Quarantined,
    /// Its object key was deleted on purpose.
    Destroyed,
}

impl KeyState {
    /// Name in the database and for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usable => "usable",
            Self::Quarantined => "quarantined",
            Self::Destroyed => "destroyed",
        }
    }

    pub(super) fn from_column(value: &str) -> Option<Self> {
        [Self::Usable, Self::Quarantined, Self::Destroyed].into_iter().find(|state| state.name() == value)
    }
}

/// This party's share of one key in one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// The FHE key.
    pub key_id: B256,
    /// Epoch of the sharing.
    pub epoch_id: B256,
    /// Committee of the sharing.
    pub context_id: B256,
    /// Number of the parameter set.
    pub params: u8,
    /// Name of the sealed object.
    pub object: String,
    /// SHA-256 of the share file.
    pub share_digest: B256,
    /// Whether it can be used.
    pub state: KeyState,
    /// What is wrong, if it can't.
    pub detail: Option<String>,
}

/// How far the generation of a key is at this party, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeygenState {
    /// At work.
    Open,
    /// This party has its share of the key, and still helps the others to theirs.
    Sealed,
    /// What led to the key is erased.
    Finished,
    /// Its operator has ended it.
    Aborted,
    /// It can't come to a key.
    Failed,
}

impl KeygenState {
    /// Name in the database and for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Sealed => "sealed",
            Self::Finished => "finished",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }

    pub(super) fn from_column(value: &str) -> Option<Self> {
        [Self::Open, Self::Sealed, Self::Finished, Self::Aborted, Self::Failed]
            .into_iter()
            .find(|state| state.name() == value)
    }
}

/// The generation of a key, as operators ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKeygen {
    /// Id of the run.
    pub run_id: B256,
    /// Number of the parameter set.
    pub params: u8,
    /// Whether compression keys are made too.
    pub compressed: bool,
    /// SHA-256 of the reference string.
    pub crs_digest: B256,
}

/// A recorded generation of a key. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeygenRow {
    /// What was asked for.
    pub asked: NewKeygen,
    /// How far it is.
    pub state: KeygenState,
    /// The key, once it is sealed.
    pub key_id: Option<B256>,
    /// How it ended, opaque here.
    pub result: Option<Vec<u8>>,
    /// Why it ended, in words.
    pub detail: Option<String>,
    /// When it was asked for.
    pub started_at: u64,
}

/// A share that was sealed for a user: what was opened, for whom, and by which permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAnswer {
    /// Content-bound id of the request.
    pub id: B256,
    /// Epoch whose shares answered it.
    pub epoch_id: B256,
    /// Key of the handles.
    pub key_id: B256,
    /// Host chain.
    pub chain_id: u64,
    /// Who signed the permit.
    pub user: Address,
    /// Whose handles they are, if not the user's own.
    pub delegator: Option<Address>,
    /// What was signed.
    pub permit_hash: B256,
    /// The handles, in request order.
    pub handles: Vec<B256>,
    /// The block that allowed it.
    pub block_number: u64,
}

/// What the audit says about the answers to one request of a user. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRow {
    /// The last answer.
    pub answer: UserAnswer,
    /// When it was answered first.
    pub first_at: u64,
    /// When it was answered last.
    pub last_at: u64,
    /// How often.
    pub times: u64,
}

/// A line of the audit journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRow {
    /// Position, ascending without gaps.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub at: u64,
    /// What kind of event.
    pub kind: String,
    /// What it happened to.
    pub subject: String,
    /// In words.
    pub detail: String,
}
