use super::*;
use crate::{testing::TestCommittee, verify};
use kms_chain::eip712;
use proptest::prelude::*;

fn verified(committee: &TestCommittee, question: &Question, index: u32, value: u64) -> VerifiedAnswer {
    let given = committee.answer(index, question, value);
    verify::answer(question, &committee.manifest.committee, &committee.manifest.decryption_domain, index, &given)
        .expect("a good answer")
}

#[test]
fn three_of_four_that_agree_make_a_proof_and_the_fourth_is_named() {
    let committee = TestCommittee::offline();
    let question = committee.question();
    let mut quorum = Quorum::new(&question, &committee.manifest.committee);
    assert!(!quorum.add(verified(&committee, &question, 4, 42)));
    assert!(!quorum.add(verified(&committee, &question, 4, 42)), "a party counts once");
    assert!(!quorum.add(verified(&committee, &question, 2, 41)));
    assert!(!quorum.add(verified(&committee, &question, 1, 42)));
    assert_eq!((quorum.missing(), quorum.decryption(), quorum.dissenters()), (1, None, vec![]));
    assert!(quorum.add(verified(&committee, &question, 3, 42)));
    assert_eq!((quorum.missing(), quorum.dissenters()), (0, vec![2]));
    let decryption = quorum.decryption().expect("a quorum");
    assert_eq!(decryption.indices, [1, 3, 4]);
    assert_eq!(decryption.values(), [U256::from(42), U256::ONE]);
    let parsed = DecryptionProof::parse(&decryption.proof.encode().expect("encodes")).expect("parses");
    assert_eq!(parsed, decryption.proof);
    let domain = committee.manifest.decryption_domain.eip712();
    let digest = question.digest(&domain, &decryption.cleartexts).expect("digest");
    for (signature, signer) in parsed.signatures.iter().zip(&decryption.signers) {
        assert_eq!(eip712::recover(digest, signature), Ok(*signer));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_order_of_answers_does_not_matter(order in Just(vec![1u32, 2, 3, 4]).prop_shuffle(), liar in 1u32..=4) {
        let committee = TestCommittee::offline();
        let question = committee.question();
        let mut quorum = Quorum::new(&question, &committee.manifest.committee);
        for index in order {
            quorum.add(verified(&committee, &question, index, if index == liar { 7 } else { 42 }));
        }
        let decryption = quorum.decryption().expect("three agree");
        prop_assert!(!decryption.indices.contains(&liar));
        prop_assert_eq!(decryption.values()[0], U256::from(42));
        prop_assert_eq!(quorum.dissenters(), vec![liar]);
    }
}
