use kms_algebra::{Codec, Gr};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

use super::malicious::{SharingLie, tamper};
use super::*;
use crate::lockstep::DEFAULT_BOUND;
use crate::lockstep::malicious::Tampering;
use crate::sim::{Profile, Sim};

const COMMITTEES: [(usize, usize); 3] = [(4, 1), (7, 2), (13, 4)];
const VALUES: usize = 3;

type Results<W, const D: usize> = Vec<(PartyId, Shared<W, D>, Report)>;

fn party(index: usize) -> PartyId {
    PartyId::new(index as u8).unwrap()
}

/// Parties from..=to.
fn parties(from: usize, to: usize) -> PartySet {
    (from..=to).map(party).collect()
}

fn secrets<W: Word, const D: usize>(dealer: PartyId) -> GrVec<W, D> {
    (0..VALUES).map(|i| Gr::constant(W::truncate(1000 * u128::from(dealer.index()) + i as u128))).collect()
}

/// All parties deal; the results of those that do not lie.
fn share_all<W: Word, const D: usize>(n: usize, t: usize, lies: &[(PartyId, SharingLie)]) -> Results<W, D> {
    let committee = Committee::new(n, t).unwrap();
    let mut sim = Sim::new(n, 11, Profile::default());
    for own in PartyId::all(n) {
        let lie = lies.iter().find(|(p, _)| *p == own).map(|(_, lie)| *lie);
        let tamper = lie.map_or_else(|| Box::new(|_, _, m| vec![m]) as _, |lie| tamper(&committee, 1, lie));
        let net = Tampering::new(sim.net(own), tamper);
        sim.spawn(own, async move {
            let session = SessionId::from_bytes([4; 32]);
            let mut run = Lockstep::start(&net, committee, session, true, rounds(&committee), DEFAULT_BOUND);
            let binding = Binding { session, first: 1, dealer: own };
            let mut rng = ChaCha20Rng::seed_from_u64(own.index().into());
            let dealing = Dealing::new(&committee, &binding, &secrets(own), &mut rng);
            let shared = share::<_, W, D>(&mut run, 1, VALUES, Some(dealing)).await.unwrap();
            (shared, run.report)
        });
    }
    let results = sim.run().into_iter().map(|(p, result)| (p, result.unwrap()));
    results.filter(|(p, _)| lies.iter().all(|(q, _)| q != p)).map(|(p, (shared, report))| (p, shared, report)).collect()
}

/// Honest parties agree, hold shares of every qualified dealer on polynomials of degree t, those of an honest one with its
/// secrets, and name nobody honest. The qualified dealers.
fn check<W: Word, const D: usize>(n: usize, t: usize, results: &Results<W, D>) -> PartySet {
    let honest: PartySet = results.iter().map(|(p, ..)| *p).collect();
    let (_, first, report) = &results[0];
    for (p, shared, r) in results {
        assert_eq!((shared.qualified, shared.transcript), (first.qualified, first.transcript));
        assert_eq!(r.disputes, report.disputes);
        let named: Vec<_> = r.wrong().iter().filter(|q| honest.contains(*q)).collect();
        assert!(named.is_empty() && honest.without(r.late) == honest, "{p} reports {r:?}");
    }
    assert!(honest.without(first.qualified).is_empty());
    let codec = Codec::<W, D>::new(n, t).unwrap();
    for dealer in PartyId::all(n) {
        let shares: Vec<_> =
            results.iter().filter_map(|(p, shared, _)| Some((*p, shared.shares[dealer.slot()].as_ref()?))).collect();
        if !first.qualified.contains(dealer) {
            assert!(shares.is_empty());
            continue;
        }
        let decoded = codec.decode(&shares).unwrap();
        assert_eq!(decoded.agreeing, honest, "shares of dealer {dealer}");
        if honest.contains(dealer) {
            assert_eq!(decoded.values, secrets(dealer));
        }
    }
    first.qualified
}

/// What each honest party names: the misdeed of `wrong`, if any.
fn named<W: Word, const D: usize>(results: &Results<W, D>, wrong: PartyId) -> Vec<(PartyId, Option<Misdeed>)> {
    let of = |report: &Report| report.culprits.iter().find(|c| c.party == wrong).map(|c| c.misdeed);
    results.iter().map(|(p, _, report)| (*p, of(report))).collect()
}

#[test]
fn honest_dealers_share_their_secrets_over_every_ring() {
    fn all<W: Word, const D: usize>(n: usize, t: usize) {
        let results = share_all::<W, D>(n, t, &[]);
        assert_eq!(check(n, t, &results), PartySet::all(n));
        assert!(results.iter().all(|(_, _, report)| *report == Report::default()));
    }
    all::<u64, 4>(4, 1);
    all::<u128, 4>(7, 2);
    all::<u64, 4>(13, 4);
    all::<u128, 5>(16, 4);
}

#[test]
fn a_dealer_of_t_wrong_rows_is_qualified_and_named_by_its_victims() {
    for (n, t) in COMMITTEES {
        for lie in [SharingLie::WrongRows { to: parties(2, 1 + t) }, SharingLie::GarbageRows { to: parties(2, 1 + t) }]
        {
            let results = share_all::<u64, 4>(n, t, &[(party(1), lie)]);
            assert_eq!(check(n, t, &results), PartySet::all(n));
            for (p, misdeed) in named(&results, party(1)) {
                assert_eq!(misdeed.is_some(), (2..=1 + t).contains(&usize::from(p.index())), "{lie:?}");
            }
            assert_eq!(results[0].2.disputes.len(), t);
        }
    }
}

