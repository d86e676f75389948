//! The file by which a party receives its shares (`kms_encoding::share`).

use arbitrary::Arbitrary;
use kms_encoding::share::{MAGIC, MAX_BYTES, VERSION};
use kms_encoding::{ParamsId, SecretKeyKind, ShareFile, ShareFileError};
use sha2::{Digest, Sha256};

use crate::budget::{FACTOR, bounded};

/// Any bytes, as they are and with the right checksum in the end.
pub fn check(data: &[u8]) {
    let _ = read(data);
    if let Some((content, _)) = data.split_last_chunk::<32>() {
        let _ = read(&sealed(content.to_vec()));
    }
}

fn sealed(mut content: Vec<u8>) -> Vec<u8> {
    let hash = Sha256::digest(&content);
    content.extend_from_slice(&hash);
    content
}

fn read(bytes: &[u8]) -> Result<(), ShareFileError> {
    let file = bounded(bytes.len(), FACTOR, || ShareFile::from_bytes(bytes))?;
    assert!(bytes.len() <= MAX_BYTES);
    assert_eq!(file.check(), Ok(()));
    assert!(file.n > 3 * file.t && (1..=file.n).contains(&file.index));
    assert_eq!(file.to_bytes().expect("what was read is writable")[..], *bytes, "one encoding per file");
    Ok(())
}

/// A file part by part: what a mutation of bytes hardly finds, because lengths and kinds have to fit each other.
#[derive(Arbitrary, Debug)]
pub struct Plan {
    production: bool,
    committee: Committee,
    ids: [u8; 3],
    vectors: Vec<Vector>,
    fault: Option<Fault>,
    fill: u8,
}

#[derive(Arbitrary, Debug)]
struct Committee {
    n: u8,
    t: u8,
    index: u8,
    wild: bool,
}

#[derive(Arbitrary, Debug)]
struct Vector {
    compression: bool,
    /// Elements more or fewer than the parameter set wants.
    off: i8,
}

#[derive(Arbitrary, Debug)]
enum Fault {
    Degree(u8),
    Kind(u8),
    VectorCount(u8),
    VectorLength(u32),
    Cut(u16),
    Trailing(u8),
}

/// Builds the file of a plan; without a fault, with the vectors of its parameter set, it has to be accepted.
pub fn check_built(plan: &Plan) {
    let c = &plan.committee;
    let (n, t, index) = if c.wild {
        (u16::from(c.n), u16::from(c.t), u16::from(c.index))
    } else {
        let n = 4 + u16::from(c.n) % 10;
        (n, 1 + u16::from(c.t) % ((n - 1) / 3), 1 + u16::from(c.index) % n)
    };
    let params = if plan.production { ParamsId::Production } else { ParamsId::InsecureTest };
    let degree = kms_encoding::share::ring_degree(n);
    let mut bytes = [&MAGIC[..], &[VERSION, params.to_u8()]].concat();
    plan.ids.iter().for_each(|id| bytes.extend_from_slice(&[*id; 32]));
    [n, t, index].iter().for_each(|number| bytes.extend_from_slice(&number.to_be_bytes()));
    bytes.push(if let Some(Fault::Degree(degree)) = plan.fault { degree } else { degree });
    let vectors = &plan.vectors[..plan.vectors.len().min(3)];
    bytes.push(if let Some(Fault::VectorCount(count)) = plan.fault { count } else { vectors.len() as u8 });
    for vector in vectors {
        let kind = if vector.compression { SecretKeyKind::SquashedCompression } else { SecretKeyKind::Squashing };
        let length = params.dimension(kind).saturating_add_signed(vector.off.into());
        bytes.push(if let Some(Fault::Kind(kind)) = plan.fault { kind } else { kind.to_u8() });
        let stated = if let Some(Fault::VectorLength(stated)) = plan.fault { stated } else { length as u32 };
        bytes.extend_from_slice(&stated.to_be_bytes());
        bytes.resize(bytes.len() + 16 * length * usize::from(degree), plan.fill);
    }
    match plan.fault {
        Some(Fault::Cut(cut)) => bytes.truncate(bytes.len().saturating_sub(cut.into())),
        Some(Fault::Trailing(more)) => bytes.resize(bytes.len() + usize::from(more), plan.fill),
        _ => {}
    }
    let result = read(&sealed(bytes));
    let complete = match vectors {
        [a] => !a.compression && a.off == 0,
        [a, b] => !a.compression && b.compression && a.off == 0 && b.off == 0,
        _ => false,
    };
    if plan.fault.is_none() && !c.wild {
        assert_eq!(result.is_ok(), complete, "{result:?}");
    }
}
