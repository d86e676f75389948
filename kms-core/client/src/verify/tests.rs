use super::*;
use crate::testing::{CHAIN, EPOCH, GATEWAY, TestCommittee};
use kms_chain::manifest::Manifest;
use kms_proto::node::Answer;

fn check(committee: &TestCommittee, question: &Question, index: u32, given: &Answer) -> Result<(), AnswerError> {
    let Manifest { committee, decryption_domain, .. } = &committee.manifest;
    answer(question, committee, decryption_domain, index, given).map(|_| ())
}

#[test]
fn a_good_answer_counts_for_its_party_only() {
    let committee = TestCommittee::offline();
    let question = committee.question();
    let given = committee.answer(2, &question, 42);
    let verified = answer(&question, &committee.manifest.committee, &committee.manifest.decryption_domain, 2, &given)
        .expect("a good answer");
    assert_eq!(verified.values(), [U256::from(42), U256::ONE]);
    assert!(matches!(check(&committee, &question, 1, &given), Err(AnswerError::Signer { index: 1, .. })));
    assert_eq!(check(&committee, &question, 5, &given), Err(AnswerError::NoParty(5)));
    assert_eq!(check(&committee, &question, 0, &given), Err(AnswerError::NoParty(0)));
}

#[test]
fn every_altered_field_is_caught() {
    let committee = TestCommittee::offline();
    let question = committee.question();
    let good = committee.answer(1, &question, 42);
    type Change = fn(&mut Answer);
    let changes: [(&str, Change); 10] = [
        ("request id", |a| a.request_id[0] ^= 1),
        ("cleartext", |a| a.cleartexts[31] ^= 1),
        ("cleartext out of its type", |a| a.cleartexts[0] = 1),
        ("one cleartext less", |a| a.cleartexts.truncate(32)),
        ("one cleartext more", |a| a.cleartexts.extend([0; 32])),
        ("extra data of another epoch", |a| a.extra_data[40] ^= 1),
        ("no extra data", |a| a.extra_data.clear()),
        ("signature", |a| a.signature[40] ^= 1),
        ("v 0", |a| a.signature[64] -= 27),
        ("signer", |a| a.signer[0] ^= 1),
    ];
    assert_eq!(check(&committee, &question, 1, &good), Ok(()));
    for (name, change) in changes {
        let mut altered = good.clone();
        change(&mut altered);
        assert!(check(&committee, &question, 1, &altered).is_err(), "{name}");
    }
}

#[test]
fn an_answer_to_another_request_does_not_count() {
    let committee = TestCommittee::offline();
    let question = committee.question();
    let mut request = committee.request();
    request.nonce += 1;
    let other = Question::on_chain(&committee.manifest.committee, CHAIN, GATEWAY, &request, EPOCH).expect("question");
    let given = committee.answer(1, &other, 42);
    assert!(matches!(check(&committee, &question, 1, &given), Err(AnswerError::RequestId(_))));
}

#[test]
fn questions_to_another_committee_are_not_asked() {
    let committee = TestCommittee::offline();
    let mut request = committee.request();
    request.contextId = B256::repeat_byte(9);
    let asked = Question::on_chain(&committee.manifest.committee, CHAIN, GATEWAY, &request, EPOCH);
    assert_eq!(asked.unwrap_err(), QuestionError::Context(request.contextId));
    let extra_data = ExtraData::V1 { context: request.contextId }.encode();
    let asked = Question::public(&committee.manifest.committee, CHAIN, &request.handles, &extra_data, EPOCH);
    assert_eq!(asked.unwrap_err(), QuestionError::Context(request.contextId));
    let asked = Question::public(&committee.manifest.committee, CHAIN + 1, &request.handles, &[], EPOCH);
    assert!(matches!(asked.unwrap_err(), QuestionError::Handles(HandleError::ForeignChain(..))));
    let asked = Question::public(&committee.manifest.committee, CHAIN, &request.handles, &[4], EPOCH);
    assert!(matches!(asked.unwrap_err(), QuestionError::ExtraData(_)));
}

#[test]
fn pull_answers_keep_the_extra_data_asked_for() {
    let committee = TestCommittee::offline();
    let handles = committee.request().handles;
    for extra_data in
        [vec![], vec![0], ExtraData::V1 { context: committee.manifest.committee.context_id }.encode().to_vec()]
    {
        let question =
            Question::public(&committee.manifest.committee, CHAIN, &handles, &extra_data, EPOCH).expect("question");
        let given = committee.answer(3, &question, 1);
        assert_eq!(check(&committee, &question, 3, &given), Ok(()));
        assert_eq!(question.extra_data()[..], extra_data);
    }
}
