//! Keys of the streams of one session, to be revealed when the session is given up: whoever has those of all sets computes
//! what every party should have sent. They say nothing about any other session.

use kms_algebra::{Gr, PartyId, PartySet, Word};
use zeroize::Zeroize;

use super::{Prss, Purpose, Set, Source, message, weight};
use crate::{Committee, SessionId};

/// Keys of the streams of a set in a session: `uniform_z`, `zero`, `triple`, of one width.
pub(crate) type StreamKeys = [[u8; 16]; 3];

impl Source {
    pub(super) fn key(&self, purpose: Purpose, session: &SessionId) -> [u8; 16] {
        match self {
            Self::Set(mac) => mac.compute(&message(purpose, session)).into(),
            Self::Session(keys) => match purpose {
                Purpose::Zero64 | Purpose::Zero128 => keys[1],
                Purpose::Triple64 | Purpose::Triple128 => keys[2],
                _ => keys[0],
            },
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Self::Session(keys) = self {
            keys.zeroize();
        }
    }
}

impl<const D: usize> Prss<D> {
    /// The keys of the streams of a session of this party's sets, by ascending bitmap.
    pub(crate) fn stream_keys<W: Word>(&self, session: &SessionId) -> Vec<StreamKeys> {
        let purposes = [
            Purpose::by_word::<W>(Purpose::UniformZ64, Purpose::UniformZ128),
            Purpose::by_word::<W>(Purpose::Zero64, Purpose::Zero128),
            Purpose::by_word::<W>(Purpose::Triple64, Purpose::Triple128),
        ];
        self.sets.iter().map(|set| purposes.map(|purpose| set.source.key(purpose, session))).collect()
    }

    /// The PRSS of a party in one session and for words of one width, from revealed keys. Only bits, zeros and triples:
    /// other values are none of anybody's.
    pub(crate) fn revealed(committee: &Committee, party: PartyId, keys: &[(PartySet, StreamKeys)]) -> Self {
        let sets = keys
            .iter()
            .filter(|(set, _)| set.contains(party))
            .map(|(set, keys)| {
                let outside = committee.parties().filter(|p| !set.contains(*p));
                Set { source: Source::Session(*keys), weight: weight(outside, Gr::point(party)) }
            })
            .collect();
        Self {
            t: committee.t(),
            own: party,
            sets,
            #[cfg(target_arch = "x86_64")]
            wide: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha20Rng;

    use super::*;
    use crate::insecure_dealt;

    #[test]
    fn revealed_keys_give_everybodys_shares_of_their_session() {
        let committee = Committee::new(7, 2).unwrap();
        let keys = insecure_dealt::prss_keys(&committee, &mut ChaCha20Rng::seed_from_u64(1));
        let all: Vec<Prss<4>> =
            committee.parties().zip(&keys).map(|(party, keys)| Prss::new(&committee, party, keys).unwrap()).collect();
        let (session, other) = (SessionId::from_bytes([1; 32]), SessionId::from_bytes([2; 32]));
        let mut revealed = std::collections::BTreeMap::new();
        for (party, prss) in committee.parties().zip(&all) {
            let sets = committee.prss_sets().filter(|set| set.contains(party));
            revealed.extend(sets.zip(prss.stream_keys::<u64>(&session)));
        }
        let revealed: Vec<_> = revealed.into_iter().collect();
        for (party, prss) in committee.parties().zip(&all) {
            let open = Prss::<4>::revealed(&committee, party, &revealed);
            assert_eq!(open.uniform_z::<u64>(&session, 3, 9), prss.uniform_z(&session, 3, 9));
            assert_eq!(open.zero::<u64>(&session, 3, 9), prss.zero(&session, 3, 9));
            assert_eq!(open.triple::<u64>(&session, 3, 9), prss.triple(&session, 3, 9));
            assert_ne!(open.uniform_z::<u64>(&session, 3, 9), prss.uniform_z(&other, 3, 9));
        }
    }
}