#[test]
fn a_dealer_of_more_than_t_wrong_rows_is_out_and_named_by_all() {
    for (n, t) in COMMITTEES {
        for victims in [t + 1, n - 1] {
            let lie = SharingLie::WrongRows { to: parties(n - victims + 1, n) };
            let results = share_all::<u64, 4>(n, t, &[(party(1), lie)]);
            assert_eq!(check(n, t, &results), parties(2, n));
            assert!(named(&results, party(1)).iter().all(|(_, misdeed)| misdeed.is_some()));
        }
    }
}

#[test]
fn a_dealer_that_deals_to_too_few_is_late_and_not_wrong() {
    for (n, t) in COMMITTEES {
        for victims in [t, t + 1] {
            let lie = SharingLie::NoRows { to: parties(n - victims + 1, n) };
            let results = share_all::<u64, 4>(n, t, &[(party(1), lie)]);
            let qualified = if victims == t { PartySet::all(n) } else { parties(2, n) };
            assert_eq!(check(n, t, &results), qualified);
            assert!(results.iter().all(|(_, _, report)| report.culprits.is_empty()));
            assert!(victims == t || results.iter().all(|(_, _, report)| report.late == parties(1, 1)));
        }
    }
}

#[test]
fn a_table_that_is_wrong_for_two_honest_parties_costs_the_dealer_its_name() {
    for (n, t) in COMMITTEES {
        let lie = SharingLie::WrongPair { pair: (party(2), party(n)) };
        let results = share_all::<u64, 4>(n, t, &[(party(1), lie)]);
        // Two are unhappy. What the dealer reveals is right, but not what its table says.
        assert_eq!(check(n, t, &results), parties(2, n));
        for (p, misdeed) in named(&results, party(1)) {
            let own = p == party(2) || p == party(n);
            let expected = match t {
                1 => Misdeed::BadTable,
                _ => Misdeed::BadReveal,
            };
            assert_eq!(misdeed, Some(if own { Misdeed::BadRow } else { expected }));
        }
    }
}

#[test]
fn a_dealer_that_reveals_wrong_rows_is_named_and_one_that_reveals_none_is_out() {
    for (n, t) in COMMITTEES {
        let victim = parties(3, 3);
        let results = share_all::<u64, 4>(n, t, &[(party(1), SharingLie::WrongReveal { to: victim })]);
        assert_eq!(check(n, t, &results), parties(2, n));
        for (p, misdeed) in named(&results, party(1)) {
            assert_eq!(misdeed, Some(if p == party(3) { Misdeed::BadRow } else { Misdeed::BadReveal }));
        }
        let results = share_all::<u64, 4>(n, t, &[(party(1), SharingLie::NoReveal { to: victim })]);
        assert_eq!(check(n, t, &results), parties(2, n));
        for (p, misdeed) in named(&results, party(1)) {
            assert_eq!(misdeed, (p == party(3)).then_some(Misdeed::BadRow));
        }
    }
}

#[test]
fn false_complaints_hurt_no_dealer_and_name_the_liar_to_it() {
    for (n, t) in COMMITTEES {
        let liars: Vec<_> = (1..=t).map(|i| (party(i), SharingLie::Deny { dealers: parties(n, n) })).collect();
        let results = share_all::<u64, 4>(n, t, &liars);
        assert_eq!(check(n, t, &results), PartySet::all(n));
        for liar in 1..=t {
            for (p, misdeed) in named(&results, party(liar)) {
                assert_eq!(misdeed, (p == party(n)).then_some(Misdeed::FalseComplaint));
            }
        }
        // Against more than t dealers all know.
        let lie = SharingLie::Deny { dealers: parties(2, t + 2) };
        let results = share_all::<u64, 4>(n, t, &[(party(1), lie)]);
        assert_eq!(check(n, t, &results), PartySet::all(n));
        assert!(named(&results, party(1)).iter().all(|(_, misdeed)| *misdeed == Some(Misdeed::FalseComplaint)));
        // Who says that nothing came may be right.
        let lie = SharingLie::DenyReceipt { dealers: parties(2, n) };
        let results = share_all::<u64, 4>(n, t, &[(party(1), lie)]);
        assert_eq!(check(n, t, &results), PartySet::all(n));
        assert!(results.iter().all(|(_, _, report)| report.culprits.is_empty() && report.disputes.len() == n - 1));
    }
}

#[test]
fn liars_that_help_each_other_gain_nothing() {
    for (n, t) in COMMITTEES.into_iter().filter(|(_, t)| *t > 1) {
        // Dealer 1 cheats t honest parties, and dealer 2 denies the rows of an honest one: t + 1 disputes in all.
        let lies = [
            (party(1), SharingLie::WrongRows { to: parties(3, 2 + t) }),
            (party(2), SharingLie::Deny { dealers: parties(1, 1).union(parties(n, n)) }),
        ];
        let results = share_all::<u64, 4>(n, t, &lies);
        // t + 1 parties are unhappy with dealer 1 now.
        assert_eq!(check(n, t, &results), parties(2, n));
    }
}

#[test]
fn a_table_of_garbage_is_named_by_all_and_deals_nothing() {
    for (n, t) in COMMITTEES {
        let results = share_all::<u64, 4>(n, t, &[(party(2), SharingLie::GarbageTable)]);
        assert_eq!(check(n, t, &results), PartySet::all(n).without(parties(2, 2)));
        let named = named(&results, party(2));
        assert!(named.iter().all(|(_, misdeed)| matches!(misdeed, Some(Misdeed::Malformed { .. }))));
    }
}
