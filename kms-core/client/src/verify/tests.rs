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

/// The signature is good: only the check of the content can tell.
#[test]
fn signed_cleartexts_that_do_not_fit_the_handles_do_not_count() {
    let committee = TestCommittee::offline();
    let question = committee.question();
    let word = |value: U256| value.to_be_bytes::<32>();
    for words in [
        vec![word(U256::ONE << 64), word(U256::ONE)],
        vec![word(U256::ONE), word(U256::from(2))],
        vec![word(U256::ONE)],
        vec![word(U256::ONE); 3],
        vec![],
    ] {
        let given = committee.sign(1, &question, words.concat());
        let said = check(&committee, &question, 1, &given);
        assert!(matches!(said, Err(AnswerError::Cleartexts(_))), "{words:?}: {said:?}");
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

#[test]
fn a_pull_is_asked_for_the_epoch_that_it_names() {
    let committee = TestCommittee::offline();
    let context = committee.manifest.committee.context_id;
    let handles = committee.request().handles;
    let ask = |extra_data: ExtraData, epoch| {
        Question::public(&committee.manifest.committee, CHAIN, &handles, &extra_data.encode(), epoch)
    };
    let named = ExtraData::V2 { context, epoch: EPOCH };
    let question = ask(named, EPOCH).expect("question");
    assert_eq!((question.epoch(), &question.message(0).epoch_id[..]), (EPOCH, &EPOCH[..]));
    let given = committee.answer(3, &question, 1);
    assert_eq!(check(&committee, &question, 3, &given), Ok(()));
    for asked in [B256::ZERO, B256::repeat_byte(0xef)] {
        assert_eq!(ask(named, asked).unwrap_err(), QuestionError::Epoch { named: EPOCH, asked });
        assert_eq!(ask(ExtraData::V1 { context }, asked).expect("no epoch is named").epoch(), asked);
    }
    let request_id = committee.question().id();
    let bound = ExtraData::V3 { context, epoch: EPOCH, request_id };
    assert_eq!(ask(bound, EPOCH).unwrap_err(), QuestionError::BoundToRequest(request_id));
}

fn statement(committee: &TestCommittee, [arrived, late, wrong]: [u64; 3]) -> DecryptionReceipt {
    DecryptionReceipt {
        requestId: committee.question().id(),
        contextId: committee.manifest.committee.context_id,
        epochId: EPOCH,
        keyId: B256::repeat_byte(0x77),
        arrived: U256::from(arrived),
        late: U256::from(late),
        wrong: U256::from(wrong),
        mpcMicros: 5,
    }
}

/// What [`receipt`] says to `statement`, rightly signed by party 2.
fn signed(committee: &TestCommittee, statement: &DecryptionReceipt) -> Result<DecryptionReceipt, AnswerError> {
    let Manifest { committee: members, decryption_domain, .. } = &committee.manifest;
    receipt(committee.question().id(), members, decryption_domain, 2, &committee.receipt(2, statement))
}

#[test]
fn a_receipt_names_each_party_of_this_committee_once() {
    let committee = TestCommittee::offline();
    for bitmaps in [[0b1111, 0, 0], [0b0111, 0b1000, 0], [0b0111, 0, 0b1000], [0b0011, 0b0100, 0b1000]] {
        let good = statement(&committee, bitmaps);
        assert_eq!(signed(&committee, &good).as_ref(), Ok(&good));
    }
    for bitmaps in [
        [0b1111, 0b0001, 0],      // arrived and late
        [0b1111, 0, 0b0001],      // arrived and wrong
        [0b0111, 0b1000, 0b1000], // late and wrong
        [0b0111, 0, 0],           // party 4 nowhere
        [0, 0, 0],
        [0b11111, 0, 0], // party 5 of four
        [0b1111, 1 << 40, 0],
    ] {
        let bad = signed(&committee, &statement(&committee, bitmaps));
        assert!(matches!(bad, Err(AnswerError::Bitmaps { n: 4, .. })), "{bitmaps:?}: {bad:?}");
    }
    let mut foreign = statement(&committee, [0b1111, 0, 0]);
    foreign.contextId = B256::repeat_byte(9);
    assert_eq!(signed(&committee, &foreign), Err(AnswerError::Context(foreign.contextId)));
    let mut other = statement(&committee, [0b1111, 0, 0]);
    other.requestId = B256::repeat_byte(9);
    assert_eq!(signed(&committee, &other), Err(AnswerError::RequestId(other.requestId)));
}

#[test]
fn an_altered_receipt_is_not_its_partys() {
    let committee = TestCommittee::offline();
    let Manifest { committee: members, decryption_domain, .. } = &committee.manifest;
    let id = committee.question().id();
    let good = committee.receipt(2, &statement(&committee, [0b0111, 0b1000, 0]));
    let check = |index, given: &node::Receipt| receipt(id, members, decryption_domain, index, given).map(|_| ());
    assert_eq!(check(2, &good), Ok(()));
    assert!(matches!(check(1, &good), Err(AnswerError::Signer { index: 1, .. })));
    assert_eq!(check(5, &good), Err(AnswerError::NoParty(5)));
    type Change = fn(&mut node::Receipt);
    let changes: [Change; 4] = [
        |r| r.epoch_id[0] ^= 1,
        |r| r.key_id[0] ^= 1,
        |r| r.mpc_micros += 1,
        // Still each party once: only the signature tells.
        |r| (r.arrived, r.late) = (r.late.clone(), r.arrived.clone()),
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut altered = good.clone();
        change(&mut altered);
        assert!(matches!(check(2, &altered), Err(AnswerError::Signer { index: 2, .. })), "change {i}");
    }
}

#[test]
fn a_sealed_share_counts_for_its_party_and_its_request_only() {
    let committee = TestCommittee::offline();
    let scene = committee.scene();
    let Manifest { committee, decryption_domain: domain, .. } = &committee.manifest;
    let check = |index, response| user_answer(&scene.request, committee, domain, index, response);
    let good = check(2, scene.response(2)).expect("a good share");
    assert_eq!((good.index, good.group.epoch, &good.group.digests), (2, scene.epoch, &scene.digests));
    // A wrong share looks like a right one.
    assert_eq!(check(2, scene.wrong(2, 1)).expect("signed").group, good.group);

    assert!(matches!(check(1, scene.response(2)), Err(AnswerError::Signer { index: 1, .. })));
    assert_eq!(check(5, scene.response(2)), Err(AnswerError::NoParty(5)));
    let mut changed = scene.response(2);
    changed.share = [&changed.share[..], &[0]].concat().into();
    assert!(matches!(check(2, changed), Err(AnswerError::Signer { index: 2, .. })));
    let bare = UserResponse { extra_data: vec![0].into(), ..scene.response(2) };
    assert!(matches!(check(2, bare), Err(AnswerError::Share(Rejected::ExtraData(_)))));

    let labelled = |response| match check(2, response) {
        Err(AnswerError::Envelope(fault)) => fault.label(),
        Err(AnswerError::Elsewhere(foreign)) => foreign.label(),
        other => panic!("{other:?}"),
    };
    assert_eq!(labelled(scene.with_header(2, |h| h.party = 3)), "Index");
    assert_eq!(labelled(scene.with_header(2, |h| h.context_id[0] ^= 1)), "ExtraData");
    assert_eq!(labelled(scene.with_header(2, |h| h.permit_hash[0] ^= 1)), "Permit");
    assert_eq!(labelled(scene.with_header(2, |h| h.user[0] ^= 1)), "Permit");
    assert_eq!(labelled(scene.with_header(2, |h| h.digests.truncate(1))), "Digests");
    assert_eq!(labelled(scene.signed(2, b"KMSE".to_vec())), "Truncated");
    let mut envelope = scene.response(2).share.to_vec();
    envelope[5] = Kem::MlKem512.to_u8();
    assert_eq!(labelled(scene.signed(2, envelope)), "OtherKem");
}
