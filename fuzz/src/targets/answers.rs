//! Answers and receipts of parties, as clients and relayers check them (`kms_client`): honest ones count, and nothing
//! that differs from what its party signed.

use alloy_primitives::{Address, B256, FixedBytes, U256};
use arbitrary::Arbitrary;
use kms_chain::FheType;
use kms_chain::eip712::{DecryptionReceipt, receipt_digest, sign_digest};
use kms_chain::extra_data::ExtraData;
use kms_chain::handle::Handle;
use kms_chain::request::Request;
use kms_client::{Question, Quorum, verify};
use kms_proto::node;

use crate::budget::{FACTOR, bounded};
use crate::committee::{CHAIN, COMMITTEE, DOMAIN, KEYS, SIGNERS};

/// One question and what came back.
#[derive(Arbitrary, Debug)]
pub struct Story {
    types: Vec<u8>,
    pull: Option<Pull>,
    answers: Vec<Answer>,
    receipt: Option<Receipt>,
}

#[derive(Arbitrary, Debug)]
enum Pull {
    Empty,
    Zero,
    Context,
    Epoch,
    Other(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
struct Answer {
    party: u8,
    values: [u8; 2],
    spoil: Option<Spoil>,
}

#[derive(Arbitrary, Debug)]
struct Receipt {
    party: u8,
    bitmaps: [u8; 3],
    micros: u64,
    evidence: bool,
    spoil: Option<Spoil>,
}

#[derive(Arbitrary, Debug)]
enum Spoil {
    /// A bit of the field.
    Bit { field: u8, at: u16, bit: u8 },
    /// Other bytes in the field.
    Bytes { field: u8, bytes: Vec<u8> },
    /// The answer comes from another party.
    From(u8),
}

const EPOCH: B256 = B256::repeat_byte(0xee);

/// Plays it.
pub fn check(story: &Story) {
    let Some(question) = question(story) else { return };
    let mut quorum = Quorum::new(&question, &COMMITTEE);
    // The values that each party has said first.
    let mut said: [Option<Vec<u8>>; 4] = Default::default();
    for answer in story.answers.iter().take(8) {
        let Some((index, cleartexts)) = one(&question, answer, &mut quorum) else { continue };
        said[index].get_or_insert(cleartexts);
    }
    let most = said.iter().flatten().map(|a| said.iter().flatten().filter(|b| *b == a).count()).max().unwrap_or(0);
    assert_eq!(quorum.missing(), 3usize.saturating_sub(most));
    let decryption = quorum.decryption();
    assert_eq!(decryption.is_some(), most >= 3);
    if let Some(decryption) = decryption {
        let agreeing = said.iter().flatten().filter(|c| **c == decryption.cleartexts).count();
        assert!(agreeing >= 3 && decryption.signers.len() == 3 && decryption.proof.encode().is_ok());
        assert_eq!(quorum.dissenters().len(), said.iter().flatten().count() - agreeing);
    }
    if let Some(receipt) = &story.receipt {
        check_receipt(&question, receipt);
    }
}

fn question(story: &Story) -> Option<Question> {
    let handles: Vec<B256> = (0u8..)
        .zip(story.types.iter().take(5))
        .map(|(i, ty)| Handle::new([i; 21], 0xff, CHAIN, FheType::ALL[usize::from(*ty) % 8]).raw())
        .collect();
    let context = COMMITTEE.context_id;
    let asked = match &story.pull {
        None => {
            let request = Request {
                requester: Address::repeat_byte(0x33),
                nonce: 7,
                handles: handles.clone(),
                selector: FixedBytes([1, 2, 3, 4]),
                gasLimit: 100_000,
                finality: 0,
                deadline: 1_800_000_000,
                contextId: context,
            };
            Question::on_chain(&COMMITTEE, CHAIN, Address::repeat_byte(0x11), &request, EPOCH)
        }
        Some(pull) => {
            let extra = match pull {
                Pull::Empty => Vec::new(),
                Pull::Zero => vec![0],
                Pull::Context => ExtraData::V1 { context }.encode().to_vec(),
                Pull::Epoch => ExtraData::V2 { context, epoch: EPOCH }.encode().to_vec(),
                Pull::Other(bytes) => bytes.clone(),
            };
            bounded(extra.len() + 4096, FACTOR, || Question::public(&COMMITTEE, CHAIN, &handles, &extra, EPOCH))
        }
    };
    assert!(asked.is_ok() || handles.is_empty() || matches!(story.pull, Some(Pull::Other(_))));
    asked.ok()
}

/// One answer; slot and cleartexts of the party if it counts.
fn one(question: &Question, answer: &Answer, quorum: &mut Quorum) -> Option<(usize, Vec<u8>)> {
    let slot = usize::from(answer.party) % 4;
    let cleartexts: Vec<u8> = question
        .handles()
        .iter()
        .zip(answer.values.iter().cycle())
        .flat_map(|(handle, value)| {
            let value = if handle.fhe_type() == FheType::Bool { value & 1 } else { *value };
            U256::from(value).to_be_bytes::<32>()
        })
        .collect();
    let digest = question.digest(&DOMAIN.eip712(), &cleartexts).expect("its extra data parses");
    let honest = node::Answer {
        request_id: question.id().to_vec(),
        cleartexts: cleartexts.clone(),
        signature: sign_digest(&KEYS[slot], digest).to_vec(),
        extra_data: question.extra_data().to_vec(),
        signer: SIGNERS[slot].to_vec(),
    };
    let (mut given, mut from) = (honest.clone(), slot);
    if let Some(spoil) = &answer.spoil {
        let node::Answer { request_id, cleartexts, signature, extra_data, signer } = &mut given;
        from = spoiled(spoil, &mut [request_id, cleartexts, signature, extra_data, signer], slot);
    }
    // Empty and 0x00 are one statement.
    let current = |extra: &[u8]| extra.is_empty() || extra == [0];
    let same_meaning = current(&given.extra_data) && current(&honest.extra_data);
    let intact = from == slot && given == node::Answer { extra_data: given.extra_data.clone(), ..honest.clone() };
    let intact = intact && (same_meaning || given.extra_data == honest.extra_data);
    let index = from as u32 + 1;
    let checked = bounded(8192, FACTOR, || verify::answer(question, &COMMITTEE, &DOMAIN, index, &given));
    assert_eq!(checked.is_ok(), intact, "{:?}", checked.err());
    let checked = checked.ok()?;
    assert_eq!((&checked.cleartexts[..], &checked.extra_data), (&cleartexts[..], question.extra_data()));
    quorum.add(checked);
    Some((slot, cleartexts))
}

fn check_receipt(question: &Question, receipt: &Receipt) {
    let slot = usize::from(receipt.party) % 4;
    let [arrived, late, wrong] = receipt.bitmaps.map(|bits| U256::from(bits % 32));
    let statement = DecryptionReceipt {
        requestId: question.id(),
        contextId: COMMITTEE.context_id,
        epochId: EPOCH,
        keyId: B256::ZERO,
        arrived,
        late,
        wrong,
        mpcMicros: receipt.micros,
    };
    let evidence = node::Evidence { party: 2, detail: "wrong share".to_owned(), proved: false, frames: vec![] };
    let honest = node::Receipt {
        request_id: statement.requestId.to_vec(),
        context_id: statement.contextId.to_vec(),
        epoch_id: statement.epochId.to_vec(),
        key_id: statement.keyId.to_vec(),
        arrived: arrived.to_be_bytes_vec(),
        late: late.to_be_bytes_vec(),
        wrong: wrong.to_be_bytes_vec(),
        mpc_micros: receipt.micros,
        signature: sign_digest(&KEYS[slot], receipt_digest(&DOMAIN.eip712(), &statement)).to_vec(),
        evidence: if receipt.evidence { vec![evidence] } else { vec![] },
    };
    let (mut given, mut from) = (honest.clone(), slot);
    if let Some(spoil) = &receipt.spoil {
        let r = &mut given;
        let fields = &mut [
            &mut r.request_id,
            &mut r.context_id,
            &mut r.epoch_id,
            &mut r.key_id,
            &mut r.arrived,
            &mut r.late,
            &mut r.wrong,
            &mut r.signature,
        ];
        from = spoiled(spoil, fields, slot);
    }
    let partition = receipt.bitmaps.iter().map(|b| (b % 32).count_ones()).sum::<u32>() == 4
        && (arrived | late | wrong) == U256::from(15);
    let checked =
        bounded(8192, FACTOR, || verify::receipt(question.id(), &COMMITTEE, &DOMAIN, from as u32 + 1, &given));
    assert_eq!(checked.is_ok(), partition && from == slot && given == honest, "{:?}", checked.err());
    if let Ok(checked) = checked {
        assert_eq!(checked, statement);
    }
}

/// Spoils one field; the slot of the party that the message seems to be from.
fn spoiled(spoil: &Spoil, fields: &mut [&mut Vec<u8>], slot: usize) -> usize {
    match spoil {
        Spoil::Bit { field, at, bit } => {
            let field = &mut *fields[usize::from(*field) % fields.len()];
            if !field.is_empty() {
                let at = usize::from(*at) % field.len();
                field[at] ^= 1 << (bit % 8);
            }
            slot
        }
        Spoil::Bytes { field, bytes } => {
            *fields[usize::from(*field) % fields.len()] = bytes.clone();
            slot
        }
        Spoil::From(other) => usize::from(*other) % 4,
    }
}
