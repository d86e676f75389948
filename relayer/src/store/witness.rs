//! Who is told of every commit: nobody, or a test that kills the process right there.

use std::fmt::{self, Debug};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use sqlx::{Any, AnyConnection, Transaction};

use super::group::Member;
use crate::error::Error;
use crate::state::State;

/// What a transaction of the database is for. Whatever the relayer writes is one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Write {
    /// The schema is brought up to date.
    Migrate,
    /// A new process takes over what an earlier one of its name held.
    Resume,
    /// Somebody becomes or stays the one who does something.
    Lead,
    /// A step of the chain.
    Apply,
    /// Work is claimed.
    Claim,
    /// Work is let go until later.
    PutOff,
    /// Work is let go.
    Release,
    /// One job moves.
    Shift,
    /// What parties said.
    Record,
    /// The receipt of a party.
    Receipt,
    /// The epoch to ask for.
    Epoch,
    /// Nonces that the chain has counted are skipped.
    RaiseNonce,
    /// A nonce is reserved for a signed transaction.
    Reserve,
    /// A nonce that nothing holds gets a no-op.
    FillGap,
    /// One more signed transaction for a nonce.
    AddAttempt,
    /// A transaction was broadcast.
    Sent,
    /// A transaction was refused by the node.
    NotSent,
    /// A transaction is in a block.
    Mined,
    /// A nonce was used by somebody else.
    Lost,
    /// An answer is taken from an account that nobody minds.
    Abandon,
    /// Transactions are deep enough.
    Confirm,
    /// A question came over HTTP.
    Ask,
    /// What ended long ago is deleted.
    Prune,
}

impl Write {
    /// All of them.
    pub const ALL: [Write; 23] = [
        Write::Migrate,
        Write::Resume,
        Write::Lead,
        Write::Apply,
        Write::Claim,
        Write::PutOff,
        Write::Release,
        Write::Shift,
        Write::Record,
        Write::Receipt,
        Write::Epoch,
        Write::RaiseNonce,
        Write::Reserve,
        Write::FillGap,
        Write::AddAttempt,
        Write::Sent,
        Write::NotSent,
        Write::Mined,
        Write::Lost,
        Write::Abandon,
        Write::Confirm,
        Write::Ask,
        Write::Prune,
    ];
}

/// A job that changes its state in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Move {
    /// From here; `None`: it is new, or several moved at once from several states.
    pub from: Option<State>,
    /// To here.
    pub to: State,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}", self.from.map_or("*", State::as_str), self.to)
    }
}

/// On which side of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// Everything is written, and nothing of it stands.
    Before,
    /// All of it stands, and nobody has acted on it.
    After,
}

/// Is told of every transaction of the database, just before and just after its commit. None in production.
pub trait Witness: Send + Sync + Debug {
    /// A commit is about to happen or has happened.
    fn commit(&self, side: Side, write: Write, moves: &[Move]);
}

/// What is committed.
pub(super) enum Inner {
    /// A transaction of its own.
    Own(Transaction<'static, Any>),
    /// Together with others.
    Shared(Member),
}

/// A transaction of the database that its witness hears of.
pub(super) struct Tx {
    inner: Inner,
    write: Write,
    moves: Vec<Move>,
    witness: Option<Arc<dyn Witness>>,
}

impl Tx {
    pub(super) fn new(inner: Inner, write: Write, witness: Option<Arc<dyn Witness>>) -> Self {
        Self { inner, write, moves: Vec::new(), witness }
    }

    /// Notes that a job changes its state in this transaction.
    pub(super) fn moved(&mut self, from: Option<State>, to: State) {
        let moved = Move { from, to };
        if self.witness.is_some() && !self.moves.contains(&moved) {
            self.moves.push(moved);
        }
    }

    pub(super) async fn commit(self) -> Result<(), Error> {
        let Self { inner, write, moves, witness } = self;
        tell(witness.as_ref(), Side::Before, write, &moves);
        match inner {
            Inner::Own(transaction) => transaction.commit().await?,
            Inner::Shared(member) => member.commit().await?,
        }
        tell(witness.as_ref(), Side::After, write, &moves);
        Ok(())
    }
}

impl Deref for Tx {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        match &self.inner {
            Inner::Own(transaction) => transaction,
            Inner::Shared(member) => member,
        }
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match &mut self.inner {
            Inner::Own(transaction) => transaction,
            Inner::Shared(member) => member,
        }
    }
}

pub(super) fn tell(witness: Option<&Arc<dyn Witness>>, side: Side, write: Write, moves: &[Move]) {
    if let Some(witness) = witness {
        witness.commit(side, write, moves);
    }
}
