//! A committee with a dealt key, and ciphertexts under it.

use std::sync::Arc;
use std::time::Duration;

use kms_encoding::rounding::{DELTA_LOG2, NOISE_LOG2};
use kms_encoding::{FheType, LweBlocks, Plaintext, SecretKeyKind, ShareVector, Word};
use kms_mpc::malicious::{Behaviour, Malicious};
use kms_mpc::sim::{Profile, Sim};
use kms_mpc::{
    Committee, DecryptError, Epoch, Item, Network, Outcome, PartyId, PartySet, Refusal, SessionId, decrypt,
    insecure_dealt,
};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// Small: nothing here depends on the dimension.
pub(crate) const DIMENSIONS: [(SecretKeyKind, usize); 2] =
    [(SecretKeyKind::Squashing, 24), (SecretKeyKind::SquashedCompression, 40)];

/// What one party gets out of a run: its values or refusal, and who was there.
pub(crate) type Answer = Result<(Result<Vec<Plaintext>, Refusal>, Outcome), DecryptError>;

/// A committee with shares of two secret keys.
pub(crate) struct Setting {
    pub(crate) committee: Committee,
    pub(crate) epochs: Vec<Epoch>,
    pub(crate) shares: Vec<Vec<ShareVector>>,
    secrets: Vec<(SecretKeyKind, Vec<u128>)>,
    rng: ChaCha20Rng,
}

impl Setting {
    pub(crate) fn new(n: usize, t: usize, seed: u64) -> Self {
        let committee = Committee::new(n, t).unwrap();
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let prss = insecure_dealt::prss_keys(&committee, &mut rng);
        let epochs = committee.parties().zip(&prss).map(|(p, keys)| Epoch::new(committee, p, keys).unwrap()).collect();
        let mut shares = vec![Vec::new(); n];
        let mut secrets = Vec::new();
        for (kind, dimension) in DIMENSIONS {
            let secret: Vec<u128> = (0..dimension).map(|_| u128::from(rng.random::<bool>())).collect();
            for (all, share) in shares.iter_mut().zip(insecure_dealt::key_shares(&committee, kind, &secret, &mut rng)) {
                all.push(share);
            }
            secrets.push((kind, secret));
        }
        Self { committee, epochs, shares, secrets, rng }
    }

    /// An encryption with noise |e| < `noise`.
    pub(crate) fn encrypt_with(&mut self, kind: SecretKeyKind, value: Plaintext, noise: u128) -> Item {
        let (_, secret) = self.secrets.iter().find(|(k, _)| *k == kind).unwrap();
        let (mut masks, mut bodies) = (Vec::new(), Vec::new());
        for message in value.block_messages() {
            let mask: Vec<u128> = secret.iter().map(|_| self.rng.random()).collect();
            let e = (self.rng.random::<u128>() % (2 * noise - 1)).wrapping_sub(noise - 1);
            let phase = (u128::from(message) << DELTA_LOG2).wrapping_add(e);
            bodies.push(mask.iter().zip(secret).fold(phase, |b, (a, s)| b.wrapping_add(a.wrapping_mul(*s))));
            masks.extend(mask);
        }
        let mut session = [0; 32];
        self.rng.fill_bytes(&mut session);
        let blocks = LweBlocks::new(kind, secret.len(), self.rng.random::<u32>() >> 8, masks, bodies).unwrap();
        Item { session: SessionId::from_bytes(session), ty: value.ty(), blocks: Arc::new(blocks) }
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
        let mut sim = Sim::new(self.committee.n(), seed, profile);
        for party in self.committee.parties().filter(|p| !absent.contains(*p)) {
            let epoch = self.epochs[party.slot()].clone();
            let own: Vec<_> =
                jobs.iter().map(|items| epoch.partial_decrypt(&self.shares[party.slot()], items).unwrap()).collect();
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

async fn protocol<N: Network>(net: N, epoch: Epoch, jobs: Vec<kms_mpc::OwnShare>, patience: Duration) -> Answer {
    let mut last = Err(DecryptError::TooManyWrong);
    for own in jobs {
        let decryption = decrypt(&net, &epoch, &own).await?;
        last = Ok((decryption.values, decryption.tail.collect(&net, patience).await));
    }
    last
}
