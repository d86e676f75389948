//! Robust decoding of payloads, whatever the degree of the ring.

use kms_algebra::{Codec, CommitteeError, GrVec, PartyId, PartySet, packing, shamir};
use kms_encoding::{FheType, user::SharePayload};
use zeroize::Zeroizing;

/// A decoder of one committee.
#[derive(Debug)]
pub(super) enum Decoder {
    Four(Codec<u128, 4>),
    Five(Codec<u128, 5>),
}

/// A decoded group.
pub(super) struct Opened {
    /// Opened blocks of all handles, noise and all.
    pub(super) blocks: Zeroizing<Vec<u128>>,
    /// Parties on the accepted polynomials.
    pub(super) agreeing: PartySet,
    /// Parties off them.
    pub(super) culprits: PartySet,
}

impl Decoder {
    pub(super) fn new(n: usize, t: usize) -> Result<Self, CommitteeError> {
        Ok(match shamir::degree_for(n) {
            Some(4) => Self::Four(Codec::new(n, t)?),
            _ => Self::Five(Codec::new(n, t)?),
        })
    }

    /// Degree of the ring.
    pub(super) const fn degree(&self) -> u8 {
        match self {
            Self::Four(_) => 4,
            Self::Five(_) => 5,
        }
    }

    /// 2t + 1.
    pub(super) const fn needed(&self) -> usize {
        match self {
            Self::Four(codec) => codec.needed(),
            Self::Five(codec) => codec.needed(),
        }
    }

    /// `None`: not decided by these shares.
    pub(super) fn decode(&self, shares: &[(PartyId, &SharePayload)], types: &[FheType]) -> Option<Opened> {
        match self {
            Self::Four(codec) => decode(codec, shares, types),
            Self::Five(codec) => decode(codec, shares, types),
        }
    }
}

fn decode<const D: usize>(
    codec: &Codec<u128, D>,
    shares: &[(PartyId, &SharePayload)],
    types: &[FheType],
) -> Option<Opened> {
    let vectors = shares
        .iter()
        .map(|(party, share)| Some((*party, GrVec::<u128, D>::from_words(share.words().to_vec())?)))
        .collect::<Option<Vec<_>>>()?;
    let list: Vec<(PartyId, &GrVec<u128, D>)> = vectors.iter().map(|(party, vector)| (*party, vector)).collect();
    let decoded = codec.decode(&list).ok()?;
    let blocks = types.iter().map(|ty| ty.squashed_blocks()).sum();
    Some(Opened {
        blocks: Zeroizing::new(packing::unpack(&decoded.values, blocks)),
        agreeing: decoded.agreeing,
        culprits: decoded.culprits,
    })
}
