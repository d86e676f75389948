use std::collections::BTreeMap;

use kms_algebra::{Codec, GrVec, PartyId, PartySet};

use super::malicious::{SetupLie, Which};
use super::*;
use crate::broadcast::malicious::BroadcastLie;
use crate::lockstep::malicious::Tampering;
use crate::prss::Prss;
use crate::sim::{Profile, Sim};
use crate::vss::malicious::SharingLie;

const COMMITTEES: [(usize, usize); 3] = [(4, 1), (7, 2), (13, 4)];

fn session(attempt: u32) -> SessionId {
    SessionId::prss_setup(&[1; 32], &[2; 32], attempt)
}

fn party(index: usize) -> PartyId {
    PartyId::new(index as u8).unwrap()
}

/// Parties from..=to.
fn parties(from: usize, to: usize) -> PartySet {
    (from..=to).map(party).collect()
}

type Results = Vec<Option<Result<PrssSetup, SetupRunError>>>;

/// A run in which some parties lie.
fn run_with(n: usize, t: usize, seed: u64, lies: &[(PartyId, SetupLie)]) -> Results {
    let committee = Committee::new(n, t).unwrap();
    let mut sim = Sim::new(n, seed, Profile::default());
    for own in PartyId::all(n) {
        let lie = lies.iter().find(|(p, _)| *p == own).map(|(_, lie)| *lie);
        let tamper = lie.map_or_else(|| Box::new(|_, _, m| vec![m]) as _, |lie| lie.tamper(&committee));
        let net = Tampering::new(sim.net(own), tamper);
        let dealing = DealingSeed::from_bytes([own.index() ^ seed as u8; 32]);
        sim.spawn(own, async move { run(&net, committee, session(1), Some(dealing), DEFAULT_BOUND).await });
    }
    sim.run().into_iter().map(|(_, result)| result).collect()
}

/// All honest parties hold keys that fit, agree on what is agreed, and name nobody honest. Their set-ups.
fn check(n: usize, t: usize, wrong: PartySet, results: Results) -> Vec<(PartyId, PrssSetup)> {
    let committee = Committee::new(n, t).unwrap();
    let honest: Vec<(PartyId, PrssSetup)> = PartyId::all(n)
        .zip(results)
        .filter(|(p, _)| !wrong.contains(*p))
        .map(|(p, result)| (p, result.unwrap_or_else(|| panic!("{p} hangs")).unwrap()))
        .collect();
    let mut keys: BTreeMap<u32, [u8; 16]> = BTreeMap::new();
    for (p, setup) in &honest {
        let (_, first) = &honest[0];
        assert_eq!((setup.ready, setup.dealers, setup.transcript), (first.ready, first.dealers, first.transcript));
        assert_eq!(setup.report.disputes, first.report.disputes);
        let (named, late) = (setup.report.wrong(), setup.report.late);
        assert!(named.without(wrong).is_empty() && late.without(wrong).is_empty(), "{p} names {:?}", setup.report);
        assert!(PartySet::all(n).without(wrong).without(setup.ready).is_empty());
        Prss::<4>::new(&committee, *p, &setup.keys).unwrap();
        for key in &setup.keys {
            assert_eq!(*keys.entry(key.set).or_insert(key.key), key.key, "members agree on the key of {:b}", key.set);
        }
    }
    let distinct: std::collections::BTreeSet<_> = keys.values().collect();
    assert_eq!((keys.len(), distinct.len()), (committee.prss_sets().count(), keys.len()));
    honest
}

/// The PRSS of honest parties reconstructs.
fn reconstructs(n: usize, t: usize, honest: &[(PartyId, PrssSetup)]) {
    let committee = Committee::new(n, t).unwrap();
    let shares: Vec<(PartyId, GrVec<u128, 4>)> = honest
        .iter()
        .map(|(p, setup)| (*p, Prss::<4>::new(&committee, *p, &setup.keys).unwrap().uniform_z(&session(9), 0, 3)))
        .collect();
    let list: Vec<_> = shares.iter().map(|(p, share)| (*p, share)).collect();
    let decoded = Codec::new(n, t).unwrap().decode(&list).unwrap();
    assert_eq!((decoded.agreeing.len(), decoded.culprits), (honest.len(), PartySet::EMPTY));
    assert!(decoded.values.iter().all(|v| v.0[0] != 0 && v.0[1..] == [0; 3]));
}

#[test]
fn honest_parties_make_keys_that_reconstruct_and_two_runs_differ() {
    for (n, t) in COMMITTEES {
        let mut all = Vec::new();
        for seed in [1, 2] {
            let honest = check(n, t, PartySet::EMPTY, run_with(n, t, seed, &[]));
            for (_, setup) in &honest {
                assert_eq!((setup.ready, setup.dealers), (PartySet::all(n), PartySet::all(n)));
                assert_eq!(setup.report, Report::default());
            }
            reconstructs(n, t, &honest);
            all.extend(honest[0].1.keys.iter().map(|key| key.key));
        }
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
