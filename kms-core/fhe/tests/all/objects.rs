//! Ciphertext objects, honest ones.

use kms_encoding::{FheType, SecretKeyKind, Word};
use kms_fhe::object::{self, EncodeListError};
use kms_fhe::{EvalError, Object, ObjectError, ObjectFormat};

use crate::fixture::{PARAMS, fixture, handle};

#[test]
fn an_integer_object_has_the_specified_layout() {
    let f = fixture();
    let key_id = f.info.key_id();
    let id = handle(FheType::Uint64, 1);
    let value = f.squashed(FheType::Uint64, 0xdead_beef_cafe_babe);
    let bytes = object::encode_integer(PARAMS, &key_id, &id, &value).unwrap();
    assert_eq!(bytes[..7], [b'K', b'M', b'S', b'C', 1, 1, 0xF1]);
    assert_eq!(bytes[7..39], key_id);
    assert_eq!(bytes[39..41], [0, 1]);
    assert_eq!(bytes[41..73], id);
    assert_eq!(u32::from_be_bytes(bytes[73..77].try_into().unwrap()) as usize, bytes.len() - 77);
    let object = Object::parse(&bytes, PARAMS, &key_id).unwrap();
    assert_eq!(object.format(), ObjectFormat::Integer);
    let blocks = object.blocks(&id).unwrap();
    assert_eq!(
        (blocks.key(), blocks.first(), blocks.len(), blocks.dimension()),
        (SecretKeyKind::Squashing, 0, 16, 256)
    );
    assert_eq!(f.decrypt(FheType::Uint64, &blocks).value(), Word::from(0xdead_beef_cafe_babe_u64));
    assert_eq!(object.blocks(&handle(FheType::Uint64, 2)), Err(ObjectError::HandleMissing));
}

#[test]
fn a_list_object_holds_every_type_at_consecutive_positions() {
    let f = fixture();
    let key_id = f.info.key_id();
    // More than one packed ciphertext: 167 blocks, 128 fit one.
    let values: Vec<_> = FheType::ALL.iter().map(|ty| (*ty, f.squashed(*ty, 0x1234_5678_9abc_def1))).collect();
    let entries: Vec<_> = values.iter().zip(0..).map(|((ty, v), n)| (handle(*ty, n), v)).collect();
    let bytes = object::encode_list(&f.eval, &key_id, &entries).unwrap();
    assert_eq!(bytes[..7], [b'K', b'M', b'S', b'C', 1, 2, 0xF1]);
    let object = Object::parse(&bytes, PARAMS, &key_id).unwrap();
    assert_eq!(object.handles().map(|(h, ty)| (*h, ty)).collect::<Vec<_>>(), {
        entries.iter().map(|(h, v)| (*h, v.ty())).collect::<Vec<_>>()
    });
    let mut position = 0;
    for (id, value) in &entries {
        let blocks = object.blocks(id).unwrap();
        assert_eq!((blocks.key(), blocks.dimension()), (SecretKeyKind::SquashedCompression, 384));
        assert_eq!((blocks.first(), blocks.len()), (position, value.ty().squashed_blocks()));
        position += blocks.len() as u32;
        let expect = kms_encoding::Plaintext::truncated(value.ty(), Word::from(0x1234_5678_9abc_def1_u64));
        assert_eq!(f.decrypt(value.ty(), &blocks), expect);
    }
}

#[test]
fn objects_that_nobody_could_read_are_not_written() {
    let f = fixture();
    let key_id = f.info.key_id();
    let value = f.squashed(FheType::Uint8, 1);
    let wrong = handle(FheType::Uint16, 0);
    let mut unknown = handle(FheType::Uint8, 0);
    unknown[30] = 1;
    let encode = |id| object::encode_integer(PARAMS, &key_id, id, &value).unwrap_err();
    assert_eq!(encode(&wrong), ObjectError::PayloadType { index: 0, ty: FheType::Uint16 });
    assert_eq!(encode(&unknown), ObjectError::HandleType { index: 0, ty: 1 });
    let empty = object::encode_list(&f.eval, &key_id, &[]).unwrap_err();
    assert_eq!(empty, EncodeListError::Object(ObjectError::HandleCount(0)));
}

#[test]
fn a_key_without_compression_says_so() {
    let f = fixture();
    let (public, _) = kms_fhe::keygen::generate(PARAMS, false);
    let folder = tempfile::tempdir().unwrap();
    let crs = kms_fhe::crs::load_or_make_insecure(PARAMS, f.folder.parent()).unwrap();
    let info = kms_fhe::bundle::write(folder.path(), &public, &crs, [7; 32]).unwrap();
    assert_eq!(info.files().count(), 3);
    let eval = kms_fhe::EvalKeys::load(folder.path()).unwrap();
    assert!(!eval.has_compression() && f.eval.has_compression());
    let value = f.squashed(FheType::Bool, 1);
    let refused = object::encode_list(&eval, &info.key_id(), &[(handle(FheType::Bool, 0), &value)]).unwrap_err();
    assert_eq!(refused, EncodeListError::Eval(EvalError::NoCompressionKey));
}
