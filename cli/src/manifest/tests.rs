use super::*;
use kms_chain::context::ContextError;
use kms_chain::manifest::ManifestError;
use kms_encoding::FloodBoundError;

/// Runs `kms manifest new` for a committee of `n`; also says whether a manifest was written.
fn new(n: u8, t: u32, threshold: Option<u32>) -> (Result<String>, Option<Manifest>) {
    let dir = tempfile::tempdir().unwrap();
    let cards = (1..=n).map(|i| {
        let card = Card {
            version: 1,
            name: format!("party {i}"),
            signer: Address::repeat_byte(i),
            tls_root: rcgen::generate_simple_self_signed([format!("party-{i}")]).unwrap().cert.pem(),
            peer_url: "https://127.0.0.1:1".into(),
            client_url: "https://127.0.0.1:2".into(),
        };
        let path = dir.path().join(format!("card-{i}.json"));
        fs::write(&path, serde_json::to_vec(&card).unwrap()).unwrap();
        path
    });
    let out = dir.path().join("manifest.json");
    let command = Command::New { cards: cards.collect(), t, threshold, salt: None, out: out.clone() };
    let said = run(&command, false);
    (said, out.exists().then(|| read(&out).unwrap()))
}

fn refusal(n: u8, t: u32, threshold: Option<u32>) -> ManifestError {
    let (said, written) = new(n, t, threshold);
    assert_eq!(written, None, "{n}/{t}");
    said.unwrap_err().downcast().unwrap()
}

#[test]
fn a_committee_that_can_decrypt_gets_a_manifest() {
    let (said, written) = new(4, 1, None);
    assert!(said.unwrap().contains("4 parties, 1 may be malicious, 3 sign"));
    assert_eq!(written.unwrap().committee.threshold, 3);
    assert_eq!(new(7, 2, Some(4)).1.unwrap().committee.threshold, 4);
}

/// On chain all of these could be contexts: whoever deploys with them has a gateway that nobody can answer.
#[test]
fn a_committee_that_cannot_decrypt_gets_none() {
    for (n, t) in [(1, 0), (4, 0), (32, 1)] {
        let error = refusal(n, t, None);
        assert!(matches!(error, ManifestError::Flooding(FloodBoundError::Committee { .. })), "{n}/{t}: {error}");
    }
    let error = refusal(16, 5, None);
    assert!(matches!(error, ManifestError::Flooding(FloodBoundError::TooManySets { sets: 4368, .. })), "{error}");
}

#[test]
fn a_huge_t_is_a_refusal_and_no_overflow() {
    for t in [2, 1 << 30, (1 << 31) - 1, 1 << 31, u32::MAX] {
        let said = new(4, t, None).0.unwrap_err();
        assert!(matches!(said.downcast_ref(), Some(ContextError::TooManyFaults { n: 4, .. })), "{t}: {said}");
        assert!(matches!(refusal(4, t, Some(3)), ManifestError::Context(ContextError::TooManyFaults { .. })), "{t}");
    }
}
