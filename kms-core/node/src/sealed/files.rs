//! Private files that appear whole or not at all.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::error::SealedError;

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> SealedError + '_ {
    |source| SealedError::Io { path: path.to_owned(), source }
}

/// Makes a folder that only this user can enter.
pub(super) fn make_private_dir(dir: &Path) -> Result<(), SealedError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io(dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(io(dir))
}

/// Writes a file under a temporary name, syncs it, gives it its name unless that is taken, and syncs the folder.
pub(super) fn write_new(path: &Path, parts: &[&[u8]], name: &str) -> Result<(), SealedError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    // The temporary file is readable by this user only.
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir).map_err(io(path))?;
    for part in parts {
        file.write_all(part).map_err(io(path))?;
    }
    file.as_file().sync_all().map_err(io(path))?;
    file.persist_noclobber(path).map_err(|e| match e.error.kind() {
        ErrorKind::AlreadyExists => SealedError::Exists(name.into()),
        _ => SealedError::Io { path: path.to_owned(), source: e.error },
    })?;
    sync_dir(dir)
}

/// Reads a file of at most `limit` bytes; none if it is not there.
pub(super) fn read_bounded(path: &Path, limit: u64, name: &str) -> Result<Option<Vec<u8>>, SealedError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SealedError::Io { path: path.to_owned(), source }),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(io(path))?;
    let length = bytes.len() as u64;
    if length > limit {
        return Err(SealedError::TooLarge { name: name.into(), bytes: length, limit });
    }
    Ok(Some(bytes))
}

/// Removes a file and makes that durable; whether it was there.
pub(super) fn remove_if_there(path: &Path) -> Result<bool, SealedError> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(path.parent().unwrap_or(Path::new("."))).map(|()| true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(source) => Err(SealedError::Io { path: path.to_owned(), source }),
    }
}

/// Names of the files with an extension, sorted.
pub(super) fn names(dir: &Path, extension: &str) -> Result<Vec<String>, SealedError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(io(dir))? {
        let path = entry.map_err(io(dir))?.path();
        if path.extension().is_some_and(|e| e == extension) {
            names.extend(path.file_stem().and_then(|s| s.to_str()).map(str::to_owned));
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn sync_dir(dir: &Path) -> Result<(), SealedError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(io(dir))
}
