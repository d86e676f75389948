//! Room among the pending transactions.

use std::sync::atomic::Ordering;

use alloy_primitives::B256;

use super::TxManager;
use crate::error::Error;
use crate::store::Standing;

impl TxManager {
    /// Where a job stands, and whether there is room for its transaction. Some wait for it, so that it is taken as soon as it is
    /// there, and nobody asks again and again meanwhile.
    pub(super) async fn with_room(&self, job: B256) -> Result<(Standing, bool), Error> {
        let mut round = self.rounds.subscribe();
        let look = async || {
            let standing = self.store.standing(job).await?;
            Ok::<_, Error>((standing, standing.under_way.is_some() || !self.is_full()))
        };
        let (standing, room) = look().await?;
        if room {
            return Ok((standing, true));
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Ok((standing, false)) };
        let waited = async {
            loop {
                // Another round has looked which transactions are mined.
                let _ = round.changed().await;
                let (standing, room) = look().await?;
                if room {
                    return Ok((standing, true));
                }
            }
        };
        tokio::time::timeout(self.rules.wait_for_room, waited).await.unwrap_or(Ok((standing, false)))
    }

    /// What a manager does whose account another process minds: it only looks how many transactions are pending.
    ///
    /// # Errors
    /// Database.
    pub async fn stand_by(&self) -> Result<(), Error> {
        self.pending.store(self.store.pending_count(self.account).await?, Ordering::Relaxed);
        self.reservations.in_hand();
        self.rounds.send_modify(|rounds| *rounds += 1);
        Ok(())
    }

    /// How many more there is room for.
    pub(super) fn room(&self) -> usize {
        let room = self.rules.max_in_flight.saturating_sub(self.pending.load(Ordering::Relaxed));
        if self.is_broke() { 0 } else { usize::try_from(room).unwrap_or(usize::MAX) }
    }

    /// Whether the account can't pay for what is pending: it takes no more, which another relayer of its database could post.
    #[must_use]
    pub fn is_broke(&self) -> bool {
        self.pending.load(Ordering::Relaxed) > 0 && self.broke.load(Ordering::Relaxed)
    }

    /// One less is pending than the round has seen at its beginning.
    pub(super) fn make_room(&self) {
        let _ = self.pending.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |pending| pending.checked_sub(1));
    }

    /// Whether as many transactions are pending as may be: as many as the last round has seen, and what was reserved since.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.room() == 0
    }
}
