//! User decryptions, party by party.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{
    FutureExt, StreamExt,
    stream::{BoxStream, FuturesUnordered},
};
use kms_proto::{
    bounds::{self, BoundsError},
    node::user_decrypt_response,
};
use tokio::time::{Instant, sleep, timeout_at};

use super::{CALL_TIMEOUT, DECRYPT_WAIT, MAX_RETRY, Outcome, Parties, PartyError, about, traced};
use crate::{
    user::{ReconstructError, Reconstruction, UserDecryption, UserRequest, UserResponse},
    verify::{self, AnswerError, VerifiedShare},
};

/// What became of a user decryption that was put to all parties until a deadline.
#[derive(Debug)]
pub struct Read {
    /// The values, or why there are none.
    pub result: Result<Reconstruction, ReconstructError>,
    /// The last outcome of every party that was heard of or failed.
    pub outcomes: BTreeMap<u32, Result<Outcome<VerifiedShare>, PartyError>>,
}

impl Parties {
    /// Asks one party once for its share of a user decryption. An answer in the outcome is the party's own and for this
    /// request; whether the share in it is right, only the holder of the key can find out.
    ///
    /// # Errors
    /// The party could not be reached, broke the protocol, or its answer does not verify.
    pub async fn user_decrypt(&self, index: u32, request: &UserRequest) -> Result<Outcome<VerifiedShare>, PartyError> {
        traced(index, self.user_decrypt_once(index, request)).await
    }

    async fn user_decrypt_once(&self, index: u32, request: &UserRequest) -> Result<Outcome<VerifiedShare>, PartyError> {
        let call = about(verify::user_message(request), request.id(self.domain().verifying_contract));
        let response = self
            .call(index, DECRYPT_WAIT + CALL_TIMEOUT, |mut client| async move { client.user_decrypt(call).await })
            .await?;
        bounds::check_user_decrypt_response(&response).map_err(AnswerError::from)?;
        let outcome = response.outcome.ok_or(AnswerError::Bounds(BoundsError::Missing("outcome")))?;
        Ok(match outcome {
            user_decrypt_response::Outcome::Answer(answer) => {
                let response = UserResponse {
                    share: answer.share.into(),
                    signature: answer.signature.into(),
                    extra_data: answer.extra_data.into(),
                };
                let share = verify::user_answer(request, self.committee(), self.domain(), index, response)?;
                Outcome::Answer(share)
            }
            user_decrypt_response::Outcome::NotYet(not_yet) => not_yet.into(),
            user_decrypt_response::Outcome::Refused(refused) => refused.into(),
            user_decrypt_response::Outcome::EpochNotLive(epoch) => epoch.into(),
        })
    }

    /// Asks all n parties once, concurrently; yields what each says as it arrives.
    pub fn user_decrypt_all(
        &self,
        request: &UserRequest,
    ) -> BoxStream<'static, (u32, Result<Outcome<VerifiedShare>, PartyError>)> {
        self.user_decrypt_some(self.indices(), request)
    }

    /// Asks some parties once, concurrently; yields what each says as it arrives.
    pub fn user_decrypt_some(
        &self,
        indices: impl IntoIterator<Item = u32>,
        request: &UserRequest,
    ) -> BoxStream<'static, (u32, Result<Outcome<VerifiedShare>, PartyError>)> {
        let request = Arc::new(request.clone());
        indices
            .into_iter()
            .map(|index| {
                let (parties, request) = (self.clone(), request.clone());
                async move { (index, parties.user_decrypt(index, &request).await) }.boxed()
            })
            .collect::<FuturesUnordered<_>>()
            .boxed()
    }

    /// Asks all parties, again and again where they say NotYet or can't be reached, until `reader` has the values, nobody is
    /// left to ask, or `deadline`. Once there are values the others have `tail` to answer too, so that who is wrong or missing
    /// can be told. What has come stays in `reader`.
    pub async fn read(&self, reader: &mut UserDecryption, deadline: Instant, tail: Duration) -> Read {
        let request = Arc::new(reader.request().clone());
        let mut outcomes = BTreeMap::new();
        let ask = |index: u32, pause: Duration| {
            let (parties, request) = (self.clone(), request.clone());
            async move {
                sleep(pause).await;
                (index, parties.user_decrypt(index, &request).await)
            }
            .boxed()
        };
        let mut asked: FuturesUnordered<_> = self.indices().map(|index| ask(index, Duration::ZERO)).collect();
        let mut until = deadline;
        let mut decided = false;
        while let Ok(Some((index, outcome))) = timeout_at(until, asked.next()).await {
            match &outcome {
                // It was authenticated; what else may be wrong with it, the reader remembers.
                Ok(Outcome::Answer(share)) if reader.add(&share.response).is_ok() && !decided => {
                    decided = !matches!(reader.reconstruct(), Err(ReconstructError::Undecided(_)));
                    if decided {
                        until = deadline.min(Instant::now() + tail);
                    }
                }
                Ok(Outcome::NotYet { retry_after, .. }) => {
                    asked.push(ask(index, (*retry_after).clamp(Duration::from_millis(50), MAX_RETRY)));
                }
                Err(error) if error.is_transient() => asked.push(ask(index, Duration::from_secs(1))),
                Ok(_) | Err(_) => {}
            }
            outcomes.insert(index, outcome);
            if decided && tail.is_zero() {
                break;
            }
        }
        Read { result: reader.reconstruct(), outcomes }
    }
}
