use alloy::sol_types::SolEvent;
use alloy_primitives::{FixedBytes, Log as RawLog};
use kms_chain::{abi::IDecryptionGateway, ids};
use kms_encoding::FheType;

use super::*;

const CHAIN: u64 = 31337;

fn contracts() -> Contracts {
    let address = Address::repeat_byte;
    Contracts {
        access_control: address(1),
        fhe_executor: address(2),
        input_verifier: address(3),
        ciphertext_registry: address(4),
        kms_verifier: address(5),
        decryption_gateway: address(6),
        guard_lens: address(7),
        key_management: address(8),
    }
}

fn log(address: Address, event: &impl SolEvent) -> Log {
    Log { inner: RawLog { address, data: event.encode_log_data() }, log_index: Some(3), ..Log::default() }
}

fn handle(salt: u8, fhe_type: FheType) -> B256 {
    ids::input_handle(B256::repeat_byte(salt), Address::ZERO, CHAIN, 0, fhe_type).raw()
}

fn executor(event: &impl SolEvent) -> Result<Option<Event>, String> {
    read_log(&contracts(), CHAIN, &log(contracts().fhe_executor, event))
}

fn operation(kind: Kind, result: B256, operands: &[B256], plain: Option<u64>) -> Result<Option<Event>, String> {
    Ok(Some(Event::Operation(Operation { result, kind, operands: operands.to_vec(), plain: plain.map(U256::from) })))
}

#[test]
fn every_event_of_the_executor_is_read() {
    let (a, b, result) = (handle(1, FheType::Uint8), handle(2, FheType::Uint8), handle(3, FheType::Uint8));
    let flag = handle(4, FheType::Bool);
    let caller = Address::repeat_byte(9);
    let word = |value: u64| B256::from(U256::from(value));
    let (encrypted, scalar) = (FixedBytes([0]), FixedBytes([1]));

    let add = FheExecutor::FheAdd { caller, lhs: a, rhs: b, scalarByte: encrypted, result };
    assert_eq!(executor(&add), operation(Kind::Add, result, &[a, b], None));
    let sub = FheExecutor::FheSub { caller, lhs: a, rhs: word(7), scalarByte: scalar, result };
    assert_eq!(executor(&sub), operation(Kind::Sub, result, &[a], Some(7)));
    let eq = FheExecutor::FheEq { caller, lhs: a, rhs: b, scalarByte: encrypted, result: flag };
    assert_eq!(executor(&eq), operation(Kind::Eq, flag, &[a, b], None));
    let ge = FheExecutor::FheGe { caller, lhs: a, rhs: word(1), scalarByte: scalar, result: flag };
    assert_eq!(executor(&ge), operation(Kind::Ge, flag, &[a], Some(1)));
    let trivial = FheExecutor::TrivialEncrypt { caller, pt: U256::from(5), toType: 2, result };
    assert_eq!(executor(&trivial), operation(Kind::Trivial, result, &[], Some(5)));
    let cast = FheExecutor::Cast { caller, ct: flag, toType: 2, result };
    assert_eq!(executor(&cast), operation(Kind::Cast, result, &[flag], None));
    let select = FheExecutor::FheIfThenElse { caller, control: flag, ifTrue: a, ifFalse: b, result };
    assert_eq!(executor(&select), operation(Kind::Select, result, &[flag, a, b], None));
    let input = FheExecutor::VerifyInput {
        caller,
        inputHandle: a,
        user: caller,
        inputProof: Default::default(),
        inputType: 2,
        result: a,
    };
    assert_eq!(executor(&input), operation(Kind::Input, a, &[], None));
}

