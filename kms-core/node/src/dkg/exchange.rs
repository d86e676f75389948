//! What the protocol sees of the world: peers to ask, a clock, threads, signatures.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use bytes::Bytes;
use kms_algebra::PartyId;
use kms_chain::eip712::{recover, sign_digest};
use kms_chain::manifest::Manifest;
use kms_mpc::dkg::exchange::{AskError, Exchange, Signer, Verifier};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::party::Party;
use crate::peer::{Hub, Unanswered};

/// Questions of one run over the peer links.
pub(super) struct Peers {
    hub: Hub,
    run: B256,
    /// More than so many parties for which the run is over, and it is over for all.
    t: usize,
    over: Mutex<BTreeSet<PartyId>>,
    hopeless: Notify,
}

impl Peers {
    pub(super) fn new(hub: Hub, run: B256, t: usize) -> Self {
        Self { hub, run, t, over: Mutex::default(), hopeless: Notify::new() }
    }

    /// Ends when more than t parties say that for them the run is over: at least one of them is honest, and fewer than
    /// n − t are left.
    pub(super) async fn hopeless(&self) {
        self.hopeless.notified().await;
    }
}

impl Exchange for Peers {
    async fn ask(&self, peer: PartyId, question: Bytes) -> Result<Bytes, AskError> {
        match self.hub.ask(peer.index().into(), self.run.0, question).await {
            Ok(answer) => Ok(answer),
            Err(Unanswered::NotYet) => Err(AskError::NotYet),
            Err(Unanswered::Over) => {
                let over = {
                    let mut over = self.over.lock();
                    over.insert(peer);
                    over.len()
                };
                if over > self.t {
                    self.hopeless.notify_one();
                }
                Err(AskError::Unreachable)
            }
            Err(Unanswered::Refused | Unanswered::Unreachable) => Err(AskError::Unreachable),
        }
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        crate::pool::compute(work).await
    }
}

/// Signatures with the parties' own keys.
pub(super) struct PartySigner {
    party: Arc<Party>,
    known: Signatures,
}

impl PartySigner {
    pub(super) fn new(party: Arc<Party>) -> Self {
        let known = Signatures::of(&party.manifest);
        Self { party, known }
    }
}

impl Signer for PartySigner {
    fn sign(&self, digest: &[u8; 32]) -> [u8; 65] {
        sign_digest(&self.party.signing_key, B256::from(*digest))
    }
}

impl Verifier for PartySigner {
    fn verify(&self, party: PartyId, digest: &[u8; 32], signature: &[u8; 65]) -> bool {
        self.known.verify(party, digest, signature)
    }
}

/// Knows the signatures of a committee, and makes none.
pub(super) struct Signatures(Vec<Address>);

impl Signatures {
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self(manifest.committee.parties.iter().map(|party| party.signer).collect())
    }
}

impl Verifier for Signatures {
    fn verify(&self, party: PartyId, digest: &[u8; 32], signature: &[u8; 65]) -> bool {
        let address = self.0.get(party.slot());
        address.is_some_and(|address| recover(B256::from(*digest), signature).as_ref() == Ok(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::committee;

    #[test]
    fn a_signature_is_one_partys_over_one_digest() {
        let parties = committee(4, 1);
        let signer = PartySigner::new(Arc::new(parties[1].clone()));
        let [one, two] = [1, 2].map(|index| PartyId::new(index).unwrap());
        let signature = signer.sign(&[7; 32]);
        assert!(signer.verify(two, &[7; 32], &signature));
        assert!(!signer.verify(one, &[7; 32], &signature));
        assert!(!signer.verify(two, &[8; 32], &signature));
        assert!(!signer.verify(two, &[7; 32], &[0; 65]));
        assert!(!signer.verify(PartyId::new(9).unwrap(), &[7; 32], &signature));
    }
}
