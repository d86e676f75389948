//! User decryptions over a real socket: shares are collected from parties that sign for real, shown, and forgotten.

use std::time::Duration;

use alloy::primitives::{B256, Bytes};
use kms_client::transport::RefusedReason;
use kms_relayer::clock::now_ms;
use kms_relayer::state::State;

use crate::support::open;
use crate::user_parties::{Line, Stub};
use crate::user_support::{DOMAIN, Relayer, request};

#[tokio::test]
async fn shares_are_shown_from_2t_plus_1_on_and_more_come_until_all_are_in() {
    let mut relayer = Relayer::start(Stub::new([Line::Share(1), Line::Share(1), Line::NotYet, Line::Silent])).await;
    let request = request(|_| {});
    let queued = relayer.post(&request).await;
    let id = request.id(DOMAIN.verifying_contract);
    assert_eq!((queued.status, queued.body["status"].as_str()), (202, Some("queued")));
    assert_eq!(queued.body["result"]["jobId"].as_str(), Some(id.to_string().as_str()));
    assert_eq!(queued.body["requestId"], queued.body["result"]["jobId"]);
    assert!(queued.retry_after.is_some_and(|s| (1..=300).contains(&s)));
    relayer.work();
    while relayer.parties.times_asked(3) < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let running = relayer.get(&request).await;
    assert_eq!((running.status, running.body["status"].as_str()), (202, Some("queued")), "two are not enough");
    assert!(running.retry_after.is_some());

    relayer.parties.set(3, [Line::Share(1)]);
    let first = relayer.until(&request, |reply| reply.status == 200).await;
    assert_eq!(first.body["status"].as_str(), Some("succeeded"));
    assert_eq!((relayer.authors(&request, &first), first.collecting()), (vec![1, 2, 3], true));
    assert!(first.retry_after.is_some(), "while it collects it says when to come again");
    assert!(first.shares().iter().all(|share| share.extra_data == request.permit.extra_data));
    let asked = relayer.parties.times_asked(1);

    relayer.parties.set(4, [Line::Share(1)]);
    let last = relayer.until(&request, |reply| !reply.collecting()).await;
    assert_eq!(relayer.authors(&request, &last), [1, 2, 3, 4]);
    assert_eq!(last.shares()[..3], first.shares(), "what was shown stays");
    assert_eq!(relayer.parties.times_asked(1), asked, "who has answered is not asked again");
    assert_eq!(relayer.statuses(&request).await, ["answered"; 4]);
    let timeline = relayer.get_path(&format!("/requests/{id}")).await.body;
    assert_eq!((timeline["kind"].as_str(), timeline["stage"].as_str()), (Some("user-decrypt"), Some("done")));
}

#[tokio::test]
async fn only_a_partys_own_answer_to_this_request_counts() {
    let mut relayer =
        Relayer::start(Stub::new([Line::Tampered, Line::Of(3), Line::Share(1), Line::OtherRequest])).await;
    let request = request(|_| {});
    relayer.post(&request).await;
    relayer.work();
    while (1..=4).any(|party| party != 3 && relayer.parties.times_asked(party) < 3) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // They are asked again and again; between question and answer they are `asked`.
    while relayer.statuses(&request).await != ["invalid", "invalid", "answered", "invalid"] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(relayer.get(&request).await.status, 202, "two copies of one party's answer are one");
    let stored = relayer.store.shares(request.id(DOMAIN.verifying_contract)).await.unwrap();
    assert_eq!(stored.iter().map(|share| share.party).collect::<Vec<_>>(), [3]);
    relayer.parties.set(1, [Line::Share(1)]);
    relayer.parties.set(2, [Line::Share(1)]);
    let reply = relayer.until(&request, |reply| reply.status == 200).await;
    assert_eq!((relayer.authors(&request, &reply), reply.collecting()), (vec![1, 2, 3], true));
}

#[tokio::test]
async fn shares_of_different_epochs_are_not_counted_together() {
    let lines = [Line::Share(1), Line::Share(1), Line::Share(2), Line::Share(2)];
    let mut relayer = Relayer::start(Stub::new(lines)).await;
    let request = request(|_| {});
    relayer.post(&request).await;
    relayer.work();
    while relayer.statuses(&request).await != ["answered"; 4] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(relayer.get(&request).await.status, 202, "two and two");
    // The first one moves on.
    relayer.parties.set(1, [Line::Share(2)]);
    let reply = relayer.until(&request, |reply| reply.status == 200).await;
    let authors = relayer.authors(&request, &reply);
    assert_eq!(authors[..3], [1, 3, 4], "the group that is enough comes first");
    assert_eq!(authors.len(), 5, "the others' shares are shown too");
    // And so does the second.
    relayer.parties.set(2, [Line::Share(2)]);
    let reply = relayer.until(&request, |reply| !reply.collecting()).await;
    assert_eq!(relayer.authors(&request, &reply)[..4], [1, 2, 3, 4]);
}

