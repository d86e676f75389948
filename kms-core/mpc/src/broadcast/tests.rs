use super::malicious::{BroadcastLie, tamper};
use super::*;
use crate::lockstep::DEFAULT_BOUND;
use crate::lockstep::malicious::{Tamper, Tampering};
use crate::sim::{Profile, Sim};

const COMMITTEES: [(usize, usize); 3] = [(4, 1), (7, 2), (13, 4)];
const FIRST: u8 = 5;
const MAX: usize = 1000;

fn party(index: usize) -> PartyId {
    PartyId::new(index as u8).unwrap()
}

/// Parties from..=to.
fn parties(from: usize, to: usize) -> PartySet {
    (from..=to).map(party).collect()
}

fn message_of(party: PartyId) -> Bytes {
    Bytes::from(vec![party.index(); 100 + party.slot()])
}

type Outcome = Result<Vec<Option<Bytes>>, BroadcastError>;

fn broadcast_with(n: usize, t: usize, seed: u64, mut lies: Vec<(PartyId, Tamper)>) -> Vec<(PartyId, Outcome, Report)> {
    let committee = Committee::new(n, t).unwrap();
    let mut sim = Sim::new(n, seed, Profile::default());
    let wrong: PartySet = lies.iter().map(|(p, _)| *p).collect();
    for own in PartyId::all(n) {
        let lie = lies.iter().position(|(p, _)| *p == own).map(|at| lies.swap_remove(at).1);
        let net = Tampering::new(sim.net(own), lie.unwrap_or_else(|| Box::new(|_, _, m| vec![m])));
        sim.spawn(own, async move {
            let session = SessionId::from_bytes([1; 32]);
            let mut run = Lockstep::start(&net, committee, session, true, rounds(&committee), DEFAULT_BOUND);
            let outcome = broadcast(&mut run, FIRST, message_of(own), MAX).await;
            (outcome, run.report)
        });
    }
    let results = sim.run().into_iter().map(|(p, result)| (p, result.unwrap()));
    results.filter(|(p, _)| !wrong.contains(*p)).map(|(p, (outcome, report))| (p, outcome, report)).collect()
}

/// Honest parties agree, hear each other, and name nobody honest. What they agree on, and whom each one names.
fn check(results: Vec<(PartyId, Outcome, Report)>) -> (Vec<Option<Bytes>>, Vec<(PartyId, PartySet)>) {
    let honest: PartySet = results.iter().map(|(p, ..)| *p).collect();
    let agreed = results[0].1.clone().unwrap();
    for (p, outcome, report) in &results {
        assert_eq!(outcome.as_ref(), Ok(&agreed), "{p}");
        assert_eq!(report.wrong().union(report.late).without(honest), report.wrong().union(report.late));
    }
    for p in honest.iter() {
        assert_eq!(agreed[p.slot()], Some(message_of(p)));
    }
    (agreed, results.into_iter().map(|(p, _, report)| (p, report.wrong())).collect())
}

fn lies(committee: &Committee, who: PartySet, lie: BroadcastLie) -> Vec<(PartyId, Tamper)> {
    who.iter().map(|p| (p, tamper(committee, FIRST, lie))).collect()
}

#[test]
fn all_hear_all() {
    for (n, t) in [(4, 1), (7, 2), (13, 4), (16, 4), (31, 1)] {
        let (agreed, named) = check(broadcast_with(n, t, 1, Vec::new()));
        assert!(agreed.iter().all(Option::is_some) && named.iter().all(|(_, wrong)| wrong.is_empty()));
    }
}

#[test]
fn silent_parties_are_absent_for_all_and_not_wrong() {
    for (n, t) in COMMITTEES {
        // From the start, and from each later round.
        for from in FIRST..FIRST + 3 + t as u8 {
            let silent = parties(n - t + 1, n);
            let lies = silent.iter().map(|p| {
                let tamper: Tamper = Box::new(move |channel, _, m| if channel < from { vec![m] } else { Vec::new() });
                (p, tamper)
            });
            let (agreed, named) = check(broadcast_with(n, t, 2, lies.collect()));
            assert!(silent.iter().all(|p| agreed[p.slot()].is_some() == (from > FIRST)));
            assert!(named.iter().all(|(_, wrong)| wrong.is_empty()));
        }
    }
}

