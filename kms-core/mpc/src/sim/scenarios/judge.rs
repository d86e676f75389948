//! Who must be named by an opening, and who must not.

use core::time::Duration;
use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha20Rng;

use crate::malicious::{Behaviour, LIES, Lie, Seen, Stage};
use crate::sim::{Breach, Cast, Run, Violation};
use crate::{Committee, Evidence, Outcome, PartyId, PartySet};

/// Longer than anything but a lie takes to arrive, shorter than [`crate::malicious::LATE`].
pub(super) const PATIENCE: Duration = Duration::from_secs(12 * 3600);

/// What each liar does.
pub(super) type Lies = BTreeMap<PartyId, (&'static str, Behaviour)>;

/// Draws what the liars do: all the same, as colluders, or each something else.
pub(super) fn draw_lies(run: &Run, cast: &Cast, rng: &mut ChaCha20Rng) -> Lies {
    let stage = Stage { t: run.committee.t(), liars: cast.liars, others: cast.truthful() };
    let forced = run.lie.and_then(|name| LIES.iter().find(|lie| lie.name == name));
    let pick = |rng: &mut ChaCha20Rng| -> &'static Lie { forced.or_else(|| LIES.choose(rng)).unwrap_or(&LIES[0]) };
    let all = pick(rng);
    let together = (all.name, (all.draw)(&stage, rng));
    let collude = forced.is_some() || rng.random_bool(0.5);
    cast.liars
        .iter()
        .map(|liar| {
            if collude {
                return (liar, together);
            }
            let lie = pick(rng);
            (liar, (lie.name, (lie.draw)(&stage, rng)))
        })
        .collect()
}

/// How an outcome is to be judged.
pub(super) struct Judge<'a> {
    pub(super) committee: &'a Committee,
    pub(super) cast: &'a Cast,
    pub(super) lies: &'a Lies,
    /// Whether the run stayed within the model. Otherwise a party may wait so long that late messages are in time.
    pub(super) within: bool,
    /// Whether the tail was collected for [`PATIENCE`].
    pub(super) patient: bool,
    /// Whether the opening is the first of its job with messages of its length.
    pub(super) first: bool,
}

impl Judge<'_> {
    /// Whether everything had arrived that ever does, lies of lateness apart.
    const fn has_all(&self) -> bool {
        self.within && self.patient
    }

    /// Whether `outcome`, at the truthful party `at`, calls exactly those wrong and late who were.
    pub(super) fn judge(&self, at: PartyId, outcome: &Outcome) -> Result<(), Violation> {
        let all = PartySet::all(self.committee.n());
        if outcome.arrived.union(outcome.late) != all || outcome.late.without(outcome.arrived) != outcome.late {
            return Err(Violation::new(Breach::Presence, format!("P{at}: arrived and late do not part: {outcome:?}")));
        }
        for party in all.iter() {
            let evidence = outcome.wrong.iter().find(|fault| fault.party == party).map(|fault| fault.evidence);
            match self.lies.get(&party) {
                None => self.truthful(at, party, evidence, outcome)?,
                Some((name, lie)) => {
                    let lie = if self.within { *lie } else { lie.in_the_end() };
                    self.liar(at, party, name, lie.seen_by(at, self.first), evidence, outcome)?;
                }
            }
        }
        Ok(())
    }

    fn truthful(
        &self,
        at: PartyId,
        party: PartyId,
        evidence: Option<Evidence>,
        outcome: &Outcome,
    ) -> Result<(), Violation> {
        if let Some(evidence) = evidence {
            return Err(Violation::new(Breach::HonestNamed, format!("P{at} names P{party}: {evidence:?}")));
        }
        if self.has_all() && self.cast.honest.contains(party) && outcome.late.contains(party) {
            return Err(Violation::new(Breach::Presence, format!("P{at} calls P{party} late, who came back and sent")));
        }
        Ok(())
    }

    fn liar(
        &self,
        at: PartyId,
        liar: PartyId,
        lie: &str,
        seen: Seen,
        evidence: Option<Evidence>,
        outcome: &Outcome,
    ) -> Result<(), Violation> {
        let here = outcome.arrived.contains(liar);
        let wrong = |what: &str| {
            let text =
                format!("P{at} sees {lie} of P{liar} as {seen:?}: {what}; evidence {evidence:?}, arrived {here}");
            Err(Violation::new(Breach::LiarNotNamed, text))
        };
        if self.has_all() && here == (seen == Seen::Nothing) {
            return wrong("its presence");
        }
        let fits = match (seen, evidence) {
            (Seen::Nothing, None) => !here,
            (Seen::Right, None) => true,
            (Seen::Wrong, Some(Evidence::WrongShare { .. })) => here,
            (Seen::Malformed, Some(Evidence::Malformed { .. })) => here,
            (Seen::Two, Some(Evidence::WrongShare { .. } | Evidence::Conflicting { .. })) => here,
            (Seen::Wrong | Seen::Malformed, None) => !here,
            // The second message may come when the tail has ended, because all have sent one. If somebody has not, the
            // tail has ended long after both.
            (Seen::Two, None) => !self.has_all() || outcome.late.is_empty(),
            _ => false,
        };
        if fits { Ok(()) } else { wrong("its evidence") }
    }
}
