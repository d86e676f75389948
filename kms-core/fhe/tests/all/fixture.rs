//! One key for all tests.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kms_encoding::{FheType, LweBlocks, ParamsId, Plaintext, SecretKeyKind, Word};
use kms_fhe::inputs::InputMetadata;
use kms_fhe::keygen::{self, SecretBits};
use kms_fhe::{Ciphertext, EvalKeys, KeyInfo, PublicKeys, Squashed, bundle, crs};

pub(crate) const PARAMS: ParamsId = ParamsId::InsecureTest;
pub(crate) const METADATA: InputMetadata =
    InputMetadata { chain_id: [1; 32], acl: [2; 20], contract: [3; 20], user: [4; 20] };

pub(crate) struct Fixture {
    pub(crate) folder: PathBuf,
    pub(crate) info: KeyInfo,
    pub(crate) keys: PublicKeys,
    pub(crate) eval: EvalKeys,
    pub(crate) secrets: SecretBits,
}

/// Key, CRS and bundle; the CRS stays in cargo's folder for tests between runs.
pub(crate) fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = tmp.join(format!("bundle-{}", std::process::id()));
        let (public, secrets) = keygen::generate(PARAMS, true);
        let crs = crs::load_or_make_insecure(PARAMS, Some(tmp)).unwrap();
        let info = bundle::write(&folder, &public, &crs, [7; 32]).unwrap();
        let keys = PublicKeys::load(&folder).unwrap();
        let eval = EvalKeys::load_with_lists(&folder).unwrap();
        Fixture { folder, info, keys, eval, secrets }
    })
}

impl Fixture {
    pub(crate) fn trivial(&self, ty: FheType, value: u128) -> Ciphertext {
        self.eval.trivial(Plaintext::truncated(ty, Word::from(value))).unwrap()
    }

    pub(crate) fn squashed(&self, ty: FheType, value: u128) -> Squashed {
        // Sums and selections are real ciphertexts only if an operand is; a cast input is enough here.
        self.eval.squash(&self.trivial(ty, value)).unwrap()
    }

    pub(crate) fn decrypt(&self, ty: FheType, blocks: &LweBlocks) -> Plaintext {
        self.assert_small_noise(blocks);
        self.secrets.insecure_test_decrypt(ty, blocks).unwrap().unwrap()
    }

    /// Squashes, writes an object, reads it, decrypts: what happens to a ciphertext between coprocessor and parties.
    pub(crate) fn open(&self, value: &Ciphertext) -> Word {
        let ty = value.ty();
        let handle = handle(ty, 0);
        let squashed = self.eval.squash(value).unwrap();
        let bytes = kms_fhe::object::encode_integer(PARAMS, &self.info.key_id(), &handle, &squashed).unwrap();
        let object = kms_fhe::Object::parse(&bytes, PARAMS, &self.info.key_id()).unwrap();
        self.decrypt(ty, &object.blocks(&handle).unwrap()).value()
    }

    /// The bound that the flooding relies on.
    fn assert_small_noise(&self, blocks: &LweBlocks) {
        let bits = self.secrets.bits(blocks.key()).unwrap();
        for (mask, body) in blocks.iter() {
            let dot = mask.iter().zip(bits).fold(0u128, |x, (a, s)| x.wrapping_add(a.wrapping_mul((*s).into())));
            let phase = body.wrapping_sub(dot);
            let noise = (phase << 5).cast_signed() >> 5;
            assert!(noise.unsigned_abs() < 1 << kms_encoding::rounding::NOISE_LOG2, "noise {noise}");
        }
    }
}

/// A handle of a type; only the type byte and the number matter here.
pub(crate) fn handle(ty: FheType, number: u8) -> [u8; 32] {
    let mut handle = [0x5a; 32];
    handle[0] = number;
    handle[30] = ty.to_u8();
    handle[31] = 0;
    handle
}

#[test]
fn the_two_secret_keys_have_the_dimensions_of_the_parameter_set() {
    let f = fixture();
    for kind in [SecretKeyKind::Squashing, SecretKeyKind::SquashedCompression] {
        let bits = f.secrets.bits(kind).unwrap();
        assert_eq!(bits.len(), PARAMS.dimension(kind));
        assert!(bits.iter().all(|b| *b < 2) && bits.contains(&0) && bits.contains(&1));
    }
}
