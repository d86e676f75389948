use super::*;
use crate::lockstep::malicious::Tampering;
use crate::lockstep::{DEFAULT_BOUND, Report};
use crate::sim::{Profile, Sim};
use crate::vss::malicious::{SharingLie, tamper};
use crate::{PartyId, PartySet, SessionId};

type Results = Vec<(PartyId, Result<[u8; 32], CoinError>, Report)>;

/// The first `liars` parties do what `lie` says; results of the others.
fn toss_with(n: usize, t: usize, seed: u64, liars: usize, lie: impl Fn(u8, PartyId) -> Option<SharingLie>) -> Results {
    let committee = Committee::new(n, t).unwrap();
    let mut sim = Sim::new(n, seed, Profile::default());
    for own in PartyId::all(n) {
        let wrong_share = own.slot() < liars && lie(0, own).is_none();
        let tamper: crate::lockstep::malicious::Tamper = match lie(0, own).filter(|_| own.slot() < liars) {
            Some(lie) => tamper(&committee, 1, lie),
            None => Box::new(move |channel, _, message| {
                let last = channel == vss::channels(&committee) + 1;
                vec![if wrong_share && last { crate::broadcast::malicious::flipped(&message, 44) } else { message }]
            }),
        };
        let net = Tampering::new(sim.net(own), tamper);
        let dealing = DealingSeed::from_bytes([own.index() ^ seed as u8; 32]);
        sim.spawn(own, async move {
            let session = SessionId::from_bytes([3; 32]);
            let mut run = Lockstep::start(&net, committee, session, true, rounds(&committee), DEFAULT_BOUND);
            let coin = toss(&mut run, 1, Some(dealing)).await;
            (coin, run.report)
        });
    }
    let results = sim.run().into_iter().skip(liars);
    results.map(|(p, result)| result.map(|(coin, report)| (p, coin, report)).unwrap()).collect()
}

#[test]
fn all_see_the_same_coin_and_two_seeds_give_two() {
    for (n, t) in [(4, 1), (7, 2), (13, 4), (16, 4)] {
        let coins: Vec<[u8; 32]> = [1, 2]
            .into_iter()
            .map(|seed| {
                let results = toss_with(n, t, seed, 0, |_, _| None);
                assert!(results.iter().all(|(_, coin, report)| *coin == results[0].1 && *report == Report::default()));
                results[0].1.unwrap()
            })
            .collect();
        assert_ne!(coins[0], coins[1]);
    }
}

#[test]
fn wrong_shares_and_lying_dealers_change_nothing_and_are_named() {
    for (n, t) in [(4, 1), (7, 2), (13, 4)] {
        let liars = PartySet::all(t);
        let fair = toss_with(n, t, 5, 0, |_, _| None)[0].1.unwrap();
        for (_, coin, report) in toss_with(n, t, 5, t, |_, _| None) {
            assert_eq!((coin, report.wrong()), (Ok(fair), liars));
        }
        // Dealers that are out take their element with them: another coin, the same for all.
        let out = toss_with(n, t, 5, t, |_, _| Some(SharingLie::WrongRows { to: PartySet::all(n) }));
        for (_, coin, report) in &out {
            assert_eq!((*coin, report.wrong()), (out[0].1, liars));
            assert!(coin.is_ok_and(|coin| coin != fair));
        }
    }
}
