//! Public files that appear whole or not at all.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::keys::KeygenSignature;

/// Replaces a public file at once; everybody may read it.
pub(crate) fn write_public(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let everybody = std::fs::Permissions::from_mode(0o644);
    let mut file = tempfile::Builder::new().permissions(everybody).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

/// Writes a party's signatures for the registration of a key: `keygen-signature.json` for the manifest's first chain,
/// `keygen-signature-<chain id>.json` for the others.
pub(crate) fn write_signatures(folder: &Path, signatures: &[KeygenSignature]) -> io::Result<()> {
    for (i, signature) in signatures.iter().enumerate() {
        let name = match i {
            0 => "keygen-signature.json".to_owned(),
            _ => format!("keygen-signature-{}.json", signature.chain_id),
        };
        write_public(&folder.join(name), &serde_json::to_vec_pretty(signature)?)?;
    }
    Ok(())
}