#[test]
fn one_message_or_none_comes_of_an_equivocation() {
    for (n, t) in COMMITTEES {
        let c = Committee::new(n, t).unwrap();
        for to in 1..n {
            let liars = parties(n - t + 1, n);
            let lie = BroadcastLie::Equivocate { to: parties(1, to) };
            let (agreed, named) = check(broadcast_with(n, t, 3, lies(&c, liars, lie)));
            // With more than t honest parties on either side all know.
            if to.min(n - t - to.min(n - t)) > t {
                assert!(named.iter().all(|(_, wrong)| *wrong == liars), "{n} {to} {named:?}");
                assert!(liars.iter().all(|p| agreed[p.slot()].is_none()));
            }
        }
    }
}

#[test]
fn a_message_that_few_got_reaches_all_or_none() {
    for (n, t) in COMMITTEES {
        let c = Committee::new(n, t).unwrap();
        for to in 0..n {
            let liars = parties(n, n);
            let lie = BroadcastLie::SendTo { to: parties(1, to) };
            let (agreed, named) = check(broadcast_with(n, t, 4, lies(&c, liars, lie)));
            assert!(agreed[n - 1].is_some() == (to + 1 >= n - t), "{to} and the sender itself have echoed");
            assert!(named.iter().all(|(_, wrong)| wrong.is_empty()));
        }
    }
}

#[test]
fn lies_in_later_rounds_change_nothing() {
    for (n, t) in COMMITTEES {
        let c = Committee::new(n, t).unwrap();
        let liars = parties(1, t);
        let all = [
            (BroadcastLie::FalseEcho, true),
            (BroadcastLie::FalseVote, false),
            (BroadcastLie::TwoFacedBits { to: parties(1, n / 2) }, false),
            (BroadcastLie::NoAnswer, false),
            (BroadcastLie::Garbage, true),
            (BroadcastLie::Oversized, true),
        ];
        for (lie, seen) in all {
            let (_, named) = check(broadcast_with(n, t, 5, lies(&c, liars, lie)));
            // Filling bits that are not zero are seen, too, where there are some.
            let expected = if seen { liars } else { PartySet::EMPTY };
            let bits = matches!(lie, BroadcastLie::TwoFacedBits { .. });
            assert!(named.iter().all(|(_, wrong)| *wrong == expected || bits), "{lie:?} {named:?}");
        }
    }
}

#[test]
fn questions_are_answered_whatever_liars_answer() {
    for (n, t) in COMMITTEES.into_iter().filter(|(_, t)| *t > 1) {
        let c = Committee::new(n, t).unwrap();
        for lie in [BroadcastLie::NoAnswer, BroadcastLie::FalseAnswer] {
            // The sender leaves out one honest party; its fellows do not help.
            let mut all = lies(&c, parties(2, t), lie);
            all.extend(lies(&c, parties(1, 1), BroadcastLie::SendTo { to: parties(2, n - 1) }));
            let (agreed, named) = check(broadcast_with(n, t, 6, all));
            assert_eq!(agreed[0], Some(message_of(party(1))));
            // A false answer is seen if it comes before a right one.
            assert!(lie == BroadcastLie::FalseAnswer || named.iter().all(|(_, wrong)| wrong.is_empty()));
        }
    }
}

#[test]
fn messages_over_the_bound_count_as_none() {
    let long: Tamper = Box::new(|channel, _, m| vec![if channel == FIRST { vec![0; MAX + 1].into() } else { m }]);
    let (agreed, named) = check(broadcast_with(4, 1, 7, vec![(party(2), long)]));
    assert!(agreed[1].is_none() && named.iter().all(|(_, wrong)| *wrong == parties(2, 2)));
}
