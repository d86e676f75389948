use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use kms_algebra::{Codec, Gf, GrVec, PartyId, PartySet};

use super::malicious::{SetupLie, Which, first_channel};
use super::*;
use crate::broadcast::malicious::BroadcastLie;
use crate::lockstep::malicious::{Tamper, Tampering};
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
    let distinct: BTreeSet<_> = keys.values().collect();
    assert_eq!((keys.len(), distinct.len()), (committee.prss_sets().count(), keys.len()));
    honest
}

/// Rank of a matrix over the residue field, by elimination.
fn rank(mut rows: Vec<Vec<Gf<4>>>) -> usize {
    let mut rank = 0;
    for column in 0..rows[0].len() {
        let Some(pivot) = (rank..rows.len()).find(|row| rows[*row][column] != Gf::ZERO) else { continue };
        rows.swap(rank, pivot);
        let (head, tail) = rows.split_at_mut(rank + 1);
        let first = &head[rank];
        for row in tail {
            let factor = row[column] * first[column].inverse();
            for (x, y) in row.iter_mut().zip(first) {
                *x += factor * *y;
            }
        }
        rank += 1;
    }
    rank
}

#[test]
fn the_key_of_the_honest_is_hidden_from_t_parties_whoever_is_late() {
    for (n, t) in COMMITTEES {
        let committee = Committee::new(n, t).unwrap();
        let outputs = outputs(&committee);
        for qualified in PartySet::subsets(n, n - t) {
            for wrong in PartySet::subsets(n, t).filter(|wrong| wrong.without(qualified).is_empty()) {
                let honest: Vec<_> = qualified.without(wrong).iter().map(Gr::<u64, 4>::point).collect();
                let powers = |r: usize| -> Vec<Gf<4>> {
                    let power = |x: &Gr<u64, 4>| (0..r).fold(Gr::ONE, |product, _| product * *x).residue_at(0);
                    honest.iter().map(power).collect()
                };
                // All outputs of a group but one may be known: the last must not follow from them.
                assert_eq!(rank((0..outputs).map(powers).collect()), outputs, "{n}/{t}, wrong {wrong:?}");
            }
        }
    }
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

/// Which honest parties name a liar.
enum Named {
    Nobody,
    All,
    Only(PartySet),
    /// Depends on what comes first.
    Some,
}

fn judge(n: usize, t: usize, liars: PartySet, lie: SetupLie, expected: &Named) -> Vec<(PartyId, PrssSetup)> {
    let lies: Vec<_> = liars.iter().map(|p| (p, lie)).collect();
    let honest = check(n, t, liars, run_with(n, t, 3, &lies));
    reconstructs(n, t, &honest);
    for (p, setup) in &honest {
        let named = match expected {
            Named::Nobody => PartySet::EMPTY,
            Named::All => liars,
            Named::Only(victims) if victims.contains(*p) => liars,
            Named::Only(_) => PartySet::EMPTY,
            Named::Some => continue,
        };
        assert_eq!(setup.report.wrong(), named, "({n}, {t}) {lie:?}: {p} reports {:?}", setup.report);
    }
    honest
}

#[test]
fn t_parties_that_fall_silent_at_any_time_are_late_and_not_wrong() {
    for (n, t) in COMMITTEES {
        let committee = Committee::new(n, t).unwrap();
        let (table, reveal) = (first_channel(&committee, Which::Table), first_channel(&committee, Which::Reveal));
        let (open, ready) = (SHARING + vss::channels(&committee), first_channel(&committee, Which::Ready));
        let liars = parties(n - t + 1, n);
        for from in [SHARING, table, table + 1, table + 2, table + 3, reveal, open, ready, ready + 1] {
            for (p, setup) in judge(n, t, liars, SetupLie::SilentFrom(from), &Named::Nobody) {
                assert_eq!(setup.report.late, liars, "{p} {from}");
                assert_eq!(setup.dealers.without(liars), PartySet::all(n).without(liars));
                // Who has dealt and said so is a dealer, whatever became of it afterwards.
                assert_eq!(setup.dealers == PartySet::all(n), from > table);
                assert_eq!(setup.ready == PartySet::all(n), from > ready);
            }
        }
        judge(n, t, liars, SetupLie::NoShares, &Named::Nobody);
    }
}

#[test]
fn parties_that_crash_at_any_moment_do_no_harm() {
    for (n, t) in COMMITTEES {
        let committee = Committee::new(n, t).unwrap();
        let crashed = parties(1, t);
        for at in [20, 60, 130, 210, 290, 400, 500] {
            let mut sim = Sim::new(n, at, Profile::default());
            for own in PartyId::all(n) {
                let (net, seed) = (sim.net(own), DealingSeed::from_bytes([own.index(); 32]));
                sim.spawn(own, async move { run(&net, committee, session(1), Some(seed), DEFAULT_BOUND).await });
            }
            crashed.iter().for_each(|p| sim.crash(p, Duration::from_millis(at)));
            let results = sim.run().into_iter().map(|(_, result)| result).collect();
            let honest = check(n, t, crashed, results);
            assert!(honest.iter().all(|(_, setup)| setup.report.culprits.is_empty()));
            reconstructs(n, t, &honest);
        }
    }
}

#[test]
fn lying_dealers_are_out_or_harmless() {
    for (n, t) in COMMITTEES {
        let liars = parties(1, t);
        let victims = |count| parties(n - count + 1, n);
        let wrong = |to| SetupLie::Sharing(SharingLie::WrongRows { to });
        // To t parties: all shares are repaired in public. To more: out.
        for (count, named) in [(t, Named::Only(victims(t))), (t + 1, Named::All), (n - t, Named::All)] {
            for (_, setup) in judge(n, t, liars, wrong(victims(count)), &named) {
                assert_eq!(setup.dealers == PartySet::all(n), count == t);
            }
        }
        for (lie, named, qualified) in [
            (SharingLie::NoRows { to: victims(t) }, Named::Nobody, true),
            (SharingLie::NoRows { to: victims(t + 1) }, Named::Nobody, false),
            (SharingLie::GarbageRows { to: victims(t) }, Named::Only(victims(t)), true),
            (SharingLie::WrongReveal { to: victims(1) }, Named::All, false),
            (SharingLie::NoReveal { to: victims(1) }, Named::Only(victims(1)), false),
            (SharingLie::GarbageTable, Named::All, false),
        ] {
            for (_, setup) in judge(n, t, liars, SetupLie::Sharing(lie), &named) {
                assert_eq!(setup.dealers == PartySet::all(n), qualified, "{lie:?}");
            }
        }
    }
}

#[test]
fn false_complaints_disqualify_nobody() {
    for (n, t) in COMMITTEES {
        let liars = parties(1, t);
        for (lie, named) in [
            (SharingLie::Deny { dealers: parties(n, n) }, Named::Only(parties(n, n))),
            (SharingLie::Deny { dealers: parties(t + 1, n) }, Named::All),
            (SharingLie::DenyReceipt { dealers: parties(t + 1, n) }, Named::Nobody),
        ] {
            for (_, setup) in judge(n, t, liars, SetupLie::Sharing(lie), &named) {
                assert_eq!(setup.dealers, PartySet::all(n));
            }
        }
    }
}

#[test]
fn lies_in_the_broadcasts_do_not_split_the_honest() {
    for (n, t) in COMMITTEES {
        let liars = parties(1, t);
        let half = parties(n / 2 + 1, n);
        for which in [Which::Table, Which::Ready] {
            for (lie, named) in [
                (BroadcastLie::Equivocate { to: half }, Named::Some),
                (BroadcastLie::SendTo { to: half }, Named::Nobody),
                (BroadcastLie::FalseEcho, Named::All),
                (BroadcastLie::FalseVote, Named::Nobody),
                (BroadcastLie::TwoFacedBits { to: half }, Named::Some),
                (BroadcastLie::NoAnswer, Named::Nobody),
                (BroadcastLie::Garbage, Named::All),
                (BroadcastLie::Oversized, Named::All),
            ] {
                judge(n, t, liars, SetupLie::Broadcast(which, lie), &named);
            }
        }
    }
}

#[test]
fn wrong_shares_are_corrected_and_named_by_those_who_got_them() {
    for (n, t) in COMMITTEES {
        let liars = parties(n - t + 1, n);
        for victims in [parties(1, n), parties(2, 2)] {
            judge(n, t, liars, SetupLie::WrongShares { to: victims }, &Named::Only(victims));
        }
    }
}

#[test]
fn garbage_oversized_and_conflicting_messages_are_named_by_all() {
    for (n, t) in COMMITTEES {
        for lie in [SetupLie::Garbage, SetupLie::Oversized, SetupLie::Conflicting] {
            judge(n, t, parties(2, t + 1), lie, &Named::All);
        }
    }
}

#[test]
fn messages_of_another_session_are_worth_nothing() {
    for (n, t) in COMMITTEES {
        let committee = Committee::new(n, t).unwrap();
        let liars = parties(1, t);
        let run_session = |which: SessionId, tamper: &dyn Fn(PartyId) -> Tamper| -> Results {
            let mut sim = Sim::new(n, 8, Profile::default());
            for own in PartyId::all(n) {
                let net = Tampering::new(sim.net(own), tamper(own));
                let seed = DealingSeed::from_bytes([own.index(); 32]);
                sim.spawn(own, async move { run(&net, committee, which, Some(seed), DEFAULT_BOUND).await });
            }
            sim.run().into_iter().map(|(_, result)| result).collect()
        };
        let sent: Arc<Mutex<BTreeMap<(PartyId, u8, PartyId), Bytes>>> = Arc::default();
        run_session(session(1), &|own| {
            let sent = Arc::clone(&sent);
            Box::new(move |channel, to, message| {
                sent.lock().unwrap().insert((own, channel, to), message.clone());
                vec![message]
            })
        });
        let results = run_session(session(2), &|own| {
            let sent = Arc::clone(&sent);
            Box::new(move |channel, to, message| {
                let old = sent.lock().unwrap().get(&(own, channel, to)).cloned();
                vec![old.filter(|_| liars.contains(own)).unwrap_or(message)]
            })
        });
        for (p, setup) in check(n, t, liars, results) {
            assert_eq!((setup.report.wrong(), setup.dealers), (liars, PartySet::all(n).without(liars)), "{p}");
        }
    }
}

/// A listener with or without its seed, and how long the run takes.
fn with_listener(n: usize, t: usize, seed: bool) -> (Results, Duration) {
    let committee = Committee::new(n, t).unwrap();
    let mut sim = Sim::new(n, 4, Profile::default());
    for own in PartyId::all(n) {
        let net = sim.net(own);
        let dealing = DealingSeed::from_bytes([own.index(); 32]);
        sim.spawn(own, async move {
            match own == party(1) {
                true if seed => rejoin(&net, committee, session(1), dealing, DEFAULT_BOUND).await,
                listens => run(&net, committee, session(1), (!listens).then_some(dealing), DEFAULT_BOUND).await,
            }
        });
    }
    let report = sim.report();
    (report.results.into_iter().map(|(_, result)| result).collect(), report.at)
}

#[test]
fn a_listener_gets_its_keys_counts_as_late_and_costs_one_bound() {
    for (n, t) in COMMITTEES {
        for seed in [false, true] {
            let (results, at) = with_listener(n, t, seed);
            assert!(at < DEFAULT_BOUND + Duration::from_secs(5), "{at:?}");
            let listener = results[0].as_ref().unwrap().as_ref().unwrap();
            let (keys, transcript) = (listener.keys.clone(), listener.transcript);
            assert!(listener.report.culprits.is_empty() && listener.report.late.is_empty());
            for (_, setup) in check(n, t, parties(1, 1), results) {
                assert_eq!((setup.report.late, setup.ready), (parties(1, 1), parties(2, n)));
                assert_eq!(setup.transcript, transcript);
                let same = setup.keys.iter().filter(|key| keys.contains(key)).count();
                assert_eq!(same, setup.keys.iter().filter(|key| key.set & 1 == 1).count());
            }
        }
    }
}

#[test]
fn honest_parties_are_on_time_though_they_start_apart_and_liars_split_them() {
    for (n, t) in COMMITTEES {
        let committee = Committee::new(n, t).unwrap();
        let liars = parties(1, t);
        let mut sim = Sim::new(n, 12, Profile::default());
        for own in PartyId::all(n) {
            // Liars stop talking to one honest party after the other, so that each waits for them in another round.
            let split: Tamper = Box::new(move |channel, to, message| {
                let deaf = liars.contains(own) && usize::from(channel) > n + to.slot();
                if deaf { Vec::new() } else { vec![message] }
            });
            let net = Tampering::new(sim.net(own), split);
            let seed = DealingSeed::from_bytes([own.index(); 32]);
            let start = DEFAULT_BOUND / 2 * u32::from(own.index()) / n as u32;
            sim.spawn(own, async move {
                net.sleep(start).await;
                run(&net, committee, session(1), Some(seed), DEFAULT_BOUND).await
            });
        }
        let report = sim.report();
        assert!(report.at < DEFAULT_BOUND * (rounds(&committee) + 1));
        let results = report.results.into_iter().map(|(_, result)| result).collect();
        let honest = check(n, t, liars, results);
        assert!(honest.iter().all(|(_, setup)| setup.report.culprits.is_empty()));
        reconstructs(n, t, &honest);
    }
}

#[test]
fn with_more_than_t_silent_parties_all_abort_and_nobody_is_named() {
    for (n, t) in COMMITTEES {
        let committee = Committee::new(n, t).unwrap();
        for (from, ready) in [(1, false), (first_channel(&committee, Which::Ready), true)] {
            let silent = parties(n - t, n);
            let lies: Vec<_> = silent.iter().map(|p| (p, SetupLie::SilentFrom(from))).collect();
            for (p, result) in PartyId::all(n).zip(run_with(n, t, 6, &lies)).filter(|(p, _)| !silent.contains(*p)) {
                let error = result.unwrap().unwrap_err();
                let report = &error.report;
                assert!(report.culprits.is_empty() && silent.without(report.late).is_empty(), "{p} {error:?}");
                assert_eq!(matches!(error.reason, AbortReason::TooFewReady { .. }), ready);
                assert_eq!(matches!(error.reason, AbortReason::TooFewDealers { .. }), !ready);
            }
        }
    }
}

#[test]
fn a_party_deals_the_same_from_the_same_seed_and_another_in_another_session() {
    let committee = Committee::new(4, 1).unwrap();
    let seed = DealingSeed::from_bytes([5; 32]);
    let table = |attempt, dealer| {
        let binding = Binding { session: session(attempt), first: SHARING, dealer: party(dealer) };
        let dealing = deal::<4>(&committee, &binding, 2, &seed);
        (dealing.rows[0].words().to_vec(), dealing.table)
    };
    assert_eq!(table(1, 1), table(1, 1));
    assert!(table(1, 1).0 != table(2, 1).0 && table(1, 1).0 != table(1, 2).0);
}

#[test]
fn channels_and_messages_of_every_committee_fit_the_transport() {
    let mut seen = 0;
    for n in 4..=31 {
        for t in 1..=10 {
            let Ok(committee) = Committee::new(n, t) else { continue };
            seen += 1;
            let last = 5 * n + 3 * t + 9;
            assert_eq!(usize::from(channels(&committee)), last);
            assert!(last < 256 && max_message_bytes(&committee) < 256 * 1024, "({n}, {t})");
        }
    }
    assert!(seen > 50);
}

#[test]
fn runs_can_be_moved_between_threads() {
    fn send<T: Send>(_: &T) {}
    let sim = Sim::<()>::new(4, 1, Profile::default());
    let net = sim.net(party(1));
    send(&run(&net, Committee::new(4, 1).unwrap(), session(1), None, DEFAULT_BOUND));
}

/// `kat/verify.py` computes the same keys out of the seeds alone.
#[test]
fn keys_and_transcript_of_known_seeds_are_pinned() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let known: serde_json::Value = serde_json::from_str(include_str!("../../kat/prss_setup.json")).unwrap();
    // Whatever the network does to time and order. (The seeds of parties are the same modulo 256.)
    for seed in [256, 512] {
        let results = run_with(4, 1, seed, &[]);
        let setup = results[0].as_ref().unwrap().as_ref().unwrap();
        let keys: Vec<_> =
            setup.keys.iter().map(|key| serde_json::json!({"set": key.set, "key": hex(&key.key)})).collect();
        assert_eq!(
            (serde_json::json!(keys), hex(&setup.transcript).into()),
            (known["keys"].clone(), known["transcript"].clone())
        );
    }
}
