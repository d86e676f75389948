//! What is different when shares are collected for a user.

use super::{Asked, Committee, GRACE_PAUSE_MS, NOT_PERMITTED, Said, agreeing};
use crate::error::Error;
use crate::job::{Job, Payload};
use crate::state::State;
use crate::store::{PartyRow, PartyStatus, Store};

/// Reasons of a party whose endpoint may be behind that of whoever has just been given a right, a delegation or an account.
const MAY_BE_BEHIND: [&str; 3] = [NOT_PERMITTED, "delegation", "signature"];

/// What a party says before its endpoint must have seen what the user's has.
pub(super) fn in_grace(early: bool, said: Said) -> Said {
    let (reason, why) = match said {
        Said::Refused { reason, why } if MAY_BE_BEHIND.contains(&reason.as_str()) => (reason, why),
        // The permit names an epoch: no other can be asked for instead.
        Said::EpochNotLive(_) => {
            ("epoch-not-live".to_owned(), "the party does not hold the epoch that the permit names".to_owned())
        }
        other => return other,
    };
    if early {
        return Said::NotYet { why: format!("{reason}: {why}"), retry_after_ms: GRACE_PAUSE_MS };
    }
    Said::Refused { reason, why }
}

/// Whether all have answered a user, and too few from one epoch. Any of them may be the one that is behind, so all are asked
/// again.
pub(super) fn is_split(committee: &dyn Committee, job: &Job, has: impl Fn(u32, PartyStatus) -> bool) -> bool {
    matches!(job.payload, Payload::UserDecrypt(_))
        && job.state == State::Dispatched
        && committee.parties().into_iter().all(|p| has(p, PartyStatus::Answered) || has(p, PartyStatus::Refused))
}

/// Label of a refusal that is stored as `reason: sentence`. For a user, the name of the rule if the sentence starts with one.
pub(super) fn label<'a>(payload: &Payload, detail: &'a str) -> &'a str {
    let mut parts = detail.split(": ");
    let reason = parts.next().unwrap_or_default();
    let is_name = |part: &&str| {
        part.starts_with(|c: char| c.is_ascii_uppercase()) && part.chars().all(|c| c.is_ascii_alphanumeric())
    };
    match parts.next().filter(is_name) {
        Some(name) if matches!(payload, Payload::UserDecrypt(_)) => name,
        _ => reason,
    }
}

/// Whether nobody is left whose share could still come.
pub(super) async fn complete(
    store: &Store,
    committee: &dyn Committee,
    job: &Job,
    refused: &[&PartyRow],
) -> Result<Option<Asked>, Error> {
    let agreeing = agreeing(store, job).await?;
    let refused = refused.iter().filter(|row| !agreeing.contains(&row.party)).count();
    let all = committee.parties().len();
    let detail = format!("{} of {all} shares, {refused} parties refuse", agreeing.len());
    Ok((agreeing.len() + refused >= all).then_some(Asked::Complete { detail }))
}

/// All parties are in.
pub(super) async fn finish(store: &Store, job: &Job) {
    if let Err(error) = store.shift(job.id, State::Quorum, State::Done, "", "the shares of all parties are there").await
    {
        tracing::warn!(request = %job.id, %error, "a collection that is complete is looked at once more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::UserPayload;

    #[test]
    fn the_rule_is_named_if_the_party_names_it() {
        let user = Payload::UserDecrypt(UserPayload {
            user: Default::default(),
            delegator: None,
            public_key: Default::default(),
            contracts: Vec::new(),
            start: 0,
            days: 1,
            extra_data: Default::default(),
            signature: Default::default(),
            pairs: Vec::new(),
        });
        let pull = Payload::PublicPull { handles: Vec::new(), extra_data: Default::default() };
        for (detail, expected) in [
            ("not-permitted: UserNotAllowed: 0x1 may not decrypt 0x2", "UserNotAllowed"),
            ("not-permitted: may not", "not-permitted"),
            ("not-permitted: Not a name: x", "not-permitted"),
            ("key", "key"),
            ("", ""),
        ] {
            assert_eq!(label(&user, detail), expected);
        }
        assert_eq!(label(&pull, "not-permitted: UserNotAllowed: x"), "not-permitted");
    }

    #[test]
    fn who_may_be_behind_is_asked_again_for_a_while() {
        let refused = |reason: &str| Said::Refused { reason: reason.into(), why: "no".into() };
        for reason in ["not-permitted", "delegation", "signature"] {
            assert!(matches!(in_grace(true, refused(reason)), Said::NotYet { .. }));
            assert_eq!(in_grace(false, refused(reason)), refused(reason));
        }
        assert_eq!(in_grace(true, refused("permit")), refused("permit"));
        assert!(matches!(in_grace(true, Said::EpochNotLive(Vec::new())), Said::NotYet { .. }));
        assert!(matches!(in_grace(false, Said::EpochNotLive(Vec::new())), Said::Refused { .. }));
    }
}