#[test]
fn requests_rights_and_commitments_are_read() {
    let contracts = contracts();
    let handles = vec![handle(1, FheType::Bool), handle(2, FheType::Uint64)];
    let read = |address, log_of: &dyn Fn(Address) -> Log| read_log(&contracts, CHAIN, &log_of(address));

    let allowed = AccessControl::AllowedForDecryption { caller: Address::ZERO, handles: handles.clone() };
    let allowed = |address| log(address, &allowed);
    assert_eq!(read(contracts.access_control, &allowed), Ok(Some(Event::Wanted(handles.clone()))));
    assert_eq!(read(contracts.decryption_gateway, &allowed), Ok(None), "only the ACL may say this");
    assert_eq!(read(contracts.fhe_executor, &allowed), Ok(None));

    let lasting =
        AccessControl::Allowed { caller: Address::ZERO, account: Address::repeat_byte(8), handle: handles[1] };
    let lasting = |address| log(address, &lasting);
    let right = Event::Allowed { handle: handles[1], account: Address::repeat_byte(8) };
    assert_eq!(read(contracts.access_control, &lasting), Ok(Some(right)));
    assert_eq!(read(contracts.fhe_executor, &lasting), Ok(None), "only the ACL may say this");

    let request = IDecryptionGateway::Request {
        requester: Address::ZERO,
        nonce: 1,
        handles: handles.clone(),
        selector: FixedBytes([0; 4]),
        gasLimit: 0,
        finality: 0,
        deadline: 0,
        contextId: B256::ZERO,
    };
    let requested = DecryptionGateway::DecryptionRequested {
        requestId: B256::ZERO,
        requester: Address::ZERO,
        request,
        fee: U256::ZERO,
    };
    let requested = |address| log(address, &requested);
    assert_eq!(read(contracts.decryption_gateway, &requested), Ok(Some(Event::Wanted(handles.clone()))));

    let (handle, key_id, digest) = (handles[0], B256::repeat_byte(1), B256::repeat_byte(2));
    let committed = CiphertextRegistry::CiphertextCommitted { handle, keyId: key_id, digest };
    let committed = |address| log(address, &committed);
    assert_eq!(read(contracts.ciphertext_registry, &committed), Ok(Some(Event::Committed { handle, key_id, digest })));
    assert_eq!(read(Address::repeat_byte(0xee), &committed), Ok(None));
}

#[test]
fn events_that_make_no_sense_are_put_aside() {
    let caller = Address::ZERO;
    let (a, result) = (handle(1, FheType::Uint8), handle(3, FheType::Uint8));
    let odd_scalar = FheExecutor::FheAdd { caller, lhs: a, rhs: a, scalarByte: FixedBytes([2]), result };
    assert!(executor(&odd_scalar).unwrap_err().contains("scalar byte 2"));
    let other_type = FheExecutor::TrivialEncrypt { caller, pt: U256::ZERO, toType: 5, result };
    assert!(executor(&other_type).unwrap_err().contains("type 5"));
    let mut foreign = result;
    foreign[29] ^= 1;
    let foreign = FheExecutor::Cast { caller, ct: a, toType: 2, result: foreign };
    assert!(executor(&foreign).unwrap_err().contains("chain"));
    let mut unsupported = result;
    unsupported[30] = 1;
    let unsupported = FheExecutor::Cast { caller, ct: a, toType: 1, result: unsupported };
    assert!(executor(&unsupported).unwrap_err().contains("unsupported type"));
    let swapped = FheExecutor::VerifyInput {
        caller,
        inputHandle: a,
        user: caller,
        inputProof: Default::default(),
        inputType: 2,
        result,
    };
    assert!(executor(&swapped).is_err());

    let good = FheExecutor::Cast { caller, ct: a, toType: 2, result };
    let mut truncated = log(contracts().fhe_executor, &good);
    truncated.inner.data.data = truncated.inner.data.data.slice(..40);
    assert!(read_log(&contracts(), CHAIN, &truncated).is_err());
}

#[test]
fn a_forged_result_is_found_out() {
    let contracts = contracts();
    let parent = B256::repeat_byte(0x77);
    let block = BlockRef { number: 9, hash: B256::repeat_byte(0x78), parent, timestamp: 1_700_000_000 };
    let (executor, acl) = (contracts.fhe_executor, contracts.access_control);
    let origin = Origin { chain_id: CHAIN, executor, acl, parent, timestamp: block.timestamp };
    let (victim, other) = (handle(1, FheType::Uint64), handle(2, FheType::Uint64));
    let arguments = [victim, other, B256::ZERO];
    let hash = operation_hash(FheExecutor::fheAddCall::SELECTOR, &arguments);
    let result = B256::from(computed_handle(&origin, hash, FheType::Uint64));
    let honest = Operation { result, kind: Kind::Add, operands: vec![victim, other], plain: None };
    assert_eq!(check_result(&contracts, CHAIN, &block, &honest), Ok(()));

    // The same handle for another operation, other operands, or a scalar instead of a handle.
    let forged = [
        Operation { kind: Kind::Sub, ..honest.clone() },
        Operation { operands: vec![other, victim], ..honest.clone() },
        Operation { operands: vec![victim], plain: Some(U256::ZERO), ..honest.clone() },
        Operation { kind: Kind::Cast, operands: vec![victim], ..honest.clone() },
        Operation { kind: Kind::Trivial, operands: Vec::new(), plain: Some(U256::from(1)), ..honest.clone() },
    ];
    for operation in forged {
        assert!(check_result(&contracts, CHAIN, &block, &operation).unwrap_err().contains("forged"));
    }
    let later = BlockRef { timestamp: block.timestamp + 1, ..block };
    assert!(check_result(&contracts, CHAIN, &later, &honest).is_err(), "of another block");
}
