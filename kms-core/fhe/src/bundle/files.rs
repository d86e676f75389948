//! Files of a bundle.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::FileInfo;
use crate::{BundleError, FormatError};

/// Bytes between the disk and a parser that takes a word at a time.
const BUFFER: usize = 256 << 10;

/// Reads a file of bounded size.
pub(crate) fn read_file(path: &Path, limit: usize) -> Result<Vec<u8>, BundleError> {
    let io = |source| BundleError::Io { path: path.to_owned(), source };
    let file = open(path, limit)?;
    let size = file.metadata().map_err(io)?.len();
    let mut bytes = Vec::with_capacity(size as usize);
    // One more than allowed, so that a file that grows meanwhile is noticed instead of truncated.
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    Ok(bytes)
}

fn open(path: &Path, limit: usize) -> Result<File, BundleError> {
    let io = |source| BundleError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    if size > limit as u64 {
        return Err(io(io::Error::other(format!("{size} bytes are more than the limit of {limit}"))));
    }
    Ok(file)
}

/// Parses a file without keeping its bytes: reads it once for its digest, and a second time for the parser. Should it have
/// changed in between, what was parsed is dropped.
pub(super) fn parse_file<T>(
    path: &Path,
    file: &'static str,
    limit: usize,
    info: &FileInfo,
    parse: impl FnOnce(&mut dyn Read, u64) -> Result<T, FormatError>,
) -> Result<T, BundleError> {
    let io = |source| BundleError::Io { path: path.to_owned(), source };
    let mut source = open(path, limit)?;
    let mut first = Metered::new((&mut source).take(info.bytes.saturating_add(1)));
    io::copy(&mut first, &mut io::sink()).map_err(io)?;
    first.check(file, info)?;
    source.rewind().map_err(io)?;
    let mut second = Metered::new(source.take(info.bytes));
    let mut reader = BufReader::with_capacity(BUFFER, &mut second);
    let parsed = parse(&mut reader, info.bytes);
    // Whatever the parser left.
    io::copy(&mut reader, &mut io::sink()).map_err(io)?;
    if let Some(source) = second.failed.take() {
        return Err(io(source));
    }
    second.check(file, info)?;
    parsed.map_err(|source| BundleError::Format { file, source })
}

/// Writes a file atomically: under a temporary name, synced, renamed.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<FileInfo, BundleError> {
    write_file_with(path, |writer| writer.write_all(bytes).map_err(|e| FormatError::malformed(&e.to_string())))
}

/// [`write_file`] for what is written piece by piece.
pub(super) fn write_file_with(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), FormatError>,
) -> Result<FileInfo, BundleError> {
    let io = |source| BundleError::Io { path: path.to_owned(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    let mut metered = Metered::new(file.as_file_mut());
    let mut writer = BufWriter::with_capacity(BUFFER, &mut metered);
    let written = write(&mut writer).and_then(|()| writer.flush().map_err(|e| FormatError::malformed(&e.to_string())));
    // A buffer that is dropped tries to write its rest: into a file that is given up.
    drop(writer);
    if let Some(source) = metered.failed.take() {
        return Err(io(source));
    }
    let info = metered.info();
    written.map_err(|source| io(io::Error::other(source)))?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(info)
}

/// Counts and hashes what passes, and keeps the error of the disk that a (de)serialiser turns into text.
struct Metered<T> {
    inner: T,
    hash: Sha256,
    bytes: u64,
    failed: Option<io::Error>,
}

impl<T> Metered<T> {
    fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0, failed: None }
    }

    fn info(self) -> FileInfo {
        FileInfo { sha256: self.hash.finalize().into(), bytes: self.bytes }
    }

    fn check(self, file: &'static str, expected: &FileInfo) -> Result<(), BundleError> {
        let found = self.info();
        if found.bytes != expected.bytes {
            return Err(BundleError::File { file, what: "size" });
        }
        if found.sha256 != expected.sha256 {
            return Err(BundleError::File { file, what: "digest" });
        }
        Ok(())
    }

    fn passed(&mut self, result: io::Result<usize>, bytes: &[u8]) -> io::Result<usize> {
        match result {
            Ok(count) => {
                self.hash.update(&bytes[..count]);
                self.bytes += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let copy = io::Error::from(error.kind());
                self.failed = Some(error);
                Err(copy)
            }
        }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buffer);
        self.passed(result, buffer)
    }
}

impl<W: Write> Write for Metered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.inner.write(bytes);
        self.passed(result, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