#[tokio::test]
async fn so_many_refusals_that_too_few_are_left_end_it_and_fewer_do_not() {
    let refuses = || Line::Refuse(RefusedReason::Permit, "Expired: the permit was valid until 5, it is 6");
    let few = Stub::new([refuses(), Line::Share(1), Line::Share(1), Line::Share(1)]);
    let mut relayer = Relayer::start(few).await;
    let asked = request(|_| {});
    relayer.post(&asked).await;
    relayer.work();
    let reply = relayer.until(&asked, |reply| reply.status == 200 && !reply.collecting()).await;
    assert_eq!(relayer.authors(&asked, &reply), [2, 3, 4], "nobody else can come");

    relayer.parties.set(2, [refuses()]);
    let asked = request(|r| r.permit.days = 11);
    relayer.post(&asked).await;
    let reply = loop {
        let reply = relayer.get(&asked).await;
        if reply.status != 202 {
            break reply;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((reply.status, reply.body["status"].as_str(), reply.label()), (400, Some("failed"), "Expired"));
    assert!(reply.body["error"]["message"].as_str().unwrap().starts_with("2 parties refuse"));
    // It may be asked for again, and what was collected is not lost.
    relayer.parties.set(1, [Line::Share(1)]);
    let times = relayer.parties.times_asked(3);
    assert_eq!(relayer.post(&asked).await.status, 202);
    relayer.until(&asked, |reply| reply.status == 200).await;
    assert_eq!(relayer.parties.times_asked(3), times);
}

#[tokio::test]
async fn a_party_that_does_not_see_a_right_yet_is_asked_again_for_a_while() {
    let behind = Line::Refuse(RefusedReason::NotPermitted, "UserNotAllowed: not here");
    let mut relayer = Relayer::start(Stub::new([Line::Silent, Line::Share(1), Line::Share(1), behind])).await;
    let request = request(|_| {});
    relayer.post(&request).await;
    relayer.work_with(|rules| rules.grace = Duration::from_secs(3_600));
    while relayer.parties.times_asked(4) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    relayer.parties.set(4, [Line::Share(1)]);
    let reply = relayer.until(&request, |reply| reply.status == 200).await;
    assert_eq!(relayer.authors(&request, &reply), [2, 3, 4]);
}

#[tokio::test]
async fn what_was_collected_survives_a_kill_before_and_after_there_is_enough() {
    let lines = [Line::Share(1), Line::Share(1), Line::NotYet, Line::Silent];
    let relayer = Relayer::start(Stub::new(lines)).await;
    let request = request(|_| {});
    relayer.post(&request).await;
    let mut relayer = relayer.killed().await;
    assert_eq!(relayer.get(&request).await.status, 202, "recorded and not begun");
    relayer.work();
    while relayer.parties.times_asked(3) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut relayer = relayer.killed().await;
    relayer.parties.set(3, [Line::Share(1)]);
    relayer.work();
    let before = relayer.until(&request, |reply| reply.status == 200).await;
    assert_eq!(relayer.parties.times_asked(1), 1, "its share was stored");
    let mut relayer = relayer.killed().await;
    let after = relayer.get(&request).await;
    assert_eq!((after.shares(), after.collecting()), (before.shares(), true));
    relayer.parties.set(4, [Line::Share(1)]);
    relayer.work();
    let last = relayer.until(&request, |reply| !reply.collecting()).await;
    assert_eq!(relayer.authors(&request, &last), [1, 2, 3, 4]);
    let relayer = relayer.killed().await;
    assert_eq!(relayer.get(&request).await.shares(), last.shares());
}

#[tokio::test]
async fn a_collection_ends_when_its_time_is_over_and_goes_on_when_it_is_asked_for_again() {
    let mut relayer = Relayer::start(Stub::new([Line::Silent, Line::Share(1), Line::Share(1), Line::Share(1)])).await;
    let request = request(|_| {});
    relayer.post(&request).await;
    relayer.work_with(|rules| rules.collect = Duration::ZERO);
    let reply = relayer.until(&request, |reply| reply.status == 200 && !reply.collecting()).await;
    assert_eq!((reply.shares().len(), reply.retry_after), (3, None));
    let mut relayer = relayer.killed().await;
    relayer.parties.set(1, [Line::Share(1)]);
    assert_eq!(relayer.post(&request).await.status, 202);
    let reply = relayer.get(&request).await;
    assert_eq!((reply.shares().len(), reply.collecting()), (3, true), "what is there is shown meanwhile");
    relayer.work();
    let reply = relayer.until(&request, |reply| !reply.collecting()).await;
    assert_eq!(relayer.authors(&request, &reply), [1, 2, 3, 4]);
    assert_eq!(relayer.parties.times_asked(2), 1);
    // Now it is complete: asking again is free.
    relayer.post(&request).await;
    assert!(!relayer.get(&request).await.collecting());
}

#[tokio::test]
async fn too_many_are_pushed_back_but_not_those_that_only_collect_the_rest() {
    let lines = [Line::Silent, Line::Share(1), Line::Share(1), Line::Share(1)];
    let dir = tempfile::tempdir().unwrap();
    let limits = |api: &mut kms_relayer::http::Api| (api.open_pulls, api.open_pulls_per_client) = (3, 2);
    let mut relayer = Relayer::over(dir, Stub::new(lines), limits).await;
    let nth = |n: u64| request(|r| r.permit.days = n);
    assert_eq!((relayer.post(&nth(1)).await.status, relayer.post(&nth(2)).await.status), (202, 202));
    let mine = relayer.post(&nth(3)).await;
    assert_eq!((mine.status, mine.label(), mine.retry_after.is_some()), (429, "too_many_pulls", true));
    assert_eq!(relayer.post(&nth(1)).await.status, 202, "a known one is not a new one");
    relayer.work();
    relayer.until(&nth(1), |reply| reply.status == 200).await;
    relayer.until(&nth(2), |reply| reply.status == 200).await;
    assert_eq!(relayer.post(&nth(3)).await.status, 202);
    relayer.until(&nth(3), |reply| reply.status == 200).await;
    let full = relayer.post(&nth(4)).await;
    assert_eq!((full.status, full.label()), (503, "overloaded"), "collecting is work too");
    relayer.api.draining.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(relayer.post(&nth(1)).await.status, 503);
}

#[tokio::test]
async fn shares_are_forgotten_after_a_while_or_when_there_are_too_many_and_a_later_post_starts_anew() {
    let mut relayer = Relayer::start(Stub::honest()).await;
    let nth = |n: u64| request(|r| r.permit.days = n);
    relayer.work();
    for n in 1..=3 {
        relayer.post(&nth(n)).await;
        relayer.until(&nth(n), |reply| reply.status == 200 && !reply.collecting()).await;
    }
    let store = &relayer.store;
    assert_eq!(store.prune_users(0, 10, 100).await.unwrap(), 0, "young and few");
    assert_eq!(store.prune_pulls(i64::MAX, 100).await.unwrap(), 0, "of another kind");
    assert!(store.prune_users(0, 1, 100).await.unwrap() >= 2, "the newest stays, unless two ended in one millisecond");
    assert_eq!(relayer.get(&nth(1)).await.status, 404);
    assert!(store.shares(nth(1).id(DOMAIN.verifying_contract)).await.unwrap().is_empty());
    store.prune_users(now_ms() + 1, 10, 100).await.unwrap();
    assert_eq!(relayer.get(&nth(3)).await.status, 404);
    let asked = relayer.parties.times_asked(1);
    assert_eq!(relayer.post(&nth(3)).await.status, 202);
    relayer.until(&nth(3), |reply| reply.status == 200).await;
    assert_eq!(relayer.parties.times_asked(1), asked + 1);
}

#[tokio::test]
async fn a_user_decryption_that_nobody_answers_in_time_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let relayer = Relayer::over(dir, Stub::new([const { Line::Silent }; 4]), |api| api.pull_timeout_s = 0).await;
    let request = request(|_| {});
    relayer.post(&request).await;
    assert_eq!(relayer.store.expire_pulls().await.unwrap(), 1);
    let reply = relayer.get(&request).await;
    assert_eq!((reply.status, reply.label()), (504, "timeout"));
    // Another relayer of the same database sees the same.
    let other = open(relayer.path(), "other").await;
    let job = other.job(request.id(DOMAIN.verifying_contract)).await.unwrap().unwrap();
    assert_eq!(job.state, State::Expired);
}

#[tokio::test]
async fn a_party_stands_in_two_groups_at_most() {
    let relayer = Relayer::start(Stub::honest()).await;
    let request = request(|_| {});
    relayer.post(&request).await;
    let id = request.id(DOMAIN.verifying_contract);
    relayer.store.shift(id, State::Final, State::Dispatched, "", "").await.unwrap();
    for epoch in 1..=5 {
        let response = relayer.parties.answer(1, &request, epoch);
        let share = kms_relayer::store::NewShare {
            group: B256::repeat_byte(epoch),
            share: response.share,
            signature: response.signature,
            extra_data: Bytes::new(),
        };
        let report = kms_relayer::store::Report {
            party: 1,
            status: kms_relayer::store::PartyStatus::Answered,
            detail: String::new(),
            retry_at: 0,
            answer: Some(share.into()),
        };
        assert_eq!(relayer.store.record(id, &[report], 3).await.unwrap().agreeing, 1);
        let stored = relayer.store.shares(id).await.unwrap();
        assert!(stored.len() <= 2 && stored.iter().any(|s| s.share.group == B256::repeat_byte(epoch)));
    }
}
