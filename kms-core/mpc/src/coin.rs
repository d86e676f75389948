//! A coin that nobody can bias or foresee: the sum of random elements that all parties share verifiably, opened robustly.
//!
//! # Assumptions
//! Those of [`crate::vss`].
//!
//! # Protocol
//! Every party shares one uniformly random element of GR(2^64, d) ([`vss::share`]); at its end the set of qualified dealers
//! is agreed on and each of them is bound to its element. Then every party sends everybody the sum of its shares of the
//! qualified dealings, and the sum of the secrets is decoded with up to t wrong shares corrected. The coin is
//! SHAKE256("KMS-COIN-1" ‖ session ‖ u8 first channel ‖ element), 32 bytes.
//!
//! At least one qualified dealer is honest, and on time its element is uniform and unknown to t parties until the first
//! honest party opens, when all are bound: the coin is uniform, and the same at all honest parties.
//!
//! Rounds: one more than the sharing. Bytes: those of a sharing of one value, and one share to each party.
//!
//! Whoever uses a coin writes it down before the first use. The dealing comes from the seed alone, so a party that restarts
//! never deals another element under the same identity.
//!
//! Source: ePrint 2023/815 §4 (coin from VSS), Ben-Or, Goldwasser and Wigderson (STOC 1988).
//!
//! # Channels
//! Those of the sharing, then one for the opening.

use kms_algebra::{Codec, Gr, GrVec};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use sha3::Shake256;
use sha3::digest::{ExtendableOutput, Update, XofReader};

use crate::broadcast::{BroadcastError, wire::collect};
use crate::lockstep::{Lockstep, Misdeed};
use crate::prss_setup::DealingSeed;
use crate::vss::{self, Dealing, dealing::Binding, wire};
use crate::{Closed, Committee, Network};

/// Why there is no coin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoinError {
    /// The network was closed.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The sharing came to no end.
    #[error(transparent)]
    Broadcast(#[from] BroadcastError),
    /// Fewer than n − t dealers are qualified: more than t parties are wrong or late.
    #[error("only {qualified} dealers are qualified")]
    TooFewDealers {
        /// How many.
        qualified: usize,
    },
    /// No 2t + 1 shares agree: more than t parties are wrong or late.
    #[error("too few shares agree")]
    Undecided,
}

/// Rounds of a coin at most.
#[must_use]
pub const fn rounds(committee: &Committee) -> u32 {
    vss::rounds(committee) + 1
}

/// Channels of a coin.
#[must_use]
pub const fn channels(committee: &Committee) -> u8 {
    vss::channels(committee) + 1
}

/// Tosses a coin. Without a seed the party deals nothing; it learns the coin like all others.
///
/// # Errors
/// The network was closed, or the model does not hold.
pub async fn toss<N: Network>(
    run: &mut Lockstep<'_, N>,
    first: u8,
    seed: Option<DealingSeed>,
) -> Result<[u8; 32], CoinError> {
    match run.committee().degree() {
        4 => toss_in::<N, 4>(run, first, seed).await,
        _ => toss_in::<N, 5>(run, first, seed).await,
    }
}

async fn toss_in<N: Network, const D: usize>(
    run: &mut Lockstep<'_, N>,
    first: u8,
    seed: Option<DealingSeed>,
) -> Result<[u8; 32], CoinError> {
    let committee = run.committee();
    let binding = Binding { session: run.session(), first, dealer: run.own() };
    let dealing = seed.map(|seed| {
        let mut rng = ChaCha20Rng::from_seed(*seed.expand(&binding));
        let secret: GrVec<u64, D> = [Gr::random(&mut rng)].into_iter().collect();
        Dealing::new(&committee, &binding, &secret, &mut rng)
    });
    let shared = vss::share::<N, u64, D>(run, first, 1, dealing).await?;
    let qualified = shared.qualified.len();
    if qualified < committee.n() - committee.t() {
        return Err(CoinError::TooFewDealers { qualified });
    }
    // A party that lacks a row can't open, but learns.
    let sum = shared
        .qualified
        .iter()
        .try_fold(Gr::<u64, D>::ZERO, |sum, dealer| Some(sum + shared.shares[dealer.slot()].as_ref()?.get(0)));
    let sum: Option<GrVec<u64, D>> = sum.map(|sum| [sum].into_iter().collect());

    let channel = first + vss::channels(&committee);
    run.next_round();
    if let Some(sum) = &sum {
        run.send_all(channel, &wire::with_view(&shared.transcript, &wire::encode_vector(wire::Kind::Share, sum)));
    }
    let view = shared.transcript;
    let received = collect(run, channel, move |m| match wire::without_view(&view, m)? {
        Some(m) => wire::decode_vector::<u64, D>(wire::Kind::Share, m, 1).map(Some),
        None => Ok(None),
    })
    .await?;
    // Who has seen other broadcasts, or says so, is not judged: no honest party in the model.
    let elsewhere = committee.parties().zip(&received).filter(|(_, share)| matches!(share, Some(None))).map(|(p, _)| p);
    run.report.late = run.report.late.union(elsewhere.collect());
    let mut shares: Vec<Option<GrVec<u64, D>>> = received.into_iter().map(Option::flatten).collect();
    shares[run.own().slot()] = sum;
    let list: Vec<_> = committee.parties().zip(&shares).filter_map(|(p, share)| Some((p, share.as_ref()?))).collect();
    let codec = Codec::<u64, D>::new(committee.n(), committee.t()).map_err(|_| CoinError::Undecided)?;
    let decoded = codec.decode(&list).map_err(|_| CoinError::Undecided)?;
    decoded.culprits.iter().for_each(|party| run.report.blame(party, Misdeed::WrongShare));

    let mut hash = Shake256::default();
    hash.update(b"KMS-COIN-1");
    hash.update(run.session().as_bytes());
    hash.update(&[first]);
    decoded.values.words().iter().for_each(|word| hash.update(&word.to_le_bytes()));
    let mut coin = [0; 32];
    hash.finalize_xof().read(&mut coin);
    Ok(coin)
}

#[cfg(test)]
mod tests;
