//! A committee with a dealt key, and ciphertexts under it.

use std::time::Duration;

use kms_encoding::rounding::NOISE_LOG2;
use kms_encoding::{FheType, Plaintext, SecretKeyKind, Word};
use kms_mpc::malicious::{Behaviour, Malicious};
use kms_mpc::sim::dealt::{Dealt, phase};
use kms_mpc::sim::{Profile, Sim};
use kms_mpc::{Committee, DecryptError, Epoch, Item, Network, Outcome, OwnShare, PartyId, PartySet, Refusal, decrypt};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// What one party gets out of a run: its values or refusal, and who was there.
pub(crate) type Answer = Result<(Result<Vec<Plaintext>, Refusal>, Outcome), DecryptError>;

/// A committee with shares of two secret keys.
pub(crate) struct Setting {
    pub(crate) dealt: Dealt,
    rng: ChaCha20Rng,
}

impl Setting {
    pub(crate) fn new(n: usize, t: usize, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        Self { dealt: Dealt::new(Committee::new(n, t).unwrap(), &mut rng), rng }
    }

    /// An encryption with noise |e| < `noise`.
    pub(crate) fn encrypt_with(&mut self, kind: SecretKeyKind, value: Plaintext, noise: u128) -> Item {
        self.dealt.encrypt(&mut self.rng, kind, value.ty(), value.block_messages().map(phase), noise)
    }

    pub(crate) fn encrypt(&mut self, kind: SecretKeyKind, value: Plaintext) -> Item {
        self.encrypt_with(kind, value, 1 << NOISE_LOG2)
    }

    /// A job of random values of some types.
    pub(crate) fn job(&mut self, types: &[FheType]) -> (Vec<Item>, Vec<Plaintext>) {
        types
            .iter()
            .map(|ty| {
                let mut bytes = [0; 32];
                self.rng.fill_bytes(&mut bytes);
                let value = Plaintext::truncated(*ty, Word(bytes));
                let kind =
                    if self.rng.random() { SecretKeyKind::Squashing } else { SecretKeyKind::SquashedCompression };
                (self.encrypt(kind, value), value)
            })
            .unzip()
    }

    /// The share of a party, by slot.
    pub(crate) fn own(&self, slot: usize, items: &[Item]) -> OwnShare {
        self.dealt.epochs[slot].partial_decrypt(&self.dealt.shares[slot], items).unwrap()
    }

    /// Runs jobs one after the other at all parties but `absent`; what each party gets for the last job.
    pub(crate) fn run(
        &self,
        jobs: &[&[Item]],
        seed: u64,
        profile: Profile,
        behaviours: &[(PartyId, Behaviour)],
        absent: PartySet,
        patience: Duration,
    ) -> Vec<(PartyId, Option<Answer>)> {
        let mut sim = Sim::new(self.dealt.committee.n(), seed, profile);
        for party in self.dealt.committee.parties().filter(|p| !absent.contains(*p)) {
            let epoch = self.dealt.epochs[party.slot()].clone();
            let own: Vec<_> = jobs.iter().map(|items| self.own(party.slot(), items)).collect();
            let net = sim.net(party);
            match behaviours.iter().find(|(p, _)| *p == party) {
                Some((_, behaviour)) => {
                    sim.spawn(party, protocol(Malicious::new(net, *behaviour), epoch, own, patience));
                }
                None => sim.spawn(party, protocol(net, epoch, own, patience)),
            }
        }
        sim.run()
    }
}

async fn protocol<N: Network>(net: N, epoch: Epoch, jobs: Vec<OwnShare>, patience: Duration) -> Answer {
    let mut last = Err(DecryptError::TooManyWrong);
    for own in jobs {
        let decryption = decrypt(&net, &epoch, &own).await?;
        last = Ok((decryption.values, decryption.tail.collect(&net, patience).await));
    }
    last
}
